"""What a model sees of stored values. Fitted on the training split alone, and stored with every run."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl.errors import unknown

KINDS = ("unit", "pixel_mean", "channel", "binarised")
_BLOCK = 2000  # examples read at a time


class Normalisation(NamedTuple):
    """stored -> float32: x = stored * scale, then by kind, with `offset` and `factor` broadcast from the last axes:

    unit        clip((x - offset) factor, 0, 1): minimum and maximum of each channel or feature are 0 and 1;
                images of integers have x itself, so their offset and factor are None
    pixel_mean  x - offset, the mean training image
    channel     (x - offset) factor: mean 0 and standard deviation 1 of each channel, or feature of a table
    binarised   1 where `unit` gives 0.5 or more, else 0
    """

    kind: str
    scale: float
    offset: np.ndarray | None = None
    factor: np.ndarray | None = None

    @property
    def bounded(self) -> bool:
        """Whether all values lie in [0, 1], as a cross-entropy needs them."""
        return self.kind in ("unit", "binarised")

    def __call__(self, stored: Any) -> Array:
        """float32 [N, ...] of stored values [N, ...]."""
        return self.of_scaled(self.scaled(stored))

    def scaled(self, stored: Any) -> Array:
        """stored * scale: float32 [N, ...], in [0, 1] for images of integers."""
        return jnp.asarray(stored).astype(jnp.float32) * jnp.float32(self.scale)

    def of_scaled(self, values: Array) -> Array:
        """What a model sees of `scaled` values [N, ...]: float32 [N, ...]."""
        if self.offset is not None:
            values = values - _spread(self.offset, values.ndim)
        if self.factor is not None:
            values = values * _spread(self.factor, values.ndim)
            if self.bounded:  # new values may lie outside what the training split spans
                values = jnp.clip(values, 0, 1)
        return (values >= 0.5).astype(jnp.float32) if self.kind == "binarised" else values

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, without loss."""
        arrays = {"offset": self.offset, "factor": self.factor}
        return {"kind": self.kind, "scale": self.scale} | {
            name: None if values is None else values.tolist() for name, values in arrays.items()
        }


def restore(plain: dict[str, Any]) -> Normalisation:
    """The normalisation that `plain` came from: a run's config.json keeps it under "normalisation"."""
    arrays = {name: plain[name] if plain[name] is None else np.array(plain[name], np.float32) for name in _ARRAYS}
    return Normalisation(plain["kind"], plain["scale"], **arrays)


_ARRAYS = ("offset", "factor")


def fit(kind: str, stored: Any, scale: float) -> Normalisation:
    """The normalisation `kind`, one of KINDS, for images that look like the training images `stored` [N, ...].

    scale: what one unit of stored integers is worth, 1 for floats. Sums are float64. A channel that never
    changes keeps its scale. Raises UserError for an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("data.normalise", kind, KINDS)
    whole = np.issubdtype(stored.dtype, np.integer)
    if kind in ("unit", "binarised"):
        if whole:
            return Normalisation(kind, scale)
        last = stored.shape[-1]
        low, high = np.full(last, np.inf), np.full(last, -np.inf)
        for block in _blocks(stored):
            flat = block.reshape(-1, last)  # [n, ..., channels] -> [n ..., channels]
            low, high = np.minimum(low, flat.min(axis=0)), np.maximum(high, flat.max(axis=0))
        return Normalisation(kind, scale, _single(low), _single(1 / _positive(high - low)))
    axes = (0,) if kind == "pixel_mean" else tuple(range(stored.ndim - 1))
    count = int(np.prod([stored.shape[axis] for axis in axes]))
    # In this order, the mean of a channel that never changes is its very value.
    mean = scale * (sum(block.sum(axis=axes, dtype=np.float64) for block in _blocks(stored)) / count)
    if kind == "pixel_mean":
        return Normalisation(kind, scale, _single(mean))
    squares = sum(((scale * block.astype(np.float64) - mean) ** 2).sum(axis=axes) for block in _blocks(stored))
    return Normalisation(kind, scale, _single(mean), _single(1 / _positive(np.sqrt(squares / count))))


def _blocks(stored: Any) -> Iterator[np.ndarray]:
    for first in range(0, len(stored), _BLOCK):
        yield np.asarray(stored[first : first + _BLOCK])


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 1.0)


def _single(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _spread(values: np.ndarray, rank: int) -> Array:
    return jnp.asarray(values).reshape((1,) * (rank - values.ndim) + values.shape)  # [..., C] -> [1, ..., C]
