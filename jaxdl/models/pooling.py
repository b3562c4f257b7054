"""Pooling of maps [B, H, W, C]: the maximum, minimum, sum or mean of each square window, channel by channel.

    [B, H, W, C] -> [B, (H + 2 padding - window) // stride + 1, (W + 2 padding - window) // stride + 1, C]

stride: the window's size where it is not given, so that windows touch and do not overlap
padding: on all four sides, at most half the window, so that each window holds a pixel; the padding never wins a maximum
    or minimum and adds 0 to a sum
"""

import functools

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax


def max_pool(maps: Array, window: int, stride: int | None = None, padding: int = 0) -> Array:
    """The largest value of each window, NaN where there is one; its gradient goes to the first of equal values."""
    # Maxima of shifted maps, along rows and then along columns, because the gradient of XLA's own window maximum
    # (nn.max_pool) takes 160 ms on one CPU core where this one takes 4 (64x28x28x32, windows of 2).
    _check(window, padding)
    for axis in (2, 1):
        maps = _max_along(maps, axis, window, stride or window, padding)
    return maps


def min_pool(maps: Array, window: int, stride: int | None = None, padding: int = 0) -> Array:
    """The smallest value of each window, NaN where there is one; its gradient goes to the first of equal values."""
    return -max_pool(-maps, window, stride, padding)


def sum_pool(maps: Array, window: int, stride: int | None = None, padding: int = 0) -> Array:
    """The sum of each window."""
    _check(window, padding)
    step = stride or window
    batch, height, width, channels = maps.shape
    if step == window and not padding and height % window == width % window == 0:
        # Windows that cover the maps and touch: the gradient of XLA's own window sum is slow on a CPU.
        split = maps.reshape(batch, height // window, window, width // window, window, channels)
        return split.sum(axis=(2, 4))  # [B, H / w, w, W / w, w, C] -> [B, H / w, W / w, C]
    return nn.pool(maps, 0.0, lax.add, (window, window), (step, step), ((padding, padding), (padding, padding)))


def average_pool(
    maps: Array, window: int, stride: int | None = None, padding: int = 0, count_padding: bool = True
) -> Array:
    """The mean of each window, with the zeros of the padding (`count_padding`) or of the window's pixels alone."""
    # nn.avg_pool divides by a NumPy integer, which strict dtype promotion refuses.
    total = sum_pool(maps, window, stride, padding)
    if count_padding or not padding:
        return total / window**2
    height, width = (_pixels(length, window, stride or window, padding) for length in maps.shape[1:3])
    return total / np.outer(height, width)[None, :, :, None].astype(maps.dtype)


def _check(window: int, padding: int) -> None:
    if not 0 <= 2 * padding <= window:
        raise ValueError(f"padding={padding} is not possible with a window of {window}: at most half of it")


def _max_along(maps: Array, axis: int, window: int, stride: int, padding: int) -> Array:
    """The largest of each `window` values along one axis: length n -> (n + 2 padding - window) // stride + 1."""
    sides = [(padding, padding, 0) if each == axis else (0, 0, 0) for each in range(maps.ndim)]
    padded = lax.pad(maps, np.array(-np.inf, maps.dtype), sides)
    reach = (padded.shape[axis] - window) // stride * stride + 1  # from the first window to the last

    def larger(first: Array, second: Array) -> Array:
        return jnp.where((first >= second) | jnp.isnan(first), first, second)

    shifted = (lax.slice_in_dim(padded, begin, begin + reach, stride, axis) for begin in range(window))
    return functools.reduce(larger, shifted)


def _pixels(length: int, window: int, stride: int, padding: int) -> np.ndarray:
    """How many of the `length` pixels of a row each window covers, [H']."""
    first = np.arange(-padding, length + padding - window + 1, stride)
    return np.minimum(first + window, length) - np.maximum(first, 0)
