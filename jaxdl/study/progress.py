"""How far a study is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from jaxdl.training import Plan, Progress

LINE_SECONDS = 5.0
Fit = tuple[str, int, int]  # its name, how many runs, for how many steps


class Display:
    """Shows each fit's progress and the time left of the whole study, to `stream`, standard error by default.

    The time left assumes that a fit costs in proportion to runs x steps x parameters, at the pace so far, and
    that each fit that has not begun compiles for as long as the others did.
    """

    def __init__(self, plans: Sequence[Plan], stream: TextIO | None = None) -> None:
        self.stream, self.plans = stream or sys.stderr, list(plans)
        # A study may make a fit of one name more than once: of other runs, or of its first steps alone.
        self.costs: dict[Fit, float] = {
            (plan.name, plan.runs, plan.steps): plan.runs * max(plan.steps, 1) * max(plan.parameters, 1)
            for plan in plans
        }
        self.done: dict[Fit, float] = {}
        self.seen = self.line_at = time.monotonic()
        self.current: Fit = ("", 0, 0)
        self.compiling: dict[Fit, float] = {}  # seconds from the fit before to the first steps of each fit
        self.busy, self.advanced = 0.0, 0.0  # seconds of training, and what they got done
        self.bar, self.task = None, None

    def __enter__(self) -> "Display":
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%"),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                console=Console(file=self.stream),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("preparing", total=1.0, facts="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, progress: Progress) -> None:
        """Take note of one program call of a fit."""
        fit = progress.name, progress.runs, progress.steps
        now, cost = time.monotonic(), self.costs.get(fit, 0)
        fresh = fit != self.current
        if fresh:  # fits come in the order of the plans: those before this one have ended, now or in an earlier launch
            fits = list(self.costs)
            ended = fits[: fits.index(fit)] if cost else []
            self.done |= {each: self.costs[each] for each in ended}
            self.current = fit
        before = self.done.get(fit, 0.0)
        part = progress.work / progress.total if progress.total else progress.measured / progress.runs
        after = self.done[fit] = cost * part
        if not fresh and after > before:
            if fit not in self.compiling:
                self.compiling[fit] = now - self.seen
            else:
                self.busy, self.advanced = self.busy + now - self.seen, self.advanced + after - before
        if not fresh:  # what lies between two fits (the end of one, the compilation of the next) is the next one's
            self.seen = now
        left = self._left()
        share = sum(self.done.values()) / max(sum(self.costs.values()), 1)
        facts = ""
        if progress.examples_per_second:
            facts = f"loss {progress.loss:.4g}, {progress.examples_per_second:,.0f} examples/s"
        clock = f"about {duration(left)} left in all" if left is not None else "compiling"
        runs = f"{progress.runs} run{'s' if progress.runs > 1 else ''}"
        if self.bar:
            facts = f"{facts}, {clock}" if facts else clock
            self.bar.update(self.task, description=f"{progress.name}, {runs}", completed=share, facts=facts)
        elif fresh or time.monotonic() - self.line_at > LINE_SECONDS:
            self.line_at = time.monotonic()
            where = f"step {progress.step:,} of {progress.steps:,}"
            where += f", {progress.measured} measured" if progress.measured else ""
            self.say(f"[{share:4.0%}] {progress.name}: {runs}, {where}, {facts + ', ' if facts else ''}{clock}")

    def _left(self) -> float | None:
        """Seconds of the whole study that are left; None before there is anything to judge by."""
        if not self.advanced:
            return None
        work = sum(self.costs.values()) - sum(self.done.values())
        to_come = len(self.costs) - len(self.done) + (self.current not in self.compiling)
        compiling = sum(self.compiling.values()) / len(self.compiling) * to_come
        return work * self.busy / self.advanced + compiling

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.bar:
            self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
