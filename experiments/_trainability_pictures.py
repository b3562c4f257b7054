"""Pictures of the trainability study: errors and gradients against depth and layer, histograms layer by layer."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import jaxdl
from experiments import _expressivity as exact
from experiments import _trainability_fits as fits
from experiments._trainability_claims import GRADIENT, STEPS, label
from experiments._trainability_signals import initial, seen
from jaxdl.study import Runs
from jaxdl.study import figures as draw

BINS = 50
PAPER = 5  # hidden layers of the networks whose histograms Glorot & Bengio 2010 show
SHOWN = 5  # layers in a histogram


def figures(config: Any, source: Any, results: Any, fit: Any) -> dict[str, Figure]:
    """All pictures that the variants at hand allow, {name: Figure}."""
    compare, found = config.compare, {}
    nets = {
        family: {depth: row for depth in compare.depths if (row := results.row(label(family, depth))) and row.metrics}
        for family in compare.families
    }
    nets = {family: rows for family, rows in nets.items() if rows}
    if nets:
        found["error_by_depth"] = against_depth(nets, "test_error", "test error %", 100, logarithmic=True)
        found["steps_by_depth"] = against_depth(nets, STEPS, "steps to the training loss")
        found["gradient_by_depth"] = against_depth(nets, GRADIENT, "log10 |dC/dW| of the first layer, before training")
    bounded = [family for family in nets if family.split("-")[0] in ("sigmoid", "tanh", "softsign")]
    deep, few = {}, {}
    for family, rows in nets.items():
        near = min(rows, key=lambda depth: abs(depth - PAPER))
        shown = family in (bounded or nets)
        for depth, those in ((max(rows), deep), *([(near, few)] if shown else [])):
            row = rows[depth]
            if not row.diverged + row.failed + row.absent:
                those[family] = layers(config, source, row, fit)
    if deep:
        found["gradient_by_layer"] = by_layer(deep, "gradient", "|dC/ds|, median over seeds")
        found["activation_by_layer"] = by_layer(deep, "std", "standard deviation of activations")
        found["saturation_by_layer"] = by_layer(deep, "saturated", "share of saturated units", logarithmic=False)
    if few:
        found["activation_histograms"] = histograms(few, "active", "activation")
        found["gradient_histograms"] = histograms(few, "spread", "dC/ds over its largest standard deviation")
    for name, metric, ylabel, paper in (
        ("learning_curves", "train_loss", "training loss (nats)", False),
        ("saturation_over_training", "validation_saturation", "share of saturated units", True),
        ("gradient_over_training", "validation_reach", "log10 of |dc/ds|, first over last layer", True),
        ("singular_values_over_training", "validation_log10_jacobian",
         "log10 of the singular values of d logits / dx, rms", True),
    ):
        curves = {}
        for family, rows in nets.items():
            depth = min(rows, key=lambda depth, paper=paper: abs(depth - PAPER) if paper else depth)
            curve = results.band(rows[depth], fits.fit_name(fits.program(rows[depth].runs[0])), metric)
            if curve[0]:
                curves[label(family, depth)] = curve
        if curves:
            found[name] = draw.bands(curves, "step", ylabel, logarithmic=not paper)
    gains = {
        family: {
            gain: row
            for gain in sorted({1.0, *compare.gains})
            if (row := results.row(label(family, compare.gain_depth, gain))) and row.metrics
        }
        for family in compare.gain_families
    }
    lines = {
        label(family, compare.gain_depth): (list(rows), [100 * row.metrics["test_error"] for row in rows.values()])
        for family, rows in gains.items()
        if rows
    }
    if lines:
        found["error_by_scale"] = draw.bands(lines, "initial weights times", "test error %", logarithmic=True)
    if compare.functions:
        found["sawtooth"] = sawtooths(config.functions.teeth)
    return found


def against_depth(
    nets: dict[str, dict], metric: str, ylabel: str, factor: float = 1.0, logarithmic: bool = False
) -> Figure:
    """A metric of each family against the number of layers, with bands."""
    lines = {
        family: (
            [depth for depth, row in rows.items() if metric in row.metrics],
            [factor * row.metrics[metric] for row in rows.values() if metric in row.metrics],
        )
        for family, rows in nets.items()
    }
    lines = {name: line for name, line in lines.items() if line[0]}
    return draw.bands(lines, "hidden layers", ylabel, whole=True, logarithmic=logarithmic)


def layers(config: Any, source: Any, row: Any, fit: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What passes through a variant's networks before and after training.

    {"gradient", "std", "saturated": [seeds, depth]; "active", "spread": activations and scaled gradients of the first
    seed, [depth, values]}
    """
    import jax

    signals = jaxdl.tasks.signals
    group = Runs(row.runs, [[]] * len(row.runs))
    settings = fits.program(row.runs[0])
    task = fits.objective(config, source, settings)
    fitted = fits.trained(config, source, settings, group, fit)
    image, label = seen(source, config.observed.images)
    net, begin = task.network, jax.jit(initial(source, fits.fit_name(settings), task))

    @jax.jit
    def look(params: Any, model_state: Any) -> tuple[Any, Any, Any]:
        kept = {key: value for key, value in model_state.items() if key == "batch_stats"}
        passed = signals.passed(net, params, kept, image, label)
        return signals.statistics(net, passed), jaxdl.models.unit(net.unit)(passed.s), passed.gradient

    runs, both = fits.given(config, source, group), []
    numbers = range(len(group))
    starts = [begin(jax.tree.map(lambda leaf, n=n: leaf[n], runs)) for n in numbers]
    ends = [jax.tree.map(lambda leaf, n=n: leaf[n], (fitted.params, fitted.model_state)) for n in numbers]
    for moment in (starts, ends):
        each = [jax.device_get(look(*one)) for one in moment]
        active, gradient = (np.asarray(each[0][part], np.float64) for part in (1, 2))
        gradient = gradient.reshape(len(gradient), -1)  # [depth, B, width] -> [depth, B width]
        both.append({
            "gradient": np.stack([one[0].gradient for one in each]),
            "std": np.stack([one[0].std for one in each]),
            "saturated": np.stack([one[0].saturated for one in each]),
            "active": active.reshape(len(active), -1),
            "spread": gradient / max(gradient.std(axis=1).max(), np.finfo(float).tiny),
        })  # fmt: skip
    return both[0], both[1]


