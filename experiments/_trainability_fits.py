"""The programs of the trainability study: networks, where their runs start, fits, and the best of several starts."""

from collections.abc import Callable
from typing import Any

import numpy as np

import jaxdl
from experiments._vae_fits import picked, unlogged
from jaxdl.study import Runs

# What names of variants call an initialisation, and what jaxdl.models does.
INITIALISATIONS = {
    "small": "small_normal", "standard": "standard_uniform", "lecun": "lecun_normal", "glorot": "glorot_normal",
    "he": "he_normal", "orthogonal": "orthogonal",
}  # fmt: skip


def program(row: Any) -> dict[str, Any]:
    """What is static in a run beside the config: all but its initialisation, which is a value."""
    return {name: value for name, value in row.settings.items() if name != "initialisation"}


def fit_name(settings: dict[str, Any]) -> str:
    """ "relu_30", "relu_30_residual", "relu_2_starts", "sawtooth_relu_4"."""
    parts = [settings.get("function", ""), settings["unit"], str(settings["depth"])]
    parts += [settings["normalisation"].replace("none", ""), "starts" * ("starts" in settings)]
    return "_".join(part for part in parts if part)


def duration(config: Any, source: Any) -> int:
    """Steps of every fit."""
    return jaxdl.training.duration(config, source.steps_per_epoch)


def network(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """The network of a program; its initialisation is the one that `start` scales."""
    width = settings.get("width", config.model.width)
    return jaxdl.models.DeepMLP(
        settings["depth"], width, source.classes, settings["unit"], settings["normalisation"], "lecun_normal"
    )


def objective(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """Cross-entropy from weights that a run's gains scale, counting the steps until the loss is low.

    At each evaluation also how many units are saturated, and how much of the gradient reaches the first layer.
    """
    net, shape = network(config, source, settings), source.data["train"]["image"].shape[1:]
    plain = jaxdl.tasks.classify(net, shape)

    def evaluate(params: Any, model_state: Any, batch: dict, run: dict, key: Any) -> dict:
        signals = jaxdl.tasks.signals.of_examples(net, params, model_state, batch["image"], batch["label"])
        return plain.evaluate(params, model_state, batch, run, key) | signals

    task = plain._replace(init=start(net, shape), evaluate=evaluate)
    return jaxdl.tasks.steps_to_loss(task, config.target_loss)


def start(net: Any, image_shape: tuple[int, ...]) -> Callable:
    """(run, key) -> where it begins: Gaussian or orthogonal kernels, times the run's gain for each kind of layer.

    Gaussian kernels have variance 1 / inputs: initialisations that differ in variance alone are one program.
    """
    import jax
    from jax import numpy as jnp

    def init(run: dict, key: Any) -> tuple[Any, Any]:
        key = jax.random.fold_in(key, run["start"])
        params, state = jaxdl.models.initialise(net, key, image_shape)
        # A network of one hidden layer has no "hidden". The kernels that are replaced are never drawn.
        layers = {layer: params[layer].get("dense", params[layer]) for layer in run["gains"] if layer in params}
        sizes = np.cumsum([layer["kernel"].size for layer in layers.values()])
        drawn = jnp.split(jax.random.normal(key, (int(sizes[-1]),)), sizes[:-1])  # at once: compiles in half the time
        for (name, layer), values in zip(layers.items(), drawn, strict=True):
            shape = layer["kernel"].shape  # [inputs, outputs]; of "hidden" [depth - 1, width, width]
            kernel = values.reshape(shape) / np.float32(shape[-2] ** 0.5)
            kernel = jnp.where(run["orthogonal"] > 0, jaxdl.models.orthogonalised(kernel), kernel)
            layer["kernel"] = run["hyper"]["gain"] * run["gains"][name] * kernel
        return params, state

    return init


def given(config: Any, source: Any, group: Any) -> dict[str, Any]:
    """Beside seeds and hyperparameters: where each run starts, {"gains": {layers: [R]}, "orthogonal", "start": [R]}."""
    width, classes = group.rows[0].settings.get("width", config.model.width), source.classes
    inputs = int(np.prod(source.data["train"]["image"].shape[1:]))
    shapes = {"first": (inputs, width), "hidden": (width, width), "output": (width, classes)}
    names = [INITIALISATIONS[row.settings["initialisation"]] for row in group.rows]
    return group.arrays() | {
        "gains": {
            layer: np.array([jaxdl.models.gain(name, *shape) for name in names], np.float32)
            for layer, shape in shapes.items()
        },
        "orthogonal": np.array([name == "orthogonal" for name in names], np.float32),
        "start": np.zeros(len(group), np.uint32),
    }


def trained(config: Any, source: Any, settings: dict[str, Any], group: Any, fit: Callable) -> Any:
    """The fit of a program; of `starts`, all starting points of each run after another, R of them for each start."""
    steps, count = duration(config, source), settings.get("starts", 1)
    extra = given(config, source, group)
    if count > 1:
        extra = picked(extra, np.tile(np.arange(len(group)), count))
        extra["start"] = np.repeat(np.arange(count, dtype=np.uint32), len(group))
        group = Runs(group.rows * count, [[]] * (len(group) * count))
    task, rule = objective(config, source, settings), jaxdl.training.optimizer(config.optimizer, steps)
    options = dict(steps=steps, evaluations=config.evaluations)
    return fit(fit_name(settings), task, rule, source, group, extra, **options)


def best_start(config: Any, source: Any, name: str, task: Any, group: Any, fitted: Any, fit: Callable) -> Any:
    """Of each run's starting points the one with the least validation loss: a fit of no steps that measures it."""
    loss = np.where(fitted.diverged > 0, np.inf, fitted.metrics["validation_loss"]).reshape(-1, len(group))
    chosen = loss.argmin(axis=0) * len(group) + np.arange(len(group))  # [R], places among all starts
    ends = {"params": fitted.params, "state": fitted.model_state}
    after = task._replace(init=lambda run, key: (run["end"]["params"], run["end"]["state"]))
    extra = given(config, source, group) | {"end": picked(ends, chosen)}
    rule = jaxdl.training.optimizer(config.optimizer, 1)
    best = fit(f"{name}_best", after, rule, source, unlogged(group), extra, steps=0)
    return best._replace(diverged=fitted.diverged[chosen])
