"""Files of a study: run folders, the lock, the environment.

WORKDIR/VARIANT/HASH/seed=K/{config.json, metrics.jsonl, result.json, status.json, outcomes.npz}
WORKDIR/programs/HASH/FIT/...   checkpoints (jaxdl.training)
WORKDIR/{lock, environment.json, results.csv, claims.json, report.md, report.html, figures/}
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import platform
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import UserError
from jaxdl.study.config import content_hash
from jaxdl.study.runs import Run
from jaxdl.training import Settings, devices


def run_folder(workdir: Path, run: Run) -> Path:
    """Where the files of a run lie."""
    return workdir / run.variant / run.hash / f"seed={run.seed}"


@contextlib.contextmanager
def locked(workdir: Path, part: str = "", whole: str = "") -> Iterator[None]:
    """Hold the workdir for one launcher. UserError when it can't be written, is full or another launcher has it.

    part: hold only this part, beside launchers that hold others
    whole: of what it is a part; parts of different wholes may overlap, and exclude each other

    The locks are the kernel's: they end with the process that holds them, however that ends.
    """
    with contextlib.ExitStack() as held:
        _lock(held, workdir, "lock", fcntl.LOCK_SH if part else fcntl.LOCK_EX)
        if part:
            _lock(held, workdir, f"lock-{part}", fcntl.LOCK_EX)
        if whole:
            _agree(held, workdir, whole)
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(
                f"could not write in {workdir}: {error.strerror}; what was saved stays. Make room and repeat the "
                "command to go on"
            ) from error


def _lock(held: contextlib.ExitStack, workdir: Path, name: str, kind: int) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = held.enter_context((workdir / name).open("a+"))
    except OSError as error:
        reason = error.strerror
        raise UserError(f"--workdir={workdir} can't be written ({reason}): name another folder") from None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise UserError(f"--workdir={workdir} is in use by {holder}: wait for it, or name another folder") from None
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    except OSError as error:
        raise UserError(f"--workdir={workdir} can't be written ({error.strerror}): make room") from None


def _agree(held: contextlib.ExitStack, workdir: Path, whole: str) -> None:
    """UserError while other processes hold parts of another whole."""
    file = held.enter_context((workdir / "lock-whole").open("a+"))
    with contextlib.suppress(OSError):  # raised where others hold it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(whole)
        file.flush()
    fcntl.flock(file, fcntl.LOCK_SH)  # whoever has it alone is about to share it
    file.seek(0)
    if file.read() != whole:
        raise UserError(f"--workdir={workdir} is in use by shares of another command: wait for them") from None


def is_done(folder: Path) -> bool:
    """Whether the run ended (done or diverged) and its result can be read."""
    status = _read(folder / "status.json")
    return status is not None and status["status"] in ("done", "diverged") and _read(folder / "result.json") is not None


def begin(folder: Path, config: dict[str, Any]) -> None:
    """Mark a run as running. Its metrics start anew: fits tell the rows that are stored with a checkpoint again."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "config.json", config)
    restart(folder)


def restart(folder: Path) -> None:
    """Mark a run as running, and forget the metrics that it has logged."""
    (folder / "metrics.jsonl").write_text("")
    write(folder / "status.json", {"status": "running"})


def saw_other_data(workdir: Path, config: dict[str, Any]) -> bool:
    """Whether a run in the workdir ended that is the one of `config` with other data and perhaps another seed."""

    def recipe(config: dict[str, Any]) -> str:
        own = ("fingerprint", "normalisation", "environment", "seed")
        return content_hash({key: value for key, value in config.items() if key not in own})

    return any(
        is_done(path.parent) and recipe(found) == recipe(config) and found.get("fingerprint") != config["fingerprint"]
        for path in sorted(workdir.glob("*/*/seed=*/config.json"))
        if (found := _read(path)) is not None
    )


def append(folder: Path, row: dict[str, Any]) -> None:
    """One row of metrics, full precision; values that are not finite become null."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(_finite(row)) + "\n")


def finish(folder: Path, metrics: dict[str, float], outcomes: dict[str, np.ndarray], diverged: str) -> None:
    """Store the end of a run; its status is written last."""
    np.savez(folder / "outcomes.draft.npz", **outcomes)
    (folder / "outcomes.draft.npz").replace(folder / "outcomes.npz")
    result = {"metrics": dict(sorted(metrics.items()))} if not diverged else {"metrics": {}, "diverged": diverged}
    write(folder / "result.json", result)
    write(folder / "status.json", {"status": "diverged" if diverged else "done"})


def write_tensorboard(folder: Path) -> None:
    """The rows of metrics.jsonl as TensorBoard event files, one tag a fit and metric."""
    from tensorboardX import SummaryWriter

    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for row in read_metrics(folder):
            for name, value in row.items():
                if name not in ("fit", "step") and value is not None:
                    writer.add_scalar(f"{row['fit']}/{name}", value, row["step"])


def fail(folder: Path, error: str) -> None:
    """Mark a run that ended by an unexpected failure."""
    write(folder / "status.json", {"status": "failed", "error": error})


def read_run(folder: Path) -> dict[str, Any]:
    """{"status", "metrics": {name: value}, "error"?}; a folder that can't be read counts as not started."""
    status = _read(folder / "status.json") or {"status": "absent"}
    result = _read(folder / "result.json") if status["status"] in ("done", "diverged") else None
    return status | (result or {"metrics": {}})


def read_outcomes(folder: Path) -> dict[str, np.ndarray]:
    """{"test_name": float32 [N]}, the value of each test example; {} where there is none."""
    try:
        with (folder / "outcomes.npz").open("rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}


def write_launch(workdir: Path, command: str, asks: dict[str, Any], environment: dict[str, Any]) -> None:
    """environment.json: what a launch asks for and what its bits may depend on. asks: see `read_asked`"""
    write(workdir / "environment.json", {"command": command, "asked": asks} | environment)


def read_command(workdir: Path) -> str:
    """The command of the last launch in a workdir; "" where it can't be read."""
    return (_read(workdir / "environment.json") or {}).get("command", "")


def read_asked(workdir: Path) -> dict[str, Any] | None:
    """What the last launch in a workdir asked for, {"study", "values", "only", "swept"}; None where it can't be read.

    Tuples, which JSON has none of, are tuples again.
    """

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tuples(inner) for key, inner in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    found = _read(workdir / "environment.json")
    asked = found.get("asked") if isinstance(found, dict) else None
    known = isinstance(asked, dict) and asked.keys() >= {"study", "values", "only", "swept"}
    return tuples(asked) if known else None


def read_environment(folder: Path) -> dict[str, Any]:
    """What the run was trained in; {} when that can't be read."""
    return (_read(folder / "config.json") or {}).get("environment", {})


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last line that is cut off is left out."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def environment(settings: Settings, widths: dict[str, int]) -> dict[str, Any]:
    """What the bits of a result may depend on. widths: {fit: runs side by side}."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": devices.cores(),
        "devices": [str(device) for device in settings.devices],
        "strategy": settings.strategy,
        "widths": widths,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def changed_environment(workdir: Path, now: dict[str, Any]) -> list[str]:
    """Which of the things that bits depend on differ from those of the last launch in this folder."""
    before = _read(workdir / "environment.json") or now
    return [
        key
        for key in ("packages", "machine", "cores", "devices", "strategy", "xla_flags")
        if before.get(key) != now[key]
    ]


def write(path: Path, value: Any) -> None:
    """Replace a JSON file; a reader sees the old one or the new, never a part."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one go."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text)
    draft.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _git_commit() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
