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
from jaxdl.models.mlp import MLP

# name -> (settings of the config's `model`, classes) -> module
MODELS: dict[str, Callable[[Any, int], nn.Module]] = {
    "mlp": lambda settings, classes: MLP(settings.widths, classes, settings.unit, settings.initialisation),
}


def named(settings: Any, classes: int, image_shape: tuple[int, ...]) -> nn.Module:
    """The network that a config's `model` section asks for: image [B, *image_shape] -> logits [B, classes].

    settings.name: a name in MODELS, which read the other settings; or FILE:CLASS, a Flax module of the user's in
        FILE or FILE.py that takes `classes` and no other argument

    Raises UserError where there is no such model, or where it is not such a function.
    """
    settings.as_dict()  # whichever of them this model reads
    if ":" not in settings.name:
        if settings.name not in MODELS:
            raise unknown("model", settings.name, [*MODELS, "FILE:CLASS"])
        return MODELS[settings.name](settings, classes)
    found = _load(settings.name)
    try:
        network = found(classes=classes)
        logits, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros((2, *image_shape)))
    except Exception as error:  # whatever the user's code raises is about the user's code
        reason = next(iter(str(error).splitlines()), repr(error))
        raise UserError(f"{settings.name}(classes={classes}) can't take images {image_shape}: {reason}") from error
    if getattr(logits, "shape", None) != (2, classes):
        shape = getattr(logits, "shape", type(logits).__name__)
        raise UserError(f"{settings.name} gives {shape} for 2 images: it must give logits (2, {classes})")
    further = sorted(set(variables) - {"params"})
    if further:
        raise UserError(f"{settings.name} keeps {', '.join(further)} beside its parameters, which no task carries yet")
    return network


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
