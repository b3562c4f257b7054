"""The contract between what is learned and how it is trained."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen as nn
from jax import Array

Run = dict[str, Any]  # {"seed": uint32, "hyper": {name: float32}, ...}, all traced
Batch = dict[str, Array]  # {"image": float32 [B, ...], "label": int32 [B], "position": uint32 [B]}
Metrics = dict[str, Array]


class Task(NamedTuple):
    """Pure functions of one run.

    init(run, key) -> params, model_state
    loss(params, model_state, batch, run, key) -> scalar, (model_state, {name: scalar})
    evaluate(params, model_state, batch, run, key) -> {name: values [B]}, one value per example
    summarise({name: [N]}) -> {name: scalar}; None: the mean of each
    predict(params, model_state, image [B, ...], run) -> what the network makes of images, [B, ...]; None: nothing
    network: the one network that it trains, as `models.forward` calls it; None where there is no such one
    """

    init: Callable[[Run, Array], tuple[Any, Any]]
    loss: Callable[[Any, Any, Batch, Run, Array], tuple[Array, tuple[Any, Metrics]]]
    evaluate: Callable[[Any, Any, Batch, Run, Array], Metrics]
    summarise: Callable[[Metrics], Metrics] | None = None
    predict: Callable[[Any, Any, Array, Run], Array] | None = None
    network: nn.Module | None = None
