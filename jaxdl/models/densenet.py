"""Densely connected networks. Huang et al. 2017, arXiv 1608.06993.

Layer l of a dense block reads the concatenation of the block's input and the outputs of the block's layers before it
(eq. 2), and adds `growth_rate` maps. Between blocks a transition halves height and width. All are numbered from 1.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError
from jaxdl.models.batch_norm import batch_norm
from jaxdl.models.convolution import Convolution
from jaxdl.models.initialisers import initialiser
from jaxdl.models.limits import require_depth, require_size
from jaxdl.models.pooling import average_pool, max_pool

# depth -> layers of each block, growth rate (table 1; 161 is among the authors' published weights)
BLOCKS = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
}


class CifarDenseNet(nn.Module):
    """Three dense blocks on 32x32 images (section 3, "Implementation Details").

    depth: layers with weights, the paper's L: 3n + 4, n the layers of a block; 6n + 4 with bottlenecks, which are two
    growth_rate: maps that each layer adds, the paper's k
    bottleneck: a 1x1 convolution to 4k maps before each 3x3 one (DenseNet-B)
    compression: the share of its maps that a transition keeps, the paper's theta; below 1 is DenseNet-C

    Raises UserError for another depth, and for a compression outside ]0, 1].
    """

    depth: int
    growth_rate: int
    classes: int
    bottleneck: bool = True
    compression: float = 0.5
    initialisation: str = "he_normal"

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """image [B, H, W, C], at least 4x4 -> logits [B, classes]. Shapes are those of 32x32 images."""
        each = 6 if self.bottleneck else 3
        layers = max(1, round((self.depth - 4) / each))
        if self.depth != each * layers + 4:
            kind = "with bottlenecks" if self.bottleneck else "without bottlenecks"
            raise UserError(
                f"depth={self.depth} is not possible: CifarDenseNet {kind} has {each}n + 4 layers; "
                f"nearest: {each * layers + 4}"
            )
        if not 0 < self.compression <= 1:
            raise UserError(f"compression={self.compression} is not possible: valid is above 0 to 1 (no compression)")
        require_size("CifarDenseNet", image, 4)
        kernel_init = initialiser(self.initialisation)
        both = self.bottleneck and self.compression < 1  # DenseNet-BC
        first = 2 * self.growth_rate if both else 16
        hidden = Convolution(first, 3, padding=1, use_bias=False, kernel_init=kernel_init, name="convolution")(image)
        for block in (1, 2, 3):
            hidden = _dense_block(self, hidden, block, layers, self.growth_rate, self.bottleneck, train)
            if block < 3:
                hidden = _transition(self, hidden, block, self.compression, train)
            # [B, 16, 16, C], [B, 8, 8, C'], [B, 8, 8, C'']
        return _output(self, hidden, train)


class DenseNet(nn.Module):
    """The networks for ImageNet, 121, 161, 169 or 201 layers, all with bottlenecks and a compression of 0.5 (table 1).

    With 1,000 classes and colour images: 7,978,856, 28,681,000, 14,149,480 and 20,013,928 parameters.

    Raises UserError for another depth.
    """

    depth: int
    classes: int
    initialisation: str = "he_normal"

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """image [B, H, W, C], at least 29x29 -> logits [B, classes]. Shapes are those of 224x224 images."""
        require_depth("DenseNet", self.depth, BLOCKS)
        require_size("DenseNet", image, 29)
        layers, growth_rate = BLOCKS[self.depth]
        convolution = Convolution(
            2 * growth_rate, 7, 2, 3, use_bias=False, kernel_init=initialiser(self.initialisation), name="convolution"
        )
        hidden = nn.relu(batch_norm(convolution(image), train, "batch_norm"))  # [B, 112, 112, 2k]
        hidden = max_pool(hidden, 3, 2, padding=1)  # [B, 56, 56, 2k]
        for block in (1, 2, 3, 4):
            hidden = _dense_block(self, hidden, block, layers[block - 1], growth_rate, True, train)
            if block < 4:
                hidden = _transition(self, hidden, block, 0.5, train)
            # [B, 28, 28, C], [B, 14, 14, C'], [B, 7, 7, C''], [B, 7, 7, C''']
        return _output(self, hidden, train)


class DenseLayer(nn.Module):
    """The k maps that a layer adds: BN-ReLU-conv 3x3, after BN-ReLU-conv 1x1 to 4k maps where it has a bottleneck."""

    growth_rate: int
    bottleneck: bool
    initialisation: str

    @nn.compact
    def __call__(self, maps: Array, train: bool) -> Array:
        """[B, H, W, C] -> [B, H, W, k]."""
        settings = dict(use_bias=False, kernel_init=initialiser(self.initialisation))
        if self.bottleneck:
            maps = nn.relu(batch_norm(maps, train, "bottleneck_batch_norm"))
            maps = Convolution(4 * self.growth_rate, 1, name="bottleneck_convolution", **settings)(maps)
        maps = nn.relu(batch_norm(maps, train, "batch_norm"))
        return Convolution(self.growth_rate, 3, padding=1, name="convolution", **settings)(maps)


def _dense_block(
    network: CifarDenseNet | DenseNet,
    maps: Array,
    block: int,
    layers: int,
    growth_rate: int,
    bottleneck: bool,
    train: bool,
) -> Array:
    """[B, H, W, C] -> [B, H, W, C + layers k]."""
    for layer in range(1, layers + 1):
        name = f"block_{block}_layer_{layer}"
        added = DenseLayer(growth_rate, bottleneck, network.initialisation, name=name)(maps, train)
        maps = jnp.concatenate([maps, added], axis=-1)
    return maps


def _transition(network: CifarDenseNet | DenseNet, maps: Array, block: int, compression: float, train: bool) -> Array:
    """BN-ReLU-conv 1x1 and 2x2 average pooling, [B, H, W, C] -> [B, H / 2, W / 2, floor(compression C)]."""
    features = int(compression * maps.shape[-1])
    if features == 0:
        raise UserError(f"compression={compression} is not possible: it keeps none of {maps.shape[-1]} maps")
    convolution = Convolution(
        features,
        1,
        use_bias=False,
        kernel_init=initialiser(network.initialisation),
        name=f"transition_{block}_convolution",
    )
    maps = nn.relu(batch_norm(maps, train, f"transition_{block}_batch_norm"))
    return average_pool(convolution(maps), 2)


def _output(network: CifarDenseNet | DenseNet, maps: Array, train: bool) -> Array:
    """BN-ReLU, the mean of each map, and the linear layer: [B, H, W, C] -> logits [B, classes]."""
    maps = nn.relu(batch_norm(maps, train, "output_batch_norm"))
    kernel_init = initialiser(network.initialisation)
    return nn.Dense(network.classes, kernel_init=kernel_init, name="output")(maps.mean(axis=(1, 2)))
