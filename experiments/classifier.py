"""Train a network on images and use it. LeCun et al. 1998 (Proc. IEEE 86), "Gradient-Based Learning".

Any network that jaxdl has, or yours, on any data set that it has, or on your folder of pictures; what it confuses,
and where it is most certainly wrong. Then `python -m experiments.classify PICTURE --from=runs/classifier`.

Minutes: 1 (rendered digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from jaxdl.study import Done, Study, divergence


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """The one network, under its name; of FILE:CLASS the class."""
    return {config.model.name.rpartition(":")[2]: {}}


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit."""
    fitted = trained(config, source, runs, fit)
    yield Done(runs, fitted.metrics, fitted.outcomes, divergence("train", fitted.diverged))


def trained(config: Any, source: Any, runs: Any, fit: Callable) -> Any:
    """The end of the fit; every split that has an example is measured. UserError where the set has no such target."""
    stored = source.data["train"]
    targets = ["label", *(key for key in stored if key not in ("image", "label") and np.ndim(stored[key]) == 1)]
    if config.target not in targets:
        raise jaxdl.errors.unknown(f"target in {source.name}", config.target, targets)
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    return fit(
        "train", objective(config, source), jaxdl.training.optimizer(config.optimizer, steps),
        jaxdl.data.augmented(source, config.augmentation), runs,
        steps=steps, every=config.validate_every, average=config.average, patience=config.patience, select=SELECT,
        measured=[split for split in source.data if len(source.data[split]["label"])],
    )  # fmt: skip


def network(config: Any, source: Any) -> Any:
    """One output a class, or one for the number that is to be predicted."""
    classes = source.classes if config.target == "label" else 1
    return jaxdl.models.named(config.model, classes, source.data["train"]["image"].shape[1:])


def opening(config: Any, source: Any, runs: Any, most: int) -> list[str]:
    """The network's layers."""
    shape = source.data["train"]["image"].shape[1:]
    return jaxdl.models.layers.table(jaxdl.models.layers.layers(network(config, source), shape), most)


def objective(config: Any, source: Any) -> Any:
    """Classification; regression of any other target than the label."""
    shape = source.data["train"]["image"].shape[1:]
    if config.target == "label":
        return jaxdl.tasks.classify(network(config, source), shape)
    values = np.asarray(source.data["train"][config.target], np.float64)
    return jaxdl.tasks.regress(network(config, source), shape, config.target, values.mean(), values.std() or 1.0)


def notes(config: Any, results: Any) -> list[str]:
    """What the numbers are of, where that is not plain."""
    angle = ["Angles are in degrees."] if config.target == "angle" else []
    here = any("test_loss" in row.metrics for row in results.rows)
    return angle if here else [*angle, "No example is left for a test split: the validation split is all there is."]


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Learning curves; of the first seed what is confused with what, and the most confident mistakes."""
    from experiments import _classifier_pictures  # matplotlib, for the first time

    row = results.rows[0]
    drawn = _classifier_pictures.curves(results, row)
    if row.diverged or row.failed or row.absent:
        return drawn
    ended = trained(config, source, jaxdl.study.Runs(row.runs[:1], [[]]), fit)
    split = "test" if len(source.data["test"]["label"]) else "validation"
    guesses = predictions(objective(config, source), ended, source, split)
    if config.target == "label":
        return drawn | _classifier_pictures.classification(guesses, source, split)
    return drawn | _classifier_pictures.regression(guesses, source, split, config.target)


def predictions(task: Any, fitted: Any, source: Any, split: str, size: int = 500) -> np.ndarray:
    """What the network of the first run makes of every image of a split, in blocks: [N, ...]."""
    import jax

    params, model_state = jax.tree.map(lambda leaf: leaf[0], (fitted.params, fitted.model_state))
    predict = jax.jit(lambda stored: task.predict(params, model_state, source.images(stored), {}))
    images = source.data[split]["image"]
    blocks = (np.asarray(images[first : first + size]) for first in range(0, len(images), size))
    return np.concatenate([np.asarray(predict(block)) for block in blocks])


SELECT = ("validation_loss", "min")

study = Study(
    name="classifier",
    doc=__doc__,
    variants=variants,
    train=train,
    figures=figures,
    notes=notes,
    opening=opening,
    select=SELECT,
    columns=("test_error", "test_absolute_error", "validation_error", "validation_absolute_error", "train_error",
             "train_absolute_error"),
    further={
        "the MNIST network of Chollet's book": "--config=configs/classifier.py:keras",
        "how far digits are turned": "--config=configs/classifier.py:angle",
    },
)  # fmt: skip

if __name__ == "__main__":
    study.main()
