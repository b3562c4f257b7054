"""Looking inside: against finite differences, closed forms and networks written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl import models
from jaxdl.errors import UserError
from jaxdl.models import tracing
from jaxdl.tasks import inside

DRAW = np.random.default_rng(0)


class Smooth(nn.Module):
    """Every pixel and channel counts, and nothing has a kink."""

    @nn.compact
    def __call__(self, image):
        hidden = nn.tanh(nn.Conv(3, (3, 3), param_dtype=image.dtype, name="convolution")(image))
        return nn.Dense(4, param_dtype=image.dtype, name="output")(hidden.reshape(hidden.shape[0], -1))


def test_saliency_is_that_of_finite_differences():
    label = np.array([2, 0])
    with jax.enable_x64(True):
        network, image = Smooth(), DRAW.normal(size=(2, 4, 5, 3))
        params = network.init(jax.random.key(0), jnp.asarray(image))["params"]
        apply = jax.jit(lambda image: network.apply({"params": params}, image))
        found = np.asarray(inside.saliency(network, params, {}, jnp.asarray(image), label))
        expected = np.zeros((2, 4, 5))
        step = 1e-5
        moved = np.zeros((60, 4, 5, 3))
        moved.reshape(60, 60)[np.arange(60), np.arange(60)] = step
        for number in range(2):
            up, down = (np.asarray(apply(image[number] + sign * moved)) for sign in (1, -1))
            slope = ((up - down) / (2 * step))[:, label[number]].reshape(4, 5, 3)
            expected[number] = np.abs(slope).max(axis=-1)
    assert found.dtype == np.float64 and expected.min() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-7)


class Averaged(nn.Module):
    """The network of arXiv 1512.04150, of which CAM is the closed form of Grad-CAM (1610.02391, section 3.1)."""

    @nn.compact
    def __call__(self, image, train):
        hidden = nn.Conv(5, (3, 3), strides=2, name="first")(image)
        hidden = nn.relu(models.batch_norm(hidden, train, "norm"))
        hidden = nn.relu(nn.Conv(6, (3, 3), name="second")(hidden))
        return nn.Dense(4, name="output")(hidden.mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def averaged():
    network = Averaged()
    image = jnp.asarray(DRAW.normal(size=(3, 9, 12, 2)), jnp.float32)
    params, state = models.initialise(network, jax.random.key(1), image.shape[1:])
    state = jax.tree.map(lambda leaf: leaf + 0.3, state)
    return network, params, state, image


def test_activations_are_those_of_the_layers_after_their_relu(averaged):
    network, params, state, image = averaged
    found = inside.activations(network, params, state, image)
    assert list(found) == ["first", "norm", "second", "output"]
    first = nn.Conv(5, (3, 3), strides=2).apply({"params": params["first"]}, image)
    mean, variance = (state["batch_stats"]["norm"][name] for name in ("mean", "var"))
    norm = (first - mean[None, None, None]) / np.sqrt(variance + 1e-5)[None, None, None]
    second = nn.Conv(6, (3, 3)).apply({"params": params["second"]}, nn.relu(norm))
    np.testing.assert_allclose(found["first"], first, atol=1e-5)
    np.testing.assert_allclose(found["norm"], nn.relu(norm), atol=1e-5)
    np.testing.assert_allclose(found["second"], nn.relu(second), atol=1e-5)
    assert found["first"].min() < -0.1 and found["output"].shape == (3, 4)
    np.testing.assert_array_equal(found["output"], models.forward(network, params, state, image, False)[0])


def test_grad_cam_has_its_closed_form(averaged):
    network, params, state, image = averaged
    label = np.array([3, 1, 0])
    maps = np.asarray(inside.activations(network, params, state, image)["second"])
    kernel = np.asarray(params["output"]["kernel"])  # [6, 4]
    expected = np.stack([(each * kernel[:, c] / (5 * 6)).sum(-1).clip(0) for each, c in zip(maps, label, strict=True)])
    assert 0.1 < (expected > 0).mean() < 0.95
    for layer in ("", "second"):
        found = inside.grad_cam(network, params, state, image, label, layer)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    # By hand at a layer below: what `second` makes of a change of the maps of `norm`.
    norm = inside.activations(network, params, state, image)["norm"]

    def logits(norm):
        hidden = nn.relu(nn.Conv(6, (3, 3)).apply({"params": params["second"]}, norm))
        return nn.Dense(4).apply({"params": params["output"]}, hidden.mean(axis=(1, 2)))

    slope = jax.grad(lambda norm: logits(norm)[np.arange(3), label].sum())(norm)
    expected = np.einsum("bk,bijk->bij", np.asarray(slope).mean(axis=(1, 2)), np.asarray(norm)).clip(0)
    found = inside.grad_cam(network, params, state, image, label, "norm")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert expected.max() > 1e-3


def test_what_reaches_the_central_unit_is_what_moves_it(averaged):
    network, params, state, image = averaged
    found = inside.centre_gradients(network, params, state, image)
    moved = image[:1] + jnp.eye(108)[:, :, None].reshape(108, 9, 12, 1) * jnp.ones((1, 1, 1, 2)) * 3.0
    before = inside.activations(network, params, state, image[:1])
    after = inside.activations(network, params, state, moved)
    for name, row, column in (("first", 2, 3), ("second", 2, 3)):
        changed = jnp.abs(after[name] - before[name])[:, row, column].max(axis=-1) > 1e-6
        pixels = np.asarray(changed).reshape(9, 12)
        assert (found[name][pixels] > 0).all() and 9 <= pixels.sum() < 108
    assert (found["first"] > 0).sum() == 9 and (found["second"] > 0).sum() == 49
    assert (found["output"] > 0).all()
    assert inside.box(found["first"]) == ((3, 5), (6, 8))
    assert inside.box(np.zeros((3, 3))) is None


class Odd(nn.Module):
    """A layer called twice, an output that is read twice, a softmax, and activations of several kinds."""

    @nn.compact
    def __call__(self, image):
        shared = nn.Dense(4, name="shared")
        hidden = shared(nn.elu(shared(image.reshape(image.shape[0], -1))))
        gate = nn.Dense(4, name="gate")(hidden)
        hidden = nn.sigmoid(gate) * gate
        weights = nn.softmax(nn.Dense(4, name="weights")(hidden))
        return nn.Dense(3, name="output")(jnp.maximum(nn.Dense(4, name="last")(weights * hidden), 0))


def test_activations_are_recognised_where_nothing_else_reads_a_layer():
    network = Odd()
    params, state = models.initialise(network, jax.random.key(0), (2, 2, 1))
    found = tracing.trace(network, params, state, jnp.ones((2, 2, 2, 1))).layers
    assert [(layer.name, layer.activation) for layer in found] == [
        ("shared", "elu"), ("shared@2", ""), ("gate", ""), ("weights", ""), ("last", "relu"), ("output", ""),
    ]  # fmt: skip


class Hidden(nn.Module):
    @nn.compact
    def __call__(self, image):
        return nn.jit(nn.Dense)(3)(nn.jit(Smooth)()(image))


def test_networks_without_maps_or_with_hidden_layers(averaged):
    found = tracing.trace(*averaged).layers
    assert inside.layer_with_maps(found) == "second"
    with pytest.raises(UserError, match=r"unknown layer with maps 'secnd'; did you mean 'second'\? valid: first, norm"):
        inside.layer_with_maps(found, "secnd")
    network = models.MLP((4,), 3)
    params, state = models.initialise(network, jax.random.key(0), (2, 2, 1))
    with pytest.raises(UserError, match="no layer of this network has maps"):
        inside.grad_cam(network, params, state, jnp.ones((1, 2, 2, 1)), np.array([0]))
    params, state = models.initialise(Hidden(), jax.random.key(0), (4, 5, 3))
    with pytest.raises(UserError, match=r"Hidden hides layers inside nn\.jit"):
        inside.activations(Hidden(), params, state, jnp.ones((1, 4, 5, 3)))
