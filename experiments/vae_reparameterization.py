"""Variational autoencoders. Kingma & Welling 2014 (arXiv 1312.6114); Higgins et al. 2017 (ICLR, beta-VAE).

The same network and objective, trained with the reparameterised (pathwise) gradient and with the score function, and
how much those gradients vary; the weight beta of the divergence; autoencoders of the same size as generators;
categorical codes; on 2-D shapes, how far units and factors agree. Nats an image.

Minutes: 15 (digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _vae_claims as about
from experiments import _vae_images
from experiments._vae_fits import (
    checked,
    encoder,
    fit_name,
    flat,
    joined,
    measure,
    network,
    objective,
    picked,
    pixels,
    posterior,
    program,
    trained,
    unlogged,
)
from experiments.greedy_pretraining import inputs
from jaxdl.study import Action, Done, Runs, Study, divergence

AUTOENCODERS = {
    "autoencoder": {"hyper.beta": 0.0, "hyper.noise": 0.0},
    "denoising": {"hyper.beta": 0.0, "hyper.noise": 0.0, "hyper.masking": 0.25},
}
PAIRS = 8  # of one vote on the factors: with 64 and more, codes that mix factors score nearly as high as others


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """The estimators; the pathwise one at other betas and sizes of the code; autoencoders; categorical codes."""
    compare, beta, latent = config.compare, config.hyper.beta, config.model.latent
    gaussian = {"code": "gaussian", "latent": latent}
    chosen = {about.label(name): gaussian | {"estimator": name} for name in compare.estimators}
    pathwise = gaussian | {"estimator": "pathwise"}
    betas = {f"beta-{value:g}": pathwise | {"hyper.beta": value} for value in compare.betas if value != beta}
    sizes = {f"latent-{size}": pathwise | {"latent": size} for size in compare.latents if size != latent}
    plain = AUTOENCODERS if compare.autoencoders else {}
    categorical = {"code": "categorical", "latent": config.categorical.units}
    discrete = {about.label(name, True): categorical | {"estimator": name} for name in config.categorical.estimators}
    return chosen | betas | sizes | {name: pathwise | changes for name, changes in plain.items()} | discrete


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for each program; then what is measured of where it ended, and for some runs on the way there."""
    source = checked(config, source)
    programs = [program(row) for row in runs.rows]
    drawn = np.array([draws_pictures(config, settings) for settings in programs])
    judge = classifier(config, source, runs.where(drawn), fit) if drawn.any() else None
    for settings in dict.fromkeys(programs):
        group = runs.where(np.array([each == settings for each in programs]))
        fitted = trained(config, source, group, fit)
        gap = fitted.outcomes["test_squared_error"] - fitted.metrics["train_squared_error"][:, None].astype(np.float32)
        metrics = fitted.metrics | {"test_squared_error_gap": gap.mean(axis=1, dtype=np.float64)}
        outcomes = fitted.outcomes | {"test_squared_error_gap": gap}  # test minus training, example by example
        measured = [importance_bound(config, source, group, fitted.params, fit)]
        if draws_pictures(config, settings):
            measured.append(generators(config, source, group, fitted.params, judge, fit))
        for values, each in measured:
            metrics, outcomes = metrics | values, outcomes | each
        followed = np.array([row.variant in about.FOLLOWED and len(config.gradients.points) > 0 for row in group.rows])
        for chosen in (followed, ~followed):
            if not chosen.any():
                continue
            some, params = group.where(chosen), picked(fitted.params, chosen)
            values, each = ({name: v[chosen] for name, v in part.items()} for part in (metrics, outcomes))
            if chosen is followed:
                end = fitted._replace(params=params, model_state=picked(fitted.model_state, chosen))
                further = gradients(config, source, some, end, fit)
                values, each = values | further[0], each | further[1]
            lost = divergence(fit_name(config, settings), fitted.diverged)[chosen]
            yield Done(some, values, each, lost, lambda some=some, params=params: units(config, source, some, params))


def draws_pictures(config: Any, settings: tuple[str, int, str]) -> bool:
    """Whether a program's models are measured as generators."""
    return config.generation.samples > 0 and settings[0] == "gaussian" and settings[2] == "pathwise"


def importance_bound(config: Any, source: Any, group: Any, params: Any, fit: Callable) -> tuple[dict, dict]:
    """The bound with config.bound.samples samples, of every test image."""
    settings = program(group.rows[0])
    task = objective(config, source, settings)
    measured = jaxdl.tasks.bound(
        network(config, source, settings), inputs(source), config.model.decoder, pixels(config), config.bound.samples,
        posterior(config, settings),
    )  # fmt: skip
    bound = task._replace(init=lambda run, key: (run["trained"], task.init(run, key)[1]), evaluate=measured)
    return measure(config, source, group, f"{fit_name(config, settings)}_bound", bound, {"trained": params}, fit)


def classifier(config: Any, source: Any, runs: Any, fit: Callable) -> tuple[Any, Any]:
    """A classifier of the images for each seed: (its runs, parameters [S, ...])."""
    stack, _ = runs.distinct("code", "latent", "estimator", *config.hyper.as_dict())
    task = jaxdl.tasks.classify(judge_network(config, source), source.data["train"]["image"].shape[1:])
    settings = config.generation
    rule = jaxdl.training.optimizer(config.optimizer, settings.steps)
    chosen = {"learning_rate": np.float32(settings.learning_rate), "weight_decay": np.float32(0)}
    fitted = fit("classifier", task, lambda hyper: rule(chosen), source, unlogged(stack), steps=settings.steps)
    return stack, fitted.params


def judge_network(config: Any, source: Any) -> Any:
    """The classifier: one hidden layer of rectifiers."""
    return jaxdl.models.MLP(config.generation.widths, source.classes, "relu", "he_normal")


