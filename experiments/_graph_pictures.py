"""Pictures of the studies of nodes: errors, hidden layers in the plane, the karate club, attention, costs."""

from typing import Any

import networkx
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

import jaxdl
from experiments import _graph_fits as fits
from experiments._graph_cost import growth_sizes
from jaxdl.study import figures as draw
from jaxdl.study.results import interval, is_fraction

MOST = 1000  # nodes in an embedding: t-SNE takes time with their square
AROUND = 12  # neighbours of the node whose attention is drawn, at most


def figures(config: Any, source: Any, results: Any, fit: Any) -> dict[str, Figure]:
    """All pictures that the variants at hand allow, {name: Figure}."""
    found: dict[str, Figure] = {}
    rows = {row.variant: row for row in results.rows if row.metrics and not row.diverged}
    measured = {name: row.metrics["test_error"] for name, row in rows.items() if "test_error" in row.metrics}
    if measured:
        found["errors"] = errors(measured, "test_error")
    curves = {
        name: band
        for name, row in rows.items()
        if "test_error" in row.metrics
        and (band := results.band(row, fits.fit_name(row.runs[0].settings), "validation_error"))[0]
    }
    if curves:
        found["learning_curves"] = draw.bands(curves, "step", "validation error", logarithmic=True)
    if "gcn" in rows:
        found["embedding"] = of_row(config, source, rows["gcn"], fit, embedding)
    if "karate-gcn" in rows:
        found["karate_club"] = of_row(config, source, rows["karate-gcn"], fit, club)
    if "gat" in rows:
        found["attention"] = of_row(config, source, rows["gat"], fit, attention)
    costs = {name: row for name, row in rows.items() if "train_exponent" in row.metrics}
    if costs:
        found["cost"] = cost(config, costs)
    return found


def of_row(config: Any, source: Any, row: Any, fit: Any, drawn: Any) -> Figure:
    """A picture of what a row's first seed learned: drawn(source, settings, run, params, config)."""
    run = row.runs[0]
    own = fits.source_of(config, source, run.settings)
    return drawn(own, run.settings, run, fits.first_run(row, fit, config, own), config)


def errors(values: dict[str, np.ndarray], metric: str) -> Figure:
    """Mean and 95% interval over seeds of each variant, the first on top; single seeds as dots."""
    scale = 100 if is_fraction(metric) else 1
    figure = Figure(figsize=(6.4, 0.7 + 0.27 * len(values)), layout="constrained")
    axes = figure.subplots()
    for height, each in enumerate(reversed(list(values.values()))):
        mean, half = interval(scale * each)
        axes.plot(scale * each, np.full(len(each), height), ".", color="gray", alpha=0.3, markersize=4)
        axes.errorbar(mean, height, xerr=0 if np.isnan(half) else half, fmt="o", color="tab:blue", capsize=3)
    axes.set_yticks(range(len(values)), reversed(list(values)))
    axes.set_xlabel(metric.replace("_", " ") + (" %" if scale == 100 else ""))
    axes.grid(alpha=0.3, axis="x")
    return figure


