"""The files of some well-known sets, downloaded on first use and checked against pinned hashes.

    $JAXDL_CACHE_DIR/downloads/NAME/{FILE, FILE.part, FILE.wrong-hash}    by default below ~/.cache/jaxdl

A file gets its final name once its SHA-256 was right; FILE.part is what arrived so far, and is gone on with.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl.data import cache
from jaxdl.data.cache import line
from jaxdl.errors import UserError, unknown

_TRIES = 3  # at each mirror, where the connection or the server fails
_WAIT = 2.0  # seconds before the second try, twice as many before the third
_TIMEOUT = (10, 30)  # seconds to connect, and between two packets
_BLOCK = 1 << 16  # bytes


class File(NamedTuple):
    """A file to download: its size in bytes, its SHA-256 in hex, and the addresses it may follow, in this order.

    size 0, sha256 '': unknown. Then an address must name what it gives, as a git commit does, and the reader check it.
    """

    name: str
    size: int
    sha256: str
    mirrors: tuple[str, ...]


def _files(mirrors: tuple[str, ...], *rows: tuple[str, int, str]) -> tuple[File, ...]:
    return tuple(File(*row, mirrors) for row in rows)


# The authors' repository at one commit: an address that names its content.
_PLANETOID = ("https://raw.githubusercontent.com/kimiyoung/planetoid/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data/",)


def _unpinned(name: str) -> tuple[File, ...]:
    """The files of a Planetoid set whose sizes and hashes are not known here."""
    parts = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
    return _files(_PLANETOID, *((f"ind.{name}.{part}", 0, "") for part in parts))


FILES = {
    "mnist": _files(
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion_mnist": _files(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "cifar10": _files(
        ("https://www.cs.toronto.edu/~kriz/",),
        ("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    ),
    "cifar100": _files(
        ("https://www.cs.toronto.edu/~kriz/",),
        ("cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
    ),
    "cora": _files(
        _PLANETOID,
        ("ind.cora.x", 22_119, "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab"),
        ("ind.cora.y", 4_054, "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1"),
        ("ind.cora.tx", 148_025, "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a"),
        ("ind.cora.ty", 28_135, "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad"),
        ("ind.cora.allx", 257_305, "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543"),
        ("ind.cora.ally", 47_959, "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71"),
        ("ind.cora.graph", 59_847, "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d"),
        ("ind.cora.test.index", 5_000, "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"),
    ),
    "citeseer": _unpinned("citeseer"),
    "pubmed": _unpinned("pubmed"),
}


def offline() -> bool:
    """Whether the environment variable JAXDL_OFFLINE forbids the network."""
    return os.environ.get("JAXDL_OFFLINE", "") not in ("", "0")


def fetch(name: str) -> Path:
    """The folder with the files of the set `name`, one of FILES; what is missing there is downloaded.

    Raises UserError when no mirror gives what it should, when the network is forbidden, see `offline`, and when
    the cache cannot be written. What arrived stays, and the next call goes on from there.
    """
    if name not in FILES:
        raise unknown("data set to download", name, FILES)
    folder = cache.folder() / "downloads" / name
    with cache.writing():
        lacking = missing(name)
        if lacking and offline():
            raise UserError(
                f"{name} is not here and JAXDL_OFFLINE (or --offline) forbids the network: {folder} lacks "
                f"{', '.join(file.name for file in lacking)}; put these files there, or set data.dir to a folder "
                f"where TFDS prepared {name}"
            )
        if lacking:
            with cache.locked(cache.folder() / "locks" / f"{name}-download.lock"):
                folder.mkdir(parents=True, exist_ok=True)
                _download(name, folder, missing(name))  # another process may have been first
    return folder


def missing(name: str) -> list[File]:
    """The files of a set that are not here, or are not what they should be."""
    folder = cache.folder() / "downloads" / name
    return [file for file in FILES[name] if not _right(folder / file.name, file)]


def _right(path: Path, file: File) -> bool:
    if not file.sha256:
        return path.is_file()  # it was complete when it got its name
    return _size(path) == file.size and cache.hashes([path]) == [file.sha256]


def _size(path: Path) -> int:
    """Bytes in a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def _part(folder: Path, file: File) -> Path:
    return folder / f"{file.name}.part"


