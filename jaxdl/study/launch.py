"""What a command asks for: groups of runs with their data and settings. The one place where studies meet training."""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxdl import data, models, training
from jaxdl.errors import UserError
from jaxdl.study import folders, sweep
from jaxdl.study.config import Config, content_hash, flatten
from jaxdl.study.runs import Run, Runs, resolve, tuning
from jaxdl.training.stopping import Requests

if TYPE_CHECKING:
    from jaxdl.study.command import Study


class Asked(NamedTuple):
    """What one command asks for.

    values: the config as nested plain values; only: globs of variants, "" for all; swept: the texts of --sweep
    command: which asks for the same again
    """

    values: dict[str, Any]
    workdir: Path
    only: str
    swept: tuple[str, ...]
    command: str


@dataclasses.dataclass
class Group:
    """The runs that differ only in seed, variant and hyperparameters: one source, one folder of programs.

    point: where they stand on the grids of keys that are no hyperparameters
    failure: of its shape evaluation, "" where there was none; training it fails in the same way
    """

    point: dict[str, Any]
    config: Config
    source: data.Source
    runs: Runs
    settings: training.Settings
    failure: str = ""

    def named(self, fit: str) -> str:
        """What a fit of this group is called beside those of others."""
        return f"{sweep.named(self.point)}: {fit}" if self.point else fit

    def stored(self, may_train: bool) -> "Group":
        """The same group, quiet; unless it may train, its fits only give back what is stored."""
        settings = dataclasses.replace(self.settings, train=may_train, progress=lambda _: None)
        return dataclasses.replace(self, settings=settings)

    def where(self, chosen: np.ndarray) -> Runs:
        """The group's runs among the chosen ones of the whole study, bool [R]."""
        return self.runs.where(np.array([chosen[owner] for (owner,) in self.runs.owners], bool))


@dataclasses.dataclass
class Launch:
    """A study as one command asks for it.

    rows, configs, places: each run, its resolved config and its folder; plans: every fit, by shape evaluation alone
    """

    study: "Study"
    asked: Asked
    config: Config
    grid: dict[str, tuple]
    groups: list[Group]
    rows: list[Run]
    configs: list[dict[str, Any]]
    places: list[Path]
    plans: list[tuple[Group, training.Plan]]
    tensorboard: bool

    @property
    def widths(self) -> dict[str, int]:
        """{fit: runs side by side on a device}."""
        return {group.named(each.name): each.width for group, each in self.plans}

    @functools.cached_property
    def opening(self) -> list[str]:
        """What the study has a reader see first, whole."""
        return self.opened(0)

    def opened(self, most: int) -> list[str]:
        """The study's opening, its tables cut to `most` rows: that of the first group that can be trained."""
        group = next((group for group in self.groups if not group.failure), self.groups[0])
        lines = self.study.opening(group.config, group.source, group.runs, most)
        if not lines or len(self.groups) == 1:
            return lines
        return [f"of {sweep.named(group.point)}, one of {len(self.groups)} points of the sweep:", *lines]

    def missing(self) -> np.ndarray:
        """Which runs have not ended, bool [R]."""
        return np.array([not folders.is_done(place) for place in self.places])

    def failed(self) -> np.ndarray:
        """Which runs ended by an unexpected failure, bool [R]."""
        return np.array([folders.read_run(place)["status"] == "failed" for place in self.places])

    def asks(self) -> dict[str, Any]:
        """What was asked for, as it stands in environment.json."""
        asked = self.asked
        study = {"study": self.study.name, "select": self.study.select, "columns": self.study.columns}
        return study | {"values": asked.values, "only": asked.only, "swept": asked.swept}

    def identity(self) -> str:
        """What tells the launch from one of other runs, as text."""
        return content_hash({str(n): [[*row[:2], row.hash] for row in g.runs.rows] for n, g in enumerate(self.groups)})

    def statuses(self, group: Group) -> Counter:
        """{status: how many runs} of a group."""
        return Counter(folders.read_run(self.places[owner])["status"] for (owner,) in group.runs.owners)


