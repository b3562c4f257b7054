"""Why deep networks were hard to train. Glorot & Bengio 2010; He et al. 2015; Ioffe & Szegedy 2015.

Networks of 2 to 30 equal layers: what reaches their layers before and after training, how many steps they need and
how well they end, by unit, initialisation, batch norm and shortcuts, each at its own best learning rate; several
starting points against one; and functions that deep networks represent with few units, shallow ones with many.

Minutes: 12 (digits, 2 CPU cores).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments import _trainability_claims as about
from experiments import _trainability_fits as fits
from experiments._expressivity import FUNCTIONS, function_source
from experiments._trainability_signals import observed
from jaxdl.errors import UserError, unknown
from jaxdl.study import Done, Study, divergence


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Families at each depth; some at one depth with other initial scales; several starts; functions, deep or not."""
    compare, functions = config.compare, config.functions
    compare.as_dict(), functions.as_dict()  # not all presets look at all of them
    depths = [*compare.depths, compare.gain_depth]
    if not compare.depths or list(compare.depths) != sorted(set(compare.depths)) or min(depths) < 1:
        raise UserError(
            f"compare.depths={tuple(compare.depths)} and compare.gain_depth={compare.gain_depth} are not possible: "
            "valid are numbers of hidden layers from 1, each once, in increasing order"
        )
    found = {
        about.label(family, depth): of_family(family) | {"depth": depth}
        for family in compare.families
        for depth in compare.depths
    }
    for family in compare.gain_families:
        own = of_family(family) | {"depth": compare.gain_depth}
        found |= {about.label(family, compare.gain_depth): own}
        found |= {about.label(family, compare.gain_depth, gain): own | {"hyper.gain": gain} for gain in compare.gains}
    if compare.starts:
        found[about.starts(config)] = of_family("relu-he") | {"depth": compare.depths[0], "starts": compare.starts}
    for function in compare.functions:
        if function not in FUNCTIONS:
            raise unknown("function in compare.functions", function, FUNCTIONS)
        own = of_family("relu-he") | {"function": function}
        total = functions.teeth * functions.units
        found |= {
            f"{function}-deep": own | {"depth": functions.teeth, "width": functions.units},
            f"{function}-shallow": own | {"depth": 1, "width": total},
        }
    return found


def of_family(name: str) -> dict[str, str]:
    """ "relu-he-residual" -> {"unit": "relu", "initialisation": "he", "normalisation": "residual"}."""
    unit, _, rest = name.partition("-")
    start, _, kind = rest.partition("-")
    if start not in fits.INITIALISATIONS:
        raise unknown(f"initialisation of the family {name!r}", start, fits.INITIALISATIONS)
    return {"unit": unit, "initialisation": start, "normalisation": kind or "none"}


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all runs of a unit, a normalisation and a depth; then a look at what reached the layers."""
    require_possible(config, runs)
    for settings, group in runs.grouped(fits.program):
        own = function_source(config, source, settings["function"]) if "function" in settings else source
        name, task = fits.fit_name(settings), fits.objective(config, own, settings)
        fitted = fits.trained(config, own, settings, group, fit)
        if "starts" in settings:
            fitted = fits.best_start(config, own, name, task, group, fitted, fit)
        reached = fitted.model_state["steps_to_loss"]["reached"]
        metrics = fitted.metrics | {"train_steps_to_loss": np.where(reached > 0, reached, fits.duration(config, own))}
        seen = dict(images=config.observed.images, jacobians=config.observed.jacobians)
        measure = functools.partial(observed, own, name, task, fits.given(config, own, group), fitted, **seen)
        looked = not {"function", "starts"} & set(settings)
        lost = divergence(name, fitted.diverged)
        yield Done(group, metrics, fitted.outcomes, lost, measure if looked else dict)


def require_possible(config: Any, runs: Any) -> None:
    """UserError for values that make no sense, and for a depth of which not one run fits into memory.

    A layer takes its weights four times (value, gradient, momentum, update), and three arrays of the batch for the
    way down: s, and what the unit and its slope are there.
    """
    counts = {f"functions.{name}": value for name, value in config.functions.as_dict().items()}
    counts |= {f"observed.{name}": value for name, value in config.observed.as_dict().items()}
    counts |= {"model.width": config.model.width, "target_loss": config.target_loss}
    wrong = next((name for name, value in counts.items() if not value > 0), None)
    if wrong:
        raise UserError(f"{wrong}={counts[wrong]} is not possible: valid is more than 0")
    width, batch, memory = config.model.width, config.batch_size, config.runtime.memory_gigabytes
    layer = 4 * (4 * (width * width + width) + 3 * batch * width)  # bytes
    most, deepest = int(1e9 * memory / layer), max(row.settings["depth"] for row in runs.rows)
    if deepest > most:
        raise UserError(
            f"a depth of {deepest:,} does not fit: a run with layers of {width} units would take "
            f"{1e-9 * deepest * layer:.1f} GB, and runtime.memory_gigabytes={memory:g} hold {most:,} layers"
        )


def figures(config: Any, source: Any, results: Any, fit: Callable) -> dict[str, Any]:
    """See experiments/_trainability_pictures.py."""
    from experiments import _trainability_pictures  # matplotlib, for the first time

    return _trainability_pictures.figures(config, source, results, fit)


study = Study(
    name="trainability",
    doc=__doc__,
    variants=variants,
    train=train,
    claims=about.claims,
    figures=figures,
    differs=about.differs,
    notes=about.notes,
    select=("validation_error", "min"),
    columns=("test_error", "train_steps_to_loss", "train_log10_gradient_at_0"),
    further={"all units and initialisations, in hours": "--config=configs/trainability.py:full"},
)

if __name__ == "__main__":
    study.main()
