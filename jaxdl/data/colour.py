"""What happens to the colours of one image [H, W, C] in [0, 1]. Nothing is drawn here.

C is 3 (red, green, blue), or 1 where a docstring says so. Every number that a function takes may be traced. The
formulas are Pillow's (ImageEnhance), which torchvision's ColorJitter shares, without rounding to 8 bits.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow's conversion to "L"
_BLOCK = 2000  # images read at a time


class Eigen(NamedTuple):
    """Eigenvalues [3] and eigenvectors [3, 3] (one a column) of the covariance of colours in [0, 1]; float32."""

    values: np.ndarray
    vectors: np.ndarray


def brightness(image: Array, factor: Array) -> Array:
    """clip(factor image, 0, 1); 1 or 3 channels."""
    return jnp.clip(factor * image, 0.0, 1.0)


def contrast(image: Array, factor: Array) -> Array:
    """The image blended with the mean of its grey copy: 0 gives a flat grey, 1 the image; 1 or 3 channels."""
    mean = luma(image.mean(axis=(0, 1), keepdims=True))[..., None]  # [1, 1, 1]: the mean of the grey copy as well
    return _blend(image, jnp.broadcast_to(mean, image.shape), factor)


def saturation(image: Array, factor: Array) -> Array:
    """The image blended with its grey copy: 0 gives a grey image, 1 the image."""
    return _blend(image, jnp.broadcast_to(luma(image)[..., None], image.shape), factor)


def hue(image: Array, turn: Array) -> Array:
    """Every hue moved by `turn` of the colour circle: 1/3 makes red green, green blue and blue red."""
    hues, saturations, values = to_hsv(image)
    return from_hsv(_fraction(hues + turn), saturations, values)


def grey(image: Array, chosen: Array) -> Array:
    """The grey copy, in three equal channels, where `chosen` is true."""
    return jnp.where(chosen, jnp.broadcast_to(luma(image)[..., None], image.shape), image)


def luma(image: Array) -> Array:
    """0.299 red + 0.587 green + 0.114 blue, or the only channel there is: [H, W, C] -> [H, W]."""
    if image.shape[-1] == 1:
        return image[..., 0]
    return LUMA[0] * image[..., 0] + LUMA[1] * image[..., 1] + LUMA[2] * image[..., 2]


def pca_colour(image: Array, alpha: Array, eigen: Eigen) -> Array:
    """clip(image + [p1, p2, p3] [alpha1 lambda1, alpha2 lambda2, alpha3 lambda3]^T, 0, 1), one alpha [3] an image.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1.
    """
    change = (eigen.vectors * (alpha * eigen.values)[None, :]).sum(axis=1)  # [3]
    return jnp.clip(image + change[None, None, :], 0.0, 1.0)


def principal_components(stored: Any, scale: float) -> Eigen:
    """How the colours of the training images vary, on the host, with sums in float64.

    stored: [N, H, W, 3], as the training split holds it; scale: what one stored unit is worth, image = scale * stored.
    The components fall in variance; the largest entry of each is positive, as a sign is no property of the data.
    """
    total, products, count = np.zeros(3), np.zeros((3, 3)), 0
    for first in range(0, len(stored), _BLOCK):
        colours = scale * np.asarray(stored[first : first + _BLOCK], np.float64).reshape(-1, 3)  # [n H W, 3]
        total, products, count = total + colours.sum(axis=0), products + colours.T @ colours, count + len(colours)
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]  # eigh's rise, and rounding may leave -1e-17
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(3)])
    return Eigen(values.astype(np.float32), (vectors * signs).astype(np.float32))


def to_hsv(image: Array) -> tuple[Array, Array, Array]:
    """Hue in [0, 1), saturation and value in [0, 1], each [H, W]. Smith 1978, "Color gamut transform pairs".

    Where all channels are equal there is no hue: it is 0, and so is the saturation.
    """
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value, lowest = image.max(axis=-1), image.min(axis=-1)
    chroma = value - lowest
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    sixths = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    return _fraction(sixths / 6.0), chroma / jnp.where(value > 0, value, 1.0), value


def from_hsv(hue: Array, saturation: Array, value: Array) -> Array:
    """The inverse of `to_hsv`: [H, W] each -> [H, W, 3].

    channel = value (1 - saturation clip(min(k, 4 - k), 0, 1)), k = (n + 6 hue) mod 6, n = 5, 3, 1 for red, green, blue
    """

    def channel(n: float) -> Array:
        k = 6.0 * _fraction(n / 6.0 + hue)
        return value * (1.0 - saturation * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0))

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def _fraction(values: Array) -> Array:
    """What remains of whole turns, in [0, 1); ten times as fast as `%` on a CPU."""
    return values - jnp.floor(values)


def _blend(image: Array, other: Array, share: Array) -> Array:
    return jnp.clip(share * image + (1.0 - share) * other, 0.0, 1.0)
