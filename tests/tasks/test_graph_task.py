"""Whole graphs in padded batches, against the same graphs one by one, and against jraph."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from jaxdl import models, tasks
from jaxdl.data import graphs
from jaxdl.models import propagation, whole_graphs

pytestmark = pytest.mark.usefixtures("quick_compilation")

NODES = models.graph
NETWORKS = {
    "gin": (whole_graphs.Pooled(NODES.GIN((4,), 4), 3), NODES.GIN((4,), 4)),
    "gcn": (whole_graphs.Pooled(NODES.GCN((4,), 4), 3, "mean"), NODES.GCN((4,), 4)),
    "sage-max": (whole_graphs.Pooled(NODES.GraphSAGE((4,), 4, aggregator="max"), 3, "max"),
                 NODES.GraphSAGE((4,), 4, aggregator="max")),
    "messages": (whole_graphs.Messages(4, 3), NODES.GIN((4,), 4)),
    "counts": (whole_graphs.Counts(4, 3), NODES.GIN((4,), 4)),
}  # fmt: skip


@pytest.fixture(scope="module")
def many():
    """Twelve directed graphs of 1 to 9 nodes, some without edges, their edges in no order, with features of edges."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 10, 12)
    start = np.cumsum(sizes) - sizes
    pairs = [
        (first + a, first + b)
        for first, size in zip(start, sizes, strict=True)
        for a in range(size)
        for b in range(size)
        if a != b and draw.random() < 0.3
    ]
    ends = np.array(pairs)[draw.permutation(len(pairs))]
    features = draw.normal(size=(sizes.sum(), 3)).astype(np.float32)
    edges = draw.normal(size=(len(ends), 2)).astype(np.float32)
    return graphs.checked(
        "the test", features, ends[:, 0], ends[:, 1], np.arange(12) % 3, "abc", edges=edges, sizes=sizes
    )


def shapes(graph, name, **options):
    return tasks.Shapes(graph, NETWORKS[name][1].operator(tasks.nodes.structure(graph)), **options)


def dense(matrix):
    """A matrix from its rows, and one from its columns: the two must be the same."""
    row, column, value = (np.asarray(each) for each in (matrix.row, matrix.column, matrix.value))
    by_row, by_column = (np.zeros((matrix.rows, matrix.columns)) for _ in range(2))
    np.add.at(by_row, (row, column), value)
    for place, entry in enumerate(np.asarray(matrix.order)):
        at = np.searchsorted(np.asarray(matrix.transposed_start), place, side="right") - 1
        by_column[int(matrix.transposed_column[place]), at] += value[entry]
    for number in range(matrix.rows):
        assert (row[int(matrix.start[number]) : int(matrix.start[number + 1])] == number).all()
    return by_row, by_column


@pytest.mark.parametrize("rows", [[3, 0, 11, 7], [5, 5], [2]])
def test_blocks_are_those_of_the_whole(many, rows):
    ready = shapes(many, "gcn")
    whole = dense(ready.operator)[0]
    first = np.asarray(ready.first)
    room = int(many.sizes[rows].sum()) + 3
    found = jax.jit(propagation.blocks, static_argnums=(3, 4))(
        ready.operator, ready.first, jnp.array(rows), room, int(ready.entries[rows].sum()) + 2
    )
    expected, place = np.zeros((room, room)), 0
    for row in rows:
        size = many.sizes[row]
        inside = slice(first[row], first[row + 1])
        expected[place : place + size, place : place + size] = whole[inside, inside]
        np.testing.assert_array_equal(found.node[place : place + size], np.arange(first[row], first[row + 1]))
        place += size
    for seen in dense(found.operator):
        np.testing.assert_allclose(seen, expected, atol=1e-7)
    assert (np.asarray(found.owner[place:]) == len(rows)).all()


def alone(graph, row):
    """One of the graphs as a set of its own, with another one that makes two classes."""
    first = np.cumsum(graph.sizes)[row] - graph.sizes[row]
    kept = (graph.senders >= first) & (graph.senders < first + graph.sizes[row])
    return jraph.GraphsTuple(
        graph.features[first : first + graph.sizes[row]], graph.edges[kept], graph.receivers[kept] - first,
        graph.senders[kept] - first, None, graph.sizes[row : row + 1], np.array([kept.sum()]),
    )  # fmt: skip


