"""What `launch.compare` reads: study folders, anybody's results as CSV, and claims as TOML."""

import csv
import difflib
import json
import math
import re
import textwrap
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxdl.errors import UserError, unknown
from jaxdl.study.config import NOT_HASHED, flatten

# The modules that read folders and judge claims import jax: functions import them, so that --help is quick.
if TYPE_CHECKING:
    from jaxdl.study.claims import Claim

COLUMNS = ("variant", "seed", "metric", "value")
SELECT = ("validation_error", "validation_loss")  # the first that all have chooses the tuning point
CLAIM = ("id", "text", "paper", "metric", "relation")
RELATIONS = {
    "less": ("one", "other"),
    "greater": ("one", "other"),
    "equal": ("one", "other", "margin"),
    "increasing": ("variants",),
    "decreasing": ("variants",),
}


class Run(NamedTuple):
    """A run as an input holds it.

    point: what tells tuning points apart; status: done, diverged, failed, running or absent
    settings: its dotted config without hyperparameters; folder: where the values of test examples lie
    """

    variant: str
    point: str
    seed: int
    status: str
    metrics: dict[str, float]
    settings: dict[str, Any] = {}  # noqa: RUF012
    folder: Path | None = None


class Row(NamedTuple):
    """A variant at its chosen tuning point. diverged, failed, absent: how many runs have no metrics, and why."""

    variant: str
    runs: list[Run]
    diverged: int
    failed: int
    absent: int

    @property
    def done(self) -> int:
        """How many runs have metrics."""
        return len(self.runs) - self.diverged - self.failed - self.absent

    def values(self, metric: str) -> np.ndarray:
        """The metric of the runs that have it, [n]."""
        return np.array([run.metrics[metric] for run in self.runs if metric in run.metrics], np.float64)


