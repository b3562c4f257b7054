"""The table of layers, against known counts, Flax's own record of a real forward pass, and modules out of the way."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxdl.models import MLP, CifarDenseNet, CifarResNet, DenseNet, DigitsCNN, KerasCNN, LeNet5, ResNet, forward
from jaxdl.models.by_name import MODELS
from jaxdl.models.calling import mode
from jaxdl.models.layers import Layer, layers, table

pytestmark = pytest.mark.usefixtures("quick_compilation")

GREY, COLOUR = (28, 28, 1), (32, 32, 3)
SMALL = {
    "mlp": (MLP((5, 4), 10), (8, 8, 1)),
    "lenet": (LeNet5(10), GREY),
    "keras_cnn": (KerasCNN(10), GREY),
    "digits_cnn": (DigitsCNN(10), GREY),
    "cifar_resnet": (CifarResNet(8, 10, shortcut="B"), (8, 8, 3)),
    "resnet": (ResNet(18, 10), (16, 16, 3)),
    "cifar_densenet": (CifarDenseNet(10, 4, 10), (8, 8, 3)),
    "densenet": (DenseNet(121, 10), (32, 32, 3)),
}


def test_every_model_is_looked_at():
    assert SMALL.keys() == MODELS.keys()


def forward_pass(network, image_shape):
    """Images and the function that gives what every module returns for them, as Flax records it."""

    def run(variables, images):
        settings = mode(network, False) | {"capture_intermediates": True, "mutable": ["intermediates"]}
        kept = network.apply(variables, images, **settings)[1]["intermediates"]
        return {".".join(path[:-1]): outputs[0] for path, outputs in flatten_dict(kept).items()}

    images = jnp.zeros((3, *image_shape))
    variables = jax.eval_shape(lambda key: network.init(key, images, **mode(network, False)), jax.random.key(0))
    return variables, images, run


@pytest.mark.parametrize("name", SMALL)
def test_shapes_and_parameters_are_those_that_flax_records(name):
    network, image_shape = SMALL[name]
    variables, images, run = forward_pass(network, image_shape)
    counts: dict[str, int] = {}
    for (*path, _), leaf in flatten_dict(variables["params"]).items():
        counts[".".join(path)] = counts.get(".".join(path), 0) + leaf.size
    outputs = jax.eval_shape(run, variables, images)
    found = layers(network, image_shape)
    assert {each.name: each.parameters for each in found} == counts
    assert {each.name: each.shape for each in found} == {name: outputs[name].shape[1:] for name in counts}
    assert len({each.name for each in found}) == len(found)


def test_shapes_are_those_of_a_real_forward_pass():
    network, image_shape = SMALL["digits_cnn"]
    variables, images, run = forward_pass(network, image_shape)
    outputs = jax.jit(run)(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables), images)
    for each in layers(network, image_shape):
        assert each.shape == outputs[each.name].shape[1:], each


@pytest.mark.parametrize(
    ("network", "image_shape", "parameters"),
    [
        (LeNet5(10), GREY, 61_706),
        (KerasCNN(10), GREY, 93_322),
        (DigitsCNN(10), GREY, 21_690),
        (CifarResNet(20, 10), COLOUR, 269_722),  # batch norm's running statistics are no parameters
        (ResNet(50, 1000), (224, 224, 3), 25_557_032),
        (DenseNet(121, 1000), (224, 224, 3), 7_978_856),
    ],
)
def test_the_total_is_the_number_that_is_known(network, image_shape, parameters):
    found = layers(network, image_shape)
    assert sum(each.parameters for each in found) == parameters
    assert table(found)[-1].split() == ["total", f"{parameters:,}"]


def test_layers_stand_in_the_order_of_execution_and_nested_ones_have_a_path():
    assert layers(LeNet5(10), GREY) == [
        Layer("C1", (28, 28, 6), 156),
        Layer("C3", (10, 10, 16), 2_416),
        Layer("C5", (1, 1, 120), 48_120),
        Layer("F6", (84,), 10_164),
        Layer("output", (10,), 850),
    ]
    names = [each.name for each in layers(CifarResNet(8, 10, shortcut="B"), COLOUR)]
    block = ["convolution_1", "batch_norm_1", "convolution_2", "batch_norm_2"]
    wanted = ["conv1", "batch_norm"]
    for stage in (2, 3, 4):
        own = block if stage == 2 else [*block, "projection", "projection_batch_norm"]
        wanted += [f"conv{stage}_1.{layer}" for layer in own]
    assert names == [*wanted, "output"]


class Odd(nn.Module):
    """Parameters of its own, a layer used twice, one that is defined first and used last, and one used by a method."""

    classes: int = 3

    def setup(self):
        self.last = nn.Dense(self.classes)
        self.shared = nn.Dense(4)
        self.table = nn.Embed(4, 5)
        self.scale = self.param("scale", nn.initializers.ones, (2,), jnp.float32)

    def __call__(self, images):
        hidden = self.shared(self.shared(images.reshape(len(images), -1)))  # [B, 4]
        hidden = hidden @ self.table.embedding
        return self.last(self.table.attend(hidden)) * self.scale.sum()


def test_each_parameter_is_counted_once_whatever_the_network():
    found = layers(Odd(), (2, 2, 1))
    by_name = {each.name: each for each in found}
    assert by_name["shared"] == Layer("shared", (4,), 4 * 4 + 4)
    assert by_name["Odd"] == Layer("Odd", (3,), 2)  # the network's own, without those of its layers
    assert by_name["table"] == Layer("table", (4,), 20)
    assert [each.name for each in found] == ["shared", "table", "last", "Odd"]
    params = Odd().init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))["params"]
    assert sum(each.parameters for each in found) == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_nothing_is_computed_and_a_later_call_is_not_listened_to():
    network = KerasCNN(10)
    found = layers(network, (100_000, 100_000, 64))  # 2.5 TB for one image
    assert found[-1].shape == (10,)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, *GREY)))["params"]
    forward(network, params, {}, jnp.zeros((1, *GREY)), False)
    assert len(found) == len(layers(network, GREY))


def test_the_table_is_aligned_and_cut_in_the_middle_only_where_asked():
    found = layers(CifarResNet(20, 10), COLOUR)
    whole, cut = table(found), table(found, 10)
    assert len(whole) == len(found) + 2 and whole[0].split() == ["layer", "output", "parameters"]
    assert whole[3].split() == ["conv2_1.convolution_1", "32x32x16", "2,304"]
    assert len({len(line) for line in whole}) == 1
    assert len(cut) == 13 and cut[6] == f"... {len(found) - 10} more layers"
    assert [*cut[:6], *cut[7:]] == [*whole[:6], *whole[-6:]]
    assert table(found, len(found)) == whole


def test_the_table_fits_on_a_terminal():
    name = ".".join(f"a_long_name_of_a_module_{number}" for number in range(8))
    lines = table([Layer(name, (1024, 1024, 2048), 12_345_678_901), Layer("output", (), 1)])
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("...") and "a_long_name_of_a_module_7 " in lines[1]
    assert lines[2].split() == ["output", "1", "1"]
