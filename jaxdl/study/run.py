"""From a config to a finished comparison: plan, train what is missing, then table, figures and report."""

import dataclasses
import json
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdl import data, training
from jaxdl.errors import UserError
from jaxdl.study import claims, folders, page, report
from jaxdl.study.config import Config, content_hash
from jaxdl.study.progress import Display, duration
from jaxdl.study.results import Results
from jaxdl.study.runs import Runs, resolve
from jaxdl.training.stopping import Requests

if TYPE_CHECKING:
    from jaxdl.study.command import Study


@dataclasses.dataclass
class Launch:
    """A study as one command asks for it. configs: the resolved config of each run."""

    study: "Study"
    config: Config
    source: data.Source
    runs: Runs
    configs: list[dict[str, Any]]
    settings: training.Settings
    workdir: Path


def prepare(study: "Study", values: dict[str, Any], workdir: Path, only: str, requests: Requests) -> Launch:
    """Start the devices, load the data, resolve the runs. `values`: the config as nested plain values."""
    config = Config(values)
    runtime = config.runtime
    training.devices.start(runtime.device)
    source = data.load(config.data, config.batch_size, runtime.device_gigabytes * 1e9, runtime.workers)
    runs, configs = resolve(config, study.variants, only, source.fingerprint)
    # Hyperparameters are part of each run's own key: fits that share all else lie side by side.
    program = {key: value for key, value in values.items() if key != "hyper"} | {"fingerprint": source.fingerprint}
    settings = training.Settings(
        folder=workdir / "programs" / content_hash(program),
        devices=jax.devices(),
        strategy=runtime.strategy,
        checkpoint_seconds=runtime.checkpoint_seconds,
        memory=runtime.memory_gigabytes * 1e9,
        runs_at_once=runtime.runs_at_once,
        requests=requests,
    )
    return Launch(study, config, source, runs, configs, settings, workdir)


def run_study(
    study: "Study", values: dict[str, Any], workdir: Path, only: str, mode: str, command: str, requests: Requests
) -> Results | None:
    """Do what the command asks for.

    mode: "train" what is missing and report; "list" what that would be; "report" on what is there
    """
    started = time.monotonic()
    launch = prepare(study, values, workdir, only, requests)
    tensorboard = launch.config.runtime.tensorboard
    plans = plan(launch, launch.runs)
    unread = launch.config.unread() if not only else []  # a subset of the variants may not need all keys
    if unread:
        raise UserError(f"config key {unread[0]!r} is read by no code of this study: remove it or correct its name")
    if mode == "list":
        _print_plan(launch, plans)
        return None
    notes = study.notes(launch.config)
    if launch.config.data.order == "shared":
        notes.append("All runs saw the training examples in the same order.")
    places = [folders.run_folder(workdir, run) for run in launch.runs.rows]
    missing = np.array([not folders.is_done(place) for place in places])
    if mode == "report":
        if missing.all():
            raise UserError(f"--workdir={workdir} holds no finished run of this command: leave out --report to train")
        launch.settings.train = False
        command = folders.read_command(workdir) or command
        results, findings, drawn = _report(launch, command, notes)
        _print_report(launch, results, findings, drawn, notes, started, 0)
        return results
    with folders.locked(workdir):
        missing = np.array([not folders.is_done(place) for place in places])
        environment = folders.environment(launch.settings, {each.name: each.width for each in plans})
        changed = folders.changed_environment(workdir, environment)
        if changed and any(place.exists() for place in places):
            launch.settings.warn(f"note: {', '.join(changed)} changed since the last launch: the last bits may differ")
        folders.write(workdir / "environment.json", {"command": command} | environment)
        if missing.any():
            _train_missing(launch, missing, places, environment)
        if tensorboard:
            for place, new in zip(places, missing, strict=True):
                if new or not (place / "tensorboard").exists():
                    folders.write_tensorboard(place)
        results, findings, drawn = _report(launch, command, notes)
    _print_report(launch, results, findings, drawn, notes, started, int(missing.sum()))
    return results


def _print_report(
    launch: Launch,
    results: Results,
    findings: list[claims.Finding],
    drawn: list[str],
    notes: list[str],
    started: float,
    trained: int,
) -> None:
    study, workdir = launch.study, launch.workdir
    print(textwrap.fill(study.doc.strip().splitlines()[0], 98))
    report.print_table(results, study.columns, notes)
    report.print_claims(findings)
    there = sum(record["status"] in ("done", "diverged") for record in results.records) - trained
    print(
        f"\n{trained} run{'s' * (trained != 1)} trained, {there} already there; "
        f"{duration(time.monotonic() - started)}"
    )
    names = textwrap.fill(", ".join(drawn), 88, initial_indent=" " * 10, subsequent_indent=" " * 10)
    print(f"pictures  {workdir / 'figures'}\n{names}")
    print(f"report    {workdir / 'report.html'}, report.md")
    print(f"all runs  {workdir / 'results.csv'}")
    for what, arguments in study.further.items():
        print(f"next      {what}:\n          {interpreter()} -m experiments.{study.name} {arguments}")


