"""Variational autoencoders: an encoder of code terms, and a decoder that mirrors it.

Gaussian codes: Kingma & Welling 2014, arXiv 1312.6114, appendix C. Categorical ones: Jang et al. 2017, 1611.01144.
"""

from collections.abc import Sequence

from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.errors import UserError
from jaxdl.models.initialisers import initialiser
from jaxdl.models.units import unit


class VAE(nn.Module):
    """q(z|x) = N(mean(x), diag(exp(log_variance(x)))), and a decoder of z.

    inputs: values in one example; widths: units of each hidden layer of the encoder; latent: size of z

    Parameters are named encoder_0, ..., mean, log_variance, decoder_0 (next to z), ..., output.
    """

    inputs: int
    widths: tuple[int, ...]
    latent: int
    unit: str = "tanh"
    initialisation: str = "glorot_uniform"

    def setup(self) -> None:
        if self.latent < 1:
            raise UserError(f"model.latent={self.latent} is not possible: a code has at least 1 value")
        kernel_init = initialiser(self.initialisation)
        self.encoder = _layers(self.widths, kernel_init)
        self.mean = nn.Dense(self.latent, kernel_init=kernel_init)
        self.log_variance = nn.Dense(self.latent, kernel_init=kernel_init)
        self.decoder = _layers(self.widths[::-1], kernel_init)
        self.output = nn.Dense(self.inputs, kernel_init=kernel_init)

    def __call__(self, image: Array) -> Array:
        """image [B, ...] -> the decoded mean code [B, inputs]."""
        return self.decode(self.encode(image)[0])

    def encode(self, image: Array) -> tuple[Array, Array]:
        """image [B, ...] -> mean and log-variance of z, [B, latent] each."""
        hidden = _through(self.encoder, self.unit, image.reshape(image.shape[0], -1))  # [B, inputs] -> [B, width]
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, code: Array) -> Array:
        """code [..., latent] -> logits of Bernoulli variables, or means of Gaussian ones, [..., inputs]."""
        return self.output(_through(self.decoder, self.unit, code))


class CategoricalVAE(nn.Module):
    """q(z|x) is a categorical distribution for each of `latent` units, of `classes` classes; z is one-hot.

    inputs, widths, unit, initialisation: as in VAE. Parameters: encoder_0, ..., logits, decoder_0, ..., output.
    """

    inputs: int
    widths: tuple[int, ...]
    latent: int
    classes: int
    unit: str = "tanh"
    initialisation: str = "glorot_uniform"

    def setup(self) -> None:
        if self.latent < 1 or self.classes < 2:
            raise UserError(
                f"{self.latent} units of {self.classes} classes are not possible: a categorical code has at least 1 "
                "unit of 2 classes"
            )
        kernel_init = initialiser(self.initialisation)
        self.encoder = _layers(self.widths, kernel_init)
        self.logits = nn.Dense(self.latent * self.classes, kernel_init=kernel_init)
        self.decoder = _layers(self.widths[::-1], kernel_init)
        self.output = nn.Dense(self.inputs, kernel_init=kernel_init)

    def __call__(self, image: Array) -> Array:
        """image [B, ...] -> the decoded probabilities of the code [B, inputs]."""
        (logits,) = self.encode(image)
        return self.decode(nn.softmax(logits).reshape(image.shape[0], -1))  # [B, latent, classes] -> [B, Z]

    def encode(self, image: Array) -> tuple[Array]:
        """image [B, ...] -> logits of the classes of each unit, [B, latent, classes]."""
        hidden = _through(self.encoder, self.unit, image.reshape(image.shape[0], -1))
        return (self.logits(hidden).reshape(image.shape[0], self.latent, self.classes),)

    def decode(self, code: Array) -> Array:
        """code [..., latent * classes] -> [..., inputs], as VAE's."""
        return self.output(_through(self.decoder, self.unit, code))


def _layers(widths: Sequence[int], kernel_init: Initializer) -> list[nn.Dense]:
    return [nn.Dense(width, kernel_init=kernel_init) for width in widths]


def _through(layers: Sequence[nn.Dense], name: str, hidden: Array) -> Array:
    for layer in layers:
        hidden = unit(name)(layer(hidden))
    return hidden
