"""Models by name: one of jaxdl's, or a class in a file of the user's, "my_net:Net"."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.errors import UserError, unknown
from jaxdl.models.calling import mode
from jaxdl.models.densenet import CifarDenseNet, DenseNet
from jaxdl.models.lenet import LeNet5
from jaxdl.models.mlp import MLP
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.small_cnn import DigitsCNN, KerasCNN


def _residual(settings: Any) -> dict[str, Any]:
    return dict(depth=settings.depth, shortcut=settings.shortcut, initialisation=settings.initialisation)


# name -> (settings of the config's `model`, classes) -> module
MODELS: dict[str, Callable[[Any, int], nn.Module]] = {
    "mlp": lambda s, classes: MLP(s.widths, classes, s.unit, s.initialisation),
    "lenet": lambda s, classes: LeNet5(classes, s.initialisation),
    "keras_cnn": lambda s, classes: KerasCNN(classes, s.initialisation),
    "digits_cnn": lambda s, classes: DigitsCNN(classes, s.initialisation),
    "cifar_resnet": lambda s, classes: CifarResNet(classes=classes, **_residual(s)),
    "resnet": lambda s, classes: ResNet(classes=classes, stride_in_3x3=s.stride_in_3x3, **_residual(s)),
    "cifar_densenet": lambda s, classes: CifarDenseNet(
        s.depth, s.growth_rate, classes, s.bottleneck, s.compression, s.initialisation
    ),
    "densenet": lambda s, classes: DenseNet(s.depth, classes, s.initialisation),
}


def named(settings: Any, classes: int, image_shape: tuple[int, ...]) -> nn.Module:
    """The network that a config's `model` section asks for: image [B, *image_shape] -> logits [B, classes].

    settings.name: a name in MODELS, which read the other settings; or FILE:CLASS, a Flax module of the user's in
        FILE or FILE.py that takes `classes` and no other argument. It is called with images, and with `train` if it
        has such an argument, as one with batch norm has

    Raises UserError where there is no such model, or where it is not such a function.
    """
    settings.as_dict()  # whichever of them this model reads
    if ":" not in settings.name:
        if settings.name not in MODELS:
            raise unknown("model", settings.name, [*MODELS, "FILE:CLASS"])
        network = MODELS[settings.name](settings, classes)
        _shapes(network, image_shape)  # the network says what it does not take
        return network
    found = _load(settings.name)
    try:
        network = found(classes=classes)
        logits, variables = _shapes(network, image_shape)
    except Exception as error:  # whatever the user's code raises is about the user's code
        reason = next(iter(str(error).splitlines()), repr(error))
        raise UserError(f"{settings.name}(classes={classes}) can't take images {image_shape}: {reason}") from error
    if getattr(logits, "shape", None) != (2, classes):
        shape = getattr(logits, "shape", type(logits).__name__)
        raise UserError(f"{settings.name} gives {shape} for 2 images: it must give logits (2, {classes})")
    if "params" in variables and len(variables) > 1 and not mode(network, True):
        kept = ", ".join(sorted(set(variables) - {"params"}))
        raise UserError(f"{settings.name} keeps {kept} beside its parameters: its __call__ must take `train`")
    return network


def _shapes(network: nn.Module, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
    """What the network gives for 2 images, and its variables, as shapes."""

    def init(key: Any, images: Any) -> tuple[Any, Any]:
        return network.init_with_output(key, images, **mode(network, False))

    return jax.eval_shape(init, jax.random.key(0), jnp.zeros((2, *image_shape)))


def fingerprint(name: str) -> str:
    """What a run with this model depends on beyond its name: a hash of the user's file, "" for jaxdl's own models."""
    return hashlib.sha256(_file(name).read_bytes()).hexdigest()[:16] if ":" in name else ""


def _file(name: str) -> Path:
    """The file of FILE:CLASS."""
    written = name.rpartition(":")[0]
    path = Path(written if written.endswith(".py") else f"{written}.py")
    if not path.is_file():
        beside = path.parent if path.parent.is_dir() else Path()
        raise unknown("model file", path, sorted(str(each) for each in beside.glob("*.py")))
    return path


def _load(name: str) -> type[nn.Module]:
    path = _file(name)
    spec = importlib.util.spec_from_file_location(f"jaxdl_user_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} can't be loaded: {type(error).__name__}: {error}") from error
    wanted = name.rpartition(":")[2]
    own = {
        each: value
        for each, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == spec.name
    }
    if wanted not in own:
        raise unknown(f"Flax module in {path}", wanted, own)
    return own[wanted]
