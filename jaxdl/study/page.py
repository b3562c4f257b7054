"""report.html: what was found, as one file that needs no network."""

import base64
import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl.study import charts, folders, report
from jaxdl.study.claims import VERDICTS, Finding
from jaxdl.study.results import Results, Row, headings, interval, is_fraction, rank, shown, title
from jaxdl.study.runs import Run
from jaxdl.study.sweep import named

NO_BREAK = "\u00a0"
NO_RESULTS = "There are no results: no run has a metric of the table."
REFRESH = 5  # seconds until a browser loads a page again that is not the last
WORDS = {"packages": "versions", "machine": "hardware"}  # for keys of environment.json


class Page(NamedTuple):
    """What stands on the page, from top to bottom. All but the strings and charts may be empty.

    sentences: what was found; dots, curves, claims: see `charts`; caption: of the table
    trials, selected: the table of all trials, and the metric that ranks them; differs: from the paper
    lost: a line for each run without a result; pictures: see `picture`; environments: of the runs
    opening: lines of text, what was trained; state: of a launch that has not ended; refresh: see REFRESH, 0: never
    """

    title: str
    subtitle: str
    paragraphs: list[str]
    sentences: list[str]
    dots: dict[str, Any]
    table: report.Table
    caption: str
    table_notes: Sequence[str]
    curves: dict[str, Any]
    claims: list[dict[str, Any]]
    command: str
    trials: report.Table | None = None
    selected: str = ""
    differs: Sequence[str] = ()
    lost: Sequence[str] = ()
    pictures: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = ()
    environments: Sequence[dict[str, Any]] = ()
    opening: Sequence[str] = ()
    state: str = ""
    refresh: int = 0


def render(page: Page) -> str:
    """The page as HTML."""
    import jinja2
    from markupsafe import Markup

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = charts.minus
    return environment.get_template("page.html.jinja").render(
        page._asdict()
        | {
            "environments": [facts(each) for each in page.environments],
            "differing": differing(page.environments),
            "style": Markup((here / "page.css").read_text(encoding="utf-8")),
            "script": Markup((here / "page.js").read_text(encoding="utf-8")),
        }
    )


def write(path: Path, content: report.Report, state: str = "", refresh: int = 0) -> None:
    """Write report.html, at the end or meanwhile (state, refresh: see `Page`). OSError where a figure is not there."""
    folders.write_text(path, render(of_study(content, state, refresh)))


def of_study(content: report.Report, state: str = "", refresh: int = 0) -> Page:
    """The page of a study's report; state, refresh: see `Page`. OSError where a figure is not there."""
    results = content.results
    columns = [name for name in content.columns if any(len(report.finite(row, name)) for row in results.rows)]
    name, subtitle = split_title(content.title)
    return Page(
        title=name,
        subtitle=subtitle,
        paragraphs=paragraphs(content.doc, content.title),
        sentences=[*verdicts(content.findings), *best(results, columns[0])] if columns else [NO_RESULTS] * (not state),
        dots=dots(results, columns[0] if columns else ""),
        table=report.main_table(results, columns, content.published),
        caption="Each variant at its best trial: mean ± half-width of the 95% interval over seeds.",
        table_notes=report.notes(results, columns, content.published, []) if columns else [],
        curves=curves(results, columns[0] if columns else ""),
        claims=charts.forest(content.findings),
        command=content.command,
        trials=report.trial_table(results) if headings(results.grid) or results.own_grids else None,
        selected=title(results.select[0]),
        differs=content.differs,
        lost=lost_runs(results),
        pictures=[
            *(picture(path.stem, path.read_bytes()) for path in content.figures),
            *(picture(f"{path.parent.name}: {path.stem}", path.read_bytes()) for path in content.looked),
        ],
        notes=content.notes,
        environments=results.environments(),
        opening=content.opening,
        state=state,
        refresh=refresh,
    )


def dots(results: Results, metric: str) -> dict[str, Any]:
    """The chart of a metric of every variant, the best on top."""
    scale = 100 if is_fraction(metric) else 1
    known = {row.variant: report.finite(row, metric) for row in results.rows}
    means = [
        charts.Mean(variant, *(scale * part for part in interval(values)), shown(metric, values))
        for variant, values in known.items()
        if len(values)
    ]
    means.sort(key=lambda each: each.mean, reverse=_direction(metric, results.select) == "max")
    missing = [(row.variant, report.reason(row, metric)) for row in results.rows if not len(known[row.variant])]
    return charts.dots(f"{title(metric)}: mean over seeds and its 95% interval, the best on top", means, missing)


def verdicts(findings: Sequence[Finding]) -> list[str]:
    """ "3 of 5 claims hold, 1 is contradicted, 1 undecided." as a list of one; [] without claims."""
    if not findings:
        return []
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    hold, against, total = counts["holds"], counts["contradicted"], len(findings)
    said = (
        f"{hold} of {total} claim{'s' * (total != 1)} hold{'s' * (hold == 1)}, "
        f"{against} {'is' if against == 1 else 'are'} contradicted, {counts['undecided']} undecided"
    )
    return [said + (f", {counts['no verdict']} without a verdict." if counts["no verdict"] else ".")]


