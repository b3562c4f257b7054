"""Greedy layer-wise pretraining. Bengio et al. 2007 (NIPS 19); Vincent et al. 2010 (JMLR 11); Ng 2011 (CS294A).

Deep networks of sigmoid units, fine-tuned with labels from two kinds of starts: random weights, or layers
that were trained one by one, each on the outputs of the frozen layers below it: as plain, sparse, denoising or
k-sparse autoencoders without labels, or as supervised one-layer networks. Test error against depth and against
the number of labels; beside fine-tuning, training the output layer alone; and how far the sparsity penalty is off
when it is estimated from a batch.

Minutes: 2 (digits, 2 CPU cores).
"""

import functools
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import jaxdl
from jaxdl.study import Done, Published, Study, divergence

# What each kind of start trains, and which penalties and corruptions it leaves out.
NO_CORRUPTION = {"hyper.masking": 0.0, "hyper.gaussian": 0.0, "hyper.salt_pepper": 0.0}
NO_SPARSITY = {"hyper.sparsity_weight": 0.0, "hyper.sparsity_target": 0.0}
NO_PRETRAINING = {"hyper.pretrain_learning_rate": 0.0, "hyper.pretrain_weight_decay": 0.0}
KINDS = {
    "random": {"start": "random"} | NO_CORRUPTION | NO_SPARSITY | NO_PRETRAINING,
    "plain": {"start": "autoencoder"} | NO_CORRUPTION | NO_SPARSITY,
    "sparse": {"start": "autoencoder"} | NO_CORRUPTION,
    "denoising": {"start": "autoencoder"} | NO_SPARSITY,
    "ksparse": {"start": "ksparse"} | NO_CORRUPTION | NO_SPARSITY,
    "supervised": {"start": "supervised"} | NO_CORRUPTION | NO_SPARSITY,
}
# What distinguishes two runs only after pretraining: they share their pretrained layers.
FINE_TUNING = ("depth", "labels", "top", "learning_rate", "weight_decay")
BIAS_IMAGES = 4096  # training images, at most, on which the bias of the sparsity penalty is measured


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """kind-DEPTH on all labels, and kind-DEPTH-Nlabels with N labels a class (pretrained on all images).

    kind-DEPTH-top, of the kinds pretrained without labels at the greatest depth: only the output layer gets labels.
    """
    compare = config.compare
    for kind in compare.kinds:
        if kind not in KINDS:
            raise jaxdl.errors.unknown("kind in compare.kinds", kind, KINDS)
    counts = {
        "compare.depths": compare.depths,
        "compare.labels": compare.labels,
        "compare.labelled_depth": (compare.labelled_depth,),
        "measure.sparsity_batches": config.measure.sparsity_batches,
        "model.hidden": (config.model.hidden,),
    }
    for name, values in counts.items():
        if not all(isinstance(value, int) and value >= 1 for value in values):
            raise jaxdl.errors.UserError(f"{name}={values} is not possible: valid are whole numbers from 1")
    for section in (config.model, config.pretrain, config.readout):
        section.as_dict()  # known here, whichever of them the chosen kinds will need
    chosen = {
        f"{kind}-{depth}": KINDS[kind] | {"depth": depth, "labels": 0}
        for kind in compare.kinds
        for depth in compare.depths
    }
    # Only these have a setting `top`: it would make others of the runs that never knew it.
    with_top = compare.top
    top = {
        top_of(f"{kind}-{depth}"): KINDS[kind] | {"depth": depth, "labels": 0, "top": True}
        for kind in unsupervised(config)
        for depth in sorted(compare.depths)[-1:]
        if with_top
    }
    depth = compare.labelled_depth
    return chosen | top | {
        f"{kind}-{depth}-{labels}labels": KINDS[kind] | {"depth": depth, "labels": labels}
        for labels in compare.labels
        for kind in compare.kinds
        if kind != "supervised"  # its layers need the labels that this part takes away
    }


def unsupervised(config: Any) -> list[str]:
    """The kinds compared whose layers are pretrained without labels."""
    return [kind for kind in config.compare.kinds if kind not in ("random", "supervised")]


