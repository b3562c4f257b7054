"""The compiled functions of one fit: prepare, init, advance and evaluate, each for any number of runs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.training import devices
from jaxdl.training.settings import Settings
from jaxdl.training.step import State, make_advance, make_evaluate, make_init

EVALUATION_BATCH = 1000
SPLITS = ("train", "validation", "test")


class Program:
    """The compiled functions of a fit: init, prepare, advance and evaluate, for any number of runs."""

    def __init__(
        self,
        name: str,
        task: Any,
        optimizer: Callable,
        source: Any,
        runs: dict,
        settings: Settings,
        average: float,
    ) -> None:
        self.name, self.source, self.runs, self.settings, self.task = name, source, runs, settings, task
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), runs)
        splits = {split: dict(source.data[split]) for split in SPLITS}
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), splits)

        def prepare(run: Any, splits: Any) -> Any:
            return {split: source.prepare(run, split, values) for split, values in splits.items()}

        self.prepared = source.prepare is not None
        own = jax.eval_shape(prepare, one, shapes) if self.prepared else None
        data = own or shapes
        init = make_init(name, task, optimizer, source, average)
        self.abstract_state: State = jax.eval_shape(init, one, data["train"])
        state = self.abstract_state
        strategy = settings.strategy
        batch = jax.eval_shape(source.batch, data["train"], one, jnp.uint32(0))
        key = jax.eval_shape(jax.random.key, jnp.uint32(0))
        width = settings.width
        if width is None:
            width = devices.width(
                settings.devices[0].platform, task.loss, state.params, state.model_state, batch, one, key
            )
        self.spread = devices.Spread(settings.devices, strategy, width)
        self.spread.check_batch(source.batch_size)
        shards = len(settings.devices) if strategy == "pmap" else 1
        sizes = {split: -(-min(EVALUATION_BATCH, len(splits[split]["label"])) // shards) * shards for split in SPLITS}
        measures = {split: make_evaluate(name, task, source, sizes[split]) for split in SPLITS}

        def measure(split: str, params: Any, model_state: Any, run: Any, data: Any) -> Any:
            return measures[split](params, model_state, run, data[split])

        self.abstract_values = {
            split: jax.eval_shape(measures[split], state.params, state.model_state, one, data[split])
            for split in SPLITS
        }

        # One program measures all splits, and skips runs and splits not asked for: values, so no second compilation.
        def evaluate(params: Any, model_state: Any, run: Any, own: Any, wanted: Any, shared: Any) -> Any:
            data = own or shared["data"]
            return {
                split: jax.lax.cond(
                    wanted[split],
                    lambda split=split: measure(split, params, model_state, run, data),
                    lambda split=split: jax.tree.map(
                        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.abstract_values[split]
                    ),
                )
                for split in SPLITS
            }

        step_until = make_advance(name, task, optimizer, source, average)

        def advance(state: State, run: Any, own: Any, until: Any, shared: Any) -> State:
            data = own or shared["data"]
            return step_until(state, run, data["train"], until, shared["log_every"])

        def start(run: Any, own: Any, shared: Any) -> State:
            return init(run, (own or shared["data"])["train"])

        self.prepare = self.spread.program(devices.named(prepare, "prepare"))
        self.init = self.spread.program(devices.named(start, "init"))
        self.advance = self.spread.program(advance, donate=True)
        self.evaluate = self.spread.program(evaluate)
        self.keep = jax.jit(devices.named(keep_best, "keep"), donate_argnums=0)
        self.data = splits
        self.at_once = self._runs_at_once(state, own, len(runs["seed"]))

    def _runs_at_once(self, state: State, own: Any, total: int) -> int:
        # Three times the state: itself, the gradient with its temporaries, and the copy that a call returns.
        each = 3 * _bytes(state) + _bytes(own) + _bytes(self.abstract_values)
        chosen = self.settings.runs_at_once or int(self.settings.memory // max(each, 1))
        slots = self.spread.slots
        chosen = max(slots, chosen // slots * slots)
        return min(chosen, -(-total // slots) * slots)


def keep_best(best: Any, params: Any, better: Any) -> Any:
    def choose(old: Any, new: Any) -> Any:
        return jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)  # [R] -> [R, 1, ...]

    return jax.tree.map(choose, best, params)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
