"""fit: train many runs of one task to the end, whatever interrupts.

    programs/HASH/FIT/CHUNK/STEP/      checkpoints of the runs that shared a program call
    programs/HASH/FIT/pace.json        how fast the latest of them trained

A fit is memoised by run: what is finished is read back, what was interrupted goes on from its checkpoint, the
rest starts. A run's key is the hash of all that it depends on (its seed, hyperparameters and other inputs), so
it does not matter in which company it was trained.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl.errors import UserError, unknown
from jaxdl.training import checkpoints
from jaxdl.training.program import SPLITS, Compiled, Program
from jaxdl.training.settings import Settings
from jaxdl.training.trainer import Trainer

PACE = "pace.json"


class Fitted(NamedTuple):
    """The end of a fit, on the host. R runs in the order they were given.

    params, model_state: pytrees of [R, ...]
    steps: updates each run made, [R]
    diverged: the step at which the loss was not finite, 0 where it always was, [R]
    metrics: {"split_name": float64 [R]}
    outcomes: {"test_name": float32 [R, N]}, the value of each test example
    """

    params: Any
    model_state: Any
    steps: np.ndarray
    diverged: np.ndarray
    metrics: dict[str, np.ndarray]
    outcomes: dict[str, np.ndarray]


class Plan(NamedTuple):
    """What a fit will do, known without training."""

    name: str
    runs: int
    steps: int
    parameters: int
    width: int
    runs_at_once: int


def fit(
    name: str,
    task: Any,
    optimizer: Callable,
    source: Any,
    runs: dict[str, Any],
    settings: Settings,
    *,
    steps: int,
    evaluations: int = 20,
    every: int = 0,
    average: float = 0.0,
    patience: int = 0,
    select: tuple[str, str] = ("validation_loss", "min"),
    measured: Sequence[str] = SPLITS,
    identity: Sequence[str] | None = None,
) -> Fitted:
    """Train all `runs` for `steps` updates and measure them on every split.

    runs: {"seed": uint32 [R], "hyper": {name: float32 [R]}, ...}; further entries are pytrees of [R, ...] that
        the task reads (a start, frozen layers)
    evaluations: how often, evenly spread, metrics are logged and the validation split is measured
    every: after how many steps, instead; 0 takes it from `evaluations`
    average: decay of the moving average of the parameters, which is then what is measured; 0 keeps none
    patience: stop a run after so many evaluations without a better `select` metric, and keep the best
        parameters; 0 always trains to the end
    measured: the splits that are measured at all; the others only lend their shapes
    identity: what distinguishes runs beyond their arrays, one text each

    Raises UserError for a batch that can't be split over the devices, a disk that is full, or runs that are not
    finished where `settings` forbid training; Interrupted (with
    everything saved) when a signal asked to stop.
    """
    _check(source, steps, evaluations, every, average, patience, measured)
    runs = {key: jax.tree.map(np.asarray, value) for key, value in runs.items()}
    program = Program(name, task, optimizer, source, runs, settings, average, measured)
    total = len(runs["seed"])
    every = every or max(1, -(-steps // max(1, evaluations)))
    seen = [source.fingerprint, source.normalisation.plain(), source.batch_size, source.order, source.examples]
    seen += [len(source.data[split]["label"]) for split in SPLITS]
    terms = [steps, every, average, patience, select, *seen]
    if len(program.measured) < len(SPLITS):
        terms.append(program.measured)
    if patience:  # the best parameters and, unlike once, what the model kept with them
        terms.append("best state")
    keys = _keys(runs, terms, identity or [""] * total)
    folder = settings.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    stored = _stored(program, folder, set(keys))
    for number, key in enumerate(keys):
        for step, values in stored[key].rows if key in stored else []:
            settings.log(
                name, np.array([number]), step, {metric: np.array([value]) for metric, value in values.items()}
            )
    missing = [number for number in range(total) if keys[number] not in stored]
    if missing and not settings.train:
        raise UserError(f"{len(missing)} of {total} runs of the fit {name!r} are not trained")
    begun = _begun(folder, {keys[number] for number in missing})
    most = max((len(chunk) for _, chunk in begun), default=0)
    compiled = program.compile(len(missing), most, keeps_best=patience > 0) if missing and steps else None
    size = compiled.runs_at_once if compiled else min(program.at_once, program.whole(len(missing))) or 1
    seconds, run_steps, before = 0.0, 0, total - len(missing)
    for place, chunk in _chunks(folder, begun, keys, missing, size):
        trainer = Trainer(program, place, chunk, size, keys, steps, every, patience, select)
        trainer.train(before)
        stored |= _read(program, place, len(chunk))
        seconds, run_steps, before = seconds + trainer.seconds, run_steps + trainer.run_steps, before + len(chunk)
    if compiled and run_steps:
        _write_pace(folder, seconds / run_steps, compiled)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(stored[key].fitted for key in keys))


def plan(
    name: str,
    task: Any,
    optimizer: Callable,
    source: Any,
    runs: dict[str, Any],
    settings: Settings,
    *,
    steps: int,
    evaluations: int = 20,
    every: int = 0,
    average: float = 0.0,
    patience: int = 0,
    select: tuple[str, str] = ("validation_loss", "min"),
    measured: Sequence[str] = SPLITS,
) -> tuple[Plan, Fitted]:
    """What `fit` would do with the same arguments, by shape evaluation alone; the result holds zeros of its shapes."""
    _check(source, steps, evaluations, every, average, patience, measured)
    runs = {key: jax.tree.map(np.asarray, value) for key, value in runs.items()}
    program = Program(name, task, optimizer, source, runs, settings, average, measured)
    total = len(runs["seed"])

    def zeros(leaf: Any) -> np.ndarray:
        return np.broadcast_to(np.zeros((), leaf.dtype), (total, *leaf.shape))

    state = program.abstract_state
    values = program.abstract_values
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    result = Fitted(
        jax.tree.map(zeros, state.params),
        jax.tree.map(zeros, state.model_state),
        np.full(total, steps),
        np.zeros(total, int),
        {f"{split}_{metric}": np.zeros(total) for split in values for metric in _metrics(task, values[split])},
        {f"test_{metric}": zeros(leaf) for metric, leaf in values.get("test", {}).items()},
    )
    return Plan(name, total, steps, parameters, program.spread.width, program.at_once), result


def pace(settings: Settings, name: str) -> dict[str, Any] | None:
    """How fast a fit trained when it last did; None where that is not known or can't be read.

    Returns
        seconds_per_run_step: wall time of the program calls over the steps that all their runs made together
        compile_seconds: wall time until `advance` was compiled
        runs_at_once: how many runs shared a program call, padding included
        program_bytes: what they took beside the data they share, as the compiled program says; None if it does not
    """
    try:
        found = json.loads((settings.folder / name / PACE).read_text())
        whole = (
            found["seconds_per_run_step"] > 0
            and found["compile_seconds"] >= 0
            and found["runs_at_once"] >= 1
            and (found["program_bytes"] is None or found["program_bytes"] >= 0)
        )
    except (OSError, ValueError, TypeError, KeyError):  # not there, or damaged
        return None
    return found if whole else None


def _write_pace(folder: Path, seconds_per_run_step: float, compiled: Compiled) -> None:
    values = {
        "seconds_per_run_step": seconds_per_run_step,
        "compile_seconds": compiled.seconds,
        "runs_at_once": compiled.runs_at_once,
        "program_bytes": compiled.program_bytes,
    }
    with contextlib.suppress(OSError):  # a full disk: what was trained is stored, and does not fail for this
        checkpoints.write_atomically(folder / PACE, json.dumps(values))


def _check(
    source: Any, steps: int, evaluations: int, every: int, average: float, patience: int, measured: Sequence[str]
) -> None:
    if steps < 0 or evaluations < 1 or every < 0 or patience < 0:
        raise UserError(
            f"steps={steps}, evaluations={evaluations}, evaluated every {every} steps, patience={patience} are not "
            "possible: valid are whole numbers, evaluations from 1, the others from 0"
        )
    for split in measured:
        if split not in SPLITS:
            raise unknown("split to measure", split, SPLITS)
        if not len(source.data[split]["label"]):
            raise UserError(f"the {split} split of {source.name} has no example: ask for fewer in the other splits")
    if not 0 <= average < 1:
        raise UserError(f"average={average} is not possible: valid is 0 (off) to below 1, the decay of the mean")


def _metrics(task: Any, measured: dict[str, Any]) -> list[str]:
    """The names of a split's metrics, from the shapes of its values."""
    if task.summarise is None:
        return list(measured)
    with np.errstate(all="ignore"):  # nothing but zeros may give 0 / 0
        return list(task.summarise({name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in measured.items()}))


