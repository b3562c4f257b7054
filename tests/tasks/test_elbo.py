"""The ELBO and its gradients, against scipy, quadrature in float64, finite differences and plain Monte Carlo."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import linen as nn

import jaxdl
from jaxdl.errors import UserError
from jaxdl.tasks import densities
from jaxdl.tasks.posteriors import GAUSSIAN, estimators

pytestmark = pytest.mark.usefixtures("quick_compilation")

ESTIMATORS = estimators(GAUSSIAN)

HYPER = dict(beta=1.0, noise=1.0, masking=0.0, free_bits=0.0, anneal=0.0, decoder_deviation=1.0)
INPUTS, BATCH = 3, 4


def run_of(**changes):
    return {"seed": np.uint32(0), "hyper": {name: jnp.float32(value) for name, value in (HYPER | changes).items()}}


def batch_of(size=BATCH):
    image = np.random.default_rng(1).random((size, INPUTS)).astype(np.float32)
    return {"image": image, "label": np.zeros(size, np.int32), "position": np.arange(size, dtype=np.uint32)}


def compiled(task):
    """One program for each function: many times faster than to compile each operation by itself."""
    functions = {name: jax.jit(getattr(task, name)) for name in ("init", "loss", "evaluate", "predict")}
    return task._replace(**functions)


def small(estimator="pathwise", samples=1, **options):
    """A task with one latent unit and no hidden layers, and parameters far from zero."""
    model = jaxdl.models.VAE(INPUTS, (), 1)
    task = compiled(jaxdl.tasks.elbo(model, INPUTS, estimator=estimator, samples=samples, **options))
    params, state = task.init(run_of(), jax.random.key(3))
    random = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), jnp.float32), params)
    return model, task, params, state


# Gauss-Hermite: E[f(e)], e ~ N(0, 1), is sum_k WEIGHTS_k f(NODES_k), exact for polynomials up to degree 79.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def exact_loss(params, image, beta=1.0):
    """The objective of the small model in float64 NumPy, by quadrature. params: {layer: {kernel, bias}}."""
    image = np.asarray(image, np.float64)
    dense = {
        name: (np.asarray(layer["kernel"], np.float64), np.asarray(layer["bias"], np.float64))
        for name, layer in params.items()
    }

    def layer(name, x):
        return x @ dense[name][0] + dense[name][1]

    mean, log_variance = layer("mean", image), layer("log_variance", image)  # [B, 1]
    total = 0.0
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        logits = layer("output", mean + np.exp(0.5 * log_variance) * node)
        total += weight * (image * logits - np.logaddexp(0, logits)).sum(axis=1)
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1)
    return float((-total + beta * kl).mean())


def exact_gradient(params, image, beta=1.0, step=1e-5):
    """Central differences of `exact_loss` in every parameter."""
    params = jax.tree.map(lambda leaf: np.array(leaf, np.float64), params)
    gradient = jax.tree.map(np.zeros_like, params)
    for leaf, own in zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True):
        for place in np.ndindex(leaf.shape):
            value = leaf[place]
            leaf[place] = value + step
            above = exact_loss(params, image, beta)
            leaf[place] = value - step
            own[place] = (above - exact_loss(params, image, beta)) / (2 * step)
            leaf[place] = value
    return gradient


DRAWS = 40_000


@pytest.fixture(scope="module")
def sampled():
    """sampled(estimator, beta): losses [DRAWS] and gradients [DRAWS, ...] of `small`, the baseline about log p(x|z)."""

    @functools.cache
    def program(estimator):
        _, task, params, state = small(estimator, samples=3)
        state = state | {"step": jnp.float32(7), "baseline": jnp.float32(-2.0)}

        def one(key, run):
            return jax.value_and_grad(lambda params: task.loss(params, state, batch_of(), run, key)[0])(params)

        return jax.jit(lambda keys, run: jax.lax.map(lambda key: one(key, run), keys, batch_size=1000))

    @functools.cache
    def sampled(estimator, beta):
        return jax.device_get(program(estimator)(jax.random.split(jax.random.key(5), DRAWS), run_of(beta=beta)))

    return sampled


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_every_estimator_is_unbiased(sampled, estimator, beta):
    """The mean of 40,000 gradients is the exact one, to within 5 standard errors of each entry."""
    _, _, params, _ = small()
    image = batch_of()["image"]
    losses, found = sampled(estimator, beta)
    error = losses.std(dtype=np.float64) / np.sqrt(DRAWS)
    assert abs(losses.mean(dtype=np.float64) - exact_loss(params, image, beta)) < 5 * error
    wanted = exact_gradient(params, image, beta)
    for own, exact in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        spread = own.std(axis=0, dtype=np.float64) / np.sqrt(DRAWS)
        assert (np.abs(own.mean(axis=0, dtype=np.float64) - exact) < 5 * spread + 1e-5).all()


def exact_gradients(params, image, estimator, baseline):
    """Of one image, float64 NumPy: the gradient at every pair of noise on a grid, and the probability of each.

    The two draws of z are independent, so their grid is that of all pairs of nodes. Returns {layer: [pairs, entries]}.
    """
    image = np.asarray(image, np.float64)
    dense = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def layer(name, x):
        return x @ dense[name]["kernel"] + dense[name]["bias"]

    noise = np.stack(np.meshgrid(NODES, NODES), axis=-1).reshape(-1, 2)  # [P, 2]
    weight = np.outer(WEIGHTS, WEIGHTS).reshape(-1)
    mean, log_variance = layer("mean", image)[0], layer("log_variance", image)[0]
    deviation = np.exp(0.5 * log_variance)
    code = mean + deviation * noise
    logits = code[:, :, None] * dense["output"]["kernel"][0] + dense["output"]["bias"]  # [P, 2, D]
    error = image - scipy.special.expit(logits)  # of log p(x|z) in the logits
    likelihood = (image * logits - np.logaddexp(0, logits)).sum(axis=2)  # [P, 2]
    if estimator == "pathwise":
        by_mean = (error * dense["output"]["kernel"][0]).sum(axis=2)
        by_log_variance = by_mean * 0.5 * deviation * noise
    else:
        others = {"score": 0.0, "score_running_mean": baseline, "score_leave_one_out": likelihood[:, ::-1]}
        reward = likelihood - others[estimator]
        by_mean, by_log_variance = reward * noise / deviation, reward * 0.5 * (noise**2 - 1)
    by_mean = mean - by_mean.mean(axis=1)
    by_log_variance = 0.5 * (np.exp(log_variance) - 1) - by_log_variance.mean(axis=1)
    inputs = np.append(image, 1.0)  # of a layer's kernel and of its bias
    output = np.concatenate([code[:, :, None] * error, error], axis=2).mean(axis=1)
    return weight, {
        "mean": by_mean[:, None] * inputs, "log_variance": by_log_variance[:, None] * inputs, "output": -output
    }  # fmt: skip


def test_every_estimators_variance_is_the_enumerated_one():
    """Of each layer's gradient, for each image; and the mean that is enumerated with it is the exact gradient."""
    tasks = {estimator: small(estimator, samples=2) for estimator in ESTIMATORS}
    _, _, params, state = tasks["pathwise"]
    batch, run, count, baseline = batch_of(), run_of(), 20_000, -2.0
    state = state | {"step": jnp.float32(7), "baseline": jnp.float32(baseline)}
    losses = {estimator: task.loss for estimator, (_, task, _, _) in tasks.items()}
    blocks = {name: (name,) for name in ("mean", "log_variance", "output")}
    evaluate = jaxdl.tasks.gradient_moments(losses, blocks, "pathwise", count, 2)
    found = jax.device_get(jax.jit(evaluate)(params, state, batch, run, jax.random.key(8)))
    for place, image in enumerate(batch["image"]):
        wanted = exact_gradient(params, image[None])
        for estimator in ESTIMATORS:
            weight, gradients = exact_gradients(params, image, estimator, baseline)
            for name, gradient in gradients.items():
                exact = weight @ gradient
                flat = np.concatenate([wanted[name]["kernel"].ravel(), wanted[name]["bias"]])
                np.testing.assert_allclose(exact, flat, atol=1e-6)
                squares = np.square(gradient - exact).sum(axis=1)
                variance = weight @ squares
                error = np.sqrt(weight @ np.square(squares - variance) / count)
                assert error < 0.1 * variance
                assert abs(10 ** np.float64(found[f"log10_variance_{estimator}_{name}"][place]) - variance) < 5 * error


