"""fit as a whole: against plain loops, one compilation each, memoised by run, and what plan says of it."""

import jax
import numpy as np
import pytest

from jaxdl import training
from jaxdl.data import normalisation
from jaxdl.errors import UserError
from jaxdl.training import fitting, program

STEPS, EVERY, ROWS = 22, 6, (6, 12, 18, 22)
DIVERGES = {"learning_rate": 1.0, "weight_decay": 1e15, "momentum": 0.0}  # each step multiplies the weights by -1e15


def row_of(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


def test_fit_is_a_plain_loop(bench, close, monkeypatch):
    """Three classifiers: parameters, every row of metrics, the final metrics and outcomes, to the last ragged batch."""
    monkeypatch.setattr(program, "EVALUATION_BATCH", 4)
    hyper = {"learning_rate": [0.5, 0.1, 1.0], "weight_decay": [0.0, 0.1, 0.0], "momentum": [0.0, 0.9, 0.5]}
    runs = bench.make_runs([4, 4, 9], **hyper)
    fitted = bench.fit(bench.classify, runs, STEPS)
    assert fitted.steps.tolist() == [STEPS] * 3 and fitted.diverged.tolist() == [0] * 3 and not bench.warned
    for number in range(3):
        own = {name: values[number] for name, values in hyper.items()}
        trace, losses = bench.plain_loop(bench.classify, bench.source, runs["seed"][number], own, STEPS)
        close(row_of(fitted.params, number), trace[-1])
        assert [step for step, _ in bench.rows[number]] == list(ROWS)
        for since, (step, row) in zip((0, *ROWS), bench.rows[number], strict=False):
            expected = bench.plain_classifier(trace[step], bench.source.data["validation"])
            np.testing.assert_allclose(row["train_loss"], np.mean(losses[since:step]), rtol=1e-6)
            np.testing.assert_allclose(row["validation_loss"], expected["loss"].mean(), rtol=1e-6)
            np.testing.assert_allclose(row["validation_error"], expected["error"].mean(), rtol=1e-6)
            assert set(row) == {"train_loss", "train_error", "validation_loss", "validation_error"}
        for split in ("train", "validation", "test"):
            expected = bench.plain_classifier(trace[-1], bench.source.data[split])
            for metric in ("loss", "error"):
                found = fitted.metrics[f"{split}_{metric}"][number]
                np.testing.assert_allclose(found, expected[metric].mean(), rtol=1e-6)
        np.testing.assert_allclose(fitted.outcomes["test_loss"][number], expected["loss"], rtol=1e-5)
        np.testing.assert_array_equal(fitted.outcomes["test_error"][number], expected["error"])


def test_one_program_for_every_value_of_every_key(bench, close, compiled):
    """Every hyperparameter is traced: a sweep in chunks, with runs that stop early or diverge, compiles once.

    And each run is the one in which its values are constants of the program.
    """
    base = bench.STRENGTHS | {"learning_rate": 0.2, "weight_decay": 0.01, "momentum": 0.5}
    changes = {"learning_rate": 0.6, "weight_decay": 0.2, "momentum": 0.9}
    changes |= {"masking": 0.5, "gaussian": 0.3, "salt_pepper": 0.4, "sparsity_weight": 0.5}
    points = [base, *(base | {name: value} for name, value in changes.items())]
    points += [base | {"sparsity_weight": 0.5, "sparsity_target": 0.4}, base | DIVERGES, base | {"learning_rate": 0.0}]
    runs = bench.make_runs([5] * len(points), **{name: [point[name] for point in points] for name in base})
    options = {"patience": 2, "evaluations": 8}
    fitted = bench.fit(bench.reconstruct, runs, 16, options=options, runs_at_once=4)
    assert compiled() == ["advance", "evaluate", "init", "keep"]

    *stay, diverges, still = range(len(points))
    assert len(points) == 11 and fitted.steps[still] == 6  # three chunks; the first evaluation is its best
    trace, losses = bench.plain_loop(bench.reconstruct, bench.source, 5, points[diverges], 16)
    assert fitted.diverged[diverges] == np.flatnonzero(~np.isfinite(losses))[0] + 1
    different = []
    for number in stay:
        trace, losses = bench.plain_loop(bench.reconstruct, bench.source, 5, points[number], 16)
        curve = [row["validation_loss"] for _, row in bench.rows[number]]
        end, best = bench.plain_stop(curve, 2, 2)
        assert fitted.steps[number] == end
        close(row_of(fitted.params, number), trace[best])
        means = [np.mean(losses[step - 2 : step]) for step in range(2, end + 1, 2)]
        np.testing.assert_allclose([row["train_loss"] for _, row in bench.rows[number]], means, rtol=1e-6)
        different.append(tuple(losses[:4]))
    assert len(set(different)) == len(stay)  # each key matters


def test_a_grid_is_one_program(bench, close, compiled):
    """3 learning rates x 4 weight decays."""
    rates, decays = np.repeat([0.1, 0.3, 1.0], 4), np.tile([0.0, 0.01, 0.1, 0.5], 3)
    runs = bench.make_runs([1] * 12, learning_rate=rates, weight_decay=decays, momentum=0.0)
    fitted = bench.fit(bench.classify, runs, 10, runs_at_once=3)
    assert compiled() == ["advance", "evaluate", "init"]
    for number in (0, 6, 11):
        hyper = {"learning_rate": rates[number], "weight_decay": decays[number], "momentum": 0.0}
        close(row_of(fitted.params, number), bench.plain_loop(bench.classify, bench.source, 1, hyper, 10)[0][-1])
    assert len({values.tobytes() for values in fitted.params["output"]["kernel"]}) == 12


def test_no_steps(bench, same):
    """steps=0 measures the initial parameters."""
    runs = bench.make_runs([1, 2, 3], **bench.HYPER)
    fitted = bench.fit(bench.classify, runs, 0)
    assert fitted.steps.tolist() == [0] * 3 and bench.rows == {}
    for number, seed in enumerate([1, 2, 3]):
        trace, _ = bench.plain_loop(bench.classify, bench.source, seed, bench.HYPER, 0)
        same(row_of(fitted.params, number), trace[0])
        expected = bench.plain_classifier(trace[0], bench.source.data["test"])
        np.testing.assert_allclose(fitted.outcomes["test_loss"][number], expected["loss"], rtol=1e-5)


class Training(Exception):
    """fit began to train."""


@pytest.fixture
def trained(monkeypatch):
    """The numbers of the runs that each Trainer trains, in a list."""
    chunks = []

    class Spy(fitting.Trainer):
        def train(self, before):
            chunks.append(self.chunk.tolist())
            super().train(before)

    monkeypatch.setattr(fitting, "Trainer", Spy)
    return chunks


def test_finished_runs_are_read_back(bench, same, trained):
    few, all_seeds = [3, 1], [2, 1, 5, 3]
    runs = bench.make_runs(few, **bench.HYPER)
    first, rows = bench.fit(bench.classify, runs), bench.rows
    same(bench.fit(bench.classify, runs), first)
    assert trained == [[0, 1]]
    assert bench.rows == rows  # told again: the files of a launch start anew

    more = bench.fit(bench.classify, bench.make_runs(all_seeds, **bench.HYPER))
    assert trained == [[0, 1], [0, 2]]
    fresh = bench.fit(bench.classify, bench.make_runs(all_seeds, **bench.HYPER), place="fresh", runs_at_once=2)
    assert trained == [[0, 1], [0, 2], [0, 1], [2, 3]]
    same(more, fresh)
    same(bench.fit(bench.classify, bench.make_runs([5, 3, 3], **bench.HYPER)), row_of(fresh, np.array([2, 3, 3])))
    assert len(trained) == 4 and sorted(bench.rows) == [0, 1, 2]
    assert not bench.warned


def test_what_makes_another_run(bench, monkeypatch):
    """Anything that a run depends on leads to training; its company and the way it executes do not."""
    runs = bench.make_runs([1, 2], **bench.HYPER)
    settings = {"steps": 12, "options": {"patience": 3, "average": 0.5, "identity": ["a", "b"]}}
    fitted = bench.fit(bench.classify, runs, **settings)

    def train(self, before):
        raise Training

    def compile(self, missing, begun, keeps_best):
        return program.Compiled(self.at_once, None, 0.0)

    monkeypatch.setattr(fitting.Trainer, "train", train)
    monkeypatch.setattr(program.Program, "compile", compile)  # nothing is trained: no program is needed

    def fit(runs=runs, source=None, name="fit", steps=12, place=None, **options):
        options = settings["options"] | options
        return bench.fit(bench.classify, runs, steps, source=source, options=options, name=name, **(place or {}))

    assert fit().steps.tolist() == fitted.steps.tolist()
    fit(place={"runs_at_once": 1, "checkpoint_seconds": 0.0, "call_seconds": 0.0})
    fit(row_of(runs, [1]), identity=["b"])
    fit(source=bench.source._replace(streamed=True, workers=2))
    others = [{"steps": 13}, {"steps": 11}, {"patience": 2}, {"average": 0.6}, {"identity": ["a", "c"]}]
    others += [{"evaluations": 3}, {"select": ("validation_error", "min")}, {"select": ("validation_loss", "max")}]
    others += [{"name": "other"}, {"source": bench.source._replace(batch_size=7)}]
    others += [{"source": bench.source._replace(order="shared")}, {"source": bench.source._replace(fingerprint="x")}]
    mean = normalisation.fit("pixel_mean", bench.source.data["train"]["image"], 1 / 16)
    others += [{"source": bench.source._replace(normalisation=mean)}, {"source": bench.make_source(train=41)}]
    others += [{"runs": bench.make_runs([1, 3], **bench.HYPER)}, {"runs": runs | {"start": np.zeros(2, np.float32)}}]
    others += [{"runs": bench.make_runs([1, 2], **bench.HYPER | {name: [0.5, 0.25]})} for name in bench.HYPER]
    for change in others:
        with pytest.raises(Training):
            fit(**change)
            pytest.fail(f"{change} did not train")


def outline(tree):
    return jax.tree.map(lambda leaf: (np.shape(leaf), np.asarray(leaf).dtype), tree)


def test_prepared_data(bench, close):
    """A run's own data, from its own input: the same as training on that data."""

    def prepare(run, values):
        return values | {"image": bench.source.images(values["image"]) * run["hyper"]["zoom"] + run["shift"]}

    runs = bench.make_runs([1, 2], **bench.HYPER | {"zoom": [1.0, 3.0]}) | {"shift": np.float32([0.5, -0.5])}
    source = bench.source._replace(prepare=prepare)
    fitted = bench.fit(bench.classify, runs, 10, source=source)
    planned, shape = training.plan("fit", bench.classify, bench.optimizer, source, runs, bench.settings(), steps=10)
    assert planned == ("fit", 2, 10, 43, 1, 2) and outline(shape) == outline(fitted)
    for number, (zoom, shift) in enumerate([(1, 0.5), (3, -0.5)]):
        data = {}  # the plain loop takes 1/16 of what is stored, exactly
        for split, values in bench.source.data.items():
            data[split] = values | {"image": values["image"] * np.float32(zoom) + np.float32(16 * shift)}
        trace, _ = bench.plain_loop(bench.classify, bench.source._replace(data=data), number + 1, bench.HYPER, 10)
        close(row_of(fitted.params, number), trace[-1])
        expected = bench.plain_classifier(trace[-1], data["test"])
        np.testing.assert_allclose(fitted.outcomes["test_loss"][number], expected["loss"], rtol=1e-5)


def spread_and_worst(values):
    """A summary that is no mean."""
    return {"spread": values["loss"].max() - values["loss"].min(), "worst": values["loss"].max()}


def test_summarise(bench):
    fitted = bench.fit(bench.classify._replace(summarise=spread_and_worst), bench.make_runs([1, 2, 3], **bench.HYPER))
    losses = fitted.outcomes["test_loss"]
    np.testing.assert_allclose(fitted.metrics["test_worst"], losses.max(axis=1))
    np.testing.assert_allclose(fitted.metrics["test_spread"], np.ptp(losses, axis=1))
    assert set(bench.rows[0][0][1]) == {"train_loss", "train_error", "validation_spread", "validation_worst"}


@pytest.mark.parametrize("summarise", [None, spread_and_worst])
def test_plan_is_what_fit_does(bench, trained, summarise):
    task = bench.classify._replace(summarise=summarise)
    runs = bench.make_runs([1, 2, 3, 4, 5], **bench.HYPER)
    options = {"average": 0.5, "patience": 2, "select": ("train_loss", "min")}
    settings = bench.settings(runs_at_once=2)
    planned, shape = training.plan("fit", task, bench.optimizer, bench.source, runs, settings, steps=10, **options)
    assert not list(bench.folder.iterdir()) and not bench.told
    fitted = bench.fit(task, runs, 10, options=options, runs_at_once=2)
    assert outline(shape) == outline(fitted)
    parameters = (6 * 4 + 4) + (4 * 3 + 3)
    assert planned == ("fit", 5, 10, parameters, 1, 2)
    assert [len(chunk) for chunk in trained] == [2, 2, 1]
    assert all(state.steps == 10 and state.runs == 5 and state.total == 50 for state in bench.told)
    work = [state.work for state in bench.told]
    assert work == sorted(work) and work[0] == 0 and work[-1] == 40 + fitted.steps[4]


@pytest.mark.parametrize("streamed", [False, True])
def test_some_splits_are_measured(bench, same, trained, streamed):
    """What is measured is measured as always, and nothing else is; training is the same."""
    runs = bench.make_runs([1, 2], **bench.HYPER | {"momentum": 0.9})
    source = bench.source._replace(streamed=streamed)

    def fit(*measured):
        options = {"measured": measured}
        arguments = "fit", bench.classify, bench.optimizer, source, runs, bench.settings()
        fitted = bench.fit(bench.classify, runs, source=source, options=options)
        assert outline(training.plan(*arguments, steps=20, measured=measured)[1]) == outline(fitted)
        return fitted

    whole, rows = fit("train", "validation", "test"), bench.rows
    same(bench.fit(bench.classify, runs, source=source), whole)  # the default
    assert len(trained) == 1
    for measured in (("test",), ("validation", "train"), ()):
        some = fit(*measured)
        assert {name.split("_")[0] for name in some.metrics} == set(measured)
        expected = {name: values for name, values in whole.metrics.items() if name.split("_")[0] in measured}
        same(some, whole._replace(metrics=expected, outcomes=whole.outcomes if "test" in measured else {}))
        logged = ("train", *(["validation"] if "validation" in measured else []))
        for number, own in rows.items():
            cut = [(step, {name: v for name, v in row.items() if name.startswith(logged)}) for step, row in own]
            assert bench.rows[number] == cut
    assert len(trained) == 4  # each a fit of its own
    same(fit("train", "validation").metrics, fit("validation", "train").metrics)
    assert len(trained) == 4


def test_a_shorter_fit_is_the_beginning_of_a_longer_one(bench, same, monkeypatch):
    """With a constant schedule, noise at each step, and a mean of the parameters."""
    seen = {}

    class Spy(fitting.Trainer):
        def _look(self, state):
            super()._look(state)
            seen[int(self.step[0])] = jax.device_get(state.measured)

    runs = bench.make_runs([3, 8], **bench.HYPER | {"momentum": 0.9})
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "Trainer", Spy)
        bench.fit(bench.noisy, runs, 20, options={"average": 0.5})  # looks at least every 5 steps
    for steps in (5, 15):
        part = bench.fit(bench.noisy, runs, steps, options={"average": 0.5, "evaluations": 1, "measured": ()})
        assert part.steps.tolist() == [steps] * 2
        same((part.params, part.model_state), seen[steps])
    assert (seen[5][0]["encoder_0"]["kernel"] != seen[15][0]["encoder_0"]["kernel"]).any()


