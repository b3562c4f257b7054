"""Sampled neighbours against plain counting."""

import numpy as np
import pytest
import scipy.sparse

from jaxdl.data import graphs, neighbours
from jaxdl.errors import UserError


def refused(call, *says):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in says:
        assert part in str(caught.value), str(caught.value)


def around(sparse=False):
    """A directed graph with duplicate edges, a loop and nodes that hear from nobody."""
    draw = np.random.default_rng(2)
    senders, receivers = draw.integers(0, 30, 120), draw.integers(0, 25, 120)
    senders[:3], receivers[:3] = 4, 4
    features = draw.normal(size=(30, 3)).astype(np.float32)
    graph = graphs.checked(
        "the test",
        scipy.sparse.csr_matrix(features) if sparse else features,
        senders,
        receivers,
        np.arange(30) % 2,
        "ab",
        edges=np.arange(120.0)[:, None],
    )
    return graph, features


@pytest.mark.parametrize("sparse", [False, True])
def test_a_sample_holds_edges_of_the_graph(sparse):
    graph, features = around(sparse)
    nodes = np.array([0, 27, 4, 9, 4])
    found = neighbours.sample(neighbours.neighbours(graph), nodes, (3, 2), 1, 2)
    inner, (real, padded) = found.graph, found.graph.n_edge
    assert inner.nodes.shape == (5 + 15 + 30 + 1, 3) and inner.senders.shape == (45,)
    assert inner.n_node.tolist() == [50, 1] and real + padded == 45 and padded > 0
    assert found.nodes[:5].tolist() == nodes.tolist() and found.labels.tolist() == [0, 1, 0, 1, 0]
    assert (inner.senders[real:] == 50).all() and (inner.receivers[real:] == 50).all() and not inner.nodes[50].any()
    heard = np.zeros(51, int)
    for k in range(real):
        edge = int(inner.edges[k, 0])
        assert graph.senders[edge] == found.nodes[inner.senders[k]]
        assert graph.receivers[edge] == found.nodes[inner.receivers[k]]
        np.testing.assert_array_equal(inner.nodes[inner.senders[k]], features[graph.senders[edge]])
        heard[inner.receivers[k]] += 1
    there = np.concatenate([np.arange(5), inner.senders[:real]])  # the nodes that stand for one of the graph
    degree = np.bincount(graph.receivers, minlength=30)
    for place in there[there < 20]:
        assert heard[place] == ((3 if place < 5 else 2) if degree[found.nodes[place]] else 0)
    assert heard[20:].sum() == 0
    absent = np.setdiff1d(np.arange(51), there)  # those that stand for nobody are zeros, and hear nothing
    assert not inner.nodes[absent].any() and heard[absent].sum() == 0


def test_a_sample_is_pure():
    graph, _ = around()
    ready, nodes = neighbours.neighbours(graph), np.arange(10)
    one, again = (neighbours.sample(ready, nodes, (4, 3), 7, 11) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.graph, again.graph, strict=True) if a is not None)
    for seed, step in ((8, 11), (7, 12), (11, 7)):
        assert not np.array_equal(neighbours.sample(ready, nodes, (4, 3), seed, step).nodes, one.nodes)


def test_neighbours_are_uniform_and_different_where_there_are_enough():
    graph, _ = around()
    ready = neighbours.neighbours(graph)
    degree = np.bincount(graph.receivers, minlength=30)
    node = int(degree.argmax())
    edges = np.flatnonzero(graph.receivers == node)
    for fanout in (1, 3, len(edges), len(edges) + 4):
        counts, steps = dict.fromkeys(edges.tolist(), 0), 400
        for step in range(steps):
            found = neighbours.sample(ready, np.array([node]), (fanout,), 0, step).graph.edges[:fanout, 0]
            assert fanout > len(edges) or len(set(found.tolist())) == fanout
            for edge in found.tolist():
                counts[int(edge)] += 1
        mean = steps * fanout / len(edges)
        assert np.abs(np.array(list(counts.values())) - mean).max() <= 4.5 * np.sqrt(mean) * (fanout != len(edges))


def test_everything_is_heard_with_a_fanout_of_the_degree():
    """The mean over sampled neighbours is then that over all: against a sparse product."""
    draw = np.random.default_rng(0)
    ring = np.arange(12)
    senders = np.concatenate([(ring + shift) % 12 for shift in (1, 3, 5)])
    graph = graphs.checked("ring", draw.normal(size=(12, 2)), senders, np.tile(ring, 3), ring % 2, "ab")
    found = neighbours.sample(neighbours.neighbours(graph), ring, (3,), 0, 0).graph
    mean = np.zeros((len(found.nodes), 2))
    np.add.at(mean, found.receivers, found.nodes[found.senders] / 3)
    links = scipy.sparse.coo_matrix((np.full(36, 1 / 3), (np.tile(ring, 3), senders)), (12, 12))
    np.testing.assert_allclose(mean[:12], links @ graph.features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fanouts", [(), (0,), (3, -1)])
def test_fanouts_that_are_none(fanouts):
    graph, _ = around()
    refused(lambda: neighbours.sample(neighbours.neighbours(graph), np.arange(3), fanouts, 0, 0), "fanouts=[")
