"""What is claimed of the invariance study's variants, and what its table's reader must know."""

from typing import Any

import jaxdl
from experiments.greedy_pretraining import time_of

NETWORKS = ("mlp", "local", "cnn", "cnn-max", "cnn-average")
BASE = "cnn"  # the network that is also trained on shifted, permuted and placed images
_OF_IMAGES = {
    "plain": NETWORKS,
    "augmented": (BASE,),
    "permuted": ("mlp", BASE),
    "placed": ("local-global", "cnn-global", BASE),
}
# label -> settings; images as they are give a variant no prefix
VARIANTS = {
    f"{kind}-{name}".removeprefix("plain-"): {"network": name, "images": kind}
    for kind, names in _OF_IMAGES.items()
    for name in names
}
SMALL = 4  # pixels: what the two poolings together reduce to one
LECUN_1989, LECUN_1998 = "LeCun 1989", "LeCun et al. 1998, section II.A"


def claims(config: Any) -> list[Any]:
    """What LeCun 1989 and 1998 and the lectures claim, none of them with these numbers."""
    judged = jaxdl.study.claims
    less, greater, Claim, Cell = judged.less, judged.greater, judged.Claim, judged.Cell
    error = "test_error"
    small = [f"test_error_shift_{amount}" for amount in config.disturb.shift if amount <= SMALL]

    def rise(variant: str, sign: float) -> dict:
        """By how much small shifts raise a variant's error, times `sign`."""
        return {Cell(variant, name): sign / len(small) for name in small} | {Cell(variant, error): -sign}

    found = [
        Claim(
            f"{pooling}-pooling-tolerates-shifts",
            f"Shifts up to {SMALL} pixels raise the error less with {pooling} pooling than without pooling",
            LECUN_1998, error, (rise(f"cnn-{pooling}", 1.0) | rise("cnn", -1.0),), "less",
        )
        for pooling in ("max", "average")
    ]  # fmt: skip
    shared, own = "placed-cnn-global", "placed-local-global"
    home, elsewhere = "test_error_home", "test_error_elsewhere"
    found += [
        less(
            "sharing-generalises",
            "Of two networks of local units with about as many weights, the one that shares them over all places "
            "makes fewer test errors",
            LECUN_1989, error, "cnn", "local",
        ),
        Claim(
            "sharing-recognises-elsewhere",
            "Trained on digits in the middle only: those in the corners raise the error less with weights that all "
            "places share than with weights for each place",
            f"{LECUN_1989}; {LECUN_1998}", elsewhere,
            ({Cell(shared, elsewhere): 1.0, Cell(shared, home): -1.0,
              Cell(own, elsewhere): -1.0, Cell(own, home): 1.0},),
            "less",
        ),
        less(
            "cnn-beats-mlp", "A convolutional network makes fewer test errors than a perceptron of about its size",
            LECUN_1998, error, BASE, "mlp",
        ),
        greater(
            "permutation-takes-the-advantage",
            "With all pixels permuted the convolutional network makes more test errors than the perceptron",
            "the lectures", error, f"permuted-{BASE}", "permuted-mlp",
        ),
        judged.equal(
            "perceptron-ignores-order",
            "The perceptron's test error is the same with permuted pixels, within 2 %",
            LECUN_1998, error, "permuted-mlp", "mlp", 0.02,
        ),
    ]  # fmt: skip
    shown = f"augmented-{BASE}"
    shift, rotation = "test_error_shift", "test_error_rotation"
    found.append(less(
        "augmentation-buys-shifts", "Training on shifted images lowers the error on shifted test images",
        "the lectures", shift, shown, BASE,
    ))  # fmt: skip
    if len(config.disturb.rotation):
        gains = {Cell(BASE, shift): 1.0, Cell(shown, shift): -1.0}
        found.append(Claim(
            "augmentation-buys-what-it-shows",
            "Training on shifted images lowers the error on shifted test images more than that on turned ones",
            "the lectures", shift,
            (gains | {Cell(BASE, rotation): -1.0, Cell(shown, rotation): 1.0},), "greater",
        ))  # fmt: skip
    return found


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the papers'."""
    return [
        f"The data are {config.data.name}, the networks far smaller than LeNet-5, trained for {time_of(config)}: "
        "the papers have no table of these comparisons.",
        "No sub-sampling layer has weights of its own; units are rectifiers instead of tanh.",
    ]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know; parameters by name."""
    disturb, lines = config.disturb, []
    counts = {row.variant: row.metrics["train_parameters"] for row in results.rows if row.metrics}
    if counts:
        lines.append("Parameters: " + ", ".join(f"{name} {values[0]:,.0f}" for name, values in counts.items()) + ".")
    for kind, how in (
        ("shift", "pixels, mean over four directions"), ("rotation", "degrees, mean over both senses"),
        ("scale", "times the size"), ("noise", "standard deviation, black 0 and white 1"),
    ):  # fmt: skip
        amounts = ", ".join(f"{amount:g}" for amount in getattr(disturb, kind))
        if amounts:
            lines.append(f"Test error {kind}: mean over {amounts} {how}.")
    lines += [
        "Home, elsewhere: digits at half size in the middle of the image, the only place that training had, and moved "
        "towards its corners by multiples of 4 pixels, the stride of two layers.",
        "Networks without pooling (local, cnn and -global) have stride 2, and do not see up to 3 outer rows and "
        "columns of pixels.",
    ]
    return lines
