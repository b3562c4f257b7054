"""The methods of the studies of nodes: networks, what is minimised, how long they train; and the graphs they see."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np

import jaxdl
from experiments._vae_fits import picked, unlogged
from jaxdl.errors import UserError, unknown

LABEL_PROPAGATION = "label-propagation"
CHEBYSHEV, GAT, SPECTRAL = "chebyshev-", "gat", "spectral"
# "sampled-gcn" is trained on sampled neighbourhoods. An LSTM's and the spectral network's operators read the whole
# graph, and a Chebyshev layer of degree K hears from K steps away.
SAMPLED, SAMPLES = "sampled-", ("gcn", GAT, "sage-mean", "sage-max", "gin")


def network(config: Any, method: str, classes: int) -> Any:
    """The network that a method names: GAT with the section `gat`, all others with the section `model`."""
    graph, model, gat = jaxdl.models.graph, config.model, config.gat
    names = [*_FAMILIES, *(f"{CHEBYSHEV}{degree}" for degree in (1, 2, 3)), GAT, *(SAMPLED + name for name in SAMPLES)]
    shared = (tuple(model.widths), classes)
    if method.startswith(SAMPLED) and method in names:
        return network(config, method.removeprefix(SAMPLED), classes)
    if method in _FAMILIES:
        return _FAMILIES[method](graph, shared)
    if method == GAT:
        heads = (gat.heads,) * len(model.widths) + (gat.output_heads,)
        return graph.GAT((gat.units,) * len(model.widths), classes, heads=heads)
    if method.startswith(CHEBYSHEV) and method.removeprefix(CHEBYSHEV).isdecimal():
        return graph.Chebyshev(*shared, degree=int(method.removeprefix(CHEBYSHEV)))
    raise unknown("method", method, [*names, LABEL_PROPAGATION])


_FAMILIES: dict[str, Callable] = {
    "mlp": lambda graph, shared: graph.NodeMLP(*shared),
    "gcn": lambda graph, shared: graph.GCN(*shared),
    "sage-mean": lambda graph, shared: graph.GraphSAGE(*shared, aggregator="mean"),
    "sage-max": lambda graph, shared: graph.GraphSAGE(*shared, aggregator="max"),
    "sage-lstm": lambda graph, shared: graph.GraphSAGE(*shared, aggregator="lstm"),
    "gin": lambda graph, shared: graph.GIN(*shared),
    SPECTRAL: lambda graph, shared: graph.SpectralNetwork(*shared),
}


def changes(config: Any, method: str) -> dict[str, Any]:
    """What a method's own paper sets otherwise than `hyper` does."""
    gat = config.gat
    if method.removeprefix(SAMPLED) != GAT:
        return {}
    rates = {f"hyper.{name}": gat.dropout for name in jaxdl.tasks.NODE_RATES}
    return {"hyper.learning_rate": gat.learning_rate} | rates


def check(config: Any, runs: Any, counts: dict[str, int]) -> None:
    """UserError for rates of dropping outside [0, 1), and for `counts`, {key: value}, that are not above 0."""
    for row in runs.rows:
        jaxdl.tasks.check_dropping(row.hyper, jaxdl.tasks.NODE_RATES)
    positive(counts | {"every": config.every})


def positive(counts: dict[str, int]) -> None:
    """UserError for a count, {key: value}, that is not above 0."""
    wrong = next((key for key, value in counts.items() if value < 1), None)
    if wrong is not None:
        raise UserError(f"{wrong}={counts[wrong]} is not possible: valid is a whole number from 1")


def source_of(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """The nodes that a run sees: those at hand, another split of them, or another graph's; in batches if sampled."""
    if settings.get("graph"):
        known = config.karate_club.train, config.karate_club.validation
        source = jaxdl.data.members.of_nodes("karate_club", jaxdl.data.graphs.karate_club(), known)
    elif settings["split"] != config.data.split:
        source = jaxdl.data.node_source(config.data, settings["split"])
    if settings["method"].startswith(SAMPLED):
        source = jaxdl.data.members.sampled(source, config.sampling.batch_size)
    return source


def objective(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """Cross-entropy over training nodes; of label propagation, which learns nothing, what it predicts."""
    method, graph = settings["method"], source.graph
    if method == LABEL_PROPAGATION:
        import jax.numpy as jnp

        rows = {key: jnp.asarray(values) for key, values in source.data["train"].items()}
        train = (lambda run: source.prepare(run, rows)) if source.prepare else lambda run: rows
        return jaxdl.tasks.label_propagation(graph, train, config.label_propagation.steps)
    net = network(config, method, source.classes)
    nodes = jaxdl.tasks.nodes
    if method.startswith(SAMPLED):
        fanouts = config.sampling.fanouts
        if len(fanouts) != len(config.model.widths) + 1 or min(fanouts) < 1:
            raise UserError(
                f"sampling.fanouts={tuple(fanouts)} is not possible: valid are at least 1 neighbour for each of the "
                f"{len(config.model.widths) + 1} layers"
            )
        around = jaxdl.data.neighbours.neighbours(graph)
        return jaxdl.tasks.classify_sampled(net, nodes.dense(graph), around, fanouts)
    if method == SPECTRAL and len(graph.ids) > config.spectral.most_nodes:
        raise UserError(
            f"{SPECTRAL} is not possible with {len(graph.ids):,} nodes: its eigenvectors take time with their cube; "
            f"valid: up to spectral.most_nodes={config.spectral.most_nodes:,}, or leave it out with --only or "
            "--config.compare.methods"
        )
    return jaxdl.tasks.classify_nodes(net, nodes.features(graph), net.operator(nodes.structure(graph)))


def fit_name(settings: dict[str, Any]) -> str:
    """ "gcn", "gcn_random", "karate_club_gcn"."""
    parts = [settings.get("graph", ""), settings["method"], settings["split"].replace("public", "")]
    return "_".join(part.replace("-", "_") for part in parts if part)


def trained(config: Any, source: Any, settings: dict[str, Any], group: Any, fit: Callable) -> Any:
    """The fit of the runs of one method on one split."""
    method, name = settings["method"], fit_name(settings)
    task = objective(config, source, settings)
    if method == LABEL_PROPAGATION:
        rule = jaxdl.training.optimizer(config.optimizer, 1)
        return fit(name, task, rule, source, unlogged(group), steps=0)
    gat = method.removeprefix(SAMPLED) == GAT
    own = config.gat if gat else config
    steps = jaxdl.training.duration(own, source.steps_per_epoch, "gat." if gat else "")
    rule = dict(config.optimizer.as_dict()) | {"weight_decay": own.decayed}
    optimizer = jaxdl.training.optimizer(types.SimpleNamespace(**rule), steps)
    options = dict(steps=steps, every=own.every, patience=own.patience, select=("validation_loss", "min"))
    return fit(name, task, optimizer, source, group, **options)


def layers(config: Any, source: Any, settings: dict[str, Any], params: Any) -> list[np.ndarray]:
    """What each layer makes of all nodes, [N, width], and the logits, after training."""
    net, nodes = network(config, settings["method"], source.classes), jaxdl.tasks.nodes
    features, operator = nodes.features(source.graph), net.operator(nodes.structure(source.graph))
    found = net.apply({"params": params}, features, operator, method="layers")
    return [np.asarray(each) for each in found]


def first_run(row: Any, fit: Callable, config: Any, source: Any) -> Any:
    """The parameters of a row's first seed, as they are stored."""
    one = jaxdl.study.Runs(row.runs[:1], [[]])
    return picked(trained(config, source, row.runs[0].settings, one, fit).params, np.int64(0))
