"""Classification of whole graphs, in batches that are padded to one of a few shapes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxdl.data.graph_batches import Bucket, buckets
from jaxdl.data.graphs import Graph
from jaxdl.models import propagation
from jaxdl.models.propagation import Matrix
from jaxdl.models.whole_graphs import GraphBatch
from jaxdl.tasks.classification import per_example
from jaxdl.tasks.nodes import features
from jaxdl.tasks.task import Batch, Metrics, Run, Task


class Shapes:
    """The graphs of a set as arrays, from which batches in a few shapes are gathered.

    operator: of all graphs, block by block. most_nodes: see `data.graph_batches.buckets`
    """

    def __init__(self, graph: Graph, operator: Matrix, count: int = 3, most_nodes: int = 0) -> None:
        found = features(graph)
        self.features = propagation.multiply(found, jnp.eye(found.columns)) if isinstance(found, Matrix) else found
        self.operator, self.count, self.most_nodes = operator, count, most_nodes
        self.first = jnp.asarray(np.concatenate([[0], np.cumsum(graph.sizes)]).astype(np.int32))  # [G + 1]
        self.nodes = graph.sizes.astype(np.int32)
        self.entries = np.diff(np.asarray(operator.start)[np.asarray(self.first)])  # [G]
        if graph.edges is None or len(graph.edges) != len(operator.value):  # an operator with loops has more
            self.edges = jnp.ones((len(operator.value), 1), jnp.float32)
        else:  # in the operator's order, see `propagation.matrix`
            self.edges = jnp.asarray(graph.edges[np.argsort(graph.receivers, kind="stable")])

    def buckets(self, batch_size: int) -> list[Bucket]:
        """The shapes of batches of so many graphs, the smallest first."""
        return buckets(self.nodes, self.entries, batch_size, self.count, self.most_nodes)

    def smallest(self, graphs: Array, shapes: Sequence[Bucket]) -> Array:
        """The number of the first of the `shapes` that holds the graphs [B], int32 []."""
        nodes, entries = jnp.asarray(self.nodes)[graphs].sum(), jnp.asarray(self.entries)[graphs].sum()
        too_small = [(nodes >= shape.nodes) | (entries > shape.entries) for shape in shapes[:-1]]
        return sum((small.astype(jnp.int32) for small in too_small), jnp.int32(0))

    def padded(self, graphs: Array, shape: Bucket) -> GraphBatch:
        """The graphs [B] in a shape that holds them."""
        found = propagation.blocks(self.operator, self.first, graphs, shape.nodes, shape.entries)
        nodes, entries = jnp.asarray(self.nodes)[graphs], jnp.asarray(self.entries)[graphs].astype(jnp.int32)
        there = (found.owner < len(graphs)).astype(self.features.dtype)
        return GraphBatch(
            self.features[found.node] * there[:, None],
            found.operator,
            self.edges[found.entry],
            jnp.concatenate([nodes, jnp.int32(shape.nodes) - nodes.sum(keepdims=True, dtype=jnp.int32)]),
            jnp.concatenate([entries, jnp.int32(shape.entries) - entries.sum(keepdims=True, dtype=jnp.int32)]),
        )


def classify_graphs(network: nn.Module, graphs: Shapes) -> Task:
    """Minimise the mean of -log softmax(logits)[label] over a batch's graphs; measure `loss` (nats) and `error`.

    network: GraphBatch of B graphs -> logits [B, classes], see `models.whole_graphs`
    A batch: {"member": int32 [B], numbers of graphs, "label": int32 [B]}. Predicts the probabilities of the classes,
    [B, classes], of graphs [B]. Each batch takes the smallest shape that holds it, by `lax.switch`: one program.
    """

    def logits(params: Any, member: Array) -> Array:
        shapes = graphs.buckets(len(member))

        def in_shape(shape: Bucket) -> Any:
            return lambda params: network.apply({"params": params}, graphs.padded(member, shape))

        return jax.lax.switch(graphs.smallest(member, shapes), [in_shape(shape) for shape in shapes], params)

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        one = jnp.zeros(1, jnp.int32)
        return network.init(key, graphs.padded(one, graphs.buckets(1)[-1]))["params"], {}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        values = per_example(logits(params, batch["member"]), batch)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        return per_example(logits(params, batch["member"]), batch)

    def predict(params: Any, model_state: Any, member: Array, run: Run) -> Array:
        return jax.nn.softmax(logits(params, member))

    return Task(init, loss, evaluate, predict=predict)
