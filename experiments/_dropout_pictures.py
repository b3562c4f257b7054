"""The pictures of the dropout study, after the figures of Srivastava et al. 2014 (JMLR 15)."""

from typing import Any

import numpy as np

import jaxdl

SHOWN = 50  # filters
LEARNING = ("none", "dropout", "L2", "max-norm", "dropout+max-norm")  # whose learning curves are drawn


def errors(config: Any, examples: int, results: Any) -> dict[str, Any]:
    """Test error against keeping (Figure 9), size of the training set (10) and averages (11); learning curves."""
    draw, compare = jaxdl.study.figures, config.compare
    drawn = {}

    def line(points: dict[float, str], metric: str = "test_error") -> tuple[list[float], list[np.ndarray]]:
        """(x, values in %) of the variants of {x: variant} that have the metric."""
        rows = {x: results.row(variant) for x, variant in points.items()}
        there = {x: 100 * row.metrics[metric] for x, row in rows.items() if row and metric in row.metrics}
        return list(there), list(there.values())

    both = 1 - config.strengths.hidden  # where they meet
    names = {"n units": "", "n units in proportion to 1/p": "-scaled"}
    lines = {
        name: line({p: f"keep-{p:g}" + ("" if p == both else end) for p in compare.keep}) for name, end in names.items()
    }
    drawn["error_by_keeping"] = _bands(draw, lines, "probability p of keeping a hidden unit", "test error %")
    sizes = {name: {n: f"{name}-{n}" for n in compare.sizes} | {examples: name} for name in ("none", "dropout")}
    lines = {name: line(points) for name, points in sizes.items()}
    drawn["error_by_examples"] = _bands(draw, lines, "training images", "test error %", logarithmic_x=True)
    row = results.row("dropout")
    if row and "test_error" in row.metrics:
        found = {k: 100 * row.metrics[f"test_error_{k}"] for k in compare.averages}
        drawn["error_by_averages"] = draw.bands(
            {"average of k thinned networks": (list(found), list(found.values()))}, "k", "test error %",
            logarithmic_x=True, reference=("weight scaling", 100 * float(row.metrics["test_error"].mean())),
        )  # fmt: skip
    rows = {name: results.row(name) for name in LEARNING if name in compare.regularisers}
    curves = {name: results.band(row, "train", "validation_loss") for name, row in rows.items() if row and row.metrics}
    drawn["learning_curves"] = _bands(draw, curves, "step", "validation loss (nats)", logarithmic=True)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def inside(model: Any, networks: dict[str, Any], source: Any) -> dict[str, Any]:
    """First-layer filters (Figure 7) and activations of hidden units on test images (Figure 8) of some networks."""
    draw, test = jaxdl.study.figures, np.asarray(source.data["test"]["image"])
    image = np.asarray(source.images(test))
    hidden = {name: model.apply({"params": params}, image, method="layers")[0] for name, params in networks.items()}
    first = {name: params["hidden_0"]["kernel"].T[:SHOWN] for name, params in networks.items()}  # [units, inputs]
    filters = {name: draw.pictures(weights, test.shape[1:]) for name, weights in first.items()}
    return {"activations": histograms(hidden), "filters": draw.tiles(filters, symmetric=True)}


def histograms(hidden: dict[str, Any]) -> Any:
    """Of each network's first hidden layer [N, H]: mean activations of units, and all activations, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.2 + 1.6 * len(hidden)), layout="constrained")
    axes = figure.subplots(len(hidden), 2, squeeze=False)
    hidden = {name: np.asarray(values) for name, values in hidden.items()}
    bins = [
        np.linspace(0, max(values.mean(axis=0).max() for values in hidden.values()), 30),
        np.linspace(0, max(np.quantile(values, 0.999) for values in hidden.values()), 40),
    ]
    for (left, right), (name, values) in zip(axes, hidden.items(), strict=True):
        left.hist(values.mean(axis=0), bins[0])
        right.hist(values.ravel(), bins[1])
        right.set_yscale("log")
        left.set(ylabel=name, title=f"mean {values.mean():.2f}, active {100 * (values > 1e-3).mean():.0f} %")
    axes[-1, 0].set(xlabel="mean activation of a unit")
    axes[-1, 1].set(xlabel="activation")
    return figure


def _bands(draw: Any, lines: dict[str, tuple], x: str, y: str, **options: Any) -> Any:
    lines = {name: line for name, line in lines.items() if line[0]}
    return draw.bands(lines, x, y, **options) if lines else None
