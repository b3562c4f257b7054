"""Multi-layer perceptron."""

from flax import linen as nn
from jax import Array

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

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, ...] -> logits [B, classes]."""
        hidden = image.reshape(image.shape[0], -1)  # [B, height * width * channels]
        for number, width in enumerate(self.widths):
            layer = nn.Dense(width, kernel_init=initialiser(self.initialisation), name=f"hidden_{number}")
            hidden = unit(self.unit)(layer(hidden))
        return nn.Dense(self.classes, kernel_init=initialiser(self.initialisation), name="output")(hidden)
