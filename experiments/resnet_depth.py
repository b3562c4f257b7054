"""Deep residual learning. He et al. 2016 (arXiv 1512.03385), section 4.2.

Stacking more plain layers raises the training error, however long the training; with shortcuts it does not. Both at
increasing depth and for three lengths of training; what layers respond and how gradients arrive in them; shortcuts of
option B, and a DenseNet (arXiv 1608.06993) with as many parameters.

Minutes: 12 (digits, 2 CPU cores).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _resnet_claims as about
from experiments._resnet_layers import observed
from jaxdl.study import Done, Runs, Study, divergence


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Plain nets and residual ones (option A) of each depth; option B; a DenseNet, unless its depth is 0."""
    compare, depths = config.compare, config.compare.depths
    if compare.margin < 0:
        raise jaxdl.errors.UserError(f"compare.margin={compare.margin} is not possible: valid is 0 or more")
    if not depths or list(depths) != sorted(set(depths)):
        raise jaxdl.errors.UserError(
            f"compare.depths={tuple(depths)} is not possible: valid are one or more depths 6n + 2, each once, "
            "in increasing order"
        )
    nets = {f"plain-{depth}": {"depth": depth, "shortcut": "none"} for depth in depths}
    nets |= {f"residual-{depth}": {"depth": depth, "shortcut": "A"} for depth in depths}
    nets |= {f"residual-{depth}-B": {"depth": depth, "shortcut": "B"} for depth in compare.option_b}
    own = compare.densenet
    dense = dict(shortcut="dense", depth=own.depth, growth_rate=own.growth_rate, bottleneck=own.bottleneck)
    dense["compression"] = own.compression
    return nets | ({about.densenet(config): dense} if own.depth else {})


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """Each architecture for each number of steps, every time from the start; the longest is what a run ends with."""
    import jax

    source = jaxdl.data.augmented(source, config.augmentation)
    steps = budgets(config, source)
    for variant in dict.fromkeys(row.variant for row in runs.rows):
        group = runs.where(np.array([row.variant == variant for row in runs.rows]))
        settings, name = group.rows[0].settings, about.fit_name(variant)
        shape = source.data["train"]["image"].shape[1:]
        task = jaxdl.tasks.classify(network(config, source, settings), shape)
        compared = settings["shortcut"] in ("none", "A")  # for every number of steps
        rule = optimizer(config, settings["depth"], steps[-1])
        metrics, outcomes, lost = {}, {}, None
        for count in steps if compared else steps[-1:]:
            last = count == steps[-1]
            rows = group if last else Runs(group.rows, [[]] * len(group))  # curves are of the longest training
            hyper = group.arrays()["hyper"] | {"steps": np.full(len(group), count, np.uint32)}
            options = dict(steps=count, evaluations=config.evaluations if last else 1)
            fitted = fit(name, task, rule, source, rows, {"hyper": hyper}, **options)
            end = "" if last else f"_at_{count}"
            metrics |= {metric + end: values for metric, values in fitted.metrics.items()}
            outcomes |= {metric + end: values for metric, values in fitted.outcomes.items()}
            lost = divergence(name, fitted.diverged, lost)
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(fitted.params))
        metrics["train_parameters"] = np.full(len(group), float(parameters))  # how many are trained
        measure = functools.partial(
            observed, name, task, source, group, fitted.params, fitted.model_state, config.observed.images
        )
        yield Done(group, metrics, outcomes, lost, measure if compared else dict)


def budgets(config: Any, source: Any) -> list[int]:
    """The numbers of steps to train for, in increasing order. UserError for shorter ones that are not."""
    longest, shorter = jaxdl.training.duration(config, source.steps_per_epoch), list(config.budgets)
    if shorter != sorted(set(shorter)) or not all(0 < count < longest for count in shorter):
        raise jaxdl.errors.UserError(
            f"budgets={tuple(shorter)} is not possible: valid are numbers of steps from 1 to {longest - 1}, less than "
            f"the longest training's {longest}, in increasing order"
        )
    return [*shorter, longest]


def network(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """The network of a variant: image [B, H, W, C] -> logits [B, classes]."""
    depth, initialisation = settings["depth"], config.model.initialisation
    if settings["shortcut"] != "dense":
        return jaxdl.models.CifarResNet(depth, source.classes, settings["shortcut"], initialisation)
    growth_rate, bottleneck, compression = (settings[key] for key in ("growth_rate", "bottleneck", "compression"))
    return jaxdl.models.CifarDenseNet(depth, growth_rate, source.classes, bottleneck, compression, initialisation)


def optimizer(config: Any, depth: int, longest: int) -> Callable:
    """The optimizer of one network, for a training of hyper["steps"] out of `longest`.

    The schedule is that of the longest training, run through in fewer steps: they are a value, so that trainings of all
    lengths are one compiled program. The deepest nets begin at warm_up.factor times the rate, for warm_up.steps. The
    paper's 110 layers do until their training error is below 80%, about 400 iterations (section 4.2).
    """
    import jax

    rule, warm_up = jaxdl.training.optimizer(config.optimizer, longest), config.warm_up
    lasts, factor = warm_up.steps * (depth >= warm_up.depth), np.float32(warm_up.factor)

    def of_hyper(hyper: dict) -> Any:
        whole = rule(hyper)

        def update(gradients: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
            share = state.step.astype(np.float32) / hyper["steps"].astype(np.float32)
            placed = state._replace(step=jax.numpy.round(share * np.float32(longest)).astype(np.int32))
            updates, after = whole.update(gradients, placed, params, **extra)
            if lasts:  # updates are in proportion to the rate
                updates = jax.tree.map(lambda u: jax.numpy.where(state.step < lasts, factor * u, u), updates)
            return updates, after._replace(step=state.step + np.int32(1))

        return whole._replace(update=update)

    return of_hyper


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """See experiments/_resnet_pictures.py."""
    from experiments import _resnet_pictures  # matplotlib, for the first time

    return _resnet_pictures.figures(config, results)


study = Study(
    name="resnet_depth",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=about.claims,
    figures=figures,
    published=about.published,
    differs=about.differs,
    notes=about.notes,
    select=("validation_error", "min"),
    columns=("test_error", "train_error", "validation_error"),
    further={
        "CIFAR-10 in a few hours": "--config=configs/resnet_depth.py:cifar10_small",
        "the paper's recipe, for an accelerator": "--config=configs/resnet_depth.py:paper",
    },
)

if __name__ == "__main__":
    study.main()
