"""What a network's form knows of images. LeCun 1989; LeCun et al. 1998 (Proceedings of the IEEE 86).

A multi-layer perceptron, a locally connected network, and convolutional ones without pooling, with maximum and with
average pooling, of about as many weights: their errors where test images are shifted, turned, scaled or noisy; with
shifted training images; with all pixels permuted; and for digits at places where training never had them.

Minutes: 3 (rendered digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _invariance_claims as about
from experiments import _invariance_images as images
from experiments._vae_fits import measure
from jaxdl.errors import UserError, unknown
from jaxdl.study import Done, Study, divergence

COUNT = 12  # pictures in a row


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Those that the recipe names: NETWORK on images as they are, or KIND-NETWORK on images of that kind."""
    wrong = next((name for name in config.compare.variants if name not in about.VARIANTS), None)
    if wrong is not None:
        raise unknown("variant in compare.variants", wrong, about.VARIANTS)
    return {name: about.VARIANTS[name] for name in config.compare.variants}


def network(config: Any, source: Any, name: str) -> Any:
    """The network called `name`: about as many weights each, but for "-global", which differ in sharing alone."""
    model, classes = config.model, source.classes
    if name == "mlp":
        return jaxdl.models.MLP(model.widths, classes, "relu", model.initialisation)
    kind, _, how = name.partition("-")
    pooling = how if how in ("max", "average") else "none"
    maps = model.local_maps if name == "local" else model.maps
    head = "global" if how == "global" else "dense"
    return jaxdl.models.LocalNetwork(maps, classes, kind == "cnn", pooling, head, model.initialisation)


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for each variant; then its errors under disturbances, or at other places."""
    source = checked(config, source)
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    shape = source.data["train"]["image"].shape[1:]
    settings = [(row.settings["network"], row.settings["images"]) for row in runs.rows]
    for name, kind in dict.fromkeys(settings):
        group = runs.where(np.array([each == (name, kind) for each in settings]))
        task, own = jaxdl.tasks.classify(network(config, source, name), shape), seen(config, source, kind)
        label = fit_name(name, kind)
        fitted = fit(label, task, optimizer, own, group, steps=steps, evaluations=config.evaluations)
        metrics, outcomes = dict(fitted.metrics), dict(fitted.outcomes)
        listed = measured(config, source, kind)
        if listed:
            after = task._replace(
                init=lambda run, key: (run["trained"], {}),
                evaluate=images.errors_under(task, listed, source.normalisation.of_scaled),
            )
            extra, test = {"trained": fitted.params}, images.in_unit_range(own)
            values, each = measure(config, test, group, f"{label}_disturbed", after, extra, fit)
            metrics, outcomes = metrics | values, outcomes | each
        metrics["train_parameters"] = np.full(len(group), parameters(fitted.params))
        yield Done(group, metrics, outcomes, divergence(label, fitted.diverged))


def fit_name(network: str, images: str) -> str:
    """ "plain_cnn_max"."""
    return f"{images}_{network}".replace("-", "_")


def checked(config: Any, source: Any) -> Any:
    """The source with as many test images as are asked for. UserError for what makes no sense."""
    train, test, count = source.data["train"], source.data["test"], config.test_images
    if train["image"].ndim != 4 or not np.issubdtype(train["image"].dtype, np.integer):
        raise UserError(f"data.name={config.data.name} is not possible here: it holds no images")
    images.check(config.disturb, *train["image"].shape[1:3])
    here = len(test["label"])
    if not 0 <= count <= here:
        raise UserError(f"test_images={count} is not possible: valid are 1 to {here}, 0 for all")
    _ = jaxdl.data.augmented(source, config.augmentation)  # also where no variant at hand is augmented
    if not any(amount <= about.SMALL for amount in config.disturb.shift):
        raise UserError(
            f"disturb.shift={tuple(config.disturb.shift)}: the claims need one of 1 to {about.SMALL} at least"
        )
    cut = {key: np.asarray(values[: count or here]) for key, values in test.items()}
    return source._replace(data=source.data | {"test": cut})


def seen(config: Any, source: Any, kind: str) -> Any:
    """The source that the networks of a kind of images train on."""
    if kind == "augmented":
        return jaxdl.data.augmented(source, config.augmentation)
    return {"plain": lambda each: each, "permuted": images.permuted, "placed": images.placed}[kind](source)


def measured(config: Any, source: Any, kind: str) -> dict[str, list]:
    """{metric: disturbances} of what is measured after training."""
    if kind == "permuted":  # a shift of the image is none of the permuted pixels
        return {}
    if kind == "placed":
        return images.away(*source.data["test"]["image"].shape[1:3])
    return images.disturbances(config.disturb)


def parameters(params: Any) -> int:
    """How many numbers a run trains, of parameters [R, ...]."""
    import jax

    return sum(leaf[0].size for leaf in jax.tree.leaves(params))


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """The error against the amount of each disturbance, learning curves, and what the images look like."""
    source, draw = checked(config, source), jaxdl.study.figures
    drawn = {}
    whole = [row for row in results.rows if row.runs[0].settings["images"] in ("plain", "augmented") and row.metrics]
    units = {"shift": "pixels", "rotation": "degrees", "scale": "factor", "noise": "standard deviation"}
    for kind, unit in units.items():
        amounts = getattr(config.disturb, kind)
        none = 1 if kind == "scale" else 0
        x = sorted({none, *amounts})
        names = ["test_error" if amount == none else f"test_error_{kind}_{amount:g}" for amount in x]
        lines = {row.variant: (x, [100 * row.metrics[name] for name in names]) for row in whole}
        if amounts and lines:
            drawn[f"error_by_{kind}"] = draw.bands(lines, f"{kind} ({unit})", "test error %")
    drawn["disturbed_images"] = draw.rows(examples(config, source))
    curves = {row.variant: results.band(row, fit_name(**row.runs[0].settings), "validation_error") for row in whole}
    curves = {name: (steps, 100 * np.array(values)) for name, (steps, values) in curves.items() if steps}
    if curves:
        drawn["learning_curves"] = draw.bands(curves, "step", "validation error %")
    return drawn


def examples(config: Any, source: Any) -> dict[str, np.ndarray]:
    """{what was done: test images of seed 0 [N, H, W]}, the first of each list of disturbances."""
    test = source.data["test"]
    stored, shape = np.asarray(test["image"][:COUNT]), test["image"].shape[1:]
    plain = np.asarray(source.normalisation.scaled(stored))
    noise = images.noise_of({"seed": np.uint32(0)}, np.arange(len(stored), dtype=np.uint32), shape)
    found = {"as it is": plain}
    for name, rows in images.disturbances(config.disturb).items():
        found[name.replace("_", " ").replace("rotation", "turned")] = images.disturbed(
            plain, np.array(rows[0], np.float32), noise
        )
    cut = source._replace(data={"test": {key: np.asarray(values[:COUNT]) for key, values in test.items()}})
    for kind, change in (("permuted", images.permuted), ("placed", images.placed)):
        found[kind] = source.normalisation.scaled(change(cut).data["test"]["image"])
    return {name: jaxdl.study.figures.pictures(values, shape) for name, values in found.items()}


study = Study(
    name="invariance",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=about.claims,
    differs=about.differs,
    notes=about.notes,
    figures=figures,
    select=("validation_error", "min"),
    columns=(
        "test_error", "test_error_shift", "test_error_rotation", "test_error_scale", "test_error_noise",
        "test_error_home", "test_error_elsewhere",
    ),
    further={"the same on MNIST": "--config=configs/invariance.py:mnist"},
    default_variant=about.BASE,
)  # fmt: skip

if __name__ == "__main__":
    study.main()
