"""The loop on the host: call `advance`, log, checkpoint, answer signals, until every run of a chunk has ended."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import streaming
from jaxdl.errors import UserError
from jaxdl.training import checkpoints
from jaxdl.training.feed import Feed
from jaxdl.training.program import SPLITS, Program
from jaxdl.training.settings import Progress
from jaxdl.training.step import State


class Trainer:
    """One chunk of runs on its way from the first step, or its last checkpoint, to the end."""

    def __init__(
        self,
        program: Program,
        folder: Path,
        chunk: np.ndarray,
        size: int,
        keys: list[str],
        steps: int,
        every: int,
        patience: int,
        select: tuple[str, str],
    ) -> None:
        self.program, self.folder, self.chunk, self.steps, self.every = program, folder, chunk, steps, every
        self.patience, (self.metric, self.direction) = patience, select
        self.keys = [keys[number] for number in chunk]
        self.settings, self.spread = program.settings, program.spread
        # Padding repeats the last run and never trains it: all chunks of a fit have one size, and so one program.
        self.rows = np.minimum(np.arange(size), len(chunk) - 1)
        self.history: list[dict[str, Any]] = []
        self.limit = np.full(len(chunk), steps)  # where each run ends: `steps`, or where early stopping ended it
        self.best_value = np.full(len(chunk), np.inf)
        self.stale = np.zeros(len(chunk), int)
        self.saved = -1  # the newest checkpoint's number
        self.seconds, self.run_steps = 0.0, 0  # wall time of the calls of `advance`, and the steps of all runs in them

    def train(self, before: int) -> None:
        """Train the chunk to its end and store it; `before` runs of the fit have ended already."""
        program, spread = self.program, self.spread
        with self.settings.requests.held():
            run = spread.place(jax.tree.map(lambda leaf: leaf[self.chunk][self.rows], program.runs))
            data = spread.share(program.data)
            own = self._own(run, data)
            shared = {
                "data": {split: values for split, values in data.items() if split not in program.own},
                "log_every": np.uint32(self.every),
            }
            del data
            state, best = self._restore() or self._first(run)
            call, saved = 1, time.monotonic()
            self._report(before, 0.0)
            with self._feed() as feed:
                while (active := self._active()).any():
                    if self.settings.requests.pending or time.monotonic() - saved > self.settings.checkpoint_seconds:
                        self._save(state, best, {})
                        saved = time.monotonic()
                    if self.settings.requests.pending:
                        return  # `held` raises Interrupted
                    step = int(self.step[active].max())
                    until = min(step + call, step - step % self.every + self.every, self.steps)
                    here = shared
                    if feed:
                        block, end = feed.at(step)
                        until, here = min(until, end), shared | {"data": {"train": block}}
                    started, made = time.monotonic(), int(self.step.sum())
                    state = program.advance((state, run, own, spread.place(self._limits(until))), here)
                    if feed:
                        feed.look_ahead()  # while the devices are busy
                    self._look(state)
                    seconds = time.monotonic() - started
                    self.seconds += seconds
                    self.run_steps += int(self.step.sum()) - made
                    # Cutting anywhere changes no bit.
                    per_step = seconds / (until - step)
                    call = min(2 * call, max(1, int(self.settings.call_seconds / max(per_step, 1e-9))))
                    if until % self.every == 0 or until == self.steps:
                        best = self._log(until, state, best, run, own, shared)
                    self._report(before, active.sum() * (until - step) * program.source.batch_size / seconds)
            self._finish(state, best, run, own, shared, before)

    def _own(self, run: Any, data: Any) -> Any:
        """The splits that are each run's own [R, ...], on the devices; None where there are none."""
        program = self.program
        if not program.own:
            return None
        if not program.source.streamed:
            return program.prepare((run, None), data)
        train = program.source.data["train"]
        rows = np.asarray(program.choose((run,), self.spread.share(np.asarray(train["label"]))))  # [R, examples]
        return program.prepare((run, self.spread.place({key: values[rows] for key, values in train.items()})), {})

    @contextlib.contextmanager
    def _feed(self) -> Iterator[Feed | None]:
        """The training batches from here on, where they are streamed and needed."""
        active = self._active()
        if "train" not in self.program.streamed or not active.any():
            yield None
            return
        with contextlib.closing(
            Feed(self.program.source, int(self.step[active].max()), self.steps, self.spread.share)
        ) as feed:
            yield feed

    def _limits(self, until: int) -> np.ndarray:
        """The step at which each run pauses, none beyond `until`, uint32 [padded R]: 0 for padding."""
        limits = np.minimum(self.limit, until)[self.rows]
        return np.where(np.arange(len(self.rows)) < len(self.chunk), limits, 0).astype(np.uint32)

    def _first(self, run: Any) -> tuple[State, Any]:
        state = self.program.init((run,), {})
        self._look(state)
        return state, jax.tree.map(jnp.copy, state.measured) if self.patience else None

    def _restore(self) -> tuple[State, Any] | None:
        count = len(self.chunk)
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), self.program.abstract_state
        )
        like = {"state": state, "best": state.measured if self.patience else None}
        found = checkpoints.restore(self.folder, like, self.settings.warn)
        if found is None:
            return None
        tree, _, notes = found
        self.history = notes["history"]
        self.limit, self.stale = np.array(notes["limit"]), np.array(notes["stale"])
        self.best_value = np.array(notes["best_value"])
        for row in self.history:
            self._tell(row)
        tree = self.spread.place(jax.tree.map(lambda leaf: leaf[self.rows], tree))
        self._look(tree["state"])
        self.saved = int(self.step.max())
        return tree["state"], tree["best"]

    def _look(self, state: State) -> None:
        """What the loop decides by: the step and the loss of each run. Waits for the devices."""
        step, loss = jax.device_get((state.step, state.loss))
        self.step, self.loss = step[: len(self.chunk)].astype(int), loss[: len(self.chunk)]

    def _active(self) -> np.ndarray:
        return (self.step < self.limit) & np.isfinite(self.loss)

    def _measure(
        self, state: State, best: Any, run: Any, own: Any, shared: Any, splits: Sequence[str], chosen: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """{split: {metric: float32 [M, N]}} of the chunk's M runs; zeros for those not `chosen` [padded M]."""
        program, spread = self.program, self.spread
        params, model_state = best if best is not None else state.measured
        wanted = spread.place({split: chosen & (split in splits) for split in SPLITS})

        def values(data: Any, own: Any) -> Any:
            return program.evaluate((params, model_state, run, own, wanted), {"data": data})

        found = jax.device_get(values(shared["data"], own)) if splits and (shared["data"] or own) else {}
        for split in set(splits) & set(program.streamed):
            rows = program.source.data[split]
            blocks = streaming.evaluation_blocks(rows, program.sizes[split])
            parts = [jax.device_get(values({split: spread.share(block)}, None)[split]) for block in blocks]
            joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)  # [R, M ...] -> [R, N+]
            found[split] = jax.tree.map(lambda leaf, rows=rows: leaf[:, : len(rows["label"])], joined)
        return jax.tree.map(lambda leaf: leaf[: len(self.chunk)], {split: found[split] for split in splits})

    def _log(self, until: int, state: State, best: Any, run: Any, own: Any, shared: Any) -> Any:
        """Write down where the runs are that reached this step; returns the best parameters so far, and
        what the model kept with them."""
        here = (self.step == until) & np.isfinite(self.loss)
        since = until - (until - 1) // self.every * self.every
        sums = jax.device_get(state.metrics)
        values = {f"train_{metric}": np.float64(total[: len(here)]) / since for metric, total in sums.items()}
        splits = [split for split in self.program.measured if split == "validation"]
        measured = self._measure(state, None, run, own, shared, splits, np.full(len(self.rows), True))
        values |= self._summaries(measured)
        if self.patience:
            if self.metric not in values:
                raise UserError(f"early stopping by {self.metric!r} is not possible: valid is {', '.join(values)}")
            value = values[self.metric] if self.direction == "min" else -values[self.metric]
            better = here & (value < self.best_value)
            self.best_value = np.where(better, value, self.best_value)
            self.stale = np.where(here, np.where(better, 0, self.stale + 1), self.stale)
            self.limit = np.where(here & (self.stale >= self.patience), until, self.limit)
            padded = np.where(np.arange(len(self.rows)) < len(here), better[self.rows], False)
            best = self.program.keep(best, state.measured, self.spread.place(padded))
        row = {
            "step": until,
            "here": here.tolist(),
            "values": {name: v.tolist() for name, v in values.items()},
        }
        self.history.append(row)
        self._tell(row)
        return best

    def _tell(self, row: dict[str, Any]) -> None:
        here = np.array(row["here"])
        if here.any():
            values = {metric: np.array(numbers)[here] for metric, numbers in row["values"].items()}
            self.settings.log(self.program.name, self.chunk[here], row["step"], values)

    def _summaries(self, measured: Any) -> dict[str, np.ndarray]:
        summarise = self.program.task.summarise or (
            lambda values: {name: v.mean(dtype=np.float64) for name, v in values.items()}
        )
        result: dict[str, np.ndarray] = {}
        for split, values in measured.items():
            each = [summarise({name: v[number] for name, v in values.items()}) for number in range(len(self.chunk))]
            result |= {f"{split}_{metric}": np.array([float(one[metric]) for one in each]) for metric in each[0]}
        return result

    def _report(self, before: int, examples_per_second: float, measured: int = 0) -> None:
        finite = self.loss[np.isfinite(self.loss)]
        self.settings.progress(
            Progress(
                name=self.program.name,
                runs=len(self.program.runs["seed"]),
                step=int(self.step.max()),
                steps=self.steps,
                work=before * self.steps + int(self.step.sum()),
                total=len(self.program.runs["seed"]) * self.steps,
                loss=float(finite.mean()) if finite.size else float("nan"),
                examples_per_second=examples_per_second,
                measured=measured,
            )
        )

    def _finish(self, state: State, best: Any, run: Any, own: Any, shared: Any, before: int) -> None:
        """Measure every split and store the end. A few runs in a call, so that a signal need not wait for all."""
        devices = len(self.spread.devices) if self.spread.strategy == "jit" else 1
        place = np.arange(len(self.rows)) % (len(self.rows) // devices)  # of each run on its device
        first, size = 0, self.spread.width
        measured: Any = None
        while first <= place.max():
            if self.settings.requests.pending:
                self._save(state, best, {})
                return  # `held` raises Interrupted
            started = time.monotonic()
            chosen = (place >= first) & (place < first + size)
            part = self._measure(state, best, run, own, shared, self.program.measured, chosen)
            here = chosen[: len(self.chunk), None]  # selected, not added: -0.0 + 0.0 is 0.0
            measured = jax.tree.map(lambda new, old, here=here: np.where(here, new, old), part, measured or part)
            first, pace = first + size, self.settings.call_seconds / (time.monotonic() - started)
            if not self.steps:  # measuring is all there is to tell
                self._report(before, 0.0, int((place[: len(self.chunk)] < first).sum()))
            size = max(size, int(min(2.0, pace) * size))
        metrics = {name: values.tolist() for name, values in self._summaries(measured).items()}
        outcomes = {"outcomes": {f"test_{name}": values for name, values in measured.get("test", {}).items()}}
        self._save(state, best, outcomes, finished=metrics)

    def _save(self, state: State, best: Any, outcomes: dict[str, np.ndarray], finished: Any = None) -> None:
        count = len(self.chunk)
        tree = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], {"state": state, "best": best})
        notes = {
            "runs": self.keys,
            "history": self.history,
            "limit": self.limit.tolist(),
            "stale": self.stale.tolist(),
            "best_value": self.best_value.tolist(),
            "finished": finished,
        }
        # An unfinished checkpoint may stand at the last step already, and stays until the finished one is whole.
        number = int(self.step.max()) + (finished is not None)
        if number > self.saved:
            checkpoints.save(self.folder, number, tree | outcomes, notes)
            self.saved = number
