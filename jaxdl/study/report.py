"""The table of a study, for the terminal and as report.md, and the files beside it. All of it is derived."""

import html
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from jaxdl.study.claims import Finding
from jaxdl.study.published import Published
from jaxdl.study.results import Results, Row, headings, is_fraction, shown, title
from jaxdl.study.sweep import shown as shown_value

FORMS = ("png", "svg", "pdf")


class Cell(NamedTuple):
    """A cell of a table. value: to sort by, "" where there is none; why: a remark on what is missing; best: bold."""

    text: str
    value: float | str = ""
    why: str = ""
    best: bool = False


class Table(NamedTuple):
    """Header and rows of cells.

    spare: columns to leave out first where there is no room; apart: columns to show in a table of their own then
    """

    header: list[str]
    rows: list[list[Cell]]
    spare: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()

    def of(self, columns: Sequence[int]) -> "Table":
        """The table of some columns."""
        return Table([self.header[number] for number in columns], [[row[n] for n in columns] for row in self.rows])


def main_table(results: Results, columns: Sequence[str], published: Sequence[Published]) -> Table:
    """One row a variant at its best trial: runs, chosen values, metrics as mean ± 95% interval, published numbers."""
    columns = [name for name in columns if any(len(finite(row, name)) for row in results.rows)]
    gap = gap_metric(results, columns)
    points = headings(results.grid)
    header, apart = ["variant", "seeds", *_point_header(results)], []
    for name in columns:
        header.append(title(name))
        if any(each.metric == name for each in published):
            apart += [len(header), len(header) + 1]
            header += [f"published {title(name)}", "ours minus published"]
    spare = (len(header),) * bool(gap)
    header += [f"gap {title(gap)}"] * bool(gap)
    rows = []
    for row in results.rows:
        there = done(row)
        cells = [Cell(row.variant), _count(row), *_point_cells(row, points, results, True)]
        for name in columns:
            values = finite(row, name)
            cells.append(_cell(name, values, there, reason(row, name)))
            if any(each.metric == name for each in published):
                cells += _published_cells(row, name, values, published)
        if gap:
            values = gaps(row, gap)
            cells.append(_cell(gap, values[np.isfinite(values)], there, lost(row) or "not measured"))
        rows.append(cells)
    return Table(header, rows, spare, tuple(apart))


def trial_table(results: Results) -> Table:
    """Every trial, ranked by the validation metric that chose among them; nothing of the test split."""
    metric, points = results.select[0], headings(results.grid)
    rows = []
    for trials in results.trials.values():
        for rank, row in enumerate(trials, 1):
            values = _cell(metric, finite(row, metric), done(row), reason(row, metric))
            cells = _point_cells(row, points, results, False)
            rows.append([Cell(row.variant), Cell(str(rank), rank), _count(row), *cells, values])
    return Table(["variant", "rank", "seeds", *_point_header(results), title(metric)], rows)


def _point_header(results: Results) -> list[str]:
    """A column for each grid that variants share, and one for all grids of their own."""
    return [*headings(results.grid).values(), *(["own choice"] if results.own_grids else [])]


def _point_cells(row: Row, points: dict[str, str], results: Results, flagged: bool) -> list[Cell]:
    """flagged: whether values at the end of their grid get a star."""
    cells = []
    for key in points:
        value = row.point.get(key)
        number = value if isinstance(value, int | float) else ""
        known = key in row.point
        cells.append(
            Cell(shown_value(value) + "*" * (flagged and key in row.edge), number)
            if known
            else Cell("-", "", "not tuned")
        )
    if results.own_grids:
        own = {key: value for key, value in row.point.items() if key not in points}
        texts = [
            f"{key.removeprefix('hyper.')}={shown_value(value)}" + "*" * (flagged and key in row.edge)
            for key, value in own.items()
        ]
        cells.append(Cell(", ".join(texts).replace("_", " ") or "-", "", "" if own else "not tuned"))
    return cells


def _cell(metric: str, values: np.ndarray, there: int, why: str) -> Cell:
    """A metric over seeds."""
    if not len(values):
        return Cell("-", "", why)
    return Cell(
        shown(metric, values), float(values.mean()), "" if len(values) == there else f"{len(values)} of {there} seeds"
    )


