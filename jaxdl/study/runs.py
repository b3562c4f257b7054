"""Which runs a study consists of: variants x trials x seeds."""

import fnmatch
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdl.errors import UserError, unknown
from jaxdl.study import sweep
from jaxdl.study.config import Config, content_hash


class Run(NamedTuple):
    """One variant at one point of its grids with one seed.

    settings: what the variant changes beyond `hyper`, read by the study's `train`
    hash: of everything that defines the run but its seed
    point: {dotted key: value}, where it stands on the grids that the variant is tuned and swept over
    """

    variant: str
    seed: int
    settings: dict[str, Any]
    hyper: dict[str, float]
    hash: str
    point: dict[str, Any]

    @property
    def identity(self) -> str:
        """What distinguishes the run from others in one fit, as text."""
        return json.dumps([self.seed, self.settings, self.hyper], sort_keys=True)


class Done(NamedTuple):
    """Finished runs, as a study's `train` yields them: R = len(runs).

    metrics: {"split_name": float [R]}
    outcomes: {"test_name": float32 [R, N]}, one value per test example
    diverged: text [R], the fit and step at which the loss was not finite, "" where it always was (see `divergence`)
    measure: gives further metrics, what takes time on the host; called when the runs are stored, never for a plan
    """

    runs: "Runs"
    metrics: dict[str, np.ndarray]
    outcomes: dict[str, np.ndarray]
    diverged: np.ndarray
    measure: Callable[[], dict[str, np.ndarray]] = dict


def divergence(fit: str, steps: np.ndarray, earlier: np.ndarray | None = None) -> np.ndarray:
    """Where runs first diverged: text [R], of `Fitted.diverged` [R] and what is known of earlier fits."""
    here = np.array([f"{fit} at step {step}" if step else "" for step in steps], object)
    return here if earlier is None else np.where(earlier != "", earlier, here)


class Runs:
    """Some runs of a study, in order.

    owners: for each row the numbers of the study's runs that it belongs to. A row that several runs share (a
        pretrained layer) belongs to all of them, and its metrics are logged in each one's folder.
    """

    def __init__(self, rows: Sequence[Run], owners: Sequence[Sequence[int]]) -> None:
        self.rows, self.owners = tuple(rows), tuple(tuple(owner) for owner in owners)

    def __len__(self) -> int:
        return len(self.rows)

    def arrays(self) -> dict[str, Any]:
        """{"seed": uint32 [R], "hyper": {name: float32 [R]}}: what the compiled program gets."""
        names = self.rows[0].hyper
        return {
            "seed": np.array([row.seed for row in self.rows], np.uint32),
            "hyper": {name: np.array([row.hyper[name] for row in self.rows], np.float32) for name in names},
        }

    def setting(self, name: str) -> np.ndarray:
        """The value of one setting for each run, [R]."""
        return np.array([row.settings[name] for row in self.rows])

    def where(self, chosen: np.ndarray) -> "Runs":
        """The runs at the True places of a mask [R]."""
        index = np.flatnonzero(chosen)
        return Runs([self.rows[i] for i in index], [self.owners[i] for i in index])

    def grouped(self, key: Callable[[Run], Any]) -> list[tuple[Any, "Runs"]]:
        """[(value, the runs whose key it is)] of each value of key(row), in the order of the runs."""
        values, different = [key(row) for row in self.rows], []
        for value in values:  # perhaps a dictionary, which can't be hashed
            if value not in different:
                different.append(value)
        return [(value, self.where(np.array([each == value for each in values]))) for value in different]

    def distinct(self, *without: str) -> tuple["Runs", np.ndarray]:
        """The runs that still differ when the named settings and hyperparameters are left out.

        Returns them, without those names, and the place [R] of each run among them.
        """
        rows: dict[str, Run] = {}
        owners: dict[str, list[int]] = {}
        texts = []
        for row, owner in zip(self.rows, self.owners, strict=True):
            kept = row._replace(
                settings={key: value for key, value in row.settings.items() if key not in without},
                hyper={key: value for key, value in row.hyper.items() if key not in without},
            )
            texts.append(kept.identity)
            rows.setdefault(kept.identity, kept)
            owners.setdefault(kept.identity, []).extend(owner)
        places = {text: place for place, text in enumerate(rows)}
        return Runs(list(rows.values()), list(owners.values())), np.array([places[text] for text in texts])

    def places_in(self, others: "Runs") -> np.ndarray:
        """Where each of these runs stands among `others`, [R]."""
        places = {row.identity: place for place, row in enumerate(others.rows)}
        return np.array([places[row.identity] for row in self.rows])


