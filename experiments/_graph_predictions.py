"""The class of every node, by a trained network, as a table."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

import jaxdl
from experiments import _graph_fits as fits
from experiments._trained import appearing
from jaxdl.errors import UserError


def predict(finished: Any, variant: str, seed: int, value: str, out: str) -> None:
    """Write a CSV file with a row for each node: its number, its id, its likeliest class and all probabilities.

    value: the file. The rest: see `jaxdl.study.Action`
    """
    if out:
        raise UserError(f"--out={out} has no effect: --predict={value} names the file")
    if not value.endswith(".csv"):
        raise UserError(f"--predict={value} is not possible: valid is the name of a .csv file")
    if os.path.lexists(value):
        raise UserError(f"--predict={value} is not possible: it is there already, and stays; name another file")
    place, model = Path(value), finished.model(variant, seed)
    config, settings = model.group.config, finished.report.results.row(variant).runs[0].settings
    source = fits.source_of(config, model.group.source, settings)
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
    if source.prepare is not None and config.data.largest_component and not settings.get("graph"):
        left = len(jaxdl.data.graph_sets.read(config.data, jaxdl.data.graph_sets.NODE_SETS).ids) - len(graph.ids)
        if left:
            print(f"          without {left:,} nodes outside of the largest component (data.largest_component)")
    print(f"          as labelled: {right:,} of {known.sum():,}, those that it was trained on among them")
