"""Generators: linear ones, of which densities and draws are known, against NumPy, scipy and quadrature in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import jaxdl
from jaxdl.errors import UserError
from jaxdl.tasks import generation
from jaxdl.tasks.generation import certainty

pytestmark = pytest.mark.usefixtures("quick_compilation")

INPUTS, TRAINED, DRAWS, DEVIATION = 3, 6, 20_000, 0.7
KINDS = ("prior", "fitted", "interpolated", "disturbed")
IMAGES = np.random.default_rng(0).random((TRAINED, INPUTS)).astype(np.float32)  # of the training split


def parameters(latent, scale=0.7):
    """Of a VAE without hidden layers, far from zero."""
    random = np.random.default_rng(2)
    shapes = jaxdl.models.VAE(INPUTS, (), latent).init(jax.random.key(0), jnp.zeros((1, INPUTS)))["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, scale, leaf.shape), jnp.float32), shapes)


def batch_of(size, positions=None):
    image = np.random.default_rng(1).random((size, INPUTS)).astype(np.float32)
    position = np.arange(size) if positions is None else np.asarray(positions)
    return {"image": image, "label": np.zeros(size, np.int32), "position": position.astype(np.uint32)}


def run_of(params, noise=1.0):
    hyper = {"noise": jnp.float32(noise), "decoder_deviation": jnp.float32(DEVIATION)}
    return {"seed": np.uint32(0), "hyper": hyper, "trained": params}


def task_of(latent, decoder, classifier, samples=1, disturbance=0.5):
    model = jaxdl.models.VAE(INPUTS, (), latent)
    return generation(model, INPUTS, decoder, IMAGES, classifier, samples, disturbance)


def measured(task, run, batch, key):
    params, state = task.init(run, jax.random.key(0))
    return task.evaluate(params, state, batch, run, key)


def dense(params, name, values):
    layer = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[name])
    return np.asarray(values, np.float64) @ layer["kernel"] + layer["bias"]


def gaussian_of_codes(params, noise):
    """Mean and covariance, as NumPy has them, of draws of the codes of IMAGES."""
    means = dense(params, "mean", IMAGES)
    variance = np.exp(dense(params, "log_variance", IMAGES)).mean(axis=0)
    covariance = np.cov(means, rowvar=False, bias=True).reshape(2 * variance.shape)
    return means.mean(axis=0), covariance + np.diag(noise**2 * variance)


# What is drawn: the decoder gives the code itself, and a "classifier" shows one of its columns as its confidence.


@pytest.fixture(scope="module")
def seen():
    """seen(noise, disturbance): {kind: pictures [B, 3]}, -log p(x|disturbed code) [B], the batch and the codes."""
    params = parameters(INPUTS) | {"output": {"kernel": jnp.eye(INPUTS), "bias": jnp.zeros(INPUTS)}}
    params["mean"]["kernel"] += 2 * jnp.eye(INPUTS)  # codes of full rank
    batch = batch_of(DRAWS)

    @jax.jit
    def column(number, noise, disturbance):
        task = task_of(
            INPUTS, "gaussian", lambda run, image: jnp.take(image, run["column"], axis=1)[:, None], 1, disturbance
        )
        return measured(task, run_of(params, noise) | {"column": number}, batch, jax.random.key(4))

    def seen(noise=1.0, disturbance=0.5):
        found = [column(number, jnp.float32(noise), jnp.float32(disturbance)) for number in range(INPUTS)]
        pictures = {
            kind: np.stack([each[f"{kind}_confidence"] for each in found], axis=1).astype(np.float64)
            for kind in ("image", *KINDS)
        }
        return pictures, found[0]["disturbed_reconstruction"], batch, params

    return seen


def whitened(draws, mean, covariance):
    """Standard normal where `draws` [N, Z] have this mean and covariance."""
    return np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T).T


def check_standard_normal(values):
    """Mean and covariance within 5 standard errors of 0 and 1, and each column's distribution."""
    error = 1 / np.sqrt(len(values))
    assert np.abs(values.mean(axis=0)).max() < 5 * error
    difference = np.cov(values, rowvar=False, bias=True) - np.eye(values.shape[1])
    assert np.abs(difference).max() < 5 * np.sqrt(2) * error
    for column in values.T:
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-4


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_draws_have_the_mean_and_covariance_of_the_codes(seen, noise):
    """With the noise of the posterior, which an autoencoder (noise 0) does not have."""
    pictures, _, _, params = seen(noise)
    mean, covariance = gaussian_of_codes(params, noise)
    check_standard_normal(pictures["prior"])
    check_standard_normal(whitened(pictures["fitted"], mean, covariance))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_disturbance_is_so_many_standard_deviations_of_the_codes(seen, noise):
    moved = {}
    for disturbance in (0.25, 2.0):
        pictures, reconstruction, batch, params = seen(noise, disturbance)
        moved[disturbance] = (pictures["disturbed"] - dense(params, "mean", batch["image"])) / disturbance
        wanted = -scipy.stats.norm.logpdf(batch["image"], pictures["disturbed"], DEVIATION).sum(axis=1)
        np.testing.assert_allclose(reconstruction, wanted, rtol=1e-4)
    _, covariance = gaussian_of_codes(params, noise)
    check_standard_normal(whitened(moved[2.0], np.zeros(INPUTS), covariance))
    np.testing.assert_allclose(moved[0.25], moved[2.0], atol=1e-4)  # the same noise


