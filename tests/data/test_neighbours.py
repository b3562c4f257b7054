"""Sampled neighbourhoods against plain counting, and against the whole graph where all neighbours are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from jaxdl.data import graphs, neighbours
from jaxdl.models import graph as networks


@pytest.fixture(autouse=True)
def quickly(quick_compilation):
    """Integers alone, and sums within a tolerance."""


def around():
    """A directed graph with duplicate edges, a loop and nodes that hear from nobody."""
    draw = np.random.default_rng(2)
    senders, receivers = draw.integers(0, 30, 120), draw.integers(0, 25, 120)
    senders[:3], receivers[:3] = 4, 4
    features = draw.normal(size=(30, 3)).astype(np.float32)
    return graphs.checked("the test", features, senders, receivers, np.arange(30) % 2, "ab")


def sampled(graph, nodes, fanouts, seed=0, position=None):
    nodes = jnp.asarray(nodes, jnp.int32)
    position = jnp.arange(len(nodes), dtype=jnp.uint32) if position is None else jnp.asarray(position, jnp.uint32)
    return neighbours.sample(neighbours.neighbours(graph), nodes, fanouts, jax.random.key(seed), position)


def test_a_sample_holds_edges_of_the_graph():
    graph, nodes = around(), [0, 27, 4, 9, 4]
    found = sampled(graph, nodes, (3, 2))
    senders, receivers, node = (np.asarray(each) for each in (found.graph.senders, found.graph.receivers, found.node))
    assert len(node) == 5 + 15 + 30 + 1 == found.graph.n_node[0] and len(senders) == 45 == found.graph.n_edge[0]
    assert node[:5].tolist() == nodes
    padded = senders == 50
    assert ((receivers == 50) == padded).all() and 0 < padded.sum() < 45
    edges = set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    degree, heard = np.bincount(graph.receivers, minlength=30), np.zeros(51, int)
    for sender, receiver in zip(senders[~padded], receivers[~padded], strict=True):
        assert (node[sender], node[receiver]) in edges
        heard[receiver] += 1
    there = {*range(5), *senders[~padded].tolist()}  # the nodes that stand for one of the graph
    assert len(there) == 5 + (~padded).sum()
    for place in range(50):
        expected = (3 if place < 5 else 2 if place < 20 else 0) if place in there and degree[node[place]] else 0
        assert heard[place] == expected
    stream = np.asarray(found.stream)
    assert len(set(stream.tolist())) == len(stream)


def test_what_is_drawn_for_a_node_depends_on_key_and_position_alone():
    graph = around()
    whole = sampled(graph, range(10), (4, 3), 7)
    half = sampled(graph, range(5, 10), (4, 3), 7, range(5, 10))
    # Places of the second five nodes, their 4 neighbours each and 3 of each of these in the sample of ten.
    places = np.concatenate([np.arange(5, 10), 10 + np.arange(20, 40), 50 + np.arange(60, 120)])
    np.testing.assert_array_equal(np.asarray(whole.node)[places], np.asarray(half.node)[:-1])
    np.testing.assert_array_equal(np.asarray(whole.stream)[places], np.asarray(half.stream)[:-1])
    assert not np.array_equal(sampled(graph, range(10), (4, 3), 8).node, whole.node)


def test_neighbours_are_uniform_and_different_where_there_are_enough():
    graph, draws = around(), 400
    degree = np.bincount(graph.receivers, minlength=30)
    node = int(degree.argmax())
    first, sender = (np.asarray(each) for each in neighbours.neighbours(graph))
    own = sender[first[node] : first[node + 1]]
    assert sorted(own) == sorted(graph.senders[graph.receivers == node])
    many = dict(zip(*np.unique(own, return_counts=True), strict=True))
    for fanout in (1, 3, degree[node], degree[node] + 4):
        found = np.asarray(sampled(graph, [node] * draws, (int(fanout),)).node)[draws:-1].reshape(draws, fanout)
        mean = draws * fanout / degree[node]
        for name, times in many.items():  # duplicate edges are different neighbours
            count = (found == name).sum()
            assert abs(count - times * mean) <= 4.5 * np.sqrt(times * mean) * (fanout != degree[node])
            assert fanout > degree[node] or ((found == name).sum(axis=1) <= times).all()


def test_a_network_reads_the_whole_graph_where_every_neighbour_is_drawn():
    """Of a ring, whose nodes all have three neighbours: GraphSAGE on samples against GraphSAGE on all of it."""
    draw, ring = np.random.default_rng(0), np.arange(12)
    senders = np.concatenate([(ring + shift) % 12 for shift in (1, 3, 5)])
    graph = graphs.checked("ring", draw.normal(size=(12, 2)), senders, np.tile(ring, 3), ring % 2, "ab")
    net, features = networks.GraphSAGE((5,), 2, aggregator="mean"), jnp.asarray(graph.features, jnp.float32)
    links = scipy.sparse.coo_matrix((np.full(36, 1 / 3), (np.tile(ring, 3), senders)), (12, 12))
    found = sampled(graph, ring, (3, 3))
    operator, rows = net.operator(found.graph), features[found.node]
    params = jax.tree.map(np.asarray, net.init(jax.random.key(0), rows, operator)["params"])
    logits = net.apply({"params": params}, rows, operator)[:12]

    def layer(values, name):
        own, heard = params[name], params[f"{name}_neighbours"]
        return values @ own["kernel"] + own["bias"] + (links @ values) @ heard["kernel"]

    expected = layer(np.maximum(layer(np.asarray(features), "hidden_0"), 0), "output")
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
