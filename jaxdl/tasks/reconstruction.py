"""Autoencoding: plain, sparse and denoising, told apart by traced strengths only.

Sparse: Ng, "Sparse autoencoder" (CS294A lecture notes, 2011); denoising: Vincent et al. 2010, JMLR 11.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl import batch as batches
from jaxdl.errors import UserError, unknown
from jaxdl.tasks.corruption import corrupt
from jaxdl.tasks.sparsity import sparsity
from jaxdl.tasks.task import Batch, Metrics, Run, Task

OBJECTIVES = ("cross_entropy", "squared_error")


def reconstruct(model: nn.Module, inputs: int, objective: str, *, bounded: bool = True) -> Task:
    """Minimise the reconstruction error of a corrupted input, plus a penalty on active units.

        loss = mean_i E(x_i, g(f(corrupt(x_i)))) + sparsity_weight * sum_j KL(sparsity_target || mean_i h_ij)

    E is the cross-entropy -sum_d x log y + (1 - x) log(1 - y), or half the squared error, summed over the
    `inputs` values of an example (nats, or squared input units). Reads hyper: masking, gaussian, salt_pepper,
    sparsity_weight, sparsity_target.

    model: an autoencoder whose __call__ gives (code [B, H], reconstruction before its output function)
    bounded: the values to reconstruct lie in [0, 1], and y = sigmoid(.); otherwise y is linear and the
        objective must be the squared error

    Measures per example, on the clean input: `loss` (E), `squared_error` (sum_d (x_d - y_d)^2) and
    `activation` (mean of the code, of (1 + code) / 2 for tanh units). Predicts the reconstruction y, [B, inputs].
    """
    if objective not in OBJECTIVES:
        raise unknown("reconstruction objective", objective, OBJECTIVES)
    if objective == "cross_entropy" and not bounded:
        raise UserError("cross_entropy reconstructs values in [0, 1] only: use squared_error for these units")

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        return model.init(key, jnp.zeros((1, inputs)))["params"], {}

    def measure(params: Any, image: Array, target: Array) -> Metrics:
        code, output = model.apply({"params": params}, image)
        guess = jax.nn.sigmoid(output) if bounded else output
        squared_error = jnp.square(target - guess).sum(axis=-1)
        if objective == "cross_entropy":  # from the logits, finite for any output
            error = (jax.nn.softplus(output) - target * output).sum(axis=-1)
        else:
            error = 0.5 * squared_error
        if model.code_unit == "tanh":
            code = 0.5 * (1.0 + code)
        return {"loss": error, "squared_error": squared_error, "code": code}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        hyper = run["hyper"]
        target = batch["image"].reshape(batch["image"].shape[0], -1)  # [B, inputs]
        strengths = (hyper["masking"], hyper["gaussian"], hyper["salt_pepper"])
        values = measure(params, corrupt(target, batch["position"], key, *strengths), target)
        activation = batches.batch_mean(values["code"])  # [H], over the whole batch
        weight = hyper["sparsity_weight"]
        penalty = sparsity(activation, weight, hyper["sparsity_target"])
        reconstruction = values["loss"].mean()
        metrics = {"reconstruction": reconstruction, "penalty": penalty, "activation": activation.mean()}
        return reconstruction + weight * penalty, (model_state, metrics)

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        image = batch["image"].reshape(batch["image"].shape[0], -1)
        values = measure(params, image, image)
        return {
            "loss": values["loss"],
            "squared_error": values["squared_error"],
            "activation": values["code"].mean(axis=-1),
        }

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        _, output = model.apply({"params": params}, image.reshape(image.shape[0], -1))  # [B, inputs]
        return jax.nn.sigmoid(output) if bounded else output

    return Task(init, loss, evaluate, predict=predict)
