"""How good a trained decoder is as a generator: a classifier's certainty about what it draws, and log-likelihoods."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl import batch as batches
from jaxdl.tasks.elbo import decoded_log_likelihood, pixel_means
from jaxdl.tasks.importance import check_samples, log_likelihood
from jaxdl.tasks.posteriors import GAUSSIAN
from jaxdl.tasks.task import Batch, Metrics, Run, Task

# Streams of random numbers: of the prior, the fitted Gaussian, the disturbance, the two log-likelihoods.
PRIOR, FITTED, DISTURBANCE, LIKELIHOOD, FITTED_LIKELIHOOD = range(5)


def generation(
    model: nn.Module,
    inputs: int,
    decoder: str,
    images: Array,
    classifier: Callable[[Run, Array], Array],
    samples: int,
    disturbance: float,
) -> Task:
    """A task of no steps: it measures the model that run["trained"] holds, an autoencoder's like a VAE's.

    Codes come from the prior N(0, 1); and from the Gaussian with the mean and covariance of the codes of `images`, so
    that an autoencoder, whose codes no prior keeps near N(0, 1), is not judged by its scale alone. One draw stands
    beside each test image. Measures, of four kinds of decoded pictures,

        prior, fitted      a draw of either Gaussian
        interpolated       the code halfway between this image's and that of one of `images`
        disturbed          this image's code plus `disturbance` times noise with the covariance of the codes

    KIND_entropy (nats) and KIND_confidence (the largest one) of the classifier's probabilities, the same of the image
    itself as image_KIND; disturbed_reconstruction, -log p(x|disturbed code) in nats; and log p(x) =
    log (1/k) sum_j p(x|z_j) with k = `samples` draws z_j of either Gaussian, prior_log_likelihood and
    fitted_log_likelihood: a lower bound in expectation, and low for all where k draws don't find the codes of x.

    model: as for `elbo`, with Gaussian codes; images: float32 [N, inputs], of the training split
    classifier: run, image [B, inputs] -> probabilities [B, classes]
    """
    check_samples("generation.samples", samples)
    log_decoded = decoded_log_likelihood(decoder)

    def encode(params: Any, image: Array) -> tuple[Array, Array]:
        return model.apply({"params": params}, image, method="encode")

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        mean, log_variance = encode(run["trained"], images)  # [N, Z] each
        centred = mean - mean.mean(axis=0, keepdims=True)
        covariance = jnp.einsum("nz,ny->zy", centred, centred) / mean.shape[0]  # [Z, Z]
        noise = jnp.square(run["hyper"]["noise"]) * jnp.exp(log_variance).mean(axis=0)  # an autoencoder's has none
        # F with F F' = covariance + noise. An autoencoder's may be singular, for which Cholesky's is not a number.
        values, vectors = jnp.linalg.eigh(covariance + jnp.diag(noise))
        factor = vectors * jnp.sqrt(jnp.maximum(values, jnp.float32(0)))[None, :]
        return run["trained"], {"codes": mean, "mean": mean.mean(axis=0), "factor": factor}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        return jnp.float32(0), (model_state, {})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        image = batch["image"].reshape(batch["image"].shape[0], -1)
        position, (mean, _) = batch["position"], encode(params, image)
        latent = mean.shape[-1]

        def spread(noise: Array) -> Array:
            """Noise of the covariance of the codes from standard noise [..., Z]."""
            return jnp.einsum("...z,yz->...y", noise, model_state["factor"])

        def fitted(noise: Array) -> Array:
            return model_state["mean"].reshape(*(1,) * (noise.ndim - 1), -1) + spread(noise)

        def normal(stream: int) -> Array:
            return batches.normal(jax.random.fold_in(key, stream), position, (latent,))  # [B, Z]

        def decode(code: Array) -> Array:
            return model.apply({"params": params}, code, method="decode")

        partner = model_state["codes"][position % model_state["codes"].shape[0]]
        disturbed = decode(mean + jnp.float32(disturbance) * spread(normal(DISTURBANCE)))
        pictures = {
            "prior": decode(normal(PRIOR)),
            "fitted": decode(fitted(normal(FITTED))),
            "interpolated": decode(0.5 * (mean + partner)),
            "disturbed": disturbed,
        }
        certain = {"image": certainty(classifier(run, image))}
        for kind, output in pictures.items():
            certain[kind] = certainty(classifier(run, pixel_means(decoder, output)))

        def likelihood(stream: int, of_noise: Callable[[Array], Array]) -> Array:
            def log_weights(key: Array, count: int) -> Array:  # the same draws for all images: [K, 1, Z]
                output = decode(of_noise(jax.random.normal(key, (count, 1, latent))))
                return log_decoded(image[None, :, :], output, run)

            return log_likelihood(log_weights, image.shape[0], jax.random.fold_in(key, stream), samples)

        return {
            **{f"{kind}_{name}": value for kind, values in certain.items() for name, value in values.items()},
            "disturbed_reconstruction": -log_decoded(image, disturbed, run),
            "prior_log_likelihood": likelihood(LIKELIHOOD, lambda noise: noise),
            "fitted_log_likelihood": likelihood(FITTED_LIKELIHOOD, fitted),
        }

    def predict(params: Any, model_state: Any, image: Array, run: Run) -> Array:
        code = GAUSSIAN.centre(encode(params, image.reshape(image.shape[0], -1)))
        return pixel_means(decoder, model.apply({"params": params}, code, method="decode"))

    return Task(init, loss, evaluate, predict=predict)


def certainty(probability: Array) -> Metrics:
    """entropy, in nats, and confidence, the largest, of probabilities [B, classes]: [B] each."""
    logs = jnp.log(jnp.maximum(probability, jnp.float32(1e-30)))
    return {"entropy": -(probability * logs).sum(axis=-1), "confidence": probability.max(axis=-1)}
