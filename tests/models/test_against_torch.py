"""Networks beside the same ones of PyTorch's own layers: logits, gradients of a training step, batch statistics.

The modules below carry the names of jaxdl's layers, which is how the weights find their places.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.models import CifarDenseNet, CifarResNet, DigitsCNN, KerasCNN, LeNet5, ResNet

torch = pytest.importorskip("torch", reason="PyTorch is not here: pip install torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch.set_num_threads(1)


def conv(before, after, kernel, stride=1, padding=0, bias=False):
    return nn.Conv2d(before, after, kernel, stride, padding, bias=bias)


class Named(nn.Module):
    """A module whose layers are given by name, and looked up by it."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def __getitem__(self, name):
        return self.get_submodule(name)


class TorchLeNet(Named):
    def __init__(self):
        super().__init__(
            C1=conv(1, 6, 5, bias=True),
            C3=conv(6, 16, 5, bias=True),
            C5=conv(16, 120, 5, bias=True),
            F6=nn.Linear(120, 84),
            output=nn.Linear(84, 10),
        )

    def forward(self, image):
        hidden = functional.avg_pool2d(torch.tanh(self["C1"](functional.pad(image, (2, 2, 2, 2)))), 2)
        hidden = functional.avg_pool2d(torch.tanh(self["C3"](hidden)), 2)
        hidden = torch.tanh(self["C5"](hidden)).flatten(1)
        return self["output"](torch.tanh(self["F6"](hidden)))


class TorchKeras(Named):
    """The maps are flattened with channels last, as Keras does."""

    def __init__(self):
        super().__init__(
            convolution_1=conv(1, 32, 3, bias=True),
            convolution_2=conv(32, 64, 3, bias=True),
            convolution_3=conv(64, 64, 3, bias=True),
            hidden=nn.Linear(64 * 9, 64),
            output=nn.Linear(64, 10),
        )

    def forward(self, image):
        hidden = functional.max_pool2d(torch.relu(self["convolution_1"](image)), 2)
        hidden = functional.max_pool2d(torch.relu(self["convolution_2"](hidden)), 2)
        hidden = torch.relu(self["convolution_3"](hidden)).permute(0, 2, 3, 1).flatten(1)
        return self["output"](torch.relu(self["hidden"](hidden)))


class TorchDigits(Named):
    def __init__(self):
        layers = {}
        for number, (before, after) in enumerate([(1, 8), (8, 16), (16, 32)], start=1):
            layers[f"convolution_{number}"] = conv(before, after, 3, 1, 1, bias=True)
            layers[f"batch_norm_{number}"] = nn.BatchNorm2d(after)
        super().__init__(**layers, output=nn.Linear(32 * 9, 10))

    def forward(self, image):
        for number in (1, 2, 3):
            image = torch.relu(self[f"batch_norm_{number}"](self[f"convolution_{number}"](image)))
            image = functional.max_pool2d(image, 2) if number < 3 else image
        return self["output"](image.permute(0, 2, 3, 1).flatten(1))


