"""The programs of the VAE study: networks, objectives, fits, and fits that only measure."""

from collections.abc import Callable
from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import inputs
from jaxdl.study import Runs


def program(row: Any) -> tuple[str, int, str]:
    """What is static in a run beside the config: its family of codes, their size, the estimator."""
    return row.settings["code"], row.settings["latent"], row.settings["estimator"]


def fit_name(config: Any, settings: tuple[str, int, str]) -> str:
    """ "pathwise", "latent2_pathwise", "categorical_score"."""
    code, latent, estimator = settings
    if code == "categorical":
        return f"categorical_{estimator}"
    return estimator if latent == config.model.latent else f"latent{latent}_{estimator}"


def checked(config: Any, source: Any) -> Any:
    """The source, with its images binarised once where that is asked for. UserError for what makes no sense."""
    bounded, model = source.normalisation.bounded, config.model
    if not bounded and (model.decoder == "bernoulli" or model.binarise != "none"):
        raise jaxdl.errors.UserError(
            f"data.normalise={config.data.normalise} is not possible with a Bernoulli decoder or binarised pixels: "
            "they need values in [0, 1], as unit and binarised give them"
        )
    if config.hyper.noise not in (0.0, 1.0):  # q(z|x) would be another distribution than the one that is drawn from
        raise jaxdl.errors.UserError(f"hyper.noise={config.hyper.noise} is not possible: valid is 1, or 0 for no noise")
    for section in (config.compare, config.categorical, config.generation, config.gradients):
        section.as_dict()  # not all presets look at all of them
    last = jaxdl.training.duration(config, source.steps_per_epoch)
    beyond = [point for point in config.gradients.points if not 0 <= point <= last]
    if beyond:
        raise jaxdl.errors.UserError(
            f"gradients.points={tuple(config.gradients.points)}: valid are 0 to {last}, the steps of training"
        )
    return jaxdl.data.binarised(source) if model.binarise == "fixed" else source


def network(config: Any, source: Any, settings: tuple[str, int, str]) -> Any:
    """inputs-widths-latent-widths-inputs; with model.channels, convolutions in place of all but the last width.

    Networks of categorical codes are dense, whatever model.channels says.
    """
    model, (code, latent, _) = config.model, settings
    rest = (model.unit, model.initialisation)
    if code == "categorical":
        return jaxdl.models.CategoricalVAE(inputs(source), model.widths, latent, config.categorical.classes, *rest)
    if model.channels:
        shape = source.data["train"]["image"].shape[1:]
        return jaxdl.models.ConvVAE(shape, model.channels, model.widths[-1], latent, *rest)
    return jaxdl.models.VAE(inputs(source), model.widths, latent, *rest)


def posterior(config: Any, settings: tuple[str, int, str]) -> Any:
    """The family of a program's codes."""
    families = jaxdl.tasks.posteriors
    return families.categorical(config.categorical.classes) if settings[0] == "categorical" else families.GAUSSIAN


def objective(config: Any, source: Any, settings: tuple[str, int, str], binarise: str = "") -> Any:
    """The negative ELBO with one estimator of its gradient; leaving one out takes more than one draw of the code."""
    model, estimator = config.model, settings[2]
    samples = config.compare.leave_one_out if estimator == "score_leave_one_out" else 1
    return jaxdl.tasks.elbo(
        network(config, source, settings), inputs(source), model.decoder, estimator, samples,
        binarise or pixels(config), posterior(config, settings),
    )  # fmt: skip


def pixels(config: Any) -> str:
    """What the objective does to pixels: nothing to those that the source has binarised already."""
    return "none" if config.model.binarise == "fixed" else config.model.binarise


def trained(config: Any, source: Any, group: Any, fit: Callable, until: int | None = None) -> Any:
    """The fit of one program; with `until`, the first steps of the same fit, not logged again."""
    settings = program(group.rows[0])
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    task, name = objective(config, source, settings), fit_name(config, settings)
    if until is None:
        return fit(name, task, optimizer, source, group, steps=steps, evaluations=config.evaluations)
    return fit(name, task, optimizer, source, unlogged(group), steps=until, evaluations=1, measured=())


def unlogged(group: Any) -> Any:
    """The same runs for a fit whose rows of metrics are not part of any run's history."""
    return Runs(group.rows, [[]] * len(group))


def picked(tree: Any, chosen: np.ndarray) -> Any:
    """Some rows of every leaf [R, ...]."""
    import jax

    return jax.tree.map(lambda leaf: leaf[chosen], tree)


def measure(
    config: Any, source: Any, group: Any, name: str, task: Any, extra: dict[str, Any], fit: Callable, images: int = 0
) -> tuple[dict, dict]:
    """A fit of no steps, which only measures (the first `images` of) the test split: metrics [R], outcomes [R, N]."""
    if images:  # else as it is: a streamed split is read into memory where it is cut
        test = {key: rows[:images] for key, rows in source.data["test"].items()}
        source = source._replace(data=source.data | {"test": test})
    optimizer = jaxdl.training.optimizer(config.optimizer, 1)
    found = fit(name, task, optimizer, source, unlogged(group), extra, steps=0, measured=("test",))
    return found.metrics, found.outcomes


def joined(trees: list[Any]) -> Any:
    """Trees of rows [R, ...] one after another, [P R, ...]."""
    import jax

    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def encoder(config: Any, source: Any, settings: tuple[str, int, str]) -> Callable:
    """params, images [N, inputs] -> terms of the codes, [N, ...] each; run by run, so that no run sees another."""
    import jax

    model = network(config, source, settings)
    return jax.jit(lambda params, images: model.apply({"params": params}, images, method="encode"))


def flat(source: Any, split: str, count: int | None = None) -> np.ndarray:
    """Images of a split as the models see them, float32 [N, inputs]."""
    images = np.asarray(source.images(np.asarray(source.data[split]["image"][:count])))
    return images.reshape(len(images), -1)
