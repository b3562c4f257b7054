"""A config says which of its keys nobody read, and its hash covers what a run is and nothing else."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdl.errors import UserError
from jaxdl.study.config import Config, content_hash, flatten

ROOT = Path(__file__).resolve().parents[2]

VALUES = {
    "seeds": 10,
    "data": {"name": "digits", "dir": "/data", "directory": "x"},
    "runtime": {"strategy": "jit", "nested": {"deep": 1}},
    "runtimes": 1,
    "tune": {"learning_rate": (0.1, 0.3)},
    "tuned": True,
    "compare": {"depths": (1, 2)},
    "compared": {"depths": (1, 2)},
    "hyper": {"learning_rate": 0.3, "seeds": 1.0},
    "model": {"widths": (8, 4), "runtime": 2, "unit": "relu"},
}
OUTSIDE = {"seeds", "data.dir", "runtime.strategy", "runtime.nested.deep", "tune.learning_rate", "compare.depths"}


def test_values_are_read_by_attribute_at_any_depth():
    config = Config(VALUES)
    assert config.seeds == 10
    assert config.data.name == "digits"
    assert config.runtime.nested.deep == 1
    assert config.model.widths == (8, 4)


@pytest.mark.parametrize(
    ("read", "bad", "nearest"),
    [
        (lambda config: config.sedes, "sedes", "seeds"),
        (lambda config: config.data.nme, "data.nme", "data.name"),
        (lambda config: config.runtime.nested.dep, "runtime.nested.dep", "runtime.nested.deep"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(read, bad, nearest):
    with pytest.raises(UserError) as caught:
        read(Config(VALUES))
    assert repr(bad) in str(caught.value)
    assert f"did you mean {nearest!r}?" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_cannot_be_set():
    config = Config(VALUES)
    with pytest.raises(AttributeError, match="seeds"):
        config.seeds = 3
    with pytest.raises(AttributeError, match="name"):
        config.data.name = "mnist"
    assert (config.seeds, config.data.name) == (10, "digits")


def test_unread_lists_the_keys_that_nobody_read():
    config = Config({"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}}, "g": {"h": 5, "i": 6}})
    assert config.unread() == ["a", "b.c", "b.d.e", "b.d.f", "g.h", "g.i"]
    _ = config.a, config.b.d.e
    section = config.b  # naming a section reads nothing of it
    assert config.unread() == ["b.c", "b.d.f", "g.h", "g.i"]
    _ = section.c
    config.g.as_dict()  # as a whole: all of it
    assert config.unread() == ["b.d.f"]
    config.content()  # to hand on or hash: none of it
    assert config.unread() == ["b.d.f"]


def test_flatten_joins_the_keys_of_sections():
    assert flatten({"a": 1, "b": {"c": (2,), "d": {"e": "x"}}}) == {"a": 1, "b.c": (2,), "b.d.e": "x"}


def test_the_hash_is_that_of_the_sorted_dotted_keys():
    """Written out by hand, so that no change of the code unnoticed makes people's finished runs start anew."""
    text = b'{"a": 1, "b.c": [0.1, 0.30000000000000004], "b.d": "x"}'
    assert content_hash({"b": {"d": "x", "c": (0.1, 0.1 + 0.2)}, "a": 1}) == hashlib.sha256(text).hexdigest()[:10]


def changed(values, dotted):
    """A copy of the nested values in which the one at the dotted key is another."""
    first, _, rest = dotted.partition(".")
    other = changed(values[first], rest) if rest else [values[first], "another"]
    return values | {first: other}


@pytest.mark.parametrize("key", flatten(VALUES))
def test_the_hash_changes_with_every_key_but_those_that_do_not_say_what_a_run_is(key):
    same = content_hash(changed(VALUES, key)) == content_hash(VALUES)
    assert same == (key in OUTSIDE)


def test_a_new_key_changes_the_hash_and_the_order_of_keys_does_not():
    assert content_hash(VALUES | {"momentum": 0.9}) != content_hash(VALUES)
    backwards = {key: VALUES[key] for key in reversed(VALUES)}
    backwards["model"] = {key: VALUES["model"][key] for key in reversed(VALUES["model"])}
    assert list(backwards) != list(VALUES)
    assert content_hash(backwards) == content_hash(VALUES)


def test_the_hash_is_the_same_in_another_process():
    code = f"from jaxdl.study.config import content_hash; print(content_hash({VALUES!r}))"
    hashes = set()
    for seed in ("1", "2"):  # of Python's own hashes of strings
        environment = os.environ | {"PYTHONHASHSEED": seed}
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
        )
        hashes.add(found.stdout.strip())
    assert hashes == {content_hash(VALUES)}
