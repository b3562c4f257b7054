"""How sure a difference between methods is: intervals over seeds and test examples, p-values, Holm's correction.

All seeds of a study share one test set. An interval over seeds alone is about this test set; to be about the
population that it was drawn from, it must cover the choice of examples, too. Seeds s = 1..S and examples i = 1..N
are crossed, and the contrast d_si of the methods' outcomes has three components of variance:

    d_si = mu + a_s + b_i + e_si        Var(mean) = Var(a) / S + Var(b) / N + Var(e) / (S N)

estimated from the mean squares of the two-way table without replication, with Satterthwaite's degrees of freedom
(Searle, Casella & McCulloch 1992, "Variance components", chapters 2 and 4; Satterthwaite 1946, Biometrics Bulletin 2).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 10_000  # more than that: no number of seeds decides


class Estimate(NamedTuple):
    """A mean, and what is known of its error.

    error: standard error of the mean; freedom: its degrees of freedom
    seeds, examples: S and N; N = 0 where only seeds vary
    variances: of (a, b, e) above, none negative; of the seeds alone where N = 0
    """

    mean: float
    error: float
    freedom: float
    seeds: int
    examples: int
    variances: tuple[float, float, float]

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """(low, high) of the two-sided interval, by Student's t."""
        from scipy import stats

        half = self.error * float(stats.t.ppf(0.5 + level / 2, self.freedom))
        return self.mean - half, self.mean + half

    def below(self, bound: float) -> float:
        """p-value of the one-sided test whose alternative is that the population's mean lies below `bound`."""
        from scipy import stats

        if self.error == 0:
            return float(self.mean >= bound)
        return float(stats.t.cdf((self.mean - bound) / self.error, self.freedom))

    def above(self, bound: float) -> float:
        """p-value of the one-sided test whose alternative is that the population's mean lies above `bound`."""
        return self._replace(mean=-self.mean).below(-bound)


def crossed(values: np.ndarray) -> Estimate | None:
    """The mean of values [S, N] over a population of seeds and one of examples; None for fewer than two of either.

    Var(mean) = (MS_seed + MS_example - MS_rest) / (S N), and no less than either choice alone would make it.
    """
    seeds, examples = values.shape
    if seeds < 2 or examples < 2:
        return None
    values = np.asarray(values, np.float64)
    mean = values.mean()
    by_seed, by_example = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_example[None, :] + mean
    freedoms = seeds - 1, examples - 1, (seeds - 1) * (examples - 1)
    squares = (
        float(examples * np.square(by_seed - mean).sum() / freedoms[0]),
        float(seeds * np.square(by_example - mean).sum() / freedoms[1]),
        float(np.square(rest).sum() / freedoms[2]),
    )
    variances = (
        max(0.0, (squares[0] - squares[2]) / examples),
        max(0.0, (squares[1] - squares[2]) / seeds),
        squares[2],
    )
    error, freedom = _error(squares, freedoms, seeds * examples)
    return Estimate(float(mean), error, freedom, seeds, examples, variances)


def _error(squares: tuple[float, ...], freedoms: tuple[int, ...], count: int) -> tuple[float, float]:
    """The standard error of the mean and its degrees of freedom, from mean squares of seeds, examples and the rest."""
    total = squares[0] + squares[1] - squares[2]
    largest = max(range(2), key=lambda place: squares[place])
    if total <= squares[largest]:
        return math.sqrt(squares[largest] / count), freedoms[largest]
    freedom = total**2 / sum(square**2 / own for square, own in zip(squares, freedoms, strict=True))
    return math.sqrt(total / count), max(1.0, freedom)


def over_seeds(values: np.ndarray) -> Estimate | None:
    """The mean of values [S] over a population of seeds alone; None for fewer than two."""
    seeds = len(values)
    if seeds < 2:
        return None
    values = np.asarray(values, np.float64)
    variance = float(values.var(ddof=1))
    return Estimate(float(values.mean()), math.sqrt(variance / seeds), seeds - 1, seeds, 0, (variance, 0.0, 0.0))


def with_seeds(estimate: Estimate, seeds: int) -> Estimate:
    """What the same estimate would be expected to look like with another number of seeds, and the same examples."""
    a, b, e = estimate.variances
    if not estimate.examples:
        return estimate._replace(error=math.sqrt(a / seeds), freedom=seeds - 1, seeds=seeds)
    examples = estimate.examples
    squares = examples * a + e, seeds * b + e, e
    freedoms = seeds - 1, examples - 1, (seeds - 1) * (examples - 1)
    error, freedom = _error(squares, freedoms, seeds * examples)
    return estimate._replace(error=error, freedom=freedom, seeds=seeds)


def seeds_to_decide(estimate: Estimate, bound: float, level: float = LEVEL, power: float = POWER) -> int | None:
    """How many seeds would tell the mean from `bound` with this power, were the estimate true.

    level: of the two-sided test. None where no number of seeds does: the test examples are too few, or the mean is
    the bound. The power is that of the noncentral t distribution.
    """
    from scipy import stats

    distance = abs(estimate.mean - bound)

    def enough(seeds: int) -> bool:
        then = with_seeds(estimate, seeds)
        if then.error == 0:
            return distance > 0
        critical = stats.t.ppf(0.5 + level / 2, then.freedom)
        return bool(stats.nct.sf(critical, then.freedom, distance / then.error) >= power)

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979, Scandinavian Journal of Statistics 6), in the order given."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
