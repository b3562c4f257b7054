"""Padded batches against jraph and networkx, sampled neighbours against plain counting."""

import jraph
import networkx
import numpy as np
import pytest
import scipy.sparse

from jaxdl.data import graph_batches, graphs
from jaxdl.errors import UserError


def many(count=23, seed=0, edge_features=2, sparse=False):
    """Random graphs of 1 to 9 nodes beside each other, their edges in no order: the graph and what networkx holds."""
    draw = np.random.default_rng(seed)
    ones = [networkx.gnp_random_graph(int(draw.integers(1, 10)), 0.4, seed=k, directed=True) for k in range(count)]
    sizes = np.array([len(one) for one in ones])
    start = np.cumsum(sizes) - sizes
    edges = np.array([(start[k] + a, start[k] + b) for k, one in enumerate(ones) for a, b in one.edges])
    edges = edges[draw.permutation(len(edges))]
    features = draw.normal(size=(sizes.sum(), 3)).astype(np.float32)
    graph = graphs.checked(
        "the test",
        scipy.sparse.csr_matrix(features) if sparse else features,
        edges[:, 0],
        edges[:, 1],
        np.arange(count) % 3,
        "abc",
        edges=draw.normal(size=(len(edges), edge_features)) if edge_features else None,
        sizes=sizes,
    )
    return graph, features, start


