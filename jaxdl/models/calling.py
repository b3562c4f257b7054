"""How a network is called, whether it keeps anything beside its parameters or not.

A network that behaves differently in training (batch norm) has a second argument, `train`.
"""

import inspect
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array


def initialise(network: nn.Module, key: Array, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Parameters, and whatever else the network keeps ({"batch_stats": ...} or {}), for images [B, *image_shape]."""
    variables = network.init(key, jnp.zeros((1, *image_shape)), **mode(network, False))
    return variables["params"], {name: values for name, values in variables.items() if name != "params"}


def forward(network: nn.Module, params: Any, model_state: Any, image: Array, train: bool) -> tuple[Array, Any]:
    """What the network gives for images [B, ...], and what it keeps after that."""
    variables = {"params": params, **model_state}
    if not (train and model_state):
        return network.apply(variables, image, **mode(network, train)), model_state
    return network.apply(variables, image, **mode(network, train), mutable=list(model_state))


def mode(network: nn.Module, train: bool) -> dict[str, bool]:
    """The keyword `train` where the network takes one."""
    return {"train": train} if "train" in inspect.signature(type(network).__call__).parameters else {}
