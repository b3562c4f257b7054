"""Noise against its theory, its bits against JAX's own generator, and what must not change it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from jaxdl import batch as batches
from jaxdl.models import MLP, dropout
from jaxdl.models.dropout import Noise

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.key(3)
FORMS = ("input", "hidden", "gaussian_input", "gaussian_hidden", "connections")
NETWORK = MLP((7, 5), 3, "tanh")


def places(count):
    return jnp.arange(count, dtype=jnp.uint32)


def noise_of(count, inverted=True, **rates):
    return Noise(KEY, places(count), *(jnp.float32(rates.get(name, 0)) for name in FORMS), inverted)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros((1, 6)))["params"]
    draw = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


IMAGE, PLACES = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32), np.arange(8, dtype=np.uint32)


# Bits


def test_random_bytes_are_threefry_of_the_position_and_the_place():
    """JAX pairs the first half of its counters with the second: those of one example, so, are (position, place)."""
    found = np.asarray(batches.random_bytes(KEY, jnp.uint32([7, 5]), (3, 9)))
    assert found.shape == (2, 3, 9) and found.dtype == np.uint8
    half = 4  # 27 bytes are 7 words: 4 calls of two words
    for row, position in zip(found, (7, 5), strict=True):
        counters = np.concatenate([np.full(half, position), np.arange(half)]).astype(np.uint32)
        words = np.asarray(threefry_2x32(jax.random.key_data(KEY), jnp.asarray(counters)))
        np.testing.assert_array_equal(row.ravel(), words.astype("<u4").view(np.uint8)[:27])


def test_random_bytes_are_uniform_and_uncorrelated():
    draws = np.asarray(batches.random_bytes(KEY, places(1000), (40,))).astype(np.float64)
    counts = np.bincount(draws.astype(int).ravel(), minlength=256)
    assert ((counts - 156.25) ** 2 / 156.25).sum() < 255 + 4 * np.sqrt(2 * 255)  # chi squared, 4 deviations
    correlation = np.corrcoef(draws.T)
    assert abs(correlation - np.eye(40)).max() < 5 / np.sqrt(1000)


# Expectation and variance


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("inverted", [True, False])
def test_dropout_has_the_mean_and_variance_of_bernoulli_noise(rate, inverted):
    met = round(256 * rate) / 256
    keep = 1 - met
    values = jnp.broadcast_to(jnp.float32([-2, 0.5, 3]), (40_000, 3))
    found = np.asarray(dropout.dropout(values, jnp.float32(rate), KEY, places(40_000), inverted=inverted), np.float64)
    scale = 1 / keep if inverted else 1.0
    value = np.array([-2, 0.5, 3])
    assert set(np.unique(found[:, 1])) == {0.0, np.float64(np.float32(0.5) * np.float32(scale))}
    mean, variance = scale * keep * value, scale**2 * keep * met * value**2
    assert (abs(found.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / 40_000)).all()
    np.testing.assert_allclose(found.var(axis=0), variance, rtol=0.05)
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / np.sqrt(40_000)
    if inverted:
        np.testing.assert_allclose(variance, value**2 * met / keep)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_gaussian_dropout_has_the_mean_and_variance_of_inverted_dropout(rate):
    values = jnp.broadcast_to(jnp.float32([-2, 0.5]), (40_000, 2))
    found = np.asarray(dropout.gaussian_dropout(values, jnp.float32(rate), KEY, places(40_000)), np.float64)
    value, variance = np.array([-2, 0.5]), np.array([4, 0.25]) * rate / (1 - rate)
    assert (abs(found.mean(axis=0) - value) < 4.5 * np.sqrt(variance / 40_000)).all()
    np.testing.assert_allclose(found.var(axis=0), variance, rtol=0.05)
    third = ((found - value) ** 3).mean(axis=0) / variance**1.5
    assert abs(third).max() < 0.1  # symmetric, as Bernoulli noise is not


@pytest.mark.parametrize(("rate", "inverted"), [(0.25, True), (0.75, True), (0.75, False)])
def test_dropconnect_has_the_mean_and_variance_of_masks_on_weights(rate, inverted):
    kernel = jnp.float32([[1, -2], [0.5, 3], [-1, 0.25]])
    value = np.float32([1, -1, 2])
    values = jnp.broadcast_to(value, (20_000, 3))
    found = dropout.drop_connections(values, kernel, jnp.float32(rate), KEY, places(20_000), inverted=inverted)
    found = np.asarray(found, np.float64)
    scale = 1.0 if inverted else 1 - rate
    mean, variance = scale * value @ kernel, scale**2 * rate / (1 - rate) * value**2 @ np.square(kernel)
    assert (abs(found.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / 20_000)).all()
    np.testing.assert_allclose(found.var(axis=0), variance, rtol=0.05)
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / np.sqrt(20_000)  # each arc has its own mask


def test_a_rate_is_met_to_within_a_512th():
    rates = np.linspace(0, 1, 2001, endpoint=False).astype(np.float32)
    found = np.asarray(dropout.keep_probability(jnp.asarray(rates)))
    assert abs(found - (1 - rates))[rates < 511 / 512].max() <= 1 / 512 + 1e-7
    assert found.min() == 1 / 256 and found.max() == 1


# Rate 0, and rates near 1


@pytest.fixture(scope="module")
def applied(params, compiling_quickly):
    """applied(image [8, 6], position, rates [5], key): the logits and the gradient of their squares; one program."""

    @jax.jit
    def found(image, position, rates, key):
        def squares(params):
            logits = NETWORK.apply({"params": params}, image, Noise(key, position, *rates))
            return jnp.square(logits).sum(), logits

        gradient, logits = jax.grad(squares, has_aux=True)(params)
        return logits, gradient

    def call(rates, image=IMAGE, position=PLACES, key=KEY):
        vector = jnp.float32([rates.get(name, 0) for name in FORMS])
        with compiling_quickly():
            return jax.tree.map(np.asarray, found(image, position, vector, key))

    return call


def test_rate_0_is_no_dropout_bit_for_bit(params, applied):
    @jax.jit
    def without(image):
        def squares(params):
            logits = NETWORK.apply({"params": params}, image)
            return jnp.square(logits).sum(), logits

        gradient, logits = jax.grad(squares, has_aux=True)(params)
        return logits, gradient

    jax.tree.map(np.testing.assert_array_equal, applied({}), without(IMAGE))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rate", [0.999, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_rates_near_1_stay_finite(applied, form, rate):
    logits, gradient = applied({form: rate})
    assert np.isfinite(logits).all() and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (logits != applied({})[0]).any()


# What noise depends on


@pytest.mark.parametrize("form", FORMS)
def test_noise_depends_on_the_key_and_the_position_alone(applied, form):
    rates = {form: 0.5}
    whole, _ = applied(rates)
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    np.testing.assert_allclose(applied(rates, IMAGE[order], PLACES[order])[0], whole[order], rtol=1e-5, atol=1e-6)
    company = np.where(np.arange(8)[:, None] < 3, IMAGE, 1.0), np.where(np.arange(8) < 3, PLACES, PLACES + np.uint32(9))
    np.testing.assert_allclose(applied(rates, *company)[0][:3], whole[:3], rtol=1e-5, atol=1e-6)
    for other in (applied(rates, key=jax.random.key(4)), applied(rates, position=PLACES + np.uint32(8))):
        assert (abs(other[0] - whole).max(axis=1) > 1e-4).sum() >= 6  # some example keeps all by chance


def test_each_place_has_noise_of_its_own():
    """Equal examples, layers of equal size: no two masks are alike."""
    ones = jnp.ones((2, 40))

    @jax.jit
    def masks():
        noise = noise_of(2, input=0.5, hidden=0.5, connections=0.5)
        units = noise.on_input(ones), noise.on_hidden(ones, 0), noise.on_hidden(ones, 1)
        return jnp.stack([*units, *(noise.product(layer)(ones, jnp.eye(40)) for layer in (0, 1))])

    rows = np.asarray(masks() != 0).reshape(10, 40)  # [5, 2, 40]
    assert len(set(map(tuple, rows))) == 10 and abs(rows.mean() - 0.5) < 0.1


# The two forms


def test_scaling_weights_at_test_is_the_same_network_function(params, applied):
    """Noise that is not inverted, weights 1/p as large: the same in training, and the same weights when tested."""
    rates = dict(input=0.25, hidden=0.5, connections=0.125)
    plain = noise_of(8, inverted=False, **rates)
    keep = {"hidden_0": 0.75 * 0.875, "hidden_1": 0.5 * 0.875, "output": 0.5}
    larger = {name: layer | {"kernel": layer["kernel"] / keep[name]} for name, layer in params.items()}
    found = jax.jit(lambda params: NETWORK.apply({"params": params}, IMAGE, plain))(larger)
    np.testing.assert_allclose(found, applied(rates)[0], rtol=1e-5, atol=1e-6)  # with the same masks
    tested = dropout.at_test(larger, plain)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), tested, params)
    alone = dropout.at_test({"output": params["output"]}, plain)["output"]["kernel"]  # a network of no hidden layer
    np.testing.assert_allclose(alone, 0.75 * params["output"]["kernel"], rtol=1e-6)


# Gradients


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("inverted", [True, False])
def test_the_gradient_of_dropconnect_is_that_of_finite_differences(inverted):
    """In float64: the masks stay as they are, whatever the weights."""
    draw = np.random.default_rng(0)
    values, kernel, weights = draw.normal(size=(3, 4)), draw.normal(size=(4, 5)), draw.normal(size=(3, 5))

    @jax.jit
    def loss(values, kernel):
        found = dropout.drop_connections(values, kernel, jnp.float32(0.4), KEY, places(3), inverted=inverted)
        return jnp.sum(weights * jnp.sin(found))

    found = jax.jit(jax.grad(loss, argnums=(0, 1)))(values, kernel)
    for number, (gradient, array) in enumerate(zip(found, (values, kernel), strict=True)):
        assert gradient.dtype == np.float64
        expected = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [values.copy(), kernel.copy()]
                moved[number][place] += step
                ends.append(loss(*moved))
            expected[place] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
        assert abs(expected).max() > 0.1