def best(results: Results, metric: str) -> list[str]:
    """The variant that is best by the validation metric, with another of its metrics, as a list of one sentence."""
    by = compared_by(results, metric)
    ranked = by_validation(results, by)
    if not ranked or not len(report.finite(ranked[0], by)):
        return []
    row, selected = ranked[0], by.replace("_", " ")
    values = report.finite(row, metric)
    seeds = f"{len(values)} seed{'s' * (len(values) != 1)}" if len(values) == len(row.runs) else (
        f"{len(values)} of {len(row.runs)} seeds"
    )  # fmt: skip
    unit = NO_BREAK + "%" if is_fraction(metric) else ""
    return [f"Best by {selected}: {row.variant}, with a {metric.replace('_', ' ')} of "
            f"{charts.minus(shown(metric, values)).replace(' ', NO_BREAK)}{unit} ({seeds})."]  # fmt: skip


def compared_by(results: Results, metric: str) -> str:
    """The validation metric that variants are compared by: that of the headline's metric, where it was measured.

    What chooses among a variant's trials may be an objective of its own, of which less means nothing beside others'.
    """
    own = f"validation_{metric.partition('_')[2]}"
    return own if any(len(report.finite(row, own)) for row in results.rows) else results.select[0]


def by_validation(results: Results, metric: str) -> list[Row]:
    """The rows, the best by the mean of a validation metric first; those without it last."""
    sign = 1 if _direction(metric, results.select) == "min" else -1

    def rank(row: Row) -> float:
        values = report.finite(row, metric)
        return sign * float(values.mean()) if len(values) else math.inf

    return sorted(results.rows, key=rank)


def lost_runs(results: Results) -> list[str]:
    """One line for each run of the table that diverged or failed: where, or with which error."""
    lines = []
    for row in results.rows:
        for run in row.runs if row.diverged + row.failed else ():
            record = results.record(run)
            if record["status"] in ("diverged", "failed"):
                detail = record.get("diverged") or record.get("error") or ""
                what = f"{run.variant}, seed {run.seed}: {record['status']}"
                lines.append(f"{what}, {detail}" if detail else what)
    return lines


def curves(results: Results, headline: str) -> dict[str, Any]:
    """The chart of a validation metric against steps, for each row its last fit that logs it.

    A variant without a result shows how far the leading one of its trials has come.
    """
    metric = compared_by(results, headline)
    bands, missing = {}, []
    for row in by_validation(results, metric):
        trials = [row] if row.metrics else results.trials[row.variant]
        begun = [(trial, band) for trial in trials if (band := _band(results, trial, metric))[0]]
        if begun:
            direction = _direction(metric, results.select)
            trial, band = min(begun, key=lambda each: rank(each[1][1][-1], direction))
            point = "" if row.metrics else named(trial.point)
            bands[f"{row.variant}, {point}" if point else row.variant] = band
        else:
            missing.append((row.variant, report.reason(row, metric) if not row.metrics else "not logged"))
    return charts.curves(title(metric), bands, missing, is_fraction(metric))


def _band(results: Results, row: Row, metric: str) -> charts.Band:
    """The band of the runs with a result, or else of those that are furthest, in the last fit that logs the metric."""

    def fits(run: Run) -> list[str]:
        logged = folders.read_metrics(folders.run_folder(results.workdir, run))
        return [each["fit"] for each in logged if each.get(metric) is not None]

    runs = [run for run in row.runs if results.record(run)["metrics"]]
    if not runs:
        training = [(run, len(fits(run))) for run in row.runs if results.record(run)["status"] == "running"]
        furthest = max((count for _, count in training), default=0)
        runs = [run for run, count in training if count == furthest]
    for run in runs[:1]:
        if fits(run):
            return results.band(row._replace(runs=runs), fits(run)[-1], metric)
    return [], []


def picture(name: str, content: bytes) -> dict[str, Any]:
    """A PNG as {"name" in words, "data" in base64, "width", "height" in pixels}."""
    width, height = struct.unpack(">II", content[16:24])  # of the header, always the first chunk
    name = re.sub(r"[_\s]+", " ", name).strip()
    return {
        "name": name[:1].upper() + name[1:],
        "data": base64.b64encode(content).decode(),
        "width": width,
        "height": height,
    }


def facts(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """What runs were trained in, as (name, text): all that is known and not empty."""
    known = {"git_commit": "unknown"} | {key: value for key, value in environment.items() if value not in ("", [], {})}
    known.pop("command", None)
    return [(WORDS.get(key, key.replace("_", " ")), _plain(value)) for key, value in known.items()]


def differing(environments: Sequence[dict[str, Any]]) -> list[str]:
    """In what environments are not the same."""
    keys = dict.fromkeys(key for environment in environments for key in environment if key != "command")
    return [
        WORDS.get(key, key.replace("_", " "))
        for key in keys
        if any(environment.get(key) != environments[0].get(key) for environment in environments)
    ]


def split_title(title: str) -> tuple[str, str]:
    """The title of a study and what follows it on the first line of its doc: the papers."""
    match = re.match(r"(.{3,80}?(?<! al))\.\s+(.+)$", title.strip())
    return (match[1], match[2]) if match else (title.strip(), "")


def paragraphs(doc: str, title: str) -> list[str]:
    """The paragraphs of a doc, less its title."""
    text = "\n".join(line.strip() for line in doc.strip().removeprefix(title.strip()).splitlines())
    return [part.strip() for part in re.split(r"\n{2,}", text) if part.strip()]


def _direction(metric: str, select: tuple[str, str]) -> str:
    """Whether less or more of a metric is better; that of the metric that selects where its name doesn't tell."""
    words = metric.split("_")
    return "max" if "accuracy" in words else "min" if {"error", "loss"} & set(words) else select[1]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
