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
from jaxdl.tasks.nodes import dense
from jaxdl.tasks.task import Batch, Metrics, Run, Task


class Shapes:
    """The graphs of a set as arrays, from which batches in a few shapes are gathered.

    operator: of all graphs, block by block; batch_size: so many different graphs at most are in one batch
    count, most_nodes: see `data.graph_batches.buckets`

    Graph number G, one more than there are, is an empty one: it has no nodes and takes no room.
    """

    def __init__(self, graph: Graph, operator: Matrix, batch_size: int, count: int = 3, most_nodes: int = 0) -> None:
        self.features = dense(graph)
        self.operator, self.batch_size, self.count, self.most_nodes = operator, batch_size, count, most_nodes
        self.nodes = graph.sizes.astype(np.int32)  # [G]
        ends = np.cumsum(graph.sizes)
        self.first = jnp.asarray(np.concatenate([[0], ends, ends[-1:]]).astype(np.int32))  # [G + 2]
        self.entries = np.diff(np.asarray(operator.start)[np.asarray(self.first[:-1])])  # [G]
        self.empty = len(self.nodes)
        if graph.edges is None or len(graph.edges) != len(operator.value):  # an operator with loops has more
            self.edges = jnp.ones((len(operator.value), 1), jnp.float32)
        else:  # in the operator's order, see `propagation.matrix`
            self.edges = jnp.asarray(graph.edges[np.argsort(graph.receivers, kind="stable")])

    def buckets(self, graphs: int = 0) -> list[Bucket]:
        """The shapes of batches, the smallest first; of `graphs` graphs each, where that is less than a batch."""
        size = min(graphs or self.batch_size, self.batch_size)
        return buckets(self.nodes, self.entries, size, self.count, self.most_nodes)

    def smallest(self, graphs: Array, shapes: Sequence[Bucket]) -> Array:
        """The number of the first of the `shapes` that holds the different graphs [B], int32 []."""
        nodes, entries = (counts.sum() for counts in self._counts(graphs))
        too_small = [(nodes >= shape.nodes) | (entries > shape.entries) for shape in shapes[:-1]]
        return sum((small.astype(jnp.int32) for small in too_small), jnp.int32(0))

    def padded(self, graphs: Array, shape: Bucket) -> GraphBatch:
        """The different graphs [B] in a shape that holds them."""
        found = propagation.blocks(self.operator, self.first, graphs, shape.nodes, shape.entries)
        nodes, entries = self._counts(graphs)
        there = (found.owner < len(graphs)).astype(self.features.dtype)
        return GraphBatch(
            self.features[found.node] * there[:, None],
            found.operator,
            self.edges[found.entry],
            jnp.concatenate([nodes, jnp.int32(shape.nodes) - nodes.sum(keepdims=True, dtype=jnp.int32)]),
            jnp.concatenate([entries, jnp.int32(shape.entries) - entries.sum(keepdims=True, dtype=jnp.int32)]),
        )

    def _counts(self, graphs: Array) -> tuple[Array, Array]:
        """How many nodes and entries each of the graphs [B] has, int32 [B] each; none of the empty graph."""
        begin = self.operator.start[self.first]
        return self.first[graphs + 1] - self.first[graphs], begin[graphs + 1] - begin[graphs]


def classify_graphs(network: nn.Module, graphs: Shapes) -> Task:
    """Minimise the mean of -log softmax(logits)[label] over a batch's graphs; measure `loss` (nats) and `error`.

    network: GraphBatch of B graphs -> logits [B, classes], see `models.whole_graphs`
    A batch: {"member": int32 [B], numbers of graphs, "label": int32 [B]}. Predicts the probabilities of the classes,
    [B, classes], of graphs [B]. Each batch takes the smallest shape that holds it, by `lax.switch`: one program. More
    than `graphs.batch_size` graphs go part by part, so that evaluation has the shapes of training.
    """

    def of_batch(params: Any, member: Array) -> Array:
        # Evaluation fills its last batch up with one graph, over and over, for which no shape has room: what is there
        # already is an empty graph, and gets the logits of the first of its kind.
        first = (member[:, None] == member[None, :]).argmax(axis=1)  # [B]
        once = jnp.where(first == jnp.arange(len(member)), member, jnp.int32(graphs.empty))
        shapes = graphs.buckets(len(member))

        def in_shape(shape: Bucket) -> Any:
            return lambda params: network.apply({"params": params}, graphs.padded(once, shape))

        return jax.lax.switch(graphs.smallest(once, shapes), [in_shape(shape) for shape in shapes], params)[first]

    def logits(params: Any, member: Array) -> Array:
        size = graphs.batch_size
        if len(member) <= size:
            return of_batch(params, member)
        parts = -(-len(member) // size)
        filled = jnp.full(parts * size - len(member), graphs.empty, jnp.int32)
        rows = jnp.concatenate([member.astype(jnp.int32), filled]).reshape(parts, size)  # [B] -> [parts, B / parts]
        found = jax.lax.map(lambda part: of_batch(params, part), rows)  # [parts, B / parts, classes]
        return found.reshape(-1, found.shape[-1])[: len(member)]  # -> [B, classes]

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
