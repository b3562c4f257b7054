"""Classification by a perceptron with everything that Srivastava et al. 2014 (JMLR 15) compare in Table 9.

What is told apart by traced strengths only is one program. Max-norm and L2 are the optimizer's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl import batch as batches
from jaxdl import models
from jaxdl.models.dropout import Noise, at_test
from jaxdl.tasks.classification import classify, per_example
from jaxdl.tasks.sparsity import sparsity
from jaxdl.tasks.strengths import RATES
from jaxdl.tasks.task import Batch, Metrics, Run, Task


def classify_regularised(model: models.MLP, image_shape: tuple[int, ...], *, inverted: bool = True) -> Task:
    """Minimise the cross-entropy of a network with noise, plus penalties on its weights and activations.

        loss = mean_i -log softmax(f(x_i, noise_i))[y_i] + l1 sum |W|
               + sparsity_weight sum_j KL(sparsity_target || mean_i share(h_ij))

    W are the kernels, h_ij >= 0 all hidden units; share is h of logistic units, (1 + h) / 2 of tanh units, and
    h / (1 + h) of rectifiers, which are unbounded. Reads hyper: input_dropout, hidden_dropout, input_gaussian,
    hidden_gaussian, dropconnect (rates in [0, 1), see `models.dropout`), l1, sparsity_weight, sparsity_target. A
    strength of zero is off, and costs next to nothing.

    inverted: see `models.dropout.Noise`; the noise that is not gives networks whose weights are scaled for testing

    Measures without noise, per example: `loss` and `error` as `classify` does, `activation` (mean of the hidden units),
    `active` (the share of them above 0, of 1e-3 at least). Predicts the probabilities of the classes, [B, classes].
    """
    plain = classify(model, image_shape)

    def tested(params: Any, run: Run) -> Any:
        return params if inverted else at_test(params, drawn(run["hyper"], None, None, False))

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        hyper = run["hyper"]
        noise = drawn(hyper, key, batch["position"], inverted)
        *hidden, logits = model.apply({"params": params}, batch["image"], noise, method="layers")
        values = per_example(logits, batch)
        penalty = hyper["l1"] * jax.lax.cond(hyper["l1"] > 0, absolute, lambda params: jnp.zeros(()), params)
        for layer in hidden:
            mean = batches.batch_mean(share(layer, model.unit))  # [H], over the whole batch
            weight = hyper["sparsity_weight"]
            penalty = penalty + weight * sparsity(mean, weight, hyper["sparsity_target"])
        metrics = {"error": values["error"].mean(), "penalty": penalty}
        return values["loss"].mean() + penalty, (model_state, metrics)

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        *hidden, logits = model.apply({"params": tested(params, run)}, batch["image"], method="layers")
        units = jnp.concatenate(hidden, axis=1)  # [B, all hidden units]
        active = (units > 1e-3).astype(jnp.float32)
        return per_example(logits, batch) | {"activation": units.mean(axis=1), "active": active.mean(axis=1)}

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        return jax.nn.softmax(model.apply({"params": tested(params, run)}, image))

    return plain._replace(loss=loss, evaluate=evaluate, predict=predict)


def average_thinned(model: models.MLP, counts: Sequence[int], *, inverted: bool = True) -> Callable:
    """A Task's `evaluate` that averages the probabilities of randomly thinned networks: `error_K`, for K of them.

    p(y | x) = 1/K sum_k softmax(f(x, noise_k)) (Srivastava et al. 2014, section 7.5). counts: K, increasing; the first
    networks of a larger K are those of the smaller.
    """

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        def add(total: Array, number: Array) -> tuple[Array, Array]:
            noise = drawn(run["hyper"], jax.random.fold_in(key, number), batch["position"], inverted)
            total = total + jax.nn.softmax(model.apply({"params": params}, batch["image"], noise))
            return total, per_example(total, batch)["error"]  # dividing by K changes no maximum

        nothing = jnp.zeros((batch["image"].shape[0], model.classes), jnp.float32)
        _, errors = jax.lax.scan(add, nothing, jnp.arange(max(counts), dtype=jnp.uint32))  # [K, B]
        return {f"error_{count}": errors[count - 1] for count in counts}

    return evaluate


def drawn(hyper: dict[str, Array], key: Any, position: Any, inverted: bool) -> Noise:
    """The noise that hyperparameters ask for."""
    return Noise(key, position, *(hyper[name] for name in RATES), inverted)


def absolute(params: Any) -> Array:
    """sum |W| over all kernels."""
    return sum(jnp.abs(layer["kernel"]).sum() for layer in params.values())


def share(activation: Array, unit: str) -> Array:
    """Of what a unit gives, a share of the time in [0, 1), that sparsity can be measured by."""
    if unit == "tanh":
        return 0.5 * (1 + activation)
    return activation if unit == "sigmoid" else activation / (1 + activation)
