"""Convolutions by loops; the convolutional networks' sizes, what they refuse, and batch norm over several devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.batch import AXIS
from jaxdl.errors import UserError
from jaxdl.models import (
    CifarDenseNet,
    CifarResNet,
    Convolution,
    DenseNet,
    DigitsCNN,
    KerasCNN,
    LeNet5,
    ResNet,
)
from jaxdl.models.resnet import BasicBlock

pytestmark = pytest.mark.usefixtures("quick_compilation")

WITHOUT_BATCH_NORM = (Convolution, LeNet5, KerasCNN)


def arguments(network, train=True):
    return {} if isinstance(network, WITHOUT_BATCH_NORM) else {"train": train}


def shapes(network, image, train=True):
    """Shapes of the variables and of the logits for two images, without computing any."""

    def init(key):
        return network.init_with_output(key, jnp.zeros((2, *image), jnp.float32), **arguments(network, train))

    return jax.eval_shape(init, jax.random.key(0))


def count(variables):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


# Convolution


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"), [(1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 2), (5, 3, 2, 1), (4, 2, 0, 3)]
)
def test_a_convolution_is_a_loop_over_pixels(kernel, stride, padding, groups):
    layer = Convolution(6, kernel, stride, padding, groups)
    draw = np.random.default_rng(0)
    image = draw.normal(size=(2, 8, 7, 6)).astype(np.float32)
    weights = draw.normal(size=(kernel, kernel, 6 // groups, 6)).astype(np.float32)
    bias = draw.normal(size=6).astype(np.float32)
    found = jax.jit(layer.apply)({"params": {"kernel": weights, "bias": bias}}, image)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    wanted = np.empty((2, (8 + 2 * padding - kernel) // stride + 1, (7 + 2 * padding - kernel) // stride + 1, 6))
    for y, x, out in np.ndindex(wanted.shape[1:]):
        group = out // (6 // groups)
        channels = slice(group * (6 // groups), (group + 1) * (6 // groups))
        patch = padded[:, y * stride : y * stride + kernel, x * stride : x * stride + kernel, channels]
        wanted[:, y, x, out] = np.einsum("bhwi,hwi->b", patch, weights[..., out]) + bias[out]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert shapes(Convolution(6, kernel, stride, padding, groups, use_bias=False), (8, 7, 6))[1] == {
        "params": {"kernel": jax.ShapeDtypeStruct(weights.shape, jnp.float32)}
    }


# Sizes. The numbers of parameters are those that the papers, Keras and torchvision state.

GREY, COLOUR, LARGE = (28, 28, 1), (32, 32, 3), (224, 224, 3)


@pytest.mark.parametrize(
    ("network", "image", "parameters"),
    [
        (LeNet5(10), (32, 32, 1), 61_706),
        (KerasCNN(10), GREY, 93_322),
        (DigitsCNN(10), GREY, 21_690),
        (ResNet(18, 1000), LARGE, 11_689_512),
        (ResNet(34, 1000), LARGE, 21_797_672),
        (ResNet(50, 1000), LARGE, 25_557_032),
        (ResNet(50, 1000, stride_in_3x3=True), LARGE, 25_557_032),
        (ResNet(101, 1000), LARGE, 44_549_160),
        (ResNet(152, 1000), LARGE, 60_192_808),
        (DenseNet(121, 1000), LARGE, 7_978_856),
        (DenseNet(161, 1000), LARGE, 28_681_000),
        (DenseNet(169, 1000), LARGE, 14_149_480),
        (DenseNet(201, 1000), LARGE, 20_013_928),
    ],
)
def test_numbers_of_parameters(network, image, parameters):
    logits, variables = shapes(network, image, train=False)
    assert logits.shape == (2, network.classes) and logits.dtype == jnp.float32
    assert count(variables) == parameters


@pytest.mark.parametrize(
    ("network", "millions"),
    [
        (CifarResNet(20, 10), "0.27"),
        (CifarResNet(32, 10), "0.46"),
        (CifarResNet(44, 10), "0.66"),
        (CifarResNet(56, 10), "0.85"),
        (CifarResNet(110, 10), "1.7"),
        (CifarDenseNet(40, 12, 10, bottleneck=False, compression=1.0), "1.0"),
        (CifarDenseNet(100, 12, 10), "0.8"),
    ],
)
def test_the_papers_millions_of_parameters(network, millions):
    """arXiv 1512.03385, table 6; 1608.06993, table 2. The paper's plain nets have what those with option A have."""
    digits = len(millions.split(".")[1])
    assert f"{count(shapes(network, COLOUR, train=False)[1]) / 1e6:.{digits}f}" == millions