def test_early_stopping_by_what_is_not_measured(bench):
    """Only metrics of training are there."""
    runs = bench.make_runs([1, 2], **bench.HYPER)
    with pytest.raises(UserError, match=r"by 'validation_loss' is not possible: valid is train_error, train_loss$"):
        bench.fit(bench.classify, runs, options={"patience": 2, "measured": ("test",)})


def test_memory_bounds_the_runs_of_a_program(bench):
    """Three states and what evaluation gives, in bytes; whole steps of all devices, one at least."""
    runs = bench.make_runs(range(20), **bench.HYPER)
    weights = 4 * 43
    state = 2 * weights + 4 * (1 + 1 + 2 + 1)  # parameters, velocity; step, the optimizer's step, two sums, loss
    each = 3 * state + 4 * 2 * (42 + 13 + 11)

    def at_once(**settings):
        arguments = ("fit", bench.classify, bench.optimizer, bench.source, runs)
        return training.plan(*arguments, bench.settings(**settings), steps=10)[0].runs_at_once

    assert at_once(memory=7.5 * each) == 7
    assert at_once(memory=1) == 1
    assert at_once(memory=7.5 * each, devices=4) == 4
    assert at_once(memory=1, devices=4) == 4
    assert at_once() == 20
    assert at_once(devices=8) == 24
    assert at_once(runs_at_once=6, devices=4) == 4


def test_unknown_metric_to_stop_by(bench):
    options = {"patience": 2, "select": ("validation_auc", "max")}
    valid = "train_error, train_loss, validation_error, validation_loss"
    with pytest.raises(UserError, match=f"'validation_auc' is not possible: valid is {valid}"):
        bench.fit(bench.classify, bench.make_runs([1, 2, 3], **bench.HYPER), options=options)


def test_folder_where_orbax_cannot_save(bench):
    with pytest.raises(UserError, match=r"name a folder without \[$"):
        bench.settings("a[1]")
