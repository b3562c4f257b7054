"""What reaches the layers of a `models.DeepMLP`: activations on the way up, gradients on the way down, Jacobians.

Pure functions of (network, params, model_state, images); of one run, to be mapped over several. Those of the loss see
the network as in training (batch norm with the statistics of the images at hand), Jacobians as after it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl import models
from jaxdl.models import deep_mlp
from jaxdl.models.deep_mlp import DeepMLP, slopes

SATURATED = 0.1  # of its steepest slope: below it a unit counts as saturated


class Passed(NamedTuple):
    """What passed through a network, C the mean over the images of -log softmax(logits)[label].

    s: values before the units, [depth, B, width]
    gradient: dC / ds, [depth, B, width]
    weight_gradients: norm of dC / dW of each hidden layer's W, [depth]
    """

    s: Array
    gradient: Array
    weight_gradients: Array


def passed(network: DeepMLP, params: Any, model_state: Any, image: Array, label: Array) -> Passed:
    """One pass up and down. image [B, ...], label int32 [B]."""

    def cost(params: Any, added: Array) -> tuple[Array, Array]:
        (logits, s), _ = network.apply(
            {"params": params, **model_state}, image, True, added, method="layers", mutable=["batch_stats"]
        )
        target = jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
        return -(jax.nn.log_softmax(logits) * target).sum(axis=-1).mean(), s

    none = jnp.zeros((network.depth, image.shape[0], network.width), image.dtype)
    (in_weights, in_s), s = jax.grad(cost, argnums=(0, 1), has_aux=True)(params, none)
    kernels = [norm(in_weights["first"]["dense"]["kernel"])[None]]
    if network.depth > 1:
        kernels.append(jax.vmap(norm)(in_weights["hidden"]["dense"]["kernel"]))
    return Passed(s, in_s, jnp.concatenate(kernels))


class Statistics(NamedTuple):
    """Of each hidden layer, [depth], over images and units.

    mean, std: of the activations unit(s)
    saturated: the share of them where the unit's slope is less than a tenth of its steepest
    gradient: norm of dC / ds; weight_gradient: norm of dC / dW
    """

    mean: Array
    std: Array
    saturated: Array
    gradient: Array
    weight_gradient: Array


def statistics(network: DeepMLP, found: Passed) -> Statistics:
    """A pass in five numbers a layer."""
    active = models.unit(network.unit)(found.s)
    return Statistics(
        active.mean(axis=(1, 2)),
        active.std(axis=(1, 2)),
        is_saturated(network.unit, found.s).mean(axis=(1, 2), dtype=found.s.dtype),
        jax.vmap(norm)(found.gradient),
        found.weight_gradients,
    )


def of_examples(network: DeepMLP, params: Any, model_state: Any, image: Array, label: Array) -> dict[str, Array]:
    """What each image meets in the network as it is after training, [B]: cheap enough to be followed over training.

    saturation: the share of saturated units of all hidden layers
    reach: log10 of |dc / ds_1| / |dc / ds_depth| for the image's own c = -log softmax(logits)[label], how much of the
        last layer's gradient arrives at the first; a norm below 1e-30 counts as 1e-30
    log10_jacobian: log10 of |v' J| / sqrt(classes) for J = d logits / d x and random signs v, one a class: E |v' J|^2
        is the sum of J's squared singular values (Hutchinson 1990), so this is about their root mean square
    """

    def cost(added: Array) -> tuple[Array, Array]:
        logits, s = network.apply({"params": params, **model_state}, image, False, added, method="layers")
        target = jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
        return -(jax.nn.log_softmax(logits) * target).sum(), s

    gradient, s = jax.grad(cost, has_aux=True)(jnp.zeros((network.depth, len(image), network.width), image.dtype))
    logits, pull = jax.vjp(lambda image: models.forward(network, params, model_state, image, train=False)[0], image)
    (projected,) = pull(jax.random.rademacher(jax.random.key(0), logits.shape, logits.dtype))
    first, last, jacobian = (
        jnp.log10(jnp.maximum(jax.vmap(norm)(each), 1e-30)) for each in (gradient[0], gradient[-1], projected)
    )
    return {
        "saturation": is_saturated(network.unit, s).mean(axis=(0, 2), dtype=s.dtype),
        "reach": first - last,
        "log10_jacobian": jacobian - jnp.float32(np.log10(logits.shape[-1]) / 2),
    }


def is_saturated(name: str, s: Array) -> Array:
    """Where the slope of a unit is less than a tenth of its steepest one, bool of the shape of s."""
    steepest = slopes(name, jnp.full((), 1e-3, s.dtype))  # just above 0, of all units
    return slopes(name, s) < SATURATED * steepest


def norm(values: Array) -> Array:
    """Euclidean norm of all values, also where their squares would be 0 or infinite."""
    largest = jnp.abs(values).max()
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, jnp.ones_like(largest))
    return scale * jnp.sqrt(((values / scale) ** 2).sum())


def jacobian(network: DeepMLP, params: Any, model_state: Any, image: Array) -> Array:
    """d logits / d x of each image: [B, ...] -> [B, classes, inputs]."""

    def logits(one: Array) -> Array:
        return models.forward(network, params, model_state, one[None], train=False)[0][0]

    return jax.vmap(jax.jacrev(logits))(image.reshape(image.shape[0], -1))


def layer_jacobians(network: DeepMLP, params: Any, model_state: Any, image: Array) -> Array:
    """d s_{l+1} / d s_l for each image: [B, ...] -> [depth - 1, B, width, width]."""
    _, s = network.apply({"params": params, **model_state}, image, method="layers")
    return deep_mlp.layer_jacobians(network, params, model_state, s)


def singular_values(matrices: Array) -> Array:
    """Of each matrix, the greatest first: [..., M, N] -> [..., min(M, N)]."""
    return jnp.linalg.svd(matrices, compute_uv=False)


def settled(network: DeepMLP, params: Any, model_state: Any, image: Array) -> Any:
    """The model state with running statistics of these images, which batch norm does not have before training."""
    if network.normalisation != "batch_norm":
        return model_state
    return jax.lax.fori_loop(
        0, 150, lambda _, state: models.forward(network, params, state, image, train=True)[1], model_state
    )  # each takes a tenth of the way: 1e-7 is left
