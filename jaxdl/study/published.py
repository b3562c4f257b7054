"""Numbers that papers published, beside which ours stand."""

from typing import NamedTuple


class Published(NamedTuple):
    """One published number.

    variant, metric: of ours, where it stands beside; value: in the metric's own units, an error as a fraction
    spread: what the paper gives after ±, None where it gives nothing; runs: that it is the mean of, 0 where not said
    source: the paper with its table or figure
    verified: whether the number was checked against the paper or a text that quotes its table
    """

    variant: str
    metric: str
    value: float
    source: str
    spread: float | None = None
    runs: int = 0
    verified: bool = True
