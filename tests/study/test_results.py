"""From run folders to means: tuning, intervals and results.csv, against plain loops over what was written."""

import csv
import io
import math

import numpy as np
import pytest
import scipy.stats

from jaxdl.study import folders
from jaxdl.study.results import Results, interval, is_fraction, shown, title
from jaxdl.study.runs import Run

RATES, NOISES, SEEDS = (0.01, 0.1, 1.0), (0.2, 0.4), 3
TUNE = {"hyper.rate": RATES, "hyper.noise": NOISES}


def make_run(variant, rate, noise, seed, grid=("hyper.rate", "hyper.noise")):
    values = {"hyper.rate": rate, "hyper.noise": noise}
    hyper = {"rate": rate, "noise": noise, "other": 0.5}
    return Run(variant, seed, {}, hyper, f"{variant}{rate}{noise}", {key: values[key] for key in grid})


def store(workdir, run, metrics, diverged=""):
    folder = folders.run_folder(workdir, run)
    folders.begin(folder, {})
    folders.finish(folder, metrics, {}, diverged)


def grid(workdir, validation, test=None, tune=TUNE, select=("validation_error", "min"), variant="v"):
    """Results of one variant. validation: (rate, noise, seed) -> its value, None for a run that diverged."""
    runs = [make_run(variant, r, n, s) for r in tune["hyper.rate"] for n in tune["hyper.noise"] for s in range(SEEDS)]
    for run in runs:
        key = (run.hyper["rate"], run.hyper["noise"], run.seed)
        value = validation(*key)
        metrics = {select[0]: value, "test_error": test(*key) if test else 0.5}
        store(workdir, run, {} if value is None else metrics, diverged="deep at step 7" if value is None else "")
    return Results(workdir, runs, tune, select)


def test_the_point_is_chosen_by_the_mean_validation_metric_never_by_the_test_split(tmp_path):
    random = np.random.default_rng(3)
    for trial, direction in enumerate(("min", "max", "min", "max")):
        values = {(r, n, s): random.random() for r in RATES for n in NOISES for s in range(SEEDS)}
        tests = {key: random.random() for key in values}
        means = {}
        for r in RATES:
            for n in NOISES:
                means[r, n] = sum(values[r, n, s] for s in range(SEEDS)) / SEEDS
        best = min(means, key=means.get) if direction == "min" else max(means, key=means.get)
        results = grid(
            tmp_path / str(trial),
            lambda *key, values=values: values[key],
            lambda *key, tests=tests: tests[key],
            select=("validation_score", direction),
        )
        (row,) = results.rows
        assert row.point == {"hyper.rate": best[0], "hyper.noise": best[1]}
        assert [run.seed for run in row.runs] == [0, 1, 2]
        assert {(run.hyper["rate"], run.hyper["noise"]) for run in row.runs} == {best}
        assert row.metrics["test_error"].tolist() == [tests[(*best, s)] for s in range(SEEDS)]
        assert (row.diverged, row.failed) == (0, 0)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_point_where_a_run_diverged_is_chosen_only_if_all_have_one(tmp_path, direction):
    sign = 1 if direction == "min" else -1

    def best_but_diverged(rate, noise, seed):
        if rate == 0.01:  # by far the best, but for one seed
            return None if seed == 1 else sign * 0.1
        return sign * (0.5 if (rate, noise) == (0.1, 0.4) else 0.8)

    row = grid(tmp_path / "a", best_but_diverged, select=("validation_score", direction)).row("v")
    assert row.point == {"hyper.rate": 0.1, "hyper.noise": 0.4}
    assert (row.diverged, row.failed) == (0, 0)

    def all_diverge_somewhere(rate, noise, seed):
        if rate == 1.0:
            return None  # at every seed
        return None if seed == 2 else sign * rate

    row = grid(tmp_path / "b", all_diverge_somewhere, select=("validation_score", direction)).row("v")
    assert row.point["hyper.rate"] == 0.01
    assert (row.diverged, row.failed) == (1, 0)
    assert len(row.metrics["validation_score"]) == 2


def test_ties_go_to_the_first_point_of_the_grid(tmp_path):
    row = grid(tmp_path, lambda rate, noise, seed: 0.25 if rate >= 0.1 else 0.5).row("v")
    assert row.point == {"hyper.rate": 0.1, "hyper.noise": 0.2}


@pytest.mark.parametrize(
    ("best", "edge"),
    [(0.01, ["hyper.rate", "hyper.noise"]), (0.1, ["hyper.noise"]), (1.0, ["hyper.rate", "hyper.noise"])],
)
def test_a_best_value_at_either_end_of_its_grid_is_flagged(tmp_path, best, edge):
    """A grid of two values has no inside: its best is always at an end."""
    row = grid(tmp_path, lambda rate, noise, seed: abs(math.log(rate / best)) + noise).row("v")
    assert row.point == {"hyper.rate": best, "hyper.noise": 0.2}
    assert row.edge == edge


def test_what_is_not_tuned_is_no_point_and_has_no_edge(tmp_path):
    """One value in the grid, or a variant that sets the value itself."""
    tune = {"hyper.rate": RATES, "hyper.noise": (0.2,)}
    row = grid(tmp_path / "a", lambda rate, noise, seed: rate, tune=tune).row("v")
    assert (row.point, row.edge) == ({"hyper.rate": 0.01}, ["hyper.rate"])
    runs = [make_run("fixed", 0.01, 0.3, seed, ()) for seed in range(2)]  # 0.01 is an end of the grid of others
    for run in runs:
        store(tmp_path / "b", run, {"validation_error": 0.1})
    row = Results(tmp_path / "b", runs, TUNE, ("validation_error", "min")).row("fixed")
    assert (row.point, row.edge) == ({}, [])


