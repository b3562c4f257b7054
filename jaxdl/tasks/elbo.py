"""The evidence lower bound of a variational autoencoder, and three ways to take its gradient.

Kingma & Welling 2014, arXiv 1312.6114; beta: Higgins et al. 2017 (ICLR); the score function: Williams 1992, Machine
Learning 8; its leave-one-out baseline: Mnih & Rezende 2016, arXiv 1602.06725.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl import batch as batches
from jaxdl.errors import UserError, unknown
from jaxdl.tasks.corruption import corrupt
from jaxdl.tasks.densities import kl_to_standard_normal, log_bernoulli, log_normal
from jaxdl.tasks.importance import log_likelihood
from jaxdl.tasks.task import Batch, Metrics, Run, Task

DECODERS = ("bernoulli", "gaussian")
ESTIMATORS = ("pathwise", "score", "score_running_mean", "score_leave_one_out")
BINARISATIONS = ("none", "resampled")
BASELINE_DECAY = 0.99  # of the running mean of log p(x|z)
# Streams of random numbers of one step: of the code, of the binarisation, of the corruption.
CODE, PIXELS, CORRUPTION = range(3)


def elbo(
    model: nn.Module,
    inputs: int,
    decoder: str = "bernoulli",
    estimator: str = "pathwise",
    samples: int = 1,
    binarise: str = "none",
) -> Task:
    """Minimise the mean of  -E_q(z|x)[log p(x|z)] + beta KL(q(z|x) || N(0, 1)),  in nats an image.

    The expectation is a mean over `samples` draws z = mean + noise * deviation * epsilon. `noise` 1 is a variational
    autoencoder; 0, with beta 0, is a plain autoencoder of the same size, and with `masking` a denoising one. Reads
    hyper: beta, noise, masking, free_bits, anneal, decoder_deviation, all traced.

    model: has encode(image [B, inputs]) -> mean, log_variance [B, Z] and decode(z [..., Z]) -> [..., inputs]
    decoder: bernoulli (logits, values in [0, 1]) or gaussian (means, of standard deviation decoder_deviation)
    estimator: of the encoder's gradient through the expectation: pathwise (reparameterised); score, the score function
        log p(x|z) d log q(z|x), without a baseline, minus a running mean, or minus the mean of the other samples
    binarise: resampled draws each pixel anew at every use, with its value as the probability of 1
    free_bits: nats of each unit's mean KL over the batch that cost nothing (Kingma et al. 2016, arXiv 1606.04934)
    anneal: steps over which beta grows from 0; 0 has all of it from the first step

    Measures per example, with one draw of z: `loss` (the negative ELBO, beta 1), `reconstruction` and `kl` in nats, and
    `squared_error` of the decoded mean. Predicts the decoded mean code: means of pixels, [B, inputs].
    """
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    if samples < 1 or (estimator == "score_leave_one_out" and samples < 2):
        raise UserError(f"samples={samples} is not possible with {estimator}: at least 1, 2 to leave one out")

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        params = model.init(key, jnp.zeros((1, inputs)))["params"]
        return params, {"step": jnp.float32(0), "baseline": jnp.float32(0)}

    pixels, decoded = _pixels(binarise, inputs), _log_likelihood(decoder)

    def encode(params: Any, image: Array) -> tuple[Array, Array]:
        return model.apply({"params": params}, image, method="encode")

    def decode(params: Any, code: Array) -> Array:
        return model.apply({"params": params}, code, method="decode")

    def drawn(mean: Array, log_variance: Array, batch: Batch, run: Run, key: Array, count: int) -> Array:
        """Codes [count, B, Z]."""
        shape = (count, mean.shape[-1])
        noise = batches.normal(jax.random.fold_in(key, CODE), batch["position"], shape)  # [B, count, Z]
        deviation = jnp.exp(0.5 * log_variance)[None, :, :]
        return mean[None, :, :] + run["hyper"]["noise"] * deviation * jnp.moveaxis(noise, 1, 0)

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        hyper = run["hyper"]
        target = pixels(batch, key)
        zero = jnp.float32(0)
        seen = corrupt(target, batch["position"], jax.random.fold_in(key, CORRUPTION), hyper["masking"], zero, zero)
        mean, log_variance = encode(params, seen)
        code = drawn(mean, log_variance, batch, run, key, samples)
        if estimator != "pathwise":
            code = jax.lax.stop_gradient(code)
        likelihood = decoded(target[None, :, :], decode(params, code), run)  # [K, B]
        reconstruction = -likelihood.mean()
        baseline = model_state["baseline"]
        if estimator == "pathwise":
            objective = reconstruction
        else:
            log_density = log_normal(code, mean[None, :, :], log_variance[None, :, :])  # [K, B]
            reward = jax.lax.stop_gradient(likelihood)
            if estimator == "score_running_mean":
                reward = reward - baseline
            if estimator == "score_leave_one_out":  # the mean of the other samples of the same image
                reward = reward - (reward.sum(axis=0, keepdims=True) - reward) / (samples - 1)
            # Its value is the negative log-likelihood; the second term adds the encoder's gradient alone.
            score = reward * log_density
            objective = -(likelihood + score - jax.lax.stop_gradient(score)).mean()
        kl = kl_to_standard_normal(mean, log_variance)  # [B, Z]
        units = batches.batch_mean(kl)  # [Z], over the whole batch
        free = hyper["free_bits"]
        charged = jnp.where(units > free, units, free).sum()
        step = model_state["step"]
        growth = jnp.where(hyper["anneal"] > 0, jnp.minimum(1.0, step / jnp.maximum(hyper["anneal"], 1.0)), 1.0)
        now = batches.batch_mean(jax.lax.stop_gradient(likelihood).mean(axis=0))
        first = step == 0  # the running mean starts where the first batch is
        state = {
            "step": step + 1,
            "baseline": jnp.where(first, now, BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * now),
        }
        metrics = {"reconstruction": reconstruction, "kl": kl.sum(axis=-1).mean()}
        return objective + growth * hyper["beta"] * charged, (state, metrics)

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        target = pixels(batch, key)
        mean, log_variance = encode(params, target)
        output = decode(params, drawn(mean, log_variance, batch, run, key, 1)[0])
        reconstruction = -decoded(target, output, run)
        kl = kl_to_standard_normal(mean, log_variance).sum(axis=-1)
        return {
            "loss": reconstruction + kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "squared_error": jnp.square(target - pixel_means(decode(params, mean))).sum(axis=-1),
        }

    def pixel_means(output: Array) -> Array:
        return jax.nn.sigmoid(output) if decoder == "bernoulli" else output

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        return pixel_means(decode(params, encode(params, image.reshape(image.shape[0], -1))[0]))

    return Task(init, loss, evaluate, predict=predict)


def bound(
    model: nn.Module, inputs: int, decoder: str, binarise: str, samples: int
) -> Callable[[Any, Any, Batch, Run, Array], Metrics]:
    """The `evaluate` that measures `bound` per example, log p(x) by importance weights: see `log_likelihood`."""
    if samples < 1:
        raise UserError(f"bound.samples={samples} is not possible: at least 1 is needed")
    pixels, decoded = _pixels(binarise, inputs), _log_likelihood(decoder)

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        def encode(image: Array) -> tuple[Array, Array]:
            return model.apply({"params": params}, image, method="encode")

        def log_decoded(image: Array, code: Array) -> Array:
            return decoded(image[None, :, :], model.apply({"params": params}, code, method="decode"), run)

        image = pixels(batch, key)
        return {"bound": log_likelihood(encode, log_decoded, image, batch["position"], key, samples)}

    return evaluate


def _pixels(binarise: str, inputs: int) -> Callable[[Batch, Array], Array]:
    """(batch, key) -> its images [B, inputs], binarised anew where that is asked for."""
    if binarise not in BINARISATIONS:
        raise unknown("binarise", binarise, BINARISATIONS)

    def pixels(batch: Batch, key: Array) -> Array:
        image = batch["image"].reshape(batch["image"].shape[0], -1)
        if binarise == "none":
            return image
        bits = batches.uniform_bits(jax.random.fold_in(key, PIXELS), batch["position"], (inputs,))  # 0 to 65535
        return (bits.astype(jnp.float32) < image * 65536.0).astype(jnp.float32)

    return pixels


def _log_likelihood(decoder: str) -> Callable[[Array, Array, Run], Array]:
    """(image [..., D], decoded [..., D], run) -> log p(image|z) [...]."""
    if decoder not in DECODERS:
        raise unknown("decoder", decoder, DECODERS)
    if decoder == "bernoulli":
        return lambda image, output, run: log_bernoulli(image, output)
    return lambda image, output, run: log_normal(image, output, 2 * jnp.log(run["hyper"]["decoder_deviation"]))
