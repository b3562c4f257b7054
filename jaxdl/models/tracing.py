"""A network as its layers: what each module gives, and the equations between them.

A layer is a module below the network itself that gives one array. Pooling and activations are functions, and no
layers; but where nothing reads a layer's output except an activation, applied value by value, its maps are those after
it. Works for any Flax network, whoever wrote it, because only its trace is looked at.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax import Array
from jax.extend import core

from jaxdl.errors import UserError
from jaxdl.models.calling import forward

_EACH = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh div eq
erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg
nextafter not optimization_barrier or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square sub tan
tanh xor
"""
ELEMENTWISE = frozenset(_EACH.split())  # primitives that make each value of the values in the same place alone
CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint")
_ACTIVATIONS = ("tanh", "logistic", "max", "min", "clamp", "erf", "sin", "abs")  # and calls: relu, elu, ...


class Layer(NamedTuple):
    """name: path of the module, conv2_1/convolution_1; called again, with @2; kind: its class

    activation: what is applied to its output before anything reads it, "" for nothing; shape: of its maps [B, ...]
    """

    name: str
    kind: str
    activation: str
    shape: tuple[int, ...]

    @property
    def has_maps(self) -> bool:
        """Whether its output is maps [B, H, W, C] of more than one pixel."""
        return len(self.shape) == 4 and self.shape[1] * self.shape[2] > 1


class Trace(NamedTuple):
    """The equations of a network for images of one shape: (params, model_state, image) -> logits, outputs of layers.

    outputs, maps: the variable of each layer before and after its activation
    """

    jaxpr: Any
    layers: list[Layer]
    outputs: list[Any]
    maps: list[Any]


def trace(network: nn.Module, params: Any, model_state: Any, image: Any) -> Trace:
    """The layers of a network in the order in which they end, called as after training (`train=False`).

    image [B, ...]: it and the parameters may be shapes alone. UserError where modules can't be told apart because they
    are inside `nn.jit`, `nn.remat` or `nn.scan`.
    """
    found: list[tuple[str, str]] = []

    def apply(params: Any, model_state: Any, image: Array) -> tuple[Array, list[Array]]:
        found.clear()
        outputs: list[Array] = []

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            result = call(*args, **kwargs)
            path = context.module.path
            if context.method_name == "__call__" and path and isinstance(result, jax.Array):
                found.append(("/".join(path), type(context.module).__name__))
                outputs.append(result)
            return result

        with nn.intercept_methods(record):
            return forward(network, params, model_state, image, train=False)[0], outputs

    closed = jax.make_jaxpr(apply)(params, model_state, image)
    if set(closed.jaxpr.constvars) & {each for each in closed.jaxpr.outvars if not isinstance(each, core.Literal)}:
        raise UserError(  # an output that comes from nowhere: it belongs to the trace of a function within
            f"{type(network).__name__} hides layers inside nn.jit, nn.remat or nn.scan: call them plainly"
        )
    readers: dict[Any, list[Any]] = {}
    for equation in closed.jaxpr.eqns:
        for variable in equation.invars:
            if not isinstance(variable, core.Literal):
                readers.setdefault(variable, []).append(equation)
    names: list[str] = []
    layers, outputs, maps = [], closed.jaxpr.outvars[1:], []
    for (name, kind), output in zip(found, outputs, strict=True):
        names.append(name)
        again = names.count(name)
        activation, after = "", output
        reading = [] if isinstance(output, core.Literal) else readers.get(output, [])
        if len(reading) == 1 and output is not closed.jaxpr.outvars[0] and _is_activation(reading[0], output):
            activation, (after,) = _called(reading[0]), reading[0].outvars
        layers.append(Layer(name + (f"@{again}" if again > 1 else ""), kind, activation, tuple(after.aval.shape)))
        maps.append(after)
    return Trace(closed, layers, list(outputs), maps)


def evaluate(
    trace: Trace, arguments: Any, wanted: list[Any], added: Mapping[Any, Array] | None = None
) -> tuple[Array, list[Array]]:
    """The logits, and the values of the wanted variables of a trace, for (params, model_state, image).

    added: {variable: what is added to it before anything reads it}; to differentiate by a layer is to differentiate by
        zeros added to it
    """
    values: dict[Any, Any] = {}

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    def write(variables: Any, arrays: Any) -> None:
        for variable, array in zip(variables, arrays, strict=True):
            values[variable] = array + added[variable] if added and variable in added else array

    jaxpr = trace.jaxpr.jaxpr
    write(jaxpr.constvars, trace.jaxpr.consts)
    write(jaxpr.invars, jax.tree.leaves(arguments))
    for equation in jaxpr.eqns:
        settings = equation.primitive.get_bind_params(equation.params)
        result = equation.primitive.bind(*map(read, equation.invars), **settings)
        write(equation.outvars, result if equation.primitive.multiple_results else [result])
    return read(jaxpr.outvars[0]), [read(variable) for variable in wanted]


def inner(equation: Any) -> Any:
    """The jaxpr that an equation calls with its own operands; None where it calls none."""
    if equation.primitive.name not in CALLS:
        return None
    found = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return getattr(found, "jaxpr", found)


def _is_activation(equation: Any, variable: Any) -> bool:
    """Whether an equation is a nonlinear function of the variable alone, value by value."""
    constant = all(each is variable or isinstance(each, core.Literal) for each in equation.invars)
    same = len(equation.outvars) == 1 and equation.outvars[0].aval.shape == variable.aval.shape
    named = equation.primitive.name in _ACTIVATIONS or inner(equation) is not None
    return constant and same and named and _is_elementwise(equation)


def _is_elementwise(equation: Any) -> bool:
    below = inner(equation)
    if below is None:
        plain = all(each.aval.shape == () for each in equation.invars)  # numbers, or a number for every place
        return equation.primitive.name in ELEMENTWISE or plain
    return all(_is_elementwise(each) for each in below.eqns)


def _called(equation: Any) -> str:
    """The name of an activation: that of the innermost function that has one."""
    below = inner(equation)
    if below is None:
        return {"logistic": "sigmoid", "max": "relu"}.get(equation.primitive.name, equation.primitive.name)
    name = equation.params.get("name")
    return name if name or len(below.eqns) != 1 else _called(below.eqns[0])
