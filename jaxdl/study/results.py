"""From run folders to a comparison: the best trial of each variant, means with intervals, results.csv."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.study import folders
from jaxdl.study.runs import Run, own_grids


class Row(NamedTuple):
    """A trial: a variant at one point of the grids that it was tuned and swept over.

    point: {dotted key: value} of the grids with more than one value; edge: the keys whose number lies at the end of
        its grid
    runs: its runs, one a seed; diverged, failed, absent: how many of them have no metrics, for which reason; absent
        ones did not run so far, or are running
    """

    variant: str
    point: dict[str, float]
    edge: list[str]
    runs: list[Run]
    diverged: int
    failed: int
    metrics: dict[str, np.ndarray]
    absent: int = 0


class Results:
    """What the runs of a command found, read from their folders.

    grid: {dotted key: values}, what the variants were tuned and swept over
    own_grids: those of single variants, {(key, values): variants}
    trials: {variant: its trials, the best first} by the mean over seeds of `select`, a metric of the validation split
        and its direction. Trials with a run that diverged or failed come after all others; ties keep the grid's order.
    rows: the best trial of each variant
    """

    def __init__(
        self, workdir: Path, runs: Sequence[Run], grid: dict[str, Sequence[Any]], select: tuple[str, str]
    ) -> None:
        self.workdir, self.runs, self.grid, self.select = workdir, tuple(runs), grid, select
        self.own_grids = own_grids(self.runs, grid)
        self.records = [folders.read_run(folders.run_folder(workdir, run)) for run in runs]
        self._number = {(run.variant, run.hash, run.seed): number for number, run in enumerate(runs)}
        self.trials = {variant: self._trials(variant) for variant in dict.fromkeys(run.variant for run in runs)}
        self.rows = [trials[0] for trials in self.trials.values()]

    def row(self, variant: str) -> Row | None:
        """The row of a variant; None when the command left it out."""
        return next((row for row in self.rows if row.variant == variant), None)

    def record(self, run: Run) -> dict[str, Any]:
        """What the folder of a run holds: its status and metrics."""
        return self.records[self._number[run.variant, run.hash, run.seed]]

    def values(self, row: Row, metric: str) -> dict[int, Any]:
        """{seed: the values of test examples [N], or their mean alone} of the runs of a row that have the metric."""
        found: dict[int, Any] = {}
        for run in row.runs:
            record = self.record(run)
            if metric in record["metrics"]:
                outcomes = folders.read_outcomes(folders.run_folder(self.workdir, run))
                found[run.seed] = outcomes.get(metric, record["metrics"][metric])
        return found

    def of_test_examples(self) -> bool:
        """Whether a variant's first run kept values of test examples: then all seeds have the same ones."""
        ended = [row.runs[0] for row in self.rows if self.record(row.runs[0])["metrics"]]
        return any(folders.read_outcomes(folders.run_folder(self.workdir, run)) for run in ended)

    def environments(self) -> list[dict[str, Any]]:
        """The different environments that the runs were trained in, from their config.json."""
        found: dict[str, dict[str, Any]] = {}
        for run in self.runs:
            environment = folders.read_environment(folders.run_folder(self.workdir, run))
            if environment:
                found.setdefault(json.dumps(environment, sort_keys=True), environment)
        return list(found.values())

    def curves(self, run: Run, fit: str, metric: str) -> dict[int, float]:
        """{step: value} of one logged metric of a run."""
        rows = folders.read_metrics(folders.run_folder(self.workdir, run))
        return {row["step"]: row[metric] for row in rows if row["fit"] == fit and row.get(metric) is not None}

    def band(self, row: Row, fit: str, metric: str) -> tuple[list[int], list[list[float]]]:
        """(steps [T], values [T][seeds]) of one logged metric where all runs of a row have it."""
        curves = [self.curves(run, fit, metric) for run in row.runs]
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        return steps, [[curve[step] for curve in curves] for step in steps]

    def _trials(self, variant: str) -> list[Row]:
        """The trials of a variant, ranked."""
        points: dict[str, list[int]] = {}
        for number, run in enumerate(self.runs):
            if run.variant == variant:
                points.setdefault(json.dumps(run.point), []).append(number)
        metric, direction = self.select

        def key(numbers: list[int]) -> tuple[bool, float]:
            return rank([self.records[number]["metrics"].get(metric, math.nan) for number in numbers], direction)

        return [self._row(variant, numbers) for numbers in sorted(points.values(), key=key)]

    def _row(self, variant: str, numbers: list[int]) -> Row:
        records, runs = ([each[number] for number in numbers] for each in (self.records, self.runs))
        names = dict.fromkeys(name for record in records for name in record["metrics"])
        own = {key: values for (key, values), variants in self.own_grids.items() if variant in variants}
        grid = self.grid | own
        point = {key: value for key, value in runs[0].point.items() if len(grid.get(key, ())) > 1}
        return Row(
            variant,
            point,
            [key for key, value in point.items() if at_edge(value, grid[key])] if names else [],
            runs,
            sum(record["status"] == "diverged" for record in records),
            sum(record["status"] == "failed" for record in records),
            {name: np.array([r["metrics"][name] for r in records if name in r["metrics"]]) for name in names},
            sum(record["status"] in ("absent", "running") for record in records),
        )

    def csv(self, study: str) -> str:
        """results.csv of all runs, every trial included: study,variant,hash,seed,metric,value."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["study", "variant", "hash", "seed", "metric", "value"])
        for run, record in zip(self.runs, self.records, strict=True):
            for metric, value in sorted(record["metrics"].items()):
                writer.writerow([study, run.variant, run.hash, run.seed, metric, repr(value)])
        return text.getvalue()


def rank(values: Sequence[float], direction: str) -> tuple[bool, float]:
    """What trials are sorted by, the best first: those with a value of every run, then by the mean over runs.

    values: of the metric that selects, one a run, nan where it has none; direction: "min" or "max" of that metric
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return True, math.inf
    return len(known) < len(values), float(np.mean(known)) * (1 if direction == "min" else -1)