class Comparison:
    """The rows of all inputs, where claims are looked up.

    notes: what a reader of the table must know
    """

    def __init__(self, inputs: Sequence[Path]) -> None:
        self.rows: list[Row] = []
        self.notes: list[str] = []
        for path, name in zip(inputs, _names(inputs), strict=True):
            rows, notes = choose(path, read(path))
            prefix = f"{name}/" if len(inputs) > 1 else ""
            self.rows += [row._replace(variant=prefix + row.variant) for row in rows]
            self.notes += [f"{name}: {note}" if prefix else note for note in notes]

    def row(self, variant: str) -> Row | None:
        """The row of a variant; None where no input has it."""
        return next((row for row in self.rows if row.variant == variant), None)

    def values(self, row: Row, metric: str) -> dict[int, Any]:
        """{seed: the values of test examples [N], or their mean alone} of the runs of a row that have the metric."""
        from jaxdl.study import folders

        return {
            run.seed: (folders.read_outcomes(run.folder) if run.folder else {}).get(metric, run.metrics[metric])
            for run in row.runs
            if metric in run.metrics
        }

    def metrics(self) -> list[str]:
        """All metrics, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for run in row.runs for name in run.metrics))

    def fraction(self, metric: str) -> bool:
        """Whether to show a metric as %: an error or accuracy that is stored as a fraction, as none above 1 is."""
        from jaxdl.study.results import is_fraction

        return is_fraction(metric) and all((np.abs(row.values(metric)) <= 1).all() for row in self.rows)


def _names(inputs: Sequence[Path]) -> list[str]:
    """What each input is called: its folder or file; the paths as they are given where those are alike."""
    names = [path.resolve().name if path.is_dir() else path.stem for path in inputs]
    return names if len(set(names)) == len(names) else [str(path) for path in inputs]


def read(path: Path) -> list[Run]:
    """The runs of a study folder or a CSV. UserError when it holds none or is wrong."""
    try:
        if path.is_dir():
            return read_folder(path)
        return read_csv(path)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None


def read_folder(folder: Path) -> list[Run]:
    """The runs of a study in the order of its results.csv; what that lacks, by name and hyperparameters."""
    found = []
    for place in folder.glob("*/*/seed=*"):
        number = place.name.removeprefix("seed=")
        if not (number.isdecimal() and place.is_dir()):
            continue
        config = _config(place)
        hyper = config.pop("hyper", {})
        out = ("seed", "normalisation", "environment", *NOT_HASHED)
        settings = {
            key: value
            for key, value in flatten(config).items()
            if not any(key == each or key.startswith(each + ".") for each in out)
        }
        variant, point = place.parts[-3:-1]
        status, metrics = _result(place)
        numbers = [value for value in hyper.values() if isinstance(value, int | float)]
        found.append((numbers, Run(variant, point, int(number), status, metrics, settings, place)))
    if not found:
        raise UserError(f"{folder} holds no runs: a study keeps them in VARIANT/HASH/seed=NUMBER of its --workdir")
    known = _order(folder / "results.csv")
    found.sort(key=lambda each: (known.get(each[1][:2], len(known)), each[1].variant, each[0], each[1][1:3]))
    return [run for _, run in found]


def _result(folder: Path) -> tuple[str, dict[str, float]]:
    """(status, metrics) of a run; what is half written, or is not what a study writes, counts as not there."""
    from jaxdl.study import folders

    try:
        record = folders.read_run(folder)
        status, metrics = record["status"], {name: float(value) for name, value in record["metrics"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return "absent", {}
    if status == "done":
        return ended(metrics) if metrics else ("absent", {})
    return (status if status in ("diverged", "failed", "running") else "absent"), {}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) and isinstance(config.get("hyper", {}), dict) else {}


def _order(path: Path) -> dict[tuple[str, ...], int]:
    """{(variant, hash): its place} in a results.csv; {} where there is none."""
    try:
        with path.open(newline="") as file:
            pairs = dict.fromkeys((line.get("variant"), line.get("hash")) for line in csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return {}
    return {pair: place for place, pair in enumerate(pairs)}


def ended(metrics: dict[str, float]) -> tuple[str, dict[str, float]]:
    """(status, metrics) of a run that ended: with a value that is not finite it is lost, as where jaxdl trains."""
    return ("done", metrics) if all(map(math.isfinite, metrics.values())) else ("diverged", {})


def read_csv(path: Path) -> list[Run]:
    """The runs of a CSV of variant, seed, metric and value. UserError with the line of a mistake."""
    values: dict[tuple[str, str, int], dict[str, float]] = {}
    lines: dict[tuple[str, str, int, str], int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                near = difflib.get_close_matches(missing[0], header, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}? " if near else ""
                there = textwrap.shorten(", ".join(header), 200)
                lacking = f"column{'s' * (len(missing) > 1)} {', '.join(missing)}"
                raise UserError(f"{path}: no {lacking}; {hint}its columns, by commas: {there}")
            for fields in reader:
                if any(field.strip() for field in fields):  # a spreadsheet may end in lines of commas
                    line = dict(zip(header, map(str.strip, fields), strict=False))
                    variant, seed, metric, value = _line(f"{path}, line {reader.line_num}", line)
                    key = variant, line.get("hash", ""), seed
                    first = lines.setdefault((*key, metric), reader.line_num)
                    if first != reader.line_num:
                        raise UserError(
                            f"{path}, line {reader.line_num}: variant {variant!r}, seed {seed}, metric {metric!r} is "
                            f"in line {first} already"
                        )
                    values.setdefault(key, {})[metric] = value
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error}") from None
    if not values:
        raise UserError(f"{path} holds no runs: there is no line below its header")
    return [Run(*key, *ended(metrics)) for key, metrics in values.items()]


def _line(where: str, line: dict[str, str]) -> tuple[str, int, str, float]:
    """(variant, seed, metric, value) of one line of a CSV. where: in words, for errors."""
    for name in COLUMNS:
        if not line.get(name):
            raise UserError(f"{where}: the column {name!r} is empty")
    seed = re.fullmatch(r"([+-]?\d+)(\.0*)?", line["seed"])  # tables with a gap turn 3 into 3.0
    if not seed:
        raise UserError(f"{where}: seed {line['seed']!r} is no whole number")
    try:
        return line["variant"], int(seed[1]), line["metric"], float(line["value"])
    except ValueError:
        raise UserError(f"{where}: value {line['value']!r} is no number") from None


def choose(path: Path, runs: Sequence[Run]) -> tuple[list[Row], list[str]]:
    """The row of each variant at its best tuning point, and what a reader must know of the choice.

    As in a study: a point that lost a run is chosen only if all points did; ties go to the first.
    """
    variants: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        variants.setdefault(run.variant, {}).setdefault(run.point, []).append(run)
    tuned = {variant: points for variant, points in variants.items() if len(points) > 1}
    several = [run for points in tuned.values() for own in points.values() for run in own]
    done = [run for run in several if run.status == "done"]
    select = next((name for name in SELECT if all(name in run.metrics for run in done)), None)
    if select is None:
        raise UserError(
            f"{path}: variant {next(iter(tuned))!r} has several tuning points (hashes), and not all runs have "
            f"{' or '.join(SELECT)} to choose one by"
        )
    notes = []
    if tuned:
        notes.append(f"Of several tuning points, that with the least mean {select} is compared.")
        keys = dict.fromkeys(key for run in several for key in run.settings)
        differ = {
            key
            for points in tuned.values()
            for key in keys
            if len({repr(run.settings.get(key)) for own in points.values() for run in own if run.settings}) > 1
        }
        if differ:
            notes.append(f"Points of a variant differ in more than hyperparameters: {', '.join(sorted(differ))}.")

    def rank(points: dict[str, list[Run]], point: str) -> tuple[bool, float]:
        known = [run.metrics[select] for run in points[point] if run.status == "done"]
        seeds = {run.seed for own in points.values() for run in own}
        return len(known) < len(seeds), float(np.mean(known)) if known else math.inf

    rows = []
    for variant, points in variants.items():
        best = min(points, key=lambda point: rank(points, point)) if variant in tuned else next(iter(points))
        chosen = sorted(points[best], key=lambda run: run.seed)
        status = [run.status for run in chosen]
        absent = status.count("running") + status.count("absent")
        rows.append(Row(variant, chosen, status.count("diverged"), status.count("failed"), absent))
    return rows, notes


def read_claims(path: Path, metrics: Sequence[str]) -> list["Claim"]:
    """The claims of a TOML file. metrics: those that the inputs have; none so far: any may come."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--claims={path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--claims={path} is no TOML: {' '.join(str(error).split())}") from None
    for key in content:
        if key != "claim":
            raise unknown(f"key in {path}", key, ["claim"])
    listed = content.get("claim", [])
    if not (isinstance(listed, list) and listed and all(isinstance(each, dict) for each in listed)):
        raise UserError(f"{path} holds no claims: each begins with [[claim]]")
    found = []
    for number, values in enumerate(listed):
        claim = _claim(f"claim {values.get('id', number + 1)!r}", values)
        if metrics and claim.metric not in metrics:
            raise unknown(f"metric of claim {claim.id!r}", claim.metric, metrics)
        if claim.id in [other.id for other in found]:
            raise UserError(f"{path} holds two claims with the id {claim.id!r}")
        found.append(claim)
    return found


