"""Intervals, p-values and corrections against scipy, statsmodels and simulated studies."""

import numpy as np
import pandas
import pytest
import scipy.stats
import statsmodels.api
import statsmodels.formula.api
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from jaxdl.study import statistics


def table(seed, seeds=5, examples=7, deviations=(1.0, 2.0, 0.5)):
    """Values [S, N] with random effects of seeds, examples and both."""
    random = np.random.default_rng(seed)
    a, b, e = (
        deviation * random.standard_normal(shape)
        for deviation, shape in zip(deviations, ((seeds, 1), (1, examples), (seeds, examples)), strict=True)
    )
    return 0.3 + a + b + e


def mean_squares(values):
    """Of seeds, examples and the rest, by statsmodels' analysis of variance."""
    seeds, examples = np.indices(values.shape)
    frame = pandas.DataFrame({"seed": seeds.ravel(), "example": examples.ravel(), "value": values.ravel()})
    fitted = statsmodels.formula.api.ols("value ~ C(seed) + C(example)", frame).fit()
    found = statsmodels.api.stats.anova_lm(fitted)
    return (found["sum_sq"] / found["df"]).to_numpy()


@pytest.mark.parametrize("seed", range(5))
def test_variances_and_the_error_of_the_mean_follow_from_the_analysis_of_variance(seed):
    values = table(seed)
    by_seed, by_example, rest = mean_squares(values)
    found = statistics.crossed(values)
    np.testing.assert_allclose(found.mean, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.variances, ((by_seed - rest) / 7, (by_example - rest) / 5, rest), rtol=1e-10)
    np.testing.assert_allclose(found.error**2, (by_seed + by_example - rest) / 35, rtol=1e-10)
    parts = by_seed**2 / 4 + by_example**2 / 6 + rest**2 / 24
    np.testing.assert_allclose(found.freedom, (by_seed + by_example - rest) ** 2 / parts, rtol=1e-10)
    low, high = found.interval()
    expected = scipy.stats.t(found.freedom, found.mean, found.error).ppf([0.025, 0.975])
    np.testing.assert_allclose([low, high], expected, rtol=1e-10)


@pytest.mark.parametrize("axis", [0, 1])
def test_where_only_one_choice_matters_the_interval_is_that_of_a_t_test_over_it(axis):
    """All examples alike (or all seeds): the mean over them, one value a seed (or example)."""
    values = np.broadcast_to(np.random.default_rng(1).standard_normal((5, 1)), (5, 7))
    found = statistics.crossed(values if axis == 0 else values.T)
    reference = scipy.stats.ttest_1samp(values[:, 0], 0)
    np.testing.assert_allclose(found.interval(), reference.confidence_interval(0.95), rtol=1e-10)
    np.testing.assert_allclose(2 * min(found.below(0), found.above(0)), reference.pvalue, rtol=1e-10)


def test_the_error_is_never_below_that_of_either_choice_alone():
    """Where the rest is large by chance, the estimate of the variance would be too small, or negative."""
    for seed in range(200):
        values = table(seed, deviations=(0.0, 0.0, 1.0))
        by_seed, by_example, rest = (
            7 * values.mean(axis=1).var(ddof=1), 5 * values.mean(axis=0).var(ddof=1), None,
        )  # fmt: skip
        found = statistics.crossed(values)
        assert rest is None and found.error**2 >= max(by_seed, by_example) / 35 * (1 - 1e-12)
        assert 1 <= found.freedom <= 24 and min(found.variances) >= 0


@pytest.mark.parametrize("bound", [-0.4, 0.0, 0.7])
def test_one_sided_tests_over_seeds_are_those_of_scipy(bound):
    values = np.random.default_rng(2).normal(0.3, 1, 6)
    found = statistics.over_seeds(values)
    for side, alternative in (("below", "less"), ("above", "greater")):
        expected = scipy.stats.ttest_1samp(values, bound, alternative=alternative)
        np.testing.assert_allclose(getattr(found, side)(bound), expected.pvalue, rtol=1e-10)
    np.testing.assert_allclose(
        found.interval(0.9), scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9), rtol=1e-10
    )


