"""Deep autoencoders by pretraining. Hinton & Salakhutdinov 2006 (Science 313), Figure 2.

A deep autoencoder, unrolled from layers that were pretrained one by one, beside the same network from random
weights and beside principal component analysis with a code of the same size. Squared error per test image.

Minutes: 1 (digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import jaxdl
from experiments.greedy_pretraining import FINE_TUNING, inputs, through, time_of
from jaxdl.study import Done, Published, Study, divergence

NO_PRETRAINING = {"hyper.masking": 0.0, "hyper.pretrain_learning_rate": 0.0}


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """PCA, and the deep autoencoder from random weights and from pretrained layers."""
    return {
        "pca": {"start": "pca", "hyper.learning_rate": 0.0} | NO_PRETRAINING,
        "random": {"start": "random"} | NO_PRETRAINING,
        "pretrained": {"start": "pretrained"},
    }


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """Pretrain the layers, unroll them into one network, and train it to reconstruct its input."""
    jaxdl.tasks.check_strengths(config.hyper.as_dict(), "sigmoid")
    if not source.normalisation.bounded:
        raise jaxdl.errors.UserError(
            f"data.normalise={config.data.normalise} is not possible here: cross-entropy needs values in [0, 1], "
            "as unit and binarised give them"
        )
    starts = runs.setting("start")
    linear = runs.where(starts == "pca")
    if len(linear):
        model = pca(source, config.model.widths[-1])
        errors = {split: pca_errors(model, flat(source, split)) for split in source.data}
        metrics = {f"{split}_squared_error": np.full(len(linear), error.mean()) for split, error in errors.items()}
        outcomes = {"test_squared_error": np.tile(errors["test"].astype(np.float32), (len(linear), 1))}
        yield Done(linear, metrics, outcomes, np.full(len(linear), "", object))
    deep = runs.where(starts != "pca")
    if len(deep):
        fitted, lost = unrolled(config, source, deep, fit)
        yield Done(deep, fitted.metrics, fitted.outcomes, divergence("deep", fitted.diverged, lost))


def pretrain(config: Any, source: Any, runs: Any, fit: Callable) -> tuple[dict[str, dict], np.ndarray]:
    """One denoising autoencoder a layer: {"encoder_k", "decoder_k"} of the deep network, leaves [R, ...].

    Also where runs diverged, text [R].
    """
    stack, place = runs.distinct(*FINE_TUNING)
    lower: list[dict] = []
    params, lost = {}, np.full(len(runs), "", object)
    sizes = (inputs(source), *config.model.widths)
    steps = jaxdl.training.duration(config.pretrain, source.steps_per_epoch, "pretrain.")
    rule = jaxdl.training.optimizer(config.optimizer, steps)

    def optimizer(hyper: dict) -> Any:
        return rule(hyper | {"learning_rate": hyper["pretrain_learning_rate"], "weight_decay": np.float32(0)})

    for number, (below, width) in enumerate(pairwise(sizes)):
        code = number == len(sizes) - 2
        network = jaxdl.models.Autoencoder(
            below, (width,), code_unit="linear" if code else "sigmoid", initialisation=config.model.initialisation
        )
        features = through(source, lambda run: run["lower"], "sigmoid") if lower else source
        task = jaxdl.tasks.reconstruct(network, below, "cross_entropy")
        extra = {"lower": lower} if lower else {}
        options = dict(steps=steps, evaluations=config.evaluations)
        fitted = fit(f"layer{number + 1}", task, optimizer, features, stack, extra, **options)
        lower = [*lower, fitted.params["encoder_0"]]
        lost = divergence(f"layer{number + 1}", fitted.diverged[place], lost)
        for side in ("encoder", "decoder"):
            params[f"{side}_{number}"] = {name: values[place] for name, values in fitted.params[f"{side}_0"].items()}
    return params, lost


def unrolled(config: Any, source: Any, runs: Any, fit: Callable) -> tuple[Any, np.ndarray]:
    """Train the whole deep autoencoder, from pretrained layers where the run has them; its input is not corrupted."""
    import jax

    network = deep_network(config, source)
    task = jaxdl.tasks.reconstruct(network, inputs(source), "cross_entropy")
    clean = dict.fromkeys(("masking", "gaussian", "salt_pepper", "sparsity_weight"), np.float32(0))
    given = runs.setting("start") == "pretrained"
    lost = np.full(len(runs), "", object)
    if given.any():
        some, lost[given] = pretrain(config, source, runs.where(given), fit)
        start = jax.tree.map(lambda leaf: spread(leaf, given), some)
    else:  # zeros all the same, so that a run is the same one in whatever company
        shapes, _ = jax.eval_shape(task.init, {}, jax.eval_shape(jax.random.key, np.uint32(0)))
        start = jax.tree.map(lambda leaf: np.zeros((len(runs), *leaf.shape), leaf.dtype), shapes)

    def init(run: dict, key: Any) -> tuple[dict, dict]:
        params, state = task.init(run, key)
        return jax.tree.map(
            lambda old, new: jax.numpy.where(run["given"] > 0, old, new), run["pretrained"], params
        ), state

    def loss(params: dict, state: dict, batch: dict, run: dict, key: Any) -> tuple:
        return task.loss(params, state, batch, run | {"hyper": run["hyper"] | clean}, key)

    extra = {"given": given.astype(np.float32), "pretrained": start}
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    fitted = fit(
        "deep", task._replace(init=init, loss=loss), optimizer, source, runs, extra,
        steps=steps, evaluations=config.evaluations, average=config.average, patience=config.patience, select=SELECT,
    )  # fmt: skip
    return fitted, lost


def spread(leaf: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Rows of some runs [sum(given), ...] at their places among all, zero elsewhere: [R, ...]."""
    full = np.zeros((len(given), *leaf.shape[1:]), leaf.dtype)
    full[given] = leaf
    return full