def test_codes_that_fill_a_plane_alone_have_draws_in_that_plane():
    """More units than training images or inputs, without noise: a singular covariance."""
    params, batch = parameters(100), batch_of(5)
    task = task_of(100, "gaussian", lambda run, image: jax.nn.softmax(image), samples=10)
    _, state = jax.jit(task.init)(run_of(params, 0.0), jax.random.key(0))
    _, covariance = gaussian_of_codes(params, 0.0)
    factor = np.asarray(state["factor"], np.float64)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-5 * np.abs(covariance).max())
    found = jax.jit(lambda key: measured(task, run_of(params, 0.0), batch, key))(jax.random.key(1))
    assert all(np.isfinite(values).all() for values in found.values())


def test_the_draws_have_nothing_to_do_with_each_other(seen):
    pictures, _, batch, params = seen()
    mean, covariance = gaussian_of_codes(params, 1.0)
    disturbance = (pictures["disturbed"] - dense(params, "mean", batch["image"])) / 0.5
    draws = [pictures["prior"], whitened(pictures["fitted"], mean, covariance), whitened(disturbance, 0.0, covariance)]
    between = np.corrcoef(np.concatenate(draws, axis=1), rowvar=False)
    assert np.abs(between - np.eye(3 * INPUTS)).max() < 5 / np.sqrt(DRAWS)


def test_halfway_lies_the_training_image_of_the_same_position(seen):
    pictures, _, batch, params = seen()
    partner = IMAGES[np.arange(DRAWS) % TRAINED]
    wanted = (dense(params, "mean", batch["image"]) + dense(params, "mean", partner)) / 2
    np.testing.assert_allclose(pictures["interpolated"], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pictures["image"], batch["image"])


# Log-likelihoods. The mean of p(x) over keys is unbiased whatever the number of samples is.


def check_log_likelihoods(task, params, noise, exact, batch, pictures=None):
    """exact: {"prior": log p(x) [B], "fitted": log p(x) [B]}."""
    program = jax.jit(jax.vmap(lambda key: measured(task, run_of(params, noise), batch, key)))
    found = program(jax.random.split(jax.random.key(8), 50))
    for name, wanted in exact.items():
        density = np.exp(np.asarray(found[f"{name}_log_likelihood"], np.float64) - wanted)  # [keys, B]
        error = density.std(axis=0, ddof=1) / np.sqrt(len(density))
        assert (error < 0.02).all() and (np.abs(density.mean(axis=0) - 1) < 5 * error).all(), name
    return found


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_log_likelihoods_of_a_linear_gaussian_decoder_are_those_of_scipy(noise):
    """x = W'z + b + deviation e is Gaussian for Gaussian z."""
    params, batch = parameters(2), batch_of(5)
    weights = np.asarray(params["output"]["kernel"], np.float64)  # [2, 3]
    exact = {}
    for name, (mean, covariance) in {
        "prior": (np.zeros(2), np.eye(2)),
        "fitted": gaussian_of_codes(params, noise),
    }.items():
        spread = weights.T @ covariance @ weights + DEVIATION**2 * np.eye(INPUTS)
        exact[name] = scipy.stats.multivariate_normal(dense(params, "output", mean), spread).logpdf(batch["image"])
    assert np.abs(exact["prior"] - exact["fitted"]).max() > 0.2
    task = task_of(2, "gaussian", lambda run, image: image, samples=1010)
    check_log_likelihoods(task, params, noise, exact, batch)


