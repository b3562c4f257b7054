"""Architectures against plain NumPy, their parameters by name and number, initial weights against formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxdl.errors import UserError
from jaxdl.models import MLP, Autoencoder, initialiser, unit
from jaxdl.models.autoencoder import keep_top
from jaxdl.models.initialisers import INITIALISERS
from jaxdl.models.units import UNITS

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUMPY_UNITS = {
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def shapes(model, inputs):
    """{"layer/name": shape} of the parameters, without computing any."""
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *inputs), jnp.float32))["params"]
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}


def random_params(model, inputs, seed=0):
    """Parameters that are all different from zero, biases too."""
    draw = np.random.default_rng(seed)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *inputs), jnp.float32))["params"]
    return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), params)


# Units


@pytest.mark.parametrize("name", UNITS)
def test_units_are_the_functions_of_their_names(name):
    values = np.array([-1000.0, -2.5, -0.1, 0.0, 0.3, 4.0, 1000.0], np.float32)
    found = unit(name)(jnp.asarray(values))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, NUMPY_UNITS[name](values.astype(np.float64)), rtol=1e-6, atol=1e-30)


def test_an_unknown_unit_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"^unknown unit 'sigmoud'; did you mean 'sigmoid'\? valid: sigmoid, tanh"):
        unit("sigmoud")


# Multi-layer perceptron


def test_mlp_parameters_have_the_names_and_sizes_of_its_layers():
    found = shapes(MLP((200, 200), 10), (28, 28, 1))
    assert found == {
        "hidden_0/kernel": (784, 200),
        "hidden_0/bias": (200,),
        "hidden_1/kernel": (200, 200),
        "hidden_1/bias": (200,),
        "output/kernel": (200, 10),
        "output/bias": (10,),
    }
    assert sum(map(np.prod, found.values())) == 199_210
    assert shapes(MLP((), 3), (5,)) == {"output/kernel": (5, 3), "output/bias": (3,)}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("widths", "name"), [((), "tanh"), ((5, 4), "tanh"), ((5, 4), "sigmoid"), ((6,), "relu")])
def test_mlp_is_layers_of_units_and_a_linear_output(widths, name):
    model = MLP(widths, 3, name)
    image = np.random.default_rng(1).normal(size=(4, 2, 3, 1))
    params = random_params(model, (2, 3, 1))
    hidden = image.reshape(4, 6)
    for number in range(len(widths)):
        layer = params[f"hidden_{number}"]
        hidden = NUMPY_UNITS[name](hidden @ layer["kernel"] + layer["bias"])
    expected = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(model.apply({"params": params}, image), expected, rtol=1e-12)


# Autoencoders


def test_autoencoder_parameters_have_the_names_and_sizes_of_its_layers():
    assert shapes(Autoencoder(784, (200, 30)), (784,)) == {
        "encoder_0/kernel": (784, 200),
        "encoder_0/bias": (200,),
        "encoder_1/kernel": (200, 30),
        "encoder_1/bias": (30,),
        "decoder_0/kernel": (200, 784),
        "decoder_0/bias": (784,),
        "decoder_1/kernel": (30, 200),
        "decoder_1/bias": (200,),
    }
    assert shapes(Autoencoder(784, (200, 30), tied=True), (784,)) == {
        "encoder_0/kernel": (784, 200),
        "encoder_0/bias": (200,),
        "encoder_1/kernel": (200, 30),
        "encoder_1/bias": (30,),
        "decoder_bias_0": (784,),
        "decoder_bias_1": (200,),
    }
    # The deep autoencoder of Hinton & Salakhutdinov 2006: 784-1000-500-250-30 and back.
    deep = shapes(Autoencoder(784, (1000, 500, 250, 30), code_unit="linear"), (784,))
    assert sum(map(np.prod, deep.values())) == 2_837_314


def numpy_autoencoder(params, image, widths, name, code_name, tied, top_k):
    """(code, reconstruction) by explicit loops over layers; `top_k` by a loop over examples."""
    hidden = image.reshape(len(image), -1)
    for number in range(len(widths)):
        layer = params[f"encoder_{number}"]
        last = number == len(widths) - 1
        hidden = NUMPY_UNITS[code_name if last else name](hidden @ layer["kernel"] + layer["bias"])
    if top_k:
        for row in hidden:
            row[np.argsort(row)[:-top_k]] = 0
    code = hidden
    for number in reversed(range(len(widths))):
        if tied:
            hidden = hidden @ params[f"encoder_{number}"]["kernel"].T + params[f"decoder_bias_{number}"]
        else:
            hidden = hidden @ params[f"decoder_{number}"]["kernel"] + params[f"decoder_{number}"]["bias"]
        if number > 0:
            hidden = NUMPY_UNITS[name](hidden)
    return code, hidden


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("widths", "names", "tied", "top_k"),
    [
        ((4,), ("sigmoid", "sigmoid"), False, 0),
        ((4,), ("sigmoid", "linear"), True, 2),
        ((5, 4, 3), ("sigmoid", "linear"), False, 0),
        ((5, 4, 3), ("tanh", "sigmoid"), True, 0),
        ((5, 4), ("relu", "tanh"), False, 1),
        ((4,), ("sigmoid", "sigmoid"), False, 4),
    ],
)
def test_autoencoder_encodes_and_decodes_layer_by_layer(widths, names, tied, top_k):
    """One layer and deep, own and tied weights, all units and the k largest; encode and decode by themselves too."""
    model = Autoencoder(6, widths, *names, tied=tied, top_k=top_k)
    image = np.random.default_rng(1).normal(size=(7, 2, 3, 1))
    params = random_params(model, (6,))
    code, output = numpy_autoencoder(params, image, widths, *names, tied, top_k)
    found_code, found_output = model.apply({"params": params}, image)
    np.testing.assert_allclose(found_code, code, rtol=1e-12)
    np.testing.assert_allclose(found_output, output, rtol=1e-12)
    np.testing.assert_allclose(model.apply({"params": params}, image, method="encode"), code, rtol=1e-12)
    np.testing.assert_allclose(model.apply({"params": params}, code, method="decode"), output, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_tied_weights_get_the_gradients_of_both_their_uses():
    """d/dW of the tied network is d/d(encoder W) + (d/d(decoder W))^T of the untied one with the same values."""
    image = np.random.default_rng(2).normal(size=(7, 6))
    tied, untied = Autoencoder(6, (5, 4), tied=True), Autoencoder(6, (5, 4))
    params = random_params(tied, (6,))
    unrolled = {name: params[name] for name in ("encoder_0", "encoder_1")} | {
        f"decoder_{number}": {
            "kernel": params[f"encoder_{number}"]["kernel"].T,
            "bias": params[f"decoder_bias_{number}"],
        }
        for number in (0, 1)
    }

    def loss(model, params):
        code, output = model.apply({"params": params}, image)
        return jnp.square(image - output).sum() + jnp.sin(code).sum()

    def both_gradients(params, unrolled):
        return jax.grad(lambda params: loss(tied, params))(params), jax.grad(lambda params: loss(untied, params))(
            unrolled
        )

    found, separate = jax.jit(both_gradients)(params, unrolled)
    for number in (0, 1):
        encoder, decoder = separate[f"encoder_{number}"], separate[f"decoder_{number}"]
        both = encoder["kernel"] + decoder["kernel"].T
        assert min(np.abs(encoder["kernel"]).max(), np.abs(decoder["kernel"]).max()) > 0.01
        np.testing.assert_allclose(found[f"encoder_{number}"]["kernel"], both, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[f"encoder_{number}"]["bias"], encoder["bias"], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[f"decoder_bias_{number}"], decoder["bias"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_keep_top_keeps_the_k_largest_values_and_their_gradients_only(k):
    code = np.random.default_rng(3).normal(size=(6, 8)).astype(np.float32)
    weight = np.random.default_rng(4).normal(size=(6, 8)).astype(np.float32)
    expected, kept = np.zeros_like(code), np.zeros_like(code)
    for example in range(6):
        for place in sorted(range(8), key=lambda place: code[example, place])[8 - k :]:
            expected[example, place], kept[example, place] = code[example, place], weight[example, place]
    np.testing.assert_array_equal(keep_top(jnp.asarray(code), k), expected)
    gradient = jax.grad(lambda code: (keep_top(code, k) * weight).sum())(jnp.asarray(code))
    np.testing.assert_array_equal(gradient, kept)


def test_keep_top_keeps_all_that_tie_at_the_last_place():
    code = jnp.float32([[2, 1, 1, 0], [-3, -1, -2, -2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(keep_top(code, 2), [[2, 1, 1, 0], [0, -1, -2, -2], [0, 0, 0, 0]])


@pytest.mark.parametrize("top_k", [-1, 5])
def test_top_k_beyond_the_code_is_refused(top_k):
    model = Autoencoder(6, (7, 4), top_k=top_k)
    with pytest.raises(UserError) as error:
        shapes(model, (6,))
    assert str(error.value) == f"top_k={top_k} is not possible: valid is 0 (off) to 4, the code size"


# Initial weights

FAN_IN, FAN_OUT = 300, 200
UNIFORM = {  # name: r of U(-r, r)
    "standard_uniform": 1 / np.sqrt(FAN_IN),
    "lecun_uniform": np.sqrt(3 / FAN_IN),
    "glorot_uniform": np.sqrt(6 / (FAN_IN + FAN_OUT)),
    "glorot_sigmoid": 4 * np.sqrt(6 / (FAN_IN + FAN_OUT)),
    "he_uniform": np.sqrt(6 / FAN_IN),
}
NORMAL = {  # name: standard deviation
    "lecun_normal": np.sqrt(1 / FAN_IN),
    "glorot_normal": np.sqrt(2 / (FAN_IN + FAN_OUT)),
    "he_normal": np.sqrt(2 / FAN_IN),
    "small_normal": 0.01,
}


def weights(name):
    return np.asarray(initialiser(name)(jax.random.key(0), (FAN_IN, FAN_OUT), jnp.float32))


def test_every_initialisation_is_checked_below():
    assert {*UNIFORM, *NORMAL, "orthogonal"} == set(INITIALISERS)


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_initialisations_fill_the_range_of_their_formula(name):
    radius, values = UNIFORM[name], weights(name)
    assert radius * 0.999 < np.abs(values).max() <= radius * (1 + 1e-6)
    assert scipy.stats.kstest(values.reshape(-1), "uniform", (-radius, 2 * radius)).pvalue > 0.01


@pytest.mark.parametrize("name", NORMAL)
def test_normal_initialisations_have_the_deviation_of_their_formula(name):
    deviation, values = NORMAL[name], weights(name)
    # The standard deviation of n normal numbers is known to 1 / sqrt(2 n).
    assert abs(values.std() / deviation - 1) < 4 / np.sqrt(2 * values.size)
    assert scipy.stats.kstest(values.reshape(-1), "norm", (0, deviation)).pvalue > 0.01  # not cut off anywhere


def test_orthogonal_initialisation_gives_orthonormal_columns_of_either_sign():
    tall = weights("orthogonal").astype(np.float64)
    np.testing.assert_allclose(tall.T @ tall, np.eye(FAN_OUT), atol=1e-5)
    assert abs(tall.mean()) < 4 / np.sqrt(FAN_IN * tall.size)  # entries have variance 1 / 300 and either sign


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (MLP((100, 100), 100, initialisation="standard_uniform"), ["hidden_0", "hidden_1", "output"]),
        (
            Autoencoder(100, (100, 100), initialisation="standard_uniform"),
            ["encoder_0", "encoder_1", "decoder_0", "decoder_1"],
        ),
        (Autoencoder(100, (100,), tied=True, initialisation="standard_uniform"), ["encoder_0"]),
    ],
)
def test_models_start_every_layer_from_the_chosen_weights_and_zero_biases(model, layers):
    params = model.init(jax.random.key(2), jnp.zeros((1, 100)))["params"]  # not jitted: all kernels share a program
    kernels = [np.asarray(params[name]["kernel"]) for name in layers]
    for kernel in kernels:
        assert 0.0999 < np.abs(kernel).max() <= 0.1  # 1 / sqrt(100); the default, Glorot's, is 0.173
    assert len({kernel.reshape(-1)[0].item() for kernel in kernels}) == len(layers)  # each from numbers of its own
    others = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 1]
    assert len(others) == len(layers) * (1 + model.__dict__.get("tied", False))
    assert not any(leaf.any() for leaf in others)


@pytest.mark.parametrize("model", [MLP((4,), 3, initialisation="x"), Autoencoder(5, (4,), initialisation="x")])
def test_models_refuse_an_unknown_initialisation(model):
    with pytest.raises(UserError, match=r"^unknown initialisation 'x'; valid: standard_uniform, "):
        shapes(model, (5,))


def test_an_unknown_initialisation_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"^unknown initialisation 'glorot_unifrom'; did you mean 'glorot_uniform'\? "):
        initialiser("glorot_unifrom")
