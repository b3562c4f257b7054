"""What papers say of the VAE study's variants: claims, published numbers, differences, warnings."""

from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import time_of
from jaxdl.study import Published

# Whose gradients are measured on its way, and what their bias is measured against.
FOLLOWED = {"pathwise": "pathwise", "categorical-gumbel_softmax": "score_leave_one_out"}
KINGMA, HIGGINS = "Kingma & Welling 2014", "Higgins et al. 2017"


def label(estimator: str, categorical: bool = False) -> str:
    """What a variant is called: "leave_one_out" of score_leave_one_out, "categorical-leave_one_out"."""
    return "categorical-" * categorical + estimator.removeprefix("score_")


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

    for name in compare.estimators:
        if name != "pathwise" and "pathwise" in compare.estimators:
            found.append(less(
                f"pathwise-beats-{name}",
                f"In the same steps, the pathwise gradient reaches a smaller negative ELBO than {name}",
                KINGMA, "test_loss", "pathwise", label(name),
            ))  # fmt: skip
            if points:
                found.append(smaller_variance("pathwise", "pathwise", name, KINGMA))
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
            "class-deviations-differ",
            "Classes have different standard deviations in latent space: more than shuffled labels explain",
            "the lectures", "test_class_deviation_share", "pathwise",
            Cell("pathwise", "test_class_deviation_share_shuffled"),
        ),
    ]  # fmt: skip
    discrete, paper = config.categorical.estimators, "Jang et al. 2017"
    for name in discrete:
        if name.startswith("score") and "gumbel_softmax" in discrete:
            found.append(less(
                f"gumbel-softmax-beats-{name}",
                f"With categorical codes, Gumbel-softmax reaches a smaller negative ELBO than {name}",
                f"{paper}, Table 1", "test_loss", "categorical-gumbel_softmax", label(name, True),
            ))  # fmt: skip
            if points:
                found.append(smaller_variance("categorical-gumbel_softmax", "gumbel_softmax", name, paper))
        elif points and "gumbel_softmax" in discrete:
            metric = f"test_bias_{name}_encoder_at_"
            text = f"The encoder's gradient is biased with {name}: |bias|^2 over |gradient|^2 is above 0"
            contrasts = tuple({Cell("categorical-gumbel_softmax", f"{metric}{at}"): 1.0} for at in points)
            found.append(claim.Claim(f"{name}-is-biased", text, paper, f"{metric}{points[-1]}", contrasts, "greater"))
    return found


def generation_claims(config: Any) -> list[Any]:
    """The autoencoder beside the VAE as a generator, and how far either generalises."""
    less, greater, paper = jaxdl.study.claims.less, jaxdl.study.claims.greater, "the lectures"
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
            found.append(greater(
                f"vae-{kind}-is-likelier",
                f"Decoded draws of {what} give test images a higher likelihood with the VAE than with the autoencoder",
                paper, f"test_{kind}_log_likelihood", "pathwise", "autoencoder",
            ))  # fmt: skip
        found.append(less(
            "vae-withstands-disturbance",
            "A disturbed code decodes to its image with more likelihood with the VAE than with the autoencoder",
            paper, "test_disturbed_reconstruction", "pathwise", "autoencoder",
        ))  # fmt: skip
    found.append(less(
        "constraint-generalises",
        "The gap in squared error from training to test images is smaller with the VAE than with the autoencoder",
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
    if model.channels:
        widths = f"convolutions of {'-'.join(map(str, model.channels))} channels and {model.widths[-1]}-{model.latent}"
    paper = (rule.name, rule.schedule, config.batch_size, time) == ("adam", "step", 20, "3280 epochs")
    binarised = {"none": "used as they are", "fixed": "binarised once"}.get(model.binarise, "")
    checks = [
        (data.name != "mnist", f"The data are {data.name} instead of MNIST."),
        (widths != "200-200-50", f"The encoder is {widths} instead of 200-200-50."),
        (model.binarise != "resampled", f"Pixels are {binarised} instead of drawn anew at every use."),
        (
            not paper,
            f"Trained for {time} on batches of {config.batch_size} instead of 3,280 epochs on batches of 20 with eight "
            "learning rates.",
        ),
    ]
    return [sentence for differs, sentence in checks if differs]


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know; collapsed posteriors by name."""
    lines = [f"Nats an image. Test bound: log p(x), from {config.bound.samples:,} importance samples an image."]
    if any(row.variant.endswith("leave_one_out") for row in results.rows):
        lines.append(
            f"leave_one_out takes {config.compare.leave_one_out} draws of the code a step, the others 1; its variance "
            "is that of their mean."
        )
    if any(row.variant in ("autoencoder", "denoising") for row in results.rows):
        lines.append(
            "autoencoder, denoising: trained without noise and KL, so the deviations of their codes are as they were "
            "initialised; what depends on them (loss, KL, bound) says nothing. The reconstruction has no noise."
        )
    for row in results.rows:
        active, kl = (row.metrics.get(name, np.array([])) for name in ("test_active_units", "test_kl"))
        if len(active) and len(kl) and active.mean() < 0.5 and row.runs[0].hyper["noise"] > 0:
            lines.append(
                f"warning: {row.variant} has collapsed: {active.mean():.1f} of {row.runs[0].settings['latent']} units "
                f"are active (KL {kl.mean():.2g} nats)"
            )
    return lines
