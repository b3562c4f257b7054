"""Inputs of launch.compare, and what it says of them."""

import csv
import io

import numpy as np

from jaxdl.study import folders
from jaxdl.study.runs import Run

CLAIM = '[[claim]]\nid = "x"\ntext = "one is less"\npaper = "ours"\nmetric = "test_error"\n'
LESS = CLAIM + 'relation = "less"\none = "one"\nother = "other"\n'


def table(path, values, extra=()):
    """A CSV of {variant: {metric: values [S]}}; a value None is left out."""
    lines = [("variant", "seed", "metric", "value")]
    for variant, metrics in values.items():
        for metric, numbers in metrics.items():
            lines += [(variant, s, metric, repr(float(x))) for s, x in enumerate(numbers) if x is not None]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*lines, *extra])
    return path


def store(workdir, variant, seed, metrics, point="aaaa", outcomes=None, diverged="", config=None):
    run = Run(variant, seed, {}, {}, point, {})
    folder = folders.run_folder(workdir, run)
    folders.begin(folder, config or {"hyper": {}})
    folders.finish(folder, metrics, outcomes or {}, diverged)
    return run


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def draws(mean, count=5, seed=0, spread=0.01):
    return mean + spread * np.random.default_rng(seed).standard_normal(count)


def two(path, *means, **options):
    names = ("one", "other", "third")
    columns = [draws(mean, seed=number, **options) for number, mean in enumerate(means)]
    metrics = {name: {"test_error": own} for name, own in zip(names, columns, strict=False)}
    return table(path, metrics), columns


def refused(result, message):
    status, out, err = result
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert message in err
