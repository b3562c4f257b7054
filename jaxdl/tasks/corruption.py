"""Corruption processes of denoising autoencoders. Vincent et al. 2010, JMLR 11, section 4.1.

All strengths are traced and zero by default. A strength of zero skips its random bits: `lax.cond` runs one
branch when a program trains one run at a time.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl import batch as batches


def corrupt(image: Array, position: Array, key: Array, masking: Array, gaussian: Array, salt_pepper: Array) -> Array:
    """A corrupted copy of image [B, D].

    masking: the share of values set to 0
    gaussian: standard deviation of additive isotropic noise
    salt_pepper: the share of values set to 0 or 1, by a fair coin
    position: uint32 [B], places in the whole batch; an example's noise depends on (key, its position) only
    """
    shape = image.shape[1:]

    def masked(values: Array) -> Array:
        return jnp.where(below(masking, 0), jnp.zeros_like(values), values)

    def noisy(values: Array) -> Array:
        return values + gaussian * batches.normal(jax.random.fold_in(key, 1), position, shape)

    def salted(values: Array) -> Array:
        bits = batches.uniform_bits(jax.random.fold_in(key, 2), position, shape).astype(jnp.float32)
        zeroed = jnp.where(bits < salt_pepper * 32768.0, jnp.zeros_like(values), values)
        return jnp.where((bits >= salt_pepper * 32768.0) & (bits < salt_pepper * 65536.0), 1.0, zeroed)

    def below(share: Array, stream: int) -> Array:
        bits = batches.uniform_bits(jax.random.fold_in(key, stream), position, shape)
        return bits.astype(jnp.float32) < share * 65536.0

    for strength, apply in ((masking, masked), (gaussian, noisy), (salt_pepper, salted)):
        image = jax.lax.cond(strength > 0, apply, lambda values: values, image)
    return image
