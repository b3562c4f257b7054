"""Deep networks of equal layers and what reaches their layers, against plain loops, differences and theory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import models
from jaxdl.errors import UserError
from jaxdl.models.deep_mlp import NORMALISATIONS, DeepMLP
from jaxdl.models.initialisers import INITIALISERS, VARIANCES
from jaxdl.tasks import classify, signals, steps_to_loss

pytestmark = pytest.mark.usefixtures("quick_compilation")

UNITS = {
    "linear": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
}
KEYS = jax.random.split(jax.random.key(0), 40)
DEPTH, WIDTH, INPUTS, CLASSES, COUNT = 4, 5, 7, 3, 6


def plain(params, image, unit, normalisation, added=0.0):
    """The logits and s of every layer in float64, layer by layer; batch norm with statistics of these images."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    found, before = [], np.asarray(image, np.float64)
    for number in range(DEPTH):
        layer = params["first"] if number == 0 else jax.tree.map(lambda leaf, n=number - 1: leaf[n], params["hidden"])
        after = before @ layer["dense"]["kernel"] + layer["dense"]["bias"]
        if normalisation == "batch_norm":
            norm = layer["batch_norm"]
            after = (after - after.mean(axis=0)) / np.sqrt(after.var(axis=0) + 1e-5) * norm["scale"] + norm["bias"]
        if normalisation == "residual" and number:
            after = found[-1] + after / np.sqrt(DEPTH)
        found.append(after + (added[number] if np.ndim(added) else added))
        before = UNITS[unit](found[-1])
    return before @ params["output"]["kernel"] + params["output"]["bias"], np.stack(found)


def cost(logits, label):
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(COUNT), label])


def made(unit="tanh", normalisation="none", scale=1.0):
    """Parameters times `scale` with random biases, its state, images, labels, and what passes through.

    All of it in one program: "passed", "statistics", "logits" in training mode, "jacobian" and "layers" after it.
    """
    network = DeepMLP(DEPTH, WIDTH, CLASSES, unit, normalisation)
    draw = np.random.default_rng(0)
    image, label = draw.standard_normal((COUNT, INPUTS), np.float32), np.int32(np.arange(COUNT) % CLASSES)

    @jax.jit
    def everything(key):
        params, state = models.initialise(network, key, (INPUTS,))
        leaves, structure = jax.tree.flatten(params)
        noise = [jax.random.normal(jax.random.fold_in(key, n), leaf.shape) for n, leaf in enumerate(leaves)]
        leaves = [scale * (leaf + 0.1 * more) for leaf, more in zip(leaves, noise, strict=True)]
        params = jax.tree.unflatten(structure, leaves)
        passed = signals.passed(network, params, state, image, label)
        settled = signals.settled(network, params, state, image)
        jacobian = signals.jacobian(network, params, settled, image)
        return params, {
            "passed": passed,
            "statistics": signals.statistics(network, passed),
            "logits": models.forward(network, params, state, image, train=True)[0],
            "jacobian": jacobian,
            "values": signals.singular_values(jacobian),
            "layers": signals.layer_jacobians(network, params, settled, image),
        }

    params, found = everything(jax.random.key(1))
    return params, image, label, found


def differences(function, array, places, step=1e-5):
    """Central differences of a scalar function at some places of an array."""
    found = []
    for place in places:
        moved = np.zeros(array.shape)
        moved[place] = step
        found.append((function(array + moved) - function(array - moved)) / (2 * step))
    return np.array(found)


