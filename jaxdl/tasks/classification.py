"""Classification: softmax cross-entropy and the misclassification error."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl import models
from jaxdl.tasks.task import Batch, Metrics, Run, Task


def classify(model: nn.Module, image_shape: tuple[int, ...]) -> Task:
    """Minimise the mean of -log softmax(logits)[label]; measure `loss` (nats) and `error` (0 or 1) per example.

    model: image [B, *image_shape] -> logits [B, classes]. Predicts the probabilities of the classes, [B, classes].
    """

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        return models.initialise(model, key, image_shape)

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        logits, model_state = models.forward(model, params, model_state, batch["image"], train=True)
        values = per_example(logits, batch)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        logits, _ = models.forward(model, params, model_state, batch["image"], train=False)
        return per_example(logits, batch)

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        return jax.nn.softmax(models.forward(model, params, model_state, image, train=False)[0])

    return Task(init, loss, evaluate, predict=predict, network=model)


def per_example(logits: Array, batch: Batch) -> Metrics:
    """`loss` and `error`, [B] each, of logits [B, classes]."""
    # A product with one-hot labels, because the gradient of an indexed read is a scatter: slow on every device.
    target = jax.nn.one_hot(batch["label"], logits.shape[-1], dtype=logits.dtype)
    loss = -(jax.nn.log_softmax(logits) * target).sum(axis=-1)
    error = (logits.argmax(axis=-1).astype(batch["label"].dtype) != batch["label"]).astype(jnp.float32)
    return {"loss": loss, "error": error}