def test_a_very_deep_network_has_what_a_sum_over_its_layers_gives():
    """1,202 layers, 19.4 million: tracing them takes half a minute, so what three blocks add is counted instead."""
    small, large = (count(shapes(CifarResNet(depth, 10), COLOUR, train=False)[1]) for depth in (8, 14))
    assert round((small + (large - small) * (1202 - 8) / 6) / 1e6, 1) == 19.4


def test_shortcuts_differ_in_their_projections_only():
    """Table 6's options: A has no parameters; B has two projections, 16 -> 32 and 32 -> 64, and their batch norm."""
    sizes = {name: count(shapes(CifarResNet(8, 10, name), COLOUR)[1]) for name in ("A", "B", "none")}
    assert sizes["A"] == sizes["none"] == sizes["B"] - (16 * 32 + 2 * 32) - (32 * 64 + 2 * 64)


# What is refused

SMALLEST = [
    (LeNet5(10), 28),
    (KerasCNN(10), 18),
    (DigitsCNN(10), 4),
    (CifarResNet(8, 10), 1),
    (ResNet(18, 10), 1),
    (CifarDenseNet(10, 4, 10), 4),
    (DenseNet(121, 10), 29),
]


@pytest.mark.parametrize(("network", "side"), SMALLEST)
def test_the_smallest_image(network, side):
    """It is taken, by every layer: none has maps without pixels. One pixel less is refused, and the minimum is said."""
    logits, variables = shapes(network, (side, side, 1))
    assert logits.shape == (2, 10) and all(leaf.size for leaf in jax.tree.leaves(variables))
    name = type(network).__name__.replace("LeNet5", "LeNet-5")
    for size in [(side - 1, side), (side, side - 1)]:
        with pytest.raises(
            UserError, match=f"^{name} can't take images of {size[0]}x{size[1]}: at least {side}x{side}"
        ):
            shapes(network, (*size, 1))


@pytest.mark.parametrize(
    ("network", "image", "message"),
    [
        (LeNet5(10), (33, 32, 1), "LeNet-5 can't take images of 33x32: they are 28x28 or 32x32"),
        (KerasCNN(10), (784,), "KerasCNN takes images [batch, height, width, channels], not (2, 784)"),
        (CifarResNet(21, 10), COLOUR, "depth=21 is not possible: CifarResNet has 6n + 2 layers; nearest: 20"),
        (CifarResNet(54, 10), COLOUR, "depth=54 is not possible: CifarResNet has 6n + 2 layers; nearest: 56"),
        (CifarResNet(0, 10), COLOUR, "depth=0 is not possible: CifarResNet has 6n + 2 layers; nearest: 8"),
        (ResNet(20, 10), COLOUR, "depth=20 is not possible: ResNet has 18, 34, 50, 101, 152 layers; nearest: 18"),
        (
            CifarDenseNet(41, 12, 10),
            COLOUR,
            "depth=41 is not possible: CifarDenseNet with bottlenecks has 6n + 4 layers; nearest: 40",
        ),
        (
            CifarDenseNet(42, 12, 10, bottleneck=False),
            COLOUR,
            "depth=42 is not possible: CifarDenseNet without bottlenecks has 3n + 4 layers; nearest: 43",
        ),
        (DenseNet(200, 10), LARGE, "depth=200 is not possible: DenseNet has 121, 161, 169, 201 layers; nearest: 201"),
        (
            CifarDenseNet(10, 4, 10, compression=1.5),
            COLOUR,
            "compression=1.5 is not possible: valid is above 0 to 1 (no compression)",
        ),
        (
            CifarDenseNet(10, 4, 10, compression=0.01),
            COLOUR,
            "compression=0.01 is not possible: it keeps none of 12 maps",
        ),
        (CifarResNet(8, 10, "C"), COLOUR, "unknown shortcut 'C'; valid: A, B, none"),
        (LeNet5(10, "glorot"), GREY, None),
    ],
)
def test_what_is_not_possible_is_said(network, image, message):
    with pytest.raises(UserError) as error:
        shapes(network, image)
    assert str(error.value) == message if message else "unknown initialisation 'glorot'" in str(error.value)


