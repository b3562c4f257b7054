"""Variational autoencoders of images: 4x4 convolutions of stride 2, then a dense layer. Higgins et al. 2017 (ICLR)."""

import math

from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError
from jaxdl.models.initialisers import initialiser
from jaxdl.models.units import unit

_KERNEL, _STRIDE = (4, 4), (2, 2)


class ConvVAE(nn.Module):
    """q(z|x) = N(mean(x), diag(exp(log_variance(x)))), and a decoder of z that mirrors the encoder, as `VAE`.

    shape: height, width and channels of an image
    channels: of each convolution of the encoder; each halves height and width, rounded up (28 -> 14 -> 7 -> 4)
    width: units of the hidden layer between the convolutions and the code; latent: size of z

    Parameters are named encoder_0, ... (the convolutions, then the hidden layer), mean, log_variance, decoder_0 (the
    hidden layer next to z), decoder_1 (from there to the smallest map), ... (transposed convolutions), output.
    """

    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    width: int
    latent: int
    unit: str = "relu"
    initialisation: str = "glorot_uniform"

    def setup(self) -> None:
        if self.latent < 1:
            raise UserError(f"model.latent={self.latent} is not possible: a code has at least 1 value")
        if not self.channels:
            raise UserError("model.channels=() is not possible: there is at least 1 convolution")
        kernel_init = initialiser(self.initialisation)
        *image, depth = self.shape
        sides = [tuple(image)]  # height and width of each map, the image's first
        for _ in self.channels:
            sides.append(tuple(-(-side // 2) for side in sides[-1]))
        self.smallest = (*sides[-1], self.channels[-1])

        def convolution(channels: int, side: tuple[int, ...]) -> nn.Conv:
            """A map with such a height and width -> its half, rounded up: an odd side has a zero more at its end."""
            padding = [(1, 1 + length % 2) for length in side]
            return nn.Conv(channels, _KERNEL, _STRIDE, padding, kernel_init=kernel_init)

        def transposed(channels: int, side: tuple[int, ...]) -> nn.ConvTranspose:
            """The half -> a map with such a height and width: what that convolution would pad is cut off."""
            padding = [(2, 2 - length % 2) for length in side]  # 3 - what is cut off: 3 keeps all
            return nn.ConvTranspose(channels, _KERNEL, _STRIDE, padding, kernel_init=kernel_init)

        def dense(width: int) -> nn.Dense:
            return nn.Dense(width, kernel_init=kernel_init)

        # Of each convolution: channels before and after it, height and width before it.
        steps = list(zip((depth, *self.channels[:-1]), self.channels, sides[:-1], strict=True))
        self.encoder = [*(convolution(after, side) for _, after, side in steps), dense(self.width)]
        self.mean, self.log_variance = dense(self.latent), dense(self.latent)
        *back, last = [transposed(before, side) for before, _, side in reversed(steps)]
        self.decoder = [dense(self.width), dense(math.prod(self.smallest)), *back]
        self.output = last

    def __call__(self, image: Array) -> Array:
        """image [B, ...] -> the decoded mean code [B, inputs]."""
        return self.decode(self.encode(image)[0])

    def encode(self, image: Array) -> tuple[Array, Array]:
        """image [B, ...], flat or not -> mean and log-variance of z, [B, latent] each."""
        hidden = image.reshape(image.shape[0], *self.shape)  # [B, height, width, channels]
        for layer in self.encoder[:-1]:
            hidden = unit(self.unit)(layer(hidden))
        hidden = hidden.reshape(hidden.shape[0], -1)  # [B, height' width' channels']
        hidden = unit(self.unit)(self.encoder[-1](hidden))
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, code: Array) -> Array:
        """code [..., latent] -> logits of Bernoulli variables, or means of Gaussian ones, [..., inputs]."""
        ahead = code.shape[:-1]
        hidden = code
        for layer in self.decoder[:2]:
            hidden = unit(self.unit)(layer(hidden))
        hidden = hidden.reshape(-1, *self.smallest)  # [n, height', width', channels'], n of all leading axes
        for layer in self.decoder[2:]:
            hidden = unit(self.unit)(layer(hidden))
        return self.output(hidden).reshape(*ahead, -1)  # [n, height, width, channels] -> [..., inputs]