def embedding(source: Any, settings: dict, run: Any, params: Any, config: Any) -> Figure:
    """The last hidden layer of all nodes in two dimensions, by PCA and by t-SNE, coloured by class.

    Van der Maaten & Hinton 2008 (JMLR 9); as in Velickovic et al. 2018, Figure 2.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    hidden, labels = fits.layers(config, source, settings, params)[-2], source.graph.labels
    shown = np.flatnonzero(labels >= 0)
    shown = shown[:: -(-len(shown) // MOST)]
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    perplexity = min(30.0, (len(shown) - 1) / 3)
    ways = {"PCA": PCA(2), "t-SNE": TSNE(2, init="pca", random_state=0, perplexity=perplexity)}
    colours = palette(len(source.names))
    for axes, (name, way) in zip(figure.subplots(1, 2), ways.items(), strict=True):
        place = way.fit_transform(hidden[shown])
        axes.scatter(*place.T, c=colours[labels[shown]], s=8, linewidths=0)
        axes.set(xticks=[], yticks=[], title=f"{name} of the hidden layer")
    marks = [Line2D([], [], color=colour, marker="o", linestyle="") for colour in colours]
    figure.legend(marks, source.names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def palette(count: int) -> np.ndarray:
    """A colour for each class, [classes, 4]."""
    from matplotlib import colormaps

    return colormaps["tab10" if count <= 10 else "tab20"](np.arange(count) % 20)


def club(source: Any, settings: dict, run: Any, params: Any, config: Any) -> Figure:
    """The karate club: who was known, which faction the network tells of each, and who belongs elsewhere."""
    import jax.numpy as jnp

    graph = source.graph
    predicted = fits.layers(config, source, settings, params)[-1].argmax(axis=1)
    train = {"member": jnp.asarray(source.data["train"]["member"]), "label": jnp.zeros(source.batch_size, jnp.int32)}
    known = set(np.asarray(source.prepare({"seed": jnp.uint32(run.seed)}, train)["member"]).tolist())
    drawn = networkx.Graph(list(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True)))
    place = networkx.spring_layout(drawn, seed=4)
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    axes, colours = figure.subplots(), palette(2)
    networkx.draw_networkx_edges(drawn, place, ax=axes, alpha=0.3)
    nodes = np.arange(len(graph.ids))
    wrong = predicted != graph.labels
    for chosen, shape, size, edge in (
        (~wrong & ~np.isin(nodes, list(known)), "o", 250, "white"), (np.isin(nodes, list(known)), "s", 320, "black"),
        (wrong & ~np.isin(nodes, list(known)), "o", 250, "red"),
    ):  # fmt: skip
        networkx.draw_networkx_nodes(
            drawn, place, nodelist=nodes[chosen].tolist(), node_color=colours[predicted[chosen]], node_shape=shape,
            node_size=size, edgecolors=edge, linewidths=2, ax=axes,
        )  # fmt: skip
    names = {node: str(graph.ids[node] + 1) for node in nodes}  # Zachary counts members from 1
    networkx.draw_networkx_labels(drawn, place, names, font_size=8, font_color="white", ax=axes)
    marks = [Line2D([], [], color=colour, marker="o", linestyle="") for colour in colours]
    marks += [Line2D([], [], color="gray", marker="s", linestyle="", markeredgecolor="black")]
    marks += [Line2D([], [], color="gray", marker="o", linestyle="", markeredgecolor="red")]
    legend = [f"predicted: {name}" for name in source.names] + ["known in training", "predicted wrongly"]
    axes.legend(marks, legend, frameon=False, fontsize="small", loc="best")
    axes.set_axis_off()
    return figure


def attention(source: Any, settings: dict, run: Any, params: Any, config: Any) -> Figure:
    """Weights a_ij that a test node's neighbours have in each layer, the mean over heads."""
    graph, nodes = source.graph, jaxdl.tasks.nodes
    net = fits.network(config, settings["method"], source.classes)
    operator = net.operator(nodes.structure(graph))
    _, kept = net.apply({"params": params}, nodes.features(graph), operator, mutable=["intermediates"])
    weights = {name.rpartition("_")[0]: np.asarray(value[0]).mean(axis=1) for name, value in _sown(kept)}
    row, column, there = (np.asarray(each) for each in (operator.row, operator.column, operator.value))
    degree = np.bincount(row[there != 0], minlength=len(graph.ids)) - 1
    tested = np.asarray(source.data["test"]["member"])
    if source.prepare is not None:  # random splits: any node, as which ones are tested is the run's own
        tested = np.arange(len(graph.ids))
    node = int(tested[np.where(degree[tested] <= AROUND, degree[tested], -1).argmax()])
    into = (row == node) & (there != 0)
    others = column[into]
    figure = Figure(figsize=(4.2 * len(weights), 4.4), layout="constrained")
    colours = palette(source.classes)
    angle = np.linspace(0, 2 * np.pi, max(1, (others != node).sum()), endpoint=False)
    place = {node: (0.0, 0.0)} | dict(
        zip(others[others != node].tolist(), np.stack([np.cos(angle), np.sin(angle)], axis=1).tolist(), strict=True)
    )
    for axes, (layer, value) in zip(figure.subplots(1, len(weights), squeeze=False)[0], weights.items(), strict=True):
        for other, weight in zip(others.tolist(), value[into], strict=True):
            (x, y), own = place[other], other == node
            if not own:
                axes.plot([0, x], [0, y], color="black", linewidth=0.5 + 12 * weight, alpha=0.4, zorder=1)
            at = (0.0, -0.2) if own else (0.6 * x, 0.6 * y)
            axes.annotate(f"{weight:.2f}", at, ha="center", va="center", fontsize="small", zorder=3)
        inside = [colours[graph.labels[each]] if graph.labels[each] >= 0 else (0, 0, 0, 1) for each in place]
        axes.scatter(*np.array(list(place.values())).T, c=inside, s=160, zorder=2, edgecolors="white")
        title = f"{layer}: attention of {graph.ids[node]}"
        axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal", title=title)
        axes.set_axis_off()
    seen = sorted({int(graph.labels[each]) for each in place if graph.labels[each] >= 0})
    marks = [Line2D([], [], color=colours[label], marker="o", linestyle="") for label in seen]
    figure.legend(marks, [source.names[label] for label in seen], loc="outside lower center", ncols=4, frameon=False)
    return figure


def _sown(kept: Any) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in kept["intermediates"].items() if name.endswith("_attention"))


def cost(config: Any, rows: dict[str, Any]) -> Figure:
    """Seconds against nodes or edges, on logarithmic axes, with the fitted exponents."""
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in rows.values():
        method = row.runs[0].settings["method"]
        axes, sizes = (left if method == fits.SPECTRAL else right), growth_sizes(config, method)
        seconds = [np.median(row.metrics[f"train_seconds_{size}"]) for size in sizes]
        label = f"{method}: exponent {row.metrics['train_exponent'].mean():.2f}"
        axes.plot(sizes, seconds, marker="o", label=label)
    left.set(xlabel="nodes", ylabel="seconds", title="eigenvectors")
    right.set(xlabel="directed edges", title="an epoch of training")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(sorted({float(x) for line in axes.lines for x in line.get_xdata()}))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    return figure