def test_two_one_sided_tests_are_statsmodels_equivalence_test():
    values = np.random.default_rng(3).normal(0.02, 0.1, 8)
    found = statistics.over_seeds(values)
    p, _, _ = DescrStatsW(values).ttost_mean(-0.1, 0.1)
    np.testing.assert_allclose(max(found.below(0.1), found.above(-0.1)), p, rtol=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_that_of_statsmodels(seed):
    values = np.random.default_rng(seed).random(seed + 1) ** 3
    np.testing.assert_allclose(statistics.holm(values), multipletests(values, method="holm")[1], rtol=1e-12)


def test_holm_of_nothing_and_of_ties():
    assert statistics.holm([]) == []
    assert statistics.holm([0.02, 0.02]) == [0.04, 0.04]


@pytest.mark.parametrize(("mean", "deviation", "level"), [(0.5, 1.0, 0.95), (1.0, 0.6, 0.95), (0.2, 1.0, 0.99)])
def test_the_seeds_that_decide_are_those_of_a_t_test_with_that_power(mean, deviation, level):
    estimate = statistics.Estimate(mean, deviation / 2, 3, 4, 0, (deviation**2, 0.0, 0.0))
    found = statistics.seeds_to_decide(estimate, 0.0, level)
    expected = TTestPower().solve_power(mean / deviation, power=0.8, alpha=1 - level)
    assert found == int(np.ceil(expected))


def test_too_few_examples_cannot_be_made_up_for_by_seeds():
    few, many = (statistics.Estimate(0.01, 0.02, 5, 5, examples, (0.0001, 0.1, 0.01)) for examples in (400, 400_000))
    assert statistics.seeds_to_decide(few, 0.0) is None
    assert 3 < statistics.seeds_to_decide(many, 0.0) < 30
    assert statistics.seeds_to_decide(many._replace(mean=0.0), 0.0) is None


def test_more_seeds_leave_the_estimate_of_the_same_number_as_it_is():
    found = statistics.crossed(table(4))
    again = statistics.with_seeds(found, 5)
    np.testing.assert_allclose((again.error, again.freedom), (found.error, found.freedom), rtol=1e-10)
    assert statistics.with_seeds(found, 50).error < found.error


def test_too_few_of_either_give_no_estimate():
    assert statistics.crossed(np.zeros((1, 9))) is None
    assert statistics.crossed(np.zeros((9, 1))) is None
    assert statistics.over_seeds(np.zeros(1)) is None


def test_no_variance_at_all():
    found = statistics.crossed(np.full((3, 4), 0.5))
    assert found.interval() == (0.5, 0.5)
    assert (found.below(1), found.above(1), found.below(0), found.above(0)) == (0, 1, 1, 0)


@pytest.mark.parametrize("seeds", [5, 10])
def test_intervals_cover_the_population_and_nulls_are_seldom_rejected(seeds):
    """1,000 studies of two equally good methods: binary outcomes, examples of all difficulties, one test set each."""
    random = np.random.default_rng(seeds)
    covered = rejected = 0
    p = []
    for _ in range(1000):
        difficulty = random.standard_normal(300)

        def errors(difficulty=difficulty):
            own = 0.5 * random.standard_normal(300) + 0.1 * random.standard_normal((seeds, 1))
            return random.random((seeds, 300)) < scipy.stats.norm.cdf(-1 + difficulty + own)

        found = statistics.crossed(errors().astype(float) - errors())
        low, high = found.interval()
        covered += low <= 0 <= high
        p.append(min(1, 2 * min(found.below(0), found.above(0))))
    for family in np.array(p[:999]).reshape(-1, 3).tolist():
        rejected += min(statistics.holm(family)) < 0.05
    assert 0.93 <= covered / 1000 <= 0.975
    assert rejected / 333 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 333)
