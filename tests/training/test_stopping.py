"""Signals, and resuming: however often a fit is interrupted, its bits are those of the straight run."""

import os
import signal
import threading
import types

import jax
import pytest

from jaxdl.training import checkpoints
from jaxdl.training.program import SPLITS
from jaxdl.training.stopping import Interrupted, Requests
from jaxdl.training.trainer import Trainer

OPTIONS = {"evaluations": 7, "patience": 3, "average": 0.5}


def test_a_signal_stops_at_once_where_nothing_is_held():
    requests = Requests()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with requests.listening():
        for number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(Interrupted, match=number.name) as caught:
                os.kill(os.getpid(), number)
            assert caught.value.status == 128 + number and not caught.value.cut
    assert not requests.pending
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_waits_while_held():
    requests, done = Requests(), []
    with requests.listening(), pytest.raises(Interrupted, match="SIGTERM") as caught:
        with requests.held():
            assert not requests.pending
            os.kill(os.getpid(), signal.SIGTERM)
            assert requests.pending
            done.append("saved")
        done.append("never")
    assert done == ["saved"] and not caught.value.cut


def test_the_second_signal_is_meant():
    requests, done = Requests(), []
    with requests.listening(), pytest.raises(Interrupted, match="SIGINT") as caught, requests.held():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("waits")
        os.kill(os.getpid(), signal.SIGINT)
        done.append("never")
    assert done == ["waits"] and caught.value.cut


def test_an_error_in_a_held_block_comes_through():
    requests = Requests()
    with requests.listening(), pytest.raises(ZeroDivisionError), requests.held():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError


def test_other_threads_do_not_listen():
    """signal.signal works in the main thread only."""
    handlers = []

    def listen():
        with Requests().listening():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert handlers == [before]


def make_runs(bench):
    """Five runs in three chunks; one diverges, one stops early."""
    rates, decays = [0.5, 1.0, 0.0, 0.02, 0.5], [0.0, 1e6, 0.0, 0.01, 0.0]
    return bench.make_runs([1, 2, 3, 4, 5], learning_rate=rates, weight_decay=decays, momentum=[0.9, 0, 0, 0, 0.5])


@pytest.fixture(scope="module")
def straight(new_bench):
    """The fit that nothing interrupts."""
    bench = new_bench()
    fitted = bench.fit(bench.noisy, make_runs(bench), options=OPTIONS, runs_at_once=2)
    assert fitted.diverged[1] > 0 and fitted.steps[2] < 20 and fitted.steps[3] == 20
    return types.SimpleNamespace(fitted=fitted, rows=bench.rows)


def launch(bench, stop_at=None, **settings):
    """One launch; a signal arrives while it tells its progress for the `stop_at`-th time (0: the first)."""
    requests, told = Requests(), []

    def progress(state):
        told.append(state)
        if len(told) - 1 == stop_at:
            requests._answer(signal.SIGTERM, None)

    settings = {"runs_at_once": 2, "call_seconds": 0.0, "requests": requests, "progress": progress} | settings
    return bench.fit(bench.noisy, make_runs(bench), options=OPTIONS, **settings)


@pytest.mark.parametrize("stop_at", [13, 25])
def test_resuming_changes_no_bit(bench, straight, same, stop_at):
    """Interrupted again and again, each time after so many calls of one step, in every chunk."""
    stops, work = 0, 0
    while True:
        try:
            fitted = launch(bench, stop_at)
            break
        except Interrupted as stop:
            assert stop.status == 128 + signal.SIGTERM
            stops += 1
            assert bench.told[-1].work > work
            work = bench.told[-1].work
    assert stops == {13: 4, 25: 2}[stop_at]
    same(fitted, straight.fitted)
    assert bench.rows == straight.rows
    assert not bench.warned


