"""Families of codes: the encoder's q(z|x), the prior p(z), and how a draw of z passes a gradient on.

Gaussian codes: Kingma & Welling 2014, arXiv 1312.6114. Categorical ones: Jang et al. 2017, arXiv 1611.01144.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl import batch as batches
from jaxdl.tasks.densities import kl_to_standard_normal, log_normal
from jaxdl.tasks.task import Run

Terms = tuple[Array, ...]  # what an encoder says of each image
# (terms, run, key, position uint32 [B], K) -> codes [K, B, Z]; an image's draws depend on (key, its position) only
Draw = Callable[[Terms, Run, Array, Array, int], Array]


# The score function needs nothing of a family but log q(z|x): without a baseline, less a running mean of log p(x|z), or
# less the mean of an image's other draws.
SCORES = ("score", "score_running_mean", "score_leave_one_out")


class Posterior(NamedTuple):
    """A family of q(z|x) with its prior.

    draw: codes as the model has them, without a gradient to speak of
    reparameterised: {estimator: draw whose gradient is that of the code by the terms}
    log_density: codes [K, B, Z], terms -> log q(z|x) [K, B]; log_prior: codes [K, B, Z] -> log p(z) [K, B]
    divergence: terms -> KL(q(z|x) || p(z)) of each unit, [B, units], in closed form
    centre: terms -> the code that stands for an image when none is drawn, [B, Z]
    """

    draw: Draw
    reparameterised: dict[str, Draw]
    log_density: Callable[[Array, Terms], Array]
    log_prior: Callable[[Array], Array]
    divergence: Callable[[Terms], Array]
    centre: Callable[[Terms], Array]


def _gaussian_draw(terms: Terms, run: Run, key: Array, position: Array, count: int) -> Array:
    """mean + noise * deviation * epsilon, epsilon ~ N(0, 1)."""
    mean, log_variance = terms  # [B, Z] each
    epsilon = batches.normal(key, position, (count, mean.shape[-1]))  # [B, K, Z]
    deviation = jnp.exp(0.5 * log_variance)[None, :, :]
    return mean[None, :, :] + run["hyper"]["noise"] * deviation * jnp.moveaxis(epsilon, 1, 0)


GAUSSIAN = Posterior(
    draw=_gaussian_draw,
    reparameterised={"pathwise": _gaussian_draw},
    log_density=lambda code, terms: log_normal(code, terms[0][None, :, :], terms[1][None, :, :]),
    log_prior=lambda code: log_normal(code, jnp.float32(0), jnp.float32(0)),
    divergence=lambda terms: kl_to_standard_normal(*terms),
    centre=lambda terms: terms[0],
)


def categorical(classes: int) -> Posterior:
    """Codes of U units of C = `classes` classes each, one-hot: Z = U C. The prior is uniform.

    terms: (logits [B, U, C],). The relaxed draws follow Jang et al. 2017: softmax((logits + Gumbel noise) / t) with the
    traced temperature t = hyper.temperature; straight_through is one-hot on the way forward and that on the way back.
    """

    def gumbel(logits: Array, key: Array, position: Array, count: int) -> Array:
        """logits + Gumbel(0, 1) noise: [K, B, U, C]; its argmax has the distribution of the logits."""
        shape = (count, *logits.shape[1:])
        noise = jax.vmap(lambda place: jax.random.gumbel(jax.random.fold_in(key, place), shape))(position)
        return logits[None, :, :, :] + jnp.moveaxis(noise, 1, 0)

    def flat(code: Array) -> Array:
        return code.reshape(*code.shape[:-2], -1)  # [..., U, C] -> [..., U C]

    def one_hot(logits: Array) -> Array:
        return jax.nn.one_hot(jnp.argmax(logits, axis=-1), classes, dtype=logits.dtype)

    def draw(terms: Terms, run: Run, key: Array, position: Array, count: int) -> Array:
        return flat(one_hot(gumbel(*terms, key, position, count)))

    def relaxed(terms: Terms, run: Run, key: Array, position: Array, count: int) -> Array:
        return flat(jax.nn.softmax(gumbel(*terms, key, position, count) / run["hyper"]["temperature"]))

    def straight_through(terms: Terms, run: Run, key: Array, position: Array, count: int) -> Array:
        noisy = gumbel(*terms, key, position, count)
        soft = jax.nn.softmax(noisy / run["hyper"]["temperature"])
        return flat(one_hot(noisy) + soft - jax.lax.stop_gradient(soft))

    def log_density(code: Array, terms: Terms) -> Array:
        chosen = code.reshape(*code.shape[:-1], -1, classes)  # [K, B, U C] -> [K, B, U, C]
        return (chosen * jax.nn.log_softmax(terms[0])[None, :, :, :]).sum(axis=(-2, -1))

    def log_prior(code: Array) -> Array:
        units = code.shape[-1] // classes
        return jnp.full(code.shape[:-1], -units * jnp.log(jnp.float32(classes)))

    def divergence(terms: Terms) -> Array:
        log_probability = jax.nn.log_softmax(terms[0])
        return (jnp.exp(log_probability) * (log_probability + jnp.log(jnp.float32(classes)))).sum(axis=-1)

    return Posterior(
        draw,
        {"gumbel_softmax": relaxed, "straight_through": straight_through},
        log_density,
        log_prior,
        divergence,
        lambda terms: flat(one_hot(terms[0])),
    )


def estimators(posterior: Posterior) -> tuple[str, ...]:
    """The names of the gradient estimators that a family offers: its own, and the score function's."""
    return (*posterior.reparameterised, *SCORES)
