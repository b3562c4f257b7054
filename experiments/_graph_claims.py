"""What papers claim and print of networks that classify nodes, and what the table's reader must know."""

from typing import Any

import jaxdl
from experiments._graph_fits import GAT, LABEL_PROPAGATION, SAMPLED, SPECTRAL
from jaxdl.study import Published

KIPF, VELICKOVIC = "Kipf & Welling 2017", "Velickovic et al. 2018"
RANDOM_SPLITS = "Random splits are each seed's own: their intervals are over splits and initialisations together."
MARGIN = 0.01  # of accuracies: "no better" is better by less than this
# Accuracies: Kipf & Welling 2017, Table 2 and section 6.1 (means of 100 initialisations, of 10 random splits with
# their standard error); Velickovic et al. 2018, Table 2 (100 runs).
TABLES = {
    "cora": {
        "mlp": 0.551, "label-propagation": 0.680, "gcn": 0.815, "chebyshev-2": 0.812, "chebyshev-3": 0.795,
        "gcn-random": (0.801, 0.005), "gat": (0.830, 0.007),
    },
    "citeseer": {
        "mlp": 0.465, "label-propagation": 0.453, "gcn": 0.703, "chebyshev-2": 0.696, "chebyshev-3": 0.698,
        "gcn-random": (0.679, 0.005), "gat": (0.725, 0.007),
    },
    "pubmed": {
        "mlp": 0.714, "label-propagation": 0.630, "gcn": 0.790, "chebyshev-2": 0.738, "chebyshev-3": 0.744,
        "gcn-random": (0.789, 0.007), "gat": (0.790, 0.003),
    },
}  # fmt: skip


def claims(config: Any) -> list[Any]:
    """What the papers claim of the methods at hand."""
    judged, there, error = jaxdl.study.claims, set(config.compare.methods), "test_error"
    found = []
    if "gcn" in there:
        found += [
            judged.less(
                f"gcn-beats-{method}", f"The GCN makes fewer test errors than {what}", f"{KIPF}, Table 2", error,
                "gcn", method,
            )
            for method, what in (
                ("mlp", "a perceptron that sees no edge"),
                ("label-propagation", "label propagation, which sees no feature"),
            )
            if method in there
        ]  # fmt: skip
        if "gat" in there:
            found.append(judged.no_more(
                "gat-is-no-worse", f"The GAT makes no more test errors than the GCN, within {100 * MARGIN:g} point",
                f"{VELICKOVIC}, Table 2", error, "gat", "gcn", MARGIN,
            ))  # fmt: skip
        found += [
            judged.no_more(
                f"chebyshev-{degree}-is-no-better",
                f"Chebyshev polynomials of degree {degree} save less than {100 * MARGIN:g} point of the GCN's errors",
                f"{KIPF}, Table 3", error, "gcn", f"chebyshev-{degree}", MARGIN,
            )
            for degree in (2, 3)
            if f"chebyshev-{degree}" in there
        ]  # fmt: skip
    for method in config.cost.methods:
        spectral = method == SPECTRAL
        power, margin = (3, 0.5) if spectral else (1, 0.25)
        what = "The eigenvectors of the spectral network take" if spectral else f"An epoch of {method} takes"
        found.append(judged.Claim(
            f"cost-of-{method}",
            f"{what} time in proportion to the {'cube of the nodes' if spectral else 'edges'}: the fitted exponent is "
            f"{power}, within {margin:g}",
            "Defferrard et al. 2016, section 2; Kipf & Welling 2017, section 3", "train_exponent_excess",
            ({f"cost-{method}": 1.0},), "equal", margin,
        ))  # fmt: skip
    return found


def published(config: Any) -> list[Published]:
    """The papers' test errors on the same graph and splits."""
    rows = []
    for variant, value in TABLES.get(config.data.name, {}).items():
        accuracy, spread = value if isinstance(value, tuple) else (value, None)
        source = f"{VELICKOVIC}, Table 2" if variant == "gat" else f"{KIPF}, Table 2"
        source = f"{KIPF}, Table 3" if variant.startswith("chebyshev") else source
        # How many runs: 100 of the means over initialisations, 10 random splits.
        runs = 0 if variant == "label-propagation" else 10 if variant.endswith("random") else 100
        if variant.removesuffix("-random") in config.compare.methods and (
            config.compare.random or not variant.endswith("-random")
        ):
            rows.append(Published(variant, "test_error", 1 - accuracy, spread, runs, source, True))
    return rows


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the papers'."""
    gat, cora = config.gat, config.data.name in TABLES
    methods = [method.removeprefix(SAMPLED) for method in config.compare.methods]
    checks = [
        (not cora, f"The data are {config.data.name} instead of Cora, Citeseer and PubMed."),
        (cora and not config.patience, f"The GCN and its like train for {config.steps} epochs without early stopping; "
                                       "the paper stops after 10 epochs without a lower validation loss."),
        (GAT in methods and not gat.patience, f"The GAT trains for {gat.steps} epochs without early stopping."),
        (any(method.startswith(("sage", "gin")) for method in methods),
         "GraphSAGE and GIN have the GCN's recipe here; their papers have other data."),
        (SPECTRAL in methods,
         "The spectral network's multipliers are splines over eigenvalues, not over their numbers."),
        (cora and config.compare.random, "Random splits: 20 nodes of each class to train on, 30 to validate on, of the "
                                         "largest component (Shchur et al. 2018); Kipf & Welling's are of all nodes."),
    ]  # fmt: skip
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know."""
    variants, lines = {row.variant for row in results.rows}, []
    if any(LABEL_PROPAGATION in name for name in variants):
        lines.append("label-propagation learns nothing: its training error is 0 because known labels are kept.")
    if any(name.endswith("-random") for name in variants) or config.data.split == "random":
        lines.append(RANDOM_SPLITS)
    if any(name.startswith("karate-") for name in variants):
        lines.append(
            f"karate-METHOD: the karate club, {config.karate_club.train} known member of each faction; every node's "
            "feature is its own identity, so that a perceptron can only guess."
        )
    if any(name.startswith("cost-") for name in variants):
        lines.append(
            "cost-METHOD: clock times on this machine, another measurement at each launch that trains them; "
            f"spectral: {', '.join(f'{size:,}' for size in config.cost.nodes)} nodes, others: "
            f"{', '.join(f'{size:,}' for size in config.cost.edges)} directed edges."
        )
    return lines