class _End(NamedTuple):
    """The end of one run, and the rows of metrics on the way to it: [(step, {metric: value})]."""

    fitted: Fitted
    rows: list[tuple[int, dict[str, float]]]


def _stored(program: Program, folder: Path, wanted: set[str]) -> dict[str, _End]:
    """{run key: its end} of the `wanted` runs that finished; what is damaged is as if it had not finished."""
    found: dict[str, _End] = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        notes = checkpoints.newest_notes(place)
        if notes and notes["finished"] is not None and wanted & set(notes["runs"]):
            found |= _read(program, place, len(notes["runs"]))
    return {key: end for key, end in found.items() if key in wanted}


def _begun(folder: Path, missing: set[str]) -> list[tuple[Path, list[str]]]:
    """(folder, run keys) of every chunk with a checkpoint whose runs are all `missing`, the furthest first.

    Another process may train one of them right now, but only of runs that are not in this one's share: `missing`
    holds nothing but runs of the share, so that such a chunk is none of these.
    """
    found = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        notes = checkpoints.newest_notes(place)
        if notes and set(notes["runs"]) <= missing:
            step = max(int(path.parent.name) for path in place.glob("[0-9]*/manifest.json"))
            found.append((step, place, notes["runs"]))
    return [(place, runs) for _, place, runs in sorted(found, key=lambda one: -one[0])]


