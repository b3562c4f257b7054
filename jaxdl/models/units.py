"""Activation functions by name."""

from collections.abc import Callable

import jax
from jax import Array

from jaxdl.errors import unknown

UNITS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.numpy.tanh,
    "relu": jax.nn.relu,
    "linear": lambda x: x,
}


def unit(name: str) -> Callable[[Array], Array]:
    """The elementwise function called `name`; UserError for a name that is not in UNITS."""
    if name not in UNITS:
        raise unknown("unit", name, UNITS)
    return UNITS[name]