def _download(name: str, folder: Path, files: list[File]) -> None:
    if not files:
        return
    total = sum(file.size for file in files)  # as far as it is known
    here = sum(min(_size(_part(folder, file)), file.size) for file in files)
    free = shutil.disk_usage(folder).free
    if total - here > free:
        raise UserError(
            f"no space for {name}: {_megabytes(total - here)} are to be downloaded, {folder} has {_megabytes(free)} "
            "free; set the environment variable JAXDL_CACHE_DIR to a folder on a larger disk"
        )
    already = f", {_megabytes(here)} of them already here" if here else ""
    size = _megabytes(total) if all(file.size for file in files) else f"{len(files)} files"
    with _bar(f"downloading {name}: {size}{already}, to {folder}", total, here) as show:
        done = 0
        for file in files:
            _fetch(file, folder, lambda size, before=done: show(before + size))
            done += file.size


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


@contextlib.contextmanager
def _bar(what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """Called with the number of bytes that are here, what it gives shows them: a bar on a terminal, else one line."""
    print(what, file=sys.stderr, flush=True)
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda size: progress.update(task, completed=size)


def _fetch(file: File, folder: Path, show: Callable[[int], None]) -> None:
    """Puts one file into the folder, from the first mirror that has it."""
    import pooch

    part, aside = _part(folder, file), folder / f"{file.name}.wrong-hash"
    reasons = []
    for mirror in file.mirrors:
        reason = _complete(mirror + file.name, part, file.size, show)
        if not reason:
            found = pooch.file_hash(part)
            if not file.sha256:
                print(f"{file.name} has no pinned hash; its SHA-256 is {found}", file=sys.stderr, flush=True)
            if file.sha256 in (found, ""):
                part.replace(folder / file.name)
                return
            part.replace(aside)
            reason = f"expected SHA-256 {file.sha256}, found {found}; what arrived was put aside as {aside}"
        reasons.append(f"{mirror}: {reason}")
    kept = f"; {_megabytes(_size(part))} stay in {part}, the next start goes on from there" if _size(part) else ""
    raise UserError(
        f"cannot download {file.name} ({' | '.join(reasons)}){kept}; try again later, or download it by other means "
        f"into {folder}"
    )


def _complete(url: str, part: Path, size: int, show: Callable[[int], None]) -> str:
    """Downloads what `part` lacks. Returns why this did not work, '' when `part` is complete."""
    import requests

    reason = ""
    for attempt in range(_TRIES):
        time.sleep(attempt * _WAIT)
        try:
            return _receive(url, part, size, show)
        except requests.RequestException as error:
            reason = f"{_said(error)}, {attempt + 1} times" if attempt else _said(error)
    return reason


def _receive(url: str, part: Path, size: int, show: Callable[[int], None]) -> str:
    """One request. Returns why another one is of no use, '' when `part` is complete; what may pass is raised.

    pooch's own downloader starts each file at its beginning.
    """
    import requests

    here = _size(part)
    if size and here >= size:  # by a process that was ended before it looked at the hash
        return ""
    headers = {"Accept-Encoding": "identity"}  # the bytes as they are, or no range would fit
    if here:
        headers["Range"] = f"bytes={here}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416 and here:  # the server's file is no longer than ours
            part.unlink()
            return _receive(url, part, size, show)
        if 400 <= response.status_code < 500:
            return f"{response.status_code} {response.reason}"
        response.raise_for_status()
        resumed = response.status_code == 206  # 200: all of the file comes again
        whole = response.headers.get("Content-Range" if resumed else "Content-Length", "").rpartition("/")[2]
        if not size and not whole.isdigit():
            return "the server does not tell the size of the file, so that a cut one would not be noticed"
        if size and whole.isdigit() and int(whole) != size:  # a page that says sorry, for example
            return f"expected a file of {size:,} bytes, found one of {int(whole):,}"
        size = size or int(whole)
        with part.open("ab" if resumed else "wb") as output:
            for block in response.iter_content(_BLOCK):
                output.write(block)
                show(output.tell())
                if output.tell() > size:
                    break
    if _size(part) < size:
        raise requests.ConnectionError("the connection was cut")
    return ""


def _said(error: Any) -> str:
    """A requests exception in few words, without the names of its innards."""
    import requests

    if isinstance(error, requests.HTTPError):
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    cause = error.args[0] if error.args else error
    return line(getattr(cause, "reason", cause)).rpartition("): ")[2]  # HTTPSConnectionPool(host=...): what happened
