"""Variational autoencoders. Kingma & Welling 2014 (arXiv 1312.6114); Higgins et al. 2017 (ICLR, beta-VAE).

The same network and objective, trained with the reparameterised (pathwise) gradient and with the score function, and
how much those gradients vary; the weight beta of the divergence; autoencoders of the same size as generators;
categorical codes; on 2-D shapes, how far units and factors agree. Nats an image.

Minutes: 10 (digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import inputs, time_of
from jaxdl.study import Done, Published, Runs, Study, divergence

AUTOENCODERS = {
    "autoencoder": {"hyper.beta": 0.0, "hyper.noise": 0.0},
    "denoising": {"hyper.beta": 0.0, "hyper.noise": 0.0, "hyper.masking": 0.25},
}
# Whose gradients are measured on its way, and what their bias is measured against.
FOLLOWED = {"pathwise": "pathwise", "categorical-gumbel_softmax": "score_leave_one_out"}
KINGMA, HIGGINS = "Kingma & Welling 2014", "Higgins et al. 2017"


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """The estimators; the pathwise one at other betas and sizes of the code; autoencoders; categorical codes."""
    compare, beta, latent = config.compare, config.hyper.beta, config.model.latent
    gaussian = {"code": "gaussian", "latent": latent}
    chosen = {name: gaussian | {"estimator": name} for name in compare.estimators}
    pathwise = gaussian | {"estimator": "pathwise"}
    betas = {f"beta-{value:g}": pathwise | {"hyper.beta": value} for value in compare.betas if value != beta}
    sizes = {f"latent-{size}": pathwise | {"latent": size} for size in compare.latents if size != latent}
    plain = AUTOENCODERS if compare.autoencoders else {}
    categorical = {"code": "categorical", "latent": config.categorical.units}
    discrete = {f"categorical-{name}": categorical | {"estimator": name} for name in config.categorical.estimators}
    return chosen | betas | sizes | {name: pathwise | changes for name, changes in plain.items()} | discrete


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for each program; then what is measured of where it ended, and for some runs on the way there."""
    source = checked(config, source)
    judge = classifier(config, source, runs, fit) if config.generation.samples else None
    programs = [program(row) for row in runs.rows]
    for settings in dict.fromkeys(programs):
        group = runs.where(np.array([each == settings for each in programs]))
        fitted = trained(config, source, group, fit)
        gap = fitted.outcomes["test_squared_error"] - fitted.metrics["train_squared_error"][:, None].astype(np.float32)
        metrics = fitted.metrics | {"test_squared_error_gap": gap.mean(axis=1, dtype=np.float64)}
        outcomes = fitted.outcomes | {"test_squared_error_gap": gap}  # test minus training, example by example
        measured = [importance_bound(config, source, group, fitted.params, fit)]
        if judge and settings[0] == "gaussian" and settings[2] == "pathwise":
            measured.append(generators(config, source, group, fitted.params, judge, fit))
        for values, each in measured:
            metrics, outcomes = metrics | values, outcomes | each
        followed = np.array([row.variant in FOLLOWED and len(config.gradients.points) > 0 for row in group.rows])
        for chosen in (followed, ~followed):
            if not chosen.any():
                continue
            some, params = group.where(chosen), picked(fitted.params, chosen)
            values, each = ({name: v[chosen] for name, v in part.items()} for part in (metrics, outcomes))
            if chosen is followed:
                further = gradients(config, source, some, fit)
                values, each = values | further[0], each | further[1]
            lost = divergence(fit_name(config, settings), fitted.diverged)[chosen]
            yield Done(some, values, each, lost, lambda some=some, params=params: units(config, source, some, params))


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
    return jaxdl.data.binarised(source) if model.binarise == "fixed" else source


