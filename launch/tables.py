"""The table of a comparison, as numbers: variants x columns, each a metric, or one metric at a value of a setting."""

import fnmatch
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdl.errors import unknown
from launch.inputs import Run, Value
from launch.rows import Comparison, Row, Rows

SPREADS = {
    "ci": "the half-width of the 95% interval over seeds (Student's t)",
    "std": "the standard deviation over seeds",
    "sem": "the standard error of the mean over seeds",
}
DIRECTIONS = {"error": -1, "loss": -1, "accuracy": 1, "score": 1}  # of a word in a metric's name; 1: larger is better


class Cell(NamedTuple):
    """A metric of a variant. spread: what stands after ±, nan for one run; count: runs that have the metric."""

    mean: float
    spread: float
    count: int
    best: bool


class Column(NamedTuple):
    """A metric of some rows. name: in a CSV; title: in words; percent: whether to show it in %; ranked: may be bold"""

    name: str
    title: str
    metric: str
    rows: Rows
    percent: bool
    ranked: bool = True


class Table(NamedTuple):
    """What is shown: a cell [variant][column] of each.

    rows: {column's title, "" for all: the row of the variant}, of each variant
    """

    variants: list[str]
    columns: list[Column]
    cells: list[list[Cell]]
    rows: list[dict[str, Row]]

    def counts(self) -> list[tuple[int, int]]:
        """How many runs of each variant have a result, and should; of several columns, the most."""
        return [
            (max((row.done for row in rows.values()), default=0), max(map(len, (row.runs for row in rows.values()))))
            for rows in self.rows
        ]


def lost(rows: dict[str, Row]) -> str:
    """ "hidden 8: 1 diverged, 2 failed; hidden 16: 1 failed" of the rows of a variant; "" where all have a result."""
    said = []
    for title, row in rows.items():
        counts = {"diverged": row.diverged, "failed": row.failed, "running or not there": row.absent}
        text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        if text:
            said.append(f"{title}: {text}" if title else text)
    return "; ".join(said)


def metric_columns(comparison: Comparison, metrics: Sequence[str]) -> list[Column]:
    """One column a metric."""
    return [Column(name, titled(comparison, name), name, comparison, comparison.fraction(name)) for name in metrics]


def gap_column(comparison: Comparison, variants: Sequence[str], metrics: Sequence[str]) -> list[Column]:
    """Test minus training of the first of the metrics that runs have of both, as in a study's table; else none."""
    shown = [row for row in comparison.rows if row.variant in variants]
    for test in (metric for metric in metrics if metric.startswith("test_")):
        name = test.removeprefix("test_")
        gap, train = f"gap_{name}", f"train_{name}"

        def only(run: Run, test: str = test, train: str = train, gap: str = gap) -> Run:
            both = test in run.metrics and train in run.metrics
            return run._replace(metrics={gap: run.metrics[test] - run.metrics[train]} if both else {})

        rows = [row._replace(runs=[only(run) for run in row.runs]) for row in shown]
        if any(row.values(gap).size for row in rows):
            percent = comparison.fraction(test) and comparison.fraction(train)
            return [Column(gap, gap.replace("_", " ") + " %" * percent, gap, Rows(rows), percent, ranked=False)]
    return []


def value_columns(comparison: Comparison, key: str, metric: str, found: dict[Value, Rows]) -> list[Column]:
    """One column for each value of a setting."""
    from jaxdl.study.sweep import shown

    word = key.rpartition(".")[2].replace("_", " ")
    return [
        Column(
            f"{metric}_{key}={shown(value)}",
            str(value) if key == "input" else f"{word} {shown(value)}",
            metric,
            rows,
            comparison.fraction(metric),
        )
        for value, rows in found.items()
    ]


def titled(comparison: Comparison, metric: str) -> str:
    """ "test error %" """
    return metric.replace("_", " ") + " %" * comparison.fraction(metric)


