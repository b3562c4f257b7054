"""Networks on graphs: against dense algebra and plain loops, and that nodes have no order."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from jaxdl.errors import UserError
from jaxdl.models import graph as graphs
from jaxdl.models import propagation

pytestmark = pytest.mark.usefixtures("quick_compilation")

NODES, CHANNELS, CLASSES = 9, 6, 3
# Node 8 is isolated, 0 has a self-loop, 2 -> 3 is twice, 4 -> 5 in one direction only.
EDGES = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (2, 3), (3, 2), (4, 5), (5, 6), (6, 5), (7, 1), (1, 7), (6, 2)]
NETWORKS = {
    "MLP": graphs.NodeMLP((4,), CLASSES),
    "GCN": graphs.GCN((4, 4), CLASSES, residual=True, normalised=True),
    "Chebyshev 1": graphs.Chebyshev((4,), CLASSES, degree=1),
    "Chebyshev 3": graphs.Chebyshev((4,), CLASSES, degree=3),
    "GAT": graphs.GAT((4,), CLASSES, heads=(3, 2)),
    "GraphSAGE mean": graphs.GraphSAGE((4,), CLASSES),
    "GraphSAGE max": graphs.GraphSAGE((4,), CLASSES, aggregator="max"),
    "GraphSAGE lstm": graphs.GraphSAGE((4,), CLASSES, aggregator="lstm"),
    "GIN": graphs.GIN((4,), CLASSES),
    "spectral": graphs.SpectralNetwork((4,), CLASSES, splines=5),
}


def draw(number=0):
    return np.random.default_rng(number)


def example(edges=EDGES, features=None):
    """A jraph.GraphsTuple with sparse-looking features."""
    senders, receivers = np.array(edges, np.int32).reshape(-1, 2).T
    if features is None:
        features = draw().normal(size=(NODES, CHANNELS)) * (draw(1).random((NODES, CHANNELS)) < 0.4)
    features = np.asarray(features, np.float32)
    sizes = np.array([len(features)]), np.array([len(senders)])
    return jraph.GraphsTuple(features, None, receivers, senders, None, *sizes)


def sparse(features):
    row, column = np.nonzero(features)
    return propagation.matrix(row, column, features[row, column], *features.shape)


def dense(matrix):
    found = np.zeros((matrix.rows, matrix.columns))
    np.add.at(found, (matrix.row, matrix.column), matrix.value)
    return found


def started(network, graph):
    """Random variables, biases included, and the operator."""
    operator = network.operator(graph)
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph.nodes, operator)
    random = draw(2)
    params = {
        "params": jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(np.float32), shapes["params"])
    }
    return params, operator


def noise(input=0.0, hidden=0.0, attention=0.0, key=3):
    position = jnp.arange(NODES, dtype=jnp.uint32)
    return graphs.GraphNoise(jax.random.key(key), position, *(jnp.float32(rate) for rate in (input, hidden, attention)))


def adjacency(edges=EDGES):
    found = np.zeros((NODES, NODES))
    for sender, receiver in edges:
        found[receiver, sender] += 1
    return found


def test_operators_are_those_of_dense_algebra():
    graph, plain = example(), adjacency()
    np.testing.assert_array_equal(dense(propagation.adjacency(graph)), plain)
    degree = plain.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense(propagation.averaging(graph)), plain / np.maximum(degree, 1), atol=1e-6)
    without = plain * (1 - np.eye(NODES))
    loops = without + np.eye(NODES)
    np.testing.assert_array_equal(dense(propagation.with_loops(graph)), loops)
    scale = np.diag(loops.sum(axis=1) ** -0.5)
    np.testing.assert_allclose(dense(propagation.renormalised(graph)), scale @ loops @ scale, atol=1e-6)
    symmetric = np.minimum(np.maximum(without, without.T), 1)
    edges = [(sender, receiver) for receiver, sender in zip(*np.nonzero(symmetric), strict=True)]
    degree = symmetric.sum(axis=1)
    scale = np.diag(np.where(degree > 0, np.maximum(degree, 1) ** -0.5, 0))
    rescaled = -scale @ symmetric @ scale
    np.testing.assert_allclose(dense(propagation.rescaled_laplacian(example(edges))), rescaled, atol=1e-6)
    values, vectors = propagation.spectrum(example(edges))
    np.testing.assert_allclose(np.asarray(vectors * values[None]) @ vectors.T, np.eye(NODES) + rescaled, atol=1e-5)


@pytest.mark.parametrize("function", ["multiply", "totals", "at_rows", "at_columns", "largest", "softmax"])
def test_products_and_their_gradients_are_those_of_dense_algebra(function):
    """A matrix with an empty row and column, equal entries, and messages that are equally large."""
    row, column = np.array([2, 0, 2, 2, 4, 0, 2]), np.array([1, 3, 0, 1, 1, 3, 2])
    value = draw().normal(size=7).astype(np.float32)
    matrix = propagation.matrix(row, column, value, 5, 6)
    order = np.argsort(row, kind="stable")
    rows, columns = np.eye(5, dtype=np.float32)[row[order]], np.eye(6, dtype=np.float32)[column[order]]  # one-hot

    def by_rows(messages, reduce):  # [E, K] -> [R, K]
        masked = jnp.where(rows.T[:, :, None] > 0, messages[None], -jnp.inf)
        return reduce(masked)

    dense_forms = {
        "multiply": lambda entries, x: rows.T @ (entries[:, None] * (columns @ x)),
        "totals": lambda entries, x: rows.T @ x,
        "at_rows": lambda entries, x: rows @ x,
        "at_columns": lambda entries, x: columns @ x,
        "largest": lambda entries, x: by_rows(
            x, lambda masked: jnp.where(jnp.isfinite(masked.max(axis=1)), masked.max(axis=1), 0)
        ),
        "softmax": lambda entries, x: jnp.exp(x) / (rows @ (rows.T @ jnp.exp(x))),
    }
    length = {"multiply": 6, "at_rows": 5, "at_columns": 6}.get(function, 7)
    x = draw(1).integers(-2, 3, size=(length, 3)).astype(np.float32) / 2
    weight = draw(2).normal(size=dense_forms[function](matrix.value, x).shape).astype(np.float32)

    def ours(entries, x):
        return (weight * getattr(propagation, function)(matrix._replace(value=entries), x)).sum()

    def theirs(entries, x):
        return (weight * dense_forms[function](entries, x)).sum()

    found = jax.jit(jax.value_and_grad(ours, (0, 1)))(matrix.value, x)
    wanted = jax.value_and_grad(theirs, (0, 1))(matrix.value, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)


@pytest.mark.parametrize("batched", [(None, 0), (0, None), (0, 0)])
def test_many_runs_on_one_graph_are_each_run(batched):
    """vmap over values, over entries and over both, and of the gradient."""
    matrix = propagation.adjacency(example())
    entries = draw().normal(size=(3, len(EDGES))).astype(np.float32)
    x = draw(1).normal(size=(3, NODES, 2)).astype(np.float32)

    def loss(entries, x):
        return (propagation.multiply(matrix._replace(value=entries), x) ** 2).sum()

    each = [entries if batched[0] == 0 else entries[0], x if batched[1] == 0 else x[0]]
    both = jax.value_and_grad(loss, (0, 1))
    found = jax.jit(jax.vmap(both, batched))(*each)
    for run in range(3):
        one = [leaf[run] if axis == 0 else leaf for leaf, axis in zip(each, batched, strict=True)]
        jax.tree.map(lambda a, b, run=run: np.testing.assert_allclose(a[run], b, atol=1e-5), found, both(*one))


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_permute_with_the_nodes(name):
    network, graph = NETWORKS[name], example()
    params, operator = started(network, graph)
    order = draw(5).permutation(NODES)  # the node at each new place
    place = np.argsort(order)
    moved = graph._replace(nodes=graph.nodes[order], senders=place[graph.senders], receivers=place[graph.receivers])
    found = network.apply(params, graph.nodes, operator)
    assert found.shape == (NODES, CLASSES)
    assert np.abs(np.asarray(found)).max() > 0.1
    np.testing.assert_allclose(network.apply(params, moved.nodes, network.operator(moved)), found[order], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_dense_and_sparse_features_agree_and_no_dropout_changes_no_bit(name):
    network, graph = NETWORKS[name], example()
    params, operator = started(network, graph)

    def loss(params, features):
        return (network.apply(params, features, operator) ** 2).sum()

    def all_of_it(params, dense, sparse, noise):
        graded = [jax.value_and_grad(loss)(params, features) for features in (dense, sparse)]
        plain = [network.apply(params, features, operator) for features in (dense, sparse)]
        return graded, plain, [network.apply(params, features, operator, noise) for features in (dense, sparse)]

    graded, plain, with_noise = jax.jit(all_of_it)(params, graph.nodes, sparse(graph.nodes), noise())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *graded)
    jax.tree.map(np.testing.assert_array_equal, with_noise, plain)


def test_dropout_keeps_expectations_and_draws_for_every_place():
    """Inputs, hidden units and attention of a GAT, each alone: the mean over many draws is near that without."""
    features = np.ones((NODES, CHANNELS), np.float32)
    for given in (features, sparse(features)):
        kept = jax.vmap(lambda key, given=given: graphs.GraphNoise(
            key, jnp.arange(NODES, dtype=jnp.uint32), jnp.float32(0.25), jnp.float32(0), jnp.float32(0)
        ).on_input(given))(jax.random.split(jax.random.key(0), 400))  # fmt: skip
        values = np.asarray(kept.value if isinstance(kept, propagation.Matrix) else kept.reshape(400, -1))
        np.testing.assert_allclose(np.unique(values), [0, 4 / 3], rtol=1e-6)
        np.testing.assert_allclose(values.mean(axis=0), 1, atol=0.15)
        assert (np.abs(np.corrcoef(values.T) - np.eye(values.shape[1])) < 0.25).all()
    graph = example()
    params, operator = started(NETWORKS["GAT"], graph)
    without = NETWORKS["GAT"].apply(params, graph.nodes, operator)
    for which in ("input", "hidden", "attention"):
        assert (
            np.abs(NETWORKS["GAT"].apply(params, graph.nodes, operator, noise(**{which: 0.5})) - without).max() > 0.01
        )


def test_attention_is_kept_and_sums_to_one():
    network, graph = NETWORKS["GAT"], example()
    params, operator = started(network, graph)
    _, kept = network.apply(params, graph.nodes, operator, mutable=["intermediates"])
    weights = np.asarray(kept["intermediates"]["hidden_0_attention"][0])
    sums = np.zeros((NODES, 3))
    np.add.at(sums, np.asarray(operator.row), weights)
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    assert (weights[np.asarray(operator.value) == 0] == 0).all()


def test_the_lstm_reads_neighbours_in_the_order_of_edges():
    """Against a loop over nodes and edges."""
    network, graph = NETWORKS["GraphSAGE lstm"], example()
    params, operator = started(network, graph)
    own = params["params"]

    def sigma(x):
        return 1 / (1 + np.exp(-x))

    values = graph.nodes
    for name, width in (("hidden_0", 4), ("output", CLASSES)):
        last = np.zeros((NODES, width))
        for node in range(NODES):
            cell, hidden = np.zeros(width), np.zeros(width)
            for sender, receiver in EDGES:
                if receiver == node:
                    lstm = own[f"{name}_lstm"]
                    gates = values[sender] @ lstm["kernel"] + lstm["bias"] + hidden @ own[f"{name}_lstm_state"]
                    i, f, g, o = np.split(gates, 4)
                    cell = sigma(f) * cell + sigma(i) * np.tanh(g)
                    hidden = sigma(o) * np.tanh(cell)
            last[node] = hidden
        values = values @ own[name]["kernel"] + own[name]["bias"] + last @ own[f"{name}_neighbours"]["kernel"]
        values = np.maximum(values, 0) if name == "hidden_0" else values
    np.testing.assert_allclose(network.apply(params, graph.nodes, operator), values, atol=1e-5)


def test_splines_are_smooth_and_sum_to_one():
    eigenvalues = jnp.linspace(0, 2, 201)
    found = np.asarray(graphs.SpectralNetwork((), 1, splines=6).multipliers(eigenvalues))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found >= 0).all()
    assert (found.max(axis=0) > 0.1).all()
    assert np.abs(np.diff(found, 2, axis=0)).max() < 1e-3  # the second derivative has no jump


def test_label_propagation_is_a_loop_over_nodes():
    label, known = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2]), np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], bool)
    found = graphs.propagate_labels(
        propagation.averaging(example()), jnp.asarray(label), jnp.asarray(known), CLASSES, 7
    )
    wanted = np.full((NODES, CLASSES), 1 / CLASSES)
    wanted[known] = np.eye(CLASSES)[label[known]]
    for _ in range(7):
        before = wanted.copy()
        for node in range(NODES):
            into = [sender for sender, receiver in EDGES if receiver == node]
            if into and not known[node]:
                wanted[node] = before[into].mean(axis=0)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(found[8], 1 / CLASSES, atol=1e-6)  # isolated


def test_heads_of_graphs_pool_each_graph_alone():
    nodes_of = jnp.array([2, 0, 3, 4], jnp.int32)
    layers = [draw(number).normal(size=(NODES, 5)).astype(np.float32) for number in range(2)]
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}
    for pooling, function in reduce.items():
        head = graphs.OfGraphs(CLASSES, pooling)
        params = head.init(jax.random.key(0), layers, nodes_of)
        found = head.apply(params, layers, nodes_of)
        for number, (first, last) in enumerate([(0, 2), (2, 2), (2, 5), (5, 9)]):
            wanted = np.zeros(CLASSES)
            for layer, values in enumerate(layers):
                pooled = function(values[first:last], axis=0) if last > first else np.zeros(5)
                own = params["params"][f"output_{layer}"]
                wanted += pooled @ own["kernel"] + own["bias"]
            np.testing.assert_allclose(found[number], wanted, atol=1e-5)
    with pytest.raises(UserError, match="unknown pooling 'maxi'; did you mean 'max'"):
        graphs.OfGraphs(CLASSES, "maxi").init(jax.random.key(0), layers, nodes_of)


def test_graph_network_permutes_and_padding_changes_nothing():
    random = draw()
    graph = example()._replace(
        edges=random.normal(size=(len(EDGES), 2)).astype(np.float32),
        globals=random.normal(size=(1, 3)).astype(np.float32),
    )
    network = graphs.GraphNetwork(4)
    params = network.init(jax.random.key(0), graph)
    found = network.apply(params, graph)
    assert [leaf.shape for leaf in (found.nodes, found.edges, found.globals)] == [(NODES, 4), (len(EDGES), 4), (1, 4)]
    order, swap = random.permutation(NODES), random.permutation(len(EDGES))
    place = np.argsort(order)
    moved = graph._replace(
        nodes=graph.nodes[order],
        edges=graph.edges[swap],
        senders=place[graph.senders][swap],
        receivers=place[graph.receivers][swap],
    )
    again = network.apply(params, moved)
    np.testing.assert_allclose(again.nodes, found.nodes[order], atol=1e-5)
    np.testing.assert_allclose(again.edges, found.edges[swap], atol=1e-5)
    np.testing.assert_allclose(again.globals, found.globals, atol=1e-5)
    padded = network.apply(params, jraph.pad_with_graphs(graph, NODES + 3, len(EDGES) + 2, 3))
    np.testing.assert_allclose(padded.nodes[:NODES], found.nodes, atol=1e-5)
    np.testing.assert_allclose(padded.globals[:1], found.globals, atol=1e-5)


def test_means_do_not_grow_with_the_graph():
    """A graph beside itself, as one graph: its means are the same ones, its sums are twice as large."""
    random, graph = np.random.default_rng(0), example()
    graph = graph._replace(
        edges=random.normal(size=(len(EDGES), 2)).astype(np.float32), globals=np.ones((1, 1), np.float32)
    )
    twice = jraph.batch([graph, graph])._replace(
        globals=graph.globals, n_node=np.array([2 * NODES]), n_edge=np.array([2 * len(EDGES)])
    )
    for of_graph, same in (("mean", True), ("sum", False)):
        network = graphs.GraphNetwork(4, of_graph=of_graph)
        params = network.init(jax.random.key(0), graph)
        one, two = (network.apply(params, each).globals for each in (graph, twice))
        assert np.allclose(one, two, atol=1e-5) == same
    with pytest.raises(UserError, match="unknown of_graph 'men'; did you mean 'mean'"):
        graphs.GraphNetwork(4, of_graph="men").init(jax.random.key(0), graph)


def test_padding_changes_nothing_inside_jit():
    """The operator of a padded graph, computed in the program: the structure is an argument."""
    graph = example()
    padded = jraph.pad_with_graphs(graph, NODES + 3, len(EDGES) + 4, 3)
    for name in ("GCN", "GAT", "GIN", "GraphSAGE max"):
        network = graphs.GCN((4,), CLASSES) if name == "GCN" else NETWORKS[name]
        params, operator = started(network, graph)
        found = jax.jit(lambda graph, network=network, params=params: network.apply(
            params, graph.nodes, network.operator(graph)
        ))(padded)  # fmt: skip
        np.testing.assert_allclose(found[:NODES], network.apply(params, graph.nodes, operator), atol=1e-5)


def test_pairs_are_read_at_both_ends():
    nodes = draw().normal(size=(NODES, 4)).astype(np.float32)
    head = graphs.OfEdges(2)
    senders, receivers = jnp.array([0, 3]), jnp.array([1, 3])
    params = head.init(jax.random.key(0), nodes, senders, receivers)
    kernel = params["params"]["output"]["kernel"]
    wanted = np.concatenate([nodes[[0, 3]], nodes[[1, 3]], nodes[[0, 3]] * nodes[[1, 3]]], axis=1) @ kernel
    np.testing.assert_allclose(head.apply(params, nodes, senders, receivers), wanted, atol=1e-5)


def test_unknown_aggregators_are_named():
    with pytest.raises(UserError, match="unknown aggregator 'men'; did you mean 'mean'"):
        graphs.GraphSAGE((4,), CLASSES, aggregator="men").operator(example())


def test_pair_norm_and_residuals():
    values = draw().normal(3, 2, size=(NODES, 5)).astype(np.float32)
    found = np.asarray(graphs.pair_norm(jnp.asarray(values)))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose((found**2).sum(axis=1).mean(), 1, rtol=1e-5)
    graph = example()
    plain, residual = graphs.GCN((4, 4), CLASSES), graphs.GCN((4, 4), CLASSES, residual=True)
    params, operator = started(plain, graph)
    first, second, _ = plain.apply(params, graph.nodes, operator, method="layers")
    np.testing.assert_allclose(
        residual.apply(params, graph.nodes, operator, method="layers")[1], first + second, atol=1e-6
    )
