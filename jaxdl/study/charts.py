"""The charts of a page, as plain data that its template draws as SVG: dots, learning curves, claims.

Positions along an axis are percent of its length: the charts stretch with the page, their text and dots do not.
"""

import math
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from jaxdl.study.claims import Finding, Term
from jaxdl.study.results import interval, is_fraction
from jaxdl.study.statistics import Estimate

POINTS = 200  # of a learning curve, at most
CURVES = 8  # shown at the start, at most; there are as many colours
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4", "9 3 2 3 2 3")
SYMBOLS = {"holds": "✓", "contradicted": "✗", "undecided": "?", "no verdict": "–"}


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
        return [{"at": self.at(value), "text": minus(f"{value:,.10g}")} for value in values]


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


class Mean(NamedTuple):
    """A dot with its interval, mean ± half; half: nan where there is none; text: how the numbers are written."""

    name: str
    mean: float
    half: float
    text: str


def dots(about: str, means: Sequence[Mean], missing: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Means with their intervals, one below the other. about: the caption; missing: (name, why there is no mean)."""
    chart = {"about": about, "dots": [], "missing": missing, "ticks": [], "logarithmic": False}
    if not means:
        return chart
    reach = [(each.mean, *_ends(each.mean, each.half)) for each in means]
    axis = fitting_axis(*zip(*reach, strict=True), room=0.5)
    drawn = [
        {"name": each.name, "text": minus(each.text)} | _whisker(axis, *ends)
        for each, ends in zip(means, reach, strict=True)
    ]
    return chart | {"dots": drawn, "ticks": axis.ticks(), "logarithmic": axis.logarithmic}


Band = tuple[Sequence[int], Sequence[Sequence[float]]]  # steps [T], values [T][seeds]


def curves(title: str, bands: dict[str, Band], missing: Sequence[tuple[str, str]], percent: bool) -> dict[str, Any]:
    """A metric against steps, one line a name, the first 8 switched on; lines are those of the page.

    title: the metric in words; bands: {name: (steps, values)}; missing: (name, why it has no line)
    percent: whether to show the metric in %

    {"lines": [{"name", "final", "on", "color", "dash", "path", "band"}], "missing", "data": for the script:
    a list of {"x": steps, "y": means, "h": half-widths or null}, "x" and "y": ticks, "logarithmic", "title"}
    """
    scale, places = (100, 2) if percent else (1, 3)
    found = {}
    for name, (steps, values) in bands.items():
        kept = np.unique(np.linspace(0, len(steps) - 1, POINTS).round().astype(int))
        pairs = np.array([interval(scale * np.array(values[place])) for place in kept])  # [T, 2]
        found[name] = np.array(steps)[kept], pairs[:, 0], pairs[:, 1]
    if not found:
        return {"lines": []}
    means, halves = (np.concatenate([line[part] for line in found.values()]) for part in (1, 2))
    known = np.nan_to_num(halves)
    y = fitting_axis(means.tolist(), (means - known).tolist(), (means + known).tolist(), room=0.15)
    first, last = (int(pick(pick(line[0]) for line in found.values())) for pick in (min, max))
    x = Axis(first, last if last > first else first + 1)
    lines, data = [], []
    for number, (name, (steps, mean, half)) in enumerate(found.items()):
        across = [10 * x.at(step) for step in steps]
        spread = "" if math.isnan(half[-1]) else f" ± {half[-1]:.{places}f}"
        lines.append(
            {
                "name": name,
                "number": number,
                "final": minus(f"{mean[-1]:.{places}f}") + spread,
                "on": number < CURVES,
                "color": number % CURVES,
                # No two of the first 48 lines have both the colour and the dashes in common.
                "dash": DASHES[(number % CURVES + number // CURVES) % len(DASHES)],
                "path": _path(across, [y.at(value) for value in mean]),
                "band": _outline(across, mean, half, y) if np.isfinite(half).all() else "",
            }
        )
        digits = [[float(f"{value:.5g}") if math.isfinite(value) else None for value in part] for part in (mean, half)]
        data.append({"x": steps.tolist(), "y": digits[0], "h": digits[1]})
    return {
        "lines": lines,
        "missing": missing,
        "data": {"lines": data, "low": x.low, "high": x.high, "digits": places},
        "x": x.ticks(5),
        "y": y.ticks(),
        "logarithmic": y.logarithmic,
        "title": title,
    }


def forest(findings: Sequence[Finding], percent: Callable[[str], bool] = is_fraction) -> list[dict[str, Any]]:
    """Claims in groups of one metric, which share an axis: [{"metric", "unit", "axis": ticks, "zero", "claims"}].

    percent: which metrics are stored as fractions and shown in %
    """
    groups = []
    order = list(dict.fromkeys(finding.claim.metric for finding in findings))
    ordered = sorted(findings, key=lambda finding: order.index(finding.claim.metric))
    for metric, members in groupby(ordered, key=lambda finding: finding.claim.metric):
        members = list(members)
        scale, unit = (100, "percentage points") if percent(metric) else (1, "")
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
    sides = {"less": (axis.low, margin), "greater": (-margin, axis.high), "equal": (-margin, margin)}
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
    less, more = (f"{sign * margin or 0:g}" for sign in (1, -1))
    where = {"less": f"below {less}", "greater": f"above {more}", "equal": f"within ± {margin:g} of 0"}[claim.relation]
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
        "facts": _statistics(finding, finding.weakest, scale),
        "notes": finding.notes,
    }


def _statistics(finding: Finding, weakest: Estimate | None, scale: float) -> list[tuple[str, str]]:
    if weakest is None:
        return []
    found = [
        ("p", f"{finding.p:.2g}, two-sided"),
        ("p after Holm's correction", f"{finding.adjusted:.2g}"),
        ("seeds", f"{weakest.seeds}"),
        ("test examples", f"{weakest.examples:,}" if weakest.examples else "- (the interval is over seeds alone)"),
    ]
    if finding.claim.margin:
        found.append(("margin", f"{scale * finding.claim.margin:g}"))
    if finding.verdict == "undecided":
        needed = f"about {finding.needed:,}" if finding.needed else "no number of seeds on this test set"
        found.append(("seeds that would decide", f"{needed} (with probability 80 %, were the estimate true)"))
    return found


def contrast_name(contrast: dict[Term, float]) -> str:
    """ "a − b", of {"a": 1, "b": -1}; other weights are written before the name."""
    text = ""
    for variant, weight in contrast.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} × "
        sign = (" − " if text else "−") if weight < 0 else (" + " if text else "")
        text += f"{sign}{size}{variant}"
    return text


def _ends(mean: float, half: float) -> tuple[float, float]:
    return (mean, mean) if math.isnan(half) else (mean - half, mean + half)


def _whisker(axis: Axis, mean: float, low: float, high: float) -> dict[str, Any]:
    """Positions of a dot and its interval; whether the interval goes on beyond the axis."""
    # Without an interval, low = high = mean: there is nothing to draw but the dot.
    cut = {"cut_low": low < axis.low, "cut_high": high > axis.high}
    return {"mean": axis.at(mean), "low": axis.at(low), "high": axis.at(high)} | cut


def _signed(value: float) -> str:
    return minus(f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}")


def minus(text: str) -> str:
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
