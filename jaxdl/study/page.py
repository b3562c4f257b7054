"""report.html: what a study found, as one file that needs no network. Charts are SVG, drawn here and in the template.

Positions along an axis are percent of its length: the charts stretch with the page, their text and dots do not.
"""

import base64
import math
import re
import struct
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.study import folders, report
from jaxdl.study.claims import Claim, Finding
from jaxdl.study.results import Results, Row, headings, interval, is_fraction, shown, title
from jaxdl.study.statistics import Estimate

POINTS = 200  # of a learning curve, at most
CURVES = 8  # shown at the start, at most; there are as many colours
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4", "9 3 2 3 2 3")
NO_BREAK = "\u00a0"
SYMBOLS = {"holds": "✓", "contradicted": "✗", "undecided": "?", "no verdict": "–"}
WORDS = {"packages": "versions", "machine": "hardware"}  # for keys of environment.json


def write(path: Path, content: report.Report) -> None:
    """Write report.html. OSError where a figure is not there."""
    import jinja2
    from markupsafe import Markup

    here = Path(__file__).parent
    loader = jinja2.FileSystemLoader(here)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["minus"] = _minus
    template = environment.get_template("page.html.jinja")
    results = content.results
    columns = [name for name in content.columns if any(len(report.finite(row, name)) for row in results.rows)]
    name, subtitle = split_title(content.title)
    environments = results.environments()
    text = template.render(
        title=name,
        subtitle=subtitle,
        paragraphs=paragraphs(content.doc, content.title),
        headline=headline(results, columns, content.findings),
        table=report.main_table(results, columns, content.published),
        table_notes=report.notes(results, columns, content.published, []) if columns else [],
        trials=report.trial_table(results) if headings(results.grid) else None,
        selected=title(results.select[0]),
        lost=lost_runs(results),
        curves=curves(results),
        claims=claim_groups(content.findings),
        pictures=[picture(figure) for figure in content.figures],
        notes=content.notes,
        differs=content.differs,
        command=content.command,
        environments=[facts(environment) for environment in environments],
        differing=differing(environments),
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        script=Markup((here / "page.js").read_text(encoding="utf-8")),
    )
    folders.write_text(path, text)


class Axis(NamedTuple):
    """An axis from low to high; logarithmic only where low > 0."""

    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The position of a value in percent of the length; the ends for what lies outside."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)

    def ticks(self, most: int = 6) -> list[dict[str, Any]]:
        """[{"at": percent, "text"}]: 2 to `most` round values."""
        values = _decades(self.low, self.high, most) if self.logarithmic else []
        if len(values) < 2:
            size = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
            size = next(
                size * step for step in (1, 2, 5, 10, 20, 50) if (self.high - self.low) / (size * step) <= most - 1
            )
            numbers = range(math.ceil(self.low / size - 1e-9), math.floor(self.high / size + 1e-9) + 1)
            values = [number * size for number in numbers]
        return [{"at": self.at(value), "text": _minus(f"{value:,.10g}")} for value in values]


def fitting_axis(means: Sequence[float], lows: Sequence[float], highs: Sequence[float], room: float) -> Axis:
    """The axis for means with intervals: logarithmic where means are positive and span more than a factor of 10.

    room: by how much intervals may stretch it, in units of the means' range, or of the widest interval where that is
        zero; what is wider is cut at the end of the axis
    """
    low, high = min(means), max(means)
    if low > 0 and high > 10 * low:
        factor = (high / low) ** room
        least = min(low, *(value for value in lows if value > 0), high)
        return Axis(max(least, low / factor) / 1.05, min(max(highs), high * factor) * 1.05, True)
    span = room * (high - low) or max(high - min(lows), max(highs) - low) or abs(low) or 1.0
    floor, ceiling = max(min(*lows, low), low - span), min(max(*highs, high), high + span)
    if low >= 0 and floor < 0:  # no interval makes an error negative
        floor = 0.0
    if floor == ceiling:
        floor, ceiling = floor - span / 2, ceiling + span / 2
    margin = 0.03 * (ceiling - floor)
    return Axis(floor - margin if floor else 0.0, ceiling + margin)


