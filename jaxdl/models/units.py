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
    # x / (1 + |x|): Glorot & Bengio 2010, section 3, after Bergstra et al. 2009
    "softsign": jax.nn.soft_sign,
    # x, below 0 a hundredth of it: Maas et al. 2013, eq. 3
    "leaky_relu": jax.nn.leaky_relu,
    # x, below 0 exp(x) - 1: Clevert et al. 2016, arXiv 1511.07289
    "elu": jax.nn.elu,
}


def unit(name: str) -> Callable[[Array], Array]:
    """The elementwise function called `name`; UserError for a name that is not in UNITS."""
    if name not in UNITS:
        raise unknown("unit", name, UNITS)
    return UNITS[name]
