"""Networks on graphs classify whole graphs. Xu et al. 2019, How Powerful are Graph Neural Networks?

Three families of random graphs whose numbers of nodes and edges are the same and whose nodes differ in nothing but
their surroundings: networks that add up what neighbours say, others that take its mean or its maximum, message passing
with features of edges and graphs, and a perceptron that is told counts alone. With a preset, a set of TU Dortmund's in
ten folds.

Minutes: 3 (three families, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments._graph_fits import positive
from jaxdl.errors import unknown
from jaxdl.study import Done, Published, Study, divergence
from jaxdl.study import figures as draw

PAPER = "Xu et al. 2019"
MARGIN = 0.05  # of errors: as good as guessing
# How the nodes' features are pooled: as neighbours' are, but for those that add up neighbours and average nodes.
POOLINGS = {"gcn": "mean", "sage-mean": "mean", "sage-max": "max", "gin": "sum", "gin-mean": "mean"}
METHODS = ("counts", "messages", *POOLINGS)
# Accuracy and standard deviation over folds of GIN-0, chosen by the held-out folds: Xu et al. 2019, Table 1.
TABLE_1 = {"MUTAG": (0.894, 0.056), "PROTEINS": (0.762, 0.028)}


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """The methods."""
    for method in config.compare.methods:
        if method not in METHODS:
            raise unknown("method in compare.methods", method, METHODS)
    return {method: {"method": method} for method in config.compare.methods}


def network(config: Any, method: str, classes: int) -> tuple[Any, Any]:
    """The network of a method, and the one of nodes whose operator it reads."""
    graph, whole, model = jaxdl.models.graph, jaxdl.models.whole_graphs, config.model
    widths = (model.width,) * (model.layers - 1), model.width
    families = {
        "gcn": graph.GCN(*widths), "sage-mean": graph.GraphSAGE(*widths, aggregator="mean"),
        "sage-max": graph.GraphSAGE(*widths, aggregator="max"),
    }  # fmt: skip
    nodes = families.get(method, graph.GIN(*widths))
    if method == "counts":
        return whole.Counts(model.width, classes), nodes
    if method == "messages":
        return whole.Messages(model.width, classes), nodes
    return whole.Pooled(nodes, classes, POOLINGS[method]), nodes


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all runs of a method."""
    model = config.model
    positive({"model.width": model.width, "model.layers": model.layers, "model.buckets": model.buckets})
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer, structure = jaxdl.training.optimizer(config.optimizer, steps), jaxdl.tasks.nodes.structure(source.graph)
    for settings, group in runs.grouped(lambda row: row.settings):
        net, nodes = network(config, settings["method"], source.classes)
        sizes = source.batch_size, model.buckets, config.data.most_nodes
        graphs = jaxdl.tasks.Shapes(source.graph, nodes.operator(structure), *sizes)
        graphs.buckets()  # a batch that is too large is told before training
        task, name = jaxdl.tasks.classify_graphs(net, graphs), fit_name(settings)
        fitted = fit(name, task, optimizer, source, group, steps=steps, evaluations=config.evaluations)
        # In folds each run has graphs of its own to test on: there is no outcome of an example over seeds.
        outcomes, metrics = {} if config.data.folds else fitted.outcomes, fitted.metrics
        chance = 1 - 1 / source.classes
        excess = {"test_excess_error": metrics["test_error"] - chance}
        if outcomes:
            outcomes = outcomes | {"test_excess_error": outcomes["test_error"] - np.float32(chance)}
        yield Done(group, metrics | excess, outcomes, divergence(name, fitted.diverged))


def fit_name(settings: dict[str, Any]) -> str:
    """ "sage_mean"."""
    return settings["method"].replace("-", "_")


def claims(config: Any) -> list[Any]:
    """What the paper claims, of graphs whose nodes have no features."""
    judged, there, error = jaxdl.study.claims, set(config.compare.methods), "test_error"
    if config.data.name != "graph_families" or "gin" not in there:
        return []
    others = {"sage-mean": "a mean", "sage-max": "a maximum", "counts": "counts of nodes and edges"}
    found = [
        judged.less(f"gin-beats-{other}", f"Sums over neighbours separate the families better than {what}",
                    f"{PAPER}, section 5", error, "gin", other)
        for other, what in others.items()
        if other in there
    ]  # fmt: skip
    classes = len(jaxdl.data.graph_families.FAMILIES)
    return found + [
        judged.Claim(
            f"{other}-guesses", f"With {what} alone the families can't be told: as many errors as by guessing, "
            f"{100 * (1 - 1 / classes):.1f} %, within {100 * MARGIN:g} points", f"{PAPER}, section 5.2",
            "test_excess_error", ({other: 1.0},), "equal", MARGIN,
        )
        for other, what in others.items()
        if other in there
    ]  # fmt: skip