def deep_network(config: Any, source: Any) -> Any:
    """inputs-widths-inputs with sigmoid units and a linear code."""
    widths, initialisation = config.model.widths, config.model.initialisation
    return jaxdl.models.Autoencoder(inputs(source), widths, code_unit="linear", initialisation=initialisation)


def pca(source: Any, size: int) -> Any:
    """scikit-learn's PCA with `size` components, fitted on the training split."""
    from sklearn.decomposition import PCA

    return PCA(size, svd_solver="covariance_eigh").fit(flat(source, "train"))


def pca_errors(model: Any, images: np.ndarray) -> np.ndarray:
    """Squared reconstruction error of each image, [N]."""
    return ((model.inverse_transform(model.transform(images)) - images) ** 2).sum(axis=1)


def flat(source: Any, split: str) -> np.ndarray:
    """The images of a split as float64 [N, inputs] in [0, 1]."""
    images = np.asarray(source.images(np.asarray(source.data[split]["image"])), np.float64)
    return images.reshape(len(images), -1)


def claims(config: Any) -> list[Any]:
    """What the paper says of Figure 2."""
    less, paper, error = jaxdl.study.claims.less, "Hinton & Salakhutdinov 2006, Figure 2", "test_squared_error"
    better = "The pretrained deep autoencoder reconstructs with a smaller squared error than"
    return [
        less("beats-pca", f"{better} principal components as many as its code has", paper, error, "pretrained", "pca"),
        less("beats-random", f"{better} the same network from random weights", paper, error, "pretrained", "random"),
    ]


def published(config: Any) -> list[Published]:
    """The paper's squared errors per test image of MNIST, with codes of 30 numbers."""
    paper, widths = "Hinton & Salakhutdinov 2006, Figure 2", config.model.widths
    if config.data.name != "mnist" or config.data.normalise != "unit" or widths[-1] != 30:
        return []
    numbers = [Published("pca", "test_squared_error", 13.87, None, 0, paper, True)]
    if len(widths) == 4:
        numbers.append(Published("pretrained", "test_squared_error", 3.00, None, 0, paper, True))
    return numbers


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the paper's, as its authors' code has it."""
    data, batch, rule = config.data, config.batch_size, config.optimizer.name
    widths, images = "-".join(map(str, config.model.widths)), data.train or 60_000 - data.validation
    before, after = time_of(config.pretrain), time_of(config)
    checks = [
        (data.name != "mnist", f"The data are {data.name} instead of MNIST."),
        (data.name == "mnist", f"Trained on {images:,} images instead of 60,000."),
        (widths != "1000-500-250-30", f"The encoder's layers are {widths} instead of 1000-500-250-30."),
        (True, "Layers are pretrained as denoising autoencoders instead of restricted Boltzmann machines."),
        (before != "50 epochs", f"Layers are pretrained for {before} instead of 50 epochs."),
        (True, f"Fine-tuned with {rule} on batches of {batch} instead of conjugate gradients on batches of 1,000."),
        (after != "200 epochs", f"Fine-tuning takes {after} instead of 200 epochs."),
    ]
    return [sentence for differs, sentence in checks if differs]


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Reconstructions of test images by each variant (seed 0), and learning curves."""
    import jax

    draw = jaxdl.study.figures
    shape = source.data["test"]["image"].shape[1:]
    images = flat(source, "test")[:12]
    guesses = {"test image": images}
    if results.row("pca"):
        model = pca(source, config.model.widths[-1])
        guesses["pca"] = model.inverse_transform(model.transform(images))
    curves = {}
    for variant in ("random", "pretrained"):
        row = results.row(variant)
        if row is None or row.diverged:
            continue
        fitted, _ = unrolled(config, source, jaxdl.study.Runs(row.runs[:1], [[]]), fit)
        params = {layer: {name: leaf[0] for name, leaf in values.items()} for layer, values in fitted.params.items()}
        _, output = deep_network(config, source).apply({"params": params}, images.astype(np.float32))
        guesses[variant] = np.asarray(jax.nn.sigmoid(output))
        curves[variant] = results.band(row, "deep", "validation_squared_error")
    rows = {label: draw.pictures(guess, shape) for label, guess in guesses.items()}
    drawn = {"reconstructions": draw.rows(rows, f"{config.model.widths[-1]} numbers an image")}
    curves = {label: curve for label, curve in curves.items() if curve[0]}
    if curves:
        drawn["learning_curves"] = draw.bands(curves, "step", "validation squared error", logarithmic=True)
    return drawn


SELECT = ("validation_squared_error", "min")

study = Study(
    name="deep_autoencoder",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=claims,
    published=published,
    differs=differs,
    figures=figures,
    select=SELECT,
    columns=("test_squared_error", "train_squared_error", "validation_squared_error"),
    further={
        "the same on MNIST": "--config=configs/deep_autoencoder.py:mnist",
        "the paper's sizes, for an accelerator": "--config=configs/deep_autoencoder.py:paper",
    },
)

if __name__ == "__main__":
    study.main()
