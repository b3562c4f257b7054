"""What papers say of the ResNet study's variants: claims, published numbers, differences, notes."""

from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import time_of
from jaxdl.study import Published

HE = "He et al. 2016"
TABLE_6 = {20: 0.0875, 32: 0.0751, 44: 0.0717, 56: 0.0697}  # test error; 110 layers have a spread over runs
RATIO = "train_log10_gradient_ratio"
FLAT = 0.01  # of the training error, from the second longest training to the longest


def fit_name(variant: str) -> str:
    """What the fits of a variant are called: "plain_20"."""
    return variant.replace("-", "_")


def densenet(config: Any) -> str:
    """What the DenseNet is called: its depth and growth rate, after the paper's L and k."""
    return f"densenet-{config.compare.densenet.depth}-{config.compare.densenet.growth_rate}"


def at(metric: str, config: Any) -> list[str]:
    """The metric after each number of steps, the longest training last."""
    return [*(f"{metric}_at_{steps}" for steps in config.budgets), metric]


def claims(config: Any) -> list[Any]:
    """What the papers claim of these variants, of the shallowest and the deepest nets where both are there."""
    claim, depths = jaxdl.study.claims, config.compare.depths
    less, Cell = claim.less, claim.Cell
    first, last = depths[0], depths[-1]
    shallow, deep, residual = f"plain-{first}", f"plain-{last}", f"residual-{last}"
    margin, found = config.compare.margin, []
    if config.budgets:
        steps = config.budgets[-1]
        found.append(claim.equal(
            "long-enough",
            f"The longest training is long enough: after {steps:,} steps with the whole schedule, {shallow}'s training "
            f"error is the same within {100 * FLAT:g} point",
            f"{HE}, section 4.1", "train_error", shallow, Cell(shallow, f"train_error_at_{steps}"), FLAT,
        ))  # fmt: skip
    if last > first:
        found.append(claim.Claim(
            "plain-degrades",
            f"{deep} has a higher training error than {shallow}"
            + f", after each of {len(config.budgets) + 1} numbers of steps" * bool(config.budgets),
            f"{HE}, Figure 6", "train_error",
            tuple({Cell(deep, name): 1.0, Cell(shallow, name): -1.0} for name in at("train_error", config)), "greater",
        ))  # fmt: skip
        found.append(claim.Claim(
            "residual-degrades-less",
            f"From {first} to {last} layers the training error rises by less in residual nets than in plain ones",
            f"{HE}, Figure 6", "train_error",
            ({residual: 1.0, f"residual-{first}": -1.0, deep: -1.0, shallow: 1.0},), "less",
        ))  # fmt: skip
        if margin:
            found.append(claim.equal(
                "residual-does-not",
                f"{residual} has the same training error as residual-{first}, within {100 * margin:g} point"
                + "s" * (margin != 0.01),
                f"{HE}, Figure 6", "train_error", residual, f"residual-{first}", margin,
            ))  # fmt: skip
        else:
            found.append(less(
                "residual-does-not", f"{residual} has a lower training error than residual-{first}",
                f"{HE}, Figure 6", "train_error", residual, f"residual-{first}",
            ))  # fmt: skip
        found.append(claim.greater(
            "gradients-do-not-vanish-with-depth",
            f"Before training, the gradient at the first convolution is not smaller beside that at the last in {deep} "
            f"than in {shallow}: log10 of their ratio is larger",
            f"{HE}, section 4.1", f"{RATIO}_at_0", deep, shallow,
        ))  # fmt: skip
        found.append(less(
            "deeper-responds-less", f"Layers respond with a smaller standard deviation in {residual} than in "
            f"residual-{first}", f"{HE}, Figure 7", "test_response", residual, f"residual-{first}",
        ))  # fmt: skip
    found += [
        less("residual-beats-plain", f"{residual} has a lower test error than {deep}", f"{HE}, Figure 6", "test_error",
             residual, deep),
        claim.Claim(
            "residual-responds-less",
            "Layers respond with a smaller standard deviation in residual nets than in plain ones of "
            + " and of ".join(str(depth) for depth in sorted({first, last})) + " layers",
            f"{HE}, Figure 7", "test_response",
            tuple({f"residual-{depth}": 1.0, f"plain-{depth}": -1.0} for depth in sorted({first, last})), "less",
        ),
        claim.Claim(
            "gradients-are-healthy",
            f"In {deep} the norms of the gradient at the first and the last convolution are within a factor of 100 of "
            "each other, before and after training (log10)",
            f"{HE}, section 4.1", RATIO, ({Cell(deep, f"{RATIO}_at_0"): 1.0}, {deep: 1.0}), "equal", 2.0,
        ),
    ]  # fmt: skip
    dense = config.compare.densenet.depth
    if dense and matched(config) in depths:
        found.append(less(
            "densenet-beats-residual",
            f"With as many parameters, {densenet(config)} has a lower test error than residual-{matched(config)}",
            "Huang et al. 2017, Figure 4", "test_error", densenet(config), f"residual-{matched(config)}",
        ))  # fmt: skip
    return found


