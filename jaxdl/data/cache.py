"""Data sets decoded once, into .npy files that every later start maps into memory.

    $JAXDL_CACHE_DIR/data/NAME-DIGEST/{SPLIT_KEY.npy, about.json}    by default below ~/.cache/jaxdl

A folder appears there complete or not at all, whatever interrupts and however many processes want it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Arrays
from jaxdl.errors import UserError

_LAYOUT = "jaxdl cache, layout 2"  # count up when the cached files change their meaning


def folder() -> Path:
    """Where whatever jaxdl decodes or downloads is kept: $JAXDL_CACHE_DIR, else ~/.cache/jaxdl."""
    return Path(os.path.expanduser(os.environ.get("JAXDL_CACHE_DIR") or "~/.cache/jaxdl"))


def line(error: BaseException) -> str:
    """What an error of some library says, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "…"


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """What the system raises while the cache is written becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the cache folder {folder()} ({line(error)}); "
            "set the environment variable JAXDL_CACHE_DIR to a folder that can be written"
        ) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while one process prepares something that others may want too: they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = path.stem.rpartition("-")[0] or path.stem
            print(f"waiting for another process that prepares {name}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Writer:
    """The arrays of a set while they are decoded, split by split and block by block; see `arrays`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._files: dict[tuple[str, str], Any] = {}
        self._shapes: dict[tuple[str, str], tuple[np.dtype, tuple[int, ...]]] = {}

    def append(self, split: str, **values: np.ndarray) -> None:
        """More examples of a split: `image` [n, ...], `label` [n] and further keys, the same in each call."""
        lengths = {key: len(array) for key, array in values.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"blocks of different lengths: {lengths}")
        for key, array in values.items():
            name = split, key
            if name not in self._files:
                self._files[name] = (self._place / f"{split}_{key}.npy").open("wb")
                self._shapes[name] = array.dtype, (0, *array.shape[1:])
                self._header(name)
            dtype, (count, *rest) = self._shapes[name]
            if (array.dtype, array.shape[1:]) != (dtype, tuple(rest)):
                raise ValueError(f"{split} {key}: a block of {array.dtype}{array.shape} after {dtype}{tuple(rest)}")
            self._files[name].write(np.ascontiguousarray(array).data)
            self._shapes[name] = dtype, (count + len(array), *rest)

    def close(self) -> None:
        """Write the headers, now that the counts are known."""
        for name, file in self._files.items():
            file.seek(0)
            self._header(name)
            file.close()

    def _header(self, name: tuple[str, str]) -> None:
        # NumPy leaves room in a header for the first axis to grow, so the final one fits into the place of the first.
        dtype, shape = self._shapes[name]
        description = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": description, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._files[name], header)

    def sort(self) -> None:
        """Bring the examples of each closed split into the order of the hashes of their content."""
        for split in {split for split, _ in self._files}:
            keys = sorted(key for part, key in self._files if part == split)
            columns = {key: np.load(self._place / f"{split}_{key}.npy", mmap_mode="r") for key in keys}
            hashes = [
                hashlib.sha256(b"".join(np.ascontiguousarray(columns[key][row]).tobytes() for key in keys)).digest()
                for row in range(len(columns["label"]))
            ]
            rows = np.array(sorted(range(len(hashes)), key=hashes.__getitem__))
            for key, column in columns.items():
                np.save(self._place / "sorted.npy", column[rows])
                (self._place / "sorted.npy").replace(self._place / f"{split}_{key}.npy")

    def fingerprint(self) -> str:
        """A hash of the closed files, whatever the blocks were."""
        total = hashlib.sha256()
        for split, key in sorted(self._files):
            path = self._place / f"{split}_{key}.npy"
            with path.open("rb") as file:
                total.update(f"{split} {key} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()


def arrays(
    name: str, digest: str, fill: Callable[[Writer], Sequence[str]], scale: float, *, canonical: bool = False
) -> Arrays:
    """The set `name`, memory-mapped and read-only, from the cache; on first use `fill(writer)` puts it there.

    digest: hex, of all that decides what the set decodes to
    fill: appends the blocks of every split to the writer and returns the names of the classes; what it raises
        leaves nothing in the cache
    scale: see `Arrays`
    canonical: the order of the examples follows from their content alone, so that one set has the same splits
        from whichever form it was read

    Raises UserError when the cache cannot be written or is damaged.
    """
    own = hashlib.sha256(f"{_LAYOUT} {canonical} {digest}".encode()).hexdigest()[:16]
    place = folder() / "data" / f"{name.replace('/', '-')}-{own}"
    if not place.exists():
        with writing(), locked(folder() / "locks" / f"{place.name}.lock"):
            if not place.exists():
                _fill(place, fill, canonical)
    return _load(place, scale)


def _fill(place: Path, fill: Callable[[Writer], Sequence[str]], canonical: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    for leftover in place.parent.glob("*.partial-*"):  # of processes that were killed
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                shutil.rmtree(leftover)
    partial = place.with_name(f"{place.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        writer = Writer(partial)
        try:
            names = list(fill(writer))
        finally:
            writer.close()
        if canonical:
            writer.sort()
        files = sorted(path.stem for path in partial.glob("*.npy"))
        about = {"names": names, "files": files, "fingerprint": writer.fingerprint()}
        (partial / "about.json").write_text(json.dumps(about))
        try:
            partial.rename(place)
        except OSError:
            if not place.exists():  # where locks don't work, another process may have been first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _load(place: Path, scale: float) -> Arrays:
    try:
        about = json.loads((place / "about.json").read_text())
        splits: dict[str, dict[str, np.ndarray]] = {}
        for file in about["files"]:
            split, _, key = file.partition("_")
            splits.setdefault(split, {})[key] = np.lib.format.open_memmap(place / f"{file}.npy", mode="r")
        for split, values in splits.items():
            if len({len(array) for array in values.values()}) > 1:
                raise ValueError(f"the files of {split} have different lengths")
        return Arrays(splits, tuple(about["names"]), scale, about["fingerprint"])
    except Exception as error:  # of a damaged header, NumPy raises all kinds
        raise UserError(f"the cache {place} is damaged ({line(error)}); delete it and start again") from error


def hashes(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file's content, in hex. Files that kept their size and time are not read again."""
    memo = folder() / "hashes" / (hashlib.sha256(os.path.abspath(paths[0].parent).encode()).hexdigest()[:16] + ".json")
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        read = json.loads(memo.read_text())
        known = read if isinstance(read, dict) else {}
    found, result, fresh = {}, [], False
    for path in paths:
        status = path.stat()
        entry = known.get(os.path.abspath(path), [])
        if not (isinstance(entry, list) and len(entry) == 3 and entry[:2] == [status.st_size, status.st_mtime_ns]):
            with path.open("rb") as file:
                entry = [status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
            fresh = True
        result.append(entry[2])
        if time.time() - status.st_mtime > 2:  # a file just written may change again within the clock's tick
            found[os.path.abspath(path)] = entry
    if fresh:
        with contextlib.suppress(OSError):  # a memo only: without it, the next start reads the files again
            memo.parent.mkdir(parents=True, exist_ok=True)
            draft = memo.with_name(f"{memo.name}.{secrets.token_hex(4)}")
            draft.write_text(json.dumps(known | found))
            draft.replace(memo)
    return result
