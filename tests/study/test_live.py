"""The report while runs train, and what a study has its reader see first."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import absl.flags
import numpy as np
import pytest

from jaxdl.study import folders, launch, live, page, terminal
from jaxdl.study.results import Results
from jaxdl.study.runs import Run

ROOT = Path(__file__).resolve().parents[2]
REFRESH = '<meta http-equiv="refresh"'


class Clock:
    """Time passes only when somebody says so."""

    now = 1000.0

    def monotonic(self):
        return self.now

    def strftime(self, form):
        return ""


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


@pytest.fixture
def simulated(clock, monkeypatch, tmp_path):
    """A live report of which each writing takes `cost` seconds, or raises `error`; `at`: when it was written."""
    said, at = [], []
    seen = SimpleNamespace(cost=0.01, error=None, at=at, said=said)

    def write(path, content, state, refresh):
        clock.now += seen.cost
        if seen.error:
            path.with_name("report.html.draft").write_text("half of")
            raise seen.error
        at.append((clock.now, state, refresh))

    records = [{"status": status} for status in ("done", "running", "absent", "failed", "diverged")]
    content = SimpleNamespace(results=SimpleNamespace(records=records), _replace=lambda findings: content)
    monkeypatch.setattr(live.finished, "look", lambda launch: SimpleNamespace(report=content))
    monkeypatch.setattr(page, "write", write)
    settings = SimpleNamespace(warn=said.append)
    asked = SimpleNamespace(workdir=tmp_path)
    seen.report = live.LiveReport(SimpleNamespace(asked=asked, groups=[SimpleNamespace(settings=settings)]))
    return seen


def test_the_first_writing_is_after_five_seconds_and_quick_ones_are_as_often_as_a_browser_looks(clock, simulated):
    start = clock.now
    while clock.now < start + 60:
        simulated.report.update()
        clock.now += 0.1
    times = [when - start for when, *_ in simulated.at]
    assert 5 <= times[0] < 5.3
    assert all(page.REFRESH <= step < page.REFRESH + 0.3 for step in np.diff(times))
    assert simulated.at[0][1:] == ("training: 3 of 5 runs have ended", page.REFRESH)


def test_writing_takes_two_percent_of_the_time_however_long_it_takes(clock, simulated):
    random, start, written = np.random.default_rng(0), clock.now, 0.0
    while clock.now < start + 100_000:
        before = len(simulated.at)
        simulated.cost = random.choice([0.05, 1.0, 30.0])
        simulated.report.update()
        written += simulated.cost * (len(simulated.at) - before)
        clock.now += random.uniform(0.1, 2.0)
    assert 0.01 < written / (clock.now - start) <= 0.02


def test_what_cannot_be_written_stops_nothing_is_told_once_and_tried_again(clock, simulated, tmp_path):
    for error in (OSError(28, "No space left on device"), KeyError("test_error")):
        simulated.error = error
        clock.now += 1000
        simulated.report.update()
    assert len(simulated.said) == 1 and "No space left" in simulated.said[0]
    assert not list(tmp_path.iterdir())  # half a page takes no room that a checkpoint may need
    simulated.error = None
    clock.now += 1000
    simulated.report.update()
    assert len(simulated.at) == 1


def test_a_launch_that_stops_leaves_a_page_that_no_longer_loads_again(clock, simulated):
    with contextlib.suppress(KeyboardInterrupt), simulated.report:
        raise KeyboardInterrupt
    assert not simulated.at  # too short for one: what was there stays
    with contextlib.suppress(KeyboardInterrupt), simulated.report:
        clock.now += 10
        simulated.report.update()
        raise KeyboardInterrupt
    assert simulated.at[-1][1:] == ("stopped: 3 of 5 runs have ended; repeat the command to go on", 0)
    count = len(simulated.at)
    with simulated.report:
        pass
    assert len(simulated.at) == count  # the ordinary report is there


def config(study, **changes):
    config = study.config()
    config.update(changes)
    return config


@pytest.fixture
def pages(monkeypatch):
    """Every page that is written while runs train, after every program call, with metrics.jsonl of that moment."""
    kept, write = [], page.write

    def keep(path, content, state="", refresh=0):
        write(path, content, state, refresh)
        runs = content.results.runs
        kept.append(
            (
                path.read_text(),
                state,
                [(run, folders.read_metrics(folders.run_folder(path.parent, run))) for run in runs],
            )
        )

    monkeypatch.setattr(live, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", np.inf)
    monkeypatch.setattr(page, "REFRESH", 0)  # also how long to wait at least
    monkeypatch.setattr(page, "write", keep)
    return kept


def data(text):
    """What the page's script reads of the curves, one dict a line."""
    found = re.search(r'<script type="application/json" id="curves">(.*?)</script>', text, re.S)
    return json.loads(found[1])["lines"] if found else []


