"""A study as a command: flags, config, plan, runs, table. The one place where studies meet training."""

import dataclasses
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdl.errors import UserError
from jaxdl.study import command_line
from jaxdl.study.config import Config

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
  --offline                use only data that are here; download nothing
  --report                 the table and the report anew from what is there, without training
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
    claims: config -> what the papers claim of these variants, see `jaxdl.study.claims`
    further: what to run next, {what: arguments}, printed at the end
    """

    name: str
    doc: str
    variants: Callable[[Config], dict[str, dict[str, Any]]]
    train: Callable[..., Iterator[Any]]
    figures: Callable[..., dict[str, Any]]
    select: tuple[str, str]
    columns: tuple[str, ...]
    claims: Callable[[Config], list[Any]] = lambda config: []
    notes: Callable[[Config], list[str]] = lambda config: []
    further: dict[str, str] = dataclasses.field(default_factory=dict)

    def main(self) -> None:
        """Run from the command line; exits 2 with one line for a mistake, 128 + signal when interrupted."""
        command_line.main(self.name, self._help, self._define, self._command)

    def _define(self) -> list[str]:
        from absl import flags

        flags.DEFINE_string("workdir", f"runs/{self.name}", "")
        flags.DEFINE_integer("seeds", None, "")
        flags.DEFINE_string("only", "", "")
        flags.DEFINE_string("strategy", None, "")
        flags.DEFINE_string("device", None, "")
        flags.DEFINE_bool("list", False, "")
        flags.DEFINE_bool("report", False, "")
        return ["workdir", "seeds", "only", "strategy", "device", "list", "report"]

    def _help(self) -> str:
        module = command_line.load_config(command_line.CHECKOUT / "configs" / f"{self.name}.py")
        labels = list(self.variants(Config(module.get_config().to_dict())))
        presets, variants = (
            textwrap.fill(", ".join(names), 98, initial_indent=" " * 10, subsequent_indent=" " * 10).strip()
            for names in (module.PRESETS, labels)
        )
        doc = "\n\n".join(textwrap.fill(part, 98) for part in self.doc.strip().split("\n\n"))
        return doc + "\n" + HELP.format(name=self.name, presets=presets, variants=variants)

    def _command(self, words: list[str]) -> None:
        from absl import flags

        if words:
            raise UserError(f"unexpected argument {words[0]!r}: options begin with --")
        options = flags.FLAGS
        if options.list and options.report:
            raise UserError("--list and --report exclude each other: the first only shows what would be trained")
        mode = "list" if options.list else "report" if options.report else "train"
        values = command_line.values(options.config)
        if options.seeds is not None:
            values["seeds"] = options.seeds
        if options.strategy is not None:
            values["runtime"]["strategy"] = options.strategy
        if options.device is not None:
            values["runtime"]["device"] = options.device
        from jaxdl.training.stopping import Interrupted, Requests

        requests = Requests()
        command = f"python -m experiments.{self.name} {shlex.join(sys.argv[1:])}".strip()
        try:
            with requests.listening():
                from jaxdl.study.run import run_study  # jax, for the first time

                run_study(self, values, Path(options.workdir), options.only, mode, command, requests)
        except Interrupted as stop:
            saved = "the last checkpoint stays" if stop.cut else "everything is saved"
            print(f"stopped by {stop}: {saved}, repeat the command to go on", file=sys.stderr)
            sys.exit(stop.status)
