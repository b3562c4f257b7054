"""Pictures of the ResNet study: the paper's figures 6 and 7, errors against depth and steps, gradients by layer."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments._resnet_claims import at, fit_name
from jaxdl.study import figures as draw

KINDS = ("plain", "residual")


def figures(config: Any, results: Any) -> dict[str, Figure]:
    """All pictures that the variants at hand allow, {name: Figure}."""
    rows = {row.variant: row for row in results.rows if "test_response" in row.metrics}
    nets = {kind: {d: rows[f"{kind}-{d}"] for d in config.compare.depths if f"{kind}-{d}" in rows} for kind in KINDS}
    nets = {kind: each for kind, each in nets.items() if each}
    if not nets:
        return {}
    found = {
        "learning_curves": learning_curves(results, nets),
        "responses": responses(nets),
        "gradients": gradients(nets),
        "error_by_depth": error_by_depth(nets),
    }
    if config.budgets:
        found["error_by_steps"] = error_by_steps(config, results, nets)
    return {name: figure for name, figure in found.items() if figure is not None}


def panels(count: int, ylabel: str, titles: list[str], xlabel: str, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure of panels that share their y axes: [rows, count] axes."""
    figure = Figure(figsize=(1.2 + 3.6 * count, 0.6 + 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, count, squeeze=False, sharey=True)
    for row in axes:
        row[0].set_ylabel(ylabel)
        for each in row:
            each.grid(alpha=0.3)
    for each, title in zip(axes[0], titles, strict=True):
        each.set_title(title)
    for each in axes[-1]:
        each.set_xlabel(xlabel)
    return figure, axes


def learning_curves(results: Any, nets: dict[str, dict]) -> Figure:
    """Figure 6: errors against iterations, means over seeds; training thin, held-out bold."""
    figure, axes = panels(len(nets), "error %", [f"{kind} nets" for kind in nets], "iterations")
    for panel, (kind, each) in zip(axes[0], nets.items(), strict=True):
        for number, (depth, row) in enumerate(each.items()):
            for metric, width, what in (("train", 0.8, "training batches"), ("validation", 2.2, "validation")):
                steps, values = results.band(row, fit_name(row.variant), f"{metric}_error")
                if steps:
                    means = [100 * float(np.mean(value)) for value in values]
                    panel.plot(steps, means, color=f"C{number}", linewidth=width, label=f"{kind}-{depth}, {what}")
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize="small")
    return figure


def responses(nets: dict[str, dict]) -> Figure:
    """Figure 7: standard deviation of each layer's response, means over seeds; in network order, and sorted."""
    titles = ["layers in network order", "layers sorted by magnitude"]
    figure, axes = panels(2, "std of the response", titles, "layer")
    for kind, style in zip(KINDS, ("--", "-"), strict=True):
        for number, (depth, row) in enumerate(nets.get(kind, {}).items()):
            values = by_layer(row, "test_response_layer_{}")
            for panel, each in zip(axes[0], (values, np.sort(values)[::-1]), strict=True):
                panel.plot(
                    np.arange(1, len(each) + 1), each, style, color=f"C{number}", linewidth=1.2, label=f"{kind}-{depth}"
                )
    axes[0, 1].legend(frameon=False, fontsize="small")
    return figure


def gradients(nets: dict[str, dict]) -> Figure:
    """Norm of the gradient at each layer's kernel, geometric means over seeds, before and after training."""
    figure, axes = panels(2, "norm of the gradient", ["before training", "after training"], "layer")
    for kind, style in zip(KINDS, ("--", "-"), strict=True):
        for number, (depth, row) in enumerate(nets.get(kind, {}).items()):
            for panel, ending in zip(axes[0], ("_at_0", ""), strict=True):
                values = by_layer(row, "train_gradient_layer_{}" + ending, logarithmic=True)
                panel.plot(
                    np.arange(1, len(values) + 1), values, style, color=f"C{number}", linewidth=1.2,
                    label=f"{kind}-{depth}",
                )  # fmt: skip
    axes[0, 0].set_yscale("log")
    axes[0, 1].legend(frameon=False, fontsize="small")
    return figure


def by_layer(row: Any, name: str, logarithmic: bool = False) -> np.ndarray:
    """Means over seeds of a metric with a layer's number in its name, [layers]."""
    count = sum(metric.startswith("test_response_layer_") for metric in row.metrics)
    values = np.stack([row.metrics[name.format(number)] for number in range(1, count + 1)])  # [layers, seeds]
    return np.exp(np.log(values).mean(axis=1)) if logarithmic else values.mean(axis=1)


def error_by_depth(nets: dict[str, dict]) -> Figure:
    """Training and test errors at the end of the longest training, with bands."""
    lines = {
        f"{kind}, {split}": (list(each), [100 * row.metrics[f"{split}_error"] for row in each.values()])
        for kind, each in nets.items()
        for split in ("train", "test")
    }
    return draw.bands(lines, "layers", "error %", whole=True)


def error_by_steps(config: Any, results: Any, nets: dict[str, dict]) -> Figure | None:
    """Training error against the number of steps, each training from the start, with bands."""
    lines = {}
    for each in nets.values():
        for row in each.values():
            steps, _ = results.band(row, fit_name(row.variant), "train_error")
            names = at("train_error", config)
            if steps and all(name in row.metrics for name in names):
                values = [100 * row.metrics[name] for name in names]
                lines[row.variant] = ([*config.budgets, steps[-1]], values)
    return draw.bands(lines, "steps of training", "training error %", logarithmic_x=True) if lines else None
