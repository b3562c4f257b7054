"""One update of one run, and the loop that repeats it. Everything here is pure."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdl import batch as batches

Run = dict[str, Any]

# Streams of random numbers of one fit; each is folded into the key, so none overlaps another.
INIT, STEP, EVALUATE = range(3)


class State(NamedTuple):
    """All that a run is at one moment; nothing else is needed to go on from it.

    step: updates made so far, uint32
    average: exponential moving average of the parameters; None when not kept
    metrics: sums of the training metrics since the last log, {name: float32}
    loss: of the last step; the loop stops when it is not finite
    """

    step: Array
    params: Any
    model_state: Any
    optimizer_state: Any
    average: Any
    metrics: dict[str, Array]
    loss: Array

    @property
    def measured(self) -> tuple[Any, Any]:
        """What is measured and used: the parameters, or their average where one is kept, and the model's state."""
        return (self.params if self.average is None else self.average), self.model_state


def key(name: str, run: Run, stream: int, step: Array | int = 0) -> Array:
    """The random key of (seed, fit, stream, step): derived, never stored."""
    seed = jax.random.key(run["seed"])
    return jax.random.fold_in(
        jax.random.fold_in(jax.random.fold_in(seed, jnp.uint32(zlib.crc32(name.encode()))), stream), step
    )


def make_init(name: str, task: Any, optimizer: Callable, source: Any, average: float = 0.0) -> Callable:
    """init(run, data) -> State, before the first step."""

    def init(run: Run, data: Any) -> State:
        params, model_state = task.init(run, key(name, run, INIT))
        batch = jax.eval_shape(source.batch, data, run, jnp.uint32(0))
        _, (_, metrics) = jax.eval_shape(task.loss, params, model_state, batch, run, key(name, run, STEP))
        return State(
            step=jnp.uint32(0),
            params=params,
            model_state=model_state,
            optimizer_state=optimizer(run["hyper"]).init(params),
            average=params if average else None,
            metrics={metric: jnp.float32(0) for metric in ("loss", *metrics)},
            loss=jnp.float32(0),
        )

    return init


def make_step(name: str, task: Any, optimizer: Callable, average: float = 0.0) -> Callable:
    """step(state, batch, run) -> State, {name: value}: one update, and the metrics of its batch.

    optimizer: hyper -> optax.GradientTransformation, built here, inside the traced step, so that no value of
    `hyper` is baked into the program. average: decay of the moving average of the parameters, 0 for none.
    """

    def step(state: State, batch: Any, run: Run) -> tuple[State, dict[str, Array]]:
        step_key = key(name, run, STEP, state.step)

        def objective(params: Any) -> tuple[Array, tuple[Any, dict[str, Array]]]:
            return task.loss(params, state.model_state, batch, run, step_key)

        (loss, (model_state, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        loss, model_state, metrics, gradient = batches.across_devices((loss, model_state, metrics, gradient))
        updates, optimizer_state = optimizer(run["hyper"]).update(
            gradient,
            state.optimizer_state,
            state.params,
            value=loss,
            grad=gradient,
            value_fn=batches.whole(lambda params: objective(params)[0]),
        )
        params = optax.apply_updates(state.params, updates)
        state = state._replace(
            step=state.step + jnp.uint32(1),
            params=params,
            model_state=model_state,
            optimizer_state=optimizer_state,
            average=optax.incremental_update(params, state.average, 1 - average) if average else None,
            loss=loss,
        )
        return state, {"loss": loss} | metrics

    return step


def make_advance(name: str, task: Any, optimizer: Callable, source: Any, average: float = 0.0) -> Callable:
    """advance(state, run, data, until, log_every) -> State: steps until `until`, or until the loss is not finite.

    `until` is a value, so chunk ends, early stopping and longer training never make a new program; cutting
    the work anywhere changes no bit. State.metrics sums the metrics of the steps, and starts anew at every
    multiple of `log_every`: part of the state, so that an interruption loses none.
    """
    one_step = make_step(name, task, optimizer, average)

    def advance(state: State, run: Run, data: Any, until: Array, log_every: Array) -> State:
        def going(state: State) -> Array:
            return (state.step < until) & jnp.isfinite(state.loss)

        def body(state: State) -> State:
            fresh = state.step % log_every == 0
            sums = {metric: jnp.where(fresh, jnp.float32(0), total) for metric, total in state.metrics.items()}
            state, metrics = one_step(state, source.batch(data, run, state.step), run)
            return state._replace(metrics={metric: total + metrics[metric] for metric, total in sums.items()})

        return jax.lax.while_loop(going, body, state)

    return advance


def make_evaluate(name: str, task: Any, source: Any, batch_size: int) -> Callable:
    """evaluate(params, model_state, run, data) -> {name: [N]}: every example of a split, exactly once.

    The last batch is filled up by repeating the last example; the repetitions are cut off again. A block of a
    streamed split gives the values of all its batches, [M].
    """

    def evaluate(params: Any, model_state: Any, run: Run, data: Any) -> dict[str, Array]:
        size = data["label"].shape[0]
        count = -(-size // batch_size)
        before = data.get("first", jnp.uint32(0))  # batches of the split before this block
        position = batches.positions(batch_size)  # [B / D]

        def one_batch(number: Array) -> dict[str, Array]:
            index = jnp.minimum(number * jnp.uint32(batch_size) + position, jnp.uint32(size - 1))
            batch = source.take(data, run, index, position)
            values = task.evaluate(params, model_state, batch, run, key(name, run, EVALUATE, before + number))
            return {metric: batches.gather(value) for metric, value in values.items()}  # [B]

        values = jax.lax.map(one_batch, jnp.arange(count, dtype=jnp.uint32))  # {name: [count, B]}
        return {metric: value.reshape(-1)[:size] for metric, value in values.items()}

    return evaluate
