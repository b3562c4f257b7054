"""Are the intervals and verdicts of claims as sure as they say? Simulated studies of which the truth is known.

    python -m launch.calibration [STUDIES]      default 2000 a row; some minutes

Each study compares two methods with S seeds on one test set of N examples drawn anew. A method errs on an example
with a probability that depends on the example, on the pair of method and example (so that methods differ on examples
and not in the population), and on the pair of method and seed:

    P(error) = Phi(c + method + example_i + interaction_mi + seed_ms)

Printed: how often the 95% interval of the difference covers the population's, beside that of an interval over seeds
alone; and how often one of three true null claims is called decided after Holm's correction.
"""

import sys

import numpy as np

from jaxdl.study import statistics

# label -> (centre, example, interaction, seed): standard deviations on the probit scale
SETTINGS = {
    "few errors, alike seeds": (-2.5, 1.0, 0.3, 0.05),
    "few errors, unlike seeds": (-2.5, 1.0, 0.3, 0.3),
    "many errors, alike seeds": (-0.5, 1.0, 0.3, 0.05),
    "many errors, unlike seeds": (-0.5, 1.0, 0.3, 0.3),
}


def study(
    random: np.random.Generator, setting: tuple[float, ...], seeds: int, examples: int, shift: float
) -> np.ndarray:
    """Differences of the errors of two methods, [seeds, examples]."""
    from scipy.stats import norm

    centre, example, interaction, seed = setting
    difficulty = example * random.standard_normal(examples)

    def errors(method: float) -> np.ndarray:
        own = interaction * random.standard_normal(examples)
        luck = seed * random.standard_normal((seeds, 1))
        chance = norm.cdf(centre + method + difficulty + own + luck)
        return random.random((seeds, examples)) < chance

    return errors(shift).astype(np.float64) - errors(0.0)


def truth(setting: tuple[float, ...], shift: float) -> float:
    """The population's difference: a normal variable in the argument of Phi integrates to Phi(c / sqrt(1 + var))."""
    from scipy.stats import norm

    centre, *deviations = setting
    width = np.sqrt(1 + sum(each**2 for each in deviations))
    return float(norm.cdf((centre + shift) / width) - norm.cdf(centre / width))


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'setting':<28}{'seeds':>6}{'examples':>9}{'shift':>7}{'covered %':>11}{'seeds alone %':>15}{'false %':>9}")
    for label, setting in SETTINGS.items():
        for seeds, examples in ((5, 400), (10, 400), (5, 2000), (10, 2000)):
            for shift in (0.0, 0.2):
                random = np.random.default_rng(0)
                expected = truth(setting, shift)
                covered = alone = 0
                p: list[float] = []
                for _ in range(count):
                    values = study(random, setting, seeds, examples, shift)
                    both, one = statistics.crossed(values), statistics.over_seeds(values.mean(axis=1))
                    low, high = both.interval()
                    covered += low <= expected <= high
                    low, high = one.interval()
                    alone += low <= expected <= high
                    p.append(min(1.0, 2 * min(both.below(0), both.above(0))))
                families = np.array(p[: count // 3 * 3]).reshape(-1, 3)
                false = np.mean([min(statistics.holm(family)) < 0.05 for family in families.tolist()])
                shown = f"{100 * false:>9.1f}" if shift == 0 else f"{'-':>9}"
                row = f"{label:<28}{seeds:>6}{examples:>9}{shift:>7.1f}{100 * covered / count:>11.1f}"
                print(f"{row}{100 * alone / count:>15.1f}{shown}", flush=True)


if __name__ == "__main__":
    main()
