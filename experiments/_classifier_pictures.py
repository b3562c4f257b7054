"""Pictures of a trained classifier: its curves, its confusions, its mistakes."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxdl.study import figures

MISTAKES = 24  # pictures of the most confident ones
LISTED = 40  # classes whose names and counts are written into the confusion matrix


def curves(results: Any, row: Any) -> dict[str, Figure]:
    """Loss of the batches and of the validation split against the steps."""
    drawn = {}
    for metric in ("loss", "error", "absolute_error"):
        lines = {split: results.band(row, "train", f"{split}_{metric}") for split in ("train", "validation")}
        if all(steps for steps, _ in lines.values()):
            labels = {"train": "training (batches)", "validation": "validation"}
            drawn[f"learning_curves_{metric}"] = figures.bands(
                {labels[split]: line for split, line in lines.items()}, "step", metric.replace("_", " ")
            )
    return drawn


def classification(probabilities: np.ndarray, source: Any, split: str) -> dict[str, Figure]:
    """probabilities [N, classes] of the images of a split."""
    label = np.asarray(source.data[split]["label"])
    guess = probabilities.argmax(axis=1)
    counts = np.zeros((source.classes, source.classes), int)
    np.add.at(counts, (label, guess), 1)
    drawn = {"confusion": confusion(counts, source.names, split)}
    wrong = np.flatnonzero(guess != label)
    worst = wrong[np.argsort(-probabilities[wrong, guess[wrong]], kind="stable")][:MISTAKES]
    if len(worst):
        said = [
            f"{source.names[label[n]]} taken for\n{source.names[guess[n]]} ({probabilities[n, guess[n]]:.0%})"
            for n in worst
        ]
        drawn["mistakes"] = captioned(source, split, worst, said, f"most confident of {len(wrong)} mistakes ({split})")
    return drawn


def regression(guesses: np.ndarray, source: Any, split: str, target: str) -> dict[str, Figure]:
    """guesses [N] of a number for the images of a split."""
    values = np.asarray(source.data[split][target])
    figure = Figure(figsize=(4.8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(values, guesses, s=4, alpha=0.4, linewidths=0)
    ends = [min(values.min(), guesses.min()), max(values.max(), guesses.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel=target, ylabel=f"predicted {target}", title=f"{len(values):,} {split} images", aspect="equal")
    worst = np.argsort(-np.abs(guesses - values), kind="stable")[:MISTAKES]
    said = [f"{values[n]:.1f}\npredicted {guesses[n]:.1f}" for n in worst]
    return {"predictions": figure, "mistakes": captioned(source, split, worst, said, f"largest errors ({split})")}


def confusion(counts: np.ndarray, names: Any, split: str, things: str = "images") -> Figure:
    """Rows are the classes, columns what they were taken for; shades are shares of a row. things: what is counted."""
    classes = len(counts)
    side = min(max(3.6, 1.4 + 0.42 * classes), 12)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # roots, so that single mistakes show
    axes.set(xlabel="taken for", ylabel="class", title=f"{counts.sum():,} {split} {things}")
    if classes <= LISTED:
        axes.set_xticks(range(classes), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(classes), names)
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.3 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color=colour)
    return figure


def captioned(source: Any, split: str, chosen: np.ndarray, captions: list[str], title: str) -> Figure:
    """The chosen images of a split, each under its caption."""
    columns = min(8, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(1.35 * columns, 0.4 + 1.75 * lines), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    images = np.asarray(source.data[split]["image"][chosen]) * source.normalisation.scale
    for number, axes in enumerate(figure.subplots(lines, columns, squeeze=False).ravel()):
        axes.set_axis_off()
        if number < len(chosen):
            image = images[number].reshape(source.data[split]["image"].shape[1:])
            axes.imshow(image, cmap="gray" if image.shape[-1] == 1 else None, vmin=0, vmax=1)
            axes.set_title(captions[number], fontsize=7)
    return figure
