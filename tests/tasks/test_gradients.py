"""Variances and biases of gradients: against moments known in closed form, and a plain loop in float64."""

import functools
import itertools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import batch as batches
from jaxdl.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")

DEVIATION = 0.5
PARAMS = {"mean": {"value": jnp.float32(2.0)}, "deviation": {"value": jnp.float32(DEVIATION)}}
BLOCKS = {"mean": ("mean",), "deviation": ("deviation",), "all": ("mean", "deviation")}
IMAGES = np.array([-0.5, 0.0, 0.3, 1.0], np.float32)
BATCH = {"image": IMAGES[:, None], "position": np.arange(4, dtype=np.uint32)}


def drawn(params, batch, key):
    """z ~ N(mean + image, deviation^2), and its mean: [B] each."""
    mean = params["mean"]["value"] + batch["image"][:, 0]
    return mean + params["deviation"]["value"] * batches.normal(key, batch["position"], ()), mean


def pathwise(params, model_state, batch, run, key):
    """E[z^2] of one image, whose gradient is 2 (mean + image) and 2 deviation; of several, of the mean of their z."""
    return jnp.square(batches.batch_mean(drawn(params, batch, key)[0])), None


def score(params, model_state, batch, run, key):
    code, mean = drawn(params, batch, key)
    code = jax.lax.stop_gradient(code)
    deviation = params["deviation"]["value"]
    log_density = -0.5 * jnp.square((code - mean) / deviation) - jnp.log(deviation)
    return batches.batch_mean(jnp.square(code) * log_density), None


def wrong(params, model_state, batch, run, key):
    """A gradient 1.5 times too large."""
    value, aux = pathwise(params, model_state, batch, run, key)
    return 1.5 * value, aux


LOSSES = {"pathwise": pathwise, "score": score, "wrong": wrong}


def known_variances(m, s):
    """Of d z^2 and of z^2 d log q(z), z = m + s e, by hand: E e^4 = 3, E e^6 = 15, E e^8 = 105."""
    return {
        "pathwise": {"mean": 4 * s**2, "deviation": 4 * m**2 + 8 * s**2},
        "score": {
            "mean": (m**4 + 18 * m**2 * s**2 + 15 * s**4) / s**2 - 4 * m**2,
            "deviation": (2 * m**4 + 60 * m**2 * s**2 + 78 * s**4) / s**2 - 4 * s**2,
        },
        "wrong": {"mean": 9 * s**2, "deviation": 9 * m**2 + 18 * s**2},
    }


@functools.cache
def measured(samples, reference_samples, repetitions):
    """{metric: [repetitions, images]} of the toy losses, in float64."""
    evaluate = jaxdl.tasks.gradient_moments(LOSSES, BLOCKS, "pathwise", samples, reference_samples)

    repeated = jax.jit(jax.vmap(lambda key: evaluate(PARAMS, {}, BATCH, {}, key)))
    values = repeated(jax.random.split(jax.random.key(1), repetitions))
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def within_noise(found, wanted):
    """The means over repetitions are as wanted, to within 5 standard errors, which are themselves small."""
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - wanted), 5 * error)
    return error


@pytest.mark.parametrize("estimator", LOSSES)
def test_variances_are_those_known_by_hand(estimator):
    """With few samples each, so that a wrong divisor would show: 1/10 of the variance is many standard errors."""
    values = measured(10, 200, 4000)
    known = known_variances(2.0 + IMAGES.astype(np.float64), DEVIATION)[estimator]
    known["all"] = known["mean"] + known["deviation"]
    for block in BLOCKS:
        error = within_noise(10 ** values[f"log10_variance_{estimator}_{block}"], known[block])
        assert (error < (0.1 if estimator == "score" else 0.02) * known[block]).all()


@pytest.mark.parametrize(("estimator", "bias"), [("pathwise", 0.0), ("score", 0.0), ("wrong", 0.25)])
def test_a_bias_is_found_and_none_where_there_is_none(estimator, bias):
    """With so few samples that |difference|^2 alone, and with one of the two corrections, is far off."""
    values = measured(10, 200, 4000)
    for block in ("mean", "all"):
        within_noise(values[f"bias_{estimator}_{block}"], bias)


