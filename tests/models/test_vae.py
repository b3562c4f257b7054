"""Dense variational autoencoders against plain NumPy, layer by layer; their parameters by name and size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl.errors import UserError
from jaxdl.models import VAE, CategoricalVAE

pytestmark = pytest.mark.usefixtures("quick_compilation")

INPUTS, WIDTHS, LATENT, CLASSES = 6, (5, 4), 2, 3
NUMPY_UNITS = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": scipy.special.expit}
MODELS = {"gaussian": (VAE, (LATENT,), LATENT), "categorical": (CategoricalVAE, (LATENT, CLASSES), LATENT * CLASSES)}


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def made(kind, **options):
    """(model, parameters of a normal distribution, size of a code)."""
    build, sizes, size = MODELS[kind]
    model, draw = build(INPUTS, WIDTHS, *sizes, **options), np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, INPUTS), jnp.float32))["params"]
    return model, jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), shapes), size


def dense(params, name, values):
    return values @ params[name]["kernel"] + params[name]["bias"]


def through(params, part, unit, values):
    for number in range(len(WIDTHS)):
        values = NUMPY_UNITS[unit](dense(params, f"{part}_{number}", values))
    return values


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unit", NUMPY_UNITS)
def test_encoder_and_decoder_are_layers_of_units(kind, unit):
    model, params, size = made(kind, unit=unit)
    images = np.random.default_rng(1).normal(size=(7, 2, 3, 1))
    terms = model.apply({"params": params}, images, method="encode")
    hidden = through(params, "encoder", unit, images.reshape(7, INPUTS))
    if kind == "gaussian":
        wanted = [dense(params, "mean", hidden), dense(params, "log_variance", hidden)]
        centre = wanted[0]
    else:
        logits = dense(params, "logits", hidden)
        wanted = [np.stack([logits[:, :CLASSES], logits[:, CLASSES:]], axis=1)]  # unit by unit, [7, 2, 3]
        centre = np.concatenate([scipy.special.softmax(wanted[0][:, each], axis=1) for each in range(LATENT)], axis=1)
    assert len(terms) == len(wanted)
    for found, expected in zip(terms, wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, strict=True)
    called = model.apply({"params": params}, images)
    np.testing.assert_allclose(called, dense(params, "output", through(params, "decoder", unit, centre)), rtol=1e-10)
    codes = np.random.default_rng(2).normal(size=(4, 3, size))  # any leading axes
    decoded = model.apply({"params": params}, codes, method="decode")
    assert decoded.shape == (4, 3, INPUTS)
    for sample, example in np.ndindex(4, 3):
        expected = dense(params, "output", through(params, "decoder", unit, codes[sample, example]))
        np.testing.assert_allclose(decoded[sample, example], expected, rtol=1e-10)


def test_parameters_have_the_names_and_sizes_of_the_layers(kind):
    _, params, size = made(kind)
    layers = {"encoder_0": (6, 5), "encoder_1": (5, 4), "decoder_0": (size, 4), "decoder_1": (4, 5), "output": (5, 6)}
    layers |= {"logits": (4, 6)} if kind == "categorical" else {"mean": (4, 2), "log_variance": (4, 2)}
    assert {name: layer["kernel"].shape for name, layer in params.items()} == layers
    assert {name: layer["bias"].shape for name, layer in params.items()} == {n: s[1:] for n, s in layers.items()}


def test_a_unit_that_does_not_exist_is_named(kind):
    with pytest.raises(UserError, match="did you mean 'tanh'") as caught:
        made(kind, unit="tan")
    assert "\n" not in str(caught.value)
