"""One table, and verdicts on claims, from any study folders, finished or running, and from anybody's results.

    python -m launch.compare DIR_OR_CSV... [options]

DIR is the --workdir of a study. A CSV has the columns variant, seed, metric and value, one value a line; a column
`hash`, as in jaxdl's own results.csv, tells tuning points apart; all others are ignored. Of several tuning points of a
variant, the one with the best mean validation error (else loss) over seeds is compared. With several inputs, variants
are called INPUT/VARIANT.

--claims=FILE       claims to test, as TOML (below)
--metric=NAME,...   columns, names or patterns as in val_*; also --columns. Default: every test_* metric that all have
--rows=GLOB,...     variants to show, as in random-*
--format=FORM       text, md, latex or csv (one line a variant, full precision, fractions not in %)
--spread=WHAT       ± is ci: half of the 95% interval over seeds; std: their standard deviation; sem: of their mean
--digits=N          digits after the point. Default: 2 for errors and accuracies, in %, and 3 for others
--bold              mark the best of each column, and what a paired test over common seeds does not tell from it
--output=FILE       where to write; default: standard output

A claim is tested on the seeds that its variants have in common. It says one of

    [[claim]]
    id = "dropout-helps"                        [[claim]]
    text = "Dropout lowers the error"           id = "depth-hurts"
    paper = "Srivastava et al. 2014"            text = "The error grows with depth"
    metric = "test_error"                       paper = "ours"
    relation = "less"     # greater, equal      metric = "test_error"
    one = "dropout"                             relation = "increasing"     # decreasing
    other = "plain"                             variants = ["depth1", "depth2", "depth3"]
    # margin = 0.01       # of equal
"""

import argparse
import contextlib
import csv
import fnmatch
import io
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from jaxdl.errors import UserError, unknown
from launch.inputs import Comparison, Row, read_claims

# The modules that read folders and judge claims import jax: functions import them, so that --help is quick.
if TYPE_CHECKING:
    from jaxdl.study.claims import Finding

FORMATS = ("text", "md", "latex", "csv")
SPREADS = {
    "ci": "the half-width of the 95% interval over seeds (Student's t)",
    "std": "the standard deviation over seeds",
    "sem": "the standard error of the mean over seeds",
}
OPTIONS = ("--claims", "--metric", "--columns", "--rows", "--format", "--spread", "--digits", "--bold", "--output")
DIRECTIONS = {"error": -1, "loss": -1, "accuracy": 1, "score": 1}  # of a word in a metric's name; 1: larger is better
WIDTH = 98


class Cell(NamedTuple):
    """A metric of a variant. spread: what stands after ±, nan for one run; count: runs that have the metric."""

    mean: float
    spread: float
    count: int
    best: bool


class Table(NamedTuple):
    """What is shown: rows, metrics, and a cell [row][metric] of each."""

    rows: list[Row]
    metrics: list[str]
    cells: list[list[Cell]]


def tabulate(comparison: Comparison, rows: list[Row], metrics: list[str], spread: str, bold: bool) -> Table:
    """The cells of the table; adds to the notes of the comparison."""
    best = {metric: best_of(comparison, rows, metric) if bold else set() for metric in metrics}
    cells = []
    for row in rows:
        numbers = [(metric, row.values(metric)) for metric in metrics]
        cells.append([Cell(*summary(own, spread), len(own), row.variant in best[metric]) for metric, own in numbers])
    return Table(rows, metrics, cells)


def summary(values: np.ndarray, spread: str) -> tuple[float, float]:
    """(mean, what stands after ±) of values [n]; nan for what too few values do not have."""
    from jaxdl.study.results import interval

    mean, half = interval(values)
    if spread == "ci" or math.isnan(half):
        return mean, half
    deviation = float(np.std(values, ddof=1))
    return mean, deviation if spread == "std" else deviation / math.sqrt(len(values))


