"""Autoencoders with fully connected layers: one layer for greedy pretraining, or a deep, unrolled one.

Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"; k-sparse units:
Makhzani & Frey 2013, arXiv 1312.5663; tied weights: Vincent et al. 2010, JMLR 11, section 3.1.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError
from jaxdl.models.initialisers import initialiser
from jaxdl.models.units import unit


class Autoencoder(nn.Module):
    """code = f(x), reconstruction = g(code), g mirroring f.

    inputs: values in one example
    widths: units of each encoder layer; the last is the code. The decoder runs through them backwards
    unit, code_unit: activation of the hidden layers and of the code
    tied: decoder layer i uses the transposed weights of encoder layer i (with a bias of its own)
    top_k: keep only the k largest activations of the code, the others are zero; 0 keeps all

    Parameters are named encoder_0, encoder_1, ... and decoder_0 (from the first hidden layer back to the
    input), decoder_1, ...
    """

    inputs: int
    widths: tuple[int, ...]
    unit: str = "sigmoid"
    code_unit: str = "sigmoid"
    tied: bool = False
    top_k: int = 0
    initialisation: str = "glorot_uniform"

    def setup(self) -> None:
        if not 0 <= self.top_k <= self.widths[-1]:
            raise UserError(f"top_k={self.top_k} is not possible: valid is 0 (off) to {self.widths[-1]}, the code size")
        kernel_init = initialiser(self.initialisation)
        sizes = (self.inputs, *self.widths)
        self.encoder = [nn.Dense(width, kernel_init=kernel_init) for width in self.widths]
        if self.tied:
            self.decoder_bias = [
                self.param(f"decoder_bias_{number}", nn.initializers.zeros, (width,), jnp.float32)
                for number, width in enumerate(sizes[:-1])
            ]
        else:
            self.decoder = [nn.Dense(width, kernel_init=kernel_init) for width in sizes[:-1]]

    def __call__(self, image: Array) -> tuple[Array, Array]:
        """image [B, ...] -> code [B, widths[-1]], reconstruction before its output function [B, inputs]."""
        code = self.encode(image)
        return code, self.decode(code)

    def encode(self, image: Array) -> Array:
        """image [B, ...] -> code [B, widths[-1]]."""
        hidden = image.reshape(image.shape[0], -1)  # [B, inputs]
        for layer in self.encoder[:-1]:
            hidden = unit(self.unit)(layer(hidden))
        code = unit(self.code_unit)(self.encoder[-1](hidden))
        return keep_top(code, self.top_k) if self.top_k else code

    def decode(self, code: Array) -> Array:
        """code [B, widths[-1]] -> reconstruction before its output function [B, inputs]."""
        hidden = code
        for number in reversed(range(len(self.widths))):
            if self.tied:
                kernel = self.encoder[number].variables["params"]["kernel"]  # [in, out]
                hidden = hidden @ kernel.T + self.decoder_bias[number][None, :]  # [B, in]
            else:
                hidden = self.decoder[number](hidden)
            if number > 0:
                hidden = unit(self.unit)(hidden)
        return hidden


def keep_top(code: Array, k: int) -> Array:
    """code [B, H] with all but the k largest values of each row set to zero (arXiv 1312.5663, section 2.1).

    Ties at the k-th value are all kept. The gradient flows through the kept values only.
    """
    kth = jax.lax.top_k(jax.lax.stop_gradient(code), k)[0][:, -1:]  # [B, 1]
    return jnp.where(code >= kth, code, jnp.zeros_like(code))
