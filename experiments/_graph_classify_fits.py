"""The networks of the study of whole graphs, and what is trained."""

from collections.abc import Callable
from typing import Any

import jaxdl
from experiments._graph_fits import positive

# How the nodes' features are pooled: as neighbours' are, but for those that add up neighbours and average nodes.
POOLINGS = {"gcn": "mean", "sage-mean": "mean", "sage-max": "max", "gin": "sum", "gin-mean": "mean"}
METHODS = ("counts", "messages", *POOLINGS)


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


def objective(config: Any, source: Any, method: str) -> Any:
    """Cross-entropy over graphs. UserError for a batch that may be too large, before anything is trained."""
    model = config.model
    positive({"model.width": model.width, "model.layers": model.layers, "model.buckets": model.buckets})
    net, nodes = network(config, method, source.classes)
    operator = nodes.operator(jaxdl.tasks.nodes.structure(source.graph))
    graphs = jaxdl.tasks.Shapes(source.graph, operator, source.batch_size, model.buckets, config.data.most_nodes)
    graphs.buckets()
    return jaxdl.tasks.classify_graphs(net, graphs)


def fit_name(settings: dict[str, Any]) -> str:
    """ "sage_mean"."""
    return settings["method"].replace("-", "_")


def trained(config: Any, source: Any, settings: dict[str, Any], group: Any, fit: Callable) -> Any:
    """The fit of the runs of one method."""
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer, task = jaxdl.training.optimizer(config.optimizer, steps), objective(config, source, settings["method"])
    return fit(fit_name(settings), task, optimizer, source, group, steps=steps, evaluations=config.evaluations)