def published(config: Any) -> list[Published]:
    """The paper's number for a TU set that is known by its name."""
    value = TABLE_1.get(config.data.dir.rstrip("/").rpartition("/")[2])
    if config.data.name != "tu" or value is None or "gin" not in config.compare.methods:
        return []
    return [Published("gin", "test_error", 1 - value[0], value[1], 10, f"{PAPER}, Table 1", True)]


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the paper's."""
    checks = [
        (config.data.name != "tu", f"The data are {config.data.name} instead of nine sets of graphs."),
        (True, f"No batch norm; {config.model.layers} layers of {config.model.width} units."),
        (config.data.name == "tu", "The table has the error after the last epoch; the paper's is that of the best one, "
                                   "see below."),
    ]  # fmt: skip
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know; of folds, what the field reports."""
    lines = [
        "gin: sums over neighbours and over nodes; gin-mean: sums over neighbours, means over nodes; messages: message "
        "passing with features of edges and graphs; counts: a perceptron on counts."
    ]
    if not config.data.folds:
        return lines
    lines.append(
        f"Seed k holds out fold k of {config.data.folds}, which it validates and tests on, as the field does: there "
        "are no further graphs, so that what is chosen by these numbers looks better than it is."
    )
    for row in results.rows:
        if row.metrics and not row.diverged + row.failed + row.absent:
            steps, values = results.band(row, fit_name(row.runs[0].settings), "validation_error")
            if steps:
                step, mean, deviation = best_epoch(steps, np.array(values))
                lines.append(
                    f"{row.variant}, by the field's protocol (the step with the best mean over folds): "
                    f"{100 * (1 - mean):.1f} ± {100 * deviation:.1f} % right, step {step:,}; ± is the standard "
                    "deviation over folds."
                )
    return lines


def best_epoch(steps: list[int], values: np.ndarray) -> tuple[int, float, float]:
    """(step, mean, standard deviation over folds) where the mean of values [T, folds] is least, the first of equals.

    Xu et al. 2019, section 7.
    """
    best = int(values.mean(axis=1).argmin())
    return steps[best], float(values[best].mean()), float(values[best].std())


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Errors, learning curves, and two graphs of each class."""
    from experiments._graph_pictures import errors  # matplotlib, for the first time

    rows = [row for row in results.rows if row.metrics and not row.diverged]
    found = {"graphs": examples(source.graph)}
    if rows:
        found["errors"] = errors({row.variant: row.metrics["test_error"] for row in rows}, "test_error")
    curves = {row.variant: results.band(row, fit_name(row.runs[0].settings), "validation_error") for row in rows}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if curves:
        found["learning_curves"] = draw.bands(curves, "step", "validation error")
    return found


def examples(graph: Any) -> Any:
    """The first two graphs of each class, of ten classes at most."""
    import networkx
    from matplotlib.figure import Figure

    classes, start = min(10, len(graph.names)), np.cumsum(graph.sizes) - graph.sizes
    figure = Figure(figsize=(2.6 * classes, 5.2), layout="constrained")
    for label, column in enumerate(figure.subplots(2, classes, squeeze=False).T):
        for axes, member in zip(column, np.flatnonzero(graph.labels == label), strict=False):
            first, last = start[member], start[member] + graph.sizes[member]
            inside = (graph.senders >= first) & (graph.senders < last)
            drawn = networkx.Graph()
            drawn.add_nodes_from(range(first, last))
            drawn.add_edges_from(zip(graph.senders[inside].tolist(), graph.receivers[inside].tolist(), strict=True))
            networkx.draw(drawn, networkx.spring_layout(drawn, seed=0), ax=axes, node_size=25, width=0.6)
        column[0].set_title(graph.names[label])
    return figure


study = Study(
    name="graph_classify",
    doc=__doc__,
    variants=variants,
    train=train,
    figures=figures,
    claims=claims,
    published=published,
    differs=differs,
    notes=notes,
    source=lambda config: jaxdl.data.graph_source(config.data, config.batch_size),
    select=("validation_error", "min"),
    columns=("test_error", "validation_error", "train_error"),
    further={"a set of TU Dortmund's": "--config=configs/graph_classify.py:tu --config.data.dir=FOLDER"},
    default_variant="gin",
)

if __name__ == "__main__":
    study.main()
