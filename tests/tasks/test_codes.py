"""Statistics of the codes of a split, against scipy's analysis of variance and a plain loop."""

import numpy as np
import pytest
import scipy.stats

from jaxdl.tasks.codes import ACTIVE, active_units, class_shares

pytestmark = pytest.mark.usefixtures("quick_compilation")

LABEL = np.array([3, 0, 7, 0, 3, 3, 0, 7, 7, 0, 0, 3, 7, 0, 3, 0, 0], np.int32)  # 8, 5 and 4 of a class
SIZE, CLASSES = len(LABEL), 3


def codes_of(units, seed=0):
    """Whose mean and spread differ from class to class and from unit to unit."""
    random = np.random.default_rng(seed)
    spread = (1 + LABEL[:, None]) * (1 + np.arange(units))
    return (random.normal(size=(SIZE, units)) * spread + 2 * LABEL[:, None]).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_the_shares_of_a_unit_have_the_f_statistics_of_scipy(seed):
    """F = share / (1 - share) (N - C) / (C - 1): of the values, and in the test of Brown & Forsythe."""
    codes = codes_of(1, seed)
    groups = [codes[label == LABEL, 0].astype(np.float64) for label in np.unique(LABEL)]
    wanted = scipy.stats.f_oneway(*groups), scipy.stats.levene(*groups, center="median")
    for share, other in zip(class_shares(codes, LABEL), wanted, strict=True):
        assert 0 < share < 1
        assert share / (1 - share) * (SIZE - CLASSES) / (CLASSES - 1) == pytest.approx(other.statistic, rel=1e-9)


def plain_share(values):
    """Sums over units, classes and examples, one after another."""
    between = total = 0.0
    for unit in range(values.shape[1]):
        mean = np.mean(values[:, unit])
        for number, label in enumerate(LABEL):
            own = np.mean([values[other, unit] for other in range(SIZE) if LABEL[other] == label])
            between += (own - mean) ** 2
            total += (values[number, unit] - mean) ** 2
    return between / total


def test_the_shares_of_several_units_are_of_their_pooled_variances():
    codes = codes_of(4)
    wide = codes.astype(np.float64)
    distances = np.empty_like(wide)
    for number, label in enumerate(LABEL):
        distances[number] = np.abs(wide[number] - np.median(wide[label == LABEL], axis=0))
    shares = class_shares(codes, LABEL)
    np.testing.assert_allclose(shares, [plain_share(wide), plain_share(distances)], rtol=1e-12)
    each = [class_shares(codes[:, [unit]], LABEL) for unit in range(4)]
    assert np.abs(np.mean(each, axis=0) - shares).min() > 0.01  # units that vary more count for more


def test_means_and_spreads_are_told_apart():
    random = np.random.default_rng(1)
    label, noise = np.repeat([0, 1], 500), random.normal(size=(1000, 2))
    places, spreads = class_shares(noise + 10.0 * label[:, None], label)
    assert places > 0.95 and spreads < 0.02
    places, spreads = class_shares(noise * np.where(label, 10.0, 0.1)[:, None], label)
    assert places < 0.02 and spreads > 0.3


def test_classes_that_share_nothing_and_everything():
    label = np.array([0, 0, 1, 1])
    for size in (4, 1001):  # constant codes, of which no rounding makes differences
        assert class_shares(np.full((size, 3), 0.1, np.float32), np.arange(size) % 3) == (0.0, 0.0)
    assert class_shares(np.array([[1.0], [1.0], [4.0], [4.0]]), label) == (1.0, 0.0)
    assert class_shares(np.array([[1.0], [3.0], [0.0], [4.0]]), label) == (0.0, 1.0)


def test_units_whose_mean_varies_by_more_than_a_hundredth_are_active():
    sign = np.array([1.0, -1.0])[:, None]  # variance: the square
    deviation = np.sqrt(ACTIVE) * np.array([0.0, 0.5, 0.999, 1.001, 2.0, 100.0])
    assert ACTIVE == 0.01
    assert active_units(sign * deviation + 5.0) == 3
    assert active_units((sign * deviation).astype(np.float32)) == 3
    assert active_units(np.full((7, 4), 3.0)) == 0
    assert active_units(np.array([[0.0], [0.0], [0.24]])) == 1  # over images, 0.0128; of its sample, 0.0192
    assert active_units(np.array([[0.0], [0.18]])) == 0  # over images, 0.0081; of its sample, 0.0162
