"""Studies launched as a person would: from the command line, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def start(*words: str, limit: int = 0, cwd: Path = ROOT, **changes: str) -> subprocess.Popen:
    """`python -m WORDS...` from the checkout, on the real devices. limit: bytes that a file may have, 0 for any."""
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    command = [sys.executable, "-m", *words]
    if limit:  # Python ignores SIGXFSZ: a write beyond the limit fails, as it does on a full disk
        code = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        command = [sys.executable, "-c", code + "os.execv(sys.argv[1], sys.argv[1:])", *command]
    environment = kept | {"JAX_PLATFORMS": "cpu"} | STRICT | changes
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen, since: float, timeout: float = 600) -> Launch:
    """Wait for the end of a process. timeout: for one that hangs; a launch of 5 s takes 200 where many share a core."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += "\n(killed by the test: it took too long)"
    return Launch(process.returncode, out, err, time.monotonic() - since)


def launch(*words: str, limit: int = 0, cwd: Path = ROOT, **changes: str) -> Launch:
    """`python -m WORDS...`, to its end."""
    since = time.monotonic()
    return end(start(*words, limit=limit, cwd=cwd, **changes), since)


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
    try:
        while process.poll() is None:
            if when():
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if when():
                    break
                process.send_signal(signal.SIGCONT)
            time.sleep(0.002)
        else:
            raise AssertionError(f"ended before it was time: {process.communicate()}")
        meanwhile()
        since = time.monotonic()
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        return end(process, since)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


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
