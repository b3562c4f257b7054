"""Networks on graphs classify whole graphs. Xu et al. 2019, How Powerful are Graph Neural Networks?

Three families of random graphs whose numbers of nodes and edges are the same and whose nodes differ in nothing but
their surroundings: networks that add up what neighbours say, others that take its mean or its maximum, message passing
with features of edges and graphs, and a perceptron that is told counts alone. With a preset, a set of TU Dortmund's in
ten folds.

Minutes: 5 (three families, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import jaxdl
from experiments import _graph_classify_fits as fits
from jaxdl.errors import unknown
from jaxdl.study import Done, Published, Study, divergence

PAPER = "Xu et al. 2019"
MARGIN = 0.05  # of errors: as good as guessing
# Accuracy and standard deviation over folds of GIN-0, chosen by the held-out folds: Xu et al. 2019, Table 1.
TABLE_1 = {"MUTAG": (0.894, 0.056), "PROTEINS": (0.762, 0.028)}


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """The methods."""
    for method in config.compare.methods:
        if method not in fits.METHODS:
            raise unknown("method in compare.methods", method, fits.METHODS)
    return {method: {"method": method} for method in config.compare.methods}


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all runs of a method."""
    chance = 1 - 1 / source.classes
    for settings, group in runs.grouped(lambda row: row.settings):
        fitted = fits.trained(config, source, settings, group, fit)
        # In folds each run has graphs of its own to test on: there is no outcome of an example over seeds.
        outcomes = {} if config.data.folds else fitted.outcomes
        metrics = fitted.metrics | {"test_excess_error": fitted.metrics["test_error"] - chance}
        if outcomes:
            outcomes = outcomes | {"test_excess_error": outcomes["test_error"] - np.float32(chance)}
        yield Done(group, metrics, outcomes, divergence(fits.fit_name(settings), fitted.diverged))


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
    blind = [other for other in ("sage-mean", "sage-max") if other in there]
    if blind:
        found.append(judged.Claim(
            "gin-fits", "Graphs that were trained on are told better by sums than by a mean or a maximum",
            f"{PAPER}, section 7", "train_error", tuple({"gin": 1.0, other: -1.0} for other in blind), "less",
        ))  # fmt: skip
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


def in_table_1(config: Any) -> tuple[float, float] | None:
    """What the paper has for GIN-0 on the TU set in data.dir, known by its files' names: accuracy, deviation."""
    if config.data.name != "tu":
        return None
    names = [path.name.removesuffix("_A.txt") for path in Path(config.data.dir).expanduser().glob("*_A.txt")]
    return TABLE_1.get(names[0]) if len(names) == 1 else None


def published(config: Any) -> list[Published]:
    """The paper's number for a TU set that is known by its name."""
    value = in_table_1(config)
    if value is None or "gin" not in config.compare.methods:
        return []
    return [Published("gin", "test_error", 1 - value[0], value[1], 10, f"{PAPER}, Table 1", True)]


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the paper's."""
    checks = [
        (config.data.name != "tu", f"The data are {config.data.name} instead of nine sets of graphs."),
        (True, f"No batch norm; {config.model.layers} layers of {config.model.width} units."),
        (config.data.name == "tu", "No dropout; neither width, batch size nor dropout is chosen for each set."),
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
    if "gcn" in config.compare.methods:
        lines.append("gcn is no plain mean: its weights 1 / sqrt(d_i d_j) tell the degrees of nodes without features.")
    if not config.data.folds:
        return lines
    lines.append(
        f"Seed k holds out fold k of {config.data.folds}, which it validates and tests on, as the field does: there "
        "are no further graphs, so that what is chosen by these numbers looks better than it is. Folds share the "
        "graphs they train on: the table's interval over them does not cover other sets of graphs (Bengio & "
        "Grandvalet 2004, JMLR 5), and no claim is tested."
    )
    known = in_table_1(config)
    paper = f" (the paper: {100 * known[0]:.1f} ± {100 * known[1]:.1f})" if known else ""
    for row in results.rows:
        if row.metrics and not row.diverged + row.failed + row.absent:
            steps, values = results.band(row, fits.fit_name(row.runs[0].settings), "validation_error")
            if steps:
                step, mean, deviation = best_epoch(steps, np.array(values))
                lines.append(
                    f"{row.variant}, by the field's protocol (the step with the best mean over {len(row.runs)} folds): "
                    f"{100 * (1 - mean):.1f} ± {100 * deviation:.1f} % right{paper if row.variant == 'gin' else ''}, "
                    f"step {step:,}; ± is the standard deviation over folds."
                )
    return lines


def best_epoch(steps: list[int], values: np.ndarray) -> tuple[int, float, float]:
    """(step, mean, standard deviation over folds) where the mean of values [T, folds] is least, the first of equals.

    Xu et al. 2019, section 7.
    """
    best = int(values.mean(axis=1).argmin())
    return steps[best], float(values[best].mean()), float(values[best].std())


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Errors, learning curves, what gin takes for what, and two graphs of each class."""
    from experiments import _graph_classify_pictures as pictures  # matplotlib, for the first time

    return pictures.figures(config, source, results, fit)


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
