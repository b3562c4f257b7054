"""The class of every node, by a trained network, as a table."""

import csv
from typing import Any

import numpy as np

from experiments import _graph_fits as fits
from experiments._trained import appearing, free
from jaxdl.errors import UserError


def predict(finished: Any, variant: str, seed: int, value: str, out: str) -> None:
    """Write a CSV file with a row for each node: its number, its id, its likeliest class and all probabilities.

    value: the file. The rest: see `jaxdl.study.Action`
    """
    if out:
        raise UserError(f"--out={out} has no effect: --predict={value} names the file")
    if not value.endswith(".csv"):
        raise UserError(f"--predict={value} is not possible: valid is the name of a .csv file")
    place, model = free(value), finished.model(variant, seed)
    row = finished.report.results.row(variant)
    source = fits.source_of(model.group.config, model.group.source, row.runs[0].settings)
    graph = source.graph
    probabilities = model.apply(np.arange(len(graph.ids), dtype=np.int32))  # [N, classes]
    predicted = probabilities.argmax(axis=1)
    with appearing(place) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["node", "id", "class", *(f"probability of {name}" for name in source.names)])
        for node, (name, label, each) in enumerate(zip(graph.ids, predicted, probabilities, strict=True)):
            writer.writerow([node, name, source.names[label], *(f"{probability:.6g}" for probability in each)])
    known = graph.labels >= 0
    right = int((predicted == graph.labels)[known].sum())
    print(f"classes   {place}: {len(graph.ids):,} nodes by {variant}, seed {seed}")
    print(f"          as labelled: {right:,} of {known.sum():,}, those that it was trained on among them")
