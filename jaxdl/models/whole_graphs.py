"""Networks that classify whole graphs: layers over nodes and a head that pools them, message passing, counts alone.

Each is called with a `GraphBatch` of B graphs and gives their logits, [B, classes]; padding, and graphs without nodes
among the B, change none of the others'.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jraph
from flax import linen as nn
from jax import Array

from jaxdl.models.graph import GraphNetwork, NodeNetwork, OfGraphs
from jaxdl.models.mlp import MLP
from jaxdl.models.propagation import Matrix
from jaxdl.models.units import unit


class GraphBatch(NamedTuple):
    """B graphs beside each other and one of padding behind them.

    features: float32 [N, F]; operator: what the network reads of their edges, block by block, [N, N]
    edges: float32 [E, D], features of the operator's entries, 1 where the graphs have none
    nodes, entries: int32 [B + 1], how many each graph has
    """

    features: Array
    operator: Matrix
    edges: Array
    nodes: Array
    entries: Array


class Pooled(nn.Module):
    """Layers of a network of nodes, each pooled: Xu et al. 2019, arXiv 1810.00826, eq. 4.2.

    network: its last linear layer is a hidden one here, followed by a unit as the others are
    """

    network: NodeNetwork
    classes: int
    pooling: str = "sum"

    @nn.compact
    def __call__(self, batch: GraphBatch) -> Array:
        """B graphs -> logits [B, classes]."""
        *hidden, last = self.network.layers(batch.features, batch.operator)
        layers = [batch.features, *hidden, unit(self.network.unit)(last)]
        return OfGraphs(self.classes, self.pooling, name="head")(layers, batch.nodes)[:-1]


class Messages(nn.Module):
    """A `GraphNetwork` of `steps` steps, which ends in features of whole graphs; logits are linear in them.

    Nodes add up their edges; a graph has the means of its nodes and edges: sums over all of them, one step after
    another, give features of hundreds at the start, and many units never recover.
    """

    width: int
    classes: int
    steps: int = 2

    @nn.compact
    def __call__(self, batch: GraphBatch) -> Array:
        """B graphs -> logits [B, classes]."""
        graph = jraph.GraphsTuple(
            batch.features, batch.edges, batch.operator.row, batch.operator.column,
            jnp.ones((len(batch.nodes), 1), batch.features.dtype), batch.nodes, batch.entries,
        )  # fmt: skip
        found = GraphNetwork(self.width, self.steps, of_graph="mean")(graph)
        return nn.Dense(self.classes, name="output")(found.globals)[:-1]


class Counts(nn.Module):
    """The baseline that sees no structure: an MLP on log(nodes), log(1 + entries) and the mean features of nodes."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, batch: GraphBatch) -> Array:
        """B graphs -> logits [B, classes]."""
        nodes = batch.nodes[:-1].astype(jnp.float32)
        ends = jnp.cumsum(batch.nodes)[:-1]
        total = jnp.concatenate([jnp.zeros_like(batch.features[:1]), jnp.cumsum(batch.features, axis=0)])  # [N + 1, F]
        nodes = jnp.maximum(nodes, 1)  # an empty graph has numbers too
        mean = (total[ends] - total[ends - batch.nodes[:-1]]) / nodes[:, None]
        counts = jnp.log(jnp.stack([nodes, 1 + batch.entries[:-1].astype(jnp.float32)], axis=1))
        return MLP((self.width,), self.classes, "relu")(jnp.concatenate([counts, mean], axis=1))
