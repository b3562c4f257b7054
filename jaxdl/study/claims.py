"""What a paper claims, as data; and what the runs of a study say about it. No verdict is written by hand."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxdl.errors import UserError, unknown
from jaxdl.study import folders, statistics
from jaxdl.study.statistics import Estimate

VERDICTS = ("holds", "contradicted", "undecided", "no verdict")
RELATIONS = ("less", "greater", "equal")


class Cell(NamedTuple):
    """A variant's mean of another metric than the claim's, in the same units."""

    variant: str
    metric: str

    def __str__(self) -> str:
        return f"{self.metric} of {self.variant}"


Term = str | Cell  # a variant alone stands for its mean of the claim's metric


class Claim(NamedTuple):
    """One claim: every contrast, a weighted sum of means, is below, above or about zero.

    contrasts: ({variant or Cell(variant, metric): weight}, ...); several where the claim is about several differences
    relation: less, greater or equal: below `margin`, above -`margin` or within `margin` of 0, in the metric's units
    """

    id: str
    text: str
    paper: str
    metric: str
    contrasts: tuple[dict[Term, float], ...]
    relation: str
    margin: float = 0.0


def less(id: str, text: str, paper: str, metric: str, one: Term, other: Term) -> Claim:
    """The mean of variant `one` lies below that of `other`."""
    return Claim(id, text, paper, metric, ({one: 1.0, other: -1.0},), "less")


def greater(id: str, text: str, paper: str, metric: str, one: Term, other: Term) -> Claim:
    """The mean of variant `one` lies above that of `other`."""
    return Claim(id, text, paper, metric, ({one: 1.0, other: -1.0},), "greater")


def equal(id: str, text: str, paper: str, metric: str, one: Term, other: Term, margin: float) -> Claim:
    """The means of two variants differ by less than `margin`: an equivalence test, never the lack of a difference."""
    if not margin > 0:
        raise UserError(f"claim {id!r}: margin={margin} is not possible: equal within a margin above 0")
    return Claim(id, text, paper, metric, ({one: 1.0, other: -1.0},), "equal", margin)


def no_more(id: str, text: str, paper: str, metric: str, one: Term, other: Term, margin: float) -> Claim:
    """The mean of variant `one` is larger than that of `other` by less than `margin`, or smaller: non-inferiority."""
    return less(id, text, paper, metric, one, other)._replace(margin=margin)


def increasing(id: str, text: str, paper: str, metric: str, variants: Sequence[Term]) -> Claim:
    """The mean grows from each variant of the list to the next."""
    return Claim(id, text, paper, metric, tuple({b: 1.0, a: -1.0} for a, b in pairwise(variants)), "greater")


def decreasing(id: str, text: str, paper: str, metric: str, variants: Sequence[Term]) -> Claim:
    """The mean falls from each variant of the list to the next."""
    return increasing(id, text, paper, metric, variants)._replace(relation="less")


class Finding(NamedTuple):
    """What the runs say about a claim.

    estimates: of each contrast, None where there are fewer than two seeds
    p: of the claim's test, two-sided; adjusted: after Holm's correction over the claims of the study
    needed: seeds that would decide an undecided claim, were the estimate true; None where no number would
    notes: what a reader must know: lost runs, seeds left out, an interval over seeds alone
    """

    claim: Claim
    verdict: str
    estimates: tuple[Estimate | None, ...]
    p: float
    adjusted: float
    needed: int | None
    notes: tuple[str, ...]

    @property
    def weakest(self) -> Estimate | None:
        """The estimate of the contrast that is furthest from what is claimed."""
        known = [estimate for estimate in self.estimates if estimate is not None]
        return max(known, key=lambda estimate: _sides(self.claim, estimate)[0], default=None)


class Evidence(Protocol):
    """Where claims are looked up: `Results`, or other rows of variants with `runs`, `diverged` and `failed`."""

    def row(self, variant: str) -> Any | None:
        """The row of a variant; None when it was not run."""

    def values(self, row: Any, metric: str) -> dict[int, Any]:
        """{seed: the values of test examples [N], or their mean alone} of the runs that have the metric."""


def judge(claims: Sequence[Claim], results: Evidence) -> list[Finding]:
    """Test the claims about a study's results. A variant that the command left out gives no verdict."""
    findings = [_look(claim, results) for claim in claims]
    tested = [number for number, finding in enumerate(findings) if finding.verdict == "undecided"]
    for number, adjusted in zip(tested, statistics.holm([findings[n].p for n in tested]), strict=True):
        findings[number] = _decide(findings[number]._replace(adjusted=adjusted))
    return findings


def _look(claim: Claim, results: Evidence) -> Finding:
    """The estimates and the p-value of a claim; "undecided" until `_decide`."""
    if claim.relation not in RELATIONS:
        raise unknown(f"relation of claim {claim.id!r}", claim.relation, RELATIONS)
    terms = dict.fromkeys(term for contrast in claim.contrasts for term in contrast)
    cells = {term: term if isinstance(term, Cell) else Cell(term, claim.metric) for term in terms}
    rows = {cell.variant: results.row(cell.variant) for cell in cells.values()}
    absent = [name for name, row in rows.items() if row is None]
    if absent:
        return Finding(claim, "no verdict", (), 1.0, 1.0, None, (f"not run: {', '.join(absent)}",))
    notes = [
        f"{name} lost {row.diverged + row.failed} of {len(row.runs)} runs ({row.diverged} diverged)"
        for name, row in rows.items()
        if row.diverged + row.failed
    ]
    values = {term: results.values(rows[cell.variant], cell.metric) for term, cell in cells.items()}
    seeds = sorted(set.intersection(*(set(known) for known in values.values())))
    left_out = sorted(set().union(*values.values()) - set(seeds))
    if left_out:
        notes.append(f"seeds that not all variants have are left out: {', '.join(map(str, left_out))}")
    estimates = tuple(_estimate(contrast, values, seeds) for contrast in claim.contrasts)
    if None in estimates:
        notes.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)}: no verdict with fewer than two")
        return Finding(claim, "no verdict", estimates, 1.0, 1.0, None, tuple(notes))
    if not all(estimate.examples for estimate in estimates):
        notes.append("the interval covers seeds alone: the metric is no mean over test examples")
    sides = [_sides(claim, estimate) for estimate in estimates]
    # All contrasts must agree for the claim to hold; one is enough to contradict it. Either may come out, hence 2.
    p = min(1.0, 2 * min(max(holds for holds, _ in sides), len(sides) * min(against for _, against in sides)))
    return Finding(claim, "undecided", estimates, p, 1.0, None, tuple(notes))


