"""Regression of one number per image."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl import models
from jaxdl.tasks.task import Batch, Metrics, Run, Task


def regress(model: nn.Module, image_shape: tuple[int, ...], target: str, mean: float, deviation: float) -> Task:
    """Minimise the mean of ((y - f(x)) / deviation)^2, y the split's entry `target`, f(x) = mean + deviation model(x).

    mean, deviation: of the target in the training split, so that the network's output is of order 1
    model: image [B, *image_shape] -> [B, 1]

    Measures per example `loss` (that square) and `absolute_error`, in units of y. Predicts f(x), [B].
    """

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        return models.initialise(model, key, image_shape)

    def per_example(output: Array, batch: Batch) -> Metrics:
        wanted = (batch[target].astype(jnp.float32) - jnp.float32(mean)) / jnp.float32(deviation)
        distance = output[:, 0] - wanted  # [B, 1] -> [B]
        return {"loss": jnp.square(distance), "absolute_error": jnp.float32(deviation) * jnp.abs(distance)}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        output, model_state = models.forward(model, params, model_state, batch["image"], train=True)
        values = per_example(output, batch)
        return values["loss"].mean(), (model_state, {"absolute_error": values["absolute_error"].mean()})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        output, _ = models.forward(model, params, model_state, batch["image"], train=False)
        return per_example(output, batch)

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        output, _ = models.forward(model, params, model_state, image, train=False)
        return jnp.float32(mean) + jnp.float32(deviation) * output[:, 0]

    return Task(init, loss, evaluate, predict=predict, network=model)