def top_of(variant: str) -> str:
    """The name of the variant that trains only the output layer."""
    return f"{variant}-top"


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """Pretrain each stack once, to its greatest depth; then fine-tune every depth from its share of the layers."""
    jaxdl.models.unit(config.model.unit)  # is there one of that name?
    hyper = config.hyper.as_dict()
    for kind in config.compare.kinds:
        changes = {key.removeprefix("hyper."): value for key, value in KINDS[kind].items()}
        jaxdl.tasks.check_strengths(hyper | changes, config.model.unit)
    trained, measured, lost = pretrain(config, source, runs, fit)
    depths, labels = runs.setting("depth"), runs.setting("labels")
    tops = np.array(["top" in row.settings for row in runs.rows])
    for few, depth, top in sorted({*zip(labels.tolist(), depths.tolist(), tops.tolist(), strict=True)}):
        chosen = (depths == depth) & (labels == few) & (tops == top)
        group = runs.where(chosen)
        start = {
            "given": (runs.setting("start") != "random").astype(np.float32)[chosen],
            "layers": start_layers(config, source, trained[:depth], chosen, depth),
        }
        name = f"depth{depth}" + ("_top" if top else "") + (f"_{few}labels" if few else "")
        labelled = source.labelled(few) if few else source
        if top:
            steps = jaxdl.training.duration(config, labelled.steps_per_epoch)
            fitted = train_top(config, labelled, group, start, depth, name, steps, fit)
            done = Done(group, fitted.metrics, fitted.outcomes, divergence(name, fitted.diverged, lost[chosen]))
        else:
            done = fine_tune(config, labelled, group, start, depth, name, lost[chosen], fit)
        below = {name: values[chosen] for name, values in measured.items()}
        yield done._replace(metrics=done.metrics | below)


def pretrain(
    config: Any, source: Any, runs: Any, fit: Callable
) -> tuple[list[list], dict[str, np.ndarray], np.ndarray]:
    """The greedy part, from the bottom: each layer's trained parameters, and who takes them over.

    Returns for each layer [(whose [R] bool, place of each of those in the parameters, parameters)]; what was
    measured, {"validation_NAME_layerK": [R], "train_sparsity_bias_batchB": [R]}, nan where a run has no such layer;
    and where runs diverged, [R].
    """
    depths, starts = runs.setting("depth"), runs.setting("start")
    trained: list[list] = [[] for _ in range(depths.max())]
    measured: dict[str, np.ndarray] = {}
    lost = np.full(len(runs), "", object)
    for kind in ("autoencoder", "ksparse", "supervised"):
        frozen: list[tuple[Any, dict]] = []  # the layers below: whose they are, and their parameters
        for number in range(depths[starts == kind].max(initial=0)):
            chosen = (starts == kind) & (depths > number)
            stack, place = runs.where(chosen).distinct(*FINE_TUNING)
            lower = [
                {name: values[stack.places_in(owners)] for name, values in layer.items()} for owners, layer in frozen
            ]
            name, fitted = pretrain_layer(config, source, stack, lower, kind, fit)
            layer = fitted.params[first_layer(kind)]
            frozen.append((stack, layer))
            trained[number].append((chosen, place, layer))
            lost[chosen] = divergence(name, fitted.diverged[place], lost[chosen])
            found = {
                f"validation_{metric}_layer{number + 1}": fitted.metrics[f"validation_{metric}"]
                for metric in ("loss", "squared_error", "activation", "error")
                if f"validation_{metric}" in fitted.metrics
            }
            if number == 0:
                found |= sparsity_bias(config, source, stack, layer)
            for metric, values in found.items():
                measured.setdefault(metric, np.full(len(runs), np.nan))[chosen] = values[place]
    return trained, measured, lost


