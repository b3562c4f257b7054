"""Pictures that several studies share. Each returns a matplotlib Figure; nothing is written here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxdl.study.results import interval


def bands(
    lines: dict[str, tuple[Sequence[float], Sequence[np.ndarray]]],
    xlabel: str,
    ylabel: str,
    *,
    logarithmic: bool = False,
    whole: bool = False,
    logarithmic_x: bool = False,
    title: str = "",
    reference: tuple[str, float] | None = None,
) -> Figure:
    """One line a label: means over seeds, with the band of their 95% interval.

    lines: {label: (x [T], values [T][seeds])}
    whole: x are whole numbers, and each gets a tick
    reference: (label, y) of a dashed horizontal line
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for label, (x, values) in lines.items():
        means, halves = np.array([interval(np.asarray(each)) for each in values]).T
        line = axes.plot(x, means, marker="o" if len(x) < 12 else None, label=label)[0]
        if np.isfinite(halves).any():
            low = means - halves
            if logarithmic:  # a band that reaches zero has no place on a logarithmic axis
                low = np.maximum(low, means / 100)
            axes.fill_between(x, low, means + halves, color=line.get_color(), alpha=0.2, linewidth=0)
    if reference:
        axes.axhline(reference[1], color="gray", linestyle="--", linewidth=1, label=reference[0])
    if logarithmic:
        axes.set_yscale("log")
    if logarithmic_x:
        axes.set_xscale("log")
    for axis in [axes.yaxis] * logarithmic + [axes.xaxis] * logarithmic_x:
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        low, high = axis.get_view_interval()
        between = "25" if axis is axes.yaxis or high < 200 * low else ()  # side by side, more have no room
        axis.set_minor_formatter(lambda value, _, between=between: f"{value:g}" if f"{value:e}"[0] in between else "")
    if whole:
        axes.set_xticks(sorted({value for x, _ in lines.values() for value in x}))
        axes.set_xticks([], minor=True)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    if len(lines) > 5:  # would cover the lines
        figure.legend(loc="outside right upper", frameon=False)
    else:
        axes.legend(frameon=False)
    return figure


def pictures(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Images [N, ...] of `shape`, (height, width, channels) or (features,), in grey: [N, height, width]."""
    values = np.asarray(values)
    return values.reshape(len(values), *(shape if len(shape) == 3 else (1, -1, 1))).mean(axis=-1)


def tiles(groups: dict[str, np.ndarray], *, columns: int = 10, symmetric: bool = False) -> Figure:
    """Images [N, height, width] of each label as a block of tiles, side by side.

    symmetric: the grey scale of each tile is centred on zero (weights); otherwise it spans [0, 1] (images).
    """
    first = next(iter(groups.values()))
    lines, aspect = -(-len(first) // columns), first.shape[1] / first.shape[2]
    figure = Figure(figsize=(3.4 * len(groups), 0.4 + 3.4 * aspect * lines / columns), layout="constrained")
    for axes, (label, images) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        axes.imshow(_sheet(images, columns, symmetric), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(label, fontsize="medium")
        axes.set_axis_off()
    return figure


def rows(groups: dict[str, np.ndarray], title: str = "") -> Figure:
    """Images [N, height, width] of each label as one row; the same column shows the same example."""
    count = max(len(images) for images in groups.values())
    figure = Figure(figsize=(1.6 + 0.62 * count, 0.3 + 0.72 * len(groups)), layout="constrained")
    all_axes = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, (label, images) in zip(all_axes, groups.items(), strict=True):
        axes.imshow(_sheet(images, count, False), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")
        axes.set_anchor("E")  # room that is left over is left to the labels
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize="medium")
    return figure


def _sheet(images: Any, columns: int, symmetric: bool) -> np.ndarray:
    images = np.asarray(images, np.float64)
    count, height, width = images.shape
    if symmetric:
        images = 0.5 + 0.5 * images / np.maximum(np.abs(images).max(axis=(1, 2), keepdims=True), 1e-12)
    lines = -(-count // columns)
    sheet = np.ones((lines * (height + 1) - 1, columns * (width + 1) - 1))
    for number, image in enumerate(images):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = np.clip(image, 0, 1)
    return sheet
