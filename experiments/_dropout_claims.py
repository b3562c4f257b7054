"""What is claimed of dropout, what papers print of it, and what the table's reader must know."""

import math
from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import time_of
from jaxdl.study import Published

PAPER = "Srivastava et al. 2014"
MIDDLE = math.log2(math.sqrt(6))  # of 2 and 3 times as many steps, on a logarithmic scale
MARGIN_SMALL, MARGIN_AVERAGE = 0.01, 0.002
TABLE_9 = {"L2": 0.0162, "max-norm": 0.0135, "dropout+L2": 0.0125, "dropout+max-norm": 0.0105}


def claims(config: Any) -> list[Any]:
    """What the paper and the lectures claim, about all training images unless a size is named."""
    judged, compare, error = jaxdl.study.claims, config.compare, "test_error"
    less, equal, Claim, Cell = judged.less, judged.equal, judged.Claim, judged.Cell
    medium, smallest, most = compare.medium, min(compare.sizes), max(compare.averages)
    few, many = {f"none-{medium}": 1.0, f"dropout-{medium}": -1.0}, {"none": -1.0, "dropout": 1.0}
    return [
        less(
            "lowers-the-error", f"Dropout lowers the test error with {medium} training images, data of medium size",
            f"{PAPER}, Figure 10", error, f"dropout-{medium}", f"none-{medium}",
        ),
        equal(
            "no-gain-on-the-smallest",
            f"With {smallest} training images dropout gains nothing: test errors are within {100 * MARGIN_SMALL:g} %",
            f"{PAPER}, Figure 10", error, f"dropout-{smallest}", f"none-{smallest}", MARGIN_SMALL,
        ),
        Claim(
            "gain-shrinks",
            f"The test error that dropout saves with {medium} training images is more than with all of them",
            f"{PAPER}, Figure 10", error, (few | many,), "greater",
        ),
        Claim(
            "two-to-three-times-the-steps",
            f"To a training loss of {config.speed.loss:g} (without noise) dropout takes 2 to 3 times the steps: the "
            "logarithm of the ratio is within half of log 3/2 of the middle",
            f"{PAPER}, section 10; the lectures", "train_log2_steps",
            ({Cell("dropout", "train_log2_steps"): 1.0, Cell("none", "train_log2_steps_middle"): -1.0},),
            "equal", math.log2(1.5) / 2,
        ),
        less(
            "beats-L2", "Dropout of hidden units makes fewer test errors than L2 weight decay",
            f"{PAPER}, Table 9", error, "dropout", "L2",
        ),
        equal(
            "scaling-is-averaging",
            f"Scaled weights have the test error of the average of {most} thinned networks, within "
            f"{100 * MARGIN_AVERAGE:g} %",
            f"{PAPER}, Figure 11", error, "dropout", Cell("dropout", f"test_error_{most}"), MARGIN_AVERAGE,
        ),
    ]  # fmt: skip


def published(config: Any) -> list[Published]:
    """Table 9, of MNIST and the paper's network: one number for a variant that is here too."""
    if config.data.name != "mnist":
        return []
    source = f"{PAPER}, Table 9 (784-1024-1024-2048-10)"
    there = [name for name in TABLE_9 if name in config.compare.regularisers]
    return [Published(name, "test_error", TABLE_9[name], None, 0, source, True) for name in there]


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the paper's."""
    data, model, rule = config.data, config.model, config.optimizer
    layers, images = "-".join(map(str, model.widths)), data.train or 60_000 - data.validation
    time, momentum = time_of(config), config.hyper.momentum
    checks = [
        (data.name != "mnist", f"The data are {data.name} instead of MNIST."),
        (data.name == "mnist", f"Trained on {images:,} images instead of 60,000 after the choice of strengths."),
        (layers != "1024-1024-2048", f"The hidden layers are {layers} instead of 1024-1024-2048."),
        (model.inverted, "What is kept is scaled up in training, instead of weights scaled down for testing."),
        (time != "1,000,000 steps", f"Trained for {time} instead of up to a million steps."),
        ((rule.name, momentum) != ("momentum", 0.95), f"{rule.name} with {momentum:g} instead of momentum of 0.95."),
        (True, "L1 and the sparsity penalty stand alone, not with L2 as in Table 9."),
        (True, "Learning rates and strengths are chosen from short grids; the paper does not state its own."),
    ]
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know."""
    target = config.speed.loss
    lines = [
        "dropout: of hidden units; -input: of inputs; -both: of both. Rates are probabilities of dropping.",
        "NAME-N: with N training images. keep-P: hidden units kept with probability P; -scaled: n units in proportion "
        "to 1/P, so that as many are kept.",
        "Activation: mean of hidden units on test images, without noise; active: the share of them above 0.",
        f"Steps to loss: until the loss on training images, without noise, is at most {target:g}.",
        "KL sparsity compares shares of the time: of rectifiers h it takes h / (1 + h).",
    ]
    late = [row.variant for row in results.rows if not np.all(row.metrics.get("train_reached", 1))]
    if late:
        lines.append(f"Not all runs of {', '.join(late)} come to this loss: theirs count with all their steps.")
    return lines
