"""A study as a command: flags, config, plan, runs, table. The one place where studies meet training."""

import dataclasses
import importlib.util
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from jaxdl.errors import UserError, unknown
from jaxdl.study.config import Config, flatten

CHECKOUT = Path(__file__).resolve().parents[2]

HELP = """
usage: python -m experiments.{name} [options]

  --config=FILE[:PRESET]   the recipe; default configs/{name}.py
  --config.a.b=VALUE       override one value of the recipe
  --workdir=DIR            where results go; default runs/{name}.
                           Repeating a command continues it
  --seeds=N                seeds 0..N-1
  --only=GLOB,...          a subset of the variants
  --strategy=jit|pmap      spread runs over the devices, or split each batch over them
  --device=cpu|gpu|tpu     default: the best there is
  --list                   dry run: runs, parameters, steps, programs

presets   {presets}
variants  {variants}
"""


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper-style comparison.

    name: of the module and of its config; doc: the module's docstring
    variants: config -> {label: {"hyper.NAME": value, setting: value}}
    train: (config, source, runs, fit) -> yields Done, group by group; pure but for `fit`
    figures: (config, source, results, fit) -> {name: matplotlib Figure}; its `fit` returns what is stored
    select: (validation metric, "min" or "max") that chooses among tuning points
    columns: metrics of the table; notes: config -> what its reader must know of this study
    further: what to run next, {what: arguments}, printed at the end
    """

    name: str
    doc: str
    variants: Callable[[Config], dict[str, dict[str, Any]]]
    train: Callable[..., Iterator[Any]]
    figures: Callable[..., dict[str, Any]]
    select: tuple[str, str]
    columns: tuple[str, ...]
    notes: Callable[[Config], list[str]] = lambda config: []
    further: dict[str, str] = dataclasses.field(default_factory=dict)

    def main(self) -> None:
        """Run from the command line; exits 2 with one line for a mistake, 128 + signal when interrupted."""
        from absl import app, flags
        from ml_collections import config_flags

        try:
            if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(sys.argv[1:]):
                print(self._help(), flush=True)
                return
            chosen = _check_overrides(sys.argv, CHECKOUT / "configs" / f"{self.name}.py")
        except UserError as error:
            _stop(error)
        except BrokenPipeError:
            _fall_silent()
            return
        config_flags.DEFINE_config_file("config", chosen, lock_config=True)
        flags.DEFINE_string("workdir", f"runs/{self.name}", "")
        flags.DEFINE_integer("seeds", None, "")
        flags.DEFINE_string("only", "", "")
        flags.DEFINE_string("strategy", None, "")
        flags.DEFINE_string("device", None, "")
        flags.DEFINE_bool("list", False, "")
        try:
            app.run(self._command, flags_parser=self._parse)
        except UserError as error:
            _stop(error)
        except BrokenPipeError:
            _fall_silent()

    def _help(self) -> str:
        module = _load_config(CHECKOUT / "configs" / f"{self.name}.py")
        labels = list(self.variants(Config(module.get_config().to_dict())))
        presets, variants = (
            textwrap.fill(", ".join(names), 98, initial_indent=" " * 10, subsequent_indent=" " * 10).strip()
            for names in (module.PRESETS, labels)
        )
        doc = "\n\n".join(textwrap.fill(part, 98) for part in self.doc.strip().split("\n\n"))
        return doc + "\n" + HELP.format(name=self.name, presets=presets, variants=variants)

    def _parse(self, argv: list[str]) -> list[str]:
        from absl import flags

        try:
            rest = flags.FLAGS(argv)
        except flags.UnrecognizedFlagError as error:
            known = [name for name in ("config", "workdir", "seeds", "only", "strategy", "device", "list")]
            _stop(unknown("option", f"--{error.flagname}", [f"--{name}" for name in known]))
        except (flags.Error, ValueError) as error:  # ValueError for `--nolist=3`
            _stop(UserError(str(error).replace("\n", " ")))
        if len(rest) > 1:
            _stop(UserError(f"unexpected argument {rest[1]!r}: options begin with --"))
        return rest

    def _command(self, argv: list[str]) -> None:
        from absl import flags

        options = flags.FLAGS
        values = _split_texts(options.config.to_dict())
        if options.seeds is not None:
            values["seeds"] = options.seeds
        if options.strategy is not None:
            values["runtime"]["strategy"] = options.strategy
        if options.device is not None:
            values["runtime"]["device"] = options.device
        from absl import logging

        from jaxdl.training.stopping import Interrupted, Requests

        # absl sends what libraries log to the terminal; what matters reaches us as an exception.
        logging.set_verbosity(logging.FATAL)
        requests = Requests()
        command = f"python -m experiments.{self.name} {shlex.join(sys.argv[1:])}".strip()
        try:
            with requests.listening():
                from jaxdl.study.run import run_study  # jax, for the first time

                run_study(self, values, Path(options.workdir), options.only, options.list, command, requests)
        except Interrupted as stop:
            saved = "the last checkpoint stays" if stop.cut else "everything is saved"
            print(f"stopped by {stop}: {saved}, repeat the command to go on", file=sys.stderr)
            sys.exit(stop.status)


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
    config = _load_config(Path(path)).get_config(preset)
    keys = flatten(config.to_dict())
    recipe = flatten(_load_config(default).get_config().to_dict())  # what the study reads, for some variant at least
    for key in keys:
        if key not in recipe and not key.startswith("tune."):
            raise _unknown_key(key, recipe)
    for word in argv[1:]:
        name = word.lstrip("-").split("=", 1)[0]
        if not word.startswith("-") or not name.startswith("config."):
            continue
        key = name.removeprefix("config.")
        if key not in keys:
            raise _unknown_key(key, keys)
        if key.removeprefix("hyper.") in config.tune and key.startswith("hyper."):
            tuned = "tune." + key.removeprefix("hyper.")
            raise UserError(f"--{name} has no effect, because this study tunes it: set --config.{tuned}=VALUE,...")
        if "=" not in word:
            raise UserError(f"--{name} has no value: write --{name}=VALUE")
    return chosen


def _unknown_key(key: str, keys: Iterable[str]) -> UserError:
    section = key.rpartition(".")[0]
    beside = sorted({name for name in keys if name.rpartition(".")[0] == section})
    sections = sorted({name.split(".")[0] + ".*" for name in keys if "." in name}) if not section else []
    return unknown("config key", key, [*beside, *sections] or keys, near=keys)


def _split_texts(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples of texts given as "a,b" on the command line, which arrive as one text, taken apart like numbers are."""

    def split(value: Any) -> Any:
        if isinstance(value, dict):
            return _split_texts(value)
        if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str) and "," in value[0]:
            return tuple(part.strip() for part in value[0].split(",") if part.strip())
        return value

    return {key: split(value) for key, value in values.items()}


def _load_config(path: Path) -> Any:
    """The module of a config file. Configs are code of this checkout or the user's own."""
    if not path.is_file():
        presets = sorted(str(found.relative_to(CHECKOUT)) for found in (CHECKOUT / "configs").glob("*.py"))
        raise unknown("config file", path, presets)
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _stop(error: UserError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _fall_silent() -> None:
    """Write to nowhere from now on: the reader of our output has gone, as in `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
