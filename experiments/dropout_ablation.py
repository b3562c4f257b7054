"""Dropout and what it replaces. Srivastava et al. 2014 (JMLR 15), Table 9 and Figures 7 to 11; Wan et al. 2013 (ICML).

A perceptron with one hidden layer of rectifiers: without regulariser, with dropout of its hidden units, its inputs or
both, Gaussian dropout, DropConnect, penalties on weights and activations, a bound on incoming weights, stopping early.
Each chooses from as many trials on the validation split. Then the error against the probability of keeping a unit, the
size of the training set and the number of thinned networks that are averaged; how many steps training takes, and how
sparse activations become.

Minutes: 7 (digits, 2 CPU cores).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _dropout_claims as about
from experiments import _dropout_pictures as pictures
from experiments._vae_fits import measure, picked, unlogged
from jaxdl.errors import UserError, unknown
from jaxdl.study import Done, Study, divergence

FOLLOWED = ("none", "dropout")  # whose steps are counted, and whose thinned networks are averaged
PLAIN = {"examples": 0, "scale": 1.0, "stopping": False}


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Regularisers; those of FOLLOWED with few examples; probabilities p of keeping units, of n units or n / p."""
    strengths, compare = config.strengths, config.compare
    known = regularisers(strengths)
    wrong = next((name for name in compare.regularisers if name not in known), None)
    if wrong is not None:
        raise unknown("regulariser in compare.regularisers", wrong, known)
    found = {name: known[name] for name in compare.regularisers}
    for size in compare.sizes:
        found |= {f"{name}-{size}": known[name] | {"examples": size} for name in FOLLOWED}
    for keep in compare.keep:
        if not 0 < keep <= 1:
            raise UserError(f"compare.keep={tuple(compare.keep)} is not possible: a probability of keeping, not {keep}")
        found[f"keep-{keep:g}"] = {"hyper.hidden_dropout": 1 - keep}
        scale = (1 - strengths.hidden) / keep
        if scale != 1:  # there the two are one
            found[f"keep-{keep:g}-scaled"] = {"hyper.hidden_dropout": 1 - keep, "scale": scale}
    return {name: PLAIN | changes for name, changes in found.items()}


