"""Multi-layer perceptron."""

from flax import linen as nn
from jax import Array

from jaxdl.models.dropout import Noise
from jaxdl.models.initialisers import initialiser
from jaxdl.models.units import unit


class MLP(nn.Module):
    """logits = W_n h_{n-1} + b_n, h_i = unit(W_i h_{i-1} + b_i), h_0 = the image as a vector.

    widths: units of each hidden layer; () gives softmax regression. Parameters are named hidden_0, hidden_1,
    ..., output.
    """

    widths: tuple[int, ...]
    classes: int
    unit: str = "sigmoid"
    initialisation: str = "glorot_uniform"

    def __call__(self, image: Array, noise: Noise | None = None) -> Array:
        """image [B, ...] -> logits [B, classes]; noise: see `models.dropout`, None for none."""
        return self.layers(image, noise)[-1]

    @nn.compact
    def layers(self, image: Array, noise: Noise | None = None) -> list[Array]:
        """image [B, ...] -> h_1, h_2, ... [B, width], before noise, and the logits [B, classes]."""
        kernel_init, found = initialiser(self.initialisation), []
        hidden = image.reshape(image.shape[0], -1)  # [B, height * width * channels]
        if noise is not None:
            hidden = noise.on_input(hidden)
        for number, width in enumerate(self.widths):
            product = None if noise is None else noise.product(number)
            layer = nn.Dense(width, kernel_init=kernel_init, dot_general=product, name=f"hidden_{number}")
            hidden = unit(self.unit)(layer(hidden))
            found.append(hidden)
            if noise is not None:
                hidden = noise.on_hidden(hidden, number)
        return [*found, nn.Dense(self.classes, kernel_init=kernel_init, name="output")(hidden)]
