"""The layers of a network with their shapes and parameters, by shape evaluation alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdl.models.calling import mode


class Layer(NamedTuple):
    """A module that owns parameters.

    name: its dotted path, "conv2_1.convolution_1", or its class for the network itself
    shape: of what it gives for one image; of the last array where it gives several
    parameters: how many are its own, without those of modules in it
    """

    name: str
    shape: tuple[int, ...]
    parameters: int


def layers(network: nn.Module, image_shape: tuple[int, ...]) -> list[Layer]:
    """The layers in the order in which images [B, *image_shape] come out of them, as in evaluation (train=False).

    A layer that is used more than once stands where it is used first, with its last shape. The parameters of all add
    up to those of the network; what it keeps beside them (`batch_stats`) is not counted.
    """
    found: dict[tuple[str, ...], Layer] = {}

    def note(call: Callable, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        output, module = call(*args, **kwargs), context.module
        arrays = jax.tree.leaves(output)
        params = module.variables.get("params", {}) if context.method_name != "setup" and arrays else {}
        own = [value for value in params.values() if not isinstance(value, Mapping)]  # a mapping: of a module in it
        if own:
            count = sum(leaf.size for leaf in jax.tree.leaves(own))
            name = ".".join(module.path) or type(module).__name__
            found[module.path] = Layer(name, arrays[-1].shape[1:], count)
        return output

    def initialise(key: Any, images: Any) -> Any:
        with nn.intercept_methods(note):
            return network.init(key, images, **mode(network, False))

    jax.eval_shape(initialise, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return list(found.values())


def table(layers: Sequence[Layer], most: int = 0) -> list[str]:
    """One line a layer below a header, the total in the last line, at most 100 columns wide.

    most: layers to show; of a longer network the middle is left out, which a line says. 0 shows all
    """
    lines = [(_name(each.name), "x".join(map(str, each.shape)) or "1", f"{each.parameters:,}") for each in layers]
    if 0 < most < len(lines):
        first, last = -(-most // 2), most // 2
        lines[first : len(lines) - last] = [(f"... {len(lines) - most} more layers", "", "")]
    total = "total", "", f"{sum(each.parameters for each in layers):,}"
    lines = [("layer", "output", "parameters"), *lines, total]
    name, shape, count = (max(map(len, column)) for column in zip(*lines, strict=True))
    return [f"{line[0]:<{name}}  {line[1]:>{shape}}  {line[2]:>{count}}".rstrip() for line in lines]


def _name(name: str, longest: int = 60) -> str:
    """Without the outer modules where it is too long: what tells layers apart is in the end of a path."""
    return name if len(name) <= longest else "..." + name[3 - longest :]