def test_a_batch_of_one_is_refused_where_batch_norm_would_make_it_constant():
    network = DigitsCNN(10)

    def apply(size, side, train):
        variables = jax.eval_shape(
            lambda key: network.init(key, jnp.zeros((1, side, side, 1)), True), jax.random.key(0)
        )
        image = jax.ShapeDtypeStruct((size, side, side, 1), jnp.float32)
        return jax.eval_shape(lambda *given: network.apply(*given, train, mutable=["batch_stats"]), variables, image)

    with pytest.raises(UserError, match=r"^batch norm can't train on a batch of 1 where a channel is 1x1: "):
        apply(1, 4, True)
    apply(1, 4, False)
    apply(2, 4, True)
    apply(1, 8, True)


# Batch norm


def test_a_batch_over_two_devices_has_the_statistics_and_gradients_of_the_whole():
    network = DigitsCNN(3)
    draw = np.random.default_rng(0)
    image = draw.normal(size=(6, 4, 4, 1)).astype(np.float32)
    image[3:] += 2  # the halves differ
    variables = jax.jit(lambda key: network.init(key, image, train=True))(jax.random.key(0))

    def step(variables, image):
        def loss(params):
            logits, state = network.apply(variables | {"params": params}, image, train=True, mutable=["batch_stats"])
            return jnp.square(logits).mean(), state

        return jax.grad(loss, has_aux=True)(variables["params"])

    def share(variables, image):
        gradients, state = step(variables, image)
        return jax.lax.pmean(gradients, AXIS), state

    whole = jax.jit(step)(variables, image)
    split = jax.pmap(share, AXIS, in_axes=(None, 0), devices=jax.devices()[:2])(variables, image.reshape(2, 3, 4, 4, 1))
    jax.tree.map(lambda one, two: np.testing.assert_allclose(two, [one, one], rtol=1e-4, atol=1e-6), whole, split)
    mean = np.asarray(whole[1]["batch_stats"]["batch_norm_1"]["mean"])
    assert np.abs(mean).max() > 1e-3


def test_runs_side_by_side_have_their_own_statistics():
    network = DigitsCNN(3)
    image = np.random.default_rng(0).normal(size=(2, 5, 4, 4, 1)).astype(np.float32)
    init = jax.jit(jax.vmap(lambda key: network.init(key, image[0], train=True)))
    variables = init(jax.random.split(jax.random.key(0), 2))

    def apply(variables, image):
        return network.apply(variables, image, train=True, mutable=["batch_stats"])

    together, one = jax.jit(jax.vmap(apply))(variables, image), jax.jit(apply)
    alone = [one(jax.tree.map(lambda leaf, run=run: leaf[run], variables), image[run]) for run in (0, 1)]
    jax.tree.map(lambda *runs: np.testing.assert_allclose(runs[0], runs[1:], rtol=1e-4, atol=1e-6), together, *alone)


# What they compute


def test_lenet_frames_a_small_image():
    network = LeNet5(10)
    image = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype(np.float32)
    params = jax.jit(network.init)(jax.random.key(0), image)
    framed = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)))
    apply = jax.jit(network.apply)
    np.testing.assert_array_equal(apply(params, image), apply(params, framed))


def test_kernels_start_from_hes_variance():
    """Variance 2 / fan_in (arXiv 1502.01852, eq. 10), batch norm's scales at 1 and its biases at 0."""
    network = CifarResNet(8, 10)
    block = BasicBlock(64, 1, network.shortcut, network.initialisation)
    params = jax.jit(lambda key: block.init(key, jnp.zeros((1, 2, 2, 64)), train=False)["params"])(jax.random.key(0))
    np.testing.assert_allclose(params["convolution_2"]["kernel"].var(), 2 / (3 * 3 * 64), rtol=0.05)
    assert (params["batch_norm_2"]["scale"] == 1).all() and (params["batch_norm_2"]["bias"] == 0).all()
