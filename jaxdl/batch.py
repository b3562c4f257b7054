"""What one batch needs so that splitting it over devices changes no number.

Under `--strategy=pmap` a batch of B examples lies on D devices, B / D on each, and the device axis is bound
to `AXIS`. A mean over the batch must then span the devices, and the noise of an example must depend on its
position in the whole batch, never on the device that holds it. Everything that looks across or into a batch
(sparsity, corruption, batch norm) goes through the functions below.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

AXIS = "batch"


def shards() -> int:
    """Over how many devices the batch at hand is split; 1 outside pmap."""
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:  # the axis is not bound: the whole batch is here
        return 1


def positions(batch_size: int) -> Array:
    """Positions in the whole batch of the examples on this device: uint32 [batch_size / shards()]."""
    here = batch_size // shards()
    first = jax.lax.axis_index(AXIS).astype(jnp.uint32) * jnp.uint32(here) if shards() > 1 else jnp.uint32(0)
    return first + jnp.arange(here, dtype=jnp.uint32)


def batch_mean(values: Array) -> Array:
    """Mean over axis 0 of the whole batch: [B / D, ...] on each device -> [...] on all."""
    return across_devices(values.mean(axis=0))


def across_devices(tree: Array) -> Array:
    """Mean over the devices that hold the batch, of every leaf of a pytree; the tree itself when not split."""
    return jax.lax.pmean(tree, AXIS) if shards() > 1 else tree


def whole(loss: Callable[[Any], Array]) -> Callable[[Any], Array]:
    """The loss over the whole batch, of the loss over this device's share; so is its gradient.

    The derivative of a mean over devices is that of this device's share alone: a line search that followed
    it would take another path on each device.
    """

    def value_and_gradient(params: Any) -> tuple[Array, Any]:
        return across_devices(jax.value_and_grad(loss)(params))

    function = jax.custom_vjp(lambda params: across_devices(loss(params)))
    function.defvjp(value_and_gradient, lambda gradient, scale: (jax.tree.map(lambda leaf: scale * leaf, gradient),))
    return function


def gather(values: Array) -> Array:
    """The values of the whole batch on every device: [B / D, ...] -> [B, ...]."""
    return jax.lax.all_gather(values, AXIS, axis=0, tiled=True) if shards() > 1 else values


def uniform_bits(key: Array, position: Array, shape: tuple[int, ...]) -> Array:
    """Random integers, uint16 [B, *shape], one key per example.

    A 32-bit word serves two draws (half the work of `jax.random.bernoulli`), so a probability p is met by
    `bits < 65536 p` to within 1/65536.
    """
    size = 1
    for length in shape:
        size *= length

    def draw(place: Array) -> Array:
        words = jax.random.bits(jax.random.fold_in(key, place), ((size + 1) // 2,), jnp.uint32)
        return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size].reshape(shape)  # [W, 2] -> shape

    return jax.vmap(draw)(position)


def normal(key: Array, position: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise, float32 [B, *shape], one key per example."""
    return jax.vmap(lambda place: jax.random.normal(jax.random.fold_in(key, place), shape))(position)
