"""Grids over config keys: what a study tunes its variants over, and what --sweep adds.

--sweep='hyper.learning_rate=0.1,0.03' --sweep='model.hidden=32,64'     a product
--sweep=NAME                                                            what the config's `sweeps` calls so
"""

import ast
import copy
import itertools
from collections.abc import Sequence
from typing import Any

from jaxdl.errors import UserError, unknown
from jaxdl.study.config import NOT_HASHED, flatten


def grids(texts: Sequence[str], values: dict[str, Any], named: dict[str, Any]) -> dict[str, tuple]:
    """{dotted key: values} of some --sweep texts.

    values: the config, nested; a grid gets the types that it has. named: {name of a sweep: what it stands for}
    """
    found: dict[str, tuple] = {}
    keys = {key: value for key, value in flatten(values).items() if not _outside(key)}
    for text in spelled(texts, named):
        key, _, rest = text.partition("=")
        if key.startswith("tune."):
            raise UserError(f"--sweep={text}: write hyper.{key.removeprefix('tune.')}=..., which replaces tune's grid")
        if _outside(key) and key in flatten(values):
            raise UserError(f"--sweep={text}: {key} says nothing about a run; set it with --config.{key}=VALUE")
        if key.startswith("data."):
            raise UserError(
                f"--sweep={text}: a sweep chooses by validation error, which other data make another; launch once for "
                f"each value with --config.{key}=VALUE, and compare with launch.compare --columns={key}"
            )
        if key not in keys:
            raise unknown("config key in --sweep", key, _beside(key, keys), near=keys)
        if key in found:
            raise UserError(f"--sweep={text}: {key} is swept twice; give all its values at once")
        found[key] = _typed(key, rest, keys[key])
    return found


def spelled(texts: Sequence[str], named: dict[str, Any]) -> list[str]:
    """The KEY=VALUES of all texts, names of sweeps replaced by what they stand for."""
    spelled: list[str] = []
    for text in texts:
        if "=" in text:
            spelled.append(text)
        elif text in named:
            spelled += [named[text]] if isinstance(named[text], str) else named[text]
        else:
            raise unknown("sweep", text, ["KEY=VALUE,...", *named])
    return spelled


def points(grids: dict[str, tuple]) -> list[dict[str, Any]]:
    """Every combination of the values of some grids; one empty point where there is no grid."""
    return [dict(zip(grids, values, strict=True)) for values in itertools.product(*grids.values())]


def at(values: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """A config, nested, with the values of a point in it."""
    changed = copy.deepcopy(values)
    for key, value in point.items():
        *sections, name = key.split(".")
        inner = changed
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return changed


def shown(value: Any) -> str:
    """A value as it is written in a sweep and shown in a table: short, and always this very value."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def named(point: dict[str, Any]) -> str:
    """A point in words: "model.hidden=32, batch_size=16"."""
    return ", ".join(f"{key}={shown(value)}" for key, value in point.items())


def _outside(key: str) -> bool:
    """Whether a key says nothing about what one run is."""
    return any(key == each or key.startswith(each + ".") for each in NOT_HASHED)


def _beside(key: str, keys: dict[str, Any]) -> list[str]:
    section = key.rpartition(".")[0]
    return sorted(name for name in keys if name.rpartition(".")[0] == section) or sorted(keys)


def _typed(key: str, text: str, like: Any) -> tuple:
    """The values of a grid, of the type of the config's own value."""
    parts = _parts(text, type(like))
    if not parts or "" in parts:
        raise UserError(f"--sweep={key}={text} is not possible: a grid is one or more values, as in {key}=A,B")
    values = tuple(_value(key, part, like) for part in parts)
    if len(set(map(repr, values))) < len(values):
        raise UserError(f"--sweep={key}={text} is not possible: a value stands there twice")
    return values


def _parts(text: str, kind: type) -> list[Any]:
    """What stands between the commas: Python's values, and names, which need no quotes."""
    parts = _literal(f"[{text}]")
    if isinstance(parts, str) or (kind is str and not all(isinstance(part, str) for part in parts)):
        texts = [part.strip() for part in text.split(",")]
        parts = [_literal(part) for part in texts]
        if kind is str:
            return [part if isinstance(part, str) else own for part, own in zip(parts, texts, strict=True)]
    return parts


def _literal(text: str) -> Any:
    """What Python reads in a text; the text itself where that is nothing."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):  # TypeError: {[]}
        return text


def _value(key: str, part: Any, like: Any) -> Any:
    kind = type(like)
    if kind is str:
        return str(part)
    if kind is bool and str(part).lower() in ("true", "false"):
        return str(part).lower() == "true"
    if (kind is float or key.startswith("hyper.")) and isinstance(part, int | float) and not isinstance(part, bool):
        return float(part)
    if kind is int and isinstance(part, int) and not isinstance(part, bool):
        return part
    if kind is tuple and isinstance(part, tuple | list):
        return tuple(_value(key, each, like[0]) for each in part) if like else tuple(part)
    valid = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a tuple, as in (1, 2)"}
    raise UserError(f"--sweep: {key}={part} is not possible: valid is {valid.get(kind, kind.__name__)}")
