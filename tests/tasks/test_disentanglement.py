"""The linear classifier's score: codes of known quality, chance, and pairs against plain loops."""

import itertools
import math

import numpy as np
import pytest

from jaxdl import tasks
from jaxdl.errors import UserError
from jaxdl.tasks import disentanglement

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZES = (3, 6, 10, 8, 8)


@pytest.fixture(scope="module")
def factors():
    """2,000 of all combinations, as a test split has them: int32 [2000, 5]."""
    grid = np.array(list(itertools.product(*map(range, SIZES))), np.int32)
    return np.random.default_rng(0).choice(grid, 2000, replace=False)


def rotation(size, seed):
    """A random orthogonal matrix, float64 [size, size]."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def test_codes_that_are_the_factors_score_1_and_rotated_ones_clearly_less(factors):
    draw = np.random.default_rng(1)
    standard = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    codes = np.concatenate([standard + 0.1 * draw.normal(size=standard.shape), draw.normal(size=(2000, 5))], axis=1)
    codes = codes[:, draw.permutation(10)] * np.geomspace(1e-5, 100, 10) + 7  # neither order, unit nor origin matter
    assert tasks.linear_score(codes, factors, 0) > 0.99
    turned = [tasks.linear_score(standard @ rotation(5, seed), factors, 0, pairs=8) for seed in range(3)]
    straight = tasks.linear_score(standard, factors, 0, pairs=8)
    assert straight > 0.99 and max(turned) < straight - 0.1


def test_factors_that_share_a_code_are_not_told_apart(factors):
    """x + y in place of both: the pairs that share x and those that share y look alike."""
    codes = np.stack([*factors.T[:3], factors[:, 3] + factors[:, 4]], axis=1)
    score = tasks.linear_score(codes, factors, 0)
    assert score == pytest.approx(1 - 1 / 5, abs=4 * math.sqrt(0.4 * 0.25 / 500))  # 1 of 2 right in 2/5 of the votes


def test_random_codes_score_a_guess(factors):
    codes = np.random.default_rng(2).normal(size=(2000, 10))
    score = tasks.linear_score(codes, factors, 3)
    assert score == pytest.approx(1 / 5, abs=4 * math.sqrt(0.2 * 0.8 / 500))  # 500 votes are not trained on
    many = np.random.default_rng(3).normal(size=(2000, 200))  # the 150 votes to train on could be learned by heart
    assert tasks.linear_score(many, factors, 0, votes=200, pairs=4) < 1 / 5 + 4 * math.sqrt(0.2 * 0.8 / 50)
    assert tasks.linear_score(np.ones((2000, 3)), factors, 0) == 1 / 5  # collapsed: always the same guess


def test_the_score_depends_on_the_seed_only(factors):
    codes = np.random.default_rng(4).normal(size=(2000, 6)) + 0.5 * factors[:, [0, 1, 2, 3, 4, 4]]
    scores = [tasks.linear_score(codes, factors, seed, pairs=8) for seed in (0, 0, 1, 2)]
    assert scores[0] == scores[1] and len(set(scores)) > 1
    assert tasks.linear_score(codes.astype(np.float32).astype(np.float64), factors, 0, pairs=8) == tasks.linear_score(
        codes.astype(np.float32), factors, 0, pairs=8
    )


def test_pairs_share_the_factor_of_their_vote_and_are_drawn_evenly():
    """Few images, so that every possible pair is drawn often."""
    draw = np.random.default_rng(5)
    factors = np.array([[0, 7, 2], [0, 7, 2], [1, 7, 2], [1, 9, 2], [1, 9, 4], [1, 9, 4]])
    shared = draw.integers(3, size=300)
    first, second = disentanglement.draw_pairs(factors, shared, 200, draw)
    assert first.shape == second.shape == (300, 200)
    counts = np.zeros((3, 6, 6))
    for vote, one, other in zip(np.repeat(shared, 200), first.flat, second.flat, strict=True):
        counts[vote, one, other] += 1
    for factor in range(3):
        total = counts[factor].sum()
        for one, other in np.ndindex(6, 6):
            same = [row for row in range(6) if row != one and factors[row, factor] == factors[one, factor]]
            chance = 1 / 6 / len(same) if other in same else 0
            assert abs(counts[factor, one, other] - chance * total) <= 4 * math.sqrt(chance * total)


def test_a_vote_is_the_mean_distance_of_its_pairs():
    draw = np.random.default_rng(6)
    codes, first, second = draw.normal(size=(20, 3)), draw.integers(20, size=(7, 4)), draw.integers(20, size=(7, 4))
    found = disentanglement.difference(codes, first, second)
    assert found.shape == (7, 3)
    for vote, place in np.ndindex(7, 3):
        total = 0.0
        for pair in range(4):
            total += abs(codes[first[vote, pair]][place] - codes[second[vote, pair]][place])
        assert found[vote, place] == pytest.approx(total / 4, rel=1e-12)


def test_codes_of_a_diverged_run_have_no_score(factors):
    codes = factors.astype(np.float64)
    codes[5, 1] = np.nan
    assert math.isnan(tasks.linear_score(codes, factors, 0))


def test_mistakes_are_named():
    factors = np.array([[0, 3], [0, 3], [1, 3], [1, 8]])
    with pytest.raises(UserError) as error:
        tasks.linear_score(np.zeros((4, 2)), factors, 0)
    assert str(error.value) == "4 images are too few to draw pairs: value 8 of factor 1 has one image only"
    with pytest.raises(UserError, match=r"^votes=7 is not possible with 2 factors: valid is 8 or more$"):
        tasks.linear_score(np.zeros((4, 2)), factors[:, :1].repeat(2, axis=1), 0, votes=7)
    with pytest.raises(UserError, match=r"^pairs=0 is not possible: valid is 1 or more$"):
        tasks.linear_score(np.zeros((4, 2)), factors[:, :1].repeat(2, axis=1), 0, pairs=0)