def matched(config: Any) -> int:
    """The depth of the residual net that the DenseNet has about as many parameters as: the first with option B."""
    return config.compare.option_b[0] if config.compare.option_b else config.compare.depths[0]


def published(config: Any) -> list[Published]:
    """Test errors on CIFAR-10, with crops and flips."""
    augmented = config.augmentation.crop_padding == 4 and config.augmentation.horizontal_flip == 0.5
    if config.data.name != "cifar10" or not augmented:
        return []
    paper = f"{HE}, Table 6"
    found = [
        Published(f"residual-{depth}", "test_error", TABLE_6[depth], None, 0, paper, True)
        for depth in config.compare.depths
        if depth in TABLE_6
    ]
    if 110 in config.compare.depths:
        found.append(Published("residual-110", "test_error", 0.0661, 0.0016, 5, paper, True))
    dense = config.compare.densenet
    if (dense.depth, dense.growth_rate, dense.bottleneck, dense.compression) == (100, 12, True, 0.5):
        paper = "Huang et al. 2017, Table 2"
        found.append(Published(densenet(config), "test_error", 0.0451, None, 0, paper, True))
    return found


def differs(config: Any) -> list[str]:
    """In what the recipe differs from that of He et al. 2016, section 4.2."""
    data, rule, hyper, warm_up = config.data, config.optimizer, config.hyper, config.warm_up
    time, batch = time_of(config), config.batch_size
    augmentation = config.augmentation.crop_padding, config.augmentation.horizontal_flip
    same_rule = (rule.name, rule.schedule, rule.milestones, rule.decay) == ("momentum", "step", (0.5, 0.75), 0.1)
    rates = (hyper.learning_rate, hyper.momentum, hyper.weight_decay) == (0.1, 0.9, 1e-4)
    densenets = config.compare.densenet.depth
    checks = [
        (data.name != "cifar10", f"The data are {data.name} instead of CIFAR-10."),
        (data.name == "cifar10" and data.train != 45000, f"Trained on {data.train:,} images instead of 45,000."),
        (data.normalise != "pixel_mean", f"Images are normalised by {data.normalise}, not by the mean of each pixel."),
        (augmentation != (4, 0.5), "No crops of images padded by 4 pixels with flips."),
        (
            (time, batch) != ("64,000 steps", 128),
            f"Trained for {time} on batches of {batch} instead of 64,000 steps on batches of 128.",
        ),
        (
            not (same_rule and rates),
            "The optimizer is not momentum .9 at a rate of .1, cut to a tenth at 1/2 and 3/4.",
        ),
        (max(config.compare.depths) < 110, f"At most {max(config.compare.depths)} layers instead of 110."),
        (
            max(config.compare.depths) >= warm_up.depth,
            f"Nets of {warm_up.depth} layers start at {warm_up.factor:g} times the rate for {warm_up.steps} steps, not "
            "until an error is reached.",
        ),
        (True, "Weight decay acts on kernels alone; the paper does not say on which parameters."),
        (densenets > 0, "The DenseNet is trained with the recipe of the residual nets, not with its paper's."),
    ]
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know: what happened for fewer steps, whether training had ended, sizes."""
    lines = []
    plain = [row for row in results.rows if row.variant.startswith("plain-") and "train_error" in row.metrics]
    residual = [row for row in results.rows if row.variant.startswith("residual-") and "train_error" in row.metrics]
    for row in (plain[0], plain[-1]) if len(plain) > 1 else plain:
        steps, values = results.band(row, fit_name(row.variant), "train_error")
        if len(steps) > 4:
            quarter = max(1, len(steps) // 4)
            before, after = (100 * float(np.mean(values[-number])) for number in (quarter + 1, 1))
            lines.append(
                f"{row.variant}: the training error of the batches went from {before:.2f} to {after:.2f} % in the last "
                f"{steps[-1] - steps[-quarter - 1]:,} of {steps[-1]:,} steps."
            )
    if config.budgets:
        words = ", ".join(f"{steps:,}" for steps in config.budgets)
        names = at("train_error", config)
        each = [
            f"{row.variant} " + " / ".join(f"{100 * row.metrics[name].mean():.2f}" for name in names)
            for row in (*plain, *residual)
            if all(name in row.metrics for name in names)
        ]
        lines.append(f"Training error in % after {words} and all steps, each from the start: {'; '.join(each)}.")
    sizes = [f"{row.variant} {row.metrics['train_parameters'][0]:,.0f}" for row in results.rows
             if "train_parameters" in row.metrics]  # fmt: skip
    if sizes:
        lines.append(f"Parameters: {', '.join(sizes)}.")
    if config.data.name == "cifar10":
        lines.append("Copies of CIFAR-10 whose images were encoded as JPEG again give somewhat higher errors.")
    return lines
