"""From a config to a finished comparison: plan, train what is missing, then table, figures and report."""

import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdl import data, training
from jaxdl.errors import UserError
from jaxdl.study import folders, report
from jaxdl.study.config import Config, content_hash
from jaxdl.study.progress import Display, duration
from jaxdl.study.results import Results
from jaxdl.study.runs import Runs, resolve
from jaxdl.training.stopping import Requests

if TYPE_CHECKING:
    from jaxdl.study.command import Study


def run_study(
    study: "Study", values: dict[str, Any], workdir: Path, only: str, dry: bool, command: str, requests: Requests
) -> Results | None:
    """Do what the command asks for. `values`: the config as nested plain values, overrides applied."""
    started = time.monotonic()
    config = Config(values)
    runtime = config.runtime
    training.devices.start(runtime.device)
    source = data.load(config.data, config.batch_size)
    runs, configs = resolve(config, study.variants, only, source.fingerprint)
    program_hash = content_hash(
        {key: value for key, value in values.items() if key != "hyper"} | {"_": source.fingerprint}
    )
    settings = training.Settings(
        folder=workdir / "programs" / program_hash,
        devices=jax.devices(),
        strategy=runtime.strategy,
        checkpoint_seconds=runtime.checkpoint_seconds,
        memory=runtime.memory_gigabytes * 1e9,
        runs_at_once=runtime.runs_at_once,
        requests=requests,
    )
    tensorboard = runtime.tensorboard
    plans = plan_study(study, config, source, runs, settings)
    unread = config.unread() if not only else []
    if unread:
        raise UserError(f"config key {unread[0]!r} is read by no code of this study: remove it or correct its name")
    if dry:
        _print_plan(study, config, runs, plans)
        return None
    with folders.locked(workdir):
        return _run(study, config, source, runs, configs, settings, plans, workdir, command, tensorboard, started)


def plan_study(study: "Study", config: Config, source: Any, runs: Runs, settings: Any) -> list[training.Plan]:
    """Every fit of the study, by shape evaluation alone."""
    plans: list[training.Plan] = []

    def fit(
        name: str, task: Any, optimizer: Callable, source: Any, runs: Runs, extra: Any = None, **options: Any
    ) -> Any:
        planned, fitted = training.plan(
            name, task, optimizer, source, runs.arrays() | (extra or {}), settings, **options
        )
        plans.append(planned)
        return fitted

    for _ in study.train(config, source, runs, fit):
        pass
    return plans


def _run(
    study: "Study",
    config: Config,
    source: Any,
    runs: Runs,
    configs: list[dict[str, Any]],
    settings: Any,
    plans: list[training.Plan],
    workdir: Path,
    command: str,
    tensorboard: bool,
    started: float,
) -> Results:
    environment = folders.environment(command, list(settings.devices), settings.strategy)
    places = [folders.run_folder(workdir, run) for run in runs.rows]
    missing = np.array([not folders.is_done(place) for place in places])
    changed = folders.changed_environment(workdir, environment)
    if changed and any(place.exists() for place in places):
        settings.warn(f"note: {', '.join(changed)} changed since the last launch here: the last bits may differ")
    folders.write(workdir / "environment.json", environment)
    if missing.any():
        for number in np.flatnonzero(missing):
            folders.begin(places[number], configs[number] | {"seed": runs.rows[number].seed})
        try:
            with Display(plan_study(study, config, source, runs.where(missing), settings)) as display:
                _train(study, config, source, runs.where(missing), settings, places, display)
        except Exception as error:
            if not isinstance(error, UserError):
                for number in np.flatnonzero(missing):
                    if not folders.is_done(places[number]):
                        folders.fail(places[number], repr(error))
            raise
        if tensorboard:
            for number in np.flatnonzero(missing):
                folders.write_tensorboard(places[number])
    results = Results(workdir, runs.rows, config.as_dict()["tune"], study.select)
    quiet = _fit(settings, None, None)
    drawn = report.save_figures(workdir / "figures", study.figures(config, source, results, quiet))
    (workdir / "results.csv").write_text(results.csv(study.name))
    title = study.doc.strip().splitlines()[0]
    text = report.markdown(title, results, study.columns, [path.stem for path in drawn], environment)
    (workdir / "report.md").write_text(text)
    print(title)
    report.print_table(results, study.columns)
    trained = int(missing.sum())
    print(
        f"\n{trained} run{'s' * (trained != 1)} trained, {len(runs) - trained} already there; "
        f"{duration(time.monotonic() - started)}"
    )
    print(f"pictures  {workdir / 'figures'}/{{{','.join(path.stem for path in drawn)}}}.png")
    print(f"report    {workdir / 'report.md'}   all runs  {workdir / 'results.csv'}")
    for line in study.further:
        print(f"next      {line}")
    return results


def _train(
    study: "Study", config: Config, source: Any, runs: Runs, settings: Any, places: list[Path], display: Display
) -> None:
    settings.progress, settings.warn = display.update, display.say
    for done in study.train(config, source, runs, _fit(settings, places, display)):
        for row, owners in enumerate(done.runs.owners):
            metrics = {name: float(v[row]) for name, v in done.metrics.items() if np.isfinite(v[row])}
            outcomes = {name: values[row] for name, values in done.outcomes.items()}
            for owner in owners:
                folders.finish(places[owner], metrics, outcomes, int(done.diverged[row]))


def _fit(settings: Any, places: list[Path] | None, display: Display | None) -> Callable:
    """`training.fit` for the runs of a study; with `places`, each row of metrics goes to its runs' folders."""

    def fit(
        name: str, task: Any, optimizer: Callable, source: Any, runs: Runs, extra: Any = None, **options: Any
    ) -> Any:
        def log(fit_name: str, numbers: np.ndarray, step: int, values: dict[str, np.ndarray]) -> None:
            for row, number in enumerate(numbers):
                for owner in runs.owners[number]:
                    metrics = {metric: float(value[row]) for metric, value in values.items()}
                    folders.append(places[owner], {"fit": fit_name, "step": step} | metrics)

        settings.log = log if places is not None else lambda *_: None
        if places is None:
            settings.progress = lambda _: None
        identity = [json.dumps(row.settings, sort_keys=True) for row in runs.rows]
        arrays = runs.arrays() | (extra or {})
        return training.fit(name, task, optimizer, source, arrays, settings, identity=identity, **options)

    return fit


def _print_plan(study: "Study", config: Config, runs: Runs, plans: list[training.Plan]) -> None:
    variants = list(dict.fromkeys(run.variant for run in runs.rows))
    print(f"{study.name}: {len(runs)} runs of {len(variants)} variants, with {config.seeds} seeds at each tuning point")
    print(textwrap.fill("variants: " + ", ".join(variants), 98, subsequent_indent="  "))
    print(f"\n{'program':<28}{'runs':>6}{'steps':>9}{'parameters':>13}{'width':>7}{'at once':>9}")
    for plan in plans:
        width = plan.width or "all"
        print(f"{plan.name:<28}{plan.runs:>6}{plan.steps:>9,}{plan.parameters:>13,}{width:>7}{plan.runs_at_once:>9}")
    total = sum(plan.runs * plan.steps for plan in plans)
    print(f"\n{len(plans)} programs, {total:,} run-steps on {len(jax.devices())} {jax.devices()[0].platform} device(s)")