def headline(results: Results, columns: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    """What was found in a sentence, and the first metric of every variant, the best on top."""
    if not columns:
        return {"sentences": [], "dots": [], "missing": [], "ticks": [], "logarithmic": False, "metric": ""}
    metric = columns[0]
    scale = 100 if is_fraction(metric) else 1
    known = {row.variant: scale * report.finite(row, metric) for row in results.rows}
    means = {variant: float(values.mean()) for variant, values in known.items() if len(values)}
    halves = {variant: interval(known[variant])[1] for variant in means}
    whiskers = {variant: (mean, *_ends(mean, halves[variant])) for variant, mean in means.items()}
    axis = fitting_axis(*zip(*whiskers.values(), strict=True), room=0.5)
    order = sorted(means, key=means.get, reverse=_direction(metric, results.select) == "max")
    dots = [
        {"name": variant, "text": _minus(shown(metric, report.finite(results.row(variant), metric)))}
        | _whisker(axis, *whiskers[variant])
        for variant in order
    ]
    return {
        "sentences": [*verdicts(findings), *best(results, metric)],
        "dots": dots,
        "missing": [
            {"name": row.variant, "why": report.reason(row, metric)} for row in results.rows if row.variant not in means
        ],
        "ticks": axis.ticks(),
        "logarithmic": axis.logarithmic,
        "metric": title(metric),
    }


def verdicts(findings: Sequence[Finding]) -> list[str]:
    """ "3 of 5 claims hold, 1 is contradicted, 1 undecided." as a list of one; [] without claims."""
    if not findings:
        return []
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in SYMBOLS}
    hold, against, total = counts["holds"], counts["contradicted"], len(findings)
    said = (
        f"{hold} of {total} claim{'s' * (total != 1)} hold{'s' * (hold == 1)}, "
        f"{against} {'is' if against == 1 else 'are'} contradicted, {counts['undecided']} undecided"
    )
    return [said + (f", {counts['no verdict']} without a verdict." if counts["no verdict"] else ".")]


def best(results: Results, metric: str) -> list[str]:
    """The variant that is best by the validation metric, with another of its metrics, as a list of one sentence."""
    ranked = by_validation(results)
    if not ranked or not len(report.finite(ranked[0], results.select[0])):
        return []
    row, selected = ranked[0], results.select[0].replace("_", " ")
    values = report.finite(row, metric)
    seeds = f"{len(values)} seed{'s' * (len(values) != 1)}" if len(values) == len(row.runs) else (
        f"{len(values)} of {len(row.runs)} seeds"
    )  # fmt: skip
    unit = NO_BREAK + "%" if is_fraction(metric) else ""
    return [f"Best by {selected}: {row.variant}, with a {metric.replace('_', ' ')} of "
            f"{_minus(shown(metric, values)).replace(' ', NO_BREAK)}{unit} ({seeds})."]  # fmt: skip


def by_validation(results: Results) -> list[Row]:
    """The rows, the best by the mean of the validation metric first; those without it last."""
    metric, direction = results.select
    sign = 1 if direction == "min" else -1

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


