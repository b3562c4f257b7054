"""Pictures of the VAE study: what its networks make of images and codes, and curves of what was measured."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

import jaxdl
from experiments import _vae_fits as fits
from experiments._vae_claims import beta_names, label
from jaxdl.study import figures as draw
from jaxdl.study import statistics
from jaxdl.study.runs import Runs

COUNT = 12  # pictures in a row


class Network(NamedTuple):
    """The network of a variant (seed 0), for pictures.

    encode: images [N, inputs] -> the codes that stand for them [N, Z]; decode: codes [N, Z] -> pictures [N, h, w]
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Figure]:
    """All pictures that the variants at hand allow, {name: Figure}."""
    source = fits.checked(config, source)
    networks = {row.variant: network(config, source, row, fit) for row in results.rows if not row.diverged}
    gaussian = {name: each for name, each in networks.items() if not name.startswith("categorical")}
    families = {"": ("pathwise", False, config.compare.estimators)}
    families["_categorical"] = ("categorical-gumbel_softmax", True, config.categorical.estimators)
    found: dict[str, Figure | None] = {}
    for end, (variant, categorical, names) in families.items():
        name_of = functools.partial(fits.fit_name, config)
        found[f"learning_curves{end}"] = learning_curves(results, [label(name, categorical) for name in names], name_of)
        variance = "log10 of the encoder's gradient's variance, one image"
        found[f"gradient_variance{end}"] = over_training(config, results, variant, names, "log10_variance", variance)
        found[f"variance_ratio{end}"] = variance_ratio(config, results, variant, names)
        bias = "|bias|² / |gradient|² of the encoder"
        found[f"gradient_bias{end}"] = over_training(config, results, variant, names, "bias", bias)
        for axes in found[f"gradient_bias{end}"].axes if found[f"gradient_bias{end}"] else []:
            axes.set_yscale("symlog", linthresh=0.1)  # the score function's estimate is lost in its noise
    found |= {
        "reconstructions": reconstructions(source, networks),
        "samples": samples(results, gaussian),
    }
    two = next((row.variant for row in results.rows if row.runs[0].settings["latent"] == 2 and row.variant in gaussian
                and row.variant in ("pathwise", "latent-2")), None)  # fmt: skip
    if two:
        found |= {"latent_plane": latent_plane(source, gaussian[two], two), "latent_grid": latent_grid(gaussian[two])}
    if "pathwise" in gaussian:
        found["interpolations"] = interpolations(source, gaussian)
        found["traversals"] = traversals(source, gaussian["pathwise"])
    found["kl_per_unit"] = kl_per_unit(config, results)
    return {name: figure for name, figure in found.items() if figure is not None}


def network(config: Any, source: Any, row: Any, fit: Callable) -> Network:
    """The network that a row's first run ended with."""
    one = Runs(row.runs[:1], [[]])
    settings = fits.program(row.runs[0])
    params = fits.picked(fits.trained(config, source, one, fit).params, 0)
    model, family = fits.network(config, source, settings), fits.posterior(config, settings)
    shape = source.data["test"]["image"].shape[1:]

    def encode(images: np.ndarray) -> np.ndarray:
        return np.asarray(family.centre(model.apply({"params": params}, images, method="encode")))

    def decode(code: np.ndarray) -> np.ndarray:
        output = model.apply({"params": params}, np.asarray(code, np.float32), method="decode")
        return draw.pictures(jaxdl.tasks.pixel_means(config.model.decoder, output), shape)

    return Network(encode, decode)


def learning_curves(results: Any, variants: list[str], name: Callable) -> Figure | None:
    """The validation split's negative ELBO; name: program -> what its fit is called."""
    rows = [row for row in results.rows if row.variant in variants]
    curves = {row.variant: results.band(row, name(fits.program(row.runs[0])), "validation_loss") for row in rows}
    curves = {variant: curve for variant, curve in curves.items() if curve[0]}
    return draw.bands(curves, "step", "validation negative ELBO, nats") if curves else None


def over_training(config: Any, results: Any, variant: str, names: list[str], metric: str, ylabel: str) -> Figure | None:
    """What was measured of each estimator's encoder gradient along the training of a variant."""
    row, points = results.row(variant), config.gradients.points
    lines = {}
    for name in names:
        metrics = [f"test_{metric}_{name}_encoder_at_{point}" for point in points]
        if row and points and all(each in row.metrics for each in metrics):
            lines[name] = (list(points), [row.metrics[each] for each in metrics])
    return draw.bands(lines, f"step of the training of {variant}", ylabel) if lines else None


