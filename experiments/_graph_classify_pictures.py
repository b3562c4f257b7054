"""Pictures of the study of whole graphs: errors, learning curves, what is taken for what, two graphs of each class."""

from collections.abc import Callable
from typing import Any

import jax
import networkx
import numpy as np
from matplotlib.figure import Figure

import jaxdl
from experiments import _graph_classify_fits as fits
from experiments._classifier_pictures import confusion
from experiments._graph_pictures import errors
from jaxdl.study import figures as draw

CLASSES = 10  # of which graphs are drawn, at most


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Figure]:
    """All pictures that the variants at hand allow, {name: Figure}."""
    rows = {row.variant: row for row in results.rows if row.metrics and not row.diverged}
    found = {"graphs": examples(source.graph)}
    if rows:
        found["errors"] = errors({name: row.metrics["test_error"] for name, row in rows.items()}, "test_error")
    curves = {
        name: band
        for name, row in rows.items()
        if (band := results.band(row, fits.fit_name(row.runs[0].settings), "validation_error"))[0]
    }
    if curves:
        found["learning_curves"] = draw.bands(curves, "step", "validation error")
    if "gin" in rows and not rows["gin"].failed + rows["gin"].absent:
        row = rows["gin"]
        things = f"graphs\n{len(row.runs)} {'folds' if config.data.folds else 'seeds'} of gin"
        found["confusion"] = confusion(confusions(config, source, row, fit), source.names, "test", things)
    return found


def confusions(config: Any, source: Any, row: Any, fit: Callable) -> np.ndarray:
    """How often test graphs of each class were taken for each other one, by all runs: int [classes, classes]."""
    group = jaxdl.study.Runs(row.runs, [[] for _ in row.runs])
    settings = row.runs[0].settings
    params = fits.trained(config, source, settings, group, fit).params
    task, counts = fits.objective(config, source, settings["method"]), np.zeros((source.classes,) * 2, int)
    test = {key: jax.numpy.asarray(values) for key, values in source.data["test"].items()}

    @jax.jit
    def guessed(params: Any, run: Any) -> tuple[Any, Any]:
        own = source.prepare(run, test) if source.prepare else test
        return own["label"], task.predict(params, {}, own["member"], run).argmax(axis=1)

    for number in range(len(row.runs)):
        label, guess = guessed(*jax.tree.map(lambda leaf: leaf[number], (params, group.arrays())))  # noqa: B023
        np.add.at(counts, (np.asarray(label), np.asarray(guess)), 1)
    return counts


def examples(graph: Any) -> Figure:
    """The first two graphs of each class, of CLASSES classes at most."""
    classes, start = min(CLASSES, len(graph.names)), np.cumsum(graph.sizes) - graph.sizes
    figure = Figure(figsize=(2.6 * classes, 5.2), layout="constrained")
    for label, column in enumerate(figure.subplots(2, classes, squeeze=False).T):
        for axes in column:
            axes.set_axis_off()  # a class may have one graph
        for axes, member in zip(column, np.flatnonzero(graph.labels == label), strict=False):
            first, last = start[member], start[member] + graph.sizes[member]
            inside = (graph.senders >= first) & (graph.senders < last)
            drawn = networkx.Graph()
            drawn.add_nodes_from(range(first, last))
            drawn.add_edges_from(zip(graph.senders[inside].tolist(), graph.receivers[inside].tolist(), strict=True))
            networkx.draw(drawn, networkx.spring_layout(drawn, seed=0), ax=axes, node_size=25, width=0.6)
        column[0].set_title(graph.names[label])
    return figure
