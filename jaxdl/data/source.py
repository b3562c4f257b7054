"""What a data set is to the rest of jaxdl: `Arrays` as read from disk, `Source` as trained on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl import batch as batches
from jaxdl.data import order
from jaxdl.errors import UserError

Split = dict[str, Any]  # {"image": [N, ...], "label": int32 [N]}
Run = dict[str, Any]  # {"seed": uint32, "hyper": {name: float32}, ...}


class Arrays(NamedTuple):
    """A data set as a reader returns it, on the host.

    splits: official splits, {"train": {"image": uint8 [N, height, width, channels], "label": int32 [N]}, ...}
    classes: number of classes
    scale: what one unit of the stored integers is worth; image * scale lies in [0, 1]
    fingerprint: hex digest of the content, the same on every machine
    """

    splits: dict[str, Split]
    classes: int
    scale: float
    fingerprint: str


class Source(NamedTuple):
    """A data set ready to train on: splits that never overlap, and the order in which they are drawn.

    data: {"train", "validation", "test"} -> {"image": [N, ...], "label": int32 [N]}, as stored (uint8 where
        the source is), shared by all runs
    prepare: (run, split name, split) -> split; makes a run's own data once, before its first step, for data
        that differ between runs (features of frozen layers, a labelled subset). None: all runs share `data`
    examples: training examples of a run where `prepare` leaves fewer than there are; 0: all
    order: "seed" (each run its own order) or "shared" (one order for all)
    """

    name: str
    data: dict[str, Split]
    classes: int
    scale: float
    fingerprint: str
    batch_size: int
    order: str = "seed"
    prepare: Callable[[Run, str, Split], Split] | None = None
    examples: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in a run's training split; the ragged tail is dropped, another one in each epoch."""
        return (self.examples or len(self.data["train"]["label"])) // self.batch_size

    def images(self, stored: Array) -> Array:
        """Stored values as float32, integers scaled to [0, 1]."""
        if jnp.issubdtype(stored.dtype, jnp.floating):
            return stored
        return stored.astype(jnp.float32) * jnp.float32(self.scale)

    def batch(self, data: Split, run: Run, step: Array) -> dict[str, Array]:
        """The batch of one step: a pure function of (data, seed, step).

        data: the training split, as `prepare` left it. Returns {"image": float32 [B, ...], "label": int32
        [B], "position": uint32 [B]}, where B is this device's share of the batch.
        """
        size = data["label"].shape[0]
        position = batches.positions(self.batch_size)
        if self.batch_size == size:  # the full batch needs no order
            return self.take(data, position, position)
        per_epoch = jnp.uint32(size // self.batch_size)
        epoch, within = step // per_epoch, step % per_epoch
        seed = run["seed"] if self.order == "seed" else jnp.uint32(0)
        place = within * jnp.uint32(self.batch_size) + position
        return self.take(data, order.index(seed, epoch, place, size), position)

    def take(self, data: Split, index: Array, position: Array) -> dict[str, Array]:
        """The examples at `index` [B] as a batch."""
        return {
            "image": self.images(data["image"][index]),
            "label": data["label"][index],
            "position": position,
        }

    def labelled(self, per_class: int) -> "Source":
        """The same source with `per_class` labelled training examples of each class, chosen by the run's seed."""
        counts = np.bincount(np.asarray(self.data["train"]["label"]), minlength=self.classes)
        if not 0 < per_class <= counts.min():
            raise UserError(
                f"{per_class} labels a class is not possible with {self.name}: the rarest class has "
                f"{counts.min()} training examples"
            )
        if per_class * self.classes < self.batch_size:
            raise UserError(
                f"batch_size={self.batch_size} is larger than the {per_class * self.classes} labelled examples"
            )

        def prepare(run: Run, name: str, split: Split) -> Split:
            if self.prepare:
                split = self.prepare(run, name, split)
            if name != "train":
                return split
            size = split["label"].shape[0]
            shuffled = order.index(run["seed"], jnp.uint32(0), jnp.arange(size, dtype=jnp.uint32), size)
            by_class = jnp.argsort(split["label"][shuffled], stable=True)  # class by class, each shuffled
            first = jnp.cumsum(jnp.asarray(counts)) - jnp.asarray(counts)  # [classes]
            chosen = first[:, None] + jnp.arange(per_class)[None, :]  # [classes, per_class]
            rows = shuffled[by_class[chosen.reshape(-1)]]
            return {name: values[rows] for name, values in split.items()}

        return self._replace(prepare=prepare, examples=per_class * self.classes)
