"""What one batch needs so that splitting it over devices changes no number.

Under `--strategy=pmap` a batch of B examples lies on D devices, B / D on each, and the device axis is bound
to `AXIS`. A mean over the batch must then span the devices, and the noise of an example must depend on its
position in the whole batch, never on the device that holds it. Everything that looks across or into a batch
(sparsity, corruption, batch norm) goes through the functions below.
"""

import math
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


def random_bytes(key: Array, position: Array, shape: tuple[int, ...]) -> Array:
    """Random integers, uint8 [B, *shape], one stream per example.

    Threefry-2x32 with 20 rounds (Salmon et al. 2011, SC'11), the generator of `jax.random`, of the counters
    (position, place in the stream): 8 bytes a call. Written out it is one fused loop. On a CPU `jax.random`'s own is a
    loop of loops, and drops half of its words: for 128 x 784 draws on 2 cores this takes 0.09 ms, `uniform_bits` 0.34,
    `jax.random.bernoulli` 0.83.
    """
    size = math.prod(shape)
    half = -(-size // 8)  # counters of an example, two words each
    first = jnp.broadcast_to(position[:, None], (*position.shape, half))
    second = jnp.broadcast_to(jnp.arange(half, dtype=jnp.uint32)[None, :], first.shape)
    words = jnp.concatenate(_threefry(jax.random.key_data(key), first, second), axis=1)  # [B, 2 half]
    bytes = jax.lax.bitcast_convert_type(words, jnp.uint8)  # [B, 2 half, 4]
    return bytes.reshape(len(position), -1)[:, :size].reshape(-1, *shape)  # [B, 8 half] -> [B, *shape]


@jax.jit  # its many operations are traced once for all programs of a size
def _threefry(key: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Two random words for each pair of words and a key uint32 [2]."""
    keys = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA)
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            first = first + second
            second = first ^ ((second << jnp.uint32(turn)) | (second >> jnp.uint32(32 - turn)))
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return first, second
