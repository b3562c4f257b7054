"""The importance-weighted bound on log p(x). Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519, equation 8."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl import batch as batches
from jaxdl.tasks.densities import log_normal


def log_likelihood(
    encode: Callable[[Array], tuple[Array, Array]],
    log_decoded: Callable[[Array, Array], Array],
    image: Array,
    position: Array,
    key: Array,
    samples: int,
    chunk: int = 50,
) -> Array:
    """log (1/k) sum_j p(x, z_j) / q(z_j|x) with k `samples` of z from q(z|x), in nats: [B].

    A lower bound of log p(x) in expectation, and the tighter the larger k is: 1 is the ELBO, 5,000 is what papers call
    the log-likelihood. `chunk` samples at a time are in memory, whatever k is: the sum goes on in log space. What is
    left of k after whole chunks is drawn and not counted.

    encode: image [B, D] -> mean, log_variance [B, Z] of q(z|x); log_decoded: image, z [K, B, Z] -> log p(x|z) [K, B]
    position: uint32 [B], places in the whole split; an example's samples depend on (key, its position) only
    """
    mean, log_variance = encode(image)
    chunk = min(chunk, samples)

    def add(total: Array, number: Array) -> tuple[Array, None]:
        shape = (chunk, mean.shape[-1])
        noise = batches.normal(jax.random.fold_in(key, number), position, shape)  # [B, K, Z]
        code = mean[None, :, :] + jnp.exp(0.5 * log_variance)[None, :, :] * jnp.moveaxis(noise, 1, 0)
        prior = log_normal(code, jnp.float32(0), jnp.float32(0))
        weight = log_decoded(image, code) + prior - log_normal(code, mean[None, :, :], log_variance[None, :, :])
        counted = (number * chunk + jnp.arange(chunk))[:, None] < samples  # [K, 1]
        weight = jnp.where(counted, weight, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(weight, axis=0)), None

    start = jnp.full(image.shape[0], -jnp.inf)
    total, _ = jax.lax.scan(add, start, jnp.arange(-(-samples // chunk)))
    return total - jnp.log(jnp.float32(samples))
