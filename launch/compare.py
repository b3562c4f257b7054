"""One table, and verdicts on claims, from any study folders, finished or running, and anybody's CSV.

    python -m launch.compare DIR_OR_CSV... [options]

DIR is the --workdir of a study. A CSV has the columns variant, seed, metric and value, one value a
line; a column `hash`, as in jaxdl's own results.csv, tells trials apart. Of several trials of a
variant, the one is compared that the folder's study would choose; of a CSV, that with the least
mean validation error (else loss) over seeds. With several inputs, variants are called
INPUT/VARIANT.

--claims=FILE       claims to test, as TOML (below). Default: the study's own, where its folder
                    is the only input
--metric=NAME,...   what is shown, names or patterns as in val_*; beside a test_* metric also the
                    gap to its train_*. Default: the columns of the study's own table; of a CSV,
                    every test_* metric that all have
--rows=GLOB,...     variants to show, as in random-*
--columns=KEY       one metric, and a column for each value of KEY: a key of the runs' config, as in
                    model.hidden; a further column of a CSV; or `input`. Default metric: the first
--x=KEY             such a table, and a plot of it: the metric against KEY, a line with its band for
                    each variant; into --output=FILE.png, .svg or .pdf, or on the page of html
--style=WHERE       of the plot: paper or slides
--format=FORM       text, md, latex, html (one page with charts, for which no network is needed) or
                    csv (one line a variant, full precision, fractions not in %)
--spread=WHAT       ± is ci: half of the 95% interval over seeds; std: their standard deviation;
                    sem: of their mean
--digits=N          digits after the point. Default: 2 for errors and accuracies, in %; 3 for others
--bold              mark the best of each column, and what a paired test over common seeds does not
                    tell from it
--output=FILE       where to write; default: standard output
--watch[=SECONDS]   all of it anew every 5 seconds, as long as runs of the folders go on

A claim is tested at the best trials, on seeds that its variants have in common. It says one of

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
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from jaxdl.errors import UserError, unknown
from launch import documents, plots, tables, watching, webpage
from launch.inputs import Value, is_number, read_claims, read_own_claims
from launch.rows import Comparison, Rows

# The modules that read folders and judge claims import jax: functions import them, so that --help is quick.
if TYPE_CHECKING:
    from jaxdl.study.claims import Claim, Finding

PICTURES = (".png", ".svg", ".pdf")
FORMATS = ("text", "md", "latex", "csv", "html")
STYLES = ("", "paper", "slides")
OPTIONS = (
    *("--claims", "--metric", "--rows", "--columns", "--x", "--style", "--format", "--spread", "--digits", "--bold"),
    *("--output", "--watch"),
)


class Parser(argparse.ArgumentParser):
    """Its errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """A mistake on the command line."""
        raise UserError(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as no input is needed for it."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("inputs", nargs="*", type=Path)
    for option in ("--metric", "--rows", "--columns", "--x", "--style"):
        parser.add_argument(option, default="")
    parser.add_argument("--format", default="text")
    parser.add_argument("--spread", default="ci")
    parser.add_argument("--bold", action="store_true")
    parser.add_argument("--digits")
    parser.add_argument("--claims", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--watch", default="")
    # What follows a bare --watch is an input, not its seconds.
    arguments = ["--watch=5" if each == "--watch" else each for each in arguments]
    asked, further = parser.parse_known_intermixed_args(arguments)
    if further:
        raise unknown("option", further[0].split("=")[0], OPTIONS)
    if not asked.inputs:
        raise UserError("nothing to compare: name the folder of a study, or a CSV; --help says more")
    for option, valid in (("format", FORMATS), ("spread", tables.SPREADS), ("style", STYLES)):
        if getattr(asked, option) not in valid:
            raise unknown(f"--{option}", getattr(asked, option), filter(None, valid))
    if asked.digits is not None:
        if not re.fullmatch(r"\d|1[0-5]", asked.digits):
            raise UserError(f"--digits={asked.digits} is not possible: it is a whole number from 0 to 15")
        asked.digits = int(asked.digits)
    if asked.watch and not (re.fullmatch(r"\d*\.?\d+", asked.watch) and float(asked.watch) > 0):
        raise UserError(f"--watch={asked.watch} is not possible: it is a number of seconds above 0")
    if asked.format == "csv" and (asked.bold or asked.digits is not None):
        raise UserError("--format=csv has full precision and no bold: leave out --digits and --bold")
    _check_files(asked)
    return asked


def _check_files(asked: argparse.Namespace) -> None:
    """UserError where files contradict each other, or the other options."""
    used = [path.resolve() for path in (*asked.inputs, asked.claims) if path]
    if len(set(used)) < len(used):
        raise UserError("an input is named twice")
    if asked.output and asked.output.resolve() in used:
        raise UserError(f"--output={asked.output} would replace what is read: name another file")
    if asked.style and not asked.x:
        raise UserError(f"--style={asked.style} is that of a plot: add --x=KEY")
    if asked.x and asked.columns:
        raise UserError(f"--x={asked.x} makes the columns of the table: leave out --columns={asked.columns}")
    apart = bool(asked.x) and asked.format != "html"  # the plot is a file of its own
    if apart and not (asked.output and asked.output.suffix in PICTURES):
        raise UserError(f"--x={asked.x} needs --output=FILE.png, .svg or .pdf for its plot, or --format=html")
    if not apart and asked.output and asked.output.suffix in PICTURES:
        raise UserError(f"--output={asked.output} is for a plot: add --x=KEY, or name a file for the {asked.format}")


class Made(NamedTuple):
    """What a comparison comes to. beside: for standard error; plot: a picture, where it is a file of its own"""

    document: str
    beside: str = ""
    plot: bytes = b""


def compare(asked: argparse.Namespace, command: str) -> Made:
    """What the command line asks for. command: as text, for who wants to get it again"""
    from jaxdl.study import claims

    key = asked.columns or asked.x
    comparison = Comparison(asked.inputs, [key] if key not in ("", "input") else [])
    names = comparison.metrics()
    made, origin = (read_claims(asked.claims, names), []) if asked.claims else own_claims(asked.inputs)
    values, said = by(comparison, key, "--columns" if asked.columns else "--x") if key else ({}, [])
    variants = shown(comparison, values, asked.rows, bare=key == "input")
    metrics = tables.picked("metric", asked.metric, names) if asked.metric and names else []
    rows = [row for each in values.values() or [comparison] for row in each.rows if row.variant in variants]
    metrics = metrics or tables.default_metrics(rows, names, comparison.columns())[: 1 if key else None]
    if key:
        if len(metrics) > 1:
            raise UserError(f"a table by {key} shows one metric, not {', '.join(metrics)}: choose it with --metric")
        metric = metrics[0] if metrics else ""
        columns = tables.value_columns(comparison, key, metric, values)
        said = [f"Columns: {tables.titled(comparison, metric)} by {key}.", *said]
    else:
        columns = tables.metric_columns(comparison, metrics)
        gap = tables.gap_column(comparison, variants, metrics) if asked.format != "csv" else []
        columns += gap
        said = ["gap: test minus training."] * bool(gap)
    table, unsure = tables.tabulate(variants, columns, values or comparison, asked.spread, asked.bold)
    findings = claims.judge(made, comparison)
    chosen = comparison.notes
    if key:  # then the best trials are those of claims and charts alone
        chosen = [f"Claims and charts: {note}" for note in chosen] if made or asked.format == "html" else []
    notes = [
        f"± is {tables.SPREADS[asked.spread]}; n: runs with a result.",
        *dict.fromkeys([*said, *chosen, *unsure, *origin, *further_notes(comparison, table, asked)]),
    ]
    plot = b""
    if asked.x:
        form = "png" if asked.format == "html" else asked.output.suffix[1:]
        plot = plots.drawn(asked.x, values, variants, metric, comparison.fraction(metric), form, asked.style)
    if asked.format == "html":
        return Made(webpage.written(comparison, table, findings, notes, plot, asked, command))
    if asked.x and not plot:
        raise UserError(f"there is nothing to plot: no run has a result at a value of {asked.x}")
    findings = [in_own_units(comparison, finding) for finding in findings]
    if asked.format == "csv":
        return Made(documents.wide_csv(table, asked.spread), documents.plain_text(notes, findings), plot)
    return Made(documents.written(table, notes, findings, asked.format, asked.digits), plot=plot)


def own_claims(inputs: Sequence[Path]) -> tuple[list["Claim"], list[str]]:
    """The claims of the study whose folder is the only input, and what a reader must know."""
    return read_own_claims(inputs[0]) if len(inputs) == 1 and inputs[0].is_dir() else ([], [])


def by(comparison: Comparison, key: str, option: str) -> tuple[dict[Value, Rows], list[str]]:
    """{value of the key: rows}, and what a reader must know. UserError where no run has it, or its texts are an x."""
    found, notes = (comparison.by_input(), []) if key == "input" else comparison.by(key, f"key in {option}")
    words = [str(value) for value in found if not is_number(value)]
    if option == "--x" and words:
        raise UserError(f"--x={key} has values that are no numbers: {', '.join(words)}; --columns={key} takes them")
    return found, notes


def shown(comparison: Comparison, values: dict[Value, Rows], patterns: str, bare: bool) -> list[str]:
    """The variants that the table shows, in the inputs' order. bare: they are called without their input"""
    known = list(dict.fromkeys(row.own if bare else row.variant for row in comparison.rows))
    if values:
        there = {row.variant for rows in values.values() for row in rows.rows}
        known = [variant for variant in known if variant in there]
    wanted = tables.picked("variant in --rows", patterns, known) if patterns else known
    return [variant for variant in known if variant in wanted]


def in_own_units(comparison: Comparison, finding: "Finding") -> "Finding":
    """A finding whose metric is not called by a name that makes it %, where the values are no fractions."""
    if comparison.fraction(finding.claim.metric):
        return finding
    return finding._replace(claim=finding.claim._replace(metric=""))


def further_notes(comparison: Comparison, table: tables.Table, asked: argparse.Namespace) -> list[str]:
    """What a reader must know of lost runs, units, bold numbers and tests."""
    from jaxdl.study.results import is_fraction

    notes = []
    lost = {variant: tables.lost(rows) for variant, rows in zip(table.variants, table.rows, strict=True)}
    if any(lost.values()):
        listed = ", ".join(f"{variant} ({said})" for variant, said in lost.items() if said)
        notes.append(f"Runs without a result: {listed}.")
    metrics = dict.fromkeys(column.metric for column in table.columns)
    large = [name for name in metrics if is_fraction(name) and not comparison.fraction(name)]
    if large:
        notes.append(f"Shown as stored, since a value is above 1: {', '.join(large)}.")
    if any(cell.best for line in table.cells for cell in line):
        notes.append(
            "Bold (* in text): the best of a column, and what a two-sided paired test over common seeds (5%, Holm) "
            "does not tell from it."
        )
    files = [path.name for path in asked.inputs if not path.is_dir()]
    if files and (asked.bold or asked.claims):
        notes.append(f"{', '.join(files)}: without values of single test examples, tests cover seeds alone.")
    if asked.claims and len(asked.inputs) > 1 and comparison.rows:
        notes.append(f"Claims call variants INPUT/VARIANT, as in {comparison.rows[0].variant}.")
    return notes


def write(path: Path, content: bytes) -> None:
    """Replace a file in one go. UserError when it can't be written."""
    if path.is_dir():
        raise UserError(f"--output={path} is a folder: name a file")
    draft = path.with_name(path.name + ".draft")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"--output={path} can't be written: {error.strerror}") from None


def put(asked: argparse.Namespace, made: Made) -> str:
    """Write what goes to a file and to standard error; returns what is for standard output."""
    print(made.beside, end="", file=sys.stderr)
    if made.plot or asked.output:
        write(asked.output, made.plot or made.document.encode())
    return made.document if made.plot or not asked.output else ""


def main(arguments: Iterable[str] | None = None) -> None:
    """Do what the command line asks for."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return
    try:
        asked = parse(arguments)
        once = [each for each in arguments if not each.startswith("--watch")]
        command = shlex.join(["python", "-m", "launch.compare", *once])
        if asked.watch:
            folders = [path for path in asked.inputs if path.is_dir()]
            watching.follow(lambda: put(asked, compare(asked, command)), folders, float(asked.watch))
        else:
            print(put(asked, compare(asked, command)), end="", flush=True)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as of `| head`; what is left to flush at the end has nowhere to go either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