def test_curves_grow_while_runs_train_and_no_number_changes(tiny, tmp_path, pages, monkeypatch):
    asked = config(tiny, steps=400, evaluations=8)
    tiny.run(asked, workdir=tmp_path / "with", only="plain", seeds=1)
    *meanwhile, (text, state, _) = pages
    assert len(meanwhile) > 4 and not state
    assert "runs have ended" not in text and REFRESH not in text and "Claims</h2>" in text and "<img " in text
    lengths = []
    for text, state, logged in meanwhile:
        assert re.fullmatch(r"training: 0 of 2 runs have ended, on [\d-]+ at [\d:]+", state) and state in text
        lines = data(text)
        if lines:
            found = {
                run.point["hyper.learning_rate"]: [100 * row["validation_error"] for row in rows]
                for run, rows in logged
            }
            np.testing.assert_allclose(lines[0]["y"], min(found.values(), key=lambda curve: curve[-1]), rtol=1e-3)
            lengths.append(len(lines[0]["x"]))
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1] == 8

    pages.clear()
    tiny.run(asked, workdir=tmp_path / "with", only="plain", seeds=2)
    *meanwhile, _ = pages
    for text, state, _ in meanwhile:  # results so far, and no verdict before the last run has ended
        assert state.startswith("training: 2 of 4 runs have ended") and "Best by validation error: plain" in text
        assert "Claims</h2>" not in text and "claim" not in text.partition("</style>")[2]

    pages.clear()
    monkeypatch.setattr(live, "FIRST_SECONDS", np.inf)
    tiny.run(asked, workdir=tmp_path / "without", only="plain", seeds=2)
    assert len(pages) == 1
    written = [sorted((tmp_path / name).glob("plain/*/*/*.json*")) for name in ("with", "without")]
    assert len(written[0]) == 4 * 4
    for one, other in zip(*written, strict=True):
        if one.name != "config.json":  # with the environment, of which the width is part
            assert one.read_bytes() == other.read_bytes(), one
    assert (tmp_path / "with/results.csv").read_bytes() == (tmp_path / "without/results.csv").read_bytes()


