"""The table of a study, for the terminal and as report.md, and the files beside it. All of it is derived."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdl.study.results import Results, Row, shown, title


def cells(results: Results, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: variant, seeds, tuned values, metrics as mean ± 95% interval."""
    tuned = [name for name, grid in results.tune.items() if len(grid) > 1]
    columns = [name for name in columns if any(name in row.metrics for row in results.rows)]
    header = ["variant", "seeds", *(name.replace("_", " ") for name in tuned), *(title(name) for name in columns)]
    body = []
    for row in results.rows:
        values = [shown(name, row.metrics[name]) if name in row.metrics else "-" for name in columns]
        points = [f"{row.point[name]:g}" + "*" * (name in row.edge) if name in row.point else "-" for name in tuned]
        body.append([row.variant, _count(row), *points, *values])
    return header, body


def notes(results: Results, own: Sequence[str]) -> list[str]:
    """What a reader of the table must know; own: of this study."""
    metric, _ = results.select
    lines = ["± is the half-width of the 95% interval over seeds (Student's t); all seeds share one test set."]
    for name, grid in results.tune.items():
        if len(grid) < 2:
            continue
        values = ", ".join(f"{value:g}" for value in grid)
        lines.append(f"{name} chosen from {values} by the mean {metric.replace('_', ' ')}.")
        flagged = [row.variant for row in results.rows if name in row.edge]
        if flagged:
            best = {row.point[name] for row in results.rows if name in row.edge}
            further = {min(grid) / 3} if min(grid) in best else set()
            further |= {max(grid) * 3} if max(grid) in best else set()
            wider = ",".join(f"{value:g}" for value in sorted({*grid, *further}))
            lines.append(
                f"* best at the edge of its grid ({', '.join(flagged)}): extend it with --config.tune.{name}={wider}"
            )
    lost = [f"{row.variant} ({row.diverged} diverged, {row.failed} failed)" for row in results.rows if _lost(row)]
    if lost:
        lines.append("Runs without a result: " + ", ".join(lost) + ".")
    return [*lines, *own]


def print_table(results: Results, columns: Sequence[str], own: Sequence[str]) -> None:
    """The table on standard output, at most 100 columns wide."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    header, body = cells(results, columns)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        # Headers are broken before numbers are: a column is as wide as its numbers, or its longest word.
        width = max(len(text) for text in (*name.split(), *(line[number] for line in body)))
        justify = "left" if number == 0 else "right"
        table.add_column(textwrap.fill(name, width), justify=justify, no_wrap=number == 0, overflow="fold")
    for line in body:
        table.add_row(*line)
    console = Console(file=sys.stdout, width=100 if not sys.stdout.isatty() else None, markup=False, highlight=False)
    console.print(table)
    for line in notes(results, own):
        console.print(line)


def markdown(
    title_line: str,
    results: Results,
    columns: Sequence[str],
    own: Sequence[str],
    figures: Sequence[str],
    command: str,
) -> str:
    """report.md. own: notes of this study."""
    header, body = cells(results, columns)
    lines = [f"# {title_line}", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    lines += ["", *(f"- {note}" for note in notes(results, own)), ""]
    for name in figures:
        lines += [f"## {name.replace('_', ' ').capitalize()}", "", f"![{name}](figures/{name}.png)", ""]
    lines += ["## To get it again", "", "```", command, "```", ""]
    for environment in results.environments():
        packages = ", ".join(f"{name} {number}" for name, number in environment["packages"].items())
        lines += [
            f"Trained at commit {environment['git_commit'] or 'unknown'}; Python {environment['python']}; {packages}; "
            f"{environment['machine']}, {environment['cores']} cores, devices: {', '.join(environment['devices'])}",
            "",
        ]
    return "\n".join(lines)


def save_figures(folder: Path, figures: dict[str, Any]) -> list[Path]:
    """Write each figure as PNG; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        draft = folder / f"{name}.draft.png"
        figure.savefig(draft, dpi=130)
        draft.replace(paths[-1])
    return paths


def _count(row: Row) -> str:
    return str(len(row.runs)) if not _lost(row) else f"{len(row.runs) - _lost(row)} of {len(row.runs)}"


def _lost(row: Row) -> int:
    return row.diverged + row.failed
