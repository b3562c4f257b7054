"""From run folders to a comparison: the tuned point of each variant, means with intervals, results.csv."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.study import folders
from jaxdl.study.runs import Run


class Row(NamedTuple):
    """A variant at its chosen tuning point.

    point: the chosen values of the hyperparameters that the variant was tuned over; edge: those that lie at the
        end of their grid
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

    rows: one for each variant. The tuning point is chosen by the mean over seeds of `select`, a metric of the
        validation split and its direction; a point where a run diverged or failed is chosen only if all points
        have one. Ties go to the first point of the grid.
    """

    def __init__(
        self, workdir: Path, runs: Sequence[Run], tune: dict[str, Sequence[float]], select: tuple[str, str]
    ) -> None:
        self.workdir, self.runs, self.tune, self.select = workdir, tuple(runs), tune, select
        self.records = [folders.read_run(folders.run_folder(workdir, run)) for run in runs]
        self.rows = [self._row(variant) for variant in dict.fromkeys(run.variant for run in runs)]

    def row(self, variant: str) -> Row | None:
        """The row of a variant; None when the command left it out."""
        return next((row for row in self.rows if row.variant == variant), None)

    def record(self, run: Run) -> dict[str, Any]:
        """What the folder of a run holds: its status and metrics."""
        return self.records[self.runs.index(run)]

    def values(self, row: Row, metric: str) -> dict[int, Any]:
        """{seed: the values of test examples [N], or their mean alone} of the runs of a row that have the metric."""
        found: dict[int, Any] = {}
        for run in row.runs:
            record = self.record(run)
            if metric in record["metrics"]:
                outcomes = folders.read_outcomes(folders.run_folder(self.workdir, run))
                found[run.seed] = outcomes.get(metric, record["metrics"][metric])
        return found

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

    def _row(self, variant: str) -> Row:
        numbers = [number for number, run in enumerate(self.runs) if run.variant == variant]
        points: dict[tuple[float, ...], list[int]] = {}
        for number in numbers:
            points.setdefault(tuple(self.runs[number].hyper[name] for name in self.tune), []).append(number)
        tuned = [name for place, name in enumerate(self.tune) if len({point[place] for point in points}) > 1]
        metric, direction = self.select

        def rank(point: tuple[float, ...]) -> tuple[bool, float]:
            values = [self.records[number]["metrics"].get(metric, math.nan) for number in points[point]]
            known = [value for value in values if math.isfinite(value)]
            if not known:
                return True, math.inf
            return len(known) < len(values), float(np.mean(known)) * (1 if direction == "min" else -1)

        best = min(points, key=rank)
        chosen = points[best]
        records = [self.records[number] for number in chosen]
        names = dict.fromkeys(name for record in records for name in record["metrics"])
        point = {name: value for name, value in zip(self.tune, best, strict=True) if name in tuned}
        edge = [name for name, value in point.items() if value in (min(self.tune[name]), max(self.tune[name]))]
        return Row(
            variant,
            point,
            edge,
            [self.runs[number] for number in chosen],
            sum(record["status"] == "diverged" for record in records),
            sum(record["status"] == "failed" for record in records),
            {name: np.array([r["metrics"][name] for r in records if name in r["metrics"]]) for name in names},
            sum(record["status"] in ("absent", "running") for record in records),
        )

    def csv(self, study: str) -> str:
        """results.csv of all runs, every tuning point included: study,variant,hash,seed,metric,value."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["study", "variant", "hash", "seed", "metric", "value"])
        for run, record in zip(self.runs, self.records, strict=True):
            for metric, value in sorted(record["metrics"].items()):
                writer.writerow([study, run.variant, run.hash, run.seed, metric, repr(value)])
        return text.getvalue()


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
    return any(word in ("error", "accuracy") for word in metric.split("_")) and "squared" not in metric


def title(metric: str) -> str:
    """ "test_error" -> "test error %"."""
    return metric.replace("_", " ") + (" %" if is_fraction(metric) else "")
