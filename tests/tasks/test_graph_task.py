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
    "messages": (whole_graphs.Messages(4, 3, steps=1), NODES.GIN((4,), 4)),
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


def shapes(graph, name, batch_size, **options):
    return tasks.Shapes(graph, NETWORKS[name][1].operator(tasks.nodes.structure(graph)), batch_size, **options)


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


@pytest.mark.parametrize("rows", [[3, 0, 11, 7], [5, 12, 5, 12], [2]])
def test_blocks_are_those_of_the_whole(many, rows):
    ready = shapes(many, "gcn", 4)
    sizes, entries = np.append(many.sizes, 0), np.append(ready.entries, 0)  # number 12 is an empty graph
    whole = dense(ready.operator)[0]
    first = np.asarray(ready.first)
    room = int(sizes[rows].sum()) + 3
    found = jax.jit(propagation.blocks, static_argnums=(3, 4))(
        ready.operator, ready.first, jnp.array(rows), room, int(entries[rows].sum()) + 2
    )
    expected, place = np.zeros((room, room)), 0
    for row in rows:
        size = sizes[row]
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
    ready = shapes(many, name, 6, count=2)
    task = tasks.classify_graphs(network, ready)
    params, _ = task.init({}, jax.random.key(0))
    with_edges, without = np.flatnonzero(ready.entries > 0), np.flatnonzero(ready.entries == 0)
    rows = with_edges[[3, 0, 5, 3]]  # by itself a graph without edges has none to pass messages along
    rows = rows if name == "messages" else np.concatenate([without[:1], rows])
    batch = {"member": jnp.asarray(rows), "label": jnp.asarray(many.labels[rows])}

    @jax.jit
    def by_itself(params):
        def loss(params):
            logits = {row: single(network, nodes, params, alone(many, row)) for row in set(rows.tolist())}
            logits = jnp.stack([logits[row] for row in rows.tolist()])
            chosen = jax.nn.log_softmax(logits)[np.arange(len(rows)), many.labels[rows]]
            return -chosen.mean(), logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    @jax.jit
    def together(params, many_more):
        (loss, _), gradient = jax.value_and_grad(lambda p: task.loss(p, {}, batch, {}, None), has_aux=True)(params)
        return loss, gradient, task.evaluate(params, {}, many_more, {}, None)

    (expected, logits), slopes = by_itself(params)
    # Far more than a batch, of one graph over and over: what evaluation fills up its last batch with.
    largest = int(np.argmax(ready.entries[rows]))
    members = np.concatenate([np.arange(len(rows)), np.full(50, largest)])
    loss, gradient, found = together(params, {key: values[members] for key, values in batch.items()})
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    each = -np.asarray(jax.nn.log_softmax(logits))[np.arange(len(rows)), many.labels[rows]]
    np.testing.assert_allclose(found["loss"], each[members], rtol=1e-4)
    wrong = np.asarray(logits).argmax(axis=1) != many.labels[rows]
    np.testing.assert_array_equal(found["error"], wrong[members])


@pytest.mark.parametrize("name", ["counts", "sage-max"])  # logarithms and maxima of what may be empty
def test_one_graph_over_and_over_is_read_once(name, many):
    ready = shapes(many, name, 8, count=1)
    task = tasks.classify_graphs(NETWORKS[name][0], ready)
    params, _ = task.init({}, jax.random.key(0))
    largest = int(np.argmax(ready.entries))
    assert 7 * many.sizes[largest] > ready.buckets()[-1].nodes  # side by side there would be no room for it
    batch = {"member": jnp.array([1] + 7 * [largest]), "label": jnp.zeros(8, jnp.int32)}
    once = {key: values[:2] for key, values in batch.items()}

    @jax.jit
    def measured(params):
        slopes = jax.grad(lambda p: task.loss(p, {}, batch, {}, None)[0])(params)
        return [task.evaluate(params, {}, each, {}, None)["loss"] for each in (batch, once)], slopes

    (repeated, expected), slopes = measured(params)
    np.testing.assert_allclose(repeated, expected[np.array([0] + 7 * [1])], rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_shapes_bound_the_programs_and_what_is_chosen_holds_the_batch(many):
    ready = shapes(many, "gin", 3, count=3)
    assert 1 < len(ready.buckets()) <= 3 and ready.buckets(12) == ready.buckets(3) == ready.buckets()
    traced = []

    @jax.jit
    def called(members):
        traced.append(1)
        found = ready.buckets()
        return ready.smallest(members, found), [ready.padded(members, shape).nodes for shape in found]

    draw, seen = np.random.default_rng(0), set()
    for _ in range(20):
        rows = draw.choice(12, 3, replace=False)
        number, _ = called(jnp.asarray(rows))
        shape = ready.buckets()[int(number)]
        assert many.sizes[rows].sum() < shape.nodes and ready.entries[rows].sum() <= shape.entries
        if number:
            smaller = ready.buckets()[int(number) - 1]
            assert many.sizes[rows].sum() >= smaller.nodes or ready.entries[rows].sum() > smaller.entries
        seen.add(int(number))
    assert len(traced) == 1 and len(seen) > 1


def test_what_padding_holds_is_of_no_importance(many):
    ready = shapes(many, "messages", 12)
    shape = ready.buckets()[-1]
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