def test_baselines_and_reparameterisation_lower_the_variance_of_the_encoders_gradient(sampled):
    gradients = {estimator: sampled(estimator, 1.0)[1]["mean"]["kernel"] for estimator in ESTIMATORS}
    variances = {estimator: gradient.var(axis=0, dtype=np.float64).sum() for estimator, gradient in gradients.items()}
    assert variances["pathwise"] < variances["score_leave_one_out"] < variances["score"]
    assert variances["score_running_mean"] < variances["score"]


def test_densities_are_those_of_scipy():
    random = np.random.default_rng(0)
    value, mean, log_variance = random.normal(size=(3, 5, 4))
    with jax.enable_x64(True):
        found = densities.log_normal(value, mean, log_variance)
        wanted = scipy.stats.norm.logpdf(value, mean, np.exp(log_variance / 2)).sum(axis=1)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        bits = random.integers(0, 2, (5, 4)).astype(np.float64)
        found = densities.log_bernoulli(bits, mean)
        np.testing.assert_allclose(found, scipy.stats.bernoulli.logpmf(bits, 1 / (1 + np.exp(-mean))).sum(axis=1))
        assert np.isfinite(densities.log_bernoulli(bits, 1e4 * mean)).all()


def test_the_divergence_is_its_monte_carlo_estimate():
    random = np.random.default_rng(0)
    mean, log_variance = random.normal(size=(2, 6))
    noise = random.standard_normal((400_000, 6))
    value = mean + np.exp(log_variance / 2) * noise
    ratio = scipy.stats.norm.logpdf(value, mean, np.exp(log_variance / 2)) - scipy.stats.norm.logpdf(value)
    error = ratio.std(axis=0) / np.sqrt(len(ratio))
    with jax.enable_x64(True):
        found = np.asarray(densities.kl_to_standard_normal(mean, log_variance))
    assert (np.abs(found - ratio.mean(axis=0)) < 5 * error).all()
    assert float(densities.kl_to_standard_normal(jnp.zeros(1), jnp.zeros(1)).sum()) == 0


