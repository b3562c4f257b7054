"""The nodes of one graph as a source to train on: every batch is the whole training split of a graph that all share.

The task holds the graph, or what it computed of it once; a split's examples are which nodes count, and their classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl import batch as batches
from jaxdl.data import graphs
from jaxdl.data.normalisation import Normalisation
from jaxdl.data.source import Run, Split
from jaxdl.errors import UserError


class Nodes(NamedTuple):
    """What `Source` is to examples: the splits of a graph's nodes, in the shape that a fit takes them.

    data: {"train", "validation", "test"} -> {"node": int32 [n], "label": int32 [n]}
    names: what the classes are called
    graph: the whole graph, on the host
    prepare: (run, split) -> split; where each run has its own random split, which nodes are in it
    batch_size: all training nodes, so that a step is an epoch

    The other fields say that nothing is normalised, streamed, chosen or augmented.
    """

    name: str
    data: dict[str, Split]
    names: tuple[str, ...]
    fingerprint: str
    batch_size: int
    graph: graphs.Graph
    prepare: Callable[[Run, Split], Split] | None = None
    normalisation: Normalisation = Normalisation("unit", 1.0)
    order: str = "seed"
    streamed: bool = False
    workers: int = 0
    subset: None = None
    examples: int = 0
    augment: None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def steps_per_epoch(self) -> int:
        """One: every step sees the whole graph."""
        return 1

    def seen(self, run: Run, nodes: Array) -> Array:
        """Nodes [B] as the task's `predict` takes them: as they are."""
        return nodes

    def batch(self, data: Split, run: Run, step: Array) -> dict[str, Array]:
        """All training nodes (under pmap this device's share): {"node", "label", "position"}, each [B]."""
        position = batches.positions(self.batch_size)
        return self.take(data, run, position, position)

    def take(self, data: Split, run: Run, index: Array, position: Array) -> dict[str, Array]:
        """The nodes at `index` [B] of a split as a batch."""
        return {key: values[index] for key, values in data.items()} | {"position": position}


def source(name: str, graph: graphs.Graph, random: tuple[int, int] | None = None) -> Nodes:
    """The nodes of a graph with its official splits.

    random: instead each run draws a split by its seed, so many nodes of each class to train and to validate on, see
        `graphs.random_splits`, which gives the same ones

    Raises UserError for a graph without the three splits, and for a random split that does not fit.
    """
    if random is None:
        missing = [split for split in ("train", "validation", "test") if not len(graph.splits.get(split, ()))]
        if missing:
            raise UserError(f"{name} has no official {' and no '.join(missing)} nodes; valid: a random split")
        rows = graph.splits
    else:
        rows = graphs.random_splits(graph, 0, *random)
    data = {split: {"node": rows[split], "label": graph.labels[rows[split]]} for split in rows}
    whole = Nodes(name, data, graph.names, graph.fingerprint, len(rows["train"]), graph)
    if random is None:
        return whole
    known = np.flatnonzero(graph.labels >= 0).astype(np.int32)
    labels = graph.labels[known]
    # In a run's order of the nodes a split is a range; its "node" is that range until the run is known.
    ends = np.cumsum([0, *(len(rows[split]) for split in rows)])
    for split, first, last in zip(rows, ends, ends[1:], strict=False):
        data[split]["node"] = np.arange(first, last, dtype=np.int32)

    def prepare(run: Run, split: Split) -> dict[str, Any]:
        place = jnp.asarray(graphs.random_order(labels, run["seed"], *random))[split["node"]]
        return {"node": jnp.asarray(known)[place], "label": jnp.asarray(labels)[place]}

    # Random splits of other sizes, and the official ones, are other data.
    return whole._replace(prepare=prepare, fingerprint=f"{graph.fingerprint} random {random[0]} {random[1]}")