@pytest.mark.parametrize("unit", UNITS)
def test_units_and_their_slopes(unit):
    x = np.linspace(-3, 3, 12)
    np.testing.assert_allclose(models.unit(unit)(np.float32(x)), UNITS[unit](x), rtol=1e-5, atol=1e-7)
    slope = (UNITS[unit](x + 1e-6) - UNITS[unit](x - 1e-6)) / 2e-6
    np.testing.assert_allclose(models.deep_mlp.slopes(unit, jnp.float32(x)), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_what_passes_through_a_network_is_what_a_plain_loop_and_its_differences_give(normalisation):
    """Gradients, and the network's Jacobian as the product of its layers'."""
    params, image, label, found = made("softsign", normalisation)
    logits, s = plain(params, image, "softsign", normalisation)
    passed = found["passed"]
    np.testing.assert_allclose(passed.s, s, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-5)
    places = [(layer, 2, 3) for layer in range(DEPTH)]
    expected = differences(
        lambda added: cost(plain(params, image, "softsign", normalisation, added)[0], label), np.zeros_like(s), places
    )
    np.testing.assert_allclose([passed.gradient[place] for place in places], expected, rtol=2e-3, atol=1e-7)

    def of_kernel(kernel):
        changed = params | {"hidden": params["hidden"] | {"dense": params["hidden"]["dense"] | {"kernel": kernel}}}
        return cost(plain(changed, image, "softsign", normalisation)[0], label)

    kernel = np.asarray(params["hidden"]["dense"]["kernel"], np.float64)
    last = [(DEPTH - 2, row, column) for row in range(WIDTH) for column in range(WIDTH)]
    norm = np.linalg.norm(differences(of_kernel, kernel, last))
    np.testing.assert_allclose(passed.weight_gradients[-1], norm, rtol=2e-3)

    slope = 1 / (1 + np.abs(s[-1])) ** 2  # [B, width]
    first = np.asarray(params["first"]["dense"]["kernel"], np.float64).T
    if normalisation == "batch_norm":
        variance = (np.asarray(image, np.float64) @ first.T).var(axis=0) + 1e-5
        first = first * (np.asarray(params["first"]["batch_norm"]["scale"]) / np.sqrt(variance))[:, None]
    output = np.asarray(params["output"]["kernel"], np.float64).T
    for example in range(COUNT):
        product = first
        for layer in np.asarray(found["layers"], np.float64)[:, example]:
            product = layer @ product
        product = output @ (slope[example][:, None] * product)
        np.testing.assert_allclose(found["jacobian"][example], product, rtol=2e-3, atol=1e-5)
        values = np.sqrt(np.linalg.eigvalsh(product @ product.T))[::-1]
        np.testing.assert_allclose(found["values"][example], values, rtol=2e-3, atol=1e-5)


def test_statistics_are_those_of_the_activations():
    params, image, _, found = made("sigmoid", scale=4.0)
    passed, found = found["passed"], found["statistics"]
    active = UNITS["sigmoid"](plain(params, image, "sigmoid", "none")[1])
    np.testing.assert_allclose(found.mean, active.mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.std, active.std(axis=(1, 2)), rtol=1e-4)
    saturated = (active * (1 - active) < 0.025).mean(axis=(1, 2))
    assert saturated.std() > 0.1 and saturated.max() < 1
    np.testing.assert_allclose(found.saturated, saturated, rtol=1e-6)
    np.testing.assert_allclose(found.gradient, np.linalg.norm(passed.gradient, axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(found.weight_gradient, passed.weight_gradients)


def test_what_each_image_meets_is_what_differences_of_its_own_cost_give():
    network = DeepMLP(DEPTH, WIDTH, CLASSES, "sigmoid")
    params, state = models.initialise(network, jax.random.key(3), (INPUTS,))
    params = jax.tree.map(lambda leaf: 4 * leaf, params)  # so that some units are saturated
    draw = np.random.default_rng(1)
    image, label = draw.standard_normal((COUNT, INPUTS), np.float32), np.int32(np.arange(COUNT) % CLASSES)
    found = jax.jit(signals.of_examples, static_argnums=0)(network, params, state, image, label)

    def costs(layer=0, unit=0, step=0.0):
        added = np.zeros((DEPTH, COUNT, WIDTH))
        added[layer, :, unit] = step
        logits, _ = plain(params, image, "sigmoid", "none", added)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(COUNT), label]

    norms = []
    for layer in (0, DEPTH - 1):
        slope = [(costs(layer, unit, 1e-5) - costs(layer, unit, -1e-5)) / 2e-5 for unit in range(WIDTH)]
        norms.append(np.sqrt(np.square(slope).sum(axis=0)))
    np.testing.assert_allclose(found["reach"], np.log10(norms[0] / norms[1]), atol=1e-4)
    _, s = plain(params, image, "sigmoid", "none")
    share = 1 / (1 + np.exp(-s))
    expected = (share * (1 - share) < 0.025).mean(axis=(0, 2))
    np.testing.assert_allclose(found["saturation"], expected, atol=1e-6)
    assert expected.min() > 0 and expected.max() < 1

    flat = image.reshape(COUNT, -1)
    slopes = []  # d logits / d x by differences, [B, classes, inputs]
    for place in range(flat.shape[1]):
        ends = []
        for step in (1e-5, -1e-5):
            moved = flat.astype(np.float64)
            moved[:, place] += step
            ends.append(plain(params, moved.reshape(image.shape), "sigmoid", "none")[0])
        slopes.append((ends[0] - ends[1]) / 2e-5)
    jacobian = np.stack(slopes, axis=2)
    every = np.array(list(itertools.product([-1, 1], repeat=jacobian.shape[1])))  # all signs of the classes
    squares = np.square(np.einsum("vc,bci->vbi", every, jacobian)).sum(axis=2)
    singular = np.linalg.svd(jacobian, compute_uv=False)
    np.testing.assert_allclose(squares.mean(axis=0), np.square(singular).sum(axis=1), rtol=1e-6)
    values = np.log10(np.sqrt(squares / jacobian.shape[1]))  # [signs, B]
    assert np.abs(values - np.asarray(found["log10_jacobian"])).min(axis=0).max() < 1e-4  # each image has some signs


def test_a_norm_does_not_underflow_or_overflow():
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(signals.norm(np.float32(scale) * np.float32([3, -4])), 5 * scale, rtol=1e-6)
    assert signals.norm(np.zeros(3, np.float32)) == 0
    assert not np.isfinite(signals.norm(np.float32([1, np.inf])))


def test_a_linear_network_multiplies_the_variance_by_the_square_of_the_gain_in_each_layer():
    """E |s_{l+1}|^2 = gain^2 |s_l|^2 for weights of variance gain^2 / width: gain^(2 L) after L layers."""
    network = DeepMLP(6, 100, CLASSES, "linear", "none", "lecun_normal")
    image = np.random.default_rng(0).standard_normal((20, 100), np.float32)

    @jax.jit
    def squares(gain):
        def of(key):
            params, state = models.initialise(network, key, (100,))
            params = jax.tree.map(lambda leaf: gain * leaf, params)
            return (signals.passed(network, params, state, image, np.zeros(20, np.int32)).s ** 2).mean(axis=(1, 2))

        return jax.lax.map(of, KEYS).mean(axis=0)

    for gain in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(squares(np.float32(gain)), gain ** (2 * np.arange(1, 7)), rtol=0.1)


def test_a_gradient_falls_to_a_quarter_of_the_gain_at_most_in_a_layer_of_sigmoid_units():
    """|sigmoid'| <= 1/4, and an orthogonal matrix keeps norms: |dC/ds_l| <= |dC/ds_{l+1}| / 4."""
    network = DeepMLP(8, 32, CLASSES, "sigmoid", "none", "orthogonal")
    image = np.random.default_rng(0).standard_normal((COUNT, INPUTS), np.float32)

    @jax.jit
    def look(key):
        params, state = models.initialise(network, key, (INPUTS,))
        passed = signals.passed(network, params, state, image, np.int32(np.arange(COUNT) % CLASSES))
        # where the slope is 1/4, a layer's Jacobian is a quarter of an orthogonal matrix
        square = models.deep_mlp.layer_jacobians(network, params, state, jnp.zeros((8, 1, 32)))
        return signals.statistics(network, passed).gradient, signals.singular_values(square)

    norms, values = look(jax.random.key(0))
    factors = np.asarray(norms[:-1] / norms[1:])
    assert factors.max() <= 0.25 and factors.min() > 0.15
    np.testing.assert_allclose(values, 0.25, rtol=1e-4)


def test_the_mean_singular_value_of_a_layer_follows_from_the_quarter_circle_law():
    """Of a square Gaussian matrix of variance 1 / N it is 8 / (3 pi): .5 and .8 in Glorot & Bengio 2010, 4.2."""
    network = DeepMLP(3, 100, CLASSES, "linear", "none", "glorot_normal")

    @jax.jit
    def mean(key):
        params, state = models.initialise(network, key, (INPUTS,))
        return signals.singular_values(signals.layer_jacobians(network, params, state, jnp.ones((1, INPUTS)))).mean()

    np.testing.assert_allclose(mean(jax.random.key(0)), 8 / (3 * np.pi), rtol=0.02)


def test_the_residual_branches_raise_the_variance_by_no_more_than_e():
    """E |s_L|^2 = (1 + 1/L)^(L-1) |s_1|^2 for linear units of gain 1."""
    network = DeepMLP(30, 50, CLASSES, "linear", "residual", "lecun_normal")
    image = np.random.default_rng(0).standard_normal((20, 50), np.float32)

    def ratio(key):
        params, state = models.initialise(network, key, (50,))
        squares = (signals.passed(network, params, state, image, np.zeros(20, np.int32)).s ** 2).mean(axis=(1, 2))
        return squares[-1] / squares[0]

    found = jax.lax.map(ratio, KEYS).mean()
    np.testing.assert_allclose(found, (1 + 1 / 30) ** 29, rtol=0.1)


@pytest.mark.parametrize("name", VARIANCES)
def test_a_gain_is_that_of_the_initialisation_of_its_name(name):
    kernel = INITIALISERS[name](jax.random.key(0), (300, 200))
    np.testing.assert_allclose(np.sqrt(300) * kernel.std(), models.gain(name, 300, 200), rtol=0.02)


@pytest.mark.parametrize("shape", [(9, 4), (2, 4, 9), (20, 20)])
def test_an_orthogonalised_kernel_is_the_polar_factor(shape):
    kernel = np.random.default_rng(0).standard_normal(shape, np.float32)
    left, _, right = np.linalg.svd(kernel, full_matrices=False)
    np.testing.assert_allclose(models.orthogonalised(kernel), left @ right, atol=2e-4)
    columns = np.asarray(models.orthogonalised(kernel), np.float64)
    small = columns.swapaxes(-1, -2) @ columns if shape[-2] >= shape[-1] else columns @ columns.swapaxes(-1, -2)
    np.testing.assert_allclose(small, np.broadcast_to(np.eye(min(shape[-2:])), small.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth=0 is not possible"),
        ({"normalisation": "batchnorm"}, "normalisation 'batchnorm'; did you mean 'batch_norm'"),
        ({"unit": "rely"}, "unit 'rely'; did you mean 'relu'"),
    ],
)
def test_what_does_not_exist_is_refused(settings, message):
    network = DeepMLP(**{"depth": 2, "width": 3, "classes": 2} | settings)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda key: models.initialise(network, key, (INPUTS,)), jax.random.key(0))


def test_a_gain_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="with a gain 'he_norm'; did you mean 'he_normal'"):
        models.gain("he_norm", 1, 1)