def test_an_interrupt_in_python_marks_the_page_and_the_next_launch_replaces_it(tiny, tmp_path, pages, monkeypatch):
    asked, keep = config(tiny, steps=400, evaluations=8), page.write

    def interrupt(path, content, state="", refresh=0):
        keep(path, content, state, refresh)
        if data(path.read_text()) and state.startswith("training"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(page, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny.run(asked, workdir=tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "stopped: 0 of 8 runs have ended; repeat the command to go on" in text and data(text)
    assert not list(tmp_path.glob("*.draft"))
    monkeypatch.setattr(page, "write", keep)
    tiny.run(asked, workdir=tmp_path)
    assert "runs have ended" not in (tmp_path / "report.html").read_text()


def test_shares_and_reports_anew_write_no_live_page(tiny, tmp_path, pages):
    from jaxdl.study import command_line, run
    from jaxdl.training.stopping import Requests

    asked = launch.Asked(command_line.values(tiny.config()), tmp_path, "plain", (), "the command")
    found = launch.check(launch.prepare(tiny, asked, Requests()))
    run.train_share(found, 0, 1, False)
    assert not pages
    run.reread(found)
    assert [state for _, state, _ in pages] == [""]


def test_a_process_is_caught_training_and_stops_when_it_is_told(tmp_path):
    """After 5 seconds, as a user sees it."""
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    options = ("--config.steps=100_000_000", "--config.evaluations=50_000", "--seeds=1", f"--workdir={tmp_path}")
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.tiny", *options],
        cwd=ROOT / "tests/study/tiny",
        env=kept | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    path, until = tmp_path / "report.html", time.monotonic() + 100
    try:
        text = ""
        while not data(text) and process.poll() is None and time.monotonic() < until:  # the first may be before a step
            time.sleep(0.05)
            text = path.read_text() if path.exists() else ""
        assert f'{REFRESH} content="5">' in text and "training: 0 of 4 runs have ended" in text
        assert data(text) and all(line["x"] for line in data(text))
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, error
    text = path.read_text()
    assert REFRESH not in text and "stopped: 0 of 4 runs have ended" in text and data(text)


def running(workdir, curves):
    """Results of runs of one variant that train. curves: {(rate, seed): {step: validation error}}"""
    runs = []
    for (rate, seed), curve in curves.items():
        run = Run("net", seed, {"rate": rate}, {"rate": rate}, f"hash{rate}", {"hyper.rate": rate})
        folders.begin(folders.run_folder(workdir, run), {})
        for step, value in curve.items():
            folders.append(folders.run_folder(workdir, run), {"fit": "fit", "step": step, "validation_error": value})
        runs.append(run)
    return Results(workdir, runs, {"hyper.rate": (0.1, 0.3)}, ("validation_error", "min"))


def test_a_variant_without_a_result_shows_its_leading_trial_by_the_runs_that_are_furthest(tmp_path):
    curves = {
        (0.1, 0): {10: 0.5, 20: 0.5}, (0.1, 1): {10: 0.5, 20: 0.5},
        (0.3, 0): {10: 0.6, 20: 0.2}, (0.3, 1): {10: 0.6, 20: 0.4}, (0.3, 2): {10: 0.9}, (0.3, 3): {},
    }  # fmt: skip
    found = page.curves(running(tmp_path, curves), "")
    assert [line["name"] for line in found["lines"]] == ["net, hyper.rate=0.3"]
    assert found["data"]["lines"][0]["x"] == [10, 20] and found["data"]["lines"][0]["y"] == [60.0, 30.0]
    folders.finish(tmp_path / "net/hash0.1/seed=1", {"validation_error": 0.5}, {}, "")
    found = page.curves(Results(tmp_path, *reread(running(tmp_path / "other", curves))), "")
    assert [line["name"] for line in found["lines"]] == ["net"]  # a result is more than a lead
    assert found["data"]["lines"][0]["y"] == [50.0, 50.0]


def reread(results):
    return results.runs, results.grid, results.select


def test_nothing_logged_is_no_curve(tmp_path):
    found = page.curves(running(tmp_path, {(0.1, 0): {}, (0.3, 0): {}}), "")
    assert found == {"lines": []}


@pytest.fixture
def opened(tiny):
    """The study with an opening: the number of hidden units, and rows."""

    def opening(config, source, runs, most):
        rows = [f"row {number} of {len(runs)} <runs>" for number in range(50)]
        return [f"{config.model.hidden} of {source.classes}", *(rows[:most] if most else rows)]

    return dataclasses.replace(tiny, opening=opening)


@pytest.fixture
def go(tiny, tmp_path, monkeypatch, capsys):
    """go(study, **options): the study's command in tmp_path; returns standard output."""

    def go(study, sweep=(), **options):
        chosen = dict(
            config=tiny.config(), workdir=str(tmp_path), only="plain", sweep=sweep, seeds=1, strategy=None, device=None,
            runs_at_once=None, workers=1, share="", on_failure="continue", distributed=False, coordinator="", hosts=0,
            host=-1, list=False, report=False, show_augmentation=False, figure="", format="pdf", style="paper",
        )  # fmt: skip
        monkeypatch.setattr(absl.flags, "FLAGS", SimpleNamespace(**(chosen | options)))
        monkeypatch.setattr(sys, "argv", ["tiny.py"])
        study._command([])
        return capsys.readouterr().out

    return go


def test_the_opening_is_told_before_training_and_whole_in_the_report(go, opened, tmp_path):
    first = ["4 of 10", *(f"row {number} of 2 <runs>" for number in range(terminal.OPENING_ROWS))]
    assert go(opened, list=True).splitlines()[:42] == [*first, ""]
    assert go(opened).splitlines()[:42] == [*first, ""]
    whole = ["4 of 10", *(f"row {number} of 2 <runs>" for number in range(50))]
    markdown = (tmp_path / "report.md").read_text()
    assert "\n".join(["## What was trained", "", "```", *whole, "```"]) in markdown
    pre = re.search(r'<pre class="lines"[^>]*>(.*?)</pre>', (tmp_path / "report.html").read_text(), re.S)[1]
    assert pre == "\n".join(whole).replace("<", "&lt;").replace(">", "&gt;")
    assert "row" not in go(opened)  # nothing left to train
    assert "row" not in go(opened, report=True)


def test_the_opening_of_a_sweep_says_of_which_point_it_is(go, opened):
    lines = go(opened, sweep=["model.hidden=6,4"], list=True).splitlines()
    assert lines[:2] == ["of model.hidden=6, one of 2 points of the sweep:", "6 of 10"]


def test_without_an_opening_nothing_is_said(go, tiny, tmp_path):
    assert go(tiny, list=True).startswith("tiny: ")
    go(tiny)
    assert "What was trained" not in (tmp_path / "report.md").read_text()
    assert '<pre class="lines"' not in (tmp_path / "report.html").read_text()
