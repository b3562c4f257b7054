"""Numbers that papers print, as data: they stand beside the variants that repeat them."""

from typing import NamedTuple


class Published(NamedTuple):
    """A paper's number for what a variant does: the same data, kind of method and depth.

    value: in the metric's own units, errors as fractions
    spread: what stands after the paper's ±, in the same units; None where there is none
    runs: of how many runs the value is the mean; 0 where the paper does not say
    source: the paper, with its table, figure or exercise
    verified: checked in the source, or in a text that quotes it; otherwise it is from memory
    """

    variant: str
    metric: str
    value: float
    spread: float | None
    runs: int
    source: str
    verified: bool