def test_the_step_at_which_the_loss_is_low_enough_is_counted():
    losses = np.float32([2, 0.1, 2, 1, 0.5, 0.4, 0.3, 3, 0.1])
    network = DeepMLP(1, 2, CLASSES)
    task = classify(network, (INPUTS,))
    metrics = {"error": np.float32(0)}
    counted = steps_to_loss(
        task._replace(loss=lambda params, state, batch, run, key: (batch["loss"], (state, metrics))), 0.95
    )
    params, state = jax.jit(lambda key: counted.init({}, key))(jax.random.key(0))
    advance = jax.jit(lambda state, loss: counted.loss(params, state, {"loss": loss}, {}, None))
    mean, expected = 0.0, 0
    for number, loss in enumerate(losses, start=1):
        value, (state, seen) = advance(state, loss)
        mean = 0.95 * mean + 0.05 * float(loss)
        expected = expected or number * (mean / (1 - 0.95**number) < 0.95)
        assert value == loss and seen == metrics
        assert state["steps_to_loss"]["reached"] == expected
    assert expected == 7
    image = np.ones((2, INPUTS), np.float32)
    logits, after = models.forward(network, params, state, image, train=True)  # the network is not bothered
    np.testing.assert_array_equal(logits, models.forward(network, params, {}, image, train=False)[0])
    assert after == state
