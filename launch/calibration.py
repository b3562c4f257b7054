"""Are the intervals and verdicts of claims as sure as they say? Simulated studies of which the truth is known.

    python -m launch.calibration [STUDIES]              default 2000 a row; some minutes
    python -m launch.calibration --power=DIR [STUDIES]  the power at the effect sizes of the study in a --workdir

Each study compares two methods with S seeds on one test set of N examples drawn anew. A method errs on an example
with a probability that depends on the example, on the pair of method and example (so that methods differ on examples
and not in the population), and on the pair of method and seed:

    P(error) = Phi(c + method + example_i + interaction_mi + seed_ms)

Printed: how often the 95% interval of the difference covers the population's, beside that of an interval over seeds
alone; and how often one of three true null claims is called decided after Holm's correction.

--power takes each claim's estimate and variance components, as its runs gave them, for the truth, and draws studies of
5, 10 and 20 seeds with the same number of test examples, d_si = mean + a_s + b_i + e_si, all normal. Printed: how often
the claim is decided at 5 %, and at 5 % divided by the number of claims, the least that Holm's correction leaves it.
"""

import importlib
import sys
import textwrap
from pathlib import Path

import numpy as np

from jaxdl.errors import UserError
from jaxdl.study import folders, statistics
from jaxdl.study.statistics import Estimate

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


def decided(random: np.random.Generator, truth: Estimate, seeds: int, count: int, levels: list[float]) -> np.ndarray:
    """How often a difference from zero would be found at each level, of `count` studies: [levels]."""
    by_seed, by_example, rest = np.sqrt(truth.variances)
    found = np.zeros(len(levels))
    for _ in range(count):
        mean = truth.mean + by_seed * random.standard_normal(seeds)
        if truth.examples:
            difficulty = by_example * random.standard_normal(truth.examples)
            noise = rest * random.standard_normal((seeds, truth.examples))
            estimate = statistics.crossed(mean[:, None] + difficulty[None, :] + noise)
        else:
            estimate = statistics.over_seeds(mean)
        found += 2 * min(estimate.below(0), estimate.above(0)) < np.array(levels)
    return found / count


def power(workdir: Path, count: int) -> None:
    """Print the power table of a study that has run."""
    asked = folders.read_asked(workdir)
    if asked is None:
        raise UserError(f"{workdir} holds no launch of a study: name the --workdir of one")
    found = importlib.import_module(f"experiments.{asked['study']}").study.load(workdir)
    tested = [finding for finding in found.report.findings if finding.weakest and finding.claim.relation != "equal"]
    print(f"{'claim':<34}{'estimate':>10}{'seeds':>7}{'power at 5 %':>14}{'after Holm at least':>21}")
    for finding in tested:
        truth = finding.weakest
        for seeds in (5, 10, 20):
            random = np.random.default_rng(seeds)
            alone, least = 100 * decided(random, truth, seeds, count, [0.05, 0.05 / len(tested)])
            name = textwrap.shorten(finding.claim.id, 33) if seeds == 5 else ""
            shown = f"{truth.mean:>10.4f}" if seeds == 5 else " " * 10
            print(f"{name:<34}{shown}{seeds:>7}{alone:>14.1f}{least:>21.1f}", flush=True)


def main() -> None:
    """Do what the command line asks for."""
    words = [word for word in sys.argv[1:] if not word.startswith("--power=")]
    if len(words) > 1 or not all(word.isdecimal() for word in words):
        print(
            f"error: {' '.join(words)} is not possible: valid is a number of studies, and --power=DIR", file=sys.stderr
        )
        sys.exit(2)
    count = int(words[0]) if words else 2000
    folder = next((word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--power=")), None)
    try:
        coverage(count) if folder is None else power(Path(folder), count)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def coverage(count: int) -> None:
    """Print the table of coverage and false verdicts."""
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