def regularisers(strengths: Any) -> dict[str, dict[str, Any]]:
    """{name: what it changes}: a tuple is what the variant chooses from."""
    both = {"hyper.input_dropout": strengths.input, "hyper.hidden_dropout": strengths.hidden}
    return {
        "none": {"hyper.learning_rate": strengths.learning_rate},
        "dropout": {"hyper.hidden_dropout": strengths.rate},
        "dropout-input": {"hyper.input_dropout": strengths.rate},
        "dropout-both": {"hyper.input_dropout": strengths.input, "hyper.hidden_dropout": strengths.rate},
        "gaussian": {"hyper.hidden_gaussian": strengths.rate},
        "dropconnect": {"hyper.dropconnect": strengths.rate},
        "L2": {"hyper.weight_decay": strengths.weight_decay},
        "L1": {"hyper.l1": strengths.l1},
        "max-norm": {"hyper.max_norm": strengths.max_norm},
        "sparsity": {"hyper.sparsity_weight": strengths.sparsity_weight},
        "early-stopping": {"hyper.learning_rate": strengths.learning_rate, "stopping": True},
        "dropout+max-norm": both | {"hyper.max_norm": strengths.max_norm},
        "dropout+L2": both | {"hyper.weight_decay": strengths.weight_decay},
    }


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all regularisers, one for stopping early, and one for each other size of network or training set."""
    check(config, source, runs)
    programs = [tuple(row.settings[name] for name in PLAIN) for row in runs.rows]
    for settings in dict.fromkeys(programs):
        group = runs.where(np.array([each == settings for each in programs]))
        rows, place = group.distinct()  # what two variants have in common is trained once
        name = fit_name(group.rows[0].settings, config)
        fitted = trained(config, source, rows, fit)
        followed = np.array([row.variant in FOLLOWED for row in group.rows])
        for chosen in (followed, ~followed):
            if chosen.any():
                part, here = group.where(chosen), place[chosen]
                metrics = {name: values[here] for name, values in fitted.metrics.items()}
                outcomes = {name: values[here] for name, values in fitted.outcomes.items()}
                if chosen is followed:
                    metrics |= speed(config, source, part, fit)
                    more = averages(config, source, part, picked(fitted.params, here), fit)
                    metrics, outcomes = metrics | more[0], outcomes | more[1]
                yield Done(part, metrics, outcomes, divergence(name, fitted.diverged[here]))


def trained(config: Any, source: Any, rows: Any, fit: Callable) -> Any:
    """The fit of runs that differ only in hyperparameters and seed."""
    settings, steps = rows.rows[0].settings, duration(config, source)
    if settings["examples"]:
        source = source.labelled(settings["examples"] // source.classes)
    stop = {"patience": config.patience, "select": ("validation_error", "min")} if settings["stopping"] else {}
    task = objective(config, source, settings["scale"])
    options = dict(steps=steps, evaluations=config.evaluations) | stop
    return fit(fit_name(settings, config), task, optimizer(config, steps), source, rows, **options)


def duration(config: Any, source: Any) -> int:
    """Steps of all fits: those of an epoch are of the whole training set."""
    return jaxdl.training.duration(config, source.steps_per_epoch)


def optimizer(config: Any, steps: int) -> Callable:
    """With the bound on incoming weights, which is off where hyper.max_norm is 0."""
    return jaxdl.training.optimizer(config.optimizer, steps, max_norm=config.max_norm)


def fit_name(settings: dict[str, Any], config: Any) -> str:
    """ "train", "early_stopping", "examples100", "scaled1280"."""
    if settings["examples"]:
        return f"examples{settings['examples']}"
    if settings["scale"] != 1:
        return f"scaled{widths(config, settings['scale'])[-1]}"
    return "early_stopping" if settings["stopping"] else "train"


def widths(config: Any, scale: float) -> tuple[int, ...]:
    """Hidden layers, `scale` times as wide."""
    return tuple(round(scale * width) for width in config.model.widths)


def network(config: Any, source: Any, scale: float = 1.0) -> Any:
    """The perceptron."""
    model = config.model
    return jaxdl.models.MLP(widths(config, scale), source.classes, model.unit, model.initialisation)


def objective(config: Any, source: Any, scale: float = 1.0) -> Any:
    """Cross-entropy with all regularisers of which a run has some."""
    shape = source.data["train"]["image"].shape[1:]
    return jaxdl.tasks.classify_regularised(network(config, source, scale), shape, inverted=config.model.inverted)


def speed(config: Any, source: Any, group: Any, fit: Callable) -> dict[str, np.ndarray]:
    """How many steps training takes until the loss on training images, without noise, is at most `speed.loss`.

    Stopping early counts them: the validation split is made of training images, and the loss counts as `speed.loss`
    where it is below, so that the first evaluation there is the last that is better than all before.
    """
    target, every, patience = config.speed.loss, config.speed.every, config.speed.patience
    shown = {key: np.asarray(rows[:1000]) for key, rows in source.data["train"].items()}
    source, steps = source._replace(data=source.data | {"validation": shown}), duration(config, source)

    def summarise(values: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"capped_loss": max(values["loss"].mean(dtype=np.float64), target)}

    task, most = objective(config, source)._replace(summarise=summarise), steps + patience * every
    fitted = fit(
        "speed", task, optimizer(config, steps), source, unlogged(group), steps=most, every=every, patience=patience,
        select=("validation_capped_loss", "min"), measured=("validation",),
    )  # fmt: skip
    reached = fitted.metrics["validation_capped_loss"] <= target
    count = np.where(reached, fitted.steps - patience * every, steps)
    middle = np.log2(count) + about.MIDDLE
    return {
        "train_steps_to_loss": count, "train_reached": reached.astype(float), "train_log2_steps": np.log2(count),
        "train_log2_steps_middle": middle,
    }  # fmt: skip


def averages(config: Any, source: Any, group: Any, params: Any, fit: Callable) -> tuple[dict, dict]:
    """The test errors of averages of thinned networks."""
    model, inverted = network(config, source), config.model.inverted
    evaluate = jaxdl.tasks.average_thinned(model, config.compare.averages, inverted=inverted)
    task = objective(config, source)._replace(init=lambda run, key: (run["trained"], {}), evaluate=evaluate)
    return measure(config, source, group, "averages", task, {"trained": params}, fit)


def check(config: Any, source: Any, runs: Any) -> None:
    """UserError for strengths that make no sense, sizes that can't be had, and claims that lack their variant."""
    compare = config.compare
    for section in (config.strengths, compare, config.speed):
        section.as_dict()  # not all presets look at all of them
    if not config.model.widths:
        raise UserError("model.widths=() is not possible here: dropout needs a hidden layer")
    for row in runs.rows:
        jaxdl.tasks.check_rates(row.hyper, config.model.unit)
        if row.variant.endswith("max-norm") and not row.hyper["max_norm"] > 0:
            raise UserError(f"strengths.max_norm={tuple(config.strengths.max_norm)} is not possible: valid is above 0")
    if any(count < 1 for count in compare.averages) or list(compare.averages) != sorted(set(compare.averages)):
        raise UserError(f"compare.averages={tuple(compare.averages)} is not possible: increasing numbers above 0")
    uneven = [size for size in compare.sizes if size % source.classes]
    if uneven:
        raise UserError(f"compare.sizes: {uneven[0]} is no multiple of the {source.classes} classes")
    if compare.medium not in compare.sizes:
        raise UserError(f"compare.medium={compare.medium} is none of compare.sizes={tuple(compare.sizes)}")
    speed = config.speed
    if speed.every < 1 or speed.patience < 1 or not speed.loss > 0:
        given = f"loss={speed.loss}, every={speed.every}, patience={speed.patience}"
        raise UserError(f"speed={given} is not possible: all of them are above 0")


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Error against keeping, training examples and averages; learning curves; activations and filters of one run."""

    def parameters(row: Any) -> Any:
        """Of the first seed."""
        fitted = trained(config, source, jaxdl.study.Runs(row.runs[:1], [[]]), fit)
        return picked(fitted.params, np.int64(0))

    rows = {name: results.row(name) for name in FOLLOWED}
    networks = {name: parameters(row) for name, row in rows.items() if row and row.metrics and not row.diverged}
    drawn = pictures.errors(config, len(source.data["train"]["label"]), results)
    if networks:
        drawn |= pictures.inside(network(config, source), networks, source)
    return drawn


study = Study(
    name="dropout_ablation",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=about.claims,
    published=about.published,
    differs=about.differs,
    notes=about.notes,
    figures=figures,
    select=("validation_error", "min"),
    columns=("test_error", "train_error", "test_activation", "test_active", "train_steps_to_loss"),
    further={"the same on MNIST": "--config=configs/dropout_ablation.py:mnist"},
    default_variant="dropout",
)

if __name__ == "__main__":
    study.main()
