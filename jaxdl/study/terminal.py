"""What a launch says on standard output: the plan, and in the end the table, the claims and where everything lies."""

import sys
import textwrap
from pathlib import Path

import jax
import numpy as np

from jaxdl import training
from jaxdl.study import folders, report, sweep
from jaxdl.study.finished import Finished
from jaxdl.study.launch import Launch, plan
from jaxdl.study.progress import duration
from jaxdl.study.runs import own_grids

OPENING_ROWS = 40  # of a table, at most
STATUSES = ("done", "diverged", "failed", "running", "absent")


def print_opening(launch: Launch) -> None:
    """What the study has a reader see first; report.md and report.html have it whole."""
    lines = launch.opened(OPENING_ROWS)
    if lines:
        print("\n".join(lines), end="\n\n", flush=True)  # before the progress on standard error


def print_plan(launch: Launch) -> None:
    """What would be trained: variants, trials, programs with their chunks, and the time where it is known."""
    config, study = launch.config, launch.study
    variants = list(dict.fromkeys(run.variant for run in launch.rows))
    missing = launch.missing()
    print(f"{study.name}: {len(missing)} runs of {len(variants)} variants, {config.seeds} seeds of each trial", end="")
    print(f"; {(~missing).sum()} of them are there" if not missing.all() else "")
    print(textwrap.fill("variants: " + ", ".join(variants), 98, subsequent_indent="  "))
    for key, grid in launch.grid.items():
        if len(grid) > 1:
            print(f"{key}: {', '.join(map(sweep.shown, grid))}")
    for (key, grid), labels in own_grids(launch.rows, launch.grid).items():
        print(textwrap.fill(f"{key} of {', '.join(labels)}: {', '.join(map(sweep.shown, grid))}", 98))
    seconds, unknown, total = 0.0, False, 0
    plans = plan(launch, missing) if missing.any() else launch.plans
    for group in launch.groups:
        own = [each for there, each in plans if there is group]
        title = sweep.named(group.point) or "program"
        if group.failure:
            print(f"\n{title} fails: {group.failure[:86]}")
        if not own:
            continue
        print(
            f"\n{title:<26}{'runs':>6}{'steps':>9}{'parameters':>12}{'width':>7}{'chunks':>8}{'at once':>9}{'time':>12}"
        )
        for each in own:
            pace = training.pace(group.settings, each.name)
            known = pace["seconds_per_run_step"] * each.runs * each.steps + pace["compile_seconds"] if pace else 0.0
            seconds, unknown, total = seconds + known, unknown or not pace, total + each.runs * each.steps
            numbers = f"{each.runs:>6}{each.steps:>9,}{each.parameters:>12,}{each.width:>7}"
            chunks = -(-each.runs // each.runs_at_once)
            numbers += f"{chunks:>8}{each.runs_at_once:>9}{duration(known) if pace else '-':>12}"
            print(f"{each.name:<26}{numbers}")
    devices = jax.local_devices()
    clock = f"about {duration(seconds)}" + " for those that have been timed here" * unknown if seconds else ""
    done = "" if missing.any() else ", all of which are there"
    print(
        f"\n{len(plans)} programs, {total:,} run-steps{done}, on {len(devices)} {devices[0].platform} device(s)", end=""
    )
    print(f"; {clock}" if clock and missing.any() else "")
    if not seconds:
        print("time: from earlier launches of the same programs in this workdir, of which there are none")


def print_finished(finished: Finished, trained: int, seconds: float) -> None:
    """The table, the trials of a sweep, the claims, and where everything lies."""
    launch, content = finished.launch, finished.report
    workdir, results = launch.asked.workdir, content.results
    print(textwrap.fill(content.title, 98))
    own = [*content.notes, *(["Differs from the papers: " + " ".join(content.differs)] if content.differs else [])]
    table = report.main_table(results, content.columns, content.published)
    report.print_table(table, report.notes(results, content.columns, content.published, own))
    if launch.asked.swept:
        print(f"\ntrials, ranked by {results.select[0].replace('_', ' ')} alone")
        report.print_table(report.trial_table(results))
    report.print_claims(content.findings)
    print_statuses(launch)
    there = sum(record["status"] in ("done", "diverged") for record in results.records) - trained
    print(f"\n{trained} run{'s' * (trained != 1)} trained, {there} already there; {duration(seconds)}")
    if content.figures:
        drawn = ", ".join(path.stem for path in content.figures)
        names = textwrap.fill(drawn, 88, initial_indent=" " * 10, subsequent_indent=" " * 10)
        print(f"pictures  {workdir / 'figures'}\n{names}")
    print(f"report    {workdir / 'report.html'}, report.md")
    print(f"all runs  {workdir / 'results.csv'}")
    for what, arguments in launch.study.further.items():
        if arguments in launch.asked.command:
            continue
        print(f"next      {what}:\n          {interpreter()} -m experiments.{launch.study.name} {arguments}")


def print_share(launch: Launch, mine: np.ndarray, index: int, count: int) -> None:
    """Where a share of a study is, bool [R]."""
    left = (launch.missing() & mine).sum()
    print(f"share {index} of {count}: {mine.sum()} of {len(mine)} runs, {left} of them without a result")
    print("when all shares are there, the same command with --report in place of --share writes the report")


def print_statuses(launch: Launch) -> None:
    """How many runs ended how: one line for each group of a sweep, or where not all are done."""
    counts = {sweep.named(group.point) or "all runs": launch.statuses(group) for group in launch.groups}
    if len(counts) == 1 and all(set(count) == {"done"} for count in counts.values()):
        return
    shown = [status for status in STATUSES if status in STATUSES[:3] or any(count[status] for count in counts.values())]
    names = {"running": "running", "absent": "not there"}
    width = max(map(len, counts))
    print("\n" + " " * width + "".join(f"{names.get(status, status):>11}" for status in shown))
    for label, count in counts.items():
        print(f"{label:<{width}}" + "".join(f"{count[status]:>11}" for status in shown))
    errors: dict[str, Path] = {}
    for number in np.flatnonzero(launch.failed()):
        errors.setdefault(folders.read_run(launch.places[number]).get("error", ""), launch.places[number])
    for error, place in errors.items():
        print(f"failed    {place}\n          {error[:86]}")


def interpreter() -> str:
    """How the user called Python, so that a printed command can be pasted: ".venv/bin/python", or "python"."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "python"