def variance_ratio(config: Any, results: Any, variant: str, names: list[str]) -> Figure | None:
    """log10 of the ratio of variances at the end of a variant's training, block by block, to its own estimator's.

    The bars are the 95 % intervals over seeds and test images, as those of the claims.
    """
    row, points = results.row(variant), config.gradients.points
    own = row.runs[0].settings["estimator"] if row and points else ""
    start, end = f"test_log10_variance_{own}_", f"_at_{points[-1]}" if points else ""
    metrics = row.metrics if own else {}
    blocks = [name[len(start) : -len(end)] for name in metrics if name.startswith(start) and name.endswith(end)]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(name for name in names if name != own):
        ratios = []
        for block in blocks:
            theirs, ours = (results.values(row, f"test_log10_variance_{each}_{block}{end}") for each in (name, own))
            seeds = sorted(theirs.keys() & ours.keys())
            differences = [theirs[seed] - ours[seed] for seed in seeds]  # [S][images]
            estimate = statistics.crossed(np.stack(differences)) if seeds else None
            if estimate:
                ratios.append((block, estimate))
        if not ratios:
            return None
        means = np.array([estimate.mean for _, estimate in ratios])
        low, high = np.array([estimate.interval() for _, estimate in ratios]).T
        down = -np.arange(len(ratios)) - 0.2 * place
        axes.errorbar(means, down, xerr=[means - low, high - means], fmt="o", markersize=4, capsize=2, label=name)
        axes.set_yticks(-np.arange(len(ratios)) - 0.2, [block for block, _ in ratios])
    if not axes.lines:
        return None
    axes.axvline(0, color="gray", linewidth=1)
    axes.set(xlabel=f"log10 of the variance over that of {own}, step {points[-1]:,}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def reconstructions(source: Any, networks: dict[str, Network]) -> Figure:
    """Test images, and what each variant makes of them."""
    images = fits.flat(source, "test", COUNT)
    rebuilt = {name: each.decode(each.encode(images)) for name, each in networks.items()}
    shape = source.data["test"]["image"].shape[1:]
    return draw.rows({"test image": draw.pictures(images, shape)} | rebuilt, "Decoded codes of test images")


def samples(results: Any, networks: dict[str, Network]) -> Figure | None:
    """The same draws of N(0, 1), decoded by each variant with codes of one size."""
    sizes = {row.variant: row.runs[0].settings["latent"] for row in results.rows}
    noise = np.random.default_rng(0).standard_normal((COUNT, max(sizes.values())))
    drawn = {name: each.decode(noise[:, : sizes[name]]) for name, each in networks.items()}
    return draw.rows(drawn, "Decoded draws from the prior N(0, 1)") if drawn else None


def latent_plane(source: Any, network: Network, name: str) -> Figure:
    """Where the test images' mean codes lie, by class."""
    code, label = network.encode(fits.flat(source, "test")), np.asarray(source.data["test"]["label"])
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()
    colours = [f"C{number}" for number in range(10)]
    for number, each in enumerate(source.names):
        chosen = label == number
        axes.scatter(*code[chosen].T, s=12, color=colours[number % 10], marker="os^Dv"[number // 10 % 5], label=each)
    axes.set(xlabel="mean of unit 1", ylabel="mean of unit 2", title=f"Codes of test images, {name}", aspect="equal")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def latent_grid(network: Network, side: int = 15) -> Figure:
    """Decoded codes on a grid of the Gaussian's quantiles. Kingma & Welling 2014, figure 4."""
    from scipy import stats

    quantiles = stats.norm.ppf((np.arange(side) + 0.5) / side)
    across, up = np.meshgrid(quantiles, quantiles[::-1])
    pictures = network.decode(np.stack([across.ravel(), up.ravel()], axis=1))
    figure = draw.tiles({"Decoded quantiles of N(0, 1): 1/30 to 29/30 along each unit": pictures}, columns=side)
    figure.set_size_inches(5.5, 5.8)
    return figure


def interpolations(source: Any, networks: dict[str, Network]) -> Figure:
    """From one test image to one of another class, in a straight line and along a great circle."""
    label = np.asarray(source.data["test"]["label"])
    ends = [0, int(np.flatnonzero(label != label[0])[0])]
    images = fits.flat(source, "test", max(ends) + 1)[ends]
    share = np.linspace(0, 1, COUNT)[:, None]
    shown = {}
    for name in ("pathwise", "autoencoder"):
        if name in networks:
            start, end = np.asarray(networks[name].encode(images), np.float64)
            shown[f"{name}, linear"] = networks[name].decode((1 - share) * start + share * end)
            shown[f"{name}, spherical"] = networks[name].decode(spherical(start, end, share))
    return draw.rows(shown, "Between the codes of two test images")


def spherical(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(sin((1 - t) a) start + sin(t a) end) / sin(a), a the angle between them: [T, Z] of t [T, 1]. 1609.04468."""
    cosine = start @ end / np.maximum(np.linalg.norm(start) * np.linalg.norm(end), 1e-12)
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:  # on one line: there is no circle
        return (1 - share) * start + share * end
    return (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)


def traversals(source: Any, network: Network, most: int = 16) -> Figure:
    """The code of the first test image, with one unit after the other moved from -3 to 3."""
    (code,) = network.encode(fits.flat(source, "test", 1))
    moved = np.linspace(-3, 3, COUNT)
    shown = {}
    for unit in range(min(len(code), most)):
        codes = np.tile(code, (COUNT, 1))
        codes[:, unit] = moved
        shown[f"unit {unit + 1}"] = network.decode(codes)
    return draw.rows(shown, "One unit of a code moved from -3 to 3")


def kl_per_unit(config: Any, results: Any) -> Figure | None:
    """KL of each unit, the largest first, at every beta; without 0, which bounds nothing."""
    lines = {}
    for beta, name in beta_names(config).items():
        row = results.row(name) if beta else None
        units = [metric for metric in row.metrics if metric.startswith("test_kl_unit_")] if row else []
        if units:
            ordered = [f"test_kl_unit_{number + 1}" for number in range(len(units))]
            lines[f"beta = {beta:g}"] = (
                [number + 1 for number in range(len(units))], [row.metrics[metric] for metric in ordered],
            )  # fmt: skip
    if not lines:
        return None
    return draw.bands(
        lines, "unit, the largest first", "KL of the unit, nats", whole=len(next(iter(lines.values()))[0]) < 20
    )
