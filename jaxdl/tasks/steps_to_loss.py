"""How long training takes: until the training loss is below a given value."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxdl.batch import across_devices
from jaxdl.tasks.task import Batch, Metrics, Run, Task

KEPT = "steps_to_loss"  # under which name the model's state has it
DECAY = 0.95  # of the moving mean: about 20 batches


def steps_to_loss(task: Task, target: float) -> Task:
    """The same task, whose model state says in ["steps_to_loss"]["reached"] when the loss was below `target` (nats).

    It is the number of steps, float32 [], after which the moving mean of the batches' losses,
    m_t = .95 m_{t-1} + .05 loss_t, over 1 - .95^t, was below it for the first time; 0 where it never was.
    """

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        params, model_state = task.init(run, key)
        zero = jnp.float32(0)
        return params, model_state | {KEPT: {"steps": zero, "mean": zero, "reached": zero}}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        before = model_state[KEPT]
        value, (after, metrics) = task.loss(params, model_state, batch, run, key)
        steps = before["steps"] + 1
        mean = DECAY * before["mean"] + (1 - DECAY) * across_devices(value)
        here = jnp.where(mean / (1 - DECAY**steps) < target, steps, jnp.float32(0))
        reached = jnp.where(before["reached"] > 0, before["reached"], here)
        return value, (after | {KEPT: {"steps": steps, "mean": mean, "reached": reached}}, metrics)

    return task._replace(init=init, loss=loss)
