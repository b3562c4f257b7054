"""A study as a command: flags, config, plan, runs, table. The one place where studies meet training."""

import dataclasses
import functools
import shlex
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxdl.errors import UserError, unknown
from jaxdl.study import command_line
from jaxdl.study.config import Config

if TYPE_CHECKING:
    from jaxdl.study.finished import Finished

ON_FAILURE = ("continue", "stop")
MODES = ("list", "report", "show_augmentation", "figure", "share", "distributed")  # what to do instead of all
OF_ACTIONS = ("from", "variant", "seed", "out")  # the flags that go with those of `Study.actions`
HELP = """
usage: python -m experiments.{name} [options]

  --config=FILE[:PRESET]   the recipe; default configs/{name}.py
  --config.a.b=VALUE       override one value of the recipe
  --workdir=DIR            where results go; default runs/{name}.
                           Repeating a command continues it
  --seeds=N                seeds 0..N-1
  --only=GLOB,...          a subset of the variants
  --sweep=KEY=V1,V2,...    try each value; repeated, all combinations; the validation split chooses
  --sweep=NAME             a sweep that the recipe has a name for
  --strategy=jit|pmap      spread runs over the devices, or split each batch over them
  --device=cpu|gpu|tpu     default: the best there is
  --runs_at_once=N         runs in one program call; default: what fits in runtime.memory_gigabytes
  --workers=N              N processes, each on its own share of the cores (CPU)
  --share=K/N              train the K-th of N shares of the runs, without a report: for job arrays
  --distributed            one of several hosts that share the runs; host 0 writes the report.
                           SLURM, Open MPI, Kubernetes or a TPU pod tell them of each other, or
                           --coordinator=HOST:PORT (of host 0) --hosts=N --host=I
  --on_failure=stop        the first program that fails ends the launch; default: continue
  --offline                use only data that are here; download nothing
  --report                 the table and the report anew from what is there, without training
{augmentation}  --figure=NAME            write one figure alone: --format=pdf|svg|png --style=paper|slides
{actions}  --list                   dry run: runs, parameters, steps, programs, chunks, time

presets   {presets}
variants  {variants}
sweeps    {sweeps}
"""
AUGMENTATION_HELP = """\
  --show_augmentation      write a picture of what the recipe does to eight images, without training
"""
ACTIONS_HELP = """\
{actions}
  --from=WORKDIR           for {names}: where the launch is that trained it
  --variant=NAME --seed=K  which of its runs; default {variant} and 0
  --out=PATH               where to; default a place in WORKDIR. Nothing is overwritten
"""


class Action(NamedTuple):
    """Something to do with a trained run: --FLAG=VALUE --from=WORKDIR [--variant=NAME] [--seed=K] [--out=PATH].

    value: what --help calls the value; line: what --help says of it
    do: (finished, variant, seed, text of the value, text of --out or "") -> None. Whether there is such a variant and
        seed is for `Finished.model` to say. It prints what it wrote, and raises UserError for what is not possible
    """

    value: str
    line: str
    do: Callable[["Finished", str, int, str, str], None]


def examples(config: Config) -> Any:
    """Labelled examples, one by one: what most studies train on."""
    from jaxdl import data

    runtime = config.runtime
    return data.load(config.data, config.batch_size, runtime.device_gigabytes * 1e9, runtime.workers)