def generators(
    config: Any, source: Any, group: Any, params: Any, judge: tuple[Any, Any], fit: Callable
) -> tuple[dict, dict]:
    """The models as generators, see `jaxdl.tasks.generation`."""
    import jax

    settings, shape = program(group.rows[0]), source.data["train"]["image"].shape[1:]
    network_of_judge = judge_network(config, source)

    def certain(run: dict, image: Any) -> Any:
        logits = network_of_judge.apply({"params": run["judge"]}, image.reshape(-1, *shape))  # [B, D] -> [B, h, w, c]
        return jax.nn.softmax(logits)

    images = np.asarray(source.images(np.asarray(source.data["train"]["image"][: config.generation.codes])))
    task = jaxdl.tasks.generation(
        network(config, source, settings), inputs(source), config.model.decoder, images.reshape(len(images), -1),
        certain, config.generation.samples, config.generation.disturbance,
    )  # fmt: skip
    stack, of_seed = judge
    own, place = group.distinct("code", "latent", "estimator", *config.hyper.as_dict())
    index = own.places_in(stack)[place]
    extra = {"trained": params, "judge": picked(of_seed, index)}
    return measure(config, source, group, f"{fit_name(config, settings)}_generation", task, extra, fit)


def gradients(config: Any, source: Any, group: Any, end: Any, fit: Callable) -> tuple[dict, dict]:
    """Variance and bias of every estimator at points of the training of `group`, for the first test images.

    end: the fit whose first steps the earlier points are

    The images are taken as they are: drawing their pixels anew would add a variance that has nothing to do with codes.
    """
    settings, points = program(group.rows[0]), config.gradients
    code, latent, _ = settings
    reference = about.FOLLOWED[group.rows[0].variant]
    names = config.categorical.estimators if code == "categorical" else config.compare.estimators
    losses = {name: objective(config, source, (code, latent, name), "none").loss for name in (*names, reference)}
    task = objective(config, source, settings)
    last = jaxdl.training.duration(config, source.steps_per_epoch)
    early = [end if point == last else trained(config, source, group, fit, until=point) for point in points.points]
    evaluate = jaxdl.tasks.gradient_moments(
        losses, blocks(early[0].params), reference, points.samples, points.reference
    )
    start = task._replace(init=lambda run, key: (run["trained"], run["state"]), evaluate=evaluate)
    # All points of all runs are one program: [points R].
    rows = [row._replace(settings=row.settings | {"point": point}) for point in points.points for row in group.rows]
    extra = {"trained": joined([each.params for each in early]), "state": joined([each.model_state for each in early])}
    name = f"{fit_name(config, settings)}_gradients"
    found = measure(config, source, Runs(rows, [[]] * len(rows)), name, start, extra, fit, points.images)
    metrics, outcomes = (
        {
            f"{metric}_at_{point}": values.reshape(len(early), len(group), *values.shape[1:])[number]
            for metric, values in part.items()
            for number, point in enumerate(points.points)
        }
        for part in found
    )
    return metrics, outcomes


def blocks(params: dict) -> dict[str, tuple[str, ...]]:
    """Layers, and all that the encoder and the decoder have: {name: names in params}."""
    decoder = tuple(name for name in params if name.startswith(("decoder", "output")))
    encoder = tuple(name for name in params if name not in decoder)
    return {"encoder": encoder, "decoder": decoder} | {name: (name,) for name in params}


def units(config: Any, source: Any, group: Any, params: Any) -> dict[str, np.ndarray]:
    """What the test images' codes tell, run by run: the KL of each unit, which are active, whether classes differ."""
    settings, test = program(group.rows[0]), source.data["test"]
    encode, family, images = encoder(config, source, settings), posterior(config, settings), flat(source, "test")
    label, rows = np.asarray(test["label"]), []
    for number, row in enumerate(group.rows):
        terms = encode(picked(params, number), images)
        kl = np.sort(np.asarray(family.divergence(terms), np.float64).mean(axis=0))[::-1]  # [units], the largest first
        found = {f"kl_unit_{unit + 1}": value for unit, value in enumerate(kl)}
        if settings[0] == "gaussian":
            mean = np.asarray(terms[0])
            shuffled = np.random.default_rng(row.seed).permutation(label)
            for end, labels in (("", label), ("_shuffled", shuffled)):
                found["class_mean_share" + end], found["class_deviation_share" + end] = jaxdl.tasks.class_shares(
                    mean, labels
                )
            found["active_units"] = jaxdl.tasks.active_units(mean)
            if "factors" in test:
                found["disentanglement"] = jaxdl.tasks.linear_score(
                    mean, np.asarray(test["factors"]), row.seed, pairs=PAIRS
                )
        rows.append(found)
    return {f"test_{name}": np.array([found[name] for found in rows], float) for name in rows[0]}


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """See experiments/_vae_pictures.py."""
    from experiments import _vae_pictures  # matplotlib, for the first time

    return _vae_pictures.figures(config, source, results, fit)


study = Study(
    name="vae_reparameterization",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=about.claims,
    figures=figures,
    published=about.published,
    differs=about.differs,
    notes=about.notes,
    select=("validation_objective", "min"),
    columns=("test_loss", "test_reconstruction", "test_kl", "test_bound"),
    further={
        "beta and factors of 2-D shapes": "--config=configs/vae_reparameterization.py:shapes",
        "MNIST, 784-200-200-50": "--config=configs/vae_reparameterization.py:mnist",
    },
    actions={
        "generate": Action("N", "N new pictures and a tile of them", _vae_images.generate),
        "encode": Action("FOLDER", "codes of your pictures as .npz", _vae_images.encode),
    },
    default_variant="pathwise",
)

if __name__ == "__main__":
    study.main()