def prepare(study: "Study", asked: Asked, requests: Requests) -> Launch:
    """Start the devices, load the data, resolve the runs. UserError for what is not possible."""
    values, read = asked.values, set()
    config = Config(values, read=read)
    training.devices.start(config.runtime.device)
    config.hyper.as_dict()  # all of them go into the programs, whoever reads them there
    swept = sweep.grids(asked.swept, values, config.sweeps.as_dict())
    static = {key: grid for key, grid in swept.items() if not key.startswith("hyper.")}
    launch = Launch(
        study, asked, config, tuning(config, swept) | static, [], [], [], [], [], config.runtime.tensorboard
    )
    for point in sweep.points(static):
        own = Config(sweep.at(values, point), read=read)
        runtime = own.runtime
        if runtime.runs_at_once < 0:
            raise UserError(f"runs_at_once={runtime.runs_at_once} is not possible: valid is 1 or more, 0 for what fits")
        source = study.source(own)
        known = fingerprint(own, source)
        found = resolve(own, study.variants, asked.only, known, swept, point)
        # Hyperparameters are part of each run's own key: fits that share all else lie side by side.
        program = {key: value for key, value in own.content().items() if key != "hyper"}
        settings = training.Settings(
            folder=asked.workdir / "programs" / content_hash(program | {"fingerprint": known}),
            devices=jax.local_devices(),
            strategy=runtime.strategy,
            checkpoint_seconds=runtime.checkpoint_seconds,
            memory=runtime.memory_gigabytes * 1e9,
            runs_at_once=runtime.runs_at_once,
            requests=requests,
        )
        owners = [[len(launch.rows) + number] for number in range(len(found))]
        launch.groups.append(Group(point, own, source, Runs([run for run, _ in found], owners), settings))
        launch.rows += [run for run, _ in found]
        launch.configs += [
            resolved | {"seed": run.seed, "normalisation": source.normalisation.plain()} for run, resolved in found
        ]
    launch.places = [folders.run_folder(asked.workdir, run) for run in launch.rows]
    return launch


def check(launch: Launch) -> Launch:
    """The launch with the plan of all its fits. UserError for what a study finds wrong with its config, or ignores."""
    launch.plans = plan(launch, np.full(len(launch.rows), True))
    partly = launch.asked.only or any(group.failure for group in launch.groups)  # may not have come to all keys
    unread = launch.config.unread() if not partly else []
    if unread:
        raise UserError(f"config key {unread[0]!r} is read by no code of this study: remove it or correct its name")
    return launch


def fingerprint(config: Config, source: data.Source) -> str:
    """A hash of what the config only names: the data, and the file of a user's own model."""
    model = models.by_name.fingerprint(flatten(config.content()).get("model.name", ""))
    return f"{source.fingerprint}-{model}" if model else source.fingerprint


def plan(launch: Launch, chosen: np.ndarray) -> list[tuple[Group, training.Plan]]:
    """Every fit that the study makes for the chosen runs [R], by shape evaluation alone.

    A group that fails unexpectedly is noted, and stops no others.
    """
    plans: list[tuple[Group, training.Plan]] = []
    for group in launch.groups:

        def fit(
            name: str,
            task: Any,
            optimizer: Callable,
            source: Any,
            runs: Runs,
            extra: Any = None,
            group: Group = group,
            **options: Any,
        ) -> training.Fitted:
            arrays = runs.arrays() | (extra or {})
            planned, fitted = training.plan(name, task, optimizer, source, arrays, group.settings, **options)
            plans.append((group, planned))
            return fitted

        runs = group.where(chosen)
        try:
            for _ in launch.study.train(group.config, group.source, runs, fit) if len(runs) else ():
                pass
        except UserError:
            raise
        except Exception as error:
            group.failure = repr(error)
    return plans


def share(launch: Launch, index: int, count: int) -> np.ndarray:
    """Which runs are those of one of `count` processes that divide a study, bool [R].

    Whole groups where there are enough of them, since each means programs of its own; else their seeds, since what
    runs share (pretrained layers) they share with runs of the same seed.
    """
    parts = -(-count // len(launch.groups))
    mine = np.zeros(len(launch.rows), bool)
    for number, group in enumerate(launch.groups):
        for row, (owner,) in zip(group.runs.rows, group.runs.owners, strict=True):
            mine[owner] = (number * parts + row.seed % parts) % count == index
    return mine


def fitter(group: Group, places: list[Path] | None = None) -> Callable[..., training.Fitted]:
    """`training.fit` for the runs of a group; with `places`, each row of metrics goes to its runs' folders."""

    def fit(
        name: str, task: Any, optimizer: Callable, source: Any, runs: Runs, extra: Any = None, **options: Any
    ) -> training.Fitted:
        def log(fit_name: str, numbers: np.ndarray, step: int, values: dict[str, np.ndarray]) -> None:
            for row, number in enumerate(numbers):
                metrics = {metric: float(value[row]) for metric, value in values.items()}
                for owner in runs.owners[number]:
                    folders.append(places[owner], {"fit": fit_name, "step": step} | metrics)

        settings = dataclasses.replace(group.settings, log=log) if places else group.settings
        identity = [json.dumps(row.settings, sort_keys=True) for row in runs.rows]
        arrays = runs.arrays() | (extra or {})
        return training.fit(name, task, optimizer, source, arrays, settings, identity=identity, **options)

    return fit
