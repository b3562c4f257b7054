"""Training epochs of networks on a whole graph, for `launch.benchmark`."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxdl import models


class Problem(NamedTuple):
    """Nodes to classify, those of `known` in training.

    features: float32 [N, F]; senders, receivers: int32 [E], each edge in both directions; label: int32 [N];
    known: how many of the nodes, the first ones, have a label in training
    """

    features: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    label: np.ndarray
    known: int


def like_cora() -> Problem:
    """2,708 nodes, 5,278 edges, 1,433 features of which 18 of a node are not 0, 7 classes, 140 labels: Cora's sizes."""
    draw = np.random.default_rng(0)
    features = np.zeros((2708, 1433), np.float32)
    for row in features:
        row[draw.choice(1433, 18, replace=False)] = 1 / 18
    return _problem(draw, features, 5278, 7, 140)


def block_model(nodes: int, edges: int, features: int = 32, classes: int = 10) -> Problem:
    """Blocks of equal size, nine edges of ten within one; features are noise around a block's mean, labels known."""
    draw = np.random.default_rng(0)
    label = np.arange(nodes) % classes
    means = draw.normal(size=(classes, features))
    values = (means[label] + draw.normal(size=(nodes, features))).astype(np.float32)
    return _problem(draw, values, edges, classes, nodes)


def _problem(draw: np.random.Generator, features: np.ndarray, edges: int, classes: int, known: int) -> Problem:
    nodes = len(features)
    first = draw.integers(0, nodes, edges)
    inside = (draw.integers(0, nodes // classes, edges) * classes + first % classes) % nodes
    second = np.where(draw.random(edges) < 0.9, inside, draw.integers(0, nodes, edges))
    second = np.where(second == first, (first + 1) % nodes, second)
    senders, receivers = np.concatenate([first, second]), np.concatenate([second, first])
    label = np.arange(nodes) % classes
    return Problem(features, senders.astype(np.int32), receivers.astype(np.int32), label.astype(np.int32), known)


def epochs(
    network: Any, problem: Problem, sparse: bool, rate: float, attention: float, count: int
) -> tuple[Callable[[], float], int]:
    """A function that trains `count` epochs in one program and returns its seconds an epoch; the number of parameters.

    Adam with a learning rate of 0.01, weight decay 5e-4 on all parameters; dropout of `rate` on inputs and hidden
    units and of `attention` on attention. sparse: whether features are given by their nonzeros.
    """
    import jax
    import jax.numpy as jnp
    import jraph
    import optax

    from jaxdl.models import graph as graphs
    from jaxdl.models import propagation

    nodes, edges = len(problem.features), len(problem.senders)
    graph = jraph.GraphsTuple(
        problem.features, None, problem.receivers, problem.senders, None, np.array([nodes]), np.array([edges])
    )
    operator = network.operator(graph)
    features = jnp.asarray(problem.features)
    if sparse:
        row, column = np.nonzero(problem.features)
        features = propagation.matrix(row, column, problem.features[row, column], *problem.features.shape)
    params = network.init(jax.random.key(0), features, operator)["params"]
    rule = optax.chain(optax.add_decayed_weights(5e-4), optax.adam(0.01))
    # One-hot labels: the gradient of an indexed read is a scatter.
    target = jax.nn.one_hot(problem.label[: problem.known], network.classes, dtype=jnp.float32)

    @jax.jit
    def train(params: Any, state: Any, features: Any, operator: Any) -> tuple[Any, Any]:
        def loss(params: Any, key: Any) -> Any:
            rates = (jnp.float32(rate), jnp.float32(rate), jnp.float32(attention))
            noise = graphs.GraphNoise(key, jnp.arange(nodes, dtype=jnp.uint32), *rates)
            logits = network.apply({"params": params}, features, operator, noise)[: problem.known]
            return -(jax.nn.log_softmax(logits) * target).sum(axis=1).mean()

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


def networks(problem: Problem) -> dict[str, Any]:
    """The networks of both sides: the published ones for Cora."""
    classes = int(problem.label.max()) + 1
    return {"GCN": models.graph.GCN((16,), classes), "GAT": models.graph.GAT((8,), classes, heads=(8, 1))}