def best_of(comparison: Comparison, rows: Sequence[Row], metric: str) -> set[str]:
    """The variants to mark: the best mean, and what is not told from it at 5% after Holm's correction.

    None where the name of the metric doesn't say which way is better, or where nothing can be tested.
    """
    from jaxdl.study import claims

    directions = {DIRECTIONS[word] for word in re.split(r"[^a-z]+", metric.lower()) if word in DIRECTIONS}
    if len(directions) != 1:
        comparison.notes.append(f"{metric} has nothing bold: its name does not say whether less or more is better.")
        return set()
    sign = directions.pop()
    means = {row.variant: sign * row.values(metric).mean() for row in rows if row.values(metric).size}
    if len(means) < 2:
        return set()
    best = max(means, key=lambda variant: means[variant])
    make = claims.greater if sign > 0 else claims.less
    found = {name: make(name, "", "", metric, best, name) for name in means if name != best}
    verdicts = {finding.claim.id: finding.verdict for finding in claims.judge(list(found.values()), comparison)}
    untested = [name for name, verdict in verdicts.items() if verdict == "no verdict"]
    if untested:
        comparison.notes.append(f"{metric}: {', '.join(untested)} can't be told from {best} with fewer than two seeds.")
    if len(untested) == len(verdicts):
        return set()
    return {best} | {name for name, verdict in verdicts.items() if verdict not in ("holds", "no verdict")}


def written(cell: Cell, percent: bool, digits: int | None, sign: str) -> str:
    """ "4.31 ± 0.22". sign: what stands for ±."""
    if not cell.count:
        return "-"
    scale, places = (100 if percent else 1), digits if digits is not None else 2 if percent else 3
    form = "f" if abs(cell.mean) < 1e7 else "e"
    spread = "" if math.isnan(cell.spread) else f"{sign}{scale * cell.spread:.{places}{form}}"
    return f"{scale * cell.mean:.{places}{form}}{spread}"