@dataclasses.dataclass(frozen=True)
class Study:
    """A paper-style comparison.

    name: of the module and of its config; doc: the module's docstring
    variants: config -> {label: {"hyper.NAME": value, setting: value}}
    train: (config, source, runs, fit) -> yields Done, group by group; pure but for `fit`
    figures: (config, source, results, fit) -> {name: matplotlib Figure}; its `fit` returns what is stored
    select: (validation metric, "min" or "max") that chooses among trials
    columns: metrics of the table; notes: (config, results) -> what its reader must know of this study
    claims: config -> what the papers claim of these variants, see `jaxdl.study.claims`
    published: config -> [Published], the papers' numbers for these variants
    differs: config -> in what this recipe differs from the papers', one sentence each
    opening: (config, source, runs, most) -> lines for a reader to see first, say a table of the network's layers. They
        are printed before training, and stand whole (most = 0) in the report; on a terminal `most` is how many rows a
        table may have
    source: config -> the data, whose `data`, `fingerprint`, `batch_size` and the like `training.fit` reads
    further: what to run next, {what: arguments}, printed at the end
    actions: {flag: what the command can do with a trained run}, of `default_variant` unless --variant names another
    """

    name: str
    doc: str
    variants: Callable[[Config], dict[str, dict[str, Any]]]
    train: Callable[..., Iterator[Any]]
    figures: Callable[..., dict[str, Any]]
    select: tuple[str, str]
    columns: tuple[str, ...]
    claims: Callable[[Config], list[Any]] = lambda config: []
    published: Callable[[Config], list[Any]] = lambda config: []
    differs: Callable[[Config], list[str]] = lambda config: []
    notes: Callable[[Config, Any], list[str]] = lambda config, results: []
    opening: Callable[..., list[str]] = lambda config, source, runs, most: []
    source: Callable[[Config], Any] = examples
    further: dict[str, str] = dataclasses.field(default_factory=dict)
    actions: dict[str, Action] = dataclasses.field(default_factory=dict)
    default_variant: str = ""

    def config(self, preset: str = "") -> Any:
        """The study's own recipe as a ConfigDict, to change and to hand to `run`. UserError for an unknown preset."""
        return command_line.load_config(self._recipe()).get_config(preset)

    def run(
        self,
        config: Any = "",
        *,
        seeds: int | None = None,
        only: str = "",
        sweep: Sequence[str] = (),
        workdir: str | Path = "",
        device: str = "",
        stop_on_failure: bool = False,
    ) -> "Finished":
        """Train what is not there yet, write the report, and return what was found: the command, from Python.

        config: as `config()` gives it, or the name of a preset; seeds, only, sweep, workdir, device: as on the command
            line. A second call goes on where the first one stopped.

        Raises UserError for what is not possible, KeyboardInterrupt with everything saved.
        """
        from jaxdl.study import launch, run
        from jaxdl.training.stopping import Interrupted, Requests

        values = command_line.values(self.config(config) if isinstance(config, str) else config)
        values["seeds"] = values["seeds"] if seeds is None else seeds
        values["runtime"]["device"] = device or values["runtime"]["device"]
        texts = (sweep,) if isinstance(sweep, str) else tuple(sweep)
        place = Path(workdir or f"runs/{self.name}")
        command = command_line.spelled(self.name, values, self._recipe(), place, only, texts)
        asked = launch.Asked(values, place, only, texts, command)
        try:
            with Requests().listening() as requests:
                return run.execute(launch.check(launch.prepare(self, asked, requests)), stop_on_failure)[0]
        except Interrupted as stop:  # everything is saved
            if stop.status == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(stop.status)

    def load(self, workdir: str | Path = "") -> "Finished":
        """What the last launch in a workdir found; nothing is written. UserError where there is none of this study."""
        from jaxdl.study import finished, folders, launch, run
        from jaxdl.training.stopping import Requests

        place = Path(workdir or f"runs/{self.name}")
        asked = folders.read_asked(place)
        if asked is None or asked["study"] != self.name:
            other = f" (it holds one of {asked['study']})" if asked else ""
            raise UserError(f"{place} holds no launch of {self.name}{other}: name the --workdir of one")
        values, only, swept = asked["values"], asked["only"], tuple(asked["swept"])
        values["runtime"]["device"] = ""  # this machine's, whatever they were trained on
        command = folders.read_command(place)
        found = launch.prepare(self, launch.Asked(values, place, only, swept, command), Requests())
        run.check_there(found)
        return finished.look(found)

    def main(self) -> None:
        """Run from the command line; exits 2 with one line for a mistake, 128 + signal when interrupted."""
        command_line.main(self._recipe(), self._help, self._define, self._command)

    def _recipe(self) -> Path:
        return command_line.recipe(self.train.__module__, self.name)

    def _define(self) -> list[str]:
        from absl import flags

        flags.DEFINE_string("workdir", f"runs/{self.name}", "")
        flags.DEFINE_integer("seeds", None, "")
        flags.DEFINE_string("only", "", "")
        flags.DEFINE_multi_string("sweep", [], "")
        flags.DEFINE_string("strategy", None, "")
        flags.DEFINE_string("device", None, "")
        flags.DEFINE_integer("runs_at_once", None, "")
        flags.DEFINE_integer("workers", 1, "")
        flags.DEFINE_string("share", "", "")
        flags.DEFINE_string("on_failure", "continue", "")
        flags.DEFINE_bool("distributed", False, "")
        flags.DEFINE_string("coordinator", "", "")
        flags.DEFINE_integer("hosts", 0, "")
        flags.DEFINE_integer("host", -1, "")
        flags.DEFINE_bool("list", False, "")
        flags.DEFINE_bool("report", False, "")
        flags.DEFINE_bool("show_augmentation", False, "")
        flags.DEFINE_string("figure", "", "")
        flags.DEFINE_string("format", "pdf", "")
        flags.DEFINE_string("style", "paper", "")
        for name in self.actions:
            flags.DEFINE_string(name, "", "")
        if self.actions:
            flags.DEFINE_string("from", "", "")
            flags.DEFINE_string("variant", self.default_variant, "")
            flags.DEFINE_integer("seed", 0, "")
            flags.DEFINE_string("out", "", "")
        return [
            "workdir", "seeds", "only", "sweep", "strategy", "device", "runs_at_once", "workers", "share",
            "on_failure", "distributed", "coordinator", "hosts", "host", "list", "report", "show_augmentation",
            "figure", "format", "style",
            *(OF_ACTIONS if self.actions else ()), *self.actions,
        ]  # fmt: skip

    def _help(self) -> str:
        module = command_line.load_config(self._recipe())
        values = module.get_config().to_dict()
        labels = list(self.variants(Config(values)))
        presets, variants, sweeps = (
            textwrap.fill(", ".join(names), 98, initial_indent=" " * 10, subsequent_indent=" " * 10).strip()
            for names in (module.PRESETS, labels, values["sweeps"])
        )
        doc = "\n\n".join(textwrap.fill(part, 98) for part in self.doc.strip().split("\n\n"))
        options = {f"--{name}={action.value}": action.line for name, action in self.actions.items()}
        actions = ACTIONS_HELP.format(
            actions="\n".join(f"  {option:<25}{line}" for option, line in options.items()),
            names=" and ".join(f"--{name}" for name in self.actions),
            variant=self.default_variant,
        )
        return f"{doc}\n" + HELP.format(
            name=self.name, presets=presets, variants=variants, sweeps=sweeps or "none",
            actions=actions if self.actions else "", augmentation=AUGMENTATION_HELP if "augmentation" in values else "",
        )  # fmt: skip

    def _action(self) -> str:
        """The flag of the action that the command line asks for, "" for none. UserError for what does not fit it."""
        from absl import flags

        options = flags.FLAGS
        given = [name for name in options if options[name].present]
        chosen = next((name for name in self.actions if name in given), "")
        if not chosen:
            alone = next((name for name in OF_ACTIONS if name in given), "")
            if alone:
                actions = " or ".join(f"--{name}={action.value}" for name, action in self.actions.items())
                raise UserError(f"--{alone} has no effect without {actions}")
            return ""
        if options[chosen].value.startswith("--"):  # `--generate --from=x`: absl takes the next word, whatever it is
            raise UserError(f"--{chosen} has no value: write --{chosen}={self.actions[chosen].value}")
        own = (*OF_ACTIONS, "offline")
        other = next((name for name in given if name not in (chosen, *own)), "")
        if other:
            listed = ", ".join(f"--{name}" for name in own)
            raise UserError(f"--{chosen} and --{other} exclude each other: what goes with --{chosen} is {listed}")
        if not options["from"].value:
            raise UserError(f"--{chosen} needs --from=WORKDIR: the --workdir of a launch that has trained")
        return chosen

    def _command(self, words: list[str]) -> None:
        from absl import flags

        options = flags.FLAGS
        action = self._action() if self.actions else ""
        if words:
            raise UserError(f"unexpected argument {words[0]!r}: options begin with --")
        if action:
            found = self.load(options["from"].value)
            self.actions[action].do(found, options.variant, options.seed, options[action].value, options.out)
            return
        modes = [
            name
            for name in ("list", "report", "show_augmentation", "figure", "share", "distributed")
            if getattr(options, name)
        ]
        if len(modes) > 1:
            raise UserError(f"--{modes[0]} and --{modes[1]} exclude each other: they are different things to do")
        if options.workers != 1 and modes:
            raise UserError(f"--workers={options.workers} and --{modes[0]} exclude each other")
        if options.on_failure not in ON_FAILURE:
            raise unknown("--on_failure", options.on_failure, ON_FAILURE)
        values = command_line.values(options.config)
        if options.seeds is not None:
            values["seeds"] = options.seeds
        for name in ("strategy", "device", "runs_at_once"):
            if getattr(options, name) is not None:
                values["runtime"][name] = getattr(options, name)
        if not options.distributed and (options.coordinator or options.hosts or options.host != -1):
            raise UserError("--coordinator, --hosts and --host belong to --distributed")
        part = _share(options.share)
        from jaxdl.training.stopping import Interrupted, Requests

        requests = Requests()
        try:
            with requests.listening():
                from jaxdl.training import hosts  # jax, for the first time

                team = hosts.Hosts()
                if options.distributed:
                    team = hosts.join(options.coordinator, options.hosts, options.host)
                try:
                    self._launch(values, options, part, team, requests)
                finally:
                    hosts.leave(team)
        except Interrupted as stop:
            saved = "the last checkpoint stays" if stop.cut else "everything is saved"
            print(f"stopped by {stop}: {saved}, repeat the command to go on", file=sys.stderr)
            sys.exit(stop.status)

    def _launch(self, values: dict[str, Any], options: Any, part: tuple[int, int], team: Any, requests: Any) -> None:
        """Do what the options ask for, and exit with status 1 where a run failed."""
        started = time.monotonic()
        from jaxdl.study import finished, run, terminal, workers
        from jaxdl.study import launch as launching

        words = workers.without(sys.argv[1:], "share", "report=")  # what is reported is what training them gives
        command = f"python -m experiments.{self.name} {shlex.join(words)}".strip()
        asked = launching.Asked(values, Path(options.workdir), options.only, tuple(options.sweep), command)
        launch = launching.check(launching.prepare(self, asked, requests))
        if options.list:
            terminal.print_opening(launch)
            terminal.print_plan(launch)
        elif options.show_augmentation:
            from jaxdl.study import contact_sheet

            if "augmentation" not in values:
                raise UserError(f"--show_augmentation is not possible: {self.name} augments no images")
            print(contact_sheet.write(launch))
        elif options.figure:
            run.check_there(launch)
            print(finished.write_figure(launch, options.figure, options.format, options.style))
        elif options.share:
            workers.stop_with_parent()
            mine = run.train_share(launch, *part, options.on_failure == "stop")
            terminal.print_share(launch, mine, *part)
            self._exit(launch.missing() & mine)
        elif team.index:
            mine = run.train_for(launch, team, options.on_failure == "stop")
            print(f"host {team.index} of {team.count}: {mine.sum()} of {len(mine)} runs, handed to host 0")
            self._exit(launch.missing() & mine)
        else:
            if launch.missing().any() and not options.report:
                terminal.print_opening(launch)
            if options.report:
                found, trained = run.reread(launch), 0
            elif team.count > 1:
                by = functools.partial(run.train_with, launch, team, options.on_failure == "stop")
                found, trained = run.execute(launch, False, by)
            elif options.workers != 1:
                workers.check(options.workers, launch.groups[0].settings.devices[0].platform)
                arguments = workers.without(sys.argv[1:], "workers")
                found, trained = run.execute(
                    launch,
                    False,
                    lambda: (
                        workers.work(f"experiments.{self.name}", arguments, options.workers)
                        if launch.missing().any()
                        else []
                    ),
                )
            else:
                found, trained = run.execute(launch, options.on_failure == "stop")
            terminal.print_finished(found, trained, time.monotonic() - started)
            self._exit(launch.failed() if options.report else launch.missing())

    def _exit(self, lost: Any) -> None:
        """Status 1 where runs, bool [R], have no result though they were to have one."""
        if lost.any():
            sys.exit(1)


def _share(text: str) -> tuple[int, int]:
    """ "1/4" -> (1, 4); (0, 1) for ""."""
    index, _, count = (text or "0/1").partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"--share={text} is not possible: valid is K/N with K from 0 to N - 1, as in 0/4")
    return int(index), int(count)