def sparsity_bias(config: Any, source: Any, stack: Any, layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By how much a batch overestimates the sparsity penalty of first layers: {"train_sparsity_bias_batchB": [R]}.

    The penalty KL(rho || mean activation of B images), in nats, averaged over disjoint batches, minus that of the
    mean activation of all these images. The penalty is convex, so the difference is 0 or more (Jensen) and falls as
    B grows. Measured on at most BIAS_IMAGES training images, for each B on as many as fill its batches; nan where a
    run has no penalty.

    layer: {"kernel": [R, inputs, H], "bias": [R, H]}
    """
    sizes, hyper = config.measure.sparsity_batches, stack.arrays()["hyper"]
    penalised = np.flatnonzero(hyper["sparsity_weight"] > 0)
    if not (len(sizes) and len(penalised)):
        return {}
    total = len(source.data["train"]["label"])
    count = min(total, BIAS_IMAGES)
    if max(sizes) > count:
        raise jaxdl.errors.UserError(
            f"measure.sparsity_batches={sizes} is not possible: valid is 1 to {count}, the training images used"
        )
    # Shuffled, because images may lie class by class; the same images for all runs.
    chosen = jaxdl.data.order.index(np.uint32(0), np.uint32(0), np.arange(count, dtype=np.uint32), total)
    images = source.images(source.data["train"]["image"][chosen]).reshape(count, -1)  # [N, inputs]
    found = {f"train_sparsity_bias_batch{size}": np.full(len(stack), np.nan) for size in sizes}
    unit = jaxdl.models.unit(config.model.unit)
    for run in penalised:
        code = unit(images @ layer["kernel"][run] + layer["bias"][run][None, :])
        if config.model.unit == "tanh":
            code = 0.5 * (1.0 + code)  # what the penalty is about, see jaxdl.tasks.reconstruct
        code = np.asarray(code)  # [N, H]
        # [batches, H] for each size
        means = [code[: count // size * size].reshape(-1, size, code.shape[1]).mean(axis=1) for size in sizes]
        overall = np.stack([mean.mean(axis=0) for mean in means])  # [sizes, H]
        # All in one call, so that one program is compiled.
        penalty = np.asarray(penalties()(np.concatenate([overall, *means]), hyper["sparsity_target"][run]))
        exact, *estimated = np.split(penalty, np.cumsum([len(sizes), *map(len, means)])[:-1])
        for values, estimates, value in zip(found.values(), estimated, exact, strict=True):
            values[run] = estimates.mean() - value
    return found


@functools.cache  # compiled once, for the plan and the training
def penalties() -> Callable:
    """(mean activations [M, H], target) -> sparsity penalties [M]."""
    import jax

    return jax.jit(jax.vmap(jaxdl.tasks.kl_sparsity, (0, None)))


def start_layers(
    config: Any, source: Any, trained: list[list], chosen: np.ndarray, depth: int
) -> list[dict[str, np.ndarray]]:
    """The pretrained layers of the chosen runs [G]: {"kernel": [G, in, out], "bias": [G, out]}, zero where none."""
    layers = []
    for takers, (below, width) in zip(trained, pairwise([inputs(source), *[config.model.hidden] * depth]), strict=True):
        shapes = {"kernel": (chosen.sum(), below, width), "bias": (chosen.sum(), width)}
        layer = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        for whose, place, params in takers:
            for name, values in layer.items():
                values[whose[chosen]] = params[name][place[chosen[whose]]]
        layers.append(layer)
    return layers


def pretrain_layer(
    config: Any, source: Any, stack: Any, lower: list[dict], kind: str, fit: Callable
) -> tuple[str, Any]:
    """Train one layer on the outputs of the frozen layers `lower`, which are computed once; the fit and its name."""
    model, pretraining = config.model, config.pretrain
    first = not lower
    size = inputs(source) if first else model.hidden
    if not first:
        source = through(source, lambda run: run["lower"], model.unit)
    if kind == "supervised":
        network = jaxdl.models.MLP((model.hidden,), source.classes, model.unit, model.initialisation)
        task = jaxdl.tasks.classify(network, (size,))
    else:
        bounded = source.normalisation.bounded if first else model.unit == "sigmoid"
        objective = pretraining.objective if bounded else "squared_error"
        task = jaxdl.tasks.reconstruct(autoencoder(config, size, kind), size, objective, bounded=bounded)
    steps = jaxdl.training.duration(pretraining, source.steps_per_epoch, "pretrain.")
    rule = jaxdl.training.optimizer(pretraining.optimizer, steps)

    def optimizer(hyper: dict) -> Any:
        own = {"learning_rate": hyper["pretrain_learning_rate"], "weight_decay": hyper["pretrain_weight_decay"]}
        return rule(hyper | own)

    name = f"{kind}_layer{len(lower) + 1}"
    extra = {"lower": lower} if lower else {}
    return name, fit(name, task, optimizer, source, stack, extra, steps=steps, evaluations=config.evaluations)


def autoencoder(config: Any, size: int, kind: str) -> Any:
    """The autoencoder of one layer: size-hidden-size."""
    model, sparse = config.model, kind == "ksparse"
    return jaxdl.models.Autoencoder(
        size, (model.hidden,), code_unit="linear" if sparse else model.unit, tied=model.tied,
        top_k=model.top_k if sparse else 0, initialisation=model.initialisation,
    )  # fmt: skip


def first_layer(kind: str) -> str:
    """Under which name a one-layer network keeps the layer that the deep network takes over."""
    return "hidden_0" if kind == "supervised" else "encoder_0"


def starting_weights(config: Any, source: Any, depth: int) -> Callable[[dict], dict]:
    """run -> the parameters where its fine-tuning starts: random ones of its seed, overlaid by what `start` gives."""
    import jax

    model = config.model
    shape = source.data["train"]["image"].shape[1:]
    network = jaxdl.models.MLP((model.hidden,) * depth, source.classes, model.unit, model.initialisation)

    def begin(run: dict) -> dict:
        key = jax.random.fold_in(jax.random.key(run["seed"]), depth)
        params = network.init(key, np.zeros((1, *shape), np.float32))["params"]
        for number, layer in enumerate(run["start"]["layers"]):
            random = params[f"hidden_{number}"]
            params[f"hidden_{number}"] = {
                name: jax.numpy.where(run["start"]["given"] > 0, layer[name], random[name]) for name in random
            }
        return params | ({"output": run["start"]["output"]} if "output" in run["start"] else {})

    return begin


def train_top(
    config: Any, source: Any, runs: Any, start: dict, depth: int, name: str, steps: int, fit: Callable
) -> Any:
    """Train the output layer alone, on the outputs of the frozen layers below it, which are computed once."""
    begin = starting_weights(config, source, depth)
    frozen = through(source, lambda run: [begin(run)[f"hidden_{number}"] for number in range(depth)], config.model.unit)
    softmax = jaxdl.tasks.classify(jaxdl.models.MLP((), source.classes), (config.model.hidden,))
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    return fit(name, softmax, optimizer, frozen, runs, {"start": start}, steps=steps, **labelled_options(config))


def fine_tune(
    config: Any, source: Any, runs: Any, start: dict, depth: int, name: str, lost: np.ndarray, fit: Callable
) -> Done:
    """Train the whole network with labels. lost: where runs diverged before, [R]."""
    model, before = config.model, {}
    if config.readout.steps or config.readout.epochs:
        # The classifier on frozen features first: "before fine-tuning", and where fine-tuning then starts.
        steps = jaxdl.training.duration(config.readout, source.steps_per_epoch, "readout.")
        readout = train_top(config, source, runs, start, depth, f"{name}_readout", steps, fit)
        start = start | {"output": readout.params["output"]}
        before = {"test_error_before": readout.metrics["test_error"]}
        lost = divergence(f"{name}_readout", readout.diverged, lost)
    begin = starting_weights(config, source, depth)
    network = jaxdl.models.MLP((model.hidden,) * depth, source.classes, model.unit, model.initialisation)
    task = jaxdl.tasks.classify(network, source.data["train"]["image"].shape[1:])
    task = task._replace(init=lambda run, key: (begin(run), {}))
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    fitted = fit(name, task, optimizer, source, runs, {"start": start}, steps=steps, **labelled_options(config))
    return Done(runs, fitted.metrics | before, fitted.outcomes, divergence(name, fitted.diverged, lost))


def labelled_options(config: Any) -> dict[str, Any]:
    """What all fits with labels have in common."""
    return dict(evaluations=config.evaluations, average=config.average, patience=config.patience, select=SELECT)


def through(source: Any, layers: Callable[[dict], list[dict]], unit: str) -> Any:
    """The source as the layers of `layers(run)`, each {"kernel", "bias"}, hand it on: computed once for each run."""

    def prepare(run: dict, split: dict) -> dict:
        hidden = source.images(split["image"]).reshape(len(split["label"]), -1)  # [N, inputs]
        for layer in layers(run):
            hidden = jaxdl.models.unit(unit)(hidden @ layer["kernel"] + layer["bias"][None, :])
        return split | {"image": hidden}

    return source._replace(prepare=prepare)


def inputs(source: Any) -> int:
    """Values in one image."""
    return int(np.prod(source.data["train"]["image"].shape[1:]))


def claims(config: Any) -> list[Any]:
    """What the papers claim, about the variants that this config compares."""
    claim, compare = jaxdl.study.claims, config.compare
    found = []
    pretrained = unsupervised(config)
    for kind in pretrained if "random" in compare.kinds else ():
        for depth in (depth for depth in compare.depths if depth >= 4):
            found.append(claim.less(
                f"{kind}-helps-{depth}",
                f"With {depth} hidden layers of {config.model.unit} units, {kind} pretraining lowers the test error",
                "Bengio et al. 2007", "test_error", f"{kind}-{depth}", f"random-{depth}",
            ))  # fmt: skip
    if "random" in compare.kinds and len(compare.depths) > 1:
        found.append(claim.increasing(
            "depth-hurts-random", "From random weights, the test error grows with every layer",
            "Bengio et al. 2007", "test_error", [f"random-{depth}" for depth in sorted(compare.depths)],
        ))  # fmt: skip
    if "denoising" in compare.kinds:  # said without plain ones, too, which the preset `full` has: "not run"
        for depth in compare.depths if "plain" in compare.kinds else sorted(compare.depths)[-1:]:
            found.append(claim.less(
                f"denoising-beats-plain-{depth}",
                f"With {depth} layers, denoising autoencoders give a lower test error than plain ones",
                "Vincent et al. 2010, Table 3", "test_error", f"denoising-{depth}", f"plain-{depth}",
            ))  # fmt: skip
    for kind in pretrained if compare.top else ():
        for depth in sorted(compare.depths)[-1:]:
            found.append(claim.less(
                f"{kind}-fine-tuning-helps-{depth}",
                f"With {depth} {kind} layers, fine-tuning all of them lowers the test error more than training the "
                "output layer alone",
                "UFLDL exercise on deep networks", "test_error", f"{kind}-{depth}", top_of(f"{kind}-{depth}"),
            ))  # fmt: skip
    sparse = next((name for name in variants(config) if name.startswith("sparse-")), None)
    if sparse and len(config.measure.sparsity_batches) > 1:
        sizes = sorted(config.measure.sparsity_batches)
        cells = [claim.Cell(sparse, f"train_sparsity_bias_batch{size}") for size in sizes]
        found.append(claim.decreasing(
            "sparsity-needs-batches",
            f"The fewer images a batch has, the more it overestimates the sparsity penalty of the first layer: "
            f"{', '.join(map(str, sizes))} images, in nats",
            "lectures on Ng 2011", cells[0].metric, cells,
        ))  # fmt: skip
    for few, more in pairwise(sorted(compare.labels)):
        for kind in pretrained if "random" in compare.kinds else ():
            one, other = (f"-{compare.labelled_depth}-{labels}labels" for labels in (few, more))
            gain = {f"random{one}": 1.0, f"{kind}{one}": -1.0, f"random{other}": -1.0, f"{kind}{other}": 1.0}
            text = f"{kind.capitalize()} pretraining gains more with {few} labels a class than with {more}"
            paper, id = "lectures on deep learning", f"{kind}-helps-few-{few}"
            found.append(claim.Claim(id, text, paper, "test_error", (gain,), "greater"))
    return found


def published(config: Any) -> list[Published]:
    """The papers' test errors on MNIST."""
    if config.data.name != "mnist":
        return []
    hyper, readout = config.hyper, config.readout
    table, exercise = "Vincent et al. 2010, Table 3", "UFLDL exercise on deep networks"
    numbers = [Published("plain-3", "test_error", 0.0140, None, 0, f"{table}, SAE-3", True)]
    if (hyper.masking, hyper.gaussian, hyper.salt_pepper) == (0.25, 0, 0):
        numbers.append(Published("denoising-3", "test_error", 0.0128, None, 0, f"{table}, SDAE-3", True))
    if config.model.hidden == 200 and (readout.steps or readout.epochs):
        numbers.append(Published("sparse-2", "test_error_before", 0.123, None, 0, exercise, True))
        numbers.append(Published("sparse-2", "test_error", 0.024, None, 0, exercise, True))
    return [number for number in numbers if number.variant in variants(config)]


def differs(config: Any) -> list[str]:
    """In what the recipe differs from the papers'.

    Two recipes are known in full: the UFLDL exercise (sparse, 784-200-200-10, L-BFGS on all 60,000 images), and for
    denoising autoencoders the SdA tutorial of Vincent et al.'s laboratory (784-1000-1000-1000-10, tied weights, plain
    gradient descent on one image at a time, 15 epochs a layer, then 36 epochs).
    """
    model, data, pretraining = config.model, config.data, config.pretrain
    sparse, denoising = (kind in config.compare.kinds for kind in ("sparse", "denoising"))
    rules = " and ".join(sorted({pretraining.optimizer.name, config.optimizer.name}))
    before, after, masking = time_of(pretraining), time_of(config), config.hyper.masking
    images = data.train or 60_000 - data.validation
    exercise, tutorial = "(UFLDL exercise)", "(SdA tutorial)"
    checks = [
        (data.name != "mnist", f"The data are {data.name} instead of MNIST."),
        (sparse and data.name == "mnist", f"Trained on {images:,} images instead of 60,000 {exercise}."),
        (model.unit != "sigmoid", f"Units are {model.unit} instead of sigmoid."),
        (
            model.hidden not in (200, 1000),
            f"Layers have {model.hidden:,} units instead of 200 {exercise} or 1,000 {tutorial}.",
        ),
        (denoising and not model.tied, f"Encoder and decoder have two matrices instead of tied ones {tutorial}."),
        (denoising and masking != 0.25, f"Masking sets {masking:.0%} of the values to 0 instead of 25% (Table 3)."),
        (sparse and rules != "lbfgs", f"Trained with {rules} instead of L-BFGS {exercise}."),
        (denoising and rules != "sgd", f"Trained with {rules} instead of plain gradient descent {tutorial}."),
        (denoising and config.batch_size != 1, f"Batches have {config.batch_size} images instead of 1 {tutorial}."),
        (denoising and before != "15 epochs", f"Layers are pretrained for {before} instead of 15 epochs {tutorial}."),
        (denoising and after != "36 epochs", f"Fine-tuning takes {after} instead of 36 epochs {tutorial}."),
    ]
    return [sentence for differs, sentence in checks if differs]


def time_of(section: Any) -> str:
    """ "1,500 steps" or "15 epochs": for how long a section of the config trains."""
    return f"{section.steps:,} steps" if section.steps else f"{section.epochs:g} epochs"


def notes(config: Any, results: Any) -> list[str]:
    """What a reader of the table must know."""
    lines = []
    if config.compare.labels:
        lines.append("With few labels, the learning rate is still chosen on all labels of the validation split.")
    if config.readout.steps or config.readout.epochs:
        lines.append("Before: the output layer trained alone on frozen layers, at the rate that is best afterwards.")
    return lines


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Error against depth and labels, learning curves at the greatest depth, filters, reconstructions."""
    draw, compare = jaxdl.study.figures, config.compare
    depth, deepest = compare.labelled_depth, max(compare.depths, default=0)

    def errors(labels: dict[int, str]) -> dict[str, tuple]:
        """{kind: (x, test error % of each seed)} over {x: the end of a variant's name}."""
        rows = {kind: {x: results.row(kind + end) for x, end in labels.items()} for kind in compare.kinds}
        known = {
            kind: {x: 100 * row.metrics["test_error"] for x, row in each.items() if row and "test_error" in row.metrics}
            for kind, each in rows.items()
        }
        return {kind: (list(each), list(each.values())) for kind, each in known.items() if each}

    style = dict(ylabel="test error %", whole=True, logarithmic=True)
    by_depth = errors({d: f"-{d}" for d in compare.depths})
    by_labels = errors({n: f"-{depth}-{n}labels" for n in compare.labels})
    rows = {kind: results.row(f"{kind}-{deepest}") for kind in compare.kinds}
    bands = {kind: results.band(row, f"depth{deepest}", "validation_error") for kind, row in rows.items() if row}
    curves = {kind: (steps, 100 * np.array(values)) for kind, (steps, values) in bands.items() if steps}
    drawn = {}
    if by_depth and len(compare.depths) > 1:
        drawn["error_by_depth"] = draw.bands(by_depth, "hidden layers", **style)
    if by_labels:
        title = f"{depth} hidden layers, all images unlabelled"
        drawn["error_by_labels"] = draw.bands(by_labels, "labels a class", title=title, **style)
    if curves:
        title = f"{deepest} hidden layers"
        drawn["learning_curves"] = draw.bands(
            curves, "fine-tuning step", "validation error %", logarithmic=True, title=title
        )
    kinds = {kind: row for kind, row in rows.items() if row and KINDS[kind]["start"] in ("autoencoder", "ksparse")}
    for name in ("squared_error", "activation"):
        layers = {kind: by_layer(row, f"validation_{name}") for kind, row in kinds.items()}
        layers = {kind: lines for kind, lines in layers.items() if lines[0]}
        target = ("sparsity target", config.hyper.sparsity_target) if name == "activation" else None
        if layers:
            label = {"squared_error": "squared error of the reconstruction", "activation": "mean activation"}[name]
            drawn[f"{name}_by_layer"] = draw.bands(layers, "layer", f"validation {label}", whole=True, reference=target)
    biases = {kind: bias_by_batch(config, row) for kind, row in kinds.items()}
    biases = {kind: lines for kind, lines in biases.items() if lines[0]}
    if biases:
        count = min(BIAS_IMAGES, len(source.data["train"]["label"]))
        title = f"sparsity penalty of the first layer, {count:,} training images"
        drawn["sparsity_bias_by_batch"] = draw.bands(
            biases, "images a batch", "overestimate, nats", whole=True, logarithmic=True, title=title
        )
    return drawn | layer_pictures(config, source, results, fit)


def by_layer(row: Any, metric: str) -> tuple[list[int], list[np.ndarray]]:
    """(layers, values of each seed) of a metric that each pretrained layer of a variant has."""
    names = {number: f"{metric}_layer{number}" for number in range(1, 1 + len(row.metrics))}
    known = {number: row.metrics[name] for number, name in names.items() if name in row.metrics}
    return list(known), list(known.values())


def bias_by_batch(config: Any, row: Any) -> tuple[list[int], list[np.ndarray]]:
    """(batch sizes, values of each seed) of the bias of the sparsity penalty; empty where there is no penalty."""
    names = {size: f"train_sparsity_bias_batch{size}" for size in sorted(config.measure.sparsity_batches)}
    known = {size: row.metrics[name] for size, name in names.items() if name in row.metrics}
    return list(known), list(known.values())


def layer_pictures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """First-layer filters of each pretrained kind, and what its autoencoder makes of test images (seed 0)."""
    import jax

    shape = source.data["test"]["image"].shape[1:]
    images = source.images(source.data["test"]["image"][:12])  # [12, h, w, c]
    draw = jaxdl.study.figures
    filters, reconstructions = {}, {"test image": draw.pictures(images, shape)}
    for kind in config.compare.kinds:
        start = KINDS[kind]["start"]
        row = next((row for row in results.rows if row.variant.startswith(f"{kind}-")), None)
        if row is None or start == "random" or row.diverged:
            continue
        stack, _ = jaxdl.study.Runs(row.runs[:1], [[]]).distinct(*FINE_TUNING)
        _, fitted = pretrain_layer(config, source, stack, [], start, fit)
        params = jax.tree.map(lambda leaf: leaf[0], fitted.params)
        kernel = params[first_layer(start)]["kernel"]
        filters[kind] = draw.pictures(kernel.T[:50], shape)  # [in, H] -> [50, h, w]
        if start != "supervised":
            _, output = autoencoder(config, inputs(source), start).apply({"params": params}, images)
            bounded = source.normalisation.bounded
            reconstructions[kind] = draw.pictures(jax.nn.sigmoid(output) if bounded else output, shape)
    drawn = {"filters": draw.tiles(filters, symmetric=True)} if filters else {}
    if len(reconstructions) > 1:
        drawn["reconstructions"] = draw.rows(reconstructions, "Reconstructions by the first layer")
    return drawn


SELECT = ("validation_error", "min")

study = Study(
    name="greedy_pretraining",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=claims,
    published=published,
    differs=differs,
    figures=figures,
    select=SELECT,
    notes=notes,
    columns=("test_error_before", "test_error", "train_error", "validation_error"),
    further={
        "the same on MNIST": "--config=configs/greedy_pretraining.py:mnist",
        "the papers' sizes, for an accelerator": "--config=configs/greedy_pretraining.py:paper",
    },
)

if __name__ == "__main__":
    study.main()
