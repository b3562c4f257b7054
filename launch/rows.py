"""Which runs make a row of a comparison: a variant's best trial, or its best at each value of a setting."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.errors import UserError, unknown
from launch.inputs import Run, Study, Value, is_number, read, read_environment, read_study

# Where no study says what selects: the first that all have, the least is the best.
SELECT = ("validation_error", "validation_loss")


class Row(NamedTuple):
    """The runs of a variant that are compared, one a seed.

    prefix: what stands before its own name, "INPUT/" or ""
    one_test_set: whether all runs of the input were tested on the same examples
    """

    own: str
    runs: list[Run]
    prefix: str = ""
    one_test_set: bool = True

    @property
    def variant(self) -> str:
        """What the variant is called."""
        return self.prefix + self.own

    @property
    def done(self) -> int:
        """How many runs have metrics."""
        return len(self.runs) - self.diverged - self.failed - self.absent

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return self._count("diverged")

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return self._count("failed")

    @property
    def absent(self) -> int:
        """How many runs are running or not there."""
        return self._count("running", "absent")

    def _count(self, *statuses: str) -> int:
        return sum(run.status in statuses for run in self.runs)

    def values(self, metric: str) -> np.ndarray:
        """The metric of the runs that have it, [n]."""
        return np.array([run.metrics[metric] for run in self.runs if metric in run.metrics], np.float64)


class Rows:
    """Rows of different variants, where claims are looked up."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = list(rows)

    def row(self, variant: str) -> Row | None:
        """The row of a variant; None where there is none."""
        return next((row for row in self.rows if row.variant == variant), None)

    def values(self, row: Row, metric: str) -> dict[int, Any]:
        """{seed: the values of test examples [N], or their mean alone} of the runs of a row that have the metric."""
        from jaxdl.study import folders

        return {
            run.seed: (folders.read_outcomes(run.folder) if run.folder and row.one_test_set else {}).get(
                metric, run.metrics[metric]
            )
            for run in row.runs
            if metric in run.metrics
        }


class Input(NamedTuple):
    """A folder or a CSV. prefix: what its variants are called by beside those of other inputs, "" where it is alone."""

    path: Path
    name: str
    prefix: str
    runs: list[Run]
    study: Study

    @property
    def one_test_set(self) -> bool:
        """Whether all runs were tested on the same examples, which a study that sweeps over its data does not do."""
        settings = [run.settings for run in self.runs]
        keys = {key for each in settings for key in each if key.startswith("data.")}
        differ = any(len({each[key] for each in settings if key in each}) > 1 for key in keys)
        return not differ and not any(text.startswith("data.") for text in self.study.swept)

    def note(self, text: str) -> str:
        """A remark about this input, which it names beside others."""
        return f"{self.name}: {text}" if self.prefix else text


class Comparison(Rows):
    """The variants of all inputs at their best trials.

    keys: settings by which runs will be told apart; then the best trial of a variant need not be known
    notes: what a reader must know of the choice
    """

    def __init__(self, paths: Sequence[Path], keys: Sequence[str] = ()) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.inputs: list[Input] = []
        for path, name in zip(paths, _names(paths), strict=True):
            own = Input(path, name, f"{name}/" if len(paths) > 1 else "", read(path, keys), read_study(path))
            chosen, notes = choose(own, demanded=not keys)
            self.inputs.append(own)
            one_test_set = own.one_test_set
            self.rows += [Row(variant, runs, own.prefix, one_test_set) for (variant, _), runs in chosen.items()]
            self.notes += notes

    def runs(self) -> list[Run]:
        """All runs of all inputs."""
        return [run for own in self.inputs for run in own.runs]

    def metrics(self) -> list[str]:
        """All metrics, in order of first appearance."""
        return list(dict.fromkeys(name for run in self.runs() for name in run.metrics))

    def columns(self) -> list[str]:
        """The metrics that the studies of all inputs show, in order; none where one does not say."""
        first, *others = (own.study.columns for own in self.inputs)
        return [name for name in first if all(name in each for each in others)]

    def selects(self) -> list[tuple[str, str]]:
        """The metrics that may have chosen among trials, and their directions; first those of studies."""
        found: dict[str, str] = {}
        own = [each.study.select for each in self.inputs if each.study.select]
        for metric, direction in [*own, *((name, "min") for name in SELECT)]:
            found.setdefault(metric, direction)
        return list(found.items())

    def fraction(self, metric: str) -> bool:
        """Whether to show a metric as %: an error or accuracy that is stored as a fraction, as none above 1 is."""
        from jaxdl.study.results import is_fraction

        return is_fraction(metric) and all(abs(run.metrics.get(metric, 0)) <= 1 for run in self.runs())

    def environments(self) -> list[dict[str, Any]]:
        """The different environments that the compared runs were trained in."""
        found = [read_environment(run.folder) for row in self.rows for run in row.runs if run.folder]
        return list({json.dumps(each, sort_keys=True): each for each in found if each}.values())

    def by_input(self) -> dict[Value, Rows]:
        """{name of an input: its rows}, whose variants are called without it."""
        return {
            each.name: Rows(row._replace(prefix="") for row in self.rows if row.prefix == each.prefix)
            for each in self.inputs
        }

    def by(self, key: str, option: str) -> tuple[dict[Value, Rows], list[str]]:
        """{value of a setting: the rows of the variants that have runs with it}, and what a reader must know.

        Numbers come in order, before texts. option: in words, for errors. UserError where no run has the setting.
        """
        if not any(key in run.settings for run in self.runs()):
            settings = [run.settings for run in self.runs()]
            names = dict.fromkeys(name for each in settings for name in each)
            swept = [name for name in names if len({each[name] for each in settings if name in each}) > 1]
            raise unknown(option, key, ["input", *swept], near=names)
        found: dict[Value, list[Row]] = {}
        notes: list[str] = []
        for own in self.inputs:
            chosen, said = choose(own, key)
            one_test_set = own.one_test_set
            for (variant, value), runs in chosen.items():
                found.setdefault(value, []).append(Row(variant, runs, own.prefix, one_test_set))
            notes += said
            lacking = sum(key not in run.settings for run in own.runs)
            if lacking:
                notes.append(own.note(f"{lacking} of {len(own.runs)} runs have no {key}."))
        numbers = sorted(value for value in found if is_number(value))
        return {value: Rows(found[value]) for value in [*numbers, *(v for v in found if not is_number(v))]}, notes