def resolve(
    config: Config,
    variants: Callable[[Config], dict[str, dict[str, Any]]],
    only: str,
    fingerprint: str,
    swept: dict[str, tuple],
    static: dict[str, Any],
) -> list[tuple[Run, dict[str, Any]]]:
    """All runs that a command asks for with this config, each with its resolved config.

    A variant changes hyperparameters ("hyper.NAME") and settings (any other name). `config.tune` holds a grid,
    {name of a hyperparameter: values}, the same for every variant but those that set the value themselves. A variant
    that sets a hyperparameter to a tuple of values has a grid of its own.

    swept: {dotted key: values}, all that --sweep asks for; a grid of a hyperparameter takes the place of tune's
    static: where this config stands on the grids of the keys that are no hyperparameters
    """
    labels = variants(config)
    if not labels:
        raise UserError("the config asks for no variant at all")
    base = config.content()
    if config.seeds < 1:
        raise UserError(f"seeds={config.seeds} is not possible: at least 1 is needed")
    grids = tuning(config, swept)
    found = []
    for label in _chosen(list(labels), only):
        own = labels[label]
        both = next((key for key in swept if key in own), None)
        if both:
            raise UserError(
                f"{both} is set both by --sweep and by the variant {label!r} (to {own[both]}): sweep another key, or "
                "choose variants with --only"
            )
        its_grids = {key: value for key, value in own.items() if key.startswith("hyper.") and isinstance(value, tuple)}
        for key, grid in its_grids.items():
            _check_grid(f"{key} of the variant {label!r}", key, grid)
        for point in sweep.points({key: grid for key, grid in grids.items() if key not in own} | its_grids):
            for seed in range(config.seeds):
                found.append(_run(label, seed, own | point, base, fingerprint, static | point))
    return found


def own_grids(runs: Sequence[Run], grid: dict[str, Sequence[Any]]) -> dict[tuple[str, tuple], list[str]]:
    """{("hyper.NAME", values): variants} of the grids of hyperparameters other than `grid`, which all share."""
    values: dict[tuple[str, str], dict[float, None]] = {}
    for run in runs:
        for key, value in run.point.items():
            if key.startswith("hyper."):
                values.setdefault((key, run.variant), {})[value] = None
    found: dict[tuple[str, tuple], list[str]] = {}
    for (key, variant), own in values.items():
        if tuple(own) != tuple(grid.get(key, ())) and len(own) > 1:
            found.setdefault((key, tuple(own)), []).append(variant)
    return found


def tuning(config: Config, swept: dict[str, tuple]) -> dict[str, tuple]:
    """{"hyper.NAME": values}: the grids that every variant gets, checked."""
    hyper = config.content()["hyper"]
    for name, grid in config.tune.as_dict().items():
        if name not in hyper:
            raise unknown("hyperparameter in tune", name, hyper)
        _check_grid(f"tune.{name}", f"tune.{name}", grid)
    own = {f"hyper.{name}": tuple(grid) for name, grid in config.content()["tune"].items()}
    return own | {key: grid for key, grid in swept.items() if key.startswith("hyper.")}


def _check_grid(what: str, key: str, grid: Any) -> None:
    if isinstance(grid, str) or not all(isinstance(value, int | float) for value in grid):
        raise UserError(f"{what}={grid!r} is not possible: a grid is numbers, as in --config.{key}=0.1,0.3")
    if not grid or len(set(grid)) < len(grid):
        raise UserError(f"{what}={tuple(grid)} is not possible: a grid has one or more different values")


def _run(
    label: str, seed: int, changes: dict[str, Any], base: dict[str, Any], fingerprint: str, point: dict[str, Any]
) -> tuple[Run, dict[str, Any]]:
    """One run and its resolved config."""
    hyper, settings = {name: float(value) for name, value in base["hyper"].items()}, {}
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        if section != "hyper":
            settings[key] = value
        elif name not in hyper:
            raise unknown(f"hyperparameter in variant {label!r}", name, hyper)
        else:
            hyper[name] = float(value)
    for name, value in hyper.items():
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"hyper.{name}={value} is not possible: valid is 0 or more")
    resolved = base | {"hyper": hyper, "variant": settings, "fingerprint": fingerprint}
    return Run(label, seed, settings, hyper, content_hash(resolved), point), resolved


def _chosen(labels: list[str], only: str) -> list[str]:
    patterns = [pattern.strip() for pattern in only.split(",") if pattern.strip()]
    for pattern in patterns:
        if not fnmatch.filter(labels, pattern):
            raise unknown("variant in --only", pattern, labels)
    return [label for label in labels if not patterns or any(fnmatch.fnmatch(label, p) for p in patterns)]
