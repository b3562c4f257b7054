"""Variational autoencoders with a Gaussian code. Kingma & Welling 2014, arXiv 1312.6114, appendix C."""

from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError
from jaxdl.models.initialisers import initialiser
from jaxdl.models.units import unit


class VAE(nn.Module):
    """q(z|x) = N(mean(x), diag(exp(log_variance(x)))), and a decoder of z that mirrors the encoder.

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
        self.encoder = [nn.Dense(width, kernel_init=kernel_init) for width in self.widths]
        self.mean = nn.Dense(self.latent, kernel_init=kernel_init)
        self.log_variance = nn.Dense(self.latent, kernel_init=kernel_init)
        self.decoder = [nn.Dense(width, kernel_init=kernel_init) for width in reversed(self.widths)]
        self.output = nn.Dense(self.inputs, kernel_init=kernel_init)

    def __call__(self, image: Array) -> Array:
        """image [B, ...] -> the decoded mean code [B, inputs]."""
        return self.decode(self.encode(image)[0])

    def encode(self, image: Array) -> tuple[Array, Array]:
        """image [B, ...] -> mean and log-variance of z, [B, latent] each."""
        hidden = image.reshape(image.shape[0], -1)  # [B, inputs]
        for layer in self.encoder:
            hidden = unit(self.unit)(layer(hidden))
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, code: Array) -> Array:
        """code [..., latent] -> logits of Bernoulli variables, or means of Gaussian ones, [..., inputs]."""
        hidden = code
        for layer in self.decoder:
            hidden = unit(self.unit)(layer(hidden))
        return self.output(hidden)