def by_layer(deep: dict[str, tuple], key: str, ylabel: str, logarithmic: bool = True) -> Figure:
    """A statistic of each layer of the deepest networks, before and after training; medians over seeds."""
    figure, axes = panels(2, ylabel, ["before training", "after training"], "layer")
    for number, (family, moments) in enumerate(deep.items()):
        for panel, found in zip(axes, moments, strict=True):
            values = np.median(found[key], axis=0)  # [seeds, depth] -> [depth]
            name = label(family, len(values))
            panel.plot(np.arange(1, len(values) + 1), values, color=f"C{number}", linewidth=1.4, label=name)
    if logarithmic:
        axes[0].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def histograms(deep: dict[str, tuple], key: str, xlabel: str) -> Figure:
    """Glorot & Bengio 2010, figures 6 and 7: a normalised histogram for some layers, before and after training."""
    figure = Figure(figsize=(1.6 + 3.4 * len(deep), 5.6), layout="constrained")
    axes = figure.subplots(2, len(deep), squeeze=False)
    for column, (family, moments) in enumerate(deep.items()):
        for line, (moment, found) in enumerate(zip(("before", "after"), moments, strict=True)):
            values, panel = found[key], axes[line, column]
            depth = len(values)
            reach = np.quantile(np.abs(values), 0.995)
            low = 0.0 if values.min() >= 0 else -reach
            edges = np.linspace(low, max(reach, 1e-6), BINS)
            chosen = sorted({round(float(place)) for place in np.linspace(0, depth - 1, min(SHOWN, depth))})
            for number, layer in enumerate(chosen):
                density, _ = np.histogram(values[layer], edges, density=True)
                color = f"C{number}"
                panel.plot(
                    (edges[1:] + edges[:-1]) / 2, density, color=color, linewidth=1.2, label=f"layer {layer + 1}"
                )
            panel.set_yscale("symlog", linthresh=0.1)
            panel.set_ylim(bottom=0)
            panel.set_title(f"{label(family, depth)}, {moment} training", fontsize="small")
            panel.grid(alpha=0.3)
    for panel in axes[-1]:
        panel.set_xlabel(xlabel)
    for panel in axes[:, 0]:
        panel.set_ylabel("density")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def panels(count: int, ylabel: str, titles: list[str], xlabel: str) -> tuple[Figure, np.ndarray]:
    """A row of panels that share their y axis."""
    figure = Figure(figsize=(3.2 + 3.8 * count, 4.0), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    axes[0].set_ylabel(ylabel)
    for panel, title in zip(axes, titles, strict=True):
        panel.set(title=title, xlabel=xlabel)
        panel.grid(alpha=0.3)
    return figure, axes


def sawtooths(teeth: int) -> Figure:
    """What 1, 2, ... layers of two rectifiers represent, exactly."""
    figure = Figure(figsize=(1.0 + 2.6 * teeth, 2.6), layout="constrained")
    axes = figure.subplots(1, teeth, squeeze=False, sharey=True)[0]
    axes[0].set_ylabel("f(x)")
    x = np.arange(2 ** (teeth + 4) + 1) / 2 ** (teeth + 4)
    for number, panel in enumerate(axes, start=1):
        values = exact.deep_sawtooth(x, number)
        panel.plot(x, values, linewidth=1.4)
        panel.set_xlabel("x")
        panel.set_title(f"{number} layer{'s' * (number > 1)} of 2: {exact.pieces(values)} pieces", fontsize="small")
        panel.grid(alpha=0.3)
    return figure
