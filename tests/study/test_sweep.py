"""What --sweep asks for, against plain enumeration, and every mistake in it on one line."""

import itertools

import pytest

from jaxdl.errors import UserError
from jaxdl.study import sweep

VALUES = {
    "seeds": 3,
    "batch_size": 32,
    "average": 0.0,
    "data": {"name": "digits", "dir": "", "train": 1200, "pictures": {"size": 28}},
    "model": {"hidden": 16, "unit": "sigmoid", "tied": False, "widths": (8, 4), "empty": ()},
    "optimizer": {"weight_decay": "kernel=1,bias=0", "milestones": (0.5, 0.75)},
    "hyper": {"learning_rate": 0.3, "momentum": 0.9},
    "tune": {"learning_rate": (0.1, 0.3)},
    "compare": {"depths": (1, 2)},
    "sweeps": {},
    "runtime": {"workers": 0},
}
NAMED = {"sizes": ("model.hidden=4,8", "batch_size=16,32"), "rates": "hyper.learning_rate=0.1,1"}


def grids(*texts):
    return sweep.grids(texts, VALUES, NAMED)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("hyper.learning_rate=1,0.1,1e-2", (1.0, 0.1, 0.01)),
        ("average=0", (0.0,)),
        ("batch_size=64,16", (64, 16)),
        ("model.unit=relu, tanh", ("relu", "tanh")),
        ("model.unit='relu',\"tanh\"", ("relu", "tanh")),
        ("model.unit=relu", ("relu",)),
        ("model.unit=01,1e-3,None", ("01", "1e-3", "None")),  # names, whatever Python makes of them
        ("optimizer.weight_decay='kernel=1,bias=0','.*=1'", ("kernel=1,bias=0", ".*=1")),
        ("model.tied=true,False", (True, False)),
        ("model.widths=(8,),(16, 8)", ((8,), (16, 8))),
        ("model.widths=[4]", ((4,),)),
        ("optimizer.milestones=(1,),(0.5, 1)", ((1.0,), (0.5, 1.0))),
    ],
)
def test_a_grid_has_the_type_of_the_configs_own_value(text, values):
    (found,) = grids(text).values()
    assert found == values
    assert repr(found) == repr(values)  # 1 == 1.0 == True


def test_grids_keep_their_order_and_names_stand_for_what_the_config_says():
    found = grids("average=0.5,0.9", "sizes", "rates")
    assert list(found.items()) == [
        ("average", (0.5, 0.9)),
        ("model.hidden", (4, 8)),
        ("batch_size", (16, 32)),
        ("hyper.learning_rate", (0.1, 1.0)),
    ]
    assert sweep.grids([], VALUES, NAMED) == {}


@pytest.mark.parametrize(
    ("texts", "parts"),
    [
        (["hyper.learning_rte=1"], ["'hyper.learning_rte'", "did you mean 'hyper.learning_rate'?"]),
        (["learning_rate=1"], ["'learning_rate'", "did you mean 'hyper.learning_rate'?"]),
        (["model=3"], ["'model'", "batch_size"]),
        (["hyper.learning_rate"], ["'hyper.learning_rate'", "KEY=VALUE"]),
        (["size"], ["'size'", "did you mean 'sizes'?", "rates"]),
        ([""], ["KEY=VALUE", "sizes"]),
        (["batch_size=16", "batch_size=32"], ["batch_size is swept twice"]),
        (["sizes", "model.hidden=2"], ["model.hidden is swept twice"]),
        (["batch_size=16,32,16"], ["batch_size=16,32,16", "twice"]),
        (["average=1,1.0"], ["average=1,1.0", "twice"]),
        (["model.unit=relu,'relu'"], ["twice"]),
        (["model.widths=(1,[2]),(1,[2])"], ["model.widths=[2]", "whole number"]),
        (["model.empty=(1,[2]),(1,[2])"], ["twice"]),
        (["batch_size="], ["--sweep=batch_size= ", "one or more values"]),
        (["model.unit="], ["one or more values"]),
        (["model.unit=relu,,tanh"], ["relu,,tanh", "one or more values"]),
        (["average=0.1,,0.2"], ["0.1,,0.2", "one or more values"]),
        (["batch_size=16,1.5"], ["batch_size=1.5", "a whole number"]),
        (["batch_size=True"], ["batch_size=True", "a whole number"]),
        (["hyper.momentum=0.9,O.5"], ["hyper.momentum=O.5", "a number"]),
        (["hyper.momentum={[]}"], ["hyper.momentum={[]}", "a number"]),
        (["hyper.momentum=nan"], ["hyper.momentum=nan", "a number"]),
        (["model.tied=1"], ["model.tied=1", "true or false"]),
        (["model.widths=8,4"], ["model.widths=8", "a tuple"]),
        (["model.widths=(8, 'x')"], ["model.widths=x", "a whole number"]),
        (["seeds=1,2"], ["seeds says nothing about a run", "--config.seeds=VALUE"]),
        (["runtime.workers=1"], ["runtime.workers says nothing about a run"]),
        (["runtime=1"], ["'runtime'"]),
        (["data.dir=a,b"], ["data.dir says nothing about a run"]),
        (["data.pictures.size=8"], ["data.pictures.size says nothing about a run"]),
        (["compare.depths=(1,)"], ["compare.depths says nothing about a run"]),
        (["tune.learning_rate=1,2"], ["hyper.learning_rate=...", "tune's grid"]),
    ],
    ids=str,
)
def test_a_sweep_that_is_not_possible_is_told_on_one_line(texts, parts):
    with pytest.raises(UserError) as caught:
        grids(*texts)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_points_are_all_combinations_and_a_config_gets_their_values():
    found = sweep.points(grids("sizes", "model.unit=relu,tanh"))
    assert [tuple(point.values()) for point in found] == list(itertools.product((4, 8), (16, 32), ("relu", "tanh")))
    assert sweep.points({}) == [{}]
    changed = sweep.at(VALUES, found[-1])
    assert (changed["model"]["hidden"], changed["batch_size"], changed["model"]["unit"]) == (8, 32, "tanh")
    assert changed["data"] == VALUES["data"] and VALUES["model"]["hidden"] == 16


@pytest.mark.parametrize("value", [0.1, 1.0, 3e-05, 0.123456789, 1 / 3, 1e38, 16, "relu", True, (8, 4)])
def test_what_is_shown_of_a_value_is_that_very_value(value):
    key = {float: "average", int: "batch_size", str: "model.unit", bool: "model.tied", tuple: "model.widths"}
    name = key[type(value)]
    assert grids(f"{name}={sweep.shown(value)}") == {name: (value,)}
    assert sweep.named({name: value, "x": 2.0}) == f"{name}={sweep.shown(value)}, x=2"