def test_evaluation_gives_the_terms_apart_and_their_sum():
    _, task, params, state = small()
    batch, run = batch_of(400), run_of(beta=10.0)
    values = task.evaluate(params, state, batch, run, jax.random.key(0))
    np.testing.assert_allclose(values["loss"], values["reconstruction"] + values["kl"], rtol=1e-6)
    np.testing.assert_allclose(values["objective"], values["reconstruction"] + 10 * values["kl"], rtol=1e-6)
    draws = [np.mean(task.evaluate(params, state, batch, run, jax.random.key(seed))["loss"]) for seed in range(60)]
    exact = exact_loss(params, batch["image"])  # with beta 1, whatever it was trained with
    assert abs(np.mean(draws) - exact) < 5 * np.std(draws) / np.sqrt(len(draws))


def test_without_noise_and_divergence_it_is_an_autoencoder():
    model, task, params, state = small()
    batch = batch_of()
    loss, _ = task.loss(params, state, batch, run_of(beta=0.0, noise=0.0), jax.random.key(0))
    logits = jax.jit(model.apply)({"params": params}, batch["image"])
    wanted = (np.logaddexp(0, logits) - batch["image"] * np.asarray(logits)).sum(axis=1).mean()
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    found = task.predict(params, state, batch["image"], run_of())
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.asarray(logits))), rtol=1e-5)


def test_a_gaussian_decoder_has_the_density_of_its_deviation():
    model, task, params, state = small(decoder="gaussian")
    batch = batch_of()
    loss, _ = task.loss(params, state, batch, run_of(beta=0.0, noise=0.0, decoder_deviation=0.3), jax.random.key(0))
    means = np.asarray(jax.jit(model.apply)({"params": params}, batch["image"]), np.float64)
    wanted = -scipy.stats.norm.logpdf(batch["image"], means, 0.3).sum(axis=1).mean()
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_binarisation_is_drawn_anew_with_the_pixels_as_probabilities():
    _, task, params, state = small(binarise="resampled")
    batch, run = batch_of(), run_of(beta=0.0, noise=0.0)
    # The last layer's weights zero: what is left is linear in the pixels, sum_d b_d x_d - softplus(b_d).
    params = params | {"output": {"kernel": jnp.zeros((1, INPUTS)), "bias": jnp.asarray([1.0, -2.0, 0.5])}}
    keys = jax.random.split(jax.random.key(1), 3000)
    losses = jax.jit(jax.vmap(lambda key: task.loss(params, state, batch, run, key)[0]))(keys)
    bias = np.array([1.0, -2.0, 0.5])
    wanted = (np.logaddexp(0, bias) - batch["image"].astype(np.float64) * bias).sum(axis=1).mean()
    assert abs(np.mean(losses) - wanted) < 5 * np.std(losses) / np.sqrt(len(losses))
    assert len(np.unique(np.round(losses, 4))) > 10


