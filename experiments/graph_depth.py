"""Over-smoothing: GCNs of many layers. Kipf & Welling 2017, appendix B; Li et al. 2018; Zhao & Akoglu 2020.

Graph convolutional networks of 2 to 16 layers, plain, with residual connections, or with normalised distances between
nodes: how often they are right, and how far apart the nodes' features are before and after training.

Minutes: 5 (a block model, 2 CPU cores).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _graph_fits as fits
from experiments._graph_claims import RANDOM_SPLITS
from experiments._trainability_signals import initial
from jaxdl.errors import UserError, unknown
from jaxdl.study import Done, Study, divergence

KINDS = {
    "plain": (False, False), "residual": (True, False), "norm": (False, True), "residual+norm": (True, True),
}  # fmt: skip
KIPF, LI, ZHAO = "Kipf & Welling 2017, appendix B", "Li et al. 2018, section 3", "Zhao & Akoglu 2020, section 4"
FIT = "gcn"


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Each kind of network at each depth."""
    depths, kinds = config.compare.depths, config.compare.kinds
    wrong = next((kind for kind in kinds if kind not in KINDS), None)
    if wrong is not None:
        raise unknown("kind of network in compare.kinds", wrong, KINDS)
    if not depths or list(depths) != sorted(set(depths)) or min(depths) < 2:
        raise UserError(f"compare.depths={tuple(depths)}: valid are numbers of layers from 2, in increasing order")
    return {label(kind, depth): {"kind": kind, "depth": depth} for kind in kinds for depth in depths}


def label(kind: str, depth: int) -> str:
    """ "residual-8"."""
    return f"{kind}-{depth}"


