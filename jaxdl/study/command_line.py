"""The command line that all entry points share: --config with overrides, one-line errors, --help without imports."""

import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxdl.errors import UserError, unknown
from jaxdl.study import sweep
from jaxdl.study.config import flatten


def main(
    recipe: Path, help_text: Callable[[], str], define: Callable[[], list[str]], body: Callable[[list[str]], None]
) -> None:
    """Parse the command line of an entry point, whose own recipe is the file configs/NAME.py, and call `body(words)`.

    define: defines absl flags beyond --config and --offline, and returns their names
    body: gets the words that are no options; reads `absl.flags.FLAGS`

    A UserError ends the process with status 2 and one line.
    """
    from absl import app, flags, logging
    from ml_collections import config_flags

    try:
        if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(sys.argv[1:]):
            print(help_text(), flush=True)
            return
        chosen = _check_overrides(sys.argv, recipe)
    except UserError as error:
        _stop(error)
    except BrokenPipeError:
        _fall_silent()
        return
    config_flags.DEFINE_config_file("config", chosen, lock_config=True)
    flags.DEFINE_bool("offline", False, "")
    options = ["config", "offline", *define()]

    def parse(argv: list[str]) -> list[str]:
        try:
            words = flags.FLAGS(argv)
        except flags.UnrecognizedFlagError as error:
            _stop(unknown("option", f"--{error.flagname}", [f"--{option}" for option in options]))
        except (flags.Error, ValueError) as error:  # ValueError for `--nolist=3`
            _stop(UserError(str(error).replace("\n", " ")))
        if flags.FLAGS.offline:
            os.environ["JAXDL_OFFLINE"] = "1"  # for processes that this one starts, too
        return words

    def run(words: list[str]) -> None:
        # absl sends what libraries log to the terminal; what matters reaches us as an exception.
        logging.set_verbosity(logging.FATAL)
        body(words[1:])

    try:
        app.run(run, flags_parser=parse)
    except UserError as error:
        _stop(error)
    except BrokenPipeError:
        _fall_silent()


def values(config: Any) -> dict[str, Any]:
    """A config as nested plain values. Tuples of texts given as "a,b" on the command line arrive as one text."""

    def split(value: Any) -> Any:
        if isinstance(value, dict):  # in `sweeps`, a comma belongs to the text
            return {key: inner if key == "sweeps" else split(inner) for key, inner in value.items()}
        if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str) and "," in value[0]:
            return tuple(part.strip() for part in value[0].split(",") if part.strip())
        return value

    return split(config.to_dict())


def spelled(name: str, values: dict[str, Any], recipe: Path, workdir: Path, only: str, swept: Sequence[str]) -> str:
    """The command that asks for these values: the recipe's nearest preset, and what that has not, as overrides."""
    module, own = load_config(recipe), flatten(values | {"sweeps": {}})
    best: tuple[tuple[int, int], list[str]] | None = None
    for preset in module.PRESETS:
        default = flatten(module.get_config(preset).to_dict() | {"sweeps": {}})
        words = [f"--config={recipe.parent.name}/{recipe.name}:{preset}"] * (preset != module.PRESETS[0])
        # A hyperparameter that is tuned has no value of its own: the command line would refuse one.
        words += [
            f"--config.{key}={value}"
            for key, value in own.items()
            if default.get(key) != value and key.replace("hyper.", "tune.", 1) not in own.keys() - {key}
        ]
        cost = len(own.keys() ^ default.keys()), len(words)  # no override makes or removes a key
        best = min(best or (cost, words), (cost, words), key=lambda found: found[0])
    words = best[1] + [f"--workdir={workdir}"] * (workdir != Path("runs") / name)
    words += [f"--only={only}"] * bool(only) + [f"--sweep={text}" for text in sweep.spelled(swept, values["sweeps"])]
    return f"python -m experiments.{name} {shlex.join(words)}".strip()


def _check_overrides(argv: list[str], default: Path) -> str:
    """Before absl reads the flags: is there such a config, such a preset, and does it have the keys that are set?

    Returns the chosen FILE[:PRESET].
    """
    chosen = str(default)
    for number, word in enumerate(argv):
        if word in ("--config", "-config") and number + 1 < len(argv):
            chosen = argv[number + 1]
        elif word.startswith(("--config=", "-config=")):
            chosen = word.split("=", 1)[1]
    path, _, preset = chosen.partition(":")
    config = load_config(Path(path), default.parent).get_config(preset)
    keys = flatten(config.to_dict())
    recipe = flatten(load_config(default).get_config().to_dict())  # what the study reads, for some variant at least
    for key in keys:
        if key not in recipe and not key.startswith(("tune.", "sweeps.")):
            raise _unknown_key(key, recipe)
    for word in argv[1:]:
        name = word.lstrip("-").split("=", 1)[0]
        if not word.startswith("-") or not name.startswith("config."):
            continue
        key = name.removeprefix("config.")
        if key not in keys:
            raise _unknown_key(key, keys)
        tuned = key.replace("hyper.", "tune.", 1)
        if key.startswith("hyper.") and tuned in keys:
            raise UserError(f"--{name} has no effect, because this study tunes it: set --config.{tuned}=VALUE,...")
        if "=" not in word:
            raise UserError(f"--{name} has no value: write --{name}=VALUE")
    return chosen


def _unknown_key(key: str, keys: Iterable[str]) -> UserError:
    section = key.rpartition(".")[0]
    beside = sorted({name for name in keys if name.rpartition(".")[0] == section})
    sections = sorted({name.split(".")[0] + ".*" for name in keys if "." in name}) if not section else []
    return unknown("config key", key, [*beside, *sections] or keys, near=keys)


def recipe(entry: str, name: str) -> Path:
    """configs/NAME.py beside the folder of an entry point. entry: a module of that folder"""
    return Path(sys.modules[entry].__file__).resolve().parents[1] / "configs" / f"{name}.py"


def load_config(path: Path, known: Path | None = None) -> Any:
    """The module of a config file: code of the checkout or the user's own. UserError where it is not there.

    known: the folder whose files are named as valid then
    """
    if not path.is_file():
        folder = known or path.parent
        recipes = [each for each in folder.glob("*.py") if "def get_config" in each.read_text()]
        raise unknown("config file", path, sorted(f"{folder.name}/{each.name}" for each in recipes))
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} is no recipe: it has no function get_config")
    return module


def _stop(error: UserError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _fall_silent() -> None:
    """Write to nowhere from now on: the reader of our output has gone, as in `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
