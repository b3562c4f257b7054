"""Residual networks, and the plain ones they are compared with. He et al. 2016, arXiv 1512.03385.

The layers are named as in the paper's table 1: conv1, then conv2_1, conv2_2, ... are the blocks of conv2_x.

shortcut: what a block adds before its last ReLU. It is the block's input where the shapes agree; where they do not,
    "A": every stride-th pixel of it, with zeros for the channels that it lacks; no parameters
    "B": a 1x1 convolution of it, and batch norm
    "none": nothing is ever added: the plain network
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError, unknown
from jaxdl.models.batch_norm import batch_norm
from jaxdl.models.convolution import Convolution
from jaxdl.models.initialisers import initialiser
from jaxdl.models.limits import require_depth, require_size
from jaxdl.models.pooling import max_pool

SHORTCUTS = ("A", "B", "none")

# depth -> blocks in conv2_x to conv5_x (table 1)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK_FROM = 50  # layers; shallower networks are of basic blocks


class CifarResNet(nn.Module):
    """6n + 2 layers: a convolution, n basic blocks each of 16, 32 and 64 maps, and the output (section 4.2).

    With 10 classes, colour images and option A: .27, .46, .66, .85, 1.7 and 19.4 million parameters for 20, 32, 44, 56,
    110 and 1,202 layers.

    Raises UserError for a depth that is not 6n + 2.
    """

    depth: int
    classes: int
    shortcut: str = "A"
    initialisation: str = "he_normal"

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """image [B, H, W, C] of any size -> logits [B, classes]. Shapes are those of 32x32 images."""
        n = max(1, round((self.depth - 2) / 6))
        if self.depth != 6 * n + 2:
            raise UserError(f"depth={self.depth} is not possible: CifarResNet has 6n + 2 layers; nearest: {6 * n + 2}")
        require_size("CifarResNet", image, 1)
        kernel_init = initialiser(self.initialisation)
        hidden = Convolution(16, 3, padding=1, use_bias=False, kernel_init=kernel_init, name="conv1")(image)
        hidden = nn.relu(batch_norm(hidden, train, "batch_norm"))  # [B, 32, 32, 16]
        for stage, features in enumerate((16, 32, 64), start=2):
            for number in range(1, n + 1):
                stride = 2 if stage > 2 and number == 1 else 1
                name = f"conv{stage}_{number}"
                hidden = BasicBlock(features, stride, self.shortcut, self.initialisation, name=name)(hidden, train)
            # [B, 32, 32, 16], [B, 16, 16, 32], [B, 8, 8, 64]
        hidden = hidden.mean(axis=(1, 2))  # [B, 64]
        return nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)


class ResNet(nn.Module):
    """The networks for ImageNet: 18 or 34 layers in basic blocks; 50, 101 or 152 in bottlenecks (table 1).

    With 1,000 classes, colour images and option B: 11,689,512, 21,797,672, 25,557,032, 44,549,160 and 60,192,808
    parameters.

    stride_in_3x3: a bottleneck that halves its maps does so in its 3x3 convolution, as torchvision's networks and their
        published weights, and not in its first 1x1 one, as the paper's

    Raises UserError for another depth.
    """

    depth: int
    classes: int
    shortcut: str = "B"
    stride_in_3x3: bool = False
    initialisation: str = "he_normal"

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """image [B, H, W, C] of any size -> logits [B, classes]. Shapes are those of 224x224 images."""
        require_depth("ResNet", self.depth, BLOCKS)
        require_size("ResNet", image, 1)
        kernel_init = initialiser(self.initialisation)
        hidden = Convolution(64, 7, 2, padding=3, use_bias=False, kernel_init=kernel_init, name="conv1")(image)
        hidden = nn.relu(batch_norm(hidden, train, "batch_norm"))  # [B, 112, 112, 64]
        hidden = max_pool(hidden, 3, 2, padding=1)  # [B, 56, 56, 64]
        for stage, (features, blocks) in enumerate(zip((64, 128, 256, 512), BLOCKS[self.depth], strict=True), start=2):
            for number in range(1, blocks + 1):
                stride = 2 if stage > 2 and number == 1 else 1
                settings = dict(
                    shortcut=self.shortcut, initialisation=self.initialisation, name=f"conv{stage}_{number}"
                )
                if self.depth < BOTTLENECK_FROM:
                    block = BasicBlock(features, stride, **settings)
                else:
                    block = Bottleneck(features, stride, stride_in_3x3=self.stride_in_3x3, **settings)
                hidden = block(hidden, train)
            # [B, 56, 56, F], [B, 28, 28, 2F], [B, 14, 14, 4F], [B, 7, 7, 8F]; F = 64, or 256 of bottlenecks
        hidden = hidden.mean(axis=(1, 2))  # [B, 8F]
        return nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + F(x)), F two 3x3 convolutions with `features` maps (fig. 5, left)."""

    features: int
    stride: int
    shortcut: str
    initialisation: str

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, features], rounded up."""
        settings = dict(padding=1, use_bias=False, kernel_init=initialiser(self.initialisation))
        hidden = Convolution(self.features, 3, self.stride, name="convolution_1", **settings)(image)
        hidden = nn.relu(batch_norm(hidden, train, "batch_norm_1"))
        hidden = Convolution(self.features, 3, name="convolution_2", **settings)(hidden)
        hidden = batch_norm(hidden, train, "batch_norm_2")
        return nn.relu(_add_shortcut(self, image, hidden, train))


class Bottleneck(nn.Module):
    """relu(shortcut(x) + F(x)), F convolutions of 1x1, 3x3 and 1x1: features, features, 4 features (fig. 5, right)."""

    features: int
    stride: int
    shortcut: str
    initialisation: str
    stride_in_3x3: bool

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, 4 features], rounded up."""
        strides = (1, self.stride) if self.stride_in_3x3 else (self.stride, 1)
        settings = dict(use_bias=False, kernel_init=initialiser(self.initialisation))
        hidden = Convolution(self.features, 1, strides[0], name="convolution_1", **settings)(image)
        hidden = nn.relu(batch_norm(hidden, train, "batch_norm_1"))
        hidden = Convolution(self.features, 3, strides[1], padding=1, name="convolution_2", **settings)(hidden)
        hidden = nn.relu(batch_norm(hidden, train, "batch_norm_2"))
        hidden = Convolution(4 * self.features, 1, name="convolution_3", **settings)(hidden)
        hidden = batch_norm(hidden, train, "batch_norm_3")
        return nn.relu(_add_shortcut(self, image, hidden, train))


def _add_shortcut(block: BasicBlock | Bottleneck, image: Array, hidden: Array, train: bool) -> Array:
    """What the block's shortcut makes of its input [B, H, W, C], plus hidden [B, H', W', F]. Layers are the block's."""
    if block.shortcut not in SHORTCUTS:
        raise unknown("shortcut", block.shortcut, SHORTCUTS)
    if block.shortcut == "none":
        return hidden
    features, stride = hidden.shape[-1], block.stride
    if stride == 1 and image.shape[-1] == features:
        return image + hidden
    if block.shortcut == "A":
        image = image[:, ::stride, ::stride, :]  # [B, H', W', C]
        return jnp.pad(image, ((0, 0), (0, 0), (0, 0), (0, features - image.shape[-1]))) + hidden
    kernel_init = initialiser(block.initialisation)
    image = Convolution(features, 1, stride, use_bias=False, kernel_init=kernel_init, name="projection")(image)
    return batch_norm(image, train, "projection_batch_norm") + hidden
