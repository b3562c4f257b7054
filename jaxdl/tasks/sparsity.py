"""The penalty on units that are active too often. Ng, "Sparse autoencoder" (CS294A lecture notes, 2011)."""

import jax
import jax.numpy as jnp
from jax import Array


def sparsity(activation: Array, weight: Array, target: Array) -> Array:
    """`kl_sparsity`, or 0 without computing it where weight is 0. activation: mean of each unit over a batch, [H]."""
    return jax.lax.cond(
        weight > 0, lambda mean: kl_sparsity(mean, target), lambda mean: jnp.zeros((), mean.dtype), activation
    )


def kl_sparsity(activation: Array, target: Array) -> Array:
    """sum_j rho log(rho / a_j) + (1 - rho) log((1 - rho) / (1 - a_j)): activation a [H] in (0, 1), target rho.

    Within 1e-6 of 0 or 1, where it is infinite, value and slope are those at that distance: finite, and still
    drawing a dead or saturated unit back.
    """
    kept_away = jnp.clip(activation, 1e-6, 1 - 1e-6)
    mean = activation + jax.lax.stop_gradient(kept_away - activation)
    return (target * (jnp.log(target) - jnp.log(mean)) + (1 - target) * (jnp.log1p(-target) - jnp.log1p(-mean))).sum()