def curves(results: Results) -> dict[str, Any]:
    """The validation metric against steps, for each row its last fit that logs it; lines are those of the page.

    {"lines": [{"name", "final", "on", "color", "dash", "path", "band"}], "missing": names, "data": for the script:
    a list of {"x": steps, "y": means, "h": half-widths or null}, "x" and "y": ticks, "log", "metric", "last"}
    """
    metric = results.select[0]
    scale = 100 if is_fraction(metric) else 1
    found, missing = {}, []
    for row in by_validation(results):
        steps, values = _band(results, row, metric)
        if steps:
            kept = np.unique(np.linspace(0, len(steps) - 1, POINTS).round().astype(int))
            pairs = np.array([interval(scale * np.array(values[place])) for place in kept])  # [T, 2]
            found[row.variant] = np.array(steps)[kept], pairs[:, 0], pairs[:, 1], len(values[0])
        else:
            missing.append(
                {"name": row.variant, "why": report.reason(row, metric) if not row.metrics else "not logged"}
            )
    if not found:
        return {"lines": []}
    means, halves = (np.concatenate([line[part] for line in found.values()]) for part in (1, 2))
    known = np.nan_to_num(halves)
    y = fitting_axis(means.tolist(), (means - known).tolist(), (means + known).tolist(), room=0.15)
    first, last = (int(pick(pick(line[0]) for line in found.values())) for pick in (min, max))
    x = Axis(first, last if last > first else first + 1)
    lines, data = [], []
    for number, (name, (steps, mean, half, seeds)) in enumerate(found.items()):
        across = [10 * x.at(step) for step in steps]
        lines.append({
            "name": name,
            "number": number,
            "final": _number(mean[-1], half[-1], metric),
            "on": number < CURVES,
            "color": number % CURVES,
            # No two of the first 48 lines have both the colour and the dashes in common.
            "dash": DASHES[(number % CURVES + number // CURVES) % len(DASHES)],
            "path": _path(across, [y.at(value) for value in mean]),
            "band": _outline(across, mean, half, y) if np.isfinite(half).all() else "",
            "seeds": seeds,
        })  # fmt: skip
        digits = [[float(f"{value:.5g}") if math.isfinite(value) else None for value in part] for part in (mean, half)]
        data.append({"x": steps.tolist(), "y": digits[0], "h": digits[1]})
    return {
        "lines": lines,
        "missing": missing,
        "data": {"lines": data, "low": x.low, "high": x.high, "digits": 2 if is_fraction(metric) else 3},
        "x": x.ticks(5),
        "y": y.ticks(),
        "logarithmic": y.logarithmic,
        "metric": title(metric),
        "first": first,
        "last": last,
    }


def _band(results: Results, row: Row, metric: str) -> tuple[list[int], list[list[float]]]:
    """The band of the runs that have a result, in the last fit that logs the metric."""
    runs = [run for run in row.runs if results.record(run)["metrics"]]
    for run in runs[:1]:
        logged = folders.read_metrics(folders.run_folder(results.workdir, run))
        fits = [each["fit"] for each in logged if each.get(metric) is not None]
        if fits:
            return results.band(row._replace(runs=runs), fits[-1], metric)
    return [], []


def claim_groups(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Claims in groups of one metric, which share an axis: [{"metric", "unit", "ticks", "claims"}]."""
    groups = []
    order = list(dict.fromkeys(finding.claim.metric for finding in findings))
    ordered = sorted(findings, key=lambda finding: order.index(finding.claim.metric))
    for metric, members in groupby(ordered, key=lambda finding: finding.claim.metric):
        members = list(members)
        scale, unit = (100, "percentage points") if is_fraction(metric) else (1, "")
        ends = [end for each in members for estimate in each.estimates if estimate for end in estimate.interval()]
        ends += [sign * each.claim.margin for each in members for sign in (-1, 1)] + [0.0]
        low, high = scale * min(ends), scale * max(ends)
        room = 0.06 * (high - low) or 1.0
        axis = Axis(low - room, high + room)
        groups.append({
            "metric": metric.replace("_", " "),
            "unit": unit,
            "axis": axis.ticks(),
            "zero": axis.at(0),
            "claims": [_claim(finding, axis, scale) for finding in members],
        })  # fmt: skip
    return groups


def _claim(finding: Finding, axis: Axis, scale: float) -> dict[str, Any]:
    claim = finding.claim
    margin = scale * claim.margin
    sides = {"less": (axis.low, 0.0), "greater": (0.0, axis.high), "equal": (-margin, margin)}
    start, end = (axis.at(value) for value in sides[claim.relation])
    estimates = finding.estimates or (None,) * len(claim.contrasts)
    lines = []
    for contrast, estimate in zip(claim.contrasts, estimates, strict=True):
        line = {"name": contrast_name(contrast), "mean": None, "text": "-", "interval": ""}
        if estimate:
            low, high = (scale * value for value in estimate.interval())
            line |= _whisker(axis, scale * estimate.mean, low, high)
            line |= {"text": _signed(scale * estimate.mean), "interval": f"{_signed(low)} to {_signed(high)}"}
        lines.append(line)
    where = {"less": "below 0", "greater": "above 0", "equal": f"within ± {margin:g} of 0"}[claim.relation]
    return {
        "text": claim.text,
        "paper": claim.paper,
        "verdict": finding.verdict,
        "symbol": SYMBOLS[finding.verdict],
        "kind": finding.verdict.replace(" ", "-"),
        "where": where,
        "start": start,
        "width": round(end - start, 2),
        "lines": lines,
        "facts": _statistics(finding, finding.weakest, claim),
        "notes": finding.notes,
    }


def _statistics(finding: Finding, weakest: Estimate | None, claim: Claim) -> list[tuple[str, str]]:
    if weakest is None:
        return []
    found = [
        ("p", f"{finding.p:.2g}, two-sided"),
        ("p after Holm's correction", f"{finding.adjusted:.2g}"),
        ("seeds", f"{weakest.seeds}"),
        ("test examples", f"{weakest.examples:,}" if weakest.examples else "- (the interval is over seeds alone)"),
    ]
    if claim.relation == "equal":
        found.append(("margin", f"{(100 if is_fraction(claim.metric) else 1) * claim.margin:g}"))
    if finding.verdict == "undecided":
        needed = f"about {finding.needed:,}" if finding.needed else "no number of seeds on this test set"
        found.append(("seeds that would decide", f"{needed} (with probability 80 %, were the estimate true)"))
    return found


def contrast_name(contrast: dict[str, float]) -> str:
    """ "a − b", of {"a": 1, "b": -1}; other weights are written before the name."""
    text = ""
    for variant, weight in contrast.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} × "
        sign = (" − " if text else "−") if weight < 0 else (" + " if text else "")
        text += f"{sign}{size}{variant}"
    return text


def picture(path: Path) -> dict[str, Any]:
    """A PNG as {"name" in words, "data" in base64, "width", "height" in pixels}."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of the header, always the first chunk
    name = re.sub(r"[_\s]+", " ", path.stem).strip()
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


def _ends(mean: float, half: float) -> tuple[float, float]:
    return (mean, mean) if math.isnan(half) else (mean - half, mean + half)


def _whisker(axis: Axis, mean: float, low: float, high: float) -> dict[str, Any]:
    """Positions of a dot and its interval; whether the interval goes on beyond the axis."""
    # Without an interval, low = high = mean: there is nothing to draw but the dot.
    cut = {"cut_low": low < axis.low, "cut_high": high > axis.high}
    return {"mean": axis.at(mean), "low": axis.at(low), "high": axis.at(high)} | cut


def _number(mean: float, half: float, metric: str) -> str:
    digits = 2 if is_fraction(metric) else 3
    return _minus(f"{mean:.{digits}f}") + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def _signed(value: float) -> str:
    return _minus(f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}")


def _minus(text: str) -> str:
    """Numbers below zero with a true minus sign."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def _path(across: list[float], down: list[float]) -> str:
    """The path of a line in a box of 1000 by 1000; down: percent from the bottom."""
    points = [f"{x:.5g},{10 * (100 - y):.5g}" for x, y in zip(across, down, strict=True)]
    return "M" + "L".join(points if len(points) > 1 else points * 2)  # a point is drawn by its round cap


def _outline(across: list[float], mean: np.ndarray, half: np.ndarray, y: Axis) -> str:
    low, high = ([y.at(value) for value in part] for part in (mean - half, mean + half))
    return _path([*across, *across[::-1]], [*high, *low[::-1]]) + "Z"


def _decades(low: float, high: float, most: int) -> list[float]:
    """Round values of a logarithmic axis: 1, 2 and 5 times powers of ten, or those powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(values) <= most:
            return values
    return values[:: -(-len(values) // most)]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
