"""How long a fit lasts: steps or epochs."""

from typing import Any

from jaxdl.errors import UserError


def duration(section: Any, steps_per_epoch: int, where: str = "") -> int:
    """Steps of training from a config section with `steps` and `epochs`, exactly one of them positive."""
    steps, epochs = section.steps, section.epochs
    if steps < 0 or epochs < 0 or (steps > 0) == (epochs > 0):
        raise UserError(f"{where}steps={steps} and {where}epochs={epochs}: exactly one must be positive, the other 0")
    return int(steps or round(epochs * steps_per_epoch))
