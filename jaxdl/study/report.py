"""The table of a study, for the terminal and as report.md, and the files beside it. All of it is derived."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.study.claims import Finding
from jaxdl.study.results import Results, Row, is_fraction, shown, title

FORMS = ("png", "svg", "pdf")


def cells(results: Results, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: variant, seeds, tuned values, metrics as mean ± 95% interval."""
    tuned = [name for name, grid in results.tune.items() if len(grid) > 1]
    columns = [name for name in columns if any(name in row.metrics for row in results.rows)]
    gap = gap_metric(results, columns)
    titles = [*(title(name) for name in columns), *([f"gap {title(gap)}"] if gap else [])]
    header = ["variant", "seeds", *(name.replace("_", " ") for name in tuned), *titles]
    body = []
    for row in results.rows:
        values = [shown(name, row.metrics[name]) if name in row.metrics else "-" for name in columns]
        if gap:
            values.append(shown(gap, gaps(row, gap)))
        points = [f"{row.point[name]:g}" + "*" * (name in row.edge) if name in row.point else "-" for name in tuned]
        body.append([row.variant, _count(row), *points, *values])
    return header, body


def gap_metric(results: Results, columns: Sequence[str]) -> str:
    """The first metric of the table that rows have on the test and on the training split; "" where there is none."""
    names = (name.removeprefix("test_") for name in columns if name.startswith("test_"))
    return next((name for name in names if any(len(gaps(row, name)) for row in results.rows)), "")


def gaps(row: Row, metric: str) -> np.ndarray:
    """Test minus training of each run of a row; [0] where it lacks one of them."""
    test, train = (row.metrics.get(f"{split}_{metric}", np.empty(0)) for split in ("test", "train"))
    return test - train if len(test) == len(train) else np.empty(0)


def notes(results: Results, columns: Sequence[str], own: Sequence[str]) -> list[str]:
    """What a reader of the table must know; own: of this study."""
    metric, _ = results.select
    lines = ["± is the half-width of the 95% interval over seeds (Student's t); all seeds share one test set."]
    if gap_metric(results, columns):
        lines.append("gap: test minus training.")
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
    absent = {row.variant: f"{row.absent} of {len(row.runs)}" for row in results.rows if row.absent}
    if len(set(absent.values())) == 1 and len(absent) == len(results.rows) > 1:
        absent = {"every variant": next(iter(absent.values()))}
    if absent:
        lines.append("Not there yet: " + ", ".join(f"{count} runs of {name}" for name, count in absent.items()) + ".")
    return [*lines, *own]


def print_table(results: Results, columns: Sequence[str], own: Sequence[str]) -> None:
    """The table on standard output, at most 100 columns wide."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    def drawn(header: list[str], body: list[list[str]]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(header):
            # Headers are broken before numbers are: a column is as wide as its numbers, or its longest word.
            width = max(len(text) for text in (*name.split(), *(line[number] for line in body)))
            justify = "left" if number == 0 else "right"
            table.add_column(textwrap.fill(name, width), justify=justify, no_wrap=number == 0, overflow="fold")
        for line in body:
            table.add_row(*line)
        return table

    console = Console(file=sys.stdout, width=100 if not sys.stdout.isatty() else None, markup=False, highlight=False)
    header, body = cells(results, columns)
    table = drawn(header, body)
    natural = Measurement.get(console, console.options.update(width=1000), table).maximum
    if natural > 100 and gap_metric(results, columns):  # report.md has it; here stand test and training
        table = drawn(header[:-1], [line[:-1] for line in body])
    console.print(table)
    for line in notes(results, columns, own):
        console.print(line)


def claim_lines(finding: Finding) -> list[str]:
    """What was found about a claim: its statistics in words, then what a reader must know of them."""
    weakest, claim = finding.weakest, finding.claim
    if weakest is None:
        return list(finding.notes)
    low, high = weakest.interval()
    scale, unit = (100, " percentage points") if is_fraction(claim.metric) else (1, "")
    what = "" if len(finding.estimates) == 1 else f"the weakest of {len(finding.estimates)} differences: "
    margin = f", margin {scale * claim.margin:g}" if claim.relation == "equal" else ""
    over = f"{weakest.seeds} seeds" + (f" and {weakest.examples:,} test examples" if weakest.examples else "")
    lines = [
        f"{what}{scale * weakest.mean:.2f} ({scale * low:.2f} to {scale * high:.2f}){unit}{margin}; p = "
        f"{finding.adjusted:.2g} (Holm); {over}"
    ]
    if finding.verdict == "undecided":
        needed = f"about {finding.needed} seeds" if finding.needed else "no number of seeds on this test set"
        lines.append(f"{needed} would decide it with a probability of 80 %, were the estimate true")
    return [*lines, *finding.notes]


def print_claims(findings: Sequence[Finding]) -> None:
    """The verdicts on standard output, at most 100 columns wide."""
    if not findings:
        return
    print("\nclaims (95% intervals over seeds and test examples)")
    for finding in findings:
        said = f"{finding.claim.text} ({finding.claim.paper})"
        print(textwrap.fill(said, 98, initial_indent=f"  {finding.verdict:<13}", subsequent_indent=" " * 15))
        for line in claim_lines(finding):
            print(textwrap.fill(line, 98, initial_indent=" " * 15, subsequent_indent=" " * 17))


def markdown(
    title_line: str,
    results: Results,
    columns: Sequence[str],
    findings: Sequence[Finding],
    own: Sequence[str],
    figures: Sequence[str],
    command: str,
) -> str:
    """report.md. own: notes of this study."""
    header, body = cells(results, columns)
    lines = [f"# {title_line}", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    lines += ["", *(f"- {note}" for note in notes(results, columns, own)), ""]
    if findings:
        lines += ["## Claims", "", "| verdict | claim | found |", "|---|---|---|"]
        for finding in findings:
            found = "; ".join(claim_lines(finding))
            lines.append(f"| {finding.verdict} | {finding.claim.text} ({finding.claim.paper}) | {found} |")
        lines.append("")
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
    """Write each figure as PNG, SVG and PDF; returns the paths of the PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for form in FORMS:
            draft = folder / f"{name}.draft.{form}"
            figure.savefig(draft, dpi=130)
            draft.replace(folder / f"{name}.{form}")
    return [folder / f"{name}.png" for name in figures]


def _count(row: Row) -> str:
    there = len(row.runs) - _lost(row) - row.absent
    return str(there) if there == len(row.runs) else f"{there} of {len(row.runs)}"


def _lost(row: Row) -> int:
    return row.diverged + row.failed
