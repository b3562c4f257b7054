"""Receptive fields in theory: which pixels a unit of each layer can see. Araujo, Norris & Sim 2019, Distill 4(11) e21.

Along each axis of the image, unit i of a layer sees the pixels low + stride i to high + stride i (their eq. 2 and 4
for the ends). A window of k pixels with stride s and p pixels of padding before the first makes of (low, high, stride)

    (low - p stride, high + (k - 1 - p) stride, s stride)

and where branches meet, a field is the smallest interval that holds both. This is followed through the equations of
the network's trace, so that pooling functions, shortcuts and concatenations count as well as layers do. An operation
that is not known is taken to see all that its operands see: a field may be too large, and never too small.
"""

import math
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax.extend import core

from jaxdl.models.tracing import CALLS, ELEMENTWISE, inner, trace


class Field(NamedTuple):
    """What units see along one axis of the image: unit i the pixels low + stride i to high + stride i, both included.

    Pixels outside the image are padding. axis: of the layer's array [B, ...], which i counts along; None: all its units
    see low to high, and the stride is 0
    """

    axis: int | None
    low: int
    high: int
    stride: int

    @property
    def size(self) -> int:
        """Pixels that one unit sees, those of the padding too."""
        return self.high - self.low + 1

    def seen(self, unit: int, pixels: int) -> tuple[int, int]:
        """First and last pixel of an image of that many that a unit sees."""
        return max(0, self.low + self.stride * unit), min(pixels - 1, self.high + self.stride * unit)


Fields = tuple[Field, Field]  # rows, columns


def receptive_fields(
    network: nn.Module, params: Any, model_state: Any, image_shape: tuple[int, ...]
) -> dict[str, Fields]:
    """{layer: (Field along rows, Field along columns)} for images [B, H, W, C] of which image_shape is [H, W, C]."""
    # A batch of one could be taken for an axis of one pixel.
    image = jax.ShapeDtypeStruct((2, *image_shape), "float32")
    traced = trace(network, params, model_state, image)
    jaxpr = traced.jaxpr.jaxpr
    known = {jaxpr.invars[-1]: (Field(1, 0, 0, 1), Field(2, 0, 0, 1))}
    _follow(jaxpr, known)
    return {
        layer.name: known[output]
        for layer, output in zip(traced.layers, traced.outputs, strict=True)
        if output in known
    }


def _follow(jaxpr: Any, known: dict[Any, Fields]) -> None:
    """Add what the variables of a jaxpr see to what is known of its inputs; those that see nothing are left out."""
    for equation in jaxpr.eqns:
        seeing = [each for each in equation.invars if not isinstance(each, core.Literal) and each in known]
        if not seeing:
            continue
        below = inner(equation)
        if below is not None and len(below.invars) == len(equation.invars):
            pairs = zip(below.invars, equation.invars, strict=True)
            within = {own: known[given] for own, given in pairs if given in seeing}
            _follow(below, within)
            for own, given in zip(below.outvars, equation.outvars, strict=True):
                if not isinstance(own, core.Literal) and own in within:
                    known[given] = within[own]
            continue
        for given in equation.outvars:
            sides = ([_through(equation, given, each, known[each][side]) for each in seeing] for side in (0, 1))
            known[given] = tuple(_union(fields, given.aval.shape) for fields in sides)