def test_free_bits_cost_nothing_and_move_nothing():
    _, task, params, state = small()
    batch, key = batch_of(), jax.random.key(0)

    def kl_part(**changes):
        loss, (_, metrics) = task.loss(params, state, batch, run_of(**changes), key)
        return float(loss - metrics["reconstruction"]), float(metrics["kl"])

    charged, kl = kl_part()
    assert charged == pytest.approx(kl, rel=1e-4)
    charged, kl = kl_part(free_bits=100.0)
    assert charged == pytest.approx(100.0, rel=1e-5) and kl < 100
    slope = jax.jit(jax.grad(lambda params, run: task.loss(params, state, batch, run, key)[0]))
    gradient, without = slope(params, run_of(free_bits=100.0, beta=1e6)), slope(params, run_of(beta=0.0))
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_beta_grows_over_the_annealing_steps():
    _, task, params, state = small()
    batch, key = batch_of(), jax.random.key(0)

    def weight(step, anneal):
        loss, (after, metrics) = task.loss(
            params, state | {"step": jnp.float32(step)}, batch, run_of(beta=2.0, anneal=anneal), key
        )
        assert after["step"] == step + 1
        return float((loss - metrics["reconstruction"]) / metrics["kl"])

    found = [weight(step, anneal) for step, anneal in ((0, 0), (0, 100), (25, 100), (100, 100), (300, 100))]
    np.testing.assert_allclose(found, [2.0, 0.0, 0.5, 2.0, 2.0], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (dict(estimator="pathwize"), "did you mean 'pathwise'?"),
        (dict(decoder="bernouli"), "did you mean 'bernoulli'?"),
        (dict(binarise="fixed"), "unknown binarise 'fixed'"),
        (dict(samples=0), "samples=0"),
        (dict(estimator="score_leave_one_out"), "samples=1"),
    ],
)
def test_what_is_not_possible_is_said(options, part):
    with pytest.raises(UserError, match=part.replace("?", r"\?")):
        jaxdl.tasks.elbo(jaxdl.models.VAE(INPUTS, (), 1), INPUTS, **options)


def test_a_code_has_at_least_one_value():
    with pytest.raises(UserError, match=r"model\.latent=0"):
        jaxdl.models.VAE(INPUTS, (), 0).init(jax.random.key(0), jnp.zeros((1, INPUTS)))


@pytest.fixture(scope="module")
def linear():
    """A linear Gaussian model of which log p(x) is known: x = W z + b + 0.5 e, so x ~ N(b, W W' + 0.25 I)."""
    random = np.random.default_rng(4)
    weights, bias = random.normal(size=(2, INPUTS)), random.normal(size=INPUTS)
    images = (random.normal(size=(6, 2)) @ weights + bias + 0.5 * random.normal(size=(6, INPUTS))).astype(np.float32)
    exact = scipy.stats.multivariate_normal(bias, weights.T @ weights + 0.25 * np.eye(INPUTS)).logpdf(images)

    def log_decoded(image, code):
        means = jnp.asarray(code @ jnp.asarray(weights, jnp.float32)) + jnp.asarray(bias, jnp.float32)[None, None, :]
        return densities.log_normal(image[None, :, :], means, jnp.float32(2 * np.log(0.5)))

    def encode(image):  # a poor one, wider than the posterior
        mean = 0.3 * (image - jnp.asarray(bias, jnp.float32)[None, :]) @ jnp.asarray(weights.T, jnp.float32)
        return mean, jnp.zeros_like(mean)

    return images, exact, encode, log_decoded


@pytest.fixture(scope="module")
def bound(linear):
    """bound(samples, chunk=50, seed=0): the importance-weighted bound of each image."""
    images, _, encode, log_decoded = linear
    position, terms = np.arange(len(images), dtype=np.uint32), encode(images)

    def log_weights(key, count):
        code = GAUSSIAN.draw(terms, run_of(), key, position, count)
        return log_decoded(images, code) + GAUSSIAN.log_prior(code) - GAUSSIAN.log_density(code, terms)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def measure(samples, chunk, key):
        return jaxdl.tasks.log_likelihood(log_weights, len(images), key, samples, chunk)

    return lambda samples, chunk=50, seed=0: np.asarray(measure(samples, chunk, jax.random.key(seed)))


