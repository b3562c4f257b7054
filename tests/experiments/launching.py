"""Studies launched as a person would: from the command line, in processes of their own.

Such a process spends 4 seconds of processor time on imports. Here it is forked from one that has made them already, and
goes on as `python -m` does; `launch_anew` starts Python from nothing, and so do README's commands in continuous
integration.
"""

import functools
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

# What the tests in this process run under, for programs in other processes too. ml_collections still loads a
# config in a way that Python gives up in 3.15.
STRICT = {
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "PYTHONWARNINGS": "error,ignore:the load_module():DeprecationWarning",
}
EIGHT_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
# Most of a short launch is compilation, which this halves; training takes five times as long. For launches whose files,
# signals and messages are looked at: that two of them end with the same bits holds at either level, as long as both
# have the same one. `deep_smoke` and others run the programs that users get.
QUICK_COMPILATION = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}

# Of each figure the PNG alone: the other forms take twice as long. The smoke presets are drawn in all of them.
PNG_ALONE = {"PICTURES": "png"}
BRIEFLY = QUICK_COMPILATION | PNG_ALONE

# The greedy study in three fits (two layers, then fine-tuning), 12 evaluations in each; with QUICK_COMPILATION, a fit
# takes a second or so.
TINY = (
    "--config=configs/greedy_pretraining.py:smoke",
    "--config.model.hidden=8",
    "--config.steps=2400",
    "--config.pretrain.steps=2400",
    "--config.evaluations=12",
    "--config.tune.learning_rate=0.3",
    "--config.compare.kinds=('random', 'denoising')",
    "--config.compare.depths=(2,)",
    "--config.compare.labels=()",
    "--config.compare.top=false",
)
EVERY_CALL = "--config.runtime.checkpoint_seconds=0"


class Launch(NamedTuple):
    """How a process ended. seconds: from the signal that was sent, or from its start."""

    code: int
    out: str
    err: str
    seconds: float


# No room of the checkout beside jaxdl: some launches have one of their own.
IMPORTED = [
    *("jaxdl.study.launch", "jaxdl.study.finished", "jaxdl.study.report", "jaxdl.training.fitting"),
    *("jaxdl.data.loading", "jaxdl.models.mlp", "jaxdl.tasks.classification", "jaxdl.tasks.elbo"),
    *("matplotlib.backends.backend_agg", "optax", "orbax.checkpoint", "scipy.stats", "sklearn.datasets"),
]


@functools.cache
def server() -> multiprocessing.context.ForkServerContext:
    """What forks processes that have everything imported, on the real devices."""
    kept = dict(os.environ)
    for name in ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"):
        os.environ.pop(name, None)
    os.environ.update({"JAX_PLATFORMS": "cpu"} | STRICT)
    try:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(kept)
    return context


def go_on(words: list[str], limit: int, cwd: Path, changes: dict[str, str], output: list[str]) -> None:
    """In the new process: what `python -m WORDS...` does after its imports."""
    import jax

    from jaxdl.study import report

    for number, path in enumerate(output, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    if limit:  # Python ignores SIGXFSZ: a write beyond the limit fails, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.chdir(cwd)
    report.FORMS = tuple(changes.pop("PICTURES", "").split()) or report.FORMS
    os.environ.update(changes)
    for name, value in changes.items():  # JAX read its own when it was imported
        if name.startswith("JAX_"):
            jax.config.update(name.lower(), {"true": True, "false": False}.get(value, value))
    elsewhere = (path for path in sys.path if Path(path) != ROOT and not Path(path).is_relative_to(ROOT / "tests"))
    sys.path[:] = [str(cwd), *elsewhere]
    sys.argv, sys.orig_argv = list(words), [sys.executable, "-m", *words]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


class Process:
    """A launch that runs."""

    def __init__(self, words: tuple[str, ...], limit: int, cwd: Path, changes: dict[str, str]) -> None:
        self._output = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115 (open until it has ended)
        paths = [file.name for file in self._output]
        self._process = server().Process(target=go_on, args=(list(words), limit, cwd, changes, paths))
        self._process.start()

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def stands_still(self) -> bool:
        """Whether SIGSTOP has stopped it, or it has ended."""
        try:
            return Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(") ", 1)[1][0] in "TZX"
        except OSError:
            return True

    def end(self, since: float, timeout: float = 600) -> Launch:
        """Wait for its end. timeout: for one that hangs; a launch of 5 s takes 200 where many share a core."""
        self._process.join(timeout)
        seconds = time.monotonic() - since
        if self.poll() is None:
            self._process.kill()
            self._process.join()
        out, err = (Path(file.name).read_text() for file in self._output)
        return Launch(self.poll(), out, err + "\n(killed by the test)" * (seconds >= timeout), seconds)


def start(*words: str, limit: int = 0, cwd: Path = ROOT, **changes: str) -> Process:
    """`python -m WORDS...` from the checkout. limit: bytes that a file may have, 0 for any; changes: of environment."""
    return Process(words, limit, cwd, changes)


def launch_anew(*words: str) -> Launch:
    """`python -m WORDS...` to its end, from nothing: for what is said of the start itself."""
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=kept | STRICT, capture_output=True, text=True, timeout=600
    )
    return Launch(done.returncode, done.stdout, done.stderr, time.monotonic() - since)


def launch(*words: str, limit: int = 0, cwd: Path = ROOT, **changes: str) -> Launch:
    """`python -m WORDS...`, to its end."""
    since = time.monotonic()
    return start(*words, limit=limit, cwd=cwd, **changes).end(since)


def interrupt(
    *words: str,
    number: signal.Signals,
    when: Callable[[], bool],
    meanwhile: Callable[[], None] = lambda: None,
    **changes: str,
) -> Launch:
    """Launch, and send a signal as soon as `when` holds: the process is stopped first, so that it holds for sure.

    meanwhile: called while the process stands still.
    """
    process = start(*words, **changes)
    while process.poll() is None:
        if when():
            process.send(signal.SIGSTOP)
            while not process.stands_still():
                time.sleep(0.001)
            if when():
                break
            process.send(signal.SIGCONT)
        time.sleep(0.002)
    else:
        raise AssertionError(f"ended before it was time: {process.end(time.monotonic())}")
    meanwhile()
    since = time.monotonic()
    process.send(number)
    process.send(signal.SIGCONT)
    return process.end(since)


def files(workdir: Path) -> dict[str, bytes]:
    """{path: content} of all files of a study that say what it found; without checkpoints, pictures and the like."""
    left_out = {"programs", "figures", "lock", "environment.json", "report.md", "report.html", "tensorboard"}
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and left_out.isdisjoint(path.relative_to(workdir).parts)
    }


def checkpoints(workdir: Path, fit: str) -> list[Path]:
    """The checkpoints of a fit that were written to their end, oldest first."""
    return sorted(path.parent for path in workdir.glob(f"programs/*/{fit}/*/*/manifest.json"))