def test_the_variance_of_a_batchs_gradient_is_the_sum_of_its_images_over_the_square_of_their_number():
    gradient = jax.jit(jax.vmap(jax.grad(lambda params, key: score(params, {}, BATCH, {}, key)[0]), in_axes=(None, 0)))
    draws = gradient(PARAMS, jax.random.split(jax.random.key(2), 40_000))["mean"]["value"]
    draws = np.asarray(draws, np.float64)
    squares = np.square(draws - draws.mean())
    images = 10 ** measured(10, 200, 4000)["log10_variance_score_mean"]
    within_noise(squares, images.mean(axis=0).sum() / len(IMAGES) ** 2)


def keys_of(key, estimator, stream, count):
    """The keys of an estimator's draws: all different."""
    own = jax.random.fold_in(jax.random.fold_in(key, np.uint32(zlib.crc32(estimator.encode()))), stream)
    return jax.vmap(lambda draw: jax.random.fold_in(own, draw))(np.arange(count, dtype=np.uint32))


@pytest.fixture(scope="module")
def autoencoder():
    """losses, params, state, run, batch of variational autoencoders of which the score function is very noisy."""
    hyper = dict(beta=1.0, noise=1.0, masking=0.0, free_bits=0.0, anneal=0.0, decoder_deviation=1.0)
    run = {"seed": np.uint32(0), "hyper": {name: jnp.float32(value) for name, value in hyper.items()}}
    model = jaxdl.models.VAE(20, (6,), 2)
    tasks = {name: jaxdl.tasks.elbo(model, 20, estimator=name, samples=2) for name in ("pathwise", "score")}
    params, state = tasks["pathwise"].init(run, jax.random.key(3))
    image = np.random.default_rng(1).random((4, 20)).astype(np.float32)
    batch = {"image": image, "label": np.zeros(4, np.int32), "position": np.arange(4, dtype=np.uint32)}
    return {name: task.loss for name, task in tasks.items()}, params, state, run, batch


LAYERS = {"encoder": ("encoder_0", "mean", "log_variance"), "mean": ("mean",), "output": ("output",)}
SAMPLES, RIGHT = 300, 40  # draws of each estimator, and of the reference


def test_the_moments_are_those_of_a_plain_loop_in_float64(autoencoder):
    losses, params, state, run, batch = autoencoder
    evaluate = jaxdl.tasks.gradient_moments(losses, LAYERS, "pathwise", SAMPLES, RIGHT)
    found = jax.device_get(jax.jit(evaluate)(params, state, batch, run, jax.random.key(7)))

    def gradients(estimator):
        """{block: float64 [images, draws, its parameters]}: what is measured, then the reference."""
        streams = [keys_of(jax.random.key(7), estimator, stream, n) for stream, n in enumerate((SAMPLES, RIGHT))]

        def gradient(image, key):
            image = {name: value[None] for name, value in image.items()}
            return jax.grad(lambda params: losses[estimator](params, state, image, run, key)[0])(params)

        keys = jnp.concatenate(streams)
        leaves = jax.device_get(jax.jit(jax.vmap(jax.vmap(gradient, (None, 0)), (0, None)))(batch, keys))
        flat = {
            block: [leaf.reshape(len(IMAGES), len(keys), -1) for name in names for leaf in leaves[name].values()]
            for block, names in LAYERS.items()
        }
        return {block: np.concatenate(found, axis=2, dtype=np.float64) for block, found in flat.items()}

    draws = {estimator: gradients(estimator) for estimator in losses}
    hardest = 0
    for estimator in losses:
        for block, place in itertools.product(LAYERS, range(len(IMAGES))):
            own, right = draws[estimator][block][place][:SAMPLES], draws["pathwise"][block][place][SAMPLES:]
            total = np.trace(np.cov(own, rowvar=False))
            noise = np.trace(np.cov(right, rowvar=False)) / RIGHT
            off = np.square(own.mean(axis=0) - right.mean(axis=0)).sum() - total / SAMPLES - noise
            bias = off / (np.square(right.mean(axis=0)).sum() - noise)
            measured = found[f"log10_variance_{estimator}_{block}"][place]
            np.testing.assert_allclose(measured, np.log10(total), atol=1e-5)
            np.testing.assert_allclose(found[f"bias_{estimator}_{block}"][place], bias, rtol=1e-4, atol=1e-5)
            hardest = max(hardest, total / np.square(own.mean(axis=0)).sum())
    assert hardest > 50  # a mean that is small against the spread


