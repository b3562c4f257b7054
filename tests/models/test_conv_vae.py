"""The convolutional VAE against plain loops over pixels; its parameters by name and number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.errors import UserError
from jaxdl.models import ConvVAE
from jaxdl.models.units import UNITS

pytestmark = pytest.mark.usefixtures("quick_compilation")

ODD = ConvVAE((5, 6, 2), (3, 4), width=7, latent=2, unit="tanh")  # 5 x 6 -> 3 x 3 -> 2 x 2


def shapes(model):
    """{"layer/name": shape} of the parameters, without computing any."""
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *model.shape), jnp.float32))["params"]
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}


@pytest.fixture(scope="module")
def params():
    """Parameters of ODD that are all different from zero, biases too, float64."""
    draw = np.random.default_rng(0)
    drawn = jax.eval_shape(ODD.init, jax.random.key(0), jnp.zeros((1, *ODD.shape), jnp.float32))["params"]
    return jax.tree.map(lambda leaf: draw.normal(0, 0.3, leaf.shape), drawn)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def halve(image, layer):
    """A convolution by a loop: kernel 4, stride 2, one zero before the image, one or two after it."""
    height, width, _ = image.shape
    padded = np.pad(image, ((1, 2), (1, 2), (0, 0)))
    found = np.empty(((height + 1) // 2, (width + 1) // 2, layer["kernel"].shape[-1]))
    for row, column in np.ndindex(found.shape[:2]):
        patch = padded[2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        found[row, column] = np.einsum("hwi,hwio->o", patch, layer["kernel"]) + layer["bias"]
    return found


def double(small, layer, height, width):
    """Its mirror image by a loop: each value is spread over the pixels that the convolution reads for it.

    Flax keeps a transposed convolution's kernel with its rows and columns backwards.
    """
    found = np.zeros((height + 3, width + 3, layer["kernel"].shape[-1]))
    for row, column in np.ndindex(small.shape[:2]):
        spread = np.einsum("i,hwio->hwo", small[row, column], layer["kernel"][::-1, ::-1])
        found[2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += spread
    return found[1 : height + 1, 1 : width + 1] + layer["bias"]


def dense(values, layer):
    return values @ layer["kernel"] + layer["bias"]


@pytest.mark.usefixtures("float64")
def test_encoder_and_decoder_are_plain_loops_over_pixels(params):
    images = np.random.default_rng(1).normal(size=(3, 5, 6, 2))
    means, log_variances = ODD.apply({"params": params}, images, method="encode")
    codes = np.random.default_rng(2).normal(size=(3, 2))
    decoded = ODD.apply({"params": params}, codes, method="decode")
    assert means.dtype == decoded.dtype == np.float64 and decoded.shape == (3, 60)
    for image, mean, log_variance, code, found in zip(images, means, log_variances, codes, decoded, strict=True):
        first = np.tanh(halve(image, params["encoder_0"]))
        hidden = np.tanh(halve(first, params["encoder_1"]))
        assert (first.shape, hidden.shape) == ((3, 3, 3), (2, 2, 4))
        hidden = np.tanh(dense(hidden.reshape(-1), params["encoder_2"]))
        np.testing.assert_allclose(mean, dense(hidden, params["mean"]), rtol=1e-10)
        np.testing.assert_allclose(log_variance, dense(hidden, params["log_variance"]), rtol=1e-10)
        hidden = np.tanh(dense(np.tanh(dense(code, params["decoder_0"])), params["decoder_1"])).reshape(2, 2, 4)
        hidden = np.tanh(double(hidden, params["decoder_2"], 3, 3))
        expected = double(hidden, params["output"], 5, 6)
        np.testing.assert_allclose(found.reshape(5, 6, 2), expected, rtol=1e-10, atol=1e-12)


def test_parameters_have_the_names_and_sizes_of_the_layers():
    layers = {
        "encoder_0": (4, 4, 1, 8),
        "encoder_1": (4, 4, 8, 16),
        "encoder_2": (7 * 7 * 16, 64),
        "mean": (64, 10),
        "log_variance": (64, 10),
        "decoder_0": (10, 64),
        "decoder_1": (64, 7 * 7 * 16),
        "decoder_2": (4, 4, 16, 8),
        "output": (4, 4, 8, 1),
    }
    expected = {f"{name}/kernel": shape for name, shape in layers.items()}
    expected |= {f"{name}/bias": shape[-1:] for name, shape in layers.items()}
    assert shapes(ConvVAE((28, 28, 1), (8, 16), width=64, latent=10)) == expected


@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 8)])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (16, 16, 3), (7, 13, 2)])
def test_images_come_back_in_their_size(shape, channels):
    model = ConvVAE(shape, channels, width=5, latent=3)
    inputs = np.prod(shape)

    def run(key, image, codes):
        params = model.init(key, image)
        encoded = model.apply(params, image, method="encode")
        return model.apply(params, image), encoded, model.apply(params, codes, method="decode")

    decoded, encoded, samples = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, *shape)), jnp.zeros((4, 5, 2, 3)))
    assert decoded.shape == (2, inputs) and [each.shape for each in encoded] == [(2, 3), (2, 3)]
    assert samples.shape == (4, 5, 2, inputs)
    smallest = [shape[0], shape[1]]
    for _ in channels:
        smallest = [(side + 1) // 2 for side in smallest]  # 28 -> 14 -> 7 -> 4
    assert shapes(model)["decoder_1/bias"] == (smallest[0] * smallest[1] * channels[-1],)


@pytest.mark.usefixtures("float64")
def test_codes_have_any_number_of_leading_axes_and_images_are_flat_or_not(params):
    codes = np.random.default_rng(3).normal(size=(2, 3, 2))

    def decode(codes):
        return ODD.apply({"params": params}, codes, method="decode")

    together = decode(codes)
    assert together.shape == (2, 3, 60)
    for sample, example in np.ndindex(2, 3):
        np.testing.assert_allclose(together[sample, example], decode(codes[sample, example]), rtol=1e-10)
    images = np.random.default_rng(4).normal(size=(3, 5, 6, 2))
    encode = [ODD.apply({"params": params}, each, method="encode") for each in (images, images.reshape(3, 60))]
    np.testing.assert_array_equal(encode[0], encode[1])
    called = ODD.apply({"params": params}, images)
    np.testing.assert_allclose(called, decode(encode[0][0]), rtol=1e-10)


def test_the_gradient_reaches_every_parameter(params):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    image = jnp.asarray(np.random.default_rng(5).normal(size=(4, 60)), jnp.float32)

    def loss(params):
        mean, log_variance = ODD.apply({"params": params}, image, method="encode")
        code = mean + jnp.exp(log_variance)
        return jnp.square(ODD.apply({"params": params}, code, method="decode") - image).sum()

    for path, gradient in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert (jnp.abs(gradient) > 0).all(), jax.tree_util.keystr(path)


def test_every_layer_starts_from_the_chosen_weights_and_zero_biases():
    model = ConvVAE((4, 4, 1), (4,), width=4, latent=2, initialisation="small_normal")
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16)))["params"]
    for layer in params.values():
        assert 0 < np.abs(layer["kernel"]).max() < 0.05 and not layer["bias"].any()  # 5 standard deviations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(latent=0), "model.latent=0 is not possible: a code has at least 1 value"),
        (dict(channels=()), "model.channels=() is not possible: there is at least 1 convolution"),
        (dict(unit="rleu"), f"unknown unit 'rleu'; did you mean 'relu'? valid: {', '.join(UNITS)}"),
    ],
)
def test_what_is_not_possible_is_said(changes, message):
    with pytest.raises(UserError) as error:
        shapes(ConvVAE(**(dict(shape=(4, 4, 1), channels=(2,), width=3, latent=1) | changes)))
    assert str(error.value) == message
