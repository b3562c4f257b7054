"""log p(x) by importance sampling, in chunks. Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519, equation 8."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.errors import UserError

MOST = 1_000_000  # samples: 200 times as many as papers take; int32 counts them


def log_likelihood(
    log_weights: Callable[[Array, int], Array], size: int, key: Array, samples: int, chunk: int = 50
) -> Array:
    """log (1/k) sum_j w_j  with k = `samples` draws, in nats: [B], B = `size`.

    With E[w] = p(x) a lower bound of log p(x) in expectation, the tighter the larger k is: of weights p(x, z) / q(z|x)
    1 gives the ELBO, and 5,000 what papers call the log-likelihood. `chunk` draws at a time are in memory, whatever k
    is: the sum goes on in log space. What is left of k after whole chunks is drawn and not counted.

    log_weights: (key, K) -> log w of K draws, [K, B]
    """
    chunk = min(chunk, samples)

    def add(total: Array, number: Array) -> tuple[Array, None]:
        weights = log_weights(jax.random.fold_in(key, number), chunk)
        counted = (number * chunk + jnp.arange(chunk))[:, None] < samples  # [K, 1]
        return jnp.logaddexp(total, jax.nn.logsumexp(jnp.where(counted, weights, -jnp.inf), axis=0)), None

    total, _ = jax.lax.scan(add, jnp.full(size, -jnp.inf), jnp.arange(-(-samples // chunk)))
    return total - jnp.log(jnp.float32(samples))


def check_samples(name: str, samples: int) -> None:
    """UserError for a number of samples, of the setting `name`, that `log_likelihood` can't take."""
    if not 1 <= samples <= MOST:
        raise UserError(f"{name}={samples} is not possible: valid is 1 to {MOST}")