def network(config: Any, settings: dict[str, Any], classes: int) -> Any:
    """A GCN of `depth` layers; residual connections join hidden layers, which are all equally wide."""
    residual, normalised = KINDS[settings["kind"]]
    widths = (config.model.width,) * (settings["depth"] - 1)
    return jaxdl.models.graph.GCN(widths, classes, residual=residual, normalised=normalised)


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all runs of a kind and a depth; then how far apart its nodes are."""
    nodes = jaxdl.tasks.nodes
    fits.check(config, runs, {"model.width": config.model.width})
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    for settings, group in runs.grouped(lambda row: row.settings):
        net, name = network(config, settings, source.classes), fit_name(settings)
        features, operator = nodes.features(source.graph), net.operator(nodes.structure(source.graph))
        task = jaxdl.tasks.classify_nodes(net, features, operator)
        fitted = fit(name, task, optimizer, source, group, steps=steps, every=config.every)
        outcomes = fitted.outcomes if source.prepare is None else {}
        begin = initial(source, name, task)
        measure = functools.partial(distances, net, features, operator, begin, group.arrays(), fitted)
        yield Done(group, fitted.metrics, outcomes, divergence(name, fitted.diverged), measure)


def fit_name(settings: dict[str, Any]) -> str:
    """ "plain_8"."""
    return f"{settings['kind'].replace('+', '_')}_{settings['depth']}"


def distances(
    net: Any, features: Any, operator: Any, begin: Callable, runs: dict, fitted: Any
) -> dict[str, np.ndarray]:
    """How far apart all nodes are in the last hidden layer of each run, [R], after and (_at_0) before training."""
    import jax

    @jax.jit
    def look(params: Any) -> Any:
        return spread(net.apply({"params": params}, features, operator, method="layers")[-2])

    start, found = jax.jit(begin), {"test_distance": [], "test_distance_at_0": []}
    for number in range(len(fitted.diverged)):
        run, params = jax.tree.map(lambda leaf, n=number: leaf[n], (runs, fitted.params))
        found["test_distance"].append(float(look(params)))
        found["test_distance_at_0"].append(float(look(start(run)[0])))
    return {name: np.array(values) for name, values in found.items()}


def spread(values: Any) -> Any:
    """sqrt(E |h_i - h_j|^2 / (2 E |h|^2)) over pairs of nodes of h [N, width]: 0 where all are equal, 1 around 0.

    E |h_i - h_j|^2 = 2 (E |h|^2 - |E h|^2), which needs no pairs. 0 where all are 0.
    """
    from jax import numpy as jnp

    scaled = values / jnp.maximum(jnp.abs(values).max(), jnp.float32(1e-30))  # squares of small numbers would be 0
    mean, total = scaled.mean(axis=0), (scaled**2).sum(axis=1).mean()
    relative = 1 - (mean**2).sum() / jnp.maximum(total, jnp.float32(1e-30))
    return jnp.where(total > 0, jnp.sqrt(jnp.maximum(relative, 0)), jnp.float32(0))


def claims(config: Any) -> list[Any]:
    """What the papers claim of depth, of the depths and kinds at hand."""
    judged, (depths, kinds) = jaxdl.study.claims, (config.compare.depths, config.compare.kinds)
    first, last, found = depths[0], depths[-1], []
    beyond = [depth for depth in depths if depth >= 4]
    deep, shallow = label("plain", last), label("plain", first)
    if "plain" not in kinds or first == last:
        return []
    if len(beyond) > 1:
        found.append(judged.increasing(
            "plain-loses-beyond-4", f"Beyond 4 layers plain GCNs make more test errors with each doubling, to {last}",
            KIPF, "test_error", [label("plain", depth) for depth in beyond],
        ))  # fmt: skip
    found.append(judged.decreasing(
        "nodes-come-closer",
        "Before training, the nodes of plain GCNs are closer to each other with each step in depth", LI,
        "test_distance_at_0", [label("plain", depth) for depth in depths],
    ))  # fmt: skip
    for kind, paper, what in (
        ("residual", KIPF, "residual connections"), ("norm", ZHAO, "normalised distances"),
    ):  # fmt: skip
        if kind in kinds:
            own = label(kind, last)
            found += [
                judged.less(f"{kind}-recovers", f"With {last} layers {what} save test errors", paper, "test_error",
                            own, deep),
                judged.Claim(
                    f"{kind}-loses-less",
                    f"From {first} to {last} layers the test error rises by less than half as much with {what}",
                    paper, "test_error",
                    ({own: 1.0, label(kind, first): -1.0, deep: -0.5, shallow: 0.5},), "less",
                ),
                judged.greater(f"{kind}-keeps-nodes-apart",
                               f"After training, nodes are further apart in {own} than in {deep}", paper,
                               "test_distance", own, deep),
            ]  # fmt: skip
    return found


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the papers'."""
    checks = [
        (config.data.name != "cora", f"The data are {config.data.name} instead of Cora, Citeseer and PubMed."),
        (True, "Few labels a class, as in the papers' main tables; appendix B of Kipf & Welling has five-fold "
               "cross-validation of all labels."),
        (True, f"Layers have {config.model.width} units, and one learning rate at all depths."),
    ]  # fmt: skip
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know."""
    random = [RANDOM_SPLITS] if config.data.split == "random" else []
    return [
        *random,
        "Layers: with the last one, so KIND-2 has one hidden layer.",
        "test distance: of all nodes in the last hidden layer, 0 where all are equal and 1 where their mean is 0; "
        "at 0: before training.",
        "norm: PairNorm before each hidden layer's unit.",
    ]


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Errors and distances against depth, and the distance at each layer of the deepest networks."""
    from jaxdl.study import figures as draw  # matplotlib, for the first time

    found, kinds = {}, {}
    for kind in config.compare.kinds:
        rows = {depth: results.row(label(kind, depth)) for depth in config.compare.depths}
        kinds[kind] = {depth: row for depth, row in rows.items() if row and row.metrics and not row.diverged}
    for name, metric, scale, ylabel in (
        ("error_by_depth", "test_error", 100, "test error %"),
        ("training_error_by_depth", "train_error", 100, "training error %"),
        ("distance_by_depth", "test_distance", 1, "distance between nodes"),
        ("distance_before_training", "test_distance_at_0", 1, "distance between nodes, before training"),
    ):
        lines = {
            kind: (list(rows), [scale * row.metrics[metric] for row in rows.values()])
            for kind, rows in kinds.items()
            if rows
        }
        if lines:
            found[name] = draw.bands(lines, "layers", ylabel, logarithmic_x=True, whole=True)
    return found


study = Study(
    name="graph_depth",
    doc=__doc__,
    variants=variants,
    train=train,
    figures=figures,
    claims=claims,
    differs=differs,
    notes=notes,
    source=lambda config: jaxdl.data.node_source(config.data),
    select=("validation_error", "min"),
    columns=("test_error", "train_error", "test_distance", "test_distance_at_0"),
    further={"Cora": "--config=configs/graph_depth.py:cora"},
    default_variant="plain-2",
)

if __name__ == "__main__":
    study.main()
