"""The compiled functions of one fit: prepare, init, advance and evaluate, each for any number of runs."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import streaming
from jaxdl.training import devices
from jaxdl.training.settings import Settings
from jaxdl.training.step import State, make_advance, make_evaluate, make_init

EVALUATION_BATCH = 1000
SPLITS = ("train", "validation", "test")


class Compiled(NamedTuple):
    """For how many runs `advance` was compiled, the bytes they take (None: unknown), and the seconds that took."""

    runs_at_once: int
    program_bytes: int | None
    seconds: float


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
        measured: Sequence[str],
    ) -> None:
        self.name, self.source, self.runs, self.settings, self.task = name, source, runs, settings, task
        self.measured = [split for split in SPLITS if split in measured]
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), runs)
        splits = {split: dict(source.data[split]) for split in SPLITS}
        shapes = {
            split: {key: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for key, rows in values.items()}
            for split, values in splits.items()
        }
        # Which splits are a run's own, made once before its first step; the others are shared by all runs. What is
        # streamed is prepared batch by batch instead, but a subset for training is fetched as a whole.
        whole = source.prepare is not None and not source.streamed
        self.own = SPLITS if whole else ("train",) if source.subset else ()
        self.streamed = [split for split in SPLITS if source.streamed and split not in self.own]
        self.data = {} if source.streamed else splits

        def choose(run: Any, labels: Any) -> Any:
            return source.subset(run, labels)

        def prepare(run: Any, train: Any, shared: Any) -> Any:
            """A run's own splits. train: the rows of its subset where they were fetched, else None."""
            data = shared if train is None else {**shared, "train": train}
            if train is None and source.subset:
                rows = choose(run, data["train"]["label"])
                data = {**data, "train": {key: values[rows] for key, values in data["train"].items()}}
            prepared = source.prepare or (lambda run, values: values)
            return {split: prepared(run, data[split]) for split in self.own}

        own = None
        if self.own:
            picked = None
            if source.streamed:
                picked = {
                    key: jax.ShapeDtypeStruct((source.examples, *leaf.shape[1:]), leaf.dtype)
                    for key, leaf in shapes["train"].items()
                }
            own = jax.eval_shape(prepare, one, picked, shapes)
        # What a run sees of each split; of a streamed one it is a block, which tells how many batches went before.
        first = jax.ShapeDtypeStruct((), np.uint32)
        seen = {split: shapes[split] | ({"first": first} if split in self.streamed else {}) for split in SPLITS}
        seen |= own or {}
        # Only its shapes and its primitives are looked at, several times; `jit` keeps the first trace for the others.
        looked_at = task._replace(loss=jax.jit(task.loss))
        init = make_init(name, looked_at, optimizer, source, average)
        self.abstract_state: State = jax.eval_shape(lambda run: init(run, seen["train"]), one)
        state = self.abstract_state
        strategy = settings.strategy
        batch = jax.eval_shape(source.batch, seen["train"], one, jnp.uint32(0))
        key = jax.eval_shape(jax.random.key, jnp.uint32(0))
        width = settings.width or source.width
        if width is None:
            width = devices.width(
                settings.devices[0].platform, looked_at.loss, state.params, state.model_state, batch, one, key
            )
        self.spread = devices.Spread(settings.devices, strategy, width)
        self.spread.check_batch(source.batch_size)
        shards = len(settings.devices) if strategy == "pmap" else 1
        most = source.evaluation_batch or EVALUATION_BATCH
        self.sizes = {split: -(-min(most, len(splits[split]["label"])) // shards) * shards for split in SPLITS}
        measures = {split: make_evaluate(name, task, source, self.sizes[split]) for split in self.measured}
        self.abstract_values = {}
        for split in self.measured:  # the same for each, but for the number of examples
            if not self.abstract_values:
                each = jax.eval_shape(measures[split], state.params, state.model_state, one, seen[split])
            count = seen[split]["label"].shape[0]
            self.abstract_values[split] = {
                metric: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype) for metric, leaf in each.items()
            }

        # One program measures all splits it is given, and skips runs and splits not asked for: values, so no second
        # compilation.
        def evaluate(params: Any, model_state: Any, run: Any, own: Any, wanted: Any, shared: Any) -> Any:
            def measured(split: str, values: Any) -> Any:
                arguments = params, model_state, run, values
                known = split not in self.streamed  # of a streamed split `values` are a block
                empty = self.abstract_values[split] if known else jax.eval_shape(measures[split], *arguments)
                return jax.lax.cond(
                    wanted[split],
                    lambda: measures[split](*arguments),
                    lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), empty),
                )

            data = shared["data"] | (own or {})
            return {split: measured(split, values) for split, values in data.items() if split in self.measured}

        step_until = make_advance(name, task, optimizer, source, average)

        def advance(state: State, run: Any, own: Any, until: Any, shared: Any) -> State:
            data = shared["data"] | (own or {})
            return step_until(state, run, data["train"], until, shared["log_every"])

        def start(run: Any, _: Any) -> State:
            return init(run, seen["train"])

        self.choose = self.spread.program(devices.named(choose, "choose"), once=True)
        self.prepare = self.spread.program(devices.named(prepare, "prepare"), once=True)
        self.init = self.spread.program(devices.named(start, "init"), once=True)
        self.advance = self.spread.program(advance, donate=True)
        self.evaluate = self.spread.program(evaluate)
        self.keep = jax.jit(devices.named(keep_best, "keep"), donate_argnums=0)
        self.abstract_run, self.abstract_own = one, own
        # A guess by shapes alone: three times the state, for itself, the gradient with its temporaries, and a copy.
        each = 3 * _bytes(state) + _bytes(own) + _bytes(self.abstract_values)
        chosen = settings.runs_at_once or int(settings.memory // max(each, 1))
        slots = self.spread.slots
        self.at_once = min(max(slots, chosen // slots * slots), self.whole(len(runs["seed"])))

    def whole(self, count: int) -> int:
        """How many runs a program of `count` runs has, padding included."""
        return _up(count, self.spread.slots)

    def compile(self, missing: int, begun: int, keeps_best: bool) -> Compiled:
        """Compile `advance`, for as many runs at once as take no more than `settings.memory`; `missing` are to train.

        begun: runs in the largest chunk that was interrupted, which goes on only where it fits into the program

        What they take is what the compiled program says of itself. A number that the settings choose stands, and
        so does the guess where the backend does not tell.
        """
        started = time.monotonic()
        measure = functools.cache(lambda count: self._compile(count, keeps_best))
        most = self.whole(missing)
        count = min(self.at_once, most)
        if not self.settings.runs_at_once:
            count = most_that_fit(count, self.whole(begun), most, self.spread.slots, self.settings.memory, measure)
        return Compiled(count, measure(count), time.monotonic() - started)

    def _compile(self, count: int, keeps_best: bool) -> int | None:
        """Compile `advance` for `count` runs: the bytes that they take on all devices together, beside what they share.

        None where the backend does not tell.
        """
        spread, state, own = self.spread, self.abstract_state, self.abstract_own
        shared = {split: values for split, values in self.data.items() if split not in self.own}
        if "train" in self.streamed:
            train, batch_size = self.source.data["train"], self.source.batch_size
            rows = streaming.batches_per_block(train, batch_size) * batch_size
            shared = {"train": {key: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for key, v in train.items()}}
            shared["train"]["first"] = jax.ShapeDtypeStruct((), np.uint32)
        until = jax.ShapeDtypeStruct((), np.uint32)
        call = self.advance.compile(
            spread.placed_shapes((state, self.abstract_run, own, until), count),
            {"data": spread.shared_shapes(shared), "log_every": np.uint32(1)},
        )
        if call is None:
            return None
        copies = count * (len(spread.devices) if spread.strategy == "pmap" else 1)  # pmap: every device holds every run
        held = _bytes((state, self.abstract_run, own, until)) + (_bytes(state.measured) if keeps_best else 0)
        # Beside what is held all the time there is either a call of `advance`, or what a call of `evaluate` gives.
        return copies * held + max(len(spread.devices) * call, copies * _bytes(self.abstract_values))


def most_that_fit(
    guess: int, begun: int, most: int, slots: int, memory: float, measure: Callable[[int], int | None]
) -> int:
    """About how many runs at once, a multiple of `slots` up to `most`, take no more than `memory`; `slots` if none do.

    measure: runs at once -> bytes, or None if unknown, then the guess stays; asked three times at most, and once where
        the guess is `most` and fits
    begun: as many fitted when an interrupted chunk was begun, so that no less is tried before it
    """
    bytes: dict[int, int] = {}
    count = min(max(guess, begun), most)
    while count not in bytes and len(bytes) < 3:
        taken = measure(count)
        if taken is None:
            return guess
        # Bytes grow on a line, give or take a percent; one above 0, so that a count in proportion errs to the safe
        # side when it grows. Where it shrank too little, a second point tells the line.
        room = 0.95 * memory * count / max(taken, 1)
        for other, also in bytes.items():
            slope = max((also - taken) / (other - count), 1e-9)
            room = min(room, count + (0.95 * memory - taken) / slope)
        bytes[count] = taken
        room = min(max(int(max(room, 0)) // slots * slots, slots), most)
        even = _up(-(-most // -(-most // room)), slots)  # as many chunks, about evenly full: little padding
        if begun not in bytes:
            even = max(even, min(begun, most))
        if taken > memory or -(-most // even) < 0.9 * -(-most // count):  # fewer chunks are worth a compilation
            count = even
    return max((count for count in bytes if bytes[count] <= memory), default=slots)


def keep_best(best: Any, measured: Any, better: Any) -> Any:
    def choose(old: Any, new: Any) -> Any:
        return jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)  # [R] -> [R, 1, ...]

    return jax.tree.map(choose, best, measured)


def _up(count: int, slots: int) -> int:
    return -(-count // slots) * slots


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