def alone(graph, features, start, row):
    """One of the graphs, by plain loops."""
    first, last = start[row], start[row] + graph.sizes[row]
    kept = [k for k, sender in enumerate(graph.senders) if first <= sender < last]
    return jraph.GraphsTuple(
        nodes=features[first:last],
        edges=None if graph.edges is None else graph.edges[kept],
        senders=graph.senders[kept] - first,
        receivers=graph.receivers[kept] - first,
        globals=None,
        n_node=np.array([last - first]),
        n_edge=np.array([len(kept)]),
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("edge_features", [0, 2])
def test_a_batch_is_jraphs(sparse, edge_features):
    graph, features, start = many(sparse=sparse, edge_features=edge_features)
    ready = graph_batches.batches(graph, 4)
    for rows in ([3, 0, 22, 7], [5, 5], [11]):
        found = ready.pad(np.array(rows))
        bucket = graph_batches.smallest(ready.buckets, *[int(n) for n in (found.graph.n_node[: len(rows)].sum(), 0, 1)])
        assert bucket.nodes <= len(found.graph.nodes)
        wanted = jraph.pad_with_graphs(
            jraph.batch_np([alone(graph, features, start, row) for row in rows]),
            len(found.graph.nodes),
            len(found.graph.senders),
            len(found.graph.n_node),
        )
        for name, value in found.graph._asdict().items():
            if value is None:
                assert name in ("globals", "edges")
            else:
                np.testing.assert_array_equal(value, getattr(wanted, name), err_msg=name)
        np.testing.assert_array_equal(found.mask, jraph.get_graph_padding_mask(wanted))
        assert found.labels[: len(rows)].tolist() == [row % 3 for row in rows] and not found.mask[-1]
        assert {found.graph.senders.dtype, found.graph.n_node.dtype, found.labels.dtype} == {np.dtype(np.int32)}
        assert found.graph.nodes.dtype == np.float32


def test_shapes_are_few_and_hold_everything():
    graph, _, _ = many(60)
    for count in (1, 2, 3):
        ready = graph_batches.batches(graph, 8, count)
        assert 1 <= len(ready.buckets) <= count
        shapes = set()
        for step in range(40):
            batch = ready.draw(np.arange(60), 1, step)
            shapes.add((batch.graph.nodes.shape, batch.graph.senders.shape, batch.mask.shape))
        assert len(shapes) <= len(ready.buckets)
        for key in (graph.sizes, np.diff(ready.first_edge)):  # the largest 8 in one batch, of nodes and of edges
            assert ready.pad(np.argsort(key)[-8:]).mask.sum() == 8
    assert len(shapes) > 1  # 3 buckets are of use


def test_steps_are_pure_and_an_epoch_holds_every_graph():
    graph, _, _ = many(24)
    ready, rows = graph_batches.batches(graph, 4), np.arange(2, 22)
    drawn = [ready.draw(rows, 5, step) for step in range(10)]
    for first in (0, 5):  # epochs of 20 graphs
        nodes = np.concatenate([one.graph.nodes[: one.graph.n_node[:4].sum()] for one in drawn[first : first + 5]])
        first_node = ready.first_node[2], ready.first_node[22]
        assert sorted(map(tuple, nodes.tolist())) == sorted(map(tuple, graph.features[slice(*first_node)].tolist()))
    again = graph_batches.batches(graph, 4).draw(rows, 5, 7)
    np.testing.assert_array_equal(again.graph.nodes, drawn[7].graph.nodes)
    assert not np.array_equal(drawn[2].graph.nodes, drawn[7].graph.nodes)
    assert not np.array_equal(drawn[0].graph.nodes, ready.draw(rows, 6, 0).graph.nodes)


def test_all_graphs_once():
    graph, _, _ = many(23)
    found = graph_batches.batches(graph, 5).all(np.arange(23))
    assert [int(batch.mask.sum()) for batch in found] == [5, 5, 5, 5, 3]
    assert np.concatenate([batch.labels[batch.mask] for batch in found]).tolist() == graph.labels.tolist()


def refused(call, *says):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in says:
        assert part in str(caught.value), str(caught.value)


def test_more_than_the_largest_bucket():
    graph, _, _ = many()
    ready = graph_batches.batches(graph, 2)
    refused(lambda: ready.pad(np.arange(10)), "10 graphs with", "more than the largest bucket holds; valid: 2 graphs")
    small = ready._replace(buckets=(graph_batches.Bucket(3, 99, 3),))
    largest = int(graph.sizes.argmax())
    refused(lambda: small.pad(np.array([largest])), f"1 graphs with {graph.sizes.max()} nodes", "2 nodes, 99 edges")
    refused(lambda: graph_batches.batches(graph, 24), "batch_size=24", "1 to 23")
    refused(lambda: graph_batches.batches(graph, 0), "batch_size=0")
    refused(lambda: graph_batches.batches(graph, 2, 0), "0 buckets")
    refused(lambda: ready.draw(np.arange(1), 0, 0), "batch_size=2", "1 to 1")


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
    found = graph_batches.sample(graph_batches.neighbours(graph), nodes, (3, 2), 1, 2)
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
    ready, nodes = graph_batches.neighbours(graph), np.arange(10)
    one, again = (graph_batches.sample(ready, nodes, (4, 3), 7, 11) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.graph, again.graph, strict=True) if a is not None)
    for seed, step in ((8, 11), (7, 12), (11, 7)):
        assert not np.array_equal(graph_batches.sample(ready, nodes, (4, 3), seed, step).nodes, one.nodes)


def test_neighbours_are_uniform_and_different_where_there_are_enough():
    graph, _ = around()
    ready = graph_batches.neighbours(graph)
    degree = np.bincount(graph.receivers, minlength=30)
    node = int(degree.argmax())
    edges = np.flatnonzero(graph.receivers == node)
    for fanout in (1, 3, len(edges), len(edges) + 4):
        counts, steps = dict.fromkeys(edges.tolist(), 0), 400
        for step in range(steps):
            found = graph_batches.sample(ready, np.array([node]), (fanout,), 0, step).graph.edges[:fanout, 0]
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
    found = graph_batches.sample(graph_batches.neighbours(graph), ring, (3,), 0, 0).graph
    mean = np.zeros((len(found.nodes), 2))
    np.add.at(mean, found.receivers, found.nodes[found.senders] / 3)
    links = scipy.sparse.coo_matrix((np.full(36, 1 / 3), (np.tile(ring, 3), senders)), (12, 12))
    np.testing.assert_allclose(mean[:12], links @ graph.features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fanouts", [(), (0,), (3, -1)])
def test_fanouts_that_are_none(fanouts):
    graph, _ = around()
    refused(lambda: graph_batches.sample(graph_batches.neighbours(graph), np.arange(3), fanouts, 0, 0), "fanouts=[")
