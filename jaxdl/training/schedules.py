"""Learning-rate schedules: a static multiplier of the step, times the traced learning rate.

optax's own schedules raise on traced learning rates; a multiplier never sees one, so a program holds none.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxdl.errors import UserError, unknown

SCHEDULES = ("constant", "step", "cosine")


def multiplier(settings: Any, steps: int) -> Callable[[Array], Array]:
    """The learning rate at a step, as a fraction of the learning rate asked for.

    With T = `steps`, W = round(warmup T) and t = 0 .. T - 1 the updates done so far:

        warm-up    min(1, t / W), linear from 0 (Goyal et al. 2017, 1706.02677), times one of
        constant   1
        step       decay ** #{m in milestones: t >= round(m T)}         (He et al. 2015, 1512.03385)
        cosine     (1 + cos(pi clip((t - W) / (T - W), 0, 1))) / 2      (Loshchilov & Hutter 2016, 1608.03983)

    Milestones count from the first step, warm-up included; the cosine begins where warm-up ends.

    Args:
        settings: schedule (a name above), warmup (fraction of all steps), milestones (fractions of all
            steps) and decay (factor at each milestone); all four are always read.
        steps: T, a Python int.

    Returns:
        A pure function from the step, an integer [], to the multiplier, float32 [] in [0, 1].

    Raises:
        UserError: unknown schedule, a fraction or a decay outside [0, 1], fewer than one step.
    """
    name, warmup, milestones, decay = settings.schedule, settings.warmup, settings.milestones, settings.decay
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    for key, value in [("warmup", warmup), ("decay", decay), *(("milestones", each) for each in milestones)]:
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"schedule setting {key} has {value!r}; valid: numbers from 0 to 1")
    if steps < 1:
        raise UserError(f"a schedule over {steps!r} steps; valid: 1 or more")

    warmup_steps = round(warmup * steps)
    # Rounded, not compared as fractions: 0.1 * 30 is 3.0000000000000004, and step 3 must count.
    boundaries = [round(milestone * steps) for milestone in milestones]

    def of_step(step: Array) -> Array:
        time = jnp.asarray(step).astype(jnp.float32)
        value = jnp.ones((), jnp.float32)
        if name == "step":
            for boundary in boundaries:
                value = value * jnp.where(step >= boundary, jnp.float32(decay), jnp.float32(1))
        if name == "cosine":
            progress = (time - warmup_steps) / max(1, steps - warmup_steps)
            value = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
        if warmup_steps:
            value = value * jnp.minimum(1.0, time / warmup_steps)
        return value

    return of_step
