"""The one place where images are convolved."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.models.initialisers import initialiser


def convolve(image: Array, kernel: Array, stride: int, padding: int, groups: int = 1) -> Array:
    """out[b, y, x, o] = sum_hwi image[b, s y + h - p, s x + w - p, i] kernel[h, w, i, o].

    image [B, H, W, C], kernel [h, w, C / groups, O] -> [B, (H + 2p - h) // s + 1, (W + 2p - w) // s + 1, O], s the
    stride and p the padding: zeros on all four sides, so that no image size shifts the grid (a padding called "SAME"
    puts its odd zero last at stride 2, which no reference implementation does).
    """
    return jax.lax.conv_general_dilated(
        image,
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


class Convolution(nn.Module):
    """`convolve` with a learned square kernel [kernel, kernel, C / groups, features], plus a bias [features]."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = initialiser("he_normal")

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, H, W, C] -> [B, H', W', features], H' = (H + 2 padding - kernel) // stride + 1."""
        shape = (self.kernel, self.kernel, image.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        hidden = convolve(image, kernel, self.stride, self.padding, self.groups)
        if self.use_bias:
            hidden += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)[None, None, None, :]
        return hidden
