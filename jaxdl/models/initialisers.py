"""Classic weight initialisations by name, each with its source. Biases start at zero everywhere."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.errors import unknown

# fan_in and fan_out are the numbers of inputs and outputs of the layer.
INITIALISERS = {
    # U(-1/sqrt(fan_in), 1/sqrt(fan_in)): the "commonly used heuristic" that Glorot & Bengio 2010 (eq. 1) argue against
    "standard_uniform": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    # variance 1/fan_in: LeCun et al. 1998, "Efficient BackProp", section 4.6
    "lecun_normal": nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
    "lecun_uniform": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    # variance 2/(fan_in + fan_out): Glorot & Bengio 2010, eq. 16 (the "normalized initialization")
    "glorot_normal": nn.initializers.variance_scaling(1.0, "fan_avg", "normal"),
    "glorot_uniform": nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
    # 4 times the Glorot range, for logistic units: their slope at 0 is 1/4 where tanh's is 1 (Bengio 2012, arXiv
    # 1206.5533, section 3.1, "U(-r, r) with r = 4 sqrt(6/(fan_in + fan_out))")
    "glorot_sigmoid": nn.initializers.variance_scaling(16.0, "fan_avg", "uniform"),
    # variance 2/fan_in, for rectifiers: He et al. 2015, arXiv 1502.01852, eq. 10
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "he_uniform": nn.initializers.variance_scaling(2.0, "fan_in", "uniform"),
    # random orthogonal matrices: Saxe et al. 2013, arXiv 1312.6120
    "orthogonal": nn.initializers.orthogonal(),
    # N(0, 0.01^2): Krizhevsky et al. 2012, section 5
    "small_normal": nn.initializers.normal(0.01),
}


def initialiser(name: str) -> Initializer:
    """The initialisation called `name`; UserError for a name that is not in INITIALISERS."""
    if name not in INITIALISERS:
        raise unknown("initialisation", name, INITIALISERS)
    return INITIALISERS[name]


# Of those whose entries are independent: their variance, of (fan_in, fan_out).
VARIANCES = {
    "standard_uniform": lambda inputs, outputs: 1 / (3 * inputs),
    "lecun_normal": lambda inputs, outputs: 1 / inputs,
    "glorot_normal": lambda inputs, outputs: 2 / (inputs + outputs),
    "he_normal": lambda inputs, outputs: 2 / inputs,
    "small_normal": lambda inputs, outputs: 0.01**2,
}


def gain(name: str, inputs: int, outputs: int) -> float:
    """sqrt(fan_in variance): by how much a layer's outputs are larger than under "lecun_normal"; 1 for "orthogonal".

    Initialisations that differ in variance alone are one distribution times this number, which a program can be given
    as a value. UserError for a name that has none.
    """
    if name == "orthogonal":
        return 1.0
    if name not in VARIANCES:
        raise unknown("initialisation with a gain", name, [*VARIANCES, "orthogonal"])
    return math.sqrt(inputs * VARIANCES[name](inputs, outputs))


def orthogonalised(kernel: Array) -> Array:
    """The nearest matrix with orthonormal columns, or rows where it has more columns: [..., M, N] -> [..., M, N].

    The polar factor U of K = U H, by Newton-Schulz steps X <- (3 X - X X' X) / 2 from K / |K| (Higham 2008, "Functions
    of matrices", section 8.3). Of a Gaussian K it is uniformly distributed, as "orthogonal" is, and needs no random
    numbers of its own. Not by LAPACK: a batched jnp.linalg.qr, in a program over
    two CPU devices, was seen to hang.
    """
    norm = jnp.sqrt((kernel**2).sum(axis=(-2, -1), keepdims=True))

    def step(_: Array, x: Array) -> Array:
        return 1.5 * x - 0.5 * x @ (x.swapaxes(-1, -2) @ x)

    # A singular value of 1e-7 times the norm grows by 3/2 a step: 40 steps, and a few that square the error.
    return jax.lax.fori_loop(0, 50, step, kernel / norm)
