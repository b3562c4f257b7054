"""Receptive fields: published ones, against gradients, and operation by operation against what really depends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl import models
from jaxdl.models import tracing
from jaxdl.tasks import inside


def chain(*steps):
    """A network of ("conv" or "max", window, stride, padding) with its steps as layers; only its shapes are used."""

    class Pool(nn.Module):
        window: int
        stride: int
        padding: str

        def __call__(self, maps):
            return nn.max_pool(maps, (self.window,) * 2, (self.stride,) * 2, self.padding)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, image):
            for number, (kind, window, stride, padding) in enumerate(steps):
                name = f"{number}"
                if kind == "conv":
                    image = nn.Conv(2, (window,) * 2, stride, padding=padding, name=name)(image)
                else:
                    image = Pool(window, stride, padding, name=name)(image)
            return image.mean(axis=(1, 2))

    return Net()


def fields(network, shape):
    """{layer: fields}, from shapes alone."""
    params, state = jax.eval_shape(lambda: models.initialise(network, jax.random.key(0), shape))
    return models.receptive_fields(network, params, state, shape)


CONV, POOL = ("conv", 3, 1, "SAME"), ("max", 2, 2, "VALID")
VGG16 = [CONV, CONV, POOL, CONV, CONV, POOL, *([CONV] * 3 + [POOL]) * 3]
REDUCE = ("max", 3, 2, "VALID")
ALEXNET = [("conv", 11, 4, "VALID"), REDUCE, ("conv", 5, 1, "SAME"), REDUCE, CONV, CONV, CONV, REDUCE]


@pytest.mark.parametrize(
    ("steps", "field", "stride", "padding"),
    [(ALEXNET, 195, 32, 64), (VGG16, 212, 32, 90)],
    ids=["alexnet_v2", "vgg_16"],
)
def test_published_fields(steps, field, stride, padding):
    """Araujo et al. 2019, the table of section "What are the receptive fields of modern networks?"."""
    found = fields(chain(*steps), (224, 224, 3))[str(len(steps) - 1)]
    assert [(side.size, side.stride, -side.low) for side in found] == [(field, stride, padding)] * 2


def test_fields_by_hand():
    found = fields(models.KerasCNN(10), (28, 28, 1))
    assert found["convolution_3"][0] == (1, 0, 17, 4)
    assert found["hidden"][1] == (None, 0, 25, 0)  # the last two columns are never seen
    assert fields(models.LeNet5(10), (28, 28, 1))["C5"][1][1:] == (-2, 29, 4)
    resnet = fields(models.ResNet(18, 10), (64, 64, 3))
    assert resnet["conv1"][0] == (1, -3, 3, 2)
    # 7/2, pooled 3/2: 11 pixels of stride 4; then 3x3 twice of stride 4.
    assert (resnet["conv2_1"][0].size, resnet["conv2_1"][0].stride) == (11 + 4 * 2 * 2, 4)


NETWORKS = [
    (models.LeNet5(10), (28, 28, 1)),
    (models.KerasCNN(10), (20, 23, 1)),
    (models.DigitsCNN(10), (17, 26, 1)),
    (models.CifarResNet(8, 10), (21, 16, 3)),
    (models.CifarDenseNet(10, 4, 10), (16, 21, 1)),
]


@pytest.mark.parametrize(("network", "shape"), NETWORKS, ids=lambda value: type(value).__name__)
def test_theory_is_what_gradients_find(network, shape):
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: models.initialise(network, jax.random.key(0), shape))
    params = jax.tree.map(lambda leaf: draw.normal(scale=0.3, size=leaf.shape).astype(np.float32), shapes[0])
    state = jax.tree.map(lambda leaf: draw.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes[1])
    theory = models.receptive_fields(network, params, state, shape)
    image = draw.normal(size=(12, *shape)).astype(np.float32)
    measured = inside.centre_gradients(network, params, state, image)
    assert list(theory) == list(measured) and len(theory) >= 5
    for layer in tracing.trace(network, params, state, image).layers:
        unit = [length // 2 for length in layer.shape[1:3]] if layer.has_maps else [0, 0]
        expected = [side.seen(*each) for side, *each in zip(theory[layer.name], unit, shape[:2], strict=True)]
        assert inside.box(measured[layer.name]) == tuple(expected), layer.name


def squeezed(image):
    return image * image.mean(axis=(1, 2), keepdims=True)


def uneven(image):
    """Branches that meet with different strides."""
    return image[:, ::2, :4] + image[:, :4, :4]


# what is done to an image [1, 8, 8, 2] -> maps; whether the box is the smallest one
OPERATIONS = {
    "transposed": (lambda x: x.transpose(0, 2, 1, 3)[:, 1:6:2], True),
    "channels first": (lambda x: x.transpose(0, 3, 1, 2)[:, :, 2:], True),
    "reshaped": (lambda x: x.reshape(1, 8, 4, 4), False),
    "pooled by blocks": (lambda x: x.reshape(1, 4, 2, 2, 4, 2).sum(axis=(2, 4)), True),
    "one more axis": (lambda x: x.reshape(1, 1, 8, 8, 2)[0] + 1, True),
    "padded and cut": (lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0)))[:, 1:, 3:5], True),
    "spread": (lambda x: jax.lax.pad(x, np.float32(0), ((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0))), False),
    "dilated": (lambda x: conv(x[:, :, :7], rhs_dilation=(2, 1)), False),
    "grown": (lambda x: conv(x, lhs_dilation=(2, 2)), False),
    "flipped": (lambda x: x[:, ::-1], False),
    "summed up": (lambda x: jnp.cumsum(x, axis=1), False),
    "rows summed": (lambda x: x.sum(axis=2), False),
    "rolled": (lambda x: jnp.roll(x, 1, axis=2), False),
    "joined": (lambda x: jnp.concatenate([x, x[:, :, ::1] * 2], axis=3), True),
    "on top": (lambda x: jnp.concatenate([x, x], axis=1), False),
    "dense": (lambda x: jnp.einsum("bhwc,cd->bhwd", x, np.ones((2, 3), np.float32)), True),
    "dense over rows": (lambda x: jnp.einsum("bhwc,hd->bdwc", x, np.ones((8, 3), np.float32)), False),
    "kernel on the left": (lambda x: jnp.einsum("dc,bhwc->dbhw", np.ones((3, 2), np.float32), x), True),
    "squeezed": (squeezed, False),
    "uneven": (uneven, False),
    "gathered": (lambda x: x[:, np.array([5, 1, 7])], False),
    "counted": (lambda x: jax.lax.scan(lambda s, row: (s + row, s), x[:, 0], jnp.moveaxis(x, 1, 0))[1], False),
    "ours": (lambda x: models.convolve(x, np.ones((3, 2, 1, 4), np.float32), 2, ((1, 1), (0, 2)), 2), True),
    "averaged": (lambda x: models.average_pool(x, 3, 2, 1), True),
    "largest": (lambda x: models.max_pool(x, 3, 2, 1), True),
    "nothing of it": (lambda x: jnp.ones((1, 3, 3, 1)) + 0 * x[:, :3, :3, :1], True),
}


def conv(image, **settings):
    kernel = np.ones((3, 3, 2, 2), np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(image, kernel, (1, 1), ((1, 1), (0, 1)), dimension_numbers=numbers, **settings)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_unit_sees_more_than_its_field(name):
    operation, tight = OPERATIONS[name]

    class Step(nn.Module):
        def __call__(self, image):
            return operation(image)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, image):
            return Step(name="step")(image[:1]).sum()[None, None]

    (found,) = models.receptive_fields(Net(), {}, {}, (8, 8, 2)).values()
    # Several, because of a maximum one pixel alone is seen.
    images = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (24, 1, 8, 8, 2)).astype(np.float32))
    depends = np.asarray(jax.vmap(jax.jacobian(operation))(images)) != 0  # [24, *output, 1, 8, 8, 2]
    depends = depends.any(axis=(0, -4, -1))
    outputs = depends.shape[:-2]
    smallest = True
    for unit in np.ndindex(outputs):
        for side, axis in ((0, -1), (1, -2)):
            seen = np.flatnonzero(depends[unit].any(axis=axis))
            place = found[side].axis
            low, high = found[side].seen(0 if place is None else unit[place], 8)
            if len(seen):
                assert low <= seen[0] and seen[-1] <= high, (unit, found)
                smallest &= (low, high) == (seen[0], seen[-1])
    assert smallest or not tight
