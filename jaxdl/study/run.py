"""Train the runs of a launch that are not there yet, each stored in its folder when it ends."""

import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdl.errors import UserError
from jaxdl.study import finished, folders
from jaxdl.study.finished import Finished
from jaxdl.study.launch import Group, Launch, fitter, plan, share
from jaxdl.study.live import LiveReport
from jaxdl.study.progress import Display
from jaxdl.study.runs import Runs
from jaxdl.training import Progress, hosts


def execute(launch: Launch, stop_on_failure: bool, by: Callable[[], list[int]] | None = None) -> tuple[Finished, int]:
    """Train what is missing, then conclude; also returns how many runs were trained.

    by: does the training in other processes, and returns their exit statuses
    """
    asked = launch.asked
    with folders.locked(asked.workdir, "workers" if by else ""), LiveReport(launch) as report:
        missing = launch.missing()
        environment = folders.environment(launch.groups[0].settings, launch.widths)
        changed = folders.changed_environment(asked.workdir, environment)
        if changed and any(place.exists() for place in launch.places):
            launch.groups[0].settings.warn(
                f"note: {', '.join(changed)} changed since the last launch: the last bits may differ"
            )
        folders.write_launch(asked.workdir, asked.command, launch.asks(), environment)
        if by or missing.any():
            statuses = by() if by else train(launch, missing, stop_on_failure, report.update)
            for number, status in enumerate(statuses or []):
                if status not in (0, 1):  # 1: some of its runs failed, and say so in their folders
                    raise UserError(f"worker {number} ended with status {status}: repeat the command to go on")
        left = launch.missing()
        if launch.tensorboard:
            for place, new in zip(launch.places, missing & ~left, strict=True):
                if folders.is_done(place) and (new or not (place / "tensorboard").exists()):
                    folders.write_tensorboard(place)
        return finished.conclude(launch, may_train=not left.any()), int((missing & ~left).sum())


def train_share(launch: Launch, index: int, count: int, stop_on_failure: bool) -> np.ndarray:
    """Train what is missing of one of `count` shares of the runs; returns which runs are in it, bool [R]."""
    mine = share(launch, index, count)
    with folders.locked(launch.asked.workdir, f"share-{index}-of-{count}", f"{count} of {launch.identity()}"):
        workdir, asks = launch.asked.workdir, launch.asks()
        if index == 0 and folders.read_asked(workdir) != asks:  # one of the shares, and none of --workers
            environment = folders.environment(launch.groups[0].settings, launch.widths)
            folders.write_launch(workdir, launch.asked.command, asks, environment)
        if (launch.missing() & mine).any():
            train(launch, launch.missing() & mine, stop_on_failure)
    return mine


def train_for(launch: Launch, team: hosts.Hosts, stop_on_failure: bool) -> np.ndarray:
    """At another host than host 0: train and hand over this host's share; returns which runs are in it, bool [R]."""
    mine = train_share(launch, team.index, team.count, stop_on_failure)
    there = [launch.places[number] for number in np.flatnonzero(mine & (~launch.missing() | launch.failed()))]
    hosts.send(team, hosts.pack(there, launch.asked.workdir))
    return mine


def train_with(launch: Launch, team: hosts.Hosts, stop_on_failure: bool) -> list[int]:
    """At host 0: train this host's share, and take over those of the others; returns no exit status."""
    mine = launch.missing() & share(launch, team.index, team.count)
    if mine.any():
        train(launch, mine, stop_on_failure)
    print(f"host 0 has trained its share and waits for the other {team.count - 1}", file=sys.stderr)
    for blob in hosts.receive(team):
        hosts.unpack(blob, launch.asked.workdir, folders.is_done)
    return []


def reread(launch: Launch) -> Finished:
    """Conclude from what is there, without training. UserError where there is nothing."""
    check_there(launch)
    return finished.conclude(launch, may_train=False)


def check_there(launch: Launch) -> None:
    """UserError where no run of a launch has a result, and where those that have one saw other data."""
    if launch.missing().all():
        data = launch.config.data
        if folders.saw_other_data(launch.asked.workdir, launch.configs[0]):
            where = f" in {data.dir}" if data.dir else ""
            raise UserError(
                f"the data of {data.name}{where} are not those that --workdir={launch.asked.workdir} was trained on: "
                "restore them, or train again"
            )
        raise UserError(f"--workdir={launch.asked.workdir} holds no finished run of this command: train some first")


def train(
    launch: Launch, chosen: np.ndarray, stop_on_failure: bool, after_call: Callable[[], None] = lambda: None
) -> None:
    """Train the chosen runs [R], group by group, and store each in its folder when it ends.

    after_call: what to do after each program call, with which runs have got further
    A variant that fails unexpectedly in a group is marked so, and does not stop others unless `stop_on_failure`.
    """
    own = {"environment": folders.environment(launch.groups[0].settings, launch.widths)}
    for number in np.flatnonzero(chosen):
        folders.begin(launch.places[number], launch.configs[number] | own)
    plans = launch.plans if chosen.all() else plan(launch, chosen)
    named = [each._replace(name=group.named(each.name)) for group, each in plans]
    with Display(named) as display:
        for group in launch.groups:
            runs, settings = group.where(chosen), group.settings
            if not len(runs):
                continue

            def tell(now: Progress, group: Group = group) -> None:
                display.update(now._replace(name=group.named(now.name)))
                after_call()

            settings.progress = tell
            settings.warn = display.say
            try:
                _train_group(launch, group, runs, stop_on_failure, display.say)
            finally:
                settings.progress = lambda _: None


def _train_group(launch: Launch, group: Group, runs: Runs, stop_on_failure: bool, say: Callable[[str], None]) -> None:
    """Train some runs of a group. Where they fail together, each variant is tried alone: one may be the cause."""
    parts = [runs]
    while parts:
        part = parts.pop(0)
        try:
            for done in launch.study.train(group.config, group.source, part, fitter(group, launch.places)):
                _store(launch, done)
        except UserError:  # a full disk: the runs stay where they are, for the next launch
            raise
        except Exception as error:
            left = part.where(np.array([not folders.is_done(launch.places[owner]) for (owner,) in part.owners]))
            variants = list(dict.fromkeys(row.variant for row in left.rows))
            if len(variants) > 1 and not stop_on_failure:
                for (owner,) in left.owners:
                    folders.restart(launch.places[owner])
                parts += [left.where(np.array([row.variant == variant for row in left.rows])) for variant in variants]
                continue
            for (owner,) in left.owners:
                folders.fail(launch.places[owner], repr(error))
            if stop_on_failure:
                raise
            say(traceback.format_exc())


def _store(launch: Launch, done: Any) -> None:
    measured = done.metrics | done.measure()
    for row, owners in enumerate(done.runs.owners):
        metrics = {name: float(v[row]) for name, v in measured.items() if np.isfinite(v[row])}
        outcomes = {name: values[row] for name, values in done.outcomes.items()}
        for owner in owners:
            folders.finish(launch.places[owner], metrics, outcomes, done.diverged[row])