def single(network, nodes, params, graph):
    """Logits of one graph without any padding but the empty graph that a batch ends with."""
    operator = nodes.operator(graph)
    sort = np.argsort(graph.receivers, kind="stable")
    counts = np.array([len(graph.nodes), 0]), np.array([len(operator.value), 0])
    edges = graph.edges[sort] if len(sort) == len(operator.value) else np.ones((len(operator.value), 1), np.float32)
    batch = whole_graphs.GraphBatch(jnp.asarray(graph.nodes), operator, jnp.asarray(edges), *map(jnp.int32, counts))
    return network.apply({"params": params}, batch)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_padded_batch_gives_what_each_graph_gives_by_itself(name, many):
    network, nodes = NETWORKS[name]
    ready = shapes(many, name)
    task = tasks.classify_graphs(network, ready)
    params, _ = task.init({}, jax.random.key(0))
    with_edges, without = np.flatnonzero(ready.entries > 0), np.flatnonzero(ready.entries == 0)
    rows = with_edges[[3, 0, 5, 2, 3]]  # by itself a graph without edges has none to pass messages along
    rows = rows if name == "messages" else np.concatenate([without[:1], rows])
    batch = {"member": jnp.asarray(rows), "label": jnp.asarray(many.labels[rows])}

    def by_itself(params):
        logits = jnp.stack([single(network, nodes, params, alone(many, row)) for row in rows])
        chosen = jax.nn.log_softmax(logits)[np.arange(len(rows)), many.labels[rows]]
        return -chosen.mean(), logits

    (expected, logits), slopes = jax.value_and_grad(by_itself, has_aux=True)(params)
    (loss, _), gradient = jax.value_and_grad(lambda p: task.loss(p, {}, batch, {}, None), has_aux=True)(params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    probability = jax.nn.softmax(logits)
    np.testing.assert_allclose(task.predict(params, {}, jnp.asarray(rows), {}), probability, rtol=1e-4)
    found = task.evaluate(params, {}, batch, {}, None)
    np.testing.assert_array_equal(found["error"], np.asarray(logits).argmax(axis=1) != many.labels[rows])


def test_shapes_bound_the_programs_and_what_is_chosen_holds_the_batch(many):
    ready = shapes(many, "gin", count=3)
    assert 1 < len(ready.buckets(3)) <= 3
    traced = []

    @jax.jit
    def called(members):
        traced.append(1)
        found = ready.buckets(3)
        return ready.smallest(members, found), [ready.padded(members, shape).nodes for shape in found]

    draw, seen = np.random.default_rng(0), set()
    for _ in range(20):
        rows = draw.integers(0, 12, 3)
        number, _ = called(jnp.asarray(rows))
        shape = ready.buckets(3)[int(number)]
        assert many.sizes[rows].sum() < shape.nodes and ready.entries[rows].sum() <= shape.entries
        if number:
            smaller = ready.buckets(3)[int(number) - 1]
            assert many.sizes[rows].sum() >= smaller.nodes or ready.entries[rows].sum() > smaller.entries
        seen.add(int(number))
    assert len(traced) == 1 and len(seen) > 1


def test_what_padding_holds_is_of_no_importance(many):
    ready = shapes(many, "messages")
    shape = ready.buckets(12)[-1]
    batch = ready.padded(jnp.array([4, 1]), shape)
    assert (np.asarray(batch.features)[int(batch.nodes[:-1].sum()) :] == 0).all()
    network = NETWORKS["messages"][0]
    params = network.init(jax.random.key(1), batch)["params"]
    plain = network.apply({"params": params}, batch)
    filled = batch._replace(
        features=batch.features.at[int(batch.nodes[:-1].sum()) :].set(7.0),
        edges=batch.edges.at[int(batch.entries[:-1].sum()) :].set(-3.0),
    )
    np.testing.assert_allclose(network.apply({"params": params}, filled), plain, rtol=1e-6)
