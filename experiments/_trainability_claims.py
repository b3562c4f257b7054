"""What papers say of the trainability study's variants: claims, differences, and what its table's reader must know."""

from typing import Any

import numpy as np

import jaxdl
from experiments import _expressivity as exact
from experiments.greedy_pretraining import time_of

GLOROT, HE_2015 = "Glorot & Bengio 2010", "He et al. 2015, Figure 3"
IOFFE, HE_2016 = "Ioffe & Szegedy 2015", "He et al. 2016"
GRADIENT, STEPS = "train_log10_gradient_at_0", "train_steps_to_loss"
SAME = 0.02  # test errors this close are the same
SAME_FACTOR = 0.1  # decades a layer


def label(family: str, depth: int, gain: float = 1.0) -> str:
    """ "relu-he-10", "relu-he-10-x2": a family at a depth, its initial weights times a gain."""
    return f"{family}-{depth}" + (f"-x{gain:g}" if gain != 1 else "")


def starts(config: Any) -> str:
    """What the best of several starting points is called: "relu-he-2-5starts"."""
    return f"{label('relu-he', config.compare.depths[0])}-{config.compare.starts}starts"


def claims(config: Any) -> list[Any]:
    """What the papers and the lectures claim, of the families and depths at hand."""
    compare, judged = config.compare, jaxdl.study.claims
    less, Claim = judged.less, judged.Claim
    first, last, at = compare.depths[0], compare.depths[-1], compare.gain_depth
    there, found = set(compare.families), []
    if "sigmoid-glorot" in there and len(compare.depths) > 2:
        middle = compare.depths[len(compare.depths) // 2]
        nets = [label("sigmoid-glorot", depth) for depth in (first, middle, last)]
        below, above = 1 / (middle - first), 1 / (last - middle)
        found += [
            judged.decreasing(
                "sigmoid-gradient-vanishes",
                "Before training, the gradient at the first layer of sigmoid networks shrinks with every step in depth "
                "(log10 of its norm)",
                f"{GLOROT}, section 4.2", GRADIENT, [label("sigmoid-glorot", depth) for depth in compare.depths],
            ),
            Claim(
                "sigmoid-gradient-vanishes-exponentially",
                f"It shrinks by the same factor a layer from {first} to {middle} as from {middle} to {last} layers, "
                f"within {SAME_FACTOR:g} decades",
                f"{GLOROT}, section 4.2", GRADIENT,
                ({nets[1]: below + above, nets[0]: -below, nets[2]: -above},), "equal", SAME_FACTOR,
            ),
        ]  # fmt: skip
    if {"tanh-standard", "tanh-glorot"} <= there and last > first:
        ends = {
            family: [label(f"tanh-{family}", depth) for depth in (last, first)] for family in ("standard", "glorot")
        }
        (deep, shallow), (plain_deep, plain_shallow) = ends["glorot"], ends["standard"]
        found += [
            Claim(
                "glorot-removes-most-of-it",
                f"From {first} to {last} tanh layers the first layer's gradient loses less than half as many decades "
                "with Glorot's initialisation as with the standard one",
                f"{GLOROT}, section 4.2", GRADIENT,
                ({deep: 1.0, shallow: -1.0, plain_deep: -0.5, plain_shallow: 0.5},), "greater",
            ),
            less("glorot-beats-standard", f"{deep} makes fewer test errors than {plain_deep}", f"{GLOROT}, Table 1",
                 "test_error", deep, plain_deep),
        ]  # fmt: skip
    if {"relu-glorot", "relu-he"} <= there:
        he, glorot = label("relu-he", last), label("relu-glorot", last)
        found.append(Claim(
            "he-trains-deep-rectifiers",
            f"With {last} layers of rectifiers the training error from He's initialisation is less than half of that "
            "from Glorot's", HE_2015, "train_error", ({he: 1.0, glorot: -0.5},), "less",
        ))  # fmt: skip
    for family in compare.gain_families:
        plain, normalised = family.removesuffix("-batch_norm"), f"{family.removesuffix('-batch_norm')}-batch_norm"
        if family != normalised:
            continue
        net = label(normalised, at)
        scaled = [label(normalised, at, gain) for gain in compare.gains]
        found.append(Claim(
            f"batch-norm-ignores-scale-{plain}",
            f"With batch norm, {net} makes as many test errors from weights times "
            f"{' or '.join(f'{gain:g}' for gain in compare.gains)}, within {100 * SAME:g} points",
            f"{IOFFE}, section 3.3", "test_error", tuple({each: 1.0, net: -1.0} for each in scaled), "equal", SAME,
        ))  # fmt: skip
        other = label(plain, at)
        if plain in compare.gain_families:
            found.append(Claim(
                f"without-it-scale-matters-{plain}",
                f"Scaling the initial weights raises {other}'s test error by more than {net}'s",
                f"{IOFFE}, section 3.3", "test_error",
                tuple({label(plain, at, gain): 1.0, other: -1.0, each: -1.0, net: 1.0}
                      for gain, each in zip(compare.gains, scaled, strict=True)), "greater",
            ))  # fmt: skip
        if plain in compare.gain_families or (plain in there and at in compare.depths):
            found.append(less(
                f"batch-norm-is-faster-{plain}", f"{net} takes fewer steps to {reached(config)} than {other}",
                f"{IOFFE}, Figure 2", STEPS, net, other,
            ))  # fmt: skip
    if "relu-he-residual" in there and last > first:
        deep, shallow = label("relu-he-residual", last), label("relu-he-residual", first)
        found.append(judged.equal(
            "residual-depth-is-harmless",
            f"{deep} makes as many test errors as {shallow}, within {100 * SAME:g} points",
            HE_2016, "test_error", deep, shallow, SAME,
        ))  # fmt: skip
        if "relu-he" in there:
            found.append(Claim(
                "residual-harms-less-than-plain",
                f"From {first} to {last} layers the test error rises by less with shortcuts than without them",
                HE_2016, "test_error",
                ({deep: 1.0, shallow: -1.0, label("relu-he", last): -1.0, label("relu-he", first): 1.0},), "less",
            ))  # fmt: skip
    if {"relu-he", "sigmoid-glorot", "tanh-glorot"} <= there:
        relu = label("relu-he", first)
        found.append(Claim(
            "relu-is-faster", f"{relu} takes fewer steps to {reached(config)} than sigmoid and than tanh units",
            "Krizhevsky et al. 2012, Figure 1", STEPS,
            tuple({relu: 1.0, label(family, first): -1.0} for family in ("sigmoid-glorot", "tanh-glorot")), "less",
        ))  # fmt: skip
    linear = "linear-orthogonal"
    if linear in there and last > first:
        base = label(linear, first)
        found.append(Claim(
            "linear-depth-adds-nothing",
            f"Linear networks of {', '.join(str(depth) for depth in compare.depths[1:])} layers make as many test "
            f"errors as one of {first}, within {100 * SAME:g} points",
            "the lectures", "test_error",
            tuple({label(linear, depth): 1.0, base: -1.0} for depth in compare.depths[1:]), "equal", SAME,
        ))  # fmt: skip
        if "relu-he" in there:
            found.append(less(
                "a-nonlinearity-adds", f"{label('relu-he', first)} makes fewer test errors than {base}",
                "the lectures", "test_error", label("relu-he", first), base,
            ))  # fmt: skip
    if compare.starts and "relu-he" in there:
        found.append(less(
            "several-starts",
            f"The best on the validation split of {compare.starts} starting points makes fewer test errors than one",
            "the lectures", "test_error", starts(config), label("relu-he", first),
        ))  # fmt: skip
    found += [
        less(
            f"deep-learns-{function}",
            f"{config.functions.teeth} layers of {config.functions.units} units fit the {function} with fewer errors "
            "than one layer with as many units in all",
            {"sawtooth": "Telgarsky 2016, Theorem 1.1", "parity": "the lectures"}[function],
            "train_error", f"{function}-deep", f"{function}-shallow",
        )
        for function in compare.functions
    ]  # fmt: skip
    return found


def reached(config: Any) -> str:
    """The training loss that steps are counted to, in words."""
    return f"a training loss of {config.target_loss:g} nats"


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the papers'."""
    return [
        f"The data are {config.data.name}, layers have {config.model.width} units, trained for {time_of(config)} on "
        f"batches of {config.batch_size}; the papers have up to 1,000 units, images of objects, and longer training.",
        "Initialisations of one variance are Gaussian here; standard's and Glorot's are uniform in the paper.",
        "Residual layers are s + a(unit(s)) / sqrt(depth) without batch norm, one linear map a layer; the paper's have "
        "two, and batch norm.",
        "The learning rate is each variant's own, chosen on the validation split; momentum is .9.",
    ]


def factor(values: dict[int, np.ndarray]) -> tuple[float, float]:
    """By what a gradient is multiplied a layer, with the half-width of its 95% interval over seeds.

    values: {depth: log10 of its norm [seeds]}; each seed's factor is 10 to the slope of a line through its values
    """
    depths = np.array(list(values))
    slopes = np.polyfit(depths, np.stack(list(values.values())), 1)[0]  # [seeds]
    return jaxdl.study.results.interval(10**slopes)


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know: fitted factors, what passes through layers, and exact constructions."""
    rows, depths = {row.variant: row for row in results.rows if row.metrics}, config.compare.depths
    lines = [
        f"Steps: until {reached(config)}, as a moving mean over about 20 batches (batch norm with their own "
        "statistics), at the learning rate with the least validation error, which need not be the fastest; all steps "
        "of the training where it was never reached, which understates how slow it was.",
    ]
    for family in config.compare.families if len(depths) > 2 else ():
        nets = {depth: rows[label(family, depth)] for depth in depths if label(family, depth) in rows}
        values = {depth: row.metrics.get(GRADIENT, np.zeros(0)) for depth, row in nets.items()}
        if len(values) == len(depths) and len({len(each) for each in values.values()}) == 1 and len(values[depths[0]]):
            mean, half = factor(values)
            lines.append(f"{family}: before training a layer more multiplies the first layer's gradient by "
                         f"{mean:.3f} ± {half:.3f}.")  # fmt: skip
    found = [
        f"{variant} {row.metrics['train_singular_value_at_0'].mean():.2f}"
        for variant, row in rows.items()
        if "train_singular_value_at_0" in row.metrics and variant.endswith(f"-{depths[-1]}")
    ]
    if found:
        lines.append(
            f"Mean singular value of the layers' Jacobians before training: {', '.join(found)}. {GLOROT}, section 4.2: "
            "about .5 with the standard initialisation of tanh layers, about .8 with theirs."
        )
    return lines + (constructions(config) if config.compare.functions else [])


def constructions(config: Any) -> list[str]:
    """What is represented exactly, with how many units; each is computed here and compared with the function."""
    functions = config.functions
    teeth, bits = functions.teeth, functions.bits
    x = np.arange(16 * 2**teeth + 1) / (16 * 2**teeth)
    wave, words = exact.sawtooth(x, teeth), exact.all_bits(bits)
    parity = words.sum(axis=1) % 2
    same = all(
        np.array_equal(one, other)
        for one, other in (
            (exact.deep_sawtooth(x, teeth), wave), (exact.shallow_sawtooth(x, teeth), wave),
            (exact.deep_parity(words), parity), (exact.shallow_parity(words), parity),
        )
    )  # fmt: skip
    if not same:
        raise AssertionError("a construction does not give its function")
    return [
        f"A sawtooth of {exact.pieces(wave)} pieces, exactly: {teeth} layers of 2 rectifiers, {2 * teeth} in all; one "
        f"layer needs {exact.pieces(wave) - 1} or more, as it has one piece more than units at most.",
        f"Parity of {bits} bits, exactly: {2 * (bits - 1)} rectifiers in {int(np.ceil(np.log2(bits)))} layers; an or "
        f"of ands needs {exact.implicants(words, parity)} ands. One layer of {bits} rectifiers does it too: parity "
        "is a sawtooth of the sum, and there depth saves little.",
    ]
