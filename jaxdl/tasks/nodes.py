"""Classification of the nodes of one graph, which is read at every step: all of it, or sampled neighbourhoods."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import scipy.sparse
from jax import Array

from jaxdl.data import neighbours
from jaxdl.data.graphs import Graph
from jaxdl.models import propagation
from jaxdl.models.graph import Features, GraphNoise, NodeNetwork, propagate_labels
from jaxdl.models.propagation import Matrix
from jaxdl.tasks.classification import per_example
from jaxdl.tasks.strengths import NODE_RATES
from jaxdl.tasks.task import Batch, Metrics, Run, Task

PREDICTED = 1000  # nodes at once whose neighbourhoods are sampled


def structure(graph: Graph) -> jraph.GraphsTuple:
    """What operators read of a graph: its edges, and how many nodes there are (features [N, 0])."""
    nodes, edges = len(graph.ids), len(graph.senders)
    return jraph.GraphsTuple(
        np.zeros((nodes, 0), np.float32), None, graph.receivers, graph.senders, None, np.array([nodes]),
        np.array([edges]),
    )  # fmt: skip


def features(graph: Graph) -> Features:
    """A graph's features as networks read them: float32 [N, F], a `Matrix` where they are sparse."""
    if not scipy.sparse.issparse(graph.features):
        return jnp.asarray(graph.features)
    entries = graph.features.tocoo()
    return propagation.matrix(entries.row, entries.col, entries.data, *graph.features.shape)


def dense(graph: Graph) -> Array:
    """A graph's features as rows that can be picked, float32 [N, F]."""
    found = graph.features
    return jnp.asarray(found.toarray() if scipy.sparse.issparse(found) else found)


def classify_nodes(network: NodeNetwork, features: Features, operator: Any) -> Task:
    """Minimise the mean of -log softmax(logits)[label] over a batch's nodes; measure `loss` (nats) and `error`.

    features: of all nodes, [N, F], dense or sparse; operator: `network.operator(graph)`
    A batch: {"member": int32 [B], places in the graph, "label": int32 [B]}. Predicts the probabilities of the classes,
    [B, classes], of node numbers [B]. Rates of dropout are `run["hyper"]`'s "input_dropout", "hidden_dropout" and
    "attention_dropout"; the noise of a node depends on its number in the graph, not on its place in a batch.
    """
    position = jnp.arange(features.rows if isinstance(features, Matrix) else len(features), dtype=jnp.uint32)

    def logits(params: Any, node: Array, noise: GraphNoise | None) -> Array:
        return network.apply({"params": params}, features, operator, noise)[node]

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        return network.init(key, features, operator)["params"], {}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        noise = GraphNoise(key, position, *(run["hyper"][name] for name in NODE_RATES))
        values = per_example(logits(params, batch["member"], noise), batch)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        return per_example(logits(params, batch["member"], None), batch)

    def predict(params: Any, model_state: Any, node: Array, run: Run) -> Array:
        return jax.nn.softmax(logits(params, node, None))

    return Task(init, loss, evaluate, predict=predict)


def classify_sampled(
    network: NodeNetwork, features: Array, around: neighbours.Neighbours, fanouts: Sequence[int]
) -> Task:
    """As `classify_nodes`, but a step reads sampled neighbourhoods of its batch: the graph may be large.

    features: float32 [N, F]; fanouts: neighbours of each node in each layer, see `neighbours.sample`
    Evaluation and predictions read samples as well, drawn by the batch's key or the run's seed.
    Hamilton et al. 2017, arXiv 1706.02216, algorithm 2.
    """

    def logits(params: Any, node: Array, key: Array, position: Array, run: Run | None) -> Array:
        """run: the rates of dropout in training, else None."""
        to_sample, to_drop = jax.random.split(key)
        found = neighbours.sample(around, node, fanouts, to_sample, position)
        operator, noise = network.operator(found.graph), None
        if run is not None:
            noise = GraphNoise(to_drop, found.stream, *(run["hyper"][name] for name in NODE_RATES))
        return network.apply({"params": params}, features[found.node], operator, noise)[: len(node)]

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        found = neighbours.sample(around, jnp.zeros(1, jnp.int32), fanouts, key, jnp.zeros(1, jnp.uint32))
        return network.init(key, features[found.node], network.operator(found.graph))["params"], {}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        values = per_example(logits(params, batch["member"], key, batch["position"], run), batch)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        return per_example(logits(params, batch["member"], key, batch["position"], None), batch)

    def predict(params: Any, model_state: Any, node: Array, run: Run) -> Array:
        parts = -(-len(node) // PREDICTED)
        rows = jnp.pad(node, (0, parts * PREDICTED - len(node))).reshape(parts, PREDICTED)  # [B] -> [parts, PREDICTED]
        position = jnp.arange(rows.size, dtype=jnp.uint32).reshape(rows.shape)
        key = jax.random.key(run["seed"])
        found = jax.lax.map(lambda part: logits(params, part[0], key, part[1], None), (rows, position))
        return jax.nn.softmax(found.reshape(-1, found.shape[-1])[: len(node)])  # -> [B, classes]

    return Task(init, loss, evaluate, predict=predict)


def label_propagation(graph: Graph, train: Callable[[Run], Batch], steps: int) -> Task:
    """Nothing is learned: the labels of training nodes spread along edges, see `models.graph.propagate_labels`.

    train: run -> {"member": int32 [n], "label": int32 [n]}, the run's training nodes
    Measures `loss` (nats) and `error` like `classify_nodes`; a probability below 1e-7 counts as 1e-7 in the loss.
    """
    operator, classes = propagation.averaging(structure(graph)), len(graph.names)

    def probabilities(run: Run) -> Array:
        known = train(run)
        label = jnp.zeros(operator.rows, jnp.int32).at[known["member"]].set(known["label"])
        there = jnp.zeros(operator.rows, bool).at[known["member"]].set(True)
        return propagate_labels(operator, label, there, classes, steps)

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        return per_example(jnp.log(jnp.maximum(probabilities(run)[batch["member"]], jnp.float32(1e-7))), batch)

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        values = evaluate(params, model_state, batch, run, key)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def predict(params: Any, model_state: Any, node: Array, run: Run) -> Array:
        return probabilities(run)[node]

    return Task(lambda run, key: ({}, {}), loss, evaluate, predict=predict)
