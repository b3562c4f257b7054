"""What a data set is to the rest of jaxdl: `Arrays` as read from disk, `Source` as trained on."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl import batch as batches
from jaxdl.data import order
from jaxdl.data.normalisation import Normalisation
from jaxdl.errors import UserError

Split = dict[str, Any]  # {"image": [N, ...], "label": int32 [N]}
Run = dict[str, Any]  # {"seed": uint32, "hyper": {name: float32}, ...}


class Arrays(NamedTuple):
    """A data set as a reader returns it, on the host.

    splits: official splits, {"train": {"image": [N, ...], "label": int32 [N]}, ...}, perhaps "validation" and
        "test" too. Images are uint8 [N, height, width, channels]; whatever else is classified is float32 [N, ...].
        Further keys (an angle) are float32 or int32 [N, ...]
    names: what the classes are called; a label is a place in it
    scale: what one unit of stored integers is worth; image * scale lies in [0, 1]. 1 for float32
    fingerprint: hex digest of the content, the same on every machine
    """

    splits: dict[str, Split]
    names: tuple[str, ...]
    scale: float
    fingerprint: str


class Rows:
    """Some rows of an array, read when they are asked for: the array may be larger than the memory.

    `rows[index]` are the rows at those places; `np.asarray(rows)` reads them all. Pickling an array that lies in
    a file sends its path, so that worker processes map the same file.
    """

    def __init__(self, array: np.ndarray, index: np.ndarray) -> None:
        self.array, self.index = array, index
        self.shape, self.dtype, self.ndim = (len(index), *array.shape[1:]), array.dtype, array.ndim

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, places: Any) -> np.ndarray:
        return np.asarray(self.array[self.index[places]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array[self.index], dtype)

    def __getstate__(self) -> tuple[Any, np.ndarray]:
        array = self.array
        if isinstance(array, np.memmap) and array.filename and array.base is not None:
            return (str(array.filename), array.dtype, array.offset, array.shape), self.index
        return array, self.index

    def __setstate__(self, state: tuple[Any, np.ndarray]) -> None:
        array, index = state
        if isinstance(array, tuple):
            path, dtype, offset, shape = array
            array = np.memmap(path, dtype, "r", offset, shape)
        self.__init__(array, index)


class Source(NamedTuple):
    """A data set ready to train on: splits that never overlap, and the order in which they are drawn.

    data: {"train", "validation", "test"} -> {"image": [N, ...], "label": int32 [N], ...}, as stored (uint8 where
        the source is), shared by all runs
    names: what the classes are called
    normalisation: what a model sees of stored images, fitted on the training split
    order: "seed" (each run its own order) or "shared" (one order for all)
    streamed: `data` are `Rows` that stay on the host; the device gets a few batches at a time
    workers: processes that read ahead for a streamed source; 0: a thread does
    prepare: (run, split) -> split; what a run's model sees in place of the images, example by example (features of
        frozen layers), float32 [N, ...]. None: the images, normalised
    subset: (run, labels [N]) -> rows [examples]; the part of the training split that a run trains on. None: all
    width: how many runs go side by side on a device; None: as the table of `training.devices` has it
    evaluation_batch: at most so many are measured at once; None: as `training.program` has it
    augment: (run, step, position [B], image [B, ...] in [0, 1]) -> image; what happens to the images of a training
        batch before they are normalised, see `augmentation.augmented`. None: nothing
    """

    name: str
    data: dict[str, Split]
    names: tuple[str, ...]
    normalisation: Normalisation
    fingerprint: str
    batch_size: int
    order: str = "seed"
    streamed: bool = False
    workers: int = 0
    prepare: Callable[[Run, Split], Split] | None = None
    subset: Callable[[Run, Array], Array] | None = None
    examples: int = 0
    augment: Callable[[Run, Array, Array, Array], Array] | None = None
    width: int | None = None
    evaluation_batch: int | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in a run's training split; the ragged tail is dropped, another one in each epoch."""
        return (self.examples or len(self.data["train"]["label"])) // self.batch_size

    def images(self, stored: Array) -> Array:
        """Stored images [N, ...] as the model sees them, float32."""
        return self.normalisation(stored)

    def seen(self, run: Run, stored: Array) -> Array:
        """Stored images [B, ...] as the model of a run sees them: normalised, or what `prepare` makes of them."""
        if self.prepare is None:
            return self.images(stored)
        return self.prepare(run, {"image": stored, "label": jnp.zeros(stored.shape[0], jnp.int32)})["image"]

    def batch(self, data: Split, run: Run, step: Array) -> dict[str, Array]:
        """The batch of one step: a pure function of (data, seed, step).

        data: the training split of this run, or a block of a streamed one (see `streaming`). Returns {"image":
        float32 [B, ...], "label": int32 [B], "position": uint32 [B]} and whatever else the split holds, where B is
        this device's share of the batch.
        """
        position = batches.positions(self.batch_size)
        if "first" in data:
            index = (step - data["first"]) * jnp.uint32(self.batch_size) + position
        else:
            seed = run["seed"] if self.order == "seed" else jnp.uint32(0)
            index = order.places(seed, step, position, data["label"].shape[0], self.batch_size)
        if self.augment is None:
            return self.take(data, run, index, position)
        rows = {key: values[index] for key, values in data.items() if key != "first"}
        image = self.augment(run, step, position, self.normalisation.scaled(rows["image"]))
        return rows | {"image": self.normalisation.of_scaled(image), "position": position}

    def take(self, data: Split, run: Run, index: Array, position: Array) -> dict[str, Array]:
        """The examples at `index` [B] as a batch."""
        rows = {key: values[index] for key, values in data.items() if key != "first"}
        if self.prepare is None:
            rows["image"] = self.images(rows["image"])
        elif "first" in data:  # what is not streamed was prepared as a whole
            rows = self.prepare(run, rows)
        return rows | {"position": position}

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

        def subset(run: Run, labels: Array) -> Array:
            size = labels.shape[0]
            shuffled = order.index(run["seed"], jnp.uint32(0), jnp.arange(size, dtype=jnp.uint32), size)
            by_class = jnp.argsort(labels[shuffled], stable=True)  # class by class, each shuffled
            first = jnp.cumsum(jnp.asarray(counts)) - jnp.asarray(counts)  # [classes]
            chosen = first[:, None] + jnp.arange(per_class)[None, :]  # [classes, per_class]
            return shuffled[by_class[chosen.reshape(-1)]]

        return self._replace(subset=subset, examples=per_class * self.classes)