def test_the_importance_weighted_bound_rises_to_the_log_likelihood(linear, bound):
    _, exact, _, _ = linear
    means = {k: np.mean([bound(k, seed=seed) for seed in range(40)]) for k in (1, 5, 50)}
    assert means[1] < means[5] < means[50] < exact.mean() + 0.02
    np.testing.assert_allclose(bound(20_000, chunk=1000), exact, atol=0.05)


@pytest.mark.parametrize("samples", [1, 7, 50, 120])
def test_the_bound_is_that_of_a_plain_loop_and_counts_no_sample_too_many(linear, bound, samples):
    images, _, encode, log_decoded = linear
    position, chunk = np.arange(len(images), dtype=np.uint32), min(50, samples)
    mean, log_variance = encode(images)
    weights = []
    for number in range(-(-samples // chunk)):
        key = jax.random.fold_in(jax.random.key(0), number)
        noise = jaxdl.batch.normal(key, position, (chunk, 2))
        for place in range(chunk):
            code = np.asarray(mean) + np.exp(0.5 * np.asarray(log_variance)) * np.asarray(noise[:, place])
            prior = scipy.stats.norm.logpdf(code).sum(axis=1)
            posterior = scipy.stats.norm.logpdf(code, mean, np.exp(0.5 * np.asarray(log_variance))).sum(axis=1)
            weights.append(np.asarray(log_decoded(images, jnp.asarray(code)[None]))[0] + prior - posterior)
    wanted = scipy.special.logsumexp(weights[:samples], axis=0) - np.log(samples)
    np.testing.assert_allclose(bound(samples), wanted, rtol=2e-5, atol=2e-5)


def test_no_sample_of_the_bound_is_drawn_with_the_numbers_that_binarise_the_image():
    inputs, image = 64, batch_of(2) | {"image": np.full((2, 64), 0.5, np.float32)}

    def draw(terms, run, key, position, count):  # as the pixels are drawn: from their key it gives the pixels
        bits = jaxdl.batch.uniform_bits(key, position, (inputs,)) < 32768
        return jnp.broadcast_to(bits.astype(jnp.float32)[None], (count, *bits.shape))

    class Copy(nn.Module):
        def encode(self, image):
            return (image,)

        def decode(self, code):
            return 100 * (2 * code - 1)  # logits

    zero = GAUSSIAN._replace(draw=draw, log_prior=lambda code: 0.0, log_density=lambda code, terms: 0.0)
    measure = jaxdl.tasks.bound(Copy(), inputs, "bernoulli", "resampled", 200, zero)
    found = measure({}, {}, image, run_of(), jax.random.key(0))["bound"]
    assert (np.asarray(found) < -500).all()  # about -100 for each of the 32 pixels that two draws differ in


def test_a_convolutional_network_is_trained_by_the_same_objective():
    model = jaxdl.models.ConvVAE((4, 4, 1), (2,), 5, 2)
    task = compiled(jaxdl.tasks.elbo(model, 16))
    params, state = task.init(run_of(), jax.random.key(0))
    image = np.random.default_rng(0).random((3, 4, 4, 1)).astype(np.float32)
    batch = {"image": image, "label": np.zeros(3, np.int32), "position": np.arange(3, dtype=np.uint32)}
    objective = jax.jit(jax.value_and_grad(lambda p: task.loss(p, state, batch, run_of(), jax.random.key(1))[0]))
    loss, gradient = objective(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    moved = jax.tree.map(lambda leaf, slope: leaf - 1e-3 * slope, params, gradient)
    after, _ = objective(moved)
    squares = sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(gradient))
    assert float(loss - after) == pytest.approx(1e-3 * squares, rel=0.1)  # to first order
    assert task.predict(params, state, image, run_of()).shape == (3, 16)


def test_bernoulli_likelihood_and_its_gradient_at_any_logit():
    logits = np.array([-1e4, -100, -20, -1e-3, 0, 1e-3, 20, 100, 1e4], np.float32)[:, None]
    exact = scipy.special.expit(logits.astype(np.float64))
    for pixel in (0.0, 0.3, 1.0):
        value, gradient = jax.vmap(
            jax.value_and_grad(lambda logit, pixel=pixel: densities.log_bernoulli(jnp.float32([pixel]), logit))
        )(logits)
        wanted = pixel * logits.astype(np.float64) - np.logaddexp(0, logits.astype(np.float64))
        np.testing.assert_allclose(value, wanted[:, 0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(gradient, pixel - exact, rtol=1e-5, atol=1e-7)
