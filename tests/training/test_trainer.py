"""The loop on the host: where it cuts, divergence, early stopping, the moving average."""

import jax
import numpy as np
import pytest

from jaxdl import training
from jaxdl.training import fitting

SPEEDS = {"learning_rate": [3.0, 1.0, 0.1, 0.5, 0.0], "weight_decay": 0.0, "momentum": [0.9, 0.5, 0.0, 0.9, 0.9]}


def row_of(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


@pytest.mark.parametrize("call_seconds", [0.0, 0.004, 1e9])
def test_where_calls_end_changes_no_bit(new_bench, same, call_seconds):
    """One step a call, a few, and all to the next row of metrics; the end is measured in parts, too."""
    straight, cut = new_bench(), new_bench()

    def evaluate(*arguments):
        values = straight.noisy.evaluate(*arguments)
        return values | {"zero": -0.0 * values["loss"]}

    task, runs = straight.noisy._replace(evaluate=evaluate), straight.make_runs([1, 2, 3], **straight.HYPER)
    expected = straight.fit(task, runs, 17)
    same(cut.fit(task, runs, 17, call_seconds=call_seconds), expected)
    assert cut.rows == straight.rows
    assert np.signbit(expected.outcomes["test_zero"]).all()
    steps = [state.step for state in cut.told]
    if call_seconds == 0.0:
        assert steps == list(range(18))
    if call_seconds == 1e9:
        assert steps == [0, 1, 3, 5, 10, 15, 17]  # 1, 2, 4, ... steps a call, and rows every 5


def test_divergence_is_told_and_stays_alone(bench, same):
    """Each step multiplies the weights of one run by -1e6; the others' bits do not notice."""
    good, bad = bench.HYPER, {"learning_rate": 1.0, "weight_decay": 1e6, "momentum": 0.0}
    options = {"evaluations": 20}
    healthy = bench.fit(bench.classify, bench.make_runs([1, 2, 4], **good), options=options, place="healthy")
    rows = bench.rows
    hyper = {name: [good[name], bad[name], good[name]] for name in good}
    fitted = bench.fit(bench.classify, bench.make_runs([1, 9, 2], **hyper), options=options, place="together")

    _, losses = bench.plain_loop(bench.classify, bench.source, 9, bad, 20)
    first = np.flatnonzero(~np.isfinite(losses))[0] + 1
    assert 5 < first < 15
    assert fitted.diverged.tolist() == [0, first, 0]
    assert fitted.steps.tolist() == [20, first, 20]
    assert [step for step, _ in bench.rows[1]] == [*range(1, first)]
    same(row_of(fitted, np.array([0, 2])), row_of(healthy, np.array([0, 1])))
    assert (bench.rows[0], bench.rows[2]) == (rows[0], rows[1])
    assert np.isfinite(bench.told[-1].loss)  # the mean over those that go on


def test_padding_never_trains(bench, monkeypatch):
    """Three runs on two devices are four: the fourth stays at its first step."""
    steps = []

    class Spy(fitting.Trainer):
        def _look(self, state):
            steps.append(np.asarray(state.step).tolist())
            super()._look(state)

    monkeypatch.setattr(fitting, "Trainer", Spy)
    runs, options = bench.make_runs([1, 2, 3], **bench.HYPER), {"average": 0.5}
    bench.fit(bench.noisy, runs, 4, options=options, devices=2, call_seconds=0.0)
    assert steps == [[step, step, step, 0] for step in range(5)]


def test_all_runs_diverge(bench):
    runs = bench.make_runs([1, 2, 3], learning_rate=1.0, weight_decay=[1e6, 1e9, 1e15], momentum=0.0)
    fitted = bench.fit(bench.classify, runs)
    assert (fitted.diverged == fitted.steps).all() and (fitted.steps > 0).all() and (fitted.steps < 15).all()
    assert fitted.steps[0] > fitted.steps[1] > fitted.steps[2]
    assert np.isnan(bench.told[-1].loss)


@pytest.mark.parametrize(("metric", "direction", "patience"), [("validation_loss", "min", 3), ("train_loss", "max", 2)])
def test_early_stopping(bench, close, metric, direction, patience):
    """Against a plain reading of each run's whole curve: the last step, and the parameters of the best evaluation."""
    runs = bench.make_runs([1, 2, 3, 4, 5], **SPEEDS)
    bench.fit(bench.classify, runs, 40, options={"evaluations": 13}, runs_at_once=3, place="whole")
    curves = {number: [row[metric] for _, row in rows] for number, rows in bench.rows.items()}
    options = {"evaluations": 13, "patience": patience, "select": (metric, direction)}
    fitted = bench.fit(bench.classify, runs, 40, options=options, runs_at_once=3, place="stopped")
    ends = set()
    for number in range(5):
        hyper = {"learning_rate": SPEEDS["learning_rate"][number], "momentum": SPEEDS["momentum"][number]}
        trace, _ = bench.plain_loop(bench.classify, bench.source, number + 1, hyper | {"weight_decay": 0.0}, 40)
        end, best = bench.plain_stop(curves[number], 4, patience, -1 if direction == "max" else 1)
        ends.add(end)
        assert fitted.steps[number] == end
        assert [row[metric] for _, row in bench.rows[number]] == curves[number][: end // 4]
        close(row_of(fitted.params, number), trace[best], rtol=1e-5, atol=1e-5)
        expected = bench.plain_classifier(row_of(fitted.params, number), bench.source.data["test"])
        np.testing.assert_allclose(fitted.outcomes["test_loss"][number], expected["loss"], rtol=1e-5)
    assert len(ends) > 2 and 4 * (1 + patience) in ends  # they stop at different steps, the one that stands still first


def test_a_run_that_diverges_keeps_its_best(bench, close):
    hyper = {"learning_rate": 1.0, "weight_decay": 1e6, "momentum": 0.0}
    options = {"patience": 9, "evaluations": 20}
    fitted = bench.fit(bench.classify, bench.make_runs([1, 2, 3], **hyper), options=options)
    for number in range(3):
        assert fitted.diverged[number] > 0
        best = int(np.nanargmin([row["validation_loss"] for _, row in bench.rows[number]])) + 1
        trace, _ = bench.plain_loop(bench.classify, bench.source, number + 1, hyper, best)
        close(row_of(fitted.params, number), trace[best], rtol=1e-5)


def test_moving_average(bench, close):
    """What is measured and returned is the average; training goes on from the parameters themselves."""
    hyper = {"learning_rate": 0.5, "weight_decay": 0.01, "momentum": 0.9}
    fitted = bench.fit(bench.classify, bench.make_runs([1, 2], **hyper), options={"average": 0.8})
    for number in range(2):
        trace, losses = bench.plain_loop(bench.classify, bench.source, number + 1, hyper, 20)
        average, averages = jax.tree.map(np.float64, trace[0]), []
        for params in trace:
            average = jax.tree.map(lambda old, new: 0.8 * old + 0.2 * new, average, params)
            averages.append(average)
        close(row_of(fitted.params, number), averages[20])
        for step, row in bench.rows[number]:
            measured = bench.plain_classifier(averages[step], bench.source.data["validation"])
            np.testing.assert_allclose(row["validation_loss"], measured["loss"].mean(), rtol=1e-6)
            np.testing.assert_allclose(row["train_loss"], np.mean(losses[step - 5 : step]), rtol=1e-6)
        measured = bench.plain_classifier(averages[20], bench.source.data["test"])
        np.testing.assert_allclose(fitted.outcomes["test_loss"][number], measured["loss"], rtol=1e-5)


def test_progress_counts_all_runs(bench):
    """Run-steps done of all, over chunks; each told once after every call."""
    bench.fit(bench.classify, bench.make_runs([1, 2, 3], **bench.HYPER), 10)
    bench.fit(bench.classify, bench.make_runs(range(1, 8), **bench.HYPER), 10, runs_at_once=3, call_seconds=0.0)
    assert [state.work for state in bench.told[:12]] == [*range(30, 61, 3), 60]
    assert [state.work for state in bench.told[12:]] == [*range(61, 71)]
    assert {(state.name, state.runs, state.steps, state.total) for state in bench.told} == {("fit", 7, 10, 70)}
    assert all(state.examples_per_second > 0 for state in bench.told[1:11])
    assert isinstance(bench.told[0], training.Progress)
