"""What a trained network looks at: maps of its layers, saliency, Grad-CAM, and the pixels that reach a unit.

A network is what `models.forward` calls, with its parameters and what else it keeps; it is asked as after training
(batch norm with its running statistics). All functions are pure and jittable. Layers: see `models.tracing.trace`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxdl import models
from jaxdl.errors import UserError, unknown
from jaxdl.models import tracing


def activations(network: nn.Module, params: Any, model_state: Any, image: Array) -> dict[str, Array]:
    """{layer: its output for images [B, ...], after its activation}, in the order in which the layers end."""
    traced = tracing.trace(network, params, model_state, image)
    _, values = tracing.evaluate(traced, (params, model_state, image), traced.maps)
    return {layer.name: value for layer, value in zip(traced.layers, values, strict=True)}


def saliency(network: nn.Module, params: Any, model_state: Any, image: Array, label: Array) -> Array:
    """max_c |d logit[label] / d x[h, w, c]| (Simonyan et al. 2013, arXiv 1312.6034, section 3.1).

    image [B, H, W, C] as the network sees it, label int32 [B] -> [B, H, W], logits per unit of x.
    """

    def score(image: Array) -> Array:
        return _score(models.forward(network, params, model_state, image, train=False)[0], label)

    return jnp.abs(jax.grad(score)(image)).max(axis=-1)


def grad_cam(network: nn.Module, params: Any, model_state: Any, image: Array, label: Array, layer: str = "") -> Array:
    """relu(sum_k w_k A_k), w_k = mean_ij d logit[label] / d A_k[i, j]. Selvaraju et al., arXiv 1610.02391, eq. 1, 2.

    image [B, H, W, C], label int32 [B] -> [B, h, w]; A [B, h, w, K] are the maps of the layer, after its activation.
    layer: the last one with maps unless it is named. UserError where there is no such layer, or it has no maps.
    """
    traced = tracing.trace(network, params, model_state, image)
    place = [each.name for each in traced.layers].index(layer_with_maps(traced.layers, layer))
    variable = traced.maps[place]

    def score(added: Array) -> tuple[Array, Array]:
        logits, (maps,) = tracing.evaluate(traced, (params, model_state, image), [variable], {variable: added})
        return _score(logits, label), maps

    nothing = jnp.zeros(variable.aval.shape, variable.aval.dtype)
    gradient, maps = jax.grad(score, has_aux=True)(nothing)
    weights = gradient.mean(axis=(1, 2), keepdims=True)  # [B, 1, 1, K]
    return nn.relu((weights * maps).sum(axis=-1))


def layer_with_maps(found: list[tracing.Layer], name: str = "") -> str:
    """The name of a layer with maps [B, h, w, K] of more than one pixel: of the last one unless it is named.

    UserError where there is none.
    """
    valid = [each.name for each in found if each.has_maps]
    if not valid:
        raise UserError("no layer of this network has maps: Grad-CAM needs a convolutional one")
    if name and name not in valid:
        raise unknown("layer with maps", name, valid)
    return name or valid[-1]


def centre_gradients(
    network: nn.Module, params: Any, model_state: Any, image: Array, seed: int = 0
) -> dict[str, np.ndarray]:
    """What reaches the central unit of each layer: {layer: sum_{b,c} |d u / d x[b, h, w, c]|, [H, W]}.

    u is a random mixture of all channels at (h // 2, w // 2), or of all units of a layer without maps, before its
    activation. image [B, H, W, C] should be several random ones, so that no pixel stays hidden behind a ReLU that
    is off or a maximum that is elsewhere. Where it is not zero is the receptive field; its size in weight, the
    effective one of Luo et al. 2016 (arXiv 1701.04128).
    """
    traced = tracing.trace(network, params, model_state, image)

    @jax.jit
    def back(params: Any, model_state: Any, image: Array, weights: list[Any]) -> Array:
        def outputs(image: Array) -> list[Array]:
            return tracing.evaluate(traced, (params, model_state, image), traced.outputs)[1]

        (gradient,) = jax.vjp(outputs, image)[1](weights)
        return jnp.abs(gradient).sum(axis=(0, 3))

    # One program for all layers: the weights of the others are zero.
    draw = np.random.default_rng(seed)
    weights = [np.zeros(output.aval.shape, output.aval.dtype) for output in traced.outputs]
    found = {}
    for layer, zeros in zip(traced.layers, weights, strict=True):
        own = np.s_[:, layer.shape[1] // 2, layer.shape[2] // 2] if layer.has_maps else np.s_[:]
        zeros[own] = draw.normal(size=zeros[own].shape)
        found[layer.name] = np.asarray(back(params, model_state, image, weights))
        zeros[:] = 0
    return found


def box(reached: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The bounding box of what is not zero, [H, W] -> ((top, bottom), (left, right)), all included; None: all is."""
    rows, columns = (np.flatnonzero(reached.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def _score(logits: Array, label: Array) -> Array:
    """The sum over the batch of each example's own logit: its gradient for an image is that image's own."""
    return (logits * jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)).sum()
