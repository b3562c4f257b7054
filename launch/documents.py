"""The table of a comparison as a document: text, Markdown, LaTeX or CSV."""

import contextlib
import csv
import html
import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launch.tables import Cell, Table

# The modules that read folders and judge claims import jax: functions import them, so that --help is quick.
if TYPE_CHECKING:
    from jaxdl.study.claims import Finding

WIDTH = 98


def numbers(cell: Cell, percent: bool, digits: int | None, sign: str) -> str:
    """ "4.31 ± 0.22". sign: what stands for ±."""
    if not cell.count:
        return "-"
    scale, places = (100 if percent else 1), digits if digits is not None else 2 if percent else 3
    form = "f" if abs(cell.mean) < 1e7 else "e"
    spread = "" if math.isnan(cell.spread) else f"{sign}{scale * cell.spread:.{places}{form}}"
    return f"{scale * cell.mean:.{places}{form}}{spread}"


def grid(table: Table, form: str, digits: int | None) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table, as text of a format other than csv."""
    marked = any(cell.best for line in table.cells for cell in line)
    body = []
    for variant, line, count in zip(table.variants, table.cells, table.counts(), strict=True):
        texts = []
        for column, cell in zip(table.columns, line, strict=True):
            text = numbers(cell, column.percent, digits, r" \pm " if form == "latex" else " ± ")
            few = f" (n={cell.count})" if 0 < cell.count != count[0] else ""
            if form == "latex":
                text = "--" if not cell.count else f"$\\mathbf{{{text}}}$" if cell.best else f"${text}$"
            elif form == "md" and cell.best:
                text = f"**{text}**"
            elif form == "text" and marked:
                text += "*" if cell.best else " "
            texts.append(text + few)
        body.append([escaped(variant, form), escaped(counted(count), form), *texts])
    return [escaped(name, form) for name in ("variant", "n", *(column.title for column in table.columns))], body


def counted(count: tuple[int, int]) -> str:
    """ "3 of 5", or "5" of 5 runs with a result."""
    return str(count[0]) if count[0] == count[1] else f"{count[0]} of {count[1]}"


LATEX = {character: "\\" + character for character in "&%$#_{}"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}  # others in some fonts


def escaped(text: str, form: str) -> str:
    """Text as it stands in one line of a format."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if form == "latex":
        return text.translate(str.maketrans(LATEX))
    return html.escape(text, quote=False).replace("|", r"\|") if form == "md" else text


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
    lines += ["", *(f"- {escaped(note, 'md')}" for note in notes)]
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


def written(table: Table, notes: list[str], findings: Sequence["Finding"], form: str, digits: int | None) -> str:
    """The document in a format of `DOCUMENTS`. digits: after the point; None: 2 of what is in %, 3 of others"""
    return DOCUMENTS[form](*grid(table, form, digits), notes, findings)


def wide_csv(table: Table, spread: str) -> str:
    """One line a variant; of each column its mean, its spread and n, in the metric's own units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [column.name for column in table.columns]
    writer.writerow(["variant", *(f"{name}_{part}" for name in names for part in ("mean", spread, "n"))])
    for variant, line in zip(table.variants, table.cells, strict=True):
        numbers = [(*("" if math.isnan(x) else repr(x) for x in cell[:2]), cell.count) for cell in line]
        writer.writerow([variant, *(field for fields in numbers for field in fields)])
    return text.getvalue()