def test_log_likelihoods_of_a_bernoulli_decoder_are_those_of_quadrature():
    params, batch = parameters(1, scale=1.5), batch_of(5, positions=[9, 2, 0, 6, 4])
    batch["image"] = np.round(batch["image"])
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    exact = {}
    mean, covariance = gaussian_of_codes(params, 1.0)
    for name, codes in {"prior": nodes, "fitted": mean + np.sqrt(covariance[0]) * nodes}.items():
        logits = dense(params, "output", codes[:, None])[:, None, :]  # [nodes, 1, 3]
        given = (batch["image"] * logits - np.logaddexp(0, logits)).sum(axis=-1)
        exact[name] = scipy.special.logsumexp(given, axis=0, b=weights[:, None] / weights.sum())
    assert np.abs(exact["prior"] - exact["fitted"]).max() > 0.2
    task = task_of(1, "bernoulli", lambda run, image: image, samples=1010)
    found = check_log_likelihoods(task, params, 1.0, exact, batch)
    # Pictures are probabilities, not logits.
    halfway = (dense(params, "mean", batch["image"]) + dense(params, "mean", IMAGES[[3, 2, 0, 0, 4]])) / 2
    wanted = scipy.special.expit(dense(params, "output", halfway)).max(axis=1)
    np.testing.assert_allclose(found["interpolated_confidence"], np.tile(wanted, (50, 1)), rtol=1e-5)


# What they depend on


@pytest.fixture(scope="module")
def softmax():
    """(the task with a softmax of the picture as its classifier, its `measured`, parameters)."""
    task = task_of(2, "gaussian", lambda run, image: jax.nn.softmax(3 * image), samples=3)
    return task, jax.jit(lambda run, batch, key: measured(task, run, batch, key)), parameters(2)


def test_an_examples_numbers_depend_on_its_position_and_key_alone(softmax):
    _, measure, params = softmax
    batch, chosen = batch_of(8), np.array([5, 0, 6])
    key, run = jax.random.key(3), run_of(params)
    whole = measure(run, batch, key)
    part = measure(run, {name: values[chosen] for name, values in batch.items()}, key)
    assert len(whole) == 2 * (1 + len(KINDS)) + 3
    for name, values in whole.items():
        assert values.shape == (8,)
        np.testing.assert_allclose(part[name], values[chosen], rtol=1e-5, err_msg=name)
    moved = measure(run, batch | {"position": batch["position"] + np.uint32(TRAINED)}, key)  # the same partners
    other = measure(run, batch, jax.random.key(4))
    for name, values in whole.items():
        drawn = not name.startswith(("image", "interpolated"))
        assert (other[name] != values).all() == drawn, name
        assert (moved[name] != values).all() == (drawn and "likelihood" not in name), name


def test_entropy_and_confidence_are_of_the_classifiers_probabilities(softmax):
    _, measure, params = softmax
    batch = batch_of(8)
    found = measure(run_of(params), batch, jax.random.key(3))
    halfway = dense(params, "mean", batch["image"]) + dense(params, "mean", IMAGES[np.arange(8) % TRAINED])
    for kind, picture in {"image": batch["image"], "interpolated": dense(params, "output", halfway / 2)}.items():
        probability = scipy.special.softmax(3 * picture.astype(np.float64), axis=1)
        np.testing.assert_allclose(found[f"{kind}_entropy"], scipy.stats.entropy(probability, axis=1), rtol=1e-4)
        np.testing.assert_allclose(found[f"{kind}_confidence"], probability.max(axis=1), rtol=1e-5)


def test_certainty_is_that_of_scipy_with_zeros_too():
    probability = np.random.default_rng(3).dirichlet(np.full(10, 0.3), 50)
    probability[:2] = np.eye(10)[:2]
    probability[2] = 0.1
    found = certainty(jnp.asarray(probability, jnp.float32))
    np.testing.assert_allclose(found["entropy"], scipy.stats.entropy(probability, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["confidence"], probability.max(axis=1), rtol=1e-6)
    assert found["entropy"][0] == 0 and found["entropy"][2] == pytest.approx(np.log(10))


def test_it_measures_what_was_trained_and_trains_nothing(softmax):
    task, _, params = softmax
    run, batch = run_of(params), batch_of(4)
    start, state = jax.jit(task.init)(run, jax.random.key(0))
    assert jax.tree.all(jax.tree.map(lambda one, other: (one == other).all(), start, params))
    gradient = jax.grad(lambda params: task.loss(params, state, batch, run, jax.random.key(1))[0])(params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))
    wanted = dense(params, "output", dense(params, "mean", batch["image"]))
    np.testing.assert_allclose(task.predict(start, state, batch["image"], run), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("changes", "part"), [(dict(samples=0), "samples=0"), (dict(samples=10**7), "samples=10{7}")])
def test_no_samples_and_too_many_are_refused(changes, part):
    with pytest.raises(UserError, match=rf"generation\.{part} is not possible: valid is 1 to 1000000$") as caught:
        task_of(2, "gaussian", lambda run, image: image, **changes)
    assert "\n" not in str(caught.value)