def at_edge(value: Any, grid: Sequence[Any]) -> bool:
    """Whether a number is the least or the greatest of its grid; False for what has no order, and for 0: nothing."""
    ordered = all(isinstance(each, int | float) and not isinstance(each, bool) for each in grid)
    return ordered and value != 0 and value in (min(grid), max(grid))


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of its 95% interval by Student's t over seeds; the half-width is nan for one value.

    half-width = t_{0.975, n-1} s / sqrt(n). It covers the choice of seeds, not of test examples.
    """
    from scipy import stats

    count = len(values)
    if count == 0:
        return math.nan, math.nan
    if count == 1:
        return float(values[0]), math.nan
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return float(np.mean(values)), float(stats.t.ppf(0.975, count - 1)) * spread


def shown(metric: str, values: np.ndarray) -> str:
    """ "4.31 ± 0.22": errors and accuracies in %, others as they are."""
    mean, half = interval(values)
    if math.isnan(mean):
        return "-"
    scale, digits = (100, 2) if is_fraction(metric) else (1, 3)
    return f"{scale * mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {scale * half:.{digits}f}")


def is_fraction(metric: str) -> bool:
    """Whether a metric is an error or an accuracy: stored as a fraction, shown as %."""
    words = metric.split("_")
    return any(word in ("error", "accuracy") for word in words) and not {"squared", "absolute"} & set(words)


def headings(grid: dict[str, Sequence[Any]]) -> dict[str, str]:
    """{key: what it is called in a table} of the keys that have more than one value: "hidden", or all of the key."""
    keys = [key for key, values in grid.items() if len(values) > 1]
    short = [key.rpartition(".")[2] for key in keys]
    names = [name if short.count(name) == 1 else key for key, name in zip(keys, short, strict=True)]
    return {key: name.replace("_", " ") for key, name in zip(keys, names, strict=True)}


def title(metric: str) -> str:
    """ "test_error" -> "test error %"."""
    return metric.replace("_", " ") + (" %" if is_fraction(metric) else "")