def grid(comparison: Comparison, table: Table, form: str, digits: int | None) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table, as text of a format other than csv."""
    percent = [comparison.fraction(metric) for metric in table.metrics]
    header = [name.replace("_", " ") + " %" * own for name, own in zip(table.metrics, percent, strict=True)]
    marked = any(cell.best for line in table.cells for cell in line)
    body = []
    for row, line in zip(table.rows, table.cells, strict=True):
        count = str(row.done) if row.done == len(row.runs) else f"{row.done} of {len(row.runs)}"
        texts = []
        for cell, own in zip(line, percent, strict=True):
            text = written(cell, own, digits, r" \pm " if form == "latex" else " ± ")
            few = f" (n={cell.count})" if 0 < cell.count != row.done else ""
            if form == "latex":
                text = "--" if not cell.count else f"$\\mathbf{{{text}}}$" if cell.best else f"${text}$"
            elif form == "md" and cell.best:
                text = f"**{text}**"
            elif form == "text" and marked:
                text += "*" if cell.best else " "
            texts.append(text + few)
        body.append([escaped(row.variant, form), escaped(count, form), *texts])
    return [escaped(name, form) for name in ("variant", "n", *header)], body


LATEX = {character: "\\" + character for character in "&%$#_{}"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def escaped(text: str, form: str) -> str:
    """Text as it stands in one line of a format."""
    text = " ".join(text.split())
    if form == "latex":
        return text.translate(str.maketrans(LATEX))
    return text.replace("|", r"\|") if form == "md" else text


def text_document(header: list[str], body: list[list[str]], notes: list[str], findings: Sequence["Finding"]) -> str:
    """For a terminal or a pipe, at most 98 columns wide: what does not fit stands in further tables below."""
    header = [name.replace(" %", "\N{NO-BREAK SPACE}%") for name in header]
    words = [max(map(len, name.split(" "))) for name in header]
    widths = [max(min(word, 20), *(len(line[place]) for line in body)) for place, word in enumerate(words)]
    widths[0] = min(widths[0], 40)
    blocks: list[list[int]] = [[]]
    for place in range(2, len(header)):
        if blocks[-1] and sum(widths[other] + 2 for other in (0, 1, *blocks[-1], place)) - 2 > WIDTH:
            blocks.append([])
        blocks[-1].append(place)
    lines = []
    for block in blocks:
        places = [0, 1, *block]
        for number, texts in enumerate([header, *body]):
            cells = [textwrap.wrap(texts[place], widths[place]) if texts[place] else [] for place in places]
            if number:  # numbers stay in one line
                cells[1:] = [[texts[place]] for place in places[1:]]
            height = max(map(len, cells))
            for level in range(height):
                pieces = [cell[level] if level < len(cell) else "" for cell in cells]
                first = pieces[0].ljust(widths[0])
                others = [piece.rjust(widths[place]) for piece, place in zip(pieces[1:], places[1:], strict=True)]
                lines.append("  ".join([first, *others]).rstrip().replace("\N{NO-BREAK SPACE}", " "))
            if not number:
                lines.append("  ".join("-" * widths[place] for place in places))
        lines.append("")
    return "\n".join(lines) + "\n" + plain_text(notes, findings)


def plain_text(notes: list[str], findings: Sequence["Finding"]) -> str:
    """Notes and verdicts, folded."""
    from jaxdl.study import report

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        for note in notes:
            print(textwrap.fill(note, WIDTH))
        report.print_claims(findings)
    return text.getvalue()


def markdown_document(header: list[str], body: list[list[str]], notes: list[str], findings: Sequence["Finding"]) -> str:
    """Tables and a list, as GitHub renders them."""
    lines = _markdown_table(header, body)
    lines += ["", *(f"- {escaped(note, 'text')}" for note in notes)]
    if findings:
        body = [[escaped(text, "md") for text in _said(finding)] for finding in findings]
        lines += ["", *_markdown_table(["verdict", "claim", "found"], body)]
    return "\n".join(lines) + "\n"


def _markdown_table(header: list[str], body: list[list[str]]) -> list[str]:
    rule = "|---|" + "---:|" * (len(header) - 1) if header[0] == "variant" else "|" + "---|" * len(header)
    return ["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(line) + " |" for line in body)]


def latex_document(header: list[str], body: list[list[str]], notes: list[str], findings: Sequence["Finding"]) -> str:
    """Tables for booktabs; the notes are comments."""
    lines = ["% needs \\usepackage{booktabs}", *(f"% {escaped(note, 'text')}" for note in notes)]
    lines += _latex_table("lr" + "r" * (len(header) - 2), header, body)
    if findings:
        body = [[escaped(text, "latex") for text in _said(finding)] for finding in findings]
        lines += ["", *_latex_table(r"lp{0.4\linewidth}p{0.4\linewidth}", ["verdict", "claim", "found"], body)]
    return "\n".join(lines) + "\n"


def _latex_table(columns: str, header: list[str], body: list[list[str]]) -> list[str]:
    # A line that begins with [ would be read as the length that may follow the \\ before it.
    return [
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(header) + r" \\",
        "\\midrule",
        *("{}" * line[0].startswith(("[", "*")) + " & ".join(line) + r" \\" for line in body),
        "\\bottomrule",
        "\\end{tabular}",
    ]


def _said(finding: "Finding") -> list[str]:
    """Verdict, claim, and what was found."""
    from jaxdl.study import report

    claim = finding.claim
    return [finding.verdict, f"{claim.text} ({claim.paper})", "; ".join(report.claim_lines(finding))]


DOCUMENTS = {"text": text_document, "md": markdown_document, "latex": latex_document}


def wide_csv(table: Table, spread: str) -> str:
    """One line a variant; of each metric METRIC_mean, METRIC_SPREAD and METRIC_n, in the metric's own units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", *(f"{metric}_{part}" for metric in table.metrics for part in ("mean", spread, "n"))])
    for row, line in zip(table.rows, table.cells, strict=True):
        numbers = [(*("" if math.isnan(x) else repr(x) for x in cell[:2]), cell.count) for cell in line]
        writer.writerow([row.variant, *(field for fields in numbers for field in fields)])
    return text.getvalue()


def picked(what: str, patterns: str, names: Sequence[str]) -> list[str]:
    """The names that match, in the order of the patterns, which commas separate. what: in words, for errors."""
    found: dict[str, None] = {}
    for pattern in filter(None, map(str.strip, patterns.split(","))):
        matching = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise unknown(what, pattern, names)
        found |= dict.fromkeys(matching)
    return list(found)


