"""Locally connected layers by loops and as convolutions; the small networks of shared and of own weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.errors import UserError
from jaxdl.models import Convolution, LocallyConnected, LocalNetwork, connect_locally

KERNELS = [(1, 1), (3, 1), (2, 2), (4, 3)]  # kernel, stride


def drawn(kernel, stride, dtype=np.float32):
    """An image [2, 8, 7, 3], and kernels for each of its places and 4 maps."""
    draw = np.random.default_rng(kernel)
    high, wide = (8 - kernel) // stride + 1, (7 - kernel) // stride + 1
    image = draw.normal(size=(2, 8, 7, 3)).astype(dtype)
    return image, draw.normal(size=(high, wide, kernel, kernel, 3, 4)).astype(dtype)


def by_loops(image, kernels, stride):
    high, wide, rows, columns = kernels.shape[:4]
    output = np.zeros((len(image), high, wide, kernels.shape[-1]))
    for row, column in np.ndindex(high, wide):
        window = image[:, stride * row : stride * row + rows, stride * column : stride * column + columns]
        for maps in range(output.shape[-1]):
            output[:, row, column, maps] = (window * kernels[row, column, ..., maps][None]).sum(axis=(1, 2, 3))
    return output


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_a_locally_connected_layer_is_a_loop_over_places(kernel, stride):
    image, kernels = drawn(kernel, stride)
    bias = np.random.default_rng(1).normal(size=(*kernels.shape[:2], 4)).astype(np.float32)
    layer = LocallyConnected(4, kernel, stride)
    found = jax.jit(layer.apply)({"params": {"kernel": kernels, "bias": bias}}, image)
    np.testing.assert_allclose(found, by_loops(image, kernels, stride) + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_with_the_same_kernel_everywhere_it_is_a_convolution(kernel, stride):
    image, kernels = drawn(kernel, stride)
    one, bias = kernels[0, 0], np.arange(4, dtype=np.float32)
    shared = Convolution(4, kernel, stride).apply({"params": {"kernel": one, "bias": bias}}, image)
    copies = {"kernel": np.broadcast_to(one, kernels.shape), "bias": np.broadcast_to(bias, (*kernels.shape[:2], 4))}
    found = LocallyConnected(4, kernel, stride).apply({"params": copies}, image)
    np.testing.assert_allclose(found, shared, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 2)])
def test_gradients_are_finite_differences(kernel, stride):
    image, kernels = drawn(kernel, stride, np.float64)
    draw = np.random.default_rng(2)
    with jax.enable_x64(True):
        weights = draw.normal(size=connect_locally(image, kernels, stride).shape)

        def value(image, kernels):
            return (weights * jnp.sin(connect_locally(image, kernels, stride))).sum()

        gradients = jax.jit(jax.grad(value, argnums=(0, 1)))(image, kernels)
        value = jax.jit(value)
        for number in (0, 1):
            way = draw.normal(size=gradients[number].shape)
            ends = []
            for step in (1e-5, -1e-5):
                arguments = [image, kernels]
                arguments[number] = arguments[number] + step * way
                ends.append(float(value(*arguments)))
            assert gradients[number].dtype == np.float64
            np.testing.assert_allclose((gradients[number] * way).sum(), (ends[0] - ends[1]) / 2e-5, rtol=1e-7)


def test_every_place_starts_with_weights_of_its_own_drawn_as_those_of_a_convolution():
    image = jnp.zeros((1, 12, 12, 8), jnp.float32)
    he_normal = jax.nn.initializers.he_normal()
    params = jax.jit(LocallyConnected(16, 5, kernel_init=he_normal).init)(jax.random.key(0), image)["params"]
    kernels = np.asarray(params["kernel"])
    assert kernels.shape == (8, 8, 5, 5, 8, 16) and params["bias"].shape == (8, 8, 16)
    assert len(np.unique(kernels[..., 0, 0, 0, 0])) == 8 * 8
    np.testing.assert_allclose(kernels.std(), np.sqrt(2 / (5 * 5 * 8)), rtol=0.01)


def test_kernels_that_do_not_fit_are_named():
    image, kernels = drawn(3, 1)
    with pytest.raises(UserError, match=r"8x7 and 3 channels with stride=2: they are for 6x5 places.* has 3x3 places$"):
        connect_locally(image, kernels, 2)
    with pytest.raises(UserError, match="for 6x5 places and 3 channels"):
        connect_locally(image[..., :2], kernels)
    with pytest.raises(UserError, match="images of 2x7: at least 3x3"):
        LocallyConnected(4, 3).init(jax.random.key(0), image[:, :2])


# Networks


def initial(network, image):
    return jax.jit(network.init)(jax.random.key(0), image)["params"]


def logits_of(network, params, image):
    return jax.jit(network.apply)({"params": params}, image)


def test_a_network_whose_places_all_have_the_same_weights_is_the_one_that_shares_them():
    image = np.random.default_rng(0).normal(size=(3, 19, 22, 2)).astype(np.float32)
    shared, own = (LocalNetwork((2, 3), 4, sharing, "average") for sharing in (True, False))
    params = initial(shared, image)
    shapes = jax.eval_shape(own.init, jax.random.key(0), image)["params"]
    copies = jax.tree.map(lambda leaf, shape: np.broadcast_to(leaf, shape.shape), params, shapes)
    found, wanted = logits_of(own, copies, image), logits_of(shared, params, image)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["none", "max"])
def test_a_global_head_does_not_know_the_place_and_a_dense_one_does(pooling):
    draw = np.random.default_rng(0)
    image = np.zeros((1, 44, 44, 1), np.float32)
    image[:, 20:23, 20:23] = draw.normal(size=(1, 3, 3, 1))
    moved = np.roll(image, (4, -8), axis=(1, 2))  # by multiples of what two layers of stride 2 reduce to one
    both = np.concatenate([image, moved])
    for head, same in (("global", True), ("dense", False)):
        network = LocalNetwork((4, 8), 5, True, pooling, head)
        here, there = logits_of(network, initial(network, both), both)
        assert np.abs(here).max() > 0.01
        assert np.allclose(here, there, rtol=1e-4, atol=1e-6) == same


@pytest.mark.parametrize(("pooling", "first", "last"), [("none", 1, 25), ("max", 0, 27), ("average", 0, 27)])
def test_which_pixels_are_seen(pooling, first, last):
    image = np.random.default_rng(0).normal(size=(28, 28, 1)).astype(np.float32)
    changed = np.repeat(image[None], 1 + 28 + 28, axis=0)
    for line in range(28):
        changed[1 + line, line] += 1
        changed[29 + line, :, line] += 1
    network = LocalNetwork((4, 8), 5, True, pooling)
    logits = np.asarray(logits_of(network, initial(network, changed), changed))
    seen = np.abs(logits[1:] - logits[:1]).max(axis=1) > 1e-4
    expected = [first <= line <= last for line in range(28)]
    assert seen.tolist() == expected * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "maximum"}, "pooling 'maximum'.*max"),
        ({"head": "flat"}, "head 'flat'"),
        ({"initialisation": "he"}, "initialisation 'he'"),
        ({"side": 15}, "LocalNetwork can't take images of 15x15: at least 16x16"),
    ],
)
def test_what_a_network_refuses(change, message):
    side = change.pop("side", 16)
    with pytest.raises(UserError, match=message):
        LocalNetwork((2, 3), 4, **change).init(jax.random.key(0), jnp.zeros((1, side, side, 1), jnp.float32))
