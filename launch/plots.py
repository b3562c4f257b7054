"""The plot of a metric against a setting."""

import io
import math
import warnings
from collections.abc import Sequence

from launch.inputs import Value
from launch.rows import Rows


def drawn(
    key: str, values: dict[Value, Rows], variants: Sequence[str], metric: str, percent: bool, form: str, style: str
) -> bytes:
    """A line a variant, its mean over seeds with the band of the 95% interval, as png, svg or pdf.

    values: {number: the rows there}; percent: whether to show the metric in %; style: see `jaxdl.study.styles`

    Bands that are much wider than what the means span are cut, as on the page. b"" where no run has the metric.
    """
    import matplotlib
    from cycler import cycler

    from jaxdl.study import charts, figures, styles
    from jaxdl.study.results import interval

    lines = {}
    for variant in variants:
        found = {x: row.values(metric) for x, rows in values.items() if (row := rows.row(variant))}
        found = {x: (100 if percent else 1) * own for x, own in found.items() if own.size}
        if found:
            lines[_plain(variant)] = list(found), list(found.values())
    if not lines:
        return b""
    xs = [x for found, _ in lines.values() for x in found]
    means, halves = zip(*(interval(own) for _, found in lines.values() for own in found), strict=True)
    halves = [0.0 if math.isnan(half) else half for half in halves]
    ends = [[mean + sign * half for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1)]
    y = charts.fitting_axis(means, *ends, room=0.5)
    content = io.BytesIO()
    colors = cycler(color=matplotlib.color_sequences["tab10"])
    with warnings.catch_warnings(), styles.styled(style):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcParams["axes.prop_cycle"] = cycler(linestyle=["-", "--", ":", "-."]) * colors
        figure = figures.bands(
            lines,
            _plain(key.rpartition(".")[2].replace("_", " ")),
            _plain(metric.replace("_", " ") + " %" * percent),
            logarithmic=y.logarithmic,
            logarithmic_x=min(xs) > 0 and max(xs) > 10 * min(xs),
        )
        figure.axes[0].set_ylim(y.low, y.high)
        styles.sized(figure, style).savefig(content, format=form, dpi=300 if style else 130)
    return content.getvalue()


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: no formula, and no label that it leaves out."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
