"""The nodes of one graph, or the graphs of a set, as a source to train on.

The task holds the graphs, and what it computed of them once; a split's examples are numbers of nodes or graphs, and
their classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl import batch as batches
from jaxdl.data import graphs, order
from jaxdl.data.normalisation import Normalisation
from jaxdl.data.source import Run, Split
from jaxdl.errors import UserError


class Members(NamedTuple):
    """What `Source` is to examples: the splits of nodes or graphs, in the shape that a fit takes them.

    data: {"train", "validation", "test"} -> {"member": int32 [n], the node or graph, "label": int32 [n]}
    names: what the classes are called
    graph: all of it, on the host
    prepare: (run, split) -> split; where each run has its own random split, what is in it
    batch_size: all training nodes, so that a step is an epoch; or some graphs
    width: how many runs go side by side on a device; None: as the table of `training.devices` has it
    evaluation_batch: at most so many are measured at once; None: as `training.program` has it

    The other fields say that nothing is normalised, streamed, chosen or augmented.
    """

    name: str
    data: dict[str, Split]
    names: tuple[str, ...]
    fingerprint: str
    batch_size: int
    graph: graphs.Graph
    prepare: Callable[[Run, Split], Split] | None = None
    width: int | None = None
    evaluation_batch: int | None = None
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
        """Full batches in the training split; of the nodes of a graph one."""
        return len(self.data["train"]["label"]) // self.batch_size

    def seen(self, run: Run, members: Array) -> Array:
        """Nodes or graphs [B] as the task's `predict` takes them: as they are."""
        return members

    def batch(self, data: Split, run: Run, step: Array) -> dict[str, Array]:
        """The batch of one step (under pmap this device's share): {"member", "label", "position"}, each [B]."""
        position = batches.positions(self.batch_size)
        index = order.places(run["seed"], step, position, data["label"].shape[0], self.batch_size)
        return self.take(data, run, index, position)

    def take(self, data: Split, run: Run, index: Array, position: Array) -> dict[str, Array]:
        """The members at `index` [B] of a split as a batch."""
        return {key: values[index] for key, values in data.items()} | {"position": position}


def of_nodes(name: str, graph: graphs.Graph, random: tuple[int, int] | None = None) -> Members:
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
    data = {split: {"member": rows[split], "label": graph.labels[rows[split]]} for split in rows}
    # All nodes at once: what reads the whole graph reads it once for each batch.
    whole = Members(
        name, data, graph.names, graph.fingerprint, len(rows["train"]), graph, evaluation_batch=len(graph.ids)
    )
    if random is None:
        return whole
    known = np.flatnonzero(graph.labels >= 0).astype(np.int32)
    labels = graph.labels[known]
    # In a run's order of the nodes a split is a range; its "member" is that range until the run is known.
    ends = np.cumsum([0, *(len(rows[split]) for split in rows)])
    for split, first, last in zip(rows, ends, ends[1:], strict=False):
        data[split]["member"] = np.arange(first, last, dtype=np.int32)

    def prepare(run: Run, split: Split) -> dict[str, Any]:
        place = jnp.asarray(graphs.random_order(labels, run["seed"], *random))[split["member"]]
        return {"member": jnp.asarray(known)[place], "label": jnp.asarray(labels)[place]}

    # Random splits of other sizes, and the official ones, are other data.
    return whole._replace(prepare=prepare, fingerprint=f"{graph.fingerprint} random {random[0]} {random[1]}")


def sampled(nodes: Members, batch_size: int) -> Members:
    """The same nodes in batches, for a task that reads the neighbourhoods of a batch alone.

    Raises UserError for a batch of more nodes than there are to train on.
    """
    _check_batch(batch_size, len(nodes.data["train"]["label"]), "nodes")
    # Each run draws neighbourhoods of its own: side by side they would share nothing.
    return nodes._replace(batch_size=batch_size, width=1, evaluation_batch=None)


def of_graphs(name: str, graph: graphs.Graph, batch_size: int, train: int, validation: int) -> Members:
    """A set of graphs with one stratified split for all runs: `train` and `validation` of each class, the rest to test.

    Raises UserError where a class has too few graphs, or a batch too many.
    """
    rows = graphs.random_splits(graph, 0, train, validation)
    return _batched(name, graph, batch_size, rows, f"{graph.fingerprint} {train} {validation}")


def in_folds(name: str, graph: graphs.Graph, batch_size: int, folds: int) -> Members:
    """A set of graphs in stratified folds: a run trains on all but fold `seed`, which it validates and tests on.

    The field's protocol (Xu et al. 2019, arXiv 1810.00826, section 7): there are no further graphs to test on, so that
    whatever is chosen by the held-out fold, an epoch or a hyperparameter, looks better than it is. All folds have
    len(graphs) // folds graphs; the few that are left over, less than `folds`, are always trained on. A seed from
    `folds` on is fold seed % folds again, with other weights.

    Raises UserError where there are fewer graphs than folds, or a batch has too many.
    """
    count = len(graph.labels)
    if not 1 < folds <= count:
        raise UserError(f"{folds} folds are not possible: valid is 2 to {count}, the graphs of {name}")
    size = count // folds
    mixed = order.index(np.uint32(0), np.uint32(0), np.arange(count, dtype=np.uint32), count).astype(np.int32)
    mixed = mixed[np.argsort(graph.labels[mixed], kind="stable")]  # class by class, each shuffled
    dealt = np.concatenate([mixed[fold::folds][:size] for fold in range(folds)])  # stratified: dealt out like cards
    left = np.setdiff1d(mixed, dealt)
    held, others = np.arange(size, dtype=np.int32), np.arange(size, count, dtype=np.int32)
    rows = {"train": others, "validation": held, "test": held}  # places after the run's fold was put first

    def prepare(run: Run, split: Split) -> dict[str, Any]:
        first = run["seed"] % jnp.uint32(folds) * jnp.uint32(size)
        turned = jnp.concatenate([jnp.roll(jnp.asarray(dealt), -first.astype(jnp.int32)), jnp.asarray(left)])
        member = turned[split["member"]]
        return {"member": member, "label": jnp.asarray(graph.labels)[member]}

    return _batched(name, graph, batch_size, rows, f"{graph.fingerprint} {folds} folds")._replace(prepare=prepare)


def _batched(name: str, graph: graphs.Graph, batch_size: int, rows: dict, fingerprint: str) -> Members:
    _check_batch(batch_size, len(rows["train"]), "graphs")
    data = {split: {"member": rows[split], "label": graph.labels[rows[split]]} for split in rows}
    # A step takes the smallest shape that holds its batch. Side by side, runs would take all of them.
    return Members(name, data, graph.names, fingerprint, batch_size, graph, width=1)


def _check_batch(batch_size: int, most: int, of: str) -> None:
    if not 0 < batch_size <= most:
        raise UserError(f"batch_size={batch_size} is not possible: valid is 1 to {most}, the {of} to train on")