class TorchBlock(Named):
    """A residual block: basic (two layers) or bottleneck (three); the second of (kernel, maps, stride) is the width."""

    def __init__(self, before, layers, stride, shortcut):
        named, width = {}, before
        for number, (kernel, after, step) in enumerate(layers, start=1):
            named[f"convolution_{number}"] = conv(width, after, kernel, step, kernel // 2)
            named[f"batch_norm_{number}"] = nn.BatchNorm2d(after)
            width = after
        self_projects = shortcut == "B" and (stride > 1 or before != width)
        if self_projects:
            named |= {"projection": conv(before, width, 1, stride), "projection_batch_norm": nn.BatchNorm2d(width)}
        super().__init__(**named)
        self.layers, self.stride, self.shortcut, self.projects = len(layers), stride, shortcut, self_projects

    def forward(self, image):
        hidden = image
        for number in range(1, self.layers + 1):
            hidden = self[f"batch_norm_{number}"](self[f"convolution_{number}"](hidden))
            hidden = torch.relu(hidden) if number < self.layers else hidden
        if self.shortcut == "none":
            return torch.relu(hidden)
        if self.projects:
            image = self["projection_batch_norm"](self["projection"](image))
        elif self.shortcut == "A":
            image = functional.avg_pool2d(image, 1, self.stride)  # keeps every stride-th pixel
            zeros = torch.zeros_like(hidden)[:, image.shape[1] :]
            image = torch.cat([image, zeros], dim=1)
        return torch.relu(hidden + image)


class TorchResNet(Named):
    def __init__(self, blocks, widths, bottleneck, shortcut, stride_in_3x3=False, imagenet=False):
        first = conv(3, 64, 7, 2, 3) if imagenet else conv(3, 16, 3, 1, 1)
        before = first.out_channels
        layers = {"conv1": first, "batch_norm": nn.BatchNorm2d(before)}
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=2):
            for number in range(1, count + 1):
                stride = 2 if stage > 2 and number == 1 else 1
                if bottleneck:
                    strides = (1, stride) if stride_in_3x3 else (stride, 1)
                    shape = [(1, width, strides[0]), (3, width, strides[1]), (1, 4 * width, 1)]
                else:
                    shape = [(3, width, stride), (3, width, 1)]
                layers[f"conv{stage}_{number}"] = TorchBlock(before, shape, stride, shortcut)
                before = shape[-1][1]
        super().__init__(**layers, output=nn.Linear(before, 10))
        self.imagenet = imagenet

    def forward(self, image):
        hidden = torch.relu(self["batch_norm"](self["conv1"](image)))
        hidden = functional.max_pool2d(hidden, 3, 2, 1) if self.imagenet else hidden
        for block in self.children():
            hidden = block(hidden) if isinstance(block, TorchBlock) else hidden
        return self["output"](functional.adaptive_avg_pool2d(hidden, 1).flatten(1))


class TorchDenseNet(Named):
    """DenseNet-BC for CIFAR, or without bottlenecks and compression."""

    def __init__(self, layers, growth, bottleneck, compression):
        width = 2 * growth if bottleneck else 16
        named = {"convolution": conv(3, width, 3, 1, 1)}
        for block in (1, 2, 3):
            for layer in range(1, layers + 1):
                parts, inner = {}, width
                if bottleneck:
                    inner = 4 * growth
                    parts["bottleneck_batch_norm"] = nn.BatchNorm2d(width)
                    parts["bottleneck_convolution"] = conv(width, inner, 1)
                parts |= {"batch_norm": nn.BatchNorm2d(inner), "convolution": conv(inner, growth, 3, 1, 1)}
                named[f"block_{block}_layer_{layer}"] = Named(**parts)
                width += growth
            if block < 3:
                named[f"transition_{block}_batch_norm"] = nn.BatchNorm2d(width)
                named[f"transition_{block}_convolution"] = conv(width, int(width * compression), 1)
                width = int(width * compression)
        super().__init__(**named, output_batch_norm=nn.BatchNorm2d(width), output=nn.Linear(width, 10))
        self.layers, self.bottleneck = layers, bottleneck

    def forward(self, image):
        maps = self["convolution"](image)
        for block in (1, 2, 3):
            for number in range(1, self.layers + 1):
                layer = self[f"block_{block}_layer_{number}"]
                added = maps
                if self.bottleneck:
                    added = layer["bottleneck_convolution"](torch.relu(layer["bottleneck_batch_norm"](added)))
                added = layer["convolution"](torch.relu(layer["batch_norm"](added)))
                maps = torch.cat([maps, added], dim=1)
            if block < 3:
                maps = torch.relu(self[f"transition_{block}_batch_norm"](maps))
                maps = functional.avg_pool2d(self[f"transition_{block}_convolution"](maps), 2)
        maps = torch.relu(self["output_batch_norm"](maps))
        return self["output"](maps.mean(dim=(2, 3)))


