"""Deep networks of equal layers, to see what depth does to signals and gradients."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.errors import UserError, unknown
from jaxdl.models.batch_norm import batch_norm
from jaxdl.models.initialisers import initialiser
from jaxdl.models.units import unit

NORMALISATIONS = ("none", "batch_norm", "residual")


class DeepMLP(nn.Module):
    """`depth` hidden layers of `width` units each, and a linear output; s are values before the unit.

        s_1 = a_1(x),  s_l = a_l(unit(s_{l-1})),  logits = a(unit(s_depth)),  a(h) = W h + b

    normalisation: what is done to a_l(...), l = 1 or more unless it says otherwise
        "none"
        "batch_norm": s_l = BN(a_l(...)), before the unit (arXiv 1502.03167, section 3.2)
        "residual": s_l = s_{l-1} + a_l(unit(s_{l-1})) / sqrt(depth), l = 2 or more: pre-activation (He et al. 2016,
            arXiv 1603.05027) without batch norm, and scaled so that the variance at the start is at most e times that
            of the first layer, however deep (Hayou et al. 2021, arXiv 2010.12859)

    Layers 2 to depth are one `lax.scan`: parameters hidden/dense/kernel [depth - 1, width, width], and a program that
    compiles in the same time whatever the depth. The others are first/dense and output.

    Raises UserError for less than one hidden layer, or an unknown unit, initialisation or normalisation.
    """

    depth: int
    width: int
    classes: int
    unit: str = "relu"
    normalisation: str = "none"
    initialisation: str = "he_normal"

    def __call__(self, image: Array, train: bool = False) -> Array:
        """image [B, ...] -> logits [B, classes]."""
        return self.layers(image, train)[0]

    @nn.compact
    def layers(self, image: Array, train: bool = False, added: Array | None = None) -> tuple[Array, Array]:
        """image [B, ...] -> logits [B, classes], s [depth, B, width].

        added [depth, B, width]: what is added to s, layer by layer: the gradient in it is that in s
        """
        if self.depth < 1:
            raise UserError(f"depth={self.depth} is not possible: DeepMLP has 1 hidden layer or more")
        if self.normalisation not in NORMALISATIONS:
            raise unknown("normalisation", self.normalisation, NORMALISATIONS)
        settings = dict(width=self.width, normalisation=self.normalisation, initialisation=self.initialisation)
        settings |= dict(train=train)
        image = image.reshape(image.shape[0], -1)  # [B, inputs]
        if added is None:
            added = jnp.zeros((self.depth, 1, 1), image.dtype)
        first, _ = Layer(unit="linear", share=0.0, name="first", **settings)(image, added[0])
        places = {"params": 0, "batch_stats": 0}
        after = nn.scan(Layer, places, split_rngs={"params": True}, length=self.depth - 1)
        above = after(unit=self.unit, share=self.depth**-0.5, name="hidden", **settings)
        last, rest = above(first, added[1:]) if self.depth > 1 else (first, jnp.zeros((0, *first.shape), first.dtype))
        output = nn.Dense(self.classes, kernel_init=initialiser(self.initialisation), name="output")
        return output(unit(self.unit)(last)), jnp.concatenate([first[None], rest])


class Layer(nn.Module):
    """s_{l-1} [B, N], added [B, width] -> s_l [B, width], twice: for the next layer, and to keep.

    share: of the residual branch, beside a shortcut; 0 for a layer without one
    """

    width: int
    unit: str
    normalisation: str
    initialisation: str
    share: float
    train: bool

    @nn.compact
    def __call__(self, before: Array, added: Array) -> tuple[Array, Array]:
        dense = nn.Dense(self.width, kernel_init=initialiser(self.initialisation), name="dense")
        after = dense(unit(self.unit)(before))
        if self.normalisation == "batch_norm":
            after = batch_norm(after, self.train, "batch_norm")
        if self.normalisation == "residual" and self.share:
            after = before + self.share * after
        after = after + added
        return after, after


def layer_jacobians(network: DeepMLP, params: dict, model_state: dict, s: Array) -> Array:
    """d s_{l+1} / d s_l of layers l = 1 to depth - 1 for each example: s [depth, B, width] -> [depth - 1, B, out, in].

    From the weights and the slopes at s, as the network is after training (batch norm with its running statistics).
    """
    slope = slopes(network.unit, s[:-1])  # [depth - 1, B, in]
    kernel = params["hidden"]["dense"]["kernel"]  # [depth - 1, in, out]
    if network.normalisation == "batch_norm":
        kept = model_state["batch_stats"]["hidden"]["batch_norm"]["var"]  # [depth - 1, out]
        scale = params["hidden"]["batch_norm"]["scale"] / jnp.sqrt(kept + jnp.float32(1e-5))
        kernel = kernel * scale[:, None, :]
    found = kernel.swapaxes(1, 2)[:, None] * slope[:, :, None, :]  # [depth - 1, B, out, in]
    if network.normalisation == "residual":
        found = jnp.eye(network.width, dtype=found.dtype)[None, None] + network.depth**-0.5 * found
    return found


def slopes(name: str, s: Array) -> Array:
    """The derivative of a unit at s, of the same shape."""
    return jax.jvp(unit(name), (s,), (jnp.ones_like(s),))[1]
