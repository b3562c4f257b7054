"""What `launch.compare` reads: study folders, anybody's results as CSV, and claims as TOML."""

import contextlib
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

from jaxdl.errors import UserError, unknown
from jaxdl.study.config import NOT_HASHED, flatten

# The modules that read folders and judge claims import jax: functions import them, so that --help is quick.
if TYPE_CHECKING:
    from jaxdl.study.claims import Claim

COLUMNS = ("variant", "seed", "metric", "value")
OF_ALL = ("seed", "normalisation", "environment", *NOT_HASHED)  # of a config.json: no settings of one run
CLAIM = ("id", "text", "paper", "metric", "relation")
RELATIONS = {
    "less": ("one", "other"),
    "greater": ("one", "other"),
    "equal": ("one", "other", "margin"),
    "no_more": ("one", "other", "margin"),
    "increasing": ("variants",),
    "decreasing": ("variants",),
}


Value = float | int | str  # of a setting


class Run(NamedTuple):
    """A run as an input holds it.

    trial: what tells the trials of a variant apart; status: done, diverged, failed, running or absent
    settings: {dotted key: value} of its config, or the further columns of its line in a CSV
    folder: where its files lie; None of a CSV
    """

    variant: str
    trial: str
    seed: int
    status: str
    metrics: dict[str, float]
    settings: dict[str, Value] = {}  # noqa: RUF012
    folder: Path | None = None


class Study(NamedTuple):
    """What the last launch in a folder says of its study; empty where it does not.

    select: the metric that chooses among trials, and "min" or "max"; columns: the metrics of the study's table
    swept: the texts of --sweep
    """

    select: tuple[str, str] | None = None
    columns: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()


def read_study(path: Path) -> Study:
    """What environment.json of a folder says; nothing of a CSV, or where that is damaged or of an earlier version."""
    from jaxdl.study import folders

    def texts(key: str) -> tuple[str, ...]:
        found = asked.get(key)
        return found if isinstance(found, tuple) and all(isinstance(each, str) for each in found) else ()

    asked = (folders.read_asked(path) if path.is_dir() else None) or {}
    select = texts("select")
    known = (select[0], select[1]) if len(select) == 2 and select[1] in ("min", "max") else None
    return Study(known, texts("columns"), texts("swept"))


def read(path: Path, keys: Sequence[str] = ()) -> list[Run]:
    """The runs of a study folder or a CSV. UserError when it holds none or is wrong.

    keys: columns of a CSV that tell trials apart, beside `hash`
    """
    try:
        return read_folder(path) if path.is_dir() else read_csv(path, keys)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None


def read_folder(folder: Path) -> list[Run]:
    """The runs of a study in the order of its results.csv; what that lacks, by name and hyperparameters."""
    found = []
    for place in folder.glob("*/*/seed=*"):
        number = place.name.removeprefix("seed=")
        if not (number.isdecimal() and place.is_dir()):
            continue
        settings = {
            key: _value(value)
            for key, value in flatten(_config(place)).items()
            if not any(key == each or key.startswith(each + ".") for each in OF_ALL)
        }
        variant, trial = place.parts[-3:-1]
        status, metrics = _result(place)
        numbers = [value for key, value in settings.items() if key.startswith("hyper.") and is_number(value)]
        found.append((numbers, Run(variant, trial, int(number), status, metrics, settings, place)))
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
    return config if isinstance(config, dict) else {}


def _value(value: Any) -> Value:
    """What stands at a key: a number, or anything else as text; so does a number that is written as text."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
            value = int(value) if value.is_integer() and abs(value) < 1e15 else value
    return value if is_number(value) and math.isfinite(value) else str(value)


def is_number(value: Any) -> bool:
    """Whether something is a number that can be plotted; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl that have a fit and a step; what is half written is left out."""
    from jaxdl.study import folders

    try:
        rows = folders.read_metrics(folder)
    except ValueError:  # no text
        return []
    return [row for row in rows if isinstance(row, dict) and "fit" in row and is_number(row.get("step"))]


def read_environment(folder: Path) -> dict[str, Any]:
    """What a run was trained in; {} where that is not known."""
    environment = _config(folder).get("environment", {})
    return environment if isinstance(environment, dict) else {}


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


def read_csv(path: Path, keys: Sequence[str] = ()) -> list[Run]:
    """The runs of a CSV of variant, seed, metric and value. UserError with the line of a mistake.

    keys: further columns that tell trials apart, beside `hash`
    """
    runs: dict[tuple[str, str, int], Run] = {}
    lines: dict[tuple[str, str, int, str], tuple[int, dict[str, str]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = _header(path, next(reader, []))
            for fields in reader:
                if not any(field.strip() for field in fields):  # a spreadsheet may end in lines of commas
                    continue
                line = dict(zip(header, map(str.strip, fields), strict=False))
                variant, seed, metric, value = _line(f"{path}, line {reader.line_num}", line)
                settings = {key: _value(line[key]) for key in header if key not in COLUMNS and line.get(key)}
                parts = [f"{key}={settings.get(key, '')}" for key in keys if key in header]
                run = variant, " ".join([line.get("hash", ""), *parts]), seed
                number, first = lines.setdefault((*run, metric), (reader.line_num, line))
                if number != reader.line_num:
                    differ = [key for key in header if key not in COLUMNS and line.get(key) != first.get(key)]
                    hint = f", with another {differ[0]}: show it with --columns={differ[0]}" if differ else ""
                    raise UserError(
                        f"{path}, line {reader.line_num}: variant {variant!r}, seed {seed}, metric {metric!r} is "
                        f"in line {number} already{hint}"
                    )
                runs.setdefault(run, Run(*run, "done", {}, settings)).metrics[metric] = value
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error}") from None
    if not runs:
        raise UserError(f"{path} holds no runs: there is no line below its header")
    ends = {key: ended(run.metrics) for key, run in runs.items()}
    return [run._replace(status=ends[key][0], metrics=ends[key][1]) for key, run in runs.items()]


def _header(path: Path, fields: Sequence[str]) -> list[str]:
    """The names of the columns. UserError where one is missing."""
    header = [name.strip() for name in fields]
    missing = [name for name in COLUMNS if name not in header]
    if not missing:
        return header
    near = difflib.get_close_matches(missing[0], header, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    there = textwrap.shorten(", ".join(header), 200)
    lacking = f"column{'s' * (len(missing) > 1)} {', '.join(missing)}"
    raise UserError(f"{path}: no {lacking}; {hint}its columns, by commas: {there}")


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


def read_own_claims(folder: Path) -> tuple[list["Claim"], list[str]]:
    """The claims of a folder's study, as the last report had them; and what a reader must know. Damaged ones: none."""
    from jaxdl.study import claims

    path = folder / "claims.json"
    try:
        found = [claims.restore(each) for each in json.loads(path.read_text())]
    except FileNotFoundError:
        return [], []
    except (OSError, TypeError, ValueError):
        return [], ["The study's own claims are left out: its claims.json is damaged, or of an earlier version."]
    return found, ["Claims are those of the study, tested on the runs that are there now."] * bool(found)


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