def _sides(claim: Claim, estimate: Estimate) -> tuple[float, float]:
    """One-sided p-values: for the claim, and against it."""
    if claim.relation == "less":
        return estimate.below(claim.margin), estimate.above(claim.margin)
    if claim.relation == "greater":
        return estimate.above(-claim.margin), estimate.below(-claim.margin)
    inside = max(estimate.below(claim.margin), estimate.above(-claim.margin))
    outside = 2 * min(estimate.above(claim.margin), estimate.below(-claim.margin))
    return inside, min(1.0, outside)


def _decide(finding: Finding) -> Finding:
    claim, estimates = finding.claim, finding.estimates
    sides = [_sides(claim, estimate) for estimate in estimates]
    holds, against = max(side for side, _ in sides), len(sides) * min(side for _, side in sides)
    if finding.adjusted < 1 - statistics.LEVEL:
        return finding._replace(verdict="holds" if holds < against else "contradicted")
    # The test's level after Holm's correction, about: what is left of 5% for this claim.
    level = 1 - (1 - statistics.LEVEL) * finding.p / max(finding.adjusted, finding.p)
    needed = [statistics.seeds_to_decide(estimate, _bound(claim, estimate), level) for estimate in estimates]
    return finding._replace(needed=None if None in needed else max(needed))


def _bound(claim: Claim, estimate: Estimate) -> float:
    """The value that the mean must be told from: the end of the margin, the nearer one of two."""
    upper = claim.relation == "less" or (claim.relation == "equal" and estimate.mean > 0)
    return claim.margin if upper else -claim.margin


def _estimate(contrast: dict[Term, float], values: dict[Term, dict], seeds: list[int]) -> Estimate | None:
    if len(seeds) < 2:
        return None
    # {term: [S, N] or [S]}
    arrays = {term: [np.asarray(values[term][seed], np.float64) for seed in seeds] for term in contrast}
    shapes = {array.shape for each in arrays.values() for array in each}
    if len(shapes) > 1:  # some have outcomes for each example and some don't
        arrays = {term: [array.mean() for array in each] for term, each in arrays.items()}
    total = sum(weight * np.stack(arrays[term]) for term, weight in contrast.items())
    return statistics.crossed(total) if total.ndim == 2 else statistics.over_seeds(total)


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as it stands in claims.json; values in units of the metric."""
    claim, weakest = finding.claim, finding.weakest
    low, high = weakest.interval() if weakest else (None, None)
    return {
        "id": claim.id,
        "text": claim.text,
        "paper": claim.paper,
        "metric": claim.metric,
        "relation": claim.relation,
        "margin": claim.margin,
        "contrasts": [[_weighed(term, weight, claim) for term, weight in each.items()] for each in claim.contrasts],
        "estimate": weakest.mean if weakest else None,
        "ci_low": low,
        "ci_high": high,
        "seeds": weakest.seeds if weakest else 0,
        "examples": weakest.examples if weakest else 0,
        "p": finding.p,
        "p_adjusted": finding.adjusted,
        "verdict": finding.verdict,
        "seeds_needed": finding.needed,
        "notes": list(finding.notes),
    }


def _weighed(term: Term, weight: float, claim: Claim) -> dict[str, Any]:
    cell = term if isinstance(term, Cell) else Cell(term, claim.metric)
    return {"variant": cell.variant, "metric": cell.metric, "weight": weight}


def restore(plain: dict[str, Any]) -> Claim:
    """The claim that stands in claims.json, from what `plain` made of it. ValueError for anything else."""
    try:
        texts = [plain[key] for key in ("id", "text", "paper", "metric")]
        relation, margin, contrasts = plain["relation"], float(plain["margin"]), []
        for listed in plain["contrasts"]:
            contrast: dict[Term, float] = {}
            for each in listed:
                texts += [each["variant"], each["metric"]]
                cell = Cell(each["variant"], each["metric"])
                term = cell.variant if cell.metric == plain["metric"] else cell
                contrast[term] = contrast.get(term, 0.0) + float(each["weight"])
            contrasts.append(contrast)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no claim: {error!r}") from None
    numbers = [margin, *(weight for contrast in contrasts for weight in contrast.values())]
    sound = all(isinstance(text, str) for text in texts) and all(map(math.isfinite, numbers))
    possible = margin > 0 if relation == "equal" else margin >= 0
    if not (sound and possible and relation in RELATIONS and contrasts and all(contrasts)):
        raise ValueError(f"no claim: {texts[0]!r}")
    return Claim(*texts[:4], tuple(contrasts), relation, margin)


def write(path: Path, findings: Sequence[Finding]) -> None:
    """claims.json, derived like the report: always written anew."""
    folders.write_text(path, json.dumps([plain(finding) for finding in findings], indent=1) + "\n")