def _chunks(
    folder: Path, begun: list[tuple[Path, list[str]]], keys: list[str], missing: list[int], size: int
) -> list[tuple[Path, np.ndarray]]:
    """(folder, numbers of its runs) of each chunk: what was begun and is no larger than `size`, then the rest, cut."""
    chunks, left = [], {keys[number]: number for number in missing}
    for place, runs in begun:
        if len(runs) <= size and all(key in left for key in runs):  # of those with a run in common the furthest
            chunks.append((place, np.array([left[key] for key in runs])))
            left = {key: number for key, number in left.items() if key not in runs}
    rest = [number for number in missing if keys[number] in left]
    for part in (rest[first : first + size] for first in range(0, len(rest), size)):
        chunks.append((folder / _digest([keys[number] for number in part]), np.array(part)))
    return chunks


def _read(program: Program, place: Path, count: int) -> dict[str, _End]:
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), program.abstract_state)
    restored = checkpoints.restore(place, {"state": state}, program.settings.warn)
    if restored is None or restored[2]["finished"] is None:
        return {}
    tree, further, notes = restored
    state = tree["state"]
    chunk = Fitted(
        *_best(further, state.measured),
        state.step.astype(int),
        np.where(np.isfinite(state.loss), 0, state.step).astype(int),
        {metric: np.array(values) for metric, values in notes["finished"].items()},
        {name[len("['outcomes']['") : -2]: further[name] for name in further if name.startswith("['outcomes']")},
    )

    def end(number: int) -> _End:
        rows = [
            (row["step"], {metric: values[number] for metric, values in row["values"].items()})
            for row in notes["history"]
            if row["here"][number]
        ]
        return _End(jax.tree.map(lambda leaf: leaf[number], chunk), rows)

    return {key: end(number) for number, key in enumerate(notes["runs"])}


def _best(further: dict[str, np.ndarray], measured: tuple[Any, Any]) -> tuple[Any, Any]:
    """Parameters and model state that early stopping kept, where it was on; else those `measured`."""
    paths = jax.tree_util.tree_leaves_with_path(measured)
    named = {"['best']" + jax.tree_util.keystr(path): leaf for path, leaf in paths}
    return jax.tree.unflatten(jax.tree.structure(measured), [further.get(name, leaf) for name, leaf in named.items()])


def _keys(runs: dict[str, Any], terms: list[Any], identity: Sequence[str]) -> list[str]:
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(runs)]
    keys = []
    for number, text in enumerate(identity):
        digest = hashlib.sha256(json.dumps([terms, text]).encode())
        for path, leaf in leaves:
            digest.update(path.encode() + str(leaf.dtype).encode() + np.ascontiguousarray(leaf[number]).tobytes())
        keys.append(digest.hexdigest()[:20])
    return keys


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