def _through(equation: Any, output: Any, operand: Any, field: Field) -> Field:
    """What an output of an equation sees of the image through one operand."""
    axis, name, settings = field.axis, equation.primitive.name, equation.params
    before, after = operand.aval.shape, output.aval.shape
    whole = _whole(field, before)
    if axis is None:
        return field
    if name in ELEMENTWISE and name not in CALLS:
        return field if before == after else whole
    if name == "convolution" and operand is equation.invars[0]:  # ours: [R, B, H, W, C]
        geometry = settings["geometry"]
        if axis not in (2, 3):
            return whole
        side = axis - 2
        return _window(field, axis, geometry.kernel[side], geometry.stride, geometry.padding[side][0])
    if name == "conv_general_dilated" and operand is equation.invars[0]:
        numbers = settings["dimension_numbers"]
        if axis not in numbers.lhs_spec[2:]:
            return whole
        side = numbers.lhs_spec[2:].index(axis)
        kernel = equation.invars[1].aval.shape[numbers.rhs_spec[2 + side]]
        if settings["lhs_dilation"][side] != 1:  # a transposed convolution: fields differ from unit to unit
            return whole
        reach = settings["rhs_dilation"][side] * (kernel - 1) + 1
        step, padding = settings["window_strides"][side], settings["padding"][side][0]
        return _window(field, numbers.out_spec[2 + side], reach, step, padding)
    if name.startswith("reduce_window"):
        if settings["base_dilation"][axis] != 1:
            return whole
        reach = settings["window_dilation"][axis] * (settings["window_dimensions"][axis] - 1) + 1
        return _window(field, axis, reach, settings["window_strides"][axis], settings["padding"][axis][0])
    if name == "pad" and operand is equation.invars[0]:
        first, _, between = settings["padding_config"][axis]
        return whole if between else _window(field, axis, 1, 1, int(first))
    if name == "slice":
        step = (settings["strides"] or (1,) * len(before))[axis]
        return _window(field, axis, 1, step, -settings["start_indices"][axis])
    if name == "reshape" and settings["dimensions"] is None:
        place = _outermost(axis, before, after)
        if place is None:
            return whole
        together = before[axis] // after[place]  # units that follow one another and become one
        return _window(field, place, together, together, 0)
    kept = _kept(equation, operand, output, axis)
    return whole if kept is None else field._replace(axis=kept)


def _kept(equation: Any, operand: Any, output: Any, axis: int) -> int | None:
    """Where an axis of an operand is in the output, each unit of it as it was; None where it is not."""
    name, settings, before, after = equation.primitive.name, equation.params, operand.aval.shape, output.aval.shape
    if name == "broadcast_in_dim":
        place = settings["broadcast_dimensions"][axis]
        return place if after[place] == before[axis] else None
    if name == "transpose":
        return settings["permutation"].index(axis)
    if name == "concatenate":
        return None if settings["dimension"] == axis else axis
    if name == "squeeze" or (name.startswith(("reduce_", "arg")) and "axes" in settings):
        gone = settings["dimensions"] if name == "squeeze" else settings["axes"]
        return None if axis in gone else axis - sum(each < axis for each in gone)
    if name == "dot_general":  # the output's axes: those of the batch, the first operand's, the second's
        contracted, batch = settings["dimension_numbers"]
        own = int(operand is not equation.invars[0])
        if axis in contracted[own]:
            return None
        if axis in batch[own]:
            return batch[own].index(axis)
        free = [each for each in range(len(before)) if each not in (*contracted[own], *batch[own])]
        return (len(after) - len(free) if own else len(batch[own])) + free.index(axis)
    return None


def _outermost(axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """The axis after a reshape whose every unit holds whole units of one before it, as few as possible."""
    ahead, length = math.prod(before[:axis]), before[axis]
    places = [each for each in range(len(after)) if math.prod(after[:each]) == ahead and length % after[each] == 0]
    return max(places, key=lambda each: after[each], default=None)


def _window(field: Field, axis: int, kernel: int, stride: int, padding: int) -> Field:
    low, high = field.low - padding * field.stride, field.high + (kernel - 1 - padding) * field.stride
    return Field(axis, low, high, field.stride * stride)


def _whole(field: Field, shape: tuple[int, ...]) -> Field:
    """The field of something that sees all units of an array."""
    if field.axis is None:
        return field
    return Field(None, field.low, field.high + field.stride * (shape[field.axis] - 1), 0)


def _union(fields: list[Field], shape: tuple[int, ...]) -> Field:
    """The smallest field of the units of an array that holds all of several."""
    if len({(field.axis, field.stride) for field in fields}) > 1:
        fields = [_whole(field, shape) for field in fields]
    return fields[0]._replace(low=min(field.low for field in fields), high=max(field.high for field in fields))