def test_runs_that_failed_or_never_ended_are_counted(tmp_path):
    runs = [make_run("v", 0.1, 0.2, seed) for seed in range(5)]
    store(tmp_path, runs[0], {"validation_error": 0.1, "test_error": 0.2})
    store(tmp_path, runs[1], {}, diverged="deep at step 3")
    folders.begin(folders.run_folder(tmp_path, runs[2]), {})
    folders.begin(folders.run_folder(tmp_path, runs[3]), {})
    folders.fail(folders.run_folder(tmp_path, runs[3]), "ValueError()")
    row = Results(tmp_path, runs, {"hyper.rate": (0.1,), "hyper.noise": (0.2,)}, ("validation_error", "min")).row("v")
    assert (len(row.runs), row.diverged, row.failed, row.absent) == (5, 1, 1, 2)
    assert row.metrics["test_error"].tolist() == [0.2]


def test_each_variant_has_one_row_and_an_absent_one_has_none(tmp_path):
    runs = [make_run(variant, 0.1, 0.2, seed) for variant in ("b", "a") for seed in range(2)]
    for run in runs:
        store(tmp_path, run, {"validation_error": 0.1 * run.seed})
    results = Results(tmp_path, runs, {"hyper.rate": (0.1,), "hyper.noise": (0.2,)}, ("validation_error", "min"))
    assert [row.variant for row in results.rows] == ["b", "a"]
    assert results.row("a") is results.rows[1]
    assert results.row("c") is None


AWKWARD = [1 / 3, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1e-5, 123456789.12345679, 2.0]


def test_results_csv_holds_every_point_and_every_bit(tmp_path):
    names = [f"test_{number}" for number in range(len(AWKWARD))]
    runs = [make_run(v, r, n, s) for v in ("a,b", 'c"d') for r in RATES for n in NOISES for s in range(SEEDS)]
    expected = []
    for number, run in enumerate(runs):
        if number == 5:
            store(tmp_path, run, {}, diverged="deep at step 3")
            continue
        values = dict(zip(names, np.roll(AWKWARD, number).tolist(), strict=True))
        store(tmp_path, run, values)
        expected += [
            ("study", run.variant, run.hash, str(run.seed), name, values[name].hex()) for name in sorted(names)
        ]
    text = Results(tmp_path, runs, TUNE, ("test_0", "min")).csv("study")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["study", "variant", "hash", "seed", "metric", "value"]
    assert [(*row[:5], float(row[5]).hex()) for row in rows[1:]] == expected
    assert len({(row[1], row[2]) for row in rows[1:]}) == 2 * len(RATES) * len(NOISES)


def test_curves_and_bands_are_what_was_logged(tmp_path):
    runs = [make_run("v", 0.1, 0.2, seed) for seed in range(2)]
    for run in runs:
        folder = folders.run_folder(tmp_path, run)
        store(tmp_path, run, {"validation_error": 0.1})
        for step in (10, 20, 30):
            value = math.nan if (run.seed, step) == (1, 20) else step + run.seed / 3
            folders.append(folder, {"fit": "deep", "step": step, "validation_loss": value})
        folders.append(folder, {"fit": "layer", "step": 10, "validation_loss": -1.0})
    results = Results(tmp_path, runs, TUNE, ("validation_error", "min"))
    assert results.curves(runs[1], "deep", "validation_loss") == {10: 10 + 1 / 3, 30: 30 + 1 / 3}
    steps, values = results.band(results.row("v"), "deep", "validation_loss")
    assert (steps, values) == ([10, 30], [[10.0, 10 + 1 / 3], [30.0, 30 + 1 / 3]])


def test_the_interval_is_that_of_scipy():
    random = np.random.default_rng(0)
    for count in (2, 3, 10, 50):
        values = random.normal(3, 2, count)
        mean, half = interval(values)
        low, high = scipy.stats.t.interval(0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values))
        np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-12)


def test_the_interval_of_three_values_by_hand():
    """1, 2, 3: mean 2, s = 1, and 4.302653 is the 97.5% point of t with 2 degrees of freedom in any table."""
    mean, half = interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean():
    mean, half = interval(np.array([0.25]))
    assert (mean, math.isnan(half)) == (0.25, True)
    assert all(math.isnan(value) for value in interval(np.array([])))
    assert shown("test_error", np.array([0.0431])) == "4.31"
    assert shown("test_error", np.array([])) == "-"


def test_errors_and_accuracies_are_shown_in_percent_and_other_metrics_as_they_are():
    half = 100 * 0.02 * 12.706205 * math.sqrt(2) / math.sqrt(2) / math.sqrt(2)  # s = .02, n = 2: t s / sqrt(n)
    values = np.array([0.1 - 0.02 / math.sqrt(2), 0.1 + 0.02 / math.sqrt(2)])
    assert shown("test_error", values) == shown("validation_accuracy", values) == f"10.00 ± {half:.2f}"
    assert shown("test_loss", values) == f"0.100 ± {half / 100:.3f}"
    assert shown("test_squared_error", np.array([2.5])) == "2.500"
    fractions = ["test_error", "train_accuracy", "test_error_before", "test_squared_error", "test_loss", "test_terror"]
    fractions.append("test_absolute_error")
    assert [is_fraction(name) for name in fractions] == [True, True, True, False, False, False, False]
    assert (title("test_error_before"), title("test_squared_error")) == ("test error before %", "test squared error")
