"""Log-densities and divergences in closed form, in nats; the last axis is summed."""

import jax
import jax.numpy as jnp
from jax import Array

LOG_2_PI = 1.8378770664093453


def log_normal(value: Array, mean: Array, log_variance: Array) -> Array:
    """log N(value; mean, diag(exp(log_variance))): [..., D] -> [...]."""
    squares = jnp.square(value - mean) * jnp.exp(-log_variance)
    return -0.5 * (squares + log_variance + LOG_2_PI).sum(axis=-1)


def log_bernoulli(value: Array, logits: Array) -> Array:
    """sum_d x_d log p_d + (1 - x_d) log(1 - p_d), p = sigmoid(logits), for x in [0, 1]: [..., D] -> [...]."""
    return (value * logits - jax.nn.softplus(logits)).sum(axis=-1)


def kl_to_standard_normal(mean: Array, log_variance: Array) -> Array:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each unit, [..., D], not summed. arXiv 1312.6114, appendix B."""
    return 0.5 * (jnp.exp(log_variance) + jnp.square(mean) - 1.0 - log_variance)
