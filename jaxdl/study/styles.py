"""Figures for where they go: a column of a paper, a slide."""

import contextlib
from collections.abc import Iterator
from typing import Any

from jaxdl.errors import unknown

# Inches across and size of the text in points, of a two-column paper (as in NeurIPS's and CVPR's templates) and of a
# 13.3 inch slide; fonts are embedded as TrueType, which publishers ask for.
WIDTHS = {"paper": 3.4, "slides": 10.0}
SETTINGS = {
    "paper": {"font.size": 8, "lines.linewidth": 1.0, "lines.markersize": 3, "axes.linewidth": 0.6},
    "slides": {"font.size": 20, "lines.linewidth": 3.0, "lines.markersize": 9, "axes.linewidth": 1.5},
}


@contextlib.contextmanager
def styled(style: str) -> Iterator[None]:
    """Figures made in this block have the style's text and lines; "" leaves them as they are. UserError if unknown."""
    if style and style not in SETTINGS:
        raise unknown("--style", style, SETTINGS)
    import matplotlib

    with matplotlib.rc_context(SETTINGS[style] | {"pdf.fonttype": 42} if style else {}):
        yield


def sized(figure: Any, style: str) -> Any:
    """The figure as wide as the style wants it, of the same shape."""
    if style:
        width, height = figure.get_size_inches()
        figure.set_size_inches(WIDTHS[style], height * WIDTHS[style] / width)
    return figure