def flat(tree):
    """{("layer", ..., "name"): array}."""
    return {tuple(key.key for key in path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def to_torch(array):
    """A kernel as torch keeps it: HWIO -> OIHW, [in, out] -> [out, in]; vectors are the same."""
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return torch.tensor(np.ascontiguousarray(array.transpose(order)))


def partner(layer, name):
    """torch's tensor for the parameter or statistic `name` of a layer."""
    return getattr(layer, dict(kernel="weight", scale="weight", mean="running_mean", var="running_var").get(name, name))


def drawn(network, shape, train):
    """Variables that are all random: kernels of the He variance, scales and variances around 1, the rest around 0."""
    key = jax.random.key(0)
    found = jax.eval_shape(lambda key: network.init(key, jnp.zeros(shape, jnp.float32), **train), key)
    draw = np.random.default_rng(0)

    def leaf(path, like):
        if path[-1].key == "kernel":
            return draw.normal(0, np.sqrt(2 / np.prod(like.shape[:-1])), like.shape).astype(np.float32)
        if path[-1].key in ("scale", "var"):
            return draw.uniform(0.5, 1.5, like.shape).astype(np.float32)
        return draw.normal(0, 0.1, like.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, found)


def copy(variables, reference):
    """Give a module of torch's the parameters and statistics of one of jaxdl's."""
    with torch.no_grad():
        for tree in variables.values():
            for (*layer, leaf), value in flat(tree).items():
                partner(reference[".".join(layer)], leaf).copy_(to_torch(value))


def near(found, wanted, tolerance, what):
    """Equal to `tolerance` times the largest value of the array."""
    scale = np.abs(wanted).max()
    assert scale > 0, what
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale, err_msg=str(what))


CASES = {
    "LeNet-5": (LeNet5(10), TorchLeNet, (4, 28, 28, 1)),
    "KerasCNN": (KerasCNN(10), TorchKeras, (4, 28, 28, 1)),
    "DigitsCNN": (DigitsCNN(10), TorchDigits, (4, 13, 15, 1)),
    "ResNet-20 A": (CifarResNet(20, 10), lambda: TorchResNet((3, 3, 3), (16, 32, 64), False, "A"), (4, 16, 16, 3)),
    "ResNet-20 B": (
        CifarResNet(20, 10, shortcut="B"),
        lambda: TorchResNet((3, 3, 3), (16, 32, 64), False, "B"),
        (4, 15, 16, 3),
    ),
    "plain-20": (
        CifarResNet(20, 10, shortcut="none"),
        lambda: TorchResNet((3, 3, 3), (16, 32, 64), False, "none"),
        (4, 16, 16, 3),
    ),
    "ResNet-18": (
        ResNet(18, 10),
        lambda: TorchResNet((2, 2, 2, 2), (64, 128, 256, 512), False, "B", imagenet=True),
        (2, 33, 40, 3),
    ),
    "ResNet-50": (
        ResNet(50, 10),
        lambda: TorchResNet((3, 4, 6, 3), (64, 128, 256, 512), True, "B", imagenet=True),
        (2, 33, 40, 3),
    ),
    "DenseNet-BC": (CifarDenseNet(40, 12, 10), lambda: TorchDenseNet(6, 12, True, 0.5), (4, 16, 16, 3)),
    "DenseNet": (
        CifarDenseNet(10, 5, 10, bottleneck=False, compression=1.0),
        lambda: TorchDenseNet(2, 5, False, 1.0),
        (4, 9, 8, 3),
    ),
}


def compare(name, dtype, tolerance):
    """Assert that all agree to `tolerance`, relative to the largest value of each array."""
    network, make, shape = CASES[name]
    draw = np.random.default_rng(1)
    image, weight = draw.normal(size=shape).astype(dtype), draw.normal(size=(shape[0], 10)).astype(dtype)
    train = {} if name in ("LeNet-5", "KerasCNN") else {"train": True}
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), drawn(network, shape, train))

    reference = make().to(torch.from_numpy(image).dtype)
    own = flat(variables["params"])
    assert {".".join(path[:-1]) for path in own} == {
        layer for layer, module in reference.named_modules() if next(module.parameters(recurse=False), None) is not None
    }
    copy(variables, reference)
    pixels = torch.tensor(image.transpose(0, 3, 1, 2))
    counts = {}  # values of a channel in the batch
    for layer, module in reference.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, inputs, __, layer=layer: counts.update({layer: inputs[0].numel() / inputs[0].shape[1]})
            )
    reference.eval()
    with torch.no_grad():
        evaluated = reference(pixels).numpy()
    reference.train()
    logits = reference(pixels)
    (logits * torch.tensor(weight)).sum().backward()

    def loss(params):
        found, state = network.apply(variables | {"params": params}, image, mutable=["batch_stats"], **train)
        return (found * weight).sum(), (found, state)

    def both(params):
        evaluate = {name: False for name in train}
        return jax.value_and_grad(loss, has_aux=True)(params), network.apply(variables, image, **evaluate)

    # Compiled in a hurry: it runs once.
    quickly = jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})
    ((_, (found, state)), gradients), inference = quickly(variables["params"])
    assert found.dtype == inference.dtype == dtype
    near(inference, evaluated, tolerance, "logits of inference")
    near(found, logits.detach().numpy(), tolerance, "logits of training")
    for (*layer, leaf), gradient in flat(gradients).items():
        wanted = partner(reference[".".join(layer)], leaf).grad.numpy()
        if name == "DigitsCNN" and layer[0].startswith("convolution") and leaf == "bias":
            assert np.abs(gradient).max() < tolerance  # batch norm takes a bias away: both are rounding errors
            continue
        near(to_torch(gradient).numpy(), wanted, tolerance, (layer, leaf))
    for (*layer, leaf), value in flat(state.get("batch_stats", {})).items():
        wanted = partner(reference[".".join(layer)], leaf).numpy()
        if leaf == "var":  # torch's update is n / (n - 1) times the variance of the batch, Flax's is that variance
            before = 0.9 * flat(variables["batch_stats"])[*layer, leaf]
            n = counts[".".join(layer)]
            wanted = before + (wanted - before) * (n - 1) / n
        near(value, wanted, tolerance, (layer, leaf))