def _published_cells(row: Row, metric: str, values: np.ndarray, published: Sequence[Published]) -> list[Cell]:
    """The published number, and how much ours is above it."""
    found = next((each for each in published if (each.variant, each.metric) == (row.variant, metric)), None)
    if found is None:
        return [Cell("-"), Cell("-")]
    scale, digits = (100, 2) if is_fraction(metric) else (1, 3)
    text = f"{scale * found.value:.{digits}f}"
    if found.spread is not None:
        text += f" ± {scale * found.spread:.{digits}f}"
    if not len(values):
        return [Cell(text, found.value), Cell("-")]
    above = float(values.mean()) - found.value
    return [Cell(text, found.value), Cell(f"{scale * above:+.{digits}f}", above)]


def _count(row: Row) -> Cell:
    there = done(row)
    return Cell(str(there) if there == len(row.runs) else f"{there} of {len(row.runs)}", there, lost(row))


def done(row: Row) -> int:
    """How many runs of a row have a result."""
    return len(row.runs) - row.diverged - row.failed - row.absent


def finite(row: Row, metric: str) -> np.ndarray:
    """The finite values of a metric, [n]."""
    values = row.metrics.get(metric, np.empty(0))
    return values[np.isfinite(values)]


def lost(row: Row) -> str:
    """ "1 diverged, 2 failed", or "" where all runs have a result."""
    counts = {"diverged": row.diverged, "failed": row.failed, "not there yet": row.absent}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def reason(row: Row, metric: str) -> str:
    """Why a row has no value of a metric."""
    if metric in row.metrics and len(row.metrics[metric]):
        return "not finite"
    return "not measured" if row.metrics else lost(row) or "not measured"


def gap_metric(results: Results, columns: Sequence[str]) -> str:
    """The first metric of the table that rows have on the test and on the training split; "" where there is none."""
    names = (name.removeprefix("test_") for name in columns if name.startswith("test_"))
    return next((name for name in names if any(len(gaps(row, name)) for row in results.rows)), "")


def gaps(row: Row, metric: str) -> np.ndarray:
    """Test minus training of each run of a row; [0] where it lacks one of them."""
    test, train = (row.metrics.get(f"{split}_{metric}", np.empty(0)) for split in ("test", "train"))
    return test - train if len(test) == len(train) else np.empty(0)


def notes(results: Results, columns: Sequence[str], published: Sequence[Published], own: Sequence[str]) -> list[str]:
    """What a reader of the table must know; own: of this study."""
    metric, _ = results.select
    shared = "; all seeds share one test set" * results.of_test_examples()
    lines = [f"± is the half-width of the 95% interval over seeds (Student's t){shared}."]
    if gap_metric(results, columns):
        lines.append("gap: test minus training.")
    for source in dict.fromkeys(each.source for each in published):
        those = [each for each in published if each.source == source]
        said = [
            f"{each.variant} {each.metric.replace('_', ' ')}" + f", {each.runs} runs" * (each.runs > 0)
            for each in those
        ]
        unsure = " (not verified)" * any(not each.verified for each in those)
        lines.append(f"published: {source}{unsure}: {'; '.join(said)}.")
    for key, name in headings(results.grid).items():
        grid = results.grid[key]
        lines.append(f"{name} chosen from {', '.join(map(shown_value, grid))} by the mean {metric.replace('_', ' ')}.")
        apart = {variant for (own, _), variants in results.own_grids.items() if own == key for variant in variants}
        flagged = [row for row in results.rows if key in row.edge and row.variant not in apart]
        if flagged:
            best = {row.point[key] for row in flagged}
            ends = [word for word, end in (("below", min(grid)), ("above", max(grid))) if end in best]
            every = len(flagged) == len(results.rows) > 1
            names = "every variant" if every else ", ".join(row.variant for row in flagged)
            lines.append(f"* best at the edge of its grid ({names}): look {' and '.join(ends)} with --sweep={key}=...")
    for (key, grid), variants in results.own_grids.items():
        name, values = key.removeprefix("hyper.").replace("_", " "), ", ".join(map(shown_value, grid))
        best = [row.variant for row in results.rows if row.variant in variants and key in row.edge]
        edge = f" (* best at its edge: {', '.join(best)})" if best else ""
        lines.append(f"{name} of {', '.join(variants)} chosen from {values}{edge}.")
    without = [f"{row.variant} ({row.diverged} diverged, {row.failed} failed)" for row in results.rows if _gone(row)]
    if without:
        lines.append("Runs without a result: " + ", ".join(without) + ".")
    absent = {row.variant: f"{row.absent} of {len(row.runs)}" for row in results.rows if row.absent}
    if len(set(absent.values())) == 1 and len(absent) == len(results.rows) > 1:
        absent = {"every variant": next(iter(absent.values()))}
    if absent:
        lines.append("Not there yet: " + ", ".join(f"{count} runs of {name}" for name, count in absent.items()) + ".")
    cores = sorted({environment["cores"] for environment in results.environments()})
    if len(cores) > 1:
        counts = " and ".join(map(str, cores))
        lines.append(f"Runs were trained on {counts} cores: between those, the last bits of a number may differ.")
    return [*lines, *own]