def network(config: Any, source: Any, settings: tuple[str, int, str]) -> Any:
    """inputs-widths-latent-widths-inputs; with model.channels, convolutions in place of all but the last width."""
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
    return fit(name, task, optimizer, source, unlogged(group), steps=min(until, steps), evaluations=1, measured=())


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
    test = {key: rows[: images or len(rows)] for key, rows in source.data["test"].items()}
    tested = source._replace(data=source.data | {"test": test})
    optimizer = jaxdl.training.optimizer(config.optimizer, 1)
    found = fit(name, task, optimizer, tested, unlogged(group), extra, steps=0, measured=("test",))
    return found.metrics, found.outcomes


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


def gradients(config: Any, source: Any, group: Any, fit: Callable) -> tuple[dict, dict]:
    """Variance and bias of every estimator at points of the training of `group`, for the first test images.

    The images are taken as they are: drawing their pixels anew would add a variance that has nothing to do with codes.
    """
    settings, points = program(group.rows[0]), config.gradients
    code, latent, _ = settings
    names = config.categorical.estimators if code == "categorical" else config.compare.estimators
    losses = {name: objective(config, source, (code, latent, name), "none").loss for name in names}
    task = objective(config, source, settings)
    early = [trained(config, source, group, fit, until=point) for point in points.points]
    evaluate = jaxdl.tasks.gradient_moments(
        losses, blocks(early[0].params), FOLLOWED[group.rows[0].variant], points.samples, points.reference
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


def joined(trees: list[Any]) -> Any:
    """Trees of rows [R, ...] one after another, [P R, ...]."""
    import jax

    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def blocks(params: dict) -> dict[str, tuple[str, ...]]:
    """Layers, and all that the encoder and the decoder have: {name: names in params}."""
    decoder = tuple(name for name in params if name.startswith(("decoder", "output")))
    encoder = tuple(name for name in params if name not in decoder)
    return {"encoder": encoder, "decoder": decoder} | {name: (name,) for name in params}


def encoder(config: Any, source: Any, settings: tuple[str, int, str]) -> Callable:
    """params, images [N, inputs] -> terms of the codes, [N, ...] each; run by run, so that no run sees another."""
    import jax

    model = network(config, source, settings)
    return jax.jit(lambda params, images: model.apply({"params": params}, images, method="encode"))


def flat(source: Any, split: str, count: int | None = None) -> np.ndarray:
    """Images of a split as the models see them, float32 [N, inputs]."""
    images = np.asarray(source.images(np.asarray(source.data[split]["image"][:count])))
    return images.reshape(len(images), -1)


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
                found["disentanglement"] = jaxdl.tasks.linear_score(mean, np.asarray(test["factors"]), row.seed)
        rows.append(found)
    return {f"test_{name}": np.array([found[name] for found in rows], float) for name in rows[0]}


def beta_names(config: Any) -> dict[float, str]:
    """{beta: its variant}, in order."""
    return {
        beta: f"beta-{beta:g}" if beta != config.hyper.beta else "pathwise" for beta in sorted(config.compare.betas)
    }


def claims(config: Any) -> list[Any]:
    """What the papers claim of these variants."""
    claim, compare, points = jaxdl.study.claims, config.compare, config.gradients.points
    less, greater, Cell = claim.less, claim.greater, claim.Cell
    found = []

    def smaller_variance(variant: str, one: str, other: str, paper: str) -> Any:
        """log10 of the ratio of variances of the encoder's gradient below zero, at every point of training."""
        metric = "test_log10_variance_{}_encoder_at_{}"
        contrasts = tuple(
            {Cell(variant, metric.format(one, at)): 1.0, Cell(variant, metric.format(other, at)): -1.0} for at in points
        )
        text = f"The encoder's gradient varies less with {one} than with {other}: log10 of the ratio of variances"
        return claim.Claim(
            f"{one}-varies-less-than-{other}", text, paper, metric.format(one, points[-1]), contrasts, "less"
        )

    def unbiased(variant: str, name: str, paper: str) -> Any:
        metric = "test_bias_{}_encoder_at_{}"
        contrasts = tuple({Cell(variant, metric.format(name, at)): 1.0} for at in points)
        text = f"{name} has the same expectation as {FOLLOWED[variant]}: squared bias over the squared gradient"
        return claim.Claim(
            f"{name}-is-unbiased", text, paper, metric.format(name, points[-1]), contrasts, "equal", 0.05
        )

    for name in compare.estimators:
        if name != "pathwise" and "pathwise" in compare.estimators:
            found.append(less(
                f"pathwise-beats-{name}",
                f"In the same steps, the pathwise gradient reaches a smaller negative ELBO than {name}",
                KINGMA, "test_loss", "pathwise", name,
            ))  # fmt: skip
            if points:
                found += [smaller_variance("pathwise", "pathwise", name, KINGMA), unbiased("pathwise", name, KINGMA)]
    names = beta_names(config)
    if len(names) > 1:
        found.append(claim.decreasing(
            "beta-lowers-kl", "A larger beta lowers the divergence from the prior", HIGGINS, "test_kl",
            list(names.values()),
        ))  # fmt: skip
        found.append(claim.increasing(
            "beta-worsens-reconstruction", "A larger beta worsens the reconstruction", HIGGINS, "test_reconstruction",
            list(names.values()),
        ))  # fmt: skip
    if config.data.name == "shapes" and {1.0, 4.0} <= set(names):
        found.append(greater(
            "beta-disentangles", "beta = 4 gives a higher disentanglement score than beta = 1",
            f"{HIGGINS}, Figure 6", "test_disentanglement", names[4.0], names[1.0],
        ))  # fmt: skip
    if config.compare.latents and config.model.latent < max(config.compare.latents):
        largest = max(config.compare.latents)
        found.append(claim.equal(
            "superfluous-latents-do-not-overfit",
            f"{largest} latent units give the same negative ELBO on test images as {config.model.latent}, within 0.5",
            f"{KINGMA}, Figure 2", "test_loss", f"latent-{largest}", "pathwise", 0.5,
        ))  # fmt: skip
    if compare.autoencoders:
        found += generation_claims(config)
    found += [
        greater(
            "class-means-differ", "Classes have different means in latent space: more than shuffled labels explain",
            "the lectures", "test_class_mean_share", "pathwise", Cell("pathwise", "test_class_mean_share_shuffled"),
        ),
        greater(
            "class-deviations-differ", "Classes have different standard deviations in latent space",
            "the lectures", "test_class_deviation_share", "pathwise",
            Cell("pathwise", "test_class_deviation_share_shuffled"),
        ),
    ]  # fmt: skip
    discrete, paper = config.categorical.estimators, "Jang et al. 2017, Table 1"
    for name in discrete:
        if name.startswith("score") and "gumbel_softmax" in discrete:
            found.append(less(
                f"gumbel-softmax-beats-{name}",
                f"With categorical codes, Gumbel-softmax reaches a smaller negative ELBO than {name}", paper,
                "test_loss", "categorical-gumbel_softmax", f"categorical-{name}",
            ))  # fmt: skip
            if points:
                found.append(smaller_variance("categorical-gumbel_softmax", "gumbel_softmax", name, paper))
    return found


def generation_claims(config: Any) -> list[Any]:
    """The autoencoder beside the VAE as a generator, and how far either generalises."""
    less, Cell, paper = jaxdl.study.claims.less, jaxdl.study.claims.Cell, "the lectures"
    found = []
    if config.generation.samples:
        for kind, what in (
            ("fitted", "Draws of a Gaussian fitted to the codes"),
            ("interpolated", "Codes halfway between two images"),
            ("disturbed", "Disturbed codes"),
        ):
            found.append(less(
                f"vae-{kind}-are-clearer",
                f"{what} decode to images that a classifier is surer of with the VAE than with the autoencoder",
                paper, f"test_{kind}_entropy", "pathwise", "autoencoder",
            ))  # fmt: skip
        for kind, what in (("prior", "N(0, 1)"), ("fitted", "a Gaussian fitted to the codes")):
            metric = f"test_{kind}_log_likelihood"
            found.append(jaxdl.study.claims.greater(
                f"vae-{kind}-is-likelier", f"Decoded draws of {what} give test images a higher likelihood with the VAE",
                paper, metric, "pathwise", Cell("autoencoder", metric),
            ))  # fmt: skip
        found.append(less(
            "vae-withstands-disturbance",
            "A disturbed code decodes to its image with more likelihood with the VAE than with the autoencoder",
            paper, "test_disturbed_reconstruction", "pathwise", "autoencoder",
        ))  # fmt: skip
    found.append(less(
        "constraint-generalises", "The gap in squared error from training to test images is smaller with the VAE",
        paper, "test_squared_error_gap", "pathwise", "autoencoder",
    ))  # fmt: skip
    return found


def published(config: Any) -> list[Published]:
    """The log-likelihood of MNIST, with pixels drawn anew and 5,000 samples."""
    model = config.model
    same = model.binarise == "resampled" and model.widths == (200, 200) and model.latent == 50 and not model.channels
    if config.data.name != "mnist" or not same or config.bound.samples != 5000:
        return []
    return [Published("pathwise", "test_bound", -86.76, None, 1, "Burda et al. 2016, Table 1", True)]


def differs(config: Any) -> list[str]:
    """In what the recipe differs from that of Burda et al. 2016, section 5.1."""
    data, model, rule = config.data, config.model, config.optimizer
    widths, time = "-".join(map(str, (*model.widths, model.latent))), time_of(config)
    paper = (rule.name, rule.schedule, config.batch_size, time) == ("adam", "step", 20, "3280 epochs")
    checks = [
        (data.name != "mnist", f"The data are {data.name} instead of MNIST."),
        (widths != "200-200-50", f"The encoder is {widths} instead of 200-200-50."),
        (
            model.binarise != "resampled",
            f"Pixels are {dict(none='used as they are', fixed='binarised once')[model.binarise]} instead of drawn anew "
            "at every use."
            if model.binarise != "resampled"
            else "",
        ),
        (
            not paper,
            f"Trained for {time} on batches of {config.batch_size} instead of 3,280 epochs on batches of 20 with eight "
            "learning rates.",
        ),
    ]
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know; collapsed posteriors by name."""
    lines = []
    if any(estimator == "score_leave_one_out" for estimator in config.compare.estimators):
        lines.append(
            f"score_leave_one_out takes {config.compare.leave_one_out} draws of the code a step, the others 1; its "
            "variance is that of their mean."
        )
    for row in results.rows:
        active, kl = (row.metrics.get(name, np.array([])) for name in ("test_active_units", "test_kl"))
        if len(active) and len(kl) and active.mean() < 0.5 and row.variant not in AUTOENCODERS:
            lines.append(
                f"warning: {row.variant} has collapsed: {active.mean():.1f} of {row.runs[0].settings['latent']} units "
                f"are active (KL {kl.mean():.2g} nats)"
            )
    return lines


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """See experiments/vae_pictures.py."""
    from experiments import vae_pictures

    return vae_pictures.figures(config, source, results, fit)


study = Study(
    name="vae_reparameterization",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=claims,
    figures=figures,
    published=published,
    differs=differs,
    notes=notes,
    select=("validation_loss", "min"),
    columns=("test_loss", "test_bound", "test_reconstruction", "test_kl", "test_active_units"),
    further={
        "beta and factors of 2-D shapes": "--config=configs/vae_reparameterization.py:shapes",
        "MNIST, 784-200-200-50": "--config=configs/vae_reparameterization.py:mnist",
    },
)

if __name__ == "__main__":
    study.main()