def interpreter() -> str:
    """How the user called Python, so that a printed command can be pasted: ".venv/bin/python", or "python"."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "python"


def plan(launch: Launch, runs: Runs) -> list[training.Plan]:
    """Every fit that the study makes for these runs, by shape evaluation alone."""
    plans: list[training.Plan] = []

    def fit(
        name: str, task: Any, optimizer: Callable, source: Any, runs: Runs, extra: Any = None, **options: Any
    ) -> training.Fitted:
        arrays = runs.arrays() | (extra or {})
        planned, fitted = training.plan(name, task, optimizer, source, arrays, launch.settings, **options)
        plans.append(planned)
        return fitted

    for _ in launch.study.train(launch.config, launch.source, runs, fit):
        pass
    return plans


def _train_missing(launch: Launch, missing: np.ndarray, places: list[Path], environment: dict[str, Any]) -> None:
    """Train the runs at the True places of `missing`, and store each in its folder when it ends."""
    runs = launch.runs.where(missing)
    for number in np.flatnonzero(missing):
        own = {
            "seed": launch.runs.rows[number].seed,
            "normalisation": launch.source.normalisation.plain(),  # for new images
            "environment": environment,
        }
        folders.begin(places[number], launch.configs[number] | own)
    try:
        with Display(plan(launch, runs)) as display:
            launch.settings.progress, launch.settings.warn = display.update, display.say
            for done in launch.study.train(launch.config, launch.source, runs, _fit(launch, places)):
                for row, owners in enumerate(done.runs.owners):
                    metrics = {name: float(v[row]) for name, v in done.metrics.items() if np.isfinite(v[row])}
                    outcomes = {name: values[row] for name, values in done.outcomes.items()}
                    for owner in owners:
                        folders.finish(places[owner], metrics, outcomes, done.diverged[row])
    except UserError:  # a mistake or a full disk: the runs stay where they are, for the next launch
        raise
    except Exception as error:
        for number in np.flatnonzero(missing):
            if not folders.is_done(places[number]):
                folders.fail(places[number], repr(error))
        raise


def _fit(launch: Launch, places: list[Path] | None = None) -> Callable[..., training.Fitted]:
    """`training.fit` for the runs of a study; with `places`, each row of metrics goes to its runs' folders."""

    def fit(
        name: str, task: Any, optimizer: Callable, source: Any, runs: Runs, extra: Any = None, **options: Any
    ) -> training.Fitted:
        def log(fit_name: str, numbers: np.ndarray, step: int, values: dict[str, np.ndarray]) -> None:
            for row, number in enumerate(numbers):
                metrics = {metric: float(value[row]) for metric, value in values.items()}
                for owner in runs.owners[number]:
                    folders.append(places[owner], {"fit": fit_name, "step": step} | metrics)

        settings = dataclasses.replace(launch.settings, log=log) if places else launch.settings
        identity = [json.dumps(row.settings, sort_keys=True) for row in runs.rows]
        arrays = runs.arrays() | (extra or {})
        return training.fit(name, task, optimizer, source, arrays, settings, identity=identity, **options)

    return fit


def _report(launch: Launch, command: str, notes: list[str]) -> tuple[Results, list[claims.Finding], list[str]]:
    """Write results.csv, claims.json, figures and the report from the run folders.

    Returns the results, what was found about the claims, and the names of the figures.
    """
    study, workdir = launch.study, launch.workdir
    results = Results(workdir, launch.runs.rows, launch.config.content()["tune"], study.select)
    launch.settings.progress = lambda _: None
    try:
        figures = study.figures(launch.config, launch.source, results, _fit(launch))
    except UserError as error:
        if launch.settings.train:
            raise
        launch.settings.warn(f"note: no pictures, because {error}")
        figures = {}
    pictures = report.save_figures(workdir / "figures", figures)
    drawn = [path.stem for path in pictures]
    folders.write_text(workdir / "results.csv", results.csv(study.name))
    findings = claims.judge(study.claims(launch.config), results)
    claims.write(workdir / "claims.json", findings)
    title = study.doc.strip().splitlines()[0]
    text = report.markdown(title, results, study.columns, findings, notes, drawn, command)
    folders.write_text(workdir / "report.md", text)
    place, environments = workdir / "report.html", results.environments()
    page.write(place, title, study.doc, results, study.columns, findings, notes, pictures, command, environments)
    return results, findings, drawn


def _print_plan(launch: Launch, plans: list[training.Plan]) -> None:
    variants = list(dict.fromkeys(run.variant for run in launch.runs.rows))
    seeds = launch.config.seeds
    print(
        f"{launch.study.name}: {len(launch.runs)} runs of {len(variants)} variants, {seeds} seeds at each tuning point"
    )
    print(textwrap.fill("variants: " + ", ".join(variants), 98, subsequent_indent="  "))
    print(f"\n{'program':<28}{'runs':>6}{'steps':>9}{'parameters':>13}{'width':>7}{'at once':>9}")
    for each in plans:
        numbers = f"{each.runs:>6}{each.steps:>9,}{each.parameters:>13,}{each.width:>7}{each.runs_at_once:>9}"
        print(f"{each.name:<28}{numbers}")
    total = sum(each.runs * each.steps for each in plans)
    print(f"\n{len(plans)} programs, {total:,} run-steps on {len(jax.devices())} {jax.devices()[0].platform} device(s)")