def _gone(row: Row) -> int:
    return row.diverged + row.failed


def print_table(table: Table, notes: Sequence[str] = ()) -> None:
    """A table with its notes on standard output, at most 100 columns wide."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table as Drawing

    def drawn(table: Table) -> Drawing:
        drawing = Drawing(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(table.header):
            # Headers are broken before numbers are: a column is as wide as its numbers, or its longest word.
            width = max(len(text) for text in (*name.split(), *(row[number].text for row in table.rows)))
            numbers = number and any(row[number].value != "" for row in table.rows)
            justify = "right" if numbers else "left"
            drawing.add_column(textwrap.fill(name, width), justify=justify, no_wrap=number == 0, overflow="fold")
        for row in table.rows:
            drawing.add_row(*(cell.text for cell in row))
        return drawing

    console = Console(file=sys.stdout, width=100 if not sys.stdout.isatty() else None, markup=False, highlight=False)
    everything = range(len(table.header))
    # report.md has all columns: those that matter less are left out first, then the last ones, as many as it takes.
    lesser, last = (*table.spare, *table.apart), everything[:1:-1]
    narrower = [(), table.spare, lesser, *((*lesser, *last[:count]) for count in range(1, len(last)))]
    for left_out in narrower:
        drawing = drawn(table.of([number for number in everything if number not in left_out]))
        if Measurement.get(console, console.options.update(width=1000), drawing).maximum <= 100:
            break
    console.print(drawing)
    if table.apart and table.apart[0] in left_out:
        ours = [number - 1 for number in table.apart[::2]]
        console.print(drawn(table.of([0, *sorted((*ours, *table.apart))])))
    cut = sorted(set(left_out) - set(lesser))
    if cut:
        console.print(f"for want of room only in report.md: {', '.join(table.header[number] for number in cut)}")
    for line in notes:
        console.print(line)


def claim_lines(finding: Finding) -> list[str]:
    """What was found about a claim: its statistics in words, then what a reader must know of them."""
    weakest, claim = finding.weakest, finding.claim
    if weakest is None:
        return list(finding.notes)
    low, high = weakest.interval()
    scale, unit = (100, " percentage points") if is_fraction(claim.metric) else (1, "")
    what = "" if len(finding.estimates) == 1 else f"the weakest of {len(finding.estimates)} differences: "
    margin = f", margin {scale * claim.margin:g}" if claim.margin else ""
    over = f"{weakest.seeds} seeds" + (f" and {weakest.examples:,} test examples" if weakest.examples else "")
    lines = [
        f"{what}{scale * weakest.mean:.2f} ({scale * low:.2f} to {scale * high:.2f}){unit}{margin}; p = "
        f"{finding.adjusted:.2g} (Holm); {over}"
    ]
    if finding.verdict == "undecided":
        needed = f"about {finding.needed} seeds" if finding.needed else "no number of seeds on this test set"
        lines.append(f"{needed} would decide it with a probability of 80 %, were the estimate true")
    return [*lines, *finding.notes]


def claims_table(findings: Sequence[Finding]) -> Table:
    """One row a claim: the verdict, what is claimed, what was found."""
    rows = [
        [
            Cell(finding.verdict),
            Cell(f"{finding.claim.text} ({finding.claim.paper})"),
            Cell("; ".join(claim_lines(finding))),
        ]
        for finding in findings
    ]
    return Table(["verdict", "claim", "found"], rows, [])


def print_claims(findings: Sequence[Finding]) -> None:
    """The verdicts on standard output, at most 100 columns wide."""
    if not findings:
        return
    print("\nclaims (95% intervals over seeds, and test examples where they are measured)")
    for finding in findings:
        said = f"{finding.claim.text} ({finding.claim.paper})"
        print(textwrap.fill(said, 98, initial_indent=f"  {finding.verdict:<13}", subsequent_indent=" " * 15))
        for line in claim_lines(finding):
            print(textwrap.fill(line, 98, initial_indent=" " * 15, subsequent_indent=" " * 17))


class Report(NamedTuple):
    """All that a report is written from.

    title: one line; doc: of the study, in paragraphs, whose first line may be the title
    columns: the metrics of the table; the first one that was measured is the headline's
    notes: what a reader must know of this study; differs: in what its recipe differs from the paper's
    figures: PNG files; command: which makes all of it again; opening: lines of text, what was trained
    looked: PNG files below look/ in the workdir, of what `experiments.look` found in its networks
    """

    title: str
    doc: str
    results: Results
    columns: Sequence[str]
    published: Sequence[Published]
    findings: Sequence[Finding]
    notes: Sequence[str]
    differs: Sequence[str]
    figures: Sequence[Path]
    command: str
    opening: Sequence[str] = ()
    looked: Sequence[Path] = ()


def markdown(report: Report) -> str:
    """report.md."""
    results, published = report.results, report.published
    lines = [f"# {report.title}", "", *_markdown_table(main_table(results, report.columns, published)), ""]
    lines += [*(f"- {note}" for note in notes(results, report.columns, published, report.notes)), ""]
    if report.differs:
        lines += ["## Differs from the paper in", "", *(f"- {each}" for each in report.differs), ""]
    if report.findings:
        lines += ["## Claims", "", *_markdown_table(claims_table(report.findings)), ""]
    for path in report.figures:
        lines += [f"## {path.stem.replace('_', ' ').capitalize()}", "", f"![{path.stem}](figures/{path.name})", ""]
    if report.opening:
        lines += ["## What was trained", "", "```", *report.opening, "```", ""]
    for path in report.looked:
        name = f"{path.parent.name}: {path.stem.replace('_', ' ')}"
        lines += [f"## {escaped(name)}", "", f"![{path.stem}](look/{quote(path.parent.name)}/{quote(path.name)})", ""]
    if _point_header(results):
        lines += [f"## All trials, by {title(results.select[0])}", "", *_markdown_table(trial_table(results)), ""]
    lines += ["## To get it again", "", "```", report.command, "```", ""]
    for environment in results.environments():
        packages = ", ".join(f"{name} {number}" for name, number in environment["packages"].items())
        lines += [
            f"Trained at commit {environment['git_commit'] or 'unknown'}; Python {environment['python']}; {packages}; "
            f"{environment['machine']}, {environment['cores']} cores, devices: {', '.join(environment['devices'])}",
            "",
        ]
    return "\n".join(lines)


def _markdown_table(table: Table) -> list[str]:
    lines = [table.header, ["---"] * len(table.header), *([cell.text for cell in row] for row in table.rows)]
    return ["| " + " | ".join(map(escaped, line)) + " |" for line in lines]


def escaped(text: str) -> str:
    """Text as it stands in a Markdown table: on one line, without markup of its own."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", r"\|")


def save_figures(folder: Path, figures: dict[str, Any]) -> list[Path]:
    """Write each figure as PNG, SVG and PDF; returns the paths of the PNGs."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for form in FORMS:
            draft = folder / f"{name}.draft.{form}"
            figure.savefig(draft, dpi=130)
            with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
                figure.set_layout_engine(None)  # the places of all parts stand: each further search costs a drawing
            draft.replace(folder / f"{name}.{form}")
    return [folder / f"{name}.png" for name in figures]
