"""Variational autoencoders. Kingma & Welling 2014 (arXiv 1312.6114); Higgins et al. 2017 (ICLR, beta-VAE).

The same network and objective, trained with the reparameterised (pathwise) gradient and with the score function;
the weight beta of the divergence; and autoencoders of the same size. Nats an image.

Minutes: 2 (digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import inputs
from jaxdl.study import Done, Study, divergence

AUTOENCODERS = {
    "autoencoder": {"hyper.beta": 0.0, "hyper.noise": 0.0},
    "denoising": {"hyper.beta": 0.0, "hyper.noise": 0.0, "hyper.masking": 0.25},
}


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """The estimators at the config's beta; the pathwise one at other betas; autoencoders, whose code has no noise."""
    compare, beta = config.compare, config.hyper.beta
    chosen = {estimator: {"estimator": estimator} for estimator in compare.estimators}
    betas = {
        f"beta-{value:g}": {"estimator": "pathwise", "hyper.beta": value} for value in compare.betas if value != beta
    }
    plain = AUTOENCODERS if compare.autoencoders else {}
    return chosen | betas | {name: {"estimator": "pathwise"} | changes for name, changes in plain.items()}


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for each estimator; then the importance-weighted bound of what it found."""
    if config.model.decoder == "bernoulli" and not source.normalisation.bounded:
        raise jaxdl.errors.UserError(
            f"data.normalise={config.data.normalise} is not possible with a Bernoulli decoder: its values lie in [0, 1]"
        )
    estimators = runs.setting("estimator")
    for estimator in dict.fromkeys(estimators):
        group = runs.where(estimators == estimator)
        steps = jaxdl.training.duration(config, source.steps_per_epoch)
        optimizer = jaxdl.training.optimizer(config.optimizer, steps)
        task = objective(config, source, estimator)
        fitted = fit(estimator, task, optimizer, source, group, steps=steps, evaluations=config.evaluations)
        bound = importance_bound(config, source, task, group, fitted.params, f"{estimator}_bound", fit)
        metrics = fitted.metrics | {"test_bound": bound.metrics["test_bound"]}
        outcomes = fitted.outcomes | {"test_bound": bound.outcomes["test_bound"]}
        yield Done(group, metrics, outcomes, divergence(estimator, fitted.diverged))


def network(config: Any, source: Any) -> Any:
    """inputs-widths-latent-widths-inputs."""
    model = config.model
    return jaxdl.models.VAE(inputs(source), model.widths, model.latent, model.unit, model.initialisation)


def objective(config: Any, source: Any, estimator: str) -> Any:
    """The negative ELBO with one estimator of its gradient."""
    model = config.model
    return jaxdl.tasks.elbo(
        network(config, source), inputs(source), model.decoder, estimator, model.samples, model.binarise
    )


def importance_bound(
    config: Any, source: Any, task: Any, runs: Any, params: Any, name: str, fit: Callable
) -> Any:
    """A fit of no steps, which only measures: the bound with config.bound.samples samples, of every test image."""
    measured = jaxdl.tasks.bound(
        network(config, source), inputs(source), config.model.decoder, config.model.binarise, config.bound.samples
    )
    few = {split: {key: rows[:2] for key, rows in source.data[split].items()} for split in ("train", "validation")}
    tested = source._replace(data=source.data | few, batch_size=1, streamed=False)
    bound = task._replace(init=lambda run, key: (run["trained"], task.init(run, key)[1]), evaluate=measured)
    optimizer = jaxdl.training.optimizer(config.optimizer, 1)
    return fit(name, bound, optimizer, tested, runs, {"trained": params}, steps=0, evaluations=1)


def claims(config: Any) -> list[Any]:
    """What the papers claim of these variants."""
    claim, compare = jaxdl.study.claims, config.compare
    found = []
    for estimator in compare.estimators:
        if estimator != "pathwise" and "pathwise" in compare.estimators:
            found.append(claim.less(
                f"pathwise-beats-{estimator}",
                f"In the same steps, the pathwise gradient reaches a smaller negative ELBO than {estimator}",
                "Kingma & Welling 2014", "test_loss", "pathwise", estimator,
            ))  # fmt: skip
    names = {beta: f"beta-{beta:g}" if beta != config.hyper.beta else "pathwise" for beta in sorted(compare.betas)}
    if len(names) > 1:
        ordered = list(names.values())
        found.append(claim.decreasing(
            "beta-lowers-kl", "A larger beta lowers the divergence from the prior", "Higgins et al. 2017",
            "test_kl", ordered,
        ))  # fmt: skip
        found.append(claim.increasing(
            "beta-worsens-reconstruction", "A larger beta worsens the reconstruction", "Higgins et al. 2017",
            "test_reconstruction", ordered,
        ))  # fmt: skip
    return found


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Learning curves, and what each variant makes of test images and of draws from the prior (seed 0)."""
    import jax

    draw = jaxdl.study.figures
    shape = source.data["test"]["image"].shape[1:]
    images = np.asarray(source.images(np.asarray(source.data["test"]["image"][:12])))  # [12, h, w, c]
    code = np.random.default_rng(0).standard_normal((12, config.model.latent)).astype(np.float32)
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    curves, rebuilt, drawn = {}, {"test image": draw.pictures(images, shape)}, {}
    for row in results.rows:
        if row.diverged:
            continue
        estimator = row.runs[0].settings["estimator"]
        task, one = objective(config, source, estimator), jaxdl.study.Runs(row.runs[:1], [[]])
        fitted = fit(estimator, task, optimizer, source, one, steps=steps, evaluations=config.evaluations)
        params = jax.tree.map(lambda leaf: leaf[0], fitted.params)
        rebuilt[row.variant] = draw.pictures(task.predict(params, {}, images, {}), shape)
        output = network(config, source).apply({"params": params}, code, method="decode")
        output = jax.nn.sigmoid(output) if config.model.decoder == "bernoulli" else output
        drawn[row.variant] = draw.pictures(output, shape)
        curve = results.band(row, estimator, "validation_loss")
        if row.variant in config.compare.estimators and curve[0]:
            curves[row.variant] = curve
    found = {"reconstructions": draw.rows(rebuilt), "samples": draw.rows(drawn, "Decoded draws from the prior")}
    if curves:
        found["learning_curves"] = draw.bands(curves, "step", "validation negative ELBO, nats")
    return found


study = Study(
    name="vae_reparameterization",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=claims,
    figures=figures,
    select=("validation_loss", "min"),
    columns=("test_loss", "test_bound", "test_reconstruction", "test_kl"),
    further={"MNIST, 784-200-200-50": "--config=configs/vae_reparameterization.py:mnist"},
)

if __name__ == "__main__":
    study.main()
