"""Networks on graphs classify nodes. Kipf & Welling 2017, Velickovic et al. 2018, Defferrard et al. 2016 and others.

Every method sees the same splits: a perceptron that sees no edge, labels that spread along edges, graph convolutions,
Chebyshev polynomials of the Laplacian, attention, GraphSAGE's aggregators, GIN and the spectral network on the
Laplacian's eigenvectors. On a block model and Zachary's karate club; with presets on Cora, Citeseer and PubMed.

Minutes: 2 (a block model and the karate club, 2 CPU cores).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _graph_claims as about
from experiments import _graph_fits as fits
from experiments._graph_cost import growth
from experiments._graph_predictions import predict
from jaxdl.study import Action, Done, Study, divergence

CLUB, COST = "karate-", "cost-"


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Each method on the data's split, on random splits of the same graph, on the karate club; what some cost."""
    compare, split = config.compare, config.data.split
    found = {method: {"method": method, "split": split} for method in compare.methods}
    if compare.random:
        found |= {f"{method}-random": {"method": method, "split": "random"} for method in compare.methods}
    found |= {
        f"{CLUB}{method}": {"method": method, "split": "random", "graph": "karate_club"}
        for method in compare.karate_club
    }
    found = {name: settings | fits.changes(config, settings["method"]) for name, settings in found.items()}
    return found | {f"{COST}{method}": {"method": method, "cost": True} for method in config.cost.methods}


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all seeds of a method on a split."""
    sections = (
        config.gat, config.label_propagation, config.sampling, config.spectral, config.karate_club, config.cost,
        config.compare,
    )  # fmt: skip
    for section in sections:
        section.as_dict()  # not all variants look at all of them
    gat = {f"gat.{name}": getattr(config.gat, name) for name in ("units", "heads", "output_heads")}
    counts = {f"model.widths[{place}]": width for place, width in enumerate(config.model.widths)}
    fits.check(config, runs, counts | gat)
    for settings, group in runs.grouped(lambda row: row.settings):
        if "cost" in settings:
            measure = functools.partial(growth, config, settings["method"], len(group))
            yield Done(group, {}, {}, np.full(len(group), "", object), measure)
            continue
        own = fits.source_of(config, source, settings)
        fitted = fits.trained(config, own, settings, group, fit)
        # On random splits each run has test nodes of its own: there is no outcome of an example over seeds.
        outcomes = fitted.outcomes if own.prepare is None else {}
        metrics = fitted.metrics | {"train_epochs": fitted.steps / own.steps_per_epoch}
        yield Done(group, metrics, outcomes, divergence(fits.fit_name(settings), fitted.diverged))


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """See experiments/_graph_pictures.py."""
    from experiments import _graph_pictures  # matplotlib, for the first time

    return _graph_pictures.figures(config, source, results, fit)


study = Study(
    name="graph_nodes",
    doc=__doc__,
    variants=variants,
    train=train,
    figures=figures,
    source=lambda config: jaxdl.data.node_source(config.data),
    select=("validation_error", "min"),
    columns=("test_error", "validation_error", "train_error", "train_epochs", "train_exponent"),
    claims=about.claims,
    published=about.published,
    differs=about.differs,
    notes=about.notes,
    further={"Cora, 100 seeds": "--config=configs/graph_nodes.py:cora"},
    actions={"predict": Action("OUT.csv", "each node's class and probabilities", predict)},
    default_variant="gcn",
)

if __name__ == "__main__":
    study.main()