@pytest.mark.parametrize("name", CASES)
def test_logits_gradients_and_statistics_are_pytorchs(name):
    """In double precision: in single precision a deep network's gradient jumps where rounding moves a ReLU past 0."""
    with jax.enable_x64(True):
        compare(name, np.float64, 1e-9)


@pytest.mark.parametrize("name", ["LeNet-5", "KerasCNN", "DigitsCNN", "ResNet-20 A", "DenseNet"])
def test_they_are_in_single_precision_too(name):
    compare(name, np.float32, 1e-4)


def test_the_stride_of_torchvisions_bottleneck_is_in_the_3x3():
    """One block that halves its maps, each placement against its own reference; they differ from each other."""
    from jaxdl.models.resnet import Bottleneck

    image = np.random.default_rng(2).normal(size=(2, 7, 8, 6)).astype(np.float32)
    found = {}
    for stride_in_3x3 in (False, True):
        strides = (1, 2) if stride_in_3x3 else (2, 1)
        block = Bottleneck(3, 2, "B", "he_normal", stride_in_3x3)
        variables = drawn(block, image.shape, {"train": True})
        reference = TorchBlock(6, [(1, 3, strides[0]), (3, 3, strides[1]), (1, 12, 1)], 2, "B")
        copy(variables, reference)
        with torch.no_grad():
            wanted = reference.eval()(torch.tensor(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
        found[stride_in_3x3] = block.apply(variables, image, train=False)
        near(found[stride_in_3x3], wanted, 1e-5, stride_in_3x3)
    assert np.abs(found[False] - found[True]).max() > 0.1
