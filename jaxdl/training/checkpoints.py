"""Checkpoints: Orbax for the arrays, a manifest that tells whether they are whole. The only module that knows Orbax.

    folder/00001200/arrays/...      what Orbax writes
    folder/00001200/notes.json      what else belongs to the moment: the rows logged so far, finished or not
    folder/00001200/manifest.json   size and CRC-32 of every file, written last: without it the checkpoint is not there

Orbax restores flipped bytes without a word, hence the manifest: it is verified before anything is read.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.errors import UserError

KEEP = 2  # the newest, and one to fall back on


def save(folder: Path, step: int, tree: Any, notes: dict[str, Any]) -> None:
    """Write a checkpoint, then delete all but the newest KEEP. Raises UserError when the disk can't take it.

    tree: host arrays. A failed save leaves the earlier checkpoints as they were.
    """
    import orbax.checkpoint

    target = folder / f"{step:08d}"
    try:
        if target.exists():  # an earlier write of the same moment, not good: a good one would have been restored
            shutil.rmtree(target)
        target.mkdir(parents=True)
        _check_room(target / "room", sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree)))
        with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(
                target.absolute() / "arrays", {name: np.asarray(leaf) for name, leaf in _named(tree).items()}
            )
        (target / "notes.json").write_text(json.dumps(notes))
        manifest = {str(path.relative_to(target)): _fingerprint(path) for path in _files(target)}
        write_atomically(target / "manifest.json", json.dumps(manifest))
    except (OSError, ValueError) as error:  # tensorstore reports a full disk as ValueError
        shutil.rmtree(target, ignore_errors=True)
        kept = ", ".join(path.name for path in _steps(folder)) or "none"
        code = re.search(r"os_error_code='(\d+)'", str(error))  # how tensorstore quotes the system
        reason = os.strerror(int(code[1])) if code else next(iter(str(error).splitlines()), repr(error))[:200]
        raise UserError(
            f"could not save step {step} in {folder}: {reason}; checkpoints that stay: {kept}. "
            "Make room and repeat the command to go on"
        ) from error
    newest = _steps(folder)[-KEEP:]
    for path in folder.iterdir():
        if path.name.isdigit() and path not in newest:  # older, or never finished because the process was killed
            shutil.rmtree(path, ignore_errors=True)


def restore(
    folder: Path, like: Any, warn: Callable[[str], None] = print
) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]] | None:
    """The newest good checkpoint as (tree of host arrays, further arrays by name, notes); None where there is none.

    like: a pytree of the tree's structure with shapes and dtypes. Damaged checkpoints are skipped, and `warn`
    is told of each.
    """
    for path in reversed(_steps(folder)):
        flaw = _flaw(path)
        if flaw is None:
            notes = json.loads((path / "notes.json").read_text())
            arrays = read_arrays(path)
            flaw = _mismatch(arrays, like)
            if flaw is None:
                names = _named(like)
                tree = jax.tree.unflatten(jax.tree.structure(like), [arrays.pop(name) for name in names])
                return tree, arrays, notes
        warn(f"checkpoint {path} is damaged ({flaw}): falling back to the one before")
    return None


def newest_notes(folder: Path) -> dict[str, Any] | None:
    """The notes of the newest checkpoint whose notes are whole, without a look at its arrays; None where none are."""
    for path in reversed(_steps(folder)):
        if _flaw(path, ["notes.json"]) is None:
            return json.loads((path / "notes.json").read_text())
    return None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of one checkpoint by name."""
    import orbax.checkpoint

    with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
        return {name: np.asarray(value) for name, value in checkpointer.restore(path.absolute() / "arrays").items()}


def _check_room(path: Path, size: int) -> None:
    """OSError where the disk can't take `size` bytes more, before tensorstore's threads fail and report on stderr."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size + 100_000)  # files of metadata, and the blocks of each
    path.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text so that a reader or a crash sees the old text or the new, never a part."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _steps(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and (path / "manifest.json").exists())


def _files(target: Path) -> list[Path]:
    return sorted(path for path in target.rglob("*") if path.is_file())


def _fingerprint(path: Path) -> list[int]:
    content = path.read_bytes()
    return [len(content), zlib.crc32(content)]


def _flaw(path: Path, names: Sequence[str] = ()) -> str | None:
    """What is wrong with the files of a checkpoint, or with those named; None when all are as they were written."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name in names or ["notes.json", *manifest]:  # an empty manifest vouches for nothing
            size, checksum = manifest[name]
            if not (path / name).is_file():
                return f"{name} is missing"
            found = _fingerprint(path / name)
            if found != [size, checksum]:
                return f"{name} is {'truncated' if found[0] != size else 'altered'}"
    except (OSError, ValueError, TypeError, LookupError) as error:
        return f"manifest.json: {error}"
    return None


def _named(tree: Any) -> dict[str, Any]:
    """{path: leaf}: a structure that Orbax gives back as it was, whatever named tuples the optimizer uses."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _mismatch(arrays: dict[str, np.ndarray], like: Any) -> str | None:
    for name, leaf in _named(like).items():
        if name not in arrays:
            return f"{name} is not in it"
        if (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
            return f"{name} is {arrays[name].dtype}{list(arrays[name].shape)}, not {leaf.dtype}{list(leaf.shape)}"
    return None