def test_interrupted_between_rows_twice(bench, straight, same):
    """At the very start, then in the second chunk, then straight on with calls of any length."""
    with pytest.raises(Interrupted):
        launch(bench, 0)
    assert [state.step for state in bench.told] == [0]
    with pytest.raises(Interrupted):
        launch(bench, 25)
    assert [state.step for state in bench.told[:3]] == [0, 1, 2]
    stopped = bench.told[-1]
    same(launch(bench, call_seconds=1e9), straight.fitted)
    assert bench.told[0].work == stopped.work > 20
    assert bench.rows == straight.rows


def test_resuming_with_padding(bench, straight, same):
    """Three runs on two devices."""
    runs = jax.tree.map(lambda leaf: leaf[:3], make_runs(bench))
    requests = Requests()

    def progress(state):
        if state.step == 5:
            requests._answer(signal.SIGTERM, None)

    settings = {"options": OPTIONS, "devices": 2}
    with pytest.raises(Interrupted):
        bench.fit(bench.noisy, runs, **settings, call_seconds=0.0, requests=requests, progress=progress)
    same(bench.fit(bench.noisy, runs, **settings), jax.tree.map(lambda leaf: leaf[:3], straight.fitted))
    assert bench.told[0].step > 4 and bench.rows == {number: straight.rows[number] for number in range(3)}


def test_a_signal_as_the_last_run_ends(bench, straight, same):
    """The last steps are saved, or even the end; the next launch trains nothing."""
    same(launch(bench, place="count"), straight.fitted)
    calls = len(bench.told)
    with pytest.raises(Interrupted):
        launch(bench, calls - 1)
    same(launch(bench), straight.fitted)
    assert {state.work for state in bench.told} <= {80 + straight.fitted.steps[4]}
    assert bench.rows == straight.rows


def test_a_signal_while_the_end_is_measured(bench, straight, same, monkeypatch):
    """The first of two runs is measured when it arrives: what was trained is saved, and measured anew."""
    requests, measure = Requests(), Trainer._measure

    def interrupted(self, *arguments):
        if list(arguments[5]) == list(SPLITS):  # what is measured: all splits at the end, validation before
            requests._answer(signal.SIGTERM, None)
        return measure(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_measure", interrupted)
        with pytest.raises(Interrupted):
            launch(bench, requests=requests, progress=lambda _: None)
    assert not any(notes["finished"] for notes in map(checkpoints.newest_notes, (bench.folder / "fit").iterdir()))
    same(launch(bench), straight.fitted)
    assert bench.told[0].work == straight.fitted.steps[:2].sum()
    assert bench.rows == straight.rows


class PowerCut(Exception):
    """Nothing is saved any more."""


@pytest.mark.parametrize("calls", [3, 25])
def test_a_crash_costs_what_came_after_the_last_checkpoint(bench, straight, same, calls):
    """In the first chunk and in the second."""

    def cut(state):
        if len(bench.told) > calls:
            raise PowerCut

    with pytest.raises(PowerCut):
        launch(bench, progress=cut, checkpoint_seconds=0.0)
    crashed = bench.told[-1].step
    same(launch(bench), straight.fitted)
    assert bench.told[0].step == crashed - 1
    assert bench.rows == straight.rows


def test_checkpoints_follow_the_clock(bench, monkeypatch):
    """With a long cadence only the end is saved."""
    steps, save = [], checkpoints.save

    def note(folder, step, *rest):
        steps.append(step)
        save(folder, step, *rest)

    monkeypatch.setattr(checkpoints, "save", note)
    for seconds, expected in ((1e9, [5]), (0.0, [0, 1, 2, 3, 5])):  # the end stands one beyond its step
        steps.clear()
        runs = bench.make_runs([1, 2], **bench.HYPER)
        settings = {"checkpoint_seconds": seconds, "call_seconds": 0.0, "place": str(seconds)}
        bench.fit(bench.noisy, runs, 4, options=OPTIONS, **settings)
        assert steps == expected
