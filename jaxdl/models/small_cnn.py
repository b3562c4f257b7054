"""Two small convolutional networks that tutorials train on 28x28 digits."""

from flax import linen as nn
from jax import Array

from jaxdl.models.batch_norm import batch_norm
from jaxdl.models.convolution import Convolution
from jaxdl.models.initialisers import initialiser
from jaxdl.models.limits import require_size
from jaxdl.models.pooling import max_pool


class KerasCNN(nn.Module):
    """The first convolutional network of Chollet 2017, "Deep Learning with Python", listings 5.1 and 5.2.

    93,322 parameters for 28x28 grey images and 10 classes. Convolutions are 3x3 without padding.
    """

    classes: int
    initialisation: str = "glorot_uniform"

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, H, W, C], at least 18x18 -> logits [B, classes]. Shapes are those of 28x28 images."""
        require_size("KerasCNN", image, 18)
        kernel_init = initialiser(self.initialisation)
        hidden = nn.relu(Convolution(32, 3, kernel_init=kernel_init, name="convolution_1")(image))  # [B, 26, 26, 32]
        hidden = max_pool(hidden, 2)  # [B, 13, 13, 32]
        hidden = nn.relu(Convolution(64, 3, kernel_init=kernel_init, name="convolution_2")(hidden))  # [B, 11, 11, 64]
        hidden = max_pool(hidden, 2)  # [B, 5, 5, 64]
        hidden = nn.relu(Convolution(64, 3, kernel_init=kernel_init, name="convolution_3")(hidden))  # [B, 3, 3, 64]
        hidden = hidden.reshape(hidden.shape[0], -1)  # [B, 3 * 3 * 64]
        hidden = nn.relu(nn.Dense(64, kernel_init=kernel_init, name="hidden")(hidden))  # [B, 64]
        return nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)


class DigitsCNN(nn.Module):
    """Three blocks of a padded 3x3 convolution, batch norm and ReLU: 8, 16 and 32 maps, pooled between them.

    MathWorks, "Create Simple Deep Learning Neural Network for Classification". 21,690 parameters for 28x28 grey images
    and 10 classes.
    """

    classes: int
    initialisation: str = "glorot_uniform"

    @nn.compact
    def __call__(self, image: Array, train: bool) -> Array:
        """image [B, H, W, C], at least 4x4 -> logits [B, classes]. Shapes are those of 28x28 images."""
        require_size("DigitsCNN", image, 4)
        kernel_init = initialiser(self.initialisation)

        def block(maps: Array, features: int, number: int) -> Array:
            maps = Convolution(features, 3, padding=1, kernel_init=kernel_init, name=f"convolution_{number}")(maps)
            return nn.relu(batch_norm(maps, train, f"batch_norm_{number}"))

        hidden = block(image, 8, 1)  # [B, 28, 28, 8]
        hidden = max_pool(hidden, 2)  # [B, 14, 14, 8]
        hidden = block(hidden, 16, 2)  # [B, 14, 14, 16]
        hidden = max_pool(hidden, 2)  # [B, 7, 7, 16]
        hidden = block(hidden, 32, 3)  # [B, 7, 7, 32]
        hidden = hidden.reshape(hidden.shape[0], -1)  # [B, 7 * 7 * 32]
        return nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)