def test_an_image_has_the_same_numbers_in_any_company_and_on_any_device():
    """A mean over the batch spans the devices elsewhere, and not here."""
    losses = {"pathwise": pathwise, "score": score}
    evaluate = jaxdl.tasks.gradient_moments(losses, BLOCKS, "pathwise", 10, 10)
    whole = jax.jit(evaluate)(PARAMS, {}, BATCH, {}, jax.random.key(7))
    split = {name: value.reshape(2, 2, *value.shape[1:]) for name, value in BATCH.items()}
    devices = jax.devices()[:2]
    spread = jax.pmap(lambda batch: evaluate(PARAMS, {}, batch, {}, jax.random.key(7)), batches.AXIS, devices=devices)
    for name, values in spread(split).items():
        np.testing.assert_allclose(np.ravel(values), whole[name], rtol=1e-4, atol=1e-5)


def test_a_gradient_without_noise_has_no_variance_and_no_bias():
    def still(params, model_state, batch, run, key):
        return jnp.square(params["mean"]["value"]), None

    evaluate = jaxdl.tasks.gradient_moments({"still": still}, BLOCKS, "still", 3, 3)
    values = evaluate(PARAMS, {}, BATCH, {}, jax.random.key(0))
    for block in BLOCKS:  # of the deviation, the gradient itself is 0
        np.testing.assert_allclose(values[f"log10_variance_still_{block}"], -37.93, atol=0.01)
        np.testing.assert_array_equal(values[f"bias_still_{block}"], 0)


def test_a_reference_that_is_lost_in_its_noise_divides_by_a_millionth_of_its_square():
    def lost(params, model_state, batch, run, key):
        return params["mean"]["value"] * batches.normal(key, batch["position"], ())[0], None

    places = np.arange(50, dtype=np.uint32)
    evaluate = jaxdl.tasks.gradient_moments({"lost": lost}, {"mean": ("mean",)}, "lost", 2, 2)
    found = jax.jit(evaluate)(PARAMS, {}, {"position": places}, {}, jax.random.key(0))["bias_lost_mean"]
    streams = [keys_of(jax.random.key(0), "lost", stream, 2) for stream in range(2)]
    draws = [np.array([batches.normal(key, places, ()) for key in keys], np.float64) for keys in streams]  # [2, images]
    (mean, noise), (right, right_noise) = [(draw.mean(axis=0), draw.var(axis=0, ddof=1) / 2) for draw in draws]
    divisor = right**2 - right_noise
    assert 5 < (divisor < 0).sum() < 45
    divisor = np.maximum(divisor, 1e-6 * right**2)
    np.testing.assert_allclose(found, ((mean - right) ** 2 - noise - right_noise) / divisor, rtol=1e-3)


def test_what_is_not_possible_is_said():
    with pytest.raises(UserError, match="unknown reference 'pathwize'; did you mean 'pathwise'"):
        jaxdl.tasks.gradient_moments(LOSSES, BLOCKS, "pathwize", 2, 2)
    with pytest.raises(UserError, match="reference_samples=1 "):
        jaxdl.tasks.gradient_moments(LOSSES, BLOCKS, "pathwise", 2, 1)
    evaluate = jaxdl.tasks.gradient_moments(LOSSES, {"mean": ("means",)}, "pathwise", 2, 2)
    with pytest.raises(UserError, match="unknown parameters 'means'; did you mean 'mean'"):
        evaluate(PARAMS, {}, BATCH, {}, jax.random.key(0))