def _claim(name: str, values: dict[str, Any]) -> "Claim":
    from jaxdl.study import claims

    relation = values.get("relation", "less")
    if relation not in list(RELATIONS):
        raise unknown(f"relation of {name}", relation, RELATIONS)
    valid = (*CLAIM, *RELATIONS[relation])
    for key in values:
        if key not in valid:
            raise unknown(f"key of {name}, whose relation is {relation!r},", key, valid)
    for key in valid:
        if key not in values:
            raise UserError(f"{name}: the key {key!r} is missing; needed: {', '.join(valid)}")
        if key == "margin":
            right, wanted = type(values[key]) in (int, float) and math.isfinite(values[key]), "a number"
        elif key == "variants":
            right = isinstance(values[key], list) and all(isinstance(each, str) for each in values[key])
            wanted = "a list of names"
        else:
            right, wanted = isinstance(values[key], str) and values[key] != "", "text in quotes"
        if not right:
            raise UserError(f"{name}: {key}={values[key]!r} is not possible: it is {wanted}")
    compared = values["variants"] if "variants" in values else [values["one"], values["other"]]
    if len(compared) < 2 or len(set(compared)) < len(compared):
        raise UserError(f"{name} needs two or more different variants, not {', '.join(compared) or 'none'}")
    made: dict[str, Callable[..., Any]] = {each: getattr(claims, each) for each in RELATIONS}
    return made[relation](**{key: value for key, value in values.items() if key != "relation"})
