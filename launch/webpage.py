"""A comparison as the page that studies have as report.html."""

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launch import tables
from launch.documents import counted, numbers
from launch.inputs import is_number, read_log
from launch.rows import Comparison, Row
from launch.tables import Cell, Table

if TYPE_CHECKING:
    from jaxdl.study import report
    from jaxdl.study.claims import Finding


def written(
    comparison: Comparison,
    table: Table,
    findings: Sequence["Finding"],
    notes: Sequence[str],
    plot: bytes,
    asked: argparse.Namespace,
    command: str,
) -> str:
    """The page as HTML. plot: a PNG, or nothing; command: that makes the page again"""
    from jaxdl.study import charts, page

    bare = asked.columns == "input"
    rows = [row for row in comparison.rows if (row.own if bare else row.variant) in table.variants]
    names = [own.name for own in comparison.inputs]
    metric = table.columns[0].metric if table.columns else ""
    pictures = []
    if plot:
        pictures.append(page.picture(f"{tables.titled(comparison, metric)} against {asked.x}", plot))
    return page.render(
        page.Page(
            title=f"Comparison of {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}",
            subtitle="",
            paragraphs=[f"{own.path}: {len(own.runs)} runs." for own in comparison.inputs],
            sentences=[*page.verdicts(findings), *best(table, asked)],
            dots=dots(comparison, rows, metric, asked),
            table=shown(table, asked.digits),
            caption=_caption(asked),
            table_notes=notes,
            curves=curves(comparison, rows),
            claims=charts.forest(findings, comparison.fraction),
            command=command,
            pictures=pictures,
            environments=comparison.environments(),
        )
    )


def _caption(asked: argparse.Namespace) -> str:
    key = asked.columns or asked.x
    what = f"Each variant at each value of {key}" if key and key != "input" else "Each variant at its best trial"
    return f"{what}: mean over seeds ± {tables.SPREADS[asked.spread]}."


def best(table: Table, asked: argparse.Namespace) -> list[str]:
    """The best mean of the first metric, as a list of one sentence; of none where its name says no direction."""
    from jaxdl.study import page

    metric = table.columns[0].metric if table.columns else ""
    cells = [
        (variant, column, cell)
        for variant, line in zip(table.variants, table.cells, strict=True)
        for column, cell in zip(table.columns, line, strict=True)
        if column.metric == metric and cell.count
    ]
    if not cells:
        return [page.NO_RESULTS]
    sign = tables.direction(metric)
    variant, column, cell = max(cells, key=lambda each: sign * each[2].mean)
    where = f" at {column.title}" if asked.columns or asked.x else ""
    text = numbers(cell, column.percent, asked.digits, " ± ") + " %" * column.percent
    return [f"Best mean {metric.replace('_', ' ')}: {variant}{where}, with {text}."] if sign else []


def dots(comparison: Comparison, rows: Sequence[Row], metric: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The chart of a metric of every row."""
    from jaxdl.study import charts

    percent, sign = comparison.fraction(metric), tables.direction(metric)
    scale = 100 if percent else 1
    means, missing = [], []
    for row in rows:
        values = row.values(metric)
        if len(values):
            cell = Cell(*tables.summary(values, asked.spread), len(values), False)
            text = numbers(cell, percent, asked.digits, " ± ")
            means.append(charts.Mean(row.variant, scale * cell.mean, scale * cell.spread, text))
        else:
            missing.append((row.variant, why(row, metric)))
    means.sort(key=lambda each: -sign * each.mean)  # stable: in order where the metric says no direction
    about = f"{tables.titled(comparison, metric)}: mean over seeds ± {tables.SPREADS[asked.spread]}"
    return charts.dots(about + ", the best on top" * bool(sign), means, missing)


def why(row: Row, metric: str) -> str:
    """Why a row has no value of a metric."""
    if not row.runs:
        return "no best trial"
    return tables.lost({"": row}) or f"no {metric.replace('_', ' ')}"


def shown(table: Table, digits: int | None) -> "report.Table":
    """The table as the page takes it."""
    from jaxdl.study import report

    lines = []
    for variant, line, own, count in zip(table.variants, table.cells, table.rows, table.counts(), strict=True):
        lost = tables.lost(own) if len(own) == 1 else ""
        cells = [report.Cell(variant), report.Cell(counted(count), count[0], lost)]
        for column, cell in zip(table.columns, line, strict=True):
            row = column.rows.row(variant)
            remark = "" if cell.count == count[0] else f"{cell.count} runs" if cell.count else ""
            if not cell.count:
                remark = why(row, column.metric) if row else "not run"
            text = numbers(cell, column.percent, digits, " ± ")
            cells.append(report.Cell(text, cell.mean if cell.count else "", remark, cell.best))
        lines.append(cells)
    return report.Table(["variant", "n", *(column.title for column in table.columns)], lines)


def curves(comparison: Comparison, rows: Sequence[Row]) -> dict[str, Any]:
    """The chart of a metric that chooses among trials against the step of the last fit that logs it."""
    from jaxdl.study import charts

    logs = {row.variant: [read_log(run.folder) for run in row.runs if run.metrics and run.folder] for row in rows}
    logged = {name for own in logs.values() for log in own for line in log for name in line if is_number(line[name])}
    metric, direction = next((each for each in comparison.selects() if each[0] in logged), ("", "min"))
    sign = 1 if direction == "min" else -1
    ends = {row.variant: sign * row.values(metric).mean() if row.values(metric).size else math.inf for row in rows}
    bands, missing = {}, []
    for row in sorted(rows, key=lambda row: ends[row.variant]):
        band = _band(logs[row.variant], metric)
        if band[0]:
            bands[row.variant] = band
        else:
            missing.append((row.variant, "not logged" if row.done else why(row, metric)))
    percent = comparison.fraction(metric) and all(
        abs(value) <= 1 for _, values in bands.values() for each in values for value in each
    )
    return charts.curves(metric.replace("_", " ") + " %" * percent, bands, missing, percent)


def _band(logs: Sequence[list[dict[str, Any]]], metric: str) -> tuple[list[int], list[list[float]]]:
    """(steps [T], values [T][runs]) where all runs have the metric."""
    known = [[line for line in log if is_number(line.get(metric)) and math.isfinite(line[metric])] for log in logs]
    if not known or not known[0]:
        return [], []
    fit = known[0][-1]["fit"]
    curves = [{int(line["step"]): line[metric] for line in log if line["fit"] == fit} for log in known]
    steps = sorted(set.intersection(*map(set, curves)))
    return steps, [[curve[step] for curve in curves] for step in steps]