def default_metrics(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The test_* metrics that all rows with a result have; all metrics where there is none."""
    known = [row for row in rows if row.done]
    test = [name for name in names if name.startswith("test_") and all(row.values(name).size for row in known)]
    return test or list(names)


class Parser(argparse.ArgumentParser):
    """Its errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """A mistake on the command line."""
        raise UserError(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as no input is needed for it."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--metric", "--columns", default="")
    parser.add_argument("--format", default="text")
    parser.add_argument("--spread", default="ci")
    parser.add_argument("--bold", action="store_true")
    parser.add_argument("--rows", default="")
    parser.add_argument("--digits")
    parser.add_argument("--claims", type=Path)
    parser.add_argument("--output", type=Path)
    asked, further = parser.parse_known_intermixed_args(arguments)
    if further:
        raise unknown("option", further[0].split("=")[0], OPTIONS)
    if not asked.inputs:
        raise UserError("nothing to compare: name the folder of a study, or a CSV; --help says more")
    for option, valid in (("format", FORMATS), ("spread", SPREADS)):
        if getattr(asked, option) not in valid:
            raise unknown(f"--{option}", getattr(asked, option), valid)
    if asked.digits is not None:
        if not re.fullmatch(r"\d|1[0-5]", asked.digits):
            raise UserError(f"--digits={asked.digits} is not possible: it is a whole number from 0 to 15")
        asked.digits = int(asked.digits)
    if asked.format == "csv" and (asked.bold or asked.digits is not None):
        raise UserError("--format=csv has full precision and no bold: leave out --digits and --bold")
    used = [path.resolve() for path in (*asked.inputs, asked.claims) if path]
    if len(set(used)) < len(used):
        raise UserError("an input is named twice")
    if asked.output and asked.output.resolve() in used:
        raise UserError(f"--output={asked.output} would replace what is read: name another file")
    return asked


def compare(asked: argparse.Namespace) -> tuple[str, str]:
    """(the document, what goes to standard error beside it)."""
    from jaxdl.study import claims

    comparison = Comparison(asked.inputs)
    names = comparison.metrics()
    made = read_claims(asked.claims, names) if asked.claims else []
    variants = [row.variant for row in comparison.rows]
    shown = picked("variant in --rows", asked.rows, variants) if asked.rows else variants
    rows = [row for row in comparison.rows if row.variant in shown]
    metrics = picked("metric", asked.metric, names) if asked.metric and names else default_metrics(rows, names)
    comparison.notes.insert(0, f"± is {SPREADS[asked.spread]}; n: runs with a result.")
    table = tabulate(comparison, rows, metrics, asked.spread, asked.bold)
    findings = [_in_own_units(comparison, finding) for finding in claims.judge(made, comparison)]
    notes = [*comparison.notes, *_further_notes(comparison, table, asked)]
    if asked.format == "csv":
        return wide_csv(table, asked.spread), plain_text(notes, findings)
    header, body = grid(comparison, table, asked.format, asked.digits)
    return DOCUMENTS[asked.format](header, body, notes, findings), ""


def _in_own_units(comparison: Comparison, finding: "Finding") -> "Finding":
    """A finding whose metric is not called by a name that makes it %, where the values are no fractions."""
    if comparison.fraction(finding.claim.metric):
        return finding
    return finding._replace(claim=finding.claim._replace(metric=""))


def _further_notes(comparison: Comparison, table: Table, asked: argparse.Namespace) -> list[str]:
    from jaxdl.study.results import is_fraction

    notes = []
    lost = [
        f"{row.variant} ({row.diverged} diverged, {row.failed} failed, {row.absent} running or not there)"
        for row in table.rows
        if row.done < len(row.runs)
    ]
    if lost:
        notes.append("Runs without a result: " + ", ".join(lost) + ".")
    large = [name for name in table.metrics if is_fraction(name) and not comparison.fraction(name)]
    if large:
        notes.append(f"Shown as stored, since a value is above 1: {', '.join(large)}.")
    if any(cell.best for line in table.cells for cell in line):
        notes.append(
            "Bold (* in text): the best, and what a two-sided paired test over common seeds (5%, Holm) does not tell "
            "from it."
        )
    files = [path.name for path in asked.inputs if not path.is_dir()]
    if files and (asked.bold or asked.claims):
        notes.append(f"{', '.join(files)}: without values of single test examples, tests cover seeds alone.")
    return notes


def write(path: Path, text: str) -> None:
    """Replace a file in one go. UserError when it can't be written."""
    from jaxdl.study import folders

    if path.is_dir():
        raise UserError(f"--output={path} is a folder: name a file")
    try:
        folders.write_text(path, text)
    except OSError as error:
        raise UserError(f"--output={path} can't be written: {error.strerror}") from None


def main(arguments: Iterable[str] | None = None) -> None:
    """Do what the command line asks for."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return
    try:
        asked = parse(arguments)
        document, beside = compare(asked)
        if asked.output:
            write(asked.output, document)
        else:
            print(document, end="")
        print(beside, end="", file=sys.stderr)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
