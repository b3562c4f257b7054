"""Units that see a small window of the image, each place with weights of its own or all places with the same ones.

LeCun 1989, "Generalization and network design strategies": his Net-3 is local without sharing, Net-4 and Net-5 share.
"""

from itertools import product

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError, unknown
from jaxdl.models.convolution import Convolution
from jaxdl.models.initialisers import initialiser
from jaxdl.models.limits import require_size
from jaxdl.models.pooling import average_pool, max_pool

POOLINGS = ("none", "max", "average")
HEADS = ("dense", "global")
_KERNEL, _STRIDE = 5, 2  # of each layer of LocalNetwork


def connect_locally(image: Array, kernel: Array, stride: int = 1) -> Array:
    """y[b,i,j,f] = sum_{u,v,c} x[b, s i + u, s j + v, c] k[i,j,u,v,c,f]: a convolution but for the i and j of k.

    image [B, H, W, C], kernel [H', W', kh, kw, C, F] -> [B, H', W', F], H' = floor((H - kh) / s) + 1.

    UserError where the two do not fit.

    One matrix product for each place, of its patches with the batch as the last axis. Milliseconds of processor time
    for the output and both gradients in a scan on one core of a loaded machine, against the batch as the first axis:
    2.6 and 9 (64x11x11x16, 5x5 -> 32, stride 2), .25 and .4 to 1.4 (64x12x12x3, 5x5 -> 6).
    """
    (high, wide, rows, columns, channels, features), (height, width) = kernel.shape, image.shape[1:3]
    expected = tuple((side - window) // stride + 1 for side, window in ((height, rows), (width, columns)))
    if (high, wide) != expected or channels != image.shape[3]:
        raise UserError(
            f"kernels {list(kernel.shape)} do not fit an image of {height}x{width} and {image.shape[3]} channels with "
            f"stride={stride}: they are for {high}x{wide} places and {channels} channels, it has "
            f"{max(expected[0], 0)}x{max(expected[1], 0)} places"
        )
    last = image.transpose(1, 2, 3, 0)  # [H, W, C, B]
    patches = [
        last[row : row + stride * (high - 1) + 1 : stride, column : column + stride * (wide - 1) + 1 : stride]
        for row, column in product(range(rows), range(columns))
    ]
    kernels = kernel.reshape(high, wide, -1, features)  # [H', W', kh kw C, F]
    return jnp.einsum("ijpb,ijpf->ijfb", jnp.concatenate(patches, axis=2), kernels).transpose(3, 0, 1, 2)


class LocallyConnected(nn.Module):
    """y = connect_locally(x, kernel) + bias; parameters `kernel` [H', W', k, k, C, F] and `bias` [H', W', F].

    Each place starts with weights of its own, drawn as those of a convolution. Computes in the dtype of the image.
    """

    features: int
    kernel: int
    stride: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, H, W, C] -> [B, H', W', features]."""
        require_size("LocallyConnected", image, self.kernel)
        high, wide = ((side - self.kernel) // self.stride + 1 for side in image.shape[1:3])
        window = (self.kernel, self.kernel, image.shape[-1], self.features)

        def places(key: Array) -> Array:
            kernels = jax.vmap(lambda own: self.kernel_init(own, window))(jax.random.split(key, high * wide))
            return kernels.reshape(high, wide, *window)  # [H' W', k, k, C, F] -> [H', W', k, k, C, F]

        kernel = self.param("kernel", places)
        bias = self.param("bias", nn.initializers.zeros_init(), (high, wide, self.features))
        return connect_locally(image, kernel.astype(image.dtype), self.stride) + bias.astype(image.dtype)[None]


class LocalNetwork(nn.Module):
    """Two layers of rectifiers with 5x5 windows, each of which halves the sides of its maps; then a linear layer.

    maps: of the first and the second layer
    shared: one set of weights for all places, a convolution; otherwise each place has its own
    pooling: how the sides are halved. "max" and "average" pool 2x2 windows, "none" takes every second unit: a layer of
        stride 2, which does not see up to 3 of the image's outer rows and columns
    head: "dense" has weights for each place of the second maps; "global" for the largest value of each map, wherever it
        is, and so can't tell where a unit was active

    LeCun 1989; with sharing and average pooling the first layers of LeNet (LeCun et al. 1998, section II.B).
    """

    maps: tuple[int, int]
    classes: int
    shared: bool = True
    pooling: str = "max"
    head: str = "dense"
    initialisation: str = "he_normal"

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, H, W, C], at least 16x16 -> logits [B, classes]. Shapes are those of 28x28 images."""
        require_size("LocalNetwork", image, 16)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)
        if self.head not in HEADS:
            raise unknown("head", self.head, HEADS)
        kernel_init = initialiser(self.initialisation)
        layer = Convolution if self.shared else LocallyConnected
        stride = _STRIDE if self.pooling == "none" else 1
        # What is not seen lies on all sides of the image, not only below and to the right.
        hidden = _seen(image) if self.pooling == "none" else image  # [B, 25, 25, C] or [B, 28, 28, C]
        for number, features in enumerate(self.maps, 1):
            name = f"layer_{number}"
            hidden = nn.relu(layer(features, _KERNEL, stride, kernel_init=kernel_init, name=name)(hidden))
            if self.pooling == "max":
                hidden = max_pool(hidden, _STRIDE)
            elif self.pooling == "average":
                hidden = average_pool(hidden, _STRIDE)
        # 28 -> 24 -> 12 -> 8 -> 4 with pooling, 25 -> 11 -> 4 without
        hidden = hidden.max(axis=(1, 2)) if self.head == "global" else hidden.reshape(hidden.shape[0], -1)
        return nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)


def _seen(image: Array) -> Array:
    """The middle of an image [B, H, W, C]: as many pixels as two layers of stride 2 see."""
    reach = _KERNEL + _STRIDE * (_KERNEL - 1)  # of a unit of the second layer: 13
    for axis in (1, 2):
        left = (image.shape[axis] - reach) % _STRIDE**2
        image = jax.lax.slice_in_dim(image, left // 2, image.shape[axis] - (left - left // 2), axis=axis)
    return image
