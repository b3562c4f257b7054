"""LeNet-5. LeCun, Bottou, Bengio & Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", fig. 2."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError
from jaxdl.models.convolution import Convolution
from jaxdl.models.initialisers import initialiser
from jaxdl.models.limits import require_size
from jaxdl.models.pooling import average_pool


class LeNet5(nn.Module):
    """The paper's layers with its names, 61,706 parameters for one channel and 10 classes.

    Differences from the paper, those that everybody means by the name: C3 sees all maps of S2 (the paper's table I
    leaves some out), S2 and S4 have no weights of their own, tanh is not scaled, and the output is linear instead of
    radial basis functions.
    """

    classes: int
    initialisation: str = "glorot_uniform"

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, 32, 32, C], or [B, 28, 28, C] which gets a frame of 2 zeros -> logits [B, classes]."""
        require_size("LeNet-5", image, 28)
        if image.shape[1:3] == (28, 28):
            image = jnp.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)))
        if image.shape[1:3] != (32, 32):
            raise UserError(f"LeNet-5 can't take images of {image.shape[1]}x{image.shape[2]}: they are 28x28 or 32x32")
        kernel_init = initialiser(self.initialisation)
        hidden = nn.tanh(Convolution(6, 5, kernel_init=kernel_init, name="C1")(image))  # [B, 28, 28, 6]
        hidden = average_pool(hidden, 2)  # S2: [B, 14, 14, 6]
        hidden = nn.tanh(Convolution(16, 5, kernel_init=kernel_init, name="C3")(hidden))  # [B, 10, 10, 16]
        hidden = average_pool(hidden, 2)  # S4: [B, 5, 5, 16]
        hidden = nn.tanh(Convolution(120, 5, kernel_init=kernel_init, name="C5")(hidden))  # [B, 1, 1, 120]
        hidden = hidden.reshape(hidden.shape[0], -1)  # [B, 120]
        hidden = nn.tanh(nn.Dense(84, kernel_init=kernel_init, name="F6")(hidden))  # [B, 84]
        return nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)
