"""Training epochs of networks on a whole graph, for `launch.benchmark`."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from jaxdl import data, models
from jaxdl.data.graphs import Graph


def cora() -> Graph:
    """Cora with its public split, features as GCN's authors normalise them."""
    return data.graphs.row_normalised(data.planetoid.read("cora"))


def block_model() -> Graph:
    """10 blocks of 10,000 nodes, 1,000,000 directed edges or so, nine of ten within a block; all nodes are known."""
    within, between = 450_000 / (10 * 10_000 * 9_999 / 2), 50_000 / (45 * 10_000**2)  # edges over pairs of nodes
    probabilities = np.full((10, 10), between) + (within - between) * np.eye(10)
    graph = data.graphs.block_model([10_000] * 10, probabilities.tolist(), 32, 3.0, seed=0)
    return graph._replace(splits={"train": np.arange(100_000)})


def epochs(network: Any, graph: Graph, rate: float, attention: float, count: int) -> tuple[Callable[[], float], int]:
    """A function that trains `count` epochs in one program and returns its seconds an epoch; the number of parameters.

    Adam with a learning rate of 0.01, weight decay 5e-4 on all parameters; dropout of `rate` on inputs and hidden
    units and of `attention` on attention.
    """
    import jax
    import jax.numpy as jnp
    import jraph
    import optax

    from jaxdl.models import graph as graphs
    from jaxdl.models import propagation

    nodes, edges = graph.features.shape[0], len(graph.senders)
    # Of nodes an operator reads how many there are.
    number, count_of_edges = np.array([nodes]), np.array([edges])
    operator = network.operator(
        jraph.GraphsTuple(np.zeros((nodes, 1)), None, graph.receivers, graph.senders, None, number, count_of_edges)
    )
    features = graph.features
    if scipy.sparse.issparse(features):
        entries = features.tocoo()
        features = propagation.matrix(entries.row, entries.col, entries.data, *features.shape)
    features = jax.tree.map(jnp.asarray, features)
    params = network.init(jax.random.key(0), features, operator)["params"]
    rule = optax.chain(optax.add_decayed_weights(5e-4), optax.adam(0.01))
    known = graph.splits["train"]
    # One-hot labels, 0 where they are not known: the gradient of an indexed read is a scatter.
    target = jnp.zeros((nodes, network.classes)).at[known, graph.labels[known]].set(1)

    @jax.jit
    def train(params: Any, state: Any, features: Any, operator: Any) -> tuple[Any, Any]:
        def loss(params: Any, key: Any) -> Any:
            rates = (jnp.float32(rate), jnp.float32(rate), jnp.float32(attention))
            noise = graphs.GraphNoise(key, jnp.arange(nodes, dtype=jnp.uint32), *rates)
            logits = network.apply({"params": params}, features, operator, noise)
            return -(jax.nn.log_softmax(logits) * target).sum() / len(known)

        def epoch(number: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            params, state = carried
            gradient = jax.grad(loss)(params, jax.random.fold_in(jax.random.key(0), number))
            updates, state = rule.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, count, epoch, (params, state))

    def seconds() -> float:
        started = time.perf_counter()
        jax.block_until_ready(train(params, rule.init(params), features, operator))
        return (time.perf_counter() - started) / count

    return seconds, sum(leaf.size for leaf in jax.tree.leaves(params))


def networks(graph: Graph) -> dict[str, Any]:
    """The networks of both sides: the published ones for Cora."""
    classes = len(graph.names)
    return {"GCN": models.graph.GCN((16,), classes), "GAT": models.graph.GAT((8,), classes, heads=(8, 1))}