def _names(inputs: Sequence[Path]) -> list[str]:
    """What each input is called: its folder or file; the paths as they are given where those are alike."""
    names = [path.resolve().name if path.is_dir() else path.stem for path in inputs]
    return names if len(set(names)) == len(names) else [str(path) for path in inputs]


Group = tuple[str, Value | None]  # a variant, and its value of a key


def choose(own: Input, key: str = "", demanded: bool = True) -> tuple[dict[Group, list[Run]], list[str]]:
    """The runs of each variant, at each value of the key, at its best trial; and what a reader must know.

    By the metric of the folder's study, and ranked as there; else by the first of `SELECT` that all have. Runs without
    the key are left out. UserError where nothing tells which trial is the best; where that is not demanded, no runs.
    """
    from jaxdl.study import results

    groups: dict[Group, dict[str, list[Run]]] = {}
    for run in own.runs:
        if not key or key in run.settings:
            group = run.variant, run.settings[key] if key else None
            groups.setdefault(group, {}).setdefault(run.trial, []).append(run)
    tuned = {group: trials for group, trials in groups.items() if len(trials) > 1}
    several = [run for trials in tuned.values() for runs in trials.values() for run in runs]
    done = [run for run in several if run.status == "done"]
    usual = ((name, "min") for name in SELECT if all(name in run.metrics for run in done))
    select = own.study.select or next(usual, None)
    if select is None and demanded:
        (variant, value), _ = next(iter(tuned.items()))
        where = f" with {key}={value}" if key else ""
        raise UserError(
            f"{own.path}: variant {variant!r} has several trials (hashes){where}, and not all runs have "
            f"{' or '.join(SELECT)} to choose one by"
        )

    def best(trials: dict[str, list[Run]]) -> list[Run]:
        if len(trials) == 1 or select is None:
            return next(iter(trials.values())) if len(trials) == 1 else []
        metric, direction = select
        seeds = sorted({run.seed for runs in trials.values() for run in runs})

        def rank(runs: list[Run]) -> tuple[bool, float]:
            known = {run.seed: run.metrics.get(metric, math.nan) for run in runs}
            return results.rank([known.get(seed, math.nan) for seed in seeds], direction)

        return min(trials.values(), key=rank)  # the first of equal ones, as in a study

    chosen = {group: sorted(best(trials), key=lambda run: run.seed) for group, trials in groups.items()}
    return chosen, [own.note(note) for note in _notes(tuned, key, select)] if tuned else []


def _notes(tuned: dict[Group, dict[str, list[Run]]], key: str, select: tuple[str, str] | None) -> list[str]:
    """What a reader must know of the choice among trials {group: {trial: runs}}."""
    if select is None:
        return [f"Without {' or '.join(SELECT)} of all runs, no variant has a best trial."]
    said = f"that with the {'least' if select[1] == 'min' else 'greatest'} mean {select[0]}"
    differ = set()
    for trials in tuned.values():
        first = [next((run.settings for run in runs if run.settings), {}) for runs in trials.values()]
        names = {name for each in first for name in each} - {"hash"}
        differ |= {name for name in names if len({repr(each.get(name)) for each in first if each}) > 1}
    if key:
        apart = f", which differ in {', '.join(sorted(differ))}" if differ else ""
        return [f"Of several trials with one {key}{apart}, {said} is shown."]
    folders = any(run.folder for trials in tuned.values() for runs in trials.values() for run in runs)
    beyond = sorted(name for name in differ if folders and not name.startswith("hyper."))
    notes = [f"Of several trials, {said} is compared."]
    return notes + [f"Trials of a variant differ in more than hyperparameters: {', '.join(beyond)}."] * bool(beyond)
