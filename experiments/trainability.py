"""Why deep networks were hard to train. Glorot & Bengio 2010; He et al. 2015; Ioffe & Szegedy 2015.

Networks of 2 to 30 equal layers: what reaches their layers before and after training, how many steps they need and
how well they end, by unit, initialisation, batch norm and shortcuts, each at its own best learning rate; several
starting points against one; and functions that deep networks represent with few units, shallow ones with many.

Minutes: 10 (digits, 2 CPU cores).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import jaxdl
from experiments import _trainability_claims as about
from experiments._expressivity import FUNCTIONS, function_source
from experiments._trainability_signals import observed
from experiments._vae_fits import picked, unlogged
from jaxdl.errors import UserError, unknown
from jaxdl.study import Done, Runs, Study, divergence

# What names of variants call an initialisation, and what jaxdl.models does.
INITIALISATIONS = {
    "small": "small_normal", "standard": "standard_uniform", "lecun": "lecun_normal", "glorot": "glorot_normal",
    "he": "he_normal", "orthogonal": "orthogonal",
}  # fmt: skip


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Families at each depth; some at one depth with other initial scales; several starts; functions, deep or not."""
    compare, functions = config.compare, config.functions
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
    if start not in INITIALISATIONS:
        raise unknown(f"initialisation of the family {name!r}", start, INITIALISATIONS)
    return {"unit": unit, "initialisation": start, "normalisation": kind or "none"}


def program(row: Any) -> dict[str, Any]:
    """What is static in a run beside the config: all but its initialisation, which is a value."""
    return {name: value for name, value in row.settings.items() if name != "initialisation"}


def fit_name(settings: dict[str, Any]) -> str:
    """ "relu_30", "relu_30_residual", "relu_2_starts", "sawtooth_relu_4"."""
    parts = [settings.get("function", ""), settings["unit"], str(settings["depth"])]
    parts += [settings["normalisation"].replace("none", ""), "starts" * ("starts" in settings)]
    return "_".join(part for part in parts if part)


def train(config: Any, source: Any, runs: Any, fit: Callable) -> Iterator[Done]:
    """One fit for all runs of a unit, a normalisation and a depth; then a look at what reached the layers."""
    require_possible(config, runs)
    programs = [program(row) for row in runs.rows]
    for settings in [each for number, each in enumerate(programs) if each not in programs[:number]]:
        group = runs.where(np.array([each == settings for each in programs]))
        own = function_source(config, source, settings["function"]) if "function" in settings else source
        name, task = fit_name(settings), objective(config, own, settings)
        fitted = trained(config, own, settings, group, fit)
        if "starts" in settings:
            fitted = best_start(config, own, name, task, group, fitted, fit)
        reached = fitted.model_state["steps_to_loss"]["reached"]
        metrics = fitted.metrics | {"train_steps_to_loss": np.where(reached > 0, reached, duration(config, own))}

        measure = functools.partial(
            observed,
            own,
            name,
            task,
            given(config, own, group),
            fitted,
            config.observed.images,
            config.observed.jacobians,
        )
        looked = not {"function", "starts"} & set(settings)
        lost = divergence(name, fitted.diverged)
        yield Done(group, metrics, fitted.outcomes, lost, measure if looked else dict)


def duration(config: Any, source: Any) -> int:
    """Steps of every fit."""
    return jaxdl.training.duration(config, source.steps_per_epoch)


def network(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """The network of a program; its initialisation is the one that `start` scales."""
    width = settings.get("width", config.model.width)
    return jaxdl.models.DeepMLP(
        settings["depth"], width, source.classes, settings["unit"], settings["normalisation"], "lecun_normal"
    )


def objective(config: Any, source: Any, settings: dict[str, Any]) -> Any:
    """Cross-entropy from weights that a run's gains scale, counting the steps until the loss is low."""
    net, shape = network(config, source, settings), source.data["train"]["image"].shape[1:]
    task = jaxdl.tasks.classify(net, shape)._replace(init=start(net, shape))
    return jaxdl.tasks.steps_to_loss(task, config.target_loss)


def start(net: Any, shape: tuple[int, ...]) -> Callable:
    """(run, key) -> where it begins: Gaussian or orthogonal kernels, times the run's gain for each kind of layer.

    Gaussian kernels have variance 1 / inputs: initialisations that differ in variance alone are one program.
    """
    import jax

    def init(run: dict, key: Any) -> tuple[Any, Any]:
        key = jax.random.fold_in(key, run["start"])
        params, state = jaxdl.models.initialise(net, key, shape)
        for layer, gain in run["gains"].items():
            if layer in params:  # a network of one hidden layer has no "hidden"
                dense = params[layer].get("dense", params[layer])
                drawn = dense["kernel"]
                kernel = jax.numpy.where(run["orthogonal"] > 0, jaxdl.models.orthogonalised(drawn), drawn)
                dense["kernel"] = run["hyper"]["gain"] * gain * kernel
        return params, state

    return init


def given(config: Any, source: Any, group: Any) -> dict[str, Any]:
    """Beside seeds and hyperparameters: where each run starts, {"gains": {layers: [R]}, "orthogonal", "start": [R]}."""
    width, classes = group.rows[0].settings.get("width", config.model.width), source.classes
    inputs = int(np.prod(source.data["train"]["image"].shape[1:]))
    shapes = {"first": (inputs, width), "hidden": (width, width), "output": (width, classes)}
    names = [INITIALISATIONS[row.settings["initialisation"]] for row in group.rows]
    return group.arrays() | {
        "gains": {
            layer: np.array([jaxdl.models.gain(name, *shape) for name in names], np.float32)
            for layer, shape in shapes.items()
        },
        "orthogonal": np.array([name == "orthogonal" for name in names], np.float32),
        "start": np.zeros(len(group), np.uint32),
    }


def trained(config: Any, source: Any, settings: dict[str, Any], group: Any, fit: Callable) -> Any:
    """The fit of a program; of `starts`, all starting points of each run after another, R of them for each start."""
    steps, count = duration(config, source), settings.get("starts", 1)
    extra = given(config, source, group)
    if count > 1:
        extra = picked(extra, np.tile(np.arange(len(group)), count))
        extra["start"] = np.repeat(np.arange(count, dtype=np.uint32), len(group))
        group = Runs(group.rows * count, [[]] * (len(group) * count))
    task, rule = objective(config, source, settings), jaxdl.training.optimizer(config.optimizer, steps)
    options = dict(steps=steps, evaluations=config.evaluations)
    return fit(fit_name(settings), task, rule, source, group, extra, **options)


def best_start(config: Any, source: Any, name: str, task: Any, group: Any, fitted: Any, fit: Callable) -> Any:
    """Of each run's starting points the one with the least validation loss: a fit of no steps that measures it."""
    loss = np.where(fitted.diverged > 0, np.inf, fitted.metrics["validation_loss"]).reshape(-1, len(group))
    chosen = loss.argmin(axis=0) * len(group) + np.arange(len(group))  # [R], places among all starts
    ends = {"params": fitted.params, "state": fitted.model_state}
    after = task._replace(init=lambda run, key: (run["end"]["params"], run["end"]["state"]))
    extra = given(config, source, group) | {"end": picked(ends, chosen)}
    rule = jaxdl.training.optimizer(config.optimizer, 1)
    best = fit(f"{name}_best", after, rule, source, unlogged(group), extra, steps=0)
    return best._replace(diverged=fitted.diverged[chosen])


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