def tabulate(
    variants: Sequence[str], columns: Sequence[Column], rows: Rows | dict[Value, Rows], spread: str, bold: bool
) -> tuple[Table, list[str]]:
    """The table, and what a reader must know of what is bold. rows: of all columns, or of each"""
    notes: list[str] = []
    best = []
    for column in columns:
        marked, said = best_of(column, variants) if bold and column.ranked else (set(), [])
        best.append(marked)
        notes += said
    cells = []
    for variant in variants:
        own = [(column.rows.row(variant) or Row(variant, [])).values(column.metric) for column in columns]
        cells.append(
            [Cell(*summary(each, spread), len(each), variant in marked) for each, marked in zip(own, best, strict=True)]
        )
    sets = {"": rows} if isinstance(rows, Rows) else {column.title: column.rows for column in columns}
    found = [{title: row for title, each in sets.items() if (row := each.row(variant))} for variant in variants]
    return Table(list(variants), list(columns), cells, found), notes


def summary(values: np.ndarray, spread: str) -> tuple[float, float]:
    """(mean, what stands after ±) of values [n]; nan for what too few values do not have."""
    from jaxdl.study.results import interval

    mean, half = interval(values)
    if spread == "ci" or math.isnan(half):
        return mean, half
    deviation = float(np.std(values, ddof=1))
    return mean, deviation if spread == "std" else deviation / math.sqrt(len(values))


def direction(metric: str) -> int:
    """1 where more of a metric is better, -1 where less is, 0 where its name does not say."""
    found = {DIRECTIONS[word] for word in re.split(r"[^a-z]+", metric.lower()) if word in DIRECTIONS}
    return found.pop() if len(found) == 1 else 0


def best_of(column: Column, variants: Sequence[str]) -> tuple[set[str], list[str]]:
    """The variants to mark: the best mean, and what is not told from it at 5% after Holm's correction; and notes.

    None where the name of the metric doesn't say which way is better, or where nothing can be tested.
    """
    from jaxdl.study import claims

    metric, rows, sign = column.metric, column.rows, direction(column.metric)
    if not sign:
        return set(), [f"{metric} has nothing bold: its name does not say whether less or more is better."]
    values = {row.variant: row.values(metric) for row in rows.rows if row.variant in variants}
    means = {variant: sign * own.mean() for variant, own in values.items() if own.size}
    if len(means) < 2:
        return set(), []
    best = max(means, key=lambda variant: means[variant])
    make = claims.greater if sign > 0 else claims.less
    found = [make(name, "", "", metric, best, name) for name in means if name != best]
    verdicts = {finding.claim.id: finding.verdict for finding in claims.judge(found, rows)}
    untested = [name for name, verdict in verdicts.items() if verdict == "no verdict"]
    names = ", ".join(untested)
    notes = [f"{column.title}: {names} can't be told from {best} with fewer than two seeds."] if untested else []
    if len(untested) == len(verdicts):
        return set(), notes
    return {best} | {name for name, verdict in verdicts.items() if verdict not in ("holds", "no verdict")}, notes


def picked(what: str, patterns: str, names: Sequence[str]) -> list[str]:
    """The names that match, in the order of the patterns, which commas separate. what: in words, for errors."""
    found: dict[str, None] = {}
    for pattern in filter(None, map(str.strip, patterns.split(","))):
        matching = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise unknown(what, pattern, names)
        found |= dict.fromkeys(matching)
    return list(found)


def default_metrics(rows: Sequence[Row], names: Sequence[str], columns: Sequence[str] = ()) -> list[str]:
    """Those of a study's columns that a row has; else the test_* that all rows with a result have; else all metrics."""
    there = [name for name in columns if any(row.values(name).size for row in rows)]
    if there:
        return there
    known = [row for row in rows if row.done]
    test = [name for name in names if name.startswith("test_") and all(row.values(name).size for row in known)]
    return test or list(names)
