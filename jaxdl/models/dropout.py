"""Multiplicative noise on units and weights, with traced rates. A rate is the probability of being dropped, in [0, 1).

Units: Srivastava et al. 2014, JMLR 15 (Gaussian noise: section 10). Weights (DropConnect): Wan et al. 2013, ICML.

Every rate of zero skips its random bits, and is no noise bit for bit: `lax.cond` runs one branch when a program trains
one run at a time. Bernoulli noise compares bytes, four to a random word, so a rate is met to within 1/512, and one
above 511/512 as 255/256; values are scaled by the probability that is met, so that expectations are exact.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl import batch as batches

LEVELS = 256  # of a byte


class Noise(NamedTuple):
    """What a network is disturbed by in training; the noise of an example depends on (key, its position) only.

    position: uint32 [B], places in the whole batch
    input, hidden: rates of dropout of inputs and of hidden units, float32 []
    gaussian_input, gaussian_hidden: rates of Gaussian dropout of the same
    connections: the rate of DropConnect, of the weights into hidden units
    inverted: whether what is kept is scaled up in training. If not, `at_test` scales the weights for testing
    """

    key: Array
    position: Array
    input: Array
    hidden: Array
    gaussian_input: Array
    gaussian_hidden: Array
    connections: Array
    inverted: bool = True

    def on_input(self, values: Array) -> Array:
        """The network's inputs [B, I], disturbed."""
        return self._on(values, self.input, self.gaussian_input, 0)

    def on_hidden(self, values: Array, layer: int) -> Array:
        """What hidden layer number `layer` gives, [B, H], disturbed."""
        return self._on(values, self.hidden, self.gaussian_hidden, 3 * layer + 2)

    def product(self, layer: int) -> Callable[..., Array]:
        """values [B, I] times a kernel [I, O] whose weights are dropped, to be called as `jax.lax.dot_general` is."""

        def dot_general(values: Array, kernel: Array, *_: Any, **__: Any) -> Array:
            key = jax.random.fold_in(self.key, 3 * layer + 4)
            return drop_connections(values, kernel, self.connections, key, self.position, inverted=self.inverted)

        return dot_general

    def _on(self, values: Array, rate: Array, gaussian: Array, stream: int) -> Array:
        bernoulli_key, gaussian_key = (jax.random.fold_in(self.key, number) for number in (stream, stream + 1))
        values = dropout(values, rate, bernoulli_key, self.position, inverted=self.inverted)
        return gaussian_dropout(values, gaussian, gaussian_key, self.position)


def keep_probability(rate: Array) -> Array:
    """1 - rate as it is met: the nearest of 1/256, ..., 255/256, 1, float32."""
    return 1 - _dropped(rate) / LEVELS


def dropout(values: Array, rate: Array, key: Array, position: Array, *, inverted: bool = True) -> Array:
    """values * m / p with m ~ Bernoulli(p), p = 1 - rate (Srivastava et al. 2014, section 4): values [B, ...].

    Mean: values. Variance: values^2 rate / p. Not inverted: values * m, whose mean is p values.
    """

    def thinned(values: Array) -> Array:
        scale = (1 / keep_probability(rate)).astype(values.dtype) if inverted else jnp.ones((), values.dtype)
        return jnp.where(_kept(rate, key, position, values.shape[1:]), scale * values, jnp.zeros_like(values))

    return jax.lax.cond(rate > 0, thinned, lambda values: values, values)


def gaussian_dropout(values: Array, rate: Array, key: Array, position: Array) -> Array:
    """values * n with n ~ N(1, rate / (1 - rate)): the mean and variance of inverted dropout. values [B, ...].

    Srivastava et al. 2014, section 10: N(1, sigma^2), sigma^2 = (1 - p) / p.
    """

    def noisy(values: Array) -> Array:
        deviation = jnp.sqrt(rate / (1 - rate)).astype(values.dtype)
        return values * (1 + deviation * batches.normal(key, position, values.shape[1:]).astype(values.dtype))

    return jax.lax.cond(rate > 0, noisy, lambda values: values, values)


def drop_connections(
    values: Array, kernel: Array, rate: Array, key: Array, position: Array, *, inverted: bool = True
) -> Array:
    """values (M * kernel) / p, M ~ Bernoulli(p) for each weight and each example: [B, I], [I, O] -> [B, O].

    Mean: values kernel. Variance: rate / p values^2 kernel^2. Not inverted: without the division.

    Wan et al. 2013, section 3, eq. 3. A mask for each example is dear: I O draws instead of I. It is kept all the
    same: one mask for a whole batch "does not regularize the model enough" (section 3.1), and would make an example's
    noise that of its company. Examples go one after another, and their masks are drawn anew for the gradient, so
    that never more than one of them is in memory.
    """
    shape = kernel.shape

    @jax.checkpoint
    def one(value: Array, place: Array, kernel: Array) -> Array:
        kept = _kept(rate, key, place[None], shape)[0]  # [I, O]
        return value @ jnp.where(kept, kernel, jnp.zeros_like(kernel))

    def thinned(values: Array, kernel: Array) -> Array:
        scale = (1 / keep_probability(rate)).astype(kernel.dtype) if inverted else jnp.ones((), kernel.dtype)
        return scale * jax.lax.map(lambda each: one(*each, kernel), (values, position))

    return jax.lax.cond(rate > 0, thinned, lambda values, kernel: values @ kernel, values, kernel)


def at_test(params: Any, noise: Noise) -> Any:
    """The parameters to test with of a network trained with noise that is not inverted: W_test = p W.

    p is the probability of keeping the units that a kernel reads (Srivastava et al. 2014, Figure 2), times that of
    keeping its weights. Then it is the very function that inverted noise trains, of weights p times as large. The
    layers are those of `models.MLP`.
    """
    scaled = {}
    for name in params:
        first = name == "hidden_0" or len(params) == 1
        kept = keep_probability(noise.input if first else noise.hidden)
        if name != "output":
            kept = kept * keep_probability(noise.connections)
        scaled[name] = params[name] | {"kernel": kept.astype(params[name]["kernel"].dtype) * params[name]["kernel"]}
    return scaled


def _dropped(rate: Array) -> Array:
    """Of the 256 bytes those that drop: 0 to 255, float32."""
    return jnp.clip(jnp.round(LEVELS * rate), 0, LEVELS - 1)


def _kept(rate: Array, key: Array, position: Array, shape: tuple[int, ...]) -> Array:
    """Masks, bool [B, *shape], True with the probability `keep_probability`."""
    return batches.random_bytes(key, position, shape) >= _dropped(rate).astype(jnp.uint8)
