"""The evidence lower bound of a variational autoencoder, and ways to take its gradient.

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
from jaxdl.tasks.densities import log_bernoulli, log_normal
from jaxdl.tasks.importance import check_samples, log_likelihood
from jaxdl.tasks.posteriors import GAUSSIAN, Posterior, estimators
from jaxdl.tasks.task import Batch, Metrics, Run, Task

DECODERS = ("bernoulli", "gaussian")
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
    posterior: Posterior = GAUSSIAN,
) -> Task:
    """Minimise the mean of  -E_q(z|x)[log p(x|z)] + beta KL(q(z|x) || p(z)),  in nats an image.

    The expectation is a mean over `samples` draws of z. For Gaussian codes `noise` 1 is a variational autoencoder; 0,
    with beta 0, is a plain autoencoder of the same size, and with `masking` a denoising one. Reads hyper: beta, noise
    (Gaussian codes) or temperature (categorical ones), masking, free_bits, anneal, decoder_deviation, all traced.

    model: has encode(image [B, inputs]) -> terms of the posterior and decode(z [..., Z]) -> [..., inputs]
    decoder: bernoulli (logits, values in [0, 1]) or gaussian (means, of standard deviation decoder_deviation)
    estimator: of the encoder's gradient through the expectation: one of the posterior's own (pathwise); or score, the
        score function log p(x|z) d log q(z|x), without a baseline, minus a running mean (score_running_mean), or minus
        the mean of the other samples (score_leave_one_out)
    binarise: resampled draws each pixel anew at every use, with its value as the probability of 1
    free_bits: nats of each unit's mean KL over the batch that cost nothing (Kingma et al. 2016, arXiv 1606.04934)
    anneal: steps over which beta grows from 0; 0 has all of it from the first step

    Measures per example, with one draw of z: `loss` (the negative ELBO, beta 1), `objective` (with the run's own beta),
    `reconstruction` and `kl` in nats, and `squared_error` of the decoded centre. Predicts the decoded centre: means of
    pixels, [B, inputs].
    """
    if estimator not in estimators(posterior):
        raise unknown("estimator", estimator, estimators(posterior))
    if samples < 1 or (estimator == "score_leave_one_out" and samples < 2):
        raise UserError(f"samples={samples} is not possible with {estimator}: at least 1, 2 to leave one out")

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        params = model.init(key, jnp.zeros((1, inputs)))["params"]
        return params, {"step": jnp.float32(0), "baseline": jnp.float32(0)}

    pixels, decoded = _pixels(binarise, inputs), decoded_log_likelihood(decoder)

    reparameterised = posterior.reparameterised.get(estimator)

    def encode(params: Any, image: Array) -> tuple[Array, ...]:
        return model.apply({"params": params}, image, method="encode")

    def decode(params: Any, code: Array) -> Array:
        return model.apply({"params": params}, code, method="decode")

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        hyper = run["hyper"]
        target = pixels(batch, key)
        zero = jnp.float32(0)
        seen = corrupt(target, batch["position"], jax.random.fold_in(key, CORRUPTION), hyper["masking"], zero, zero)
        terms = encode(params, seen)
        draw = reparameterised or posterior.draw
        code = draw(terms, run, jax.random.fold_in(key, CODE), batch["position"], samples)  # [K, B, Z]
        if not reparameterised:
            code = jax.lax.stop_gradient(code)
        likelihood = decoded(target[None, :, :], decode(params, code), run)  # [K, B]
        reconstruction = -likelihood.mean()
        baseline = model_state["baseline"]
        objective = reconstruction
        if not reparameterised:
            log_density = posterior.log_density(code, terms)  # [K, B]
            reward = jax.lax.stop_gradient(likelihood)
            if estimator == "score_running_mean":
                reward = reward - baseline
            if estimator == "score_leave_one_out":  # the mean of the other samples of the same image
                reward = reward - (reward.sum(axis=0, keepdims=True) - reward) / (samples - 1)
            # Its value is the negative log-likelihood; the second term adds the encoder's gradient alone.
            score = reward * log_density
            objective = -(likelihood + score - jax.lax.stop_gradient(score)).mean()
        kl = posterior.divergence(terms)  # [B, units]
        units = batches.batch_mean(kl)  # [units], over the whole batch
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
        terms = encode(params, target)
        code = posterior.draw(terms, run, jax.random.fold_in(key, CODE), batch["position"], 1)[0]
        reconstruction = -decoded(target, decode(params, code), run)
        kl = posterior.divergence(terms).sum(axis=-1)
        return {
            "loss": reconstruction + kl,
            "objective": reconstruction + run["hyper"]["beta"] * kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "squared_error": jnp.square(target - predict(params, model_state, target, run)).sum(axis=-1),
        }

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        code = posterior.centre(encode(params, image.reshape(image.shape[0], -1)))
        return pixel_means(decoder, decode(params, code))

    return Task(init, loss, evaluate, predict=predict)


def bound(
    model: nn.Module, inputs: int, decoder: str, binarise: str, samples: int, posterior: Posterior = GAUSSIAN
) -> Callable[[Any, Any, Batch, Run, Array], Metrics]:
    """The `evaluate` that measures `bound` per example, log p(x) by importance weights: see `log_likelihood`.

    Burda et al. 2016, arXiv 1509.00519, equation 8: the weights are p(x|z) p(z) / q(z|x) with z from q(z|x).
    """
    check_samples("bound.samples", samples)
    pixels, decoded = _pixels(binarise, inputs), decoded_log_likelihood(decoder)

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        image = pixels(batch, key)
        terms = model.apply({"params": params}, image, method="encode")
        true = run | {"hyper": run["hyper"] | {"noise": jnp.float32(1)}}  # an autoencoder's codes have none

        def log_weights(key: Array, count: int) -> Array:
            code = posterior.draw(terms, true, key, batch["position"], count)
            likelihood = decoded(image[None, :, :], model.apply({"params": params}, code, method="decode"), run)
            return likelihood + posterior.log_prior(code) - posterior.log_density(code, terms)

        # A stream of its own: the chunks' numbers would else meet the stream of the pixels.
        return {"bound": log_likelihood(log_weights, image.shape[0], jax.random.fold_in(key, CODE), samples)}

    return evaluate


def pixel_means(decoder: str, output: Array) -> Array:
    """What `decode` gives, [..., inputs], as means of pixels."""
    return jax.nn.sigmoid(output) if decoder == "bernoulli" else output


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


def decoded_log_likelihood(decoder: str) -> Callable[[Array, Array, Run], Array]:
    """(image [..., D], decoded [..., D], run) -> log p(image|z) [...]."""
    if decoder not in DECODERS:
        raise unknown("decoder", decoder, DECODERS)
    if decoder == "bernoulli":
        return lambda image, output, run: log_bernoulli(image, output)
    return lambda image, output, run: log_normal(image, output, 2 * jnp.log(run["hyper"]["decoder_deviation"]))
