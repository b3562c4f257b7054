"""Does weight decay help? A study of a second or two, for tests.

One hidden layer on the digits.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jaxdl
from jaxdl.study import Done, Study, divergence

SELECT = ("validation_error", "min")


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """With the config's weight decay, and without."""
    return {kind: {} if kind == "decay" else {"hyper.weight_decay": 0.0} for kind in config.compare.kinds}


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all."""
    shape = source.data["train"]["image"].shape[1:]
    network = jaxdl.models.MLP((config.model.hidden,), source.classes, config.model.unit, "glorot_uniform")
    task = jaxdl.tasks.classify(network, shape)
    steps = jaxdl.training.duration(config, source.steps_per_epoch)
    optimizer = jaxdl.training.optimizer(config.optimizer, steps)
    fitted = fit("net", task, optimizer, source, runs, steps=steps, evaluations=config.evaluations, select=SELECT)
    yield Done(runs, fitted.metrics, fitted.outcomes, divergence("net", fitted.diverged))


def claims(config: Any) -> list[Any]:
    """That weight decay helps."""
    return [jaxdl.study.claims.less("helps", "Decay <b>helps</b>", "nobody", "test_error", "decay", "plain")]


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """Learning curves."""
    bands = {row.variant: results.band(row, "net", "validation_error") for row in results.rows}
    curves = {variant: band for variant, band in bands.items() if band[0]}
    return {"curves": jaxdl.study.figures.bands(curves, "step", "validation error")} if curves else {}


study = Study(
    name="tiny",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=claims,
    figures=figures,
    select=SELECT,
    columns=("test_error", "train_error", "validation_error"),
)

if __name__ == "__main__":
    study.main()
