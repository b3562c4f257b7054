"""The progress of a simulated study: fits that compile for a while and then train at a constant pace."""

import io
import re

import pytest

from jaxdl.study import progress
from jaxdl.study.progress import Display, duration
from jaxdl.training import Plan, Progress

COMPILE, PACE = 20.0, 0.001  # seconds until the first steps of a fit; seconds per run-step and parameter
PLANS = [Plan("layer1", 4, 300, 50, 1, 4), Plan("layer2", 4, 300, 20, 1, 4), Plan("deep", 12, 500, 25, 1, 12)]


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def train(display, clock, plan, start=0):
    """The updates of one fit, as training gives them: at its start, then after calls of 1, 2, 4, ... steps."""
    step, call = start, 1

    def tell(speed):
        work, total = plan.runs * step, plan.runs * plan.steps
        display.update(Progress(plan.name, plan.runs, step, plan.steps, work, total, 0.25, speed))

    tell(0.0)
    while step < plan.steps:
        until = min(step + call, plan.steps)
        seconds = (until - step) * plan.runs * plan.parameters * PACE
        clock.now += seconds + (COMPILE if step == start else 0)
        speed, step, call = (until - step) * plan.runs / seconds, until, min(2 * call, 40)
        tell(speed)


def seconds(plan):
    return COMPILE + plan.steps * plan.runs * plan.parameters * PACE


def left(line):
    found = re.search(r"about (?:(\d+) h )?(?:(\d+) min )?(?:(\d+) s )?left in all", line)
    return (
        None
        if found is None
        else sum(int(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True))
    )


def simulate(clock, plans, stored=0, start=0):
    """Lines of a study whose first `stored` fits ended in an earlier launch, and the true time left at each."""

    class Stream(io.StringIO):
        def write(self, text):
            times.extend([clock.now] * text.count("\n"))
            return super().write(text)

    times, stream = [], Stream()
    with Display(plans, stream) as display:
        for number, plan in enumerate(plans[stored:]):
            train(display, clock, plan, start if number == 0 else 0)
    return stream.getvalue().splitlines(), [clock.now - time for time in times]


@pytest.mark.parametrize("stored", [0, 1])
@pytest.mark.parametrize("start", [0, 150])
def test_the_time_left_is_true_when_fits_cost_what_they_should(clock, stored, start):
    lines, truth = simulate(clock, PLANS, stored, start)
    assert len(lines) == len(truth)
    known = [(left(line), true) for line, true in zip(lines, truth, strict=True) if left(line) is not None]
    assert len(known) > 10
    for told, true in known:
        assert told == pytest.approx(true, rel=0.01, abs=1.0)  # told in whole seconds


def test_a_fit_announces_itself_and_then_speaks_every_few_seconds(clock):
    lines, _ = simulate(clock, PLANS)
    names = [re.match(r"\[ *\d+%\] (\w+): ", line)[1] for line in lines]
    assert list(dict.fromkeys(names)) == [plan.name for plan in PLANS]
    total = sum(seconds(plan) for plan in PLANS)
    assert len(lines) <= len(PLANS) + total / progress.LINE_SECONDS
    shares = [int(re.match(r"\[ *(\d+)%\]", line)[1]) for line in lines]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] > 85
    first = [names.index(plan.name) for plan in PLANS]
    # 60,000, 24,000 and 150,000 run-steps x parameters
    assert [shares[number] for number in first] == [0, round(100 * 60 / 234), round(100 * 84 / 234)]
    assert "layer1: 4 runs, step 0 of 300" in lines[0] and "compiling" in lines[0]
    assert "12 runs, step " in lines[-1] and " of 500, loss 0.25, " in lines[-1] and "examples/s" in lines[-1]


def test_what_an_earlier_launch_did_counts_as_done(clock):
    lines, _ = simulate(clock, PLANS, stored=1, start=150)
    assert re.match(r"\[ *(\d+)%\]", lines[0])[1] == str(round(100 * (60 + 12) / 234))


def test_one_run_is_no_plural(clock):
    stream = io.StringIO()
    plan = Plan("layer1", 1, 10, 5, 1, 1)
    with Display([plan], stream) as display:
        train(display, clock, plan)
    assert "layer1: 1 run, step 0 of 10" in stream.getvalue()


def test_on_a_terminal_there_is_a_bar_with_loss_speed_and_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Display(PLANS, stream) as display:
        display.update(Progress("layer1", 4, 0, 300, 0, 1200, 0.0, 0.0))
        for step in (10, 20, 200):
            display.update(Progress("layer1", 4, step, 300, 4 * step, 1200, 0.125, 1234.0))
        display.say("note: a line that stays")
        display.bar.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "layer1, 4 runs" in text
    assert "loss 0.125, 1,234 examples/s" in text and "left in all" in text
    assert "17%" in text  # 200 of 300 steps of the first fit: 40,000 of 234,000
    assert "note: a line that stays" in text
    assert "[" not in text.replace("[0m", "")  # no plain lines between


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (7530, "2 h 5 min")],
)
def test_durations_are_told_in_two_units(number, text):
    assert duration(number) == text
