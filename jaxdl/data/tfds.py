"""Image classification sets that TensorFlow Datasets (TFDS) prepared as array_record, without TensorFlow.

The images are decoded once, into .npy files that every later start maps into memory. Such a start imports
neither TFDS nor Pillow: it hashes the prepared files to find their cache, some tens of milliseconds.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.source import Arrays
from jaxdl.errors import UserError, unknown

_SPLITS = ("train", "test")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name for such an image
_CHUNK = 2000  # examples decoded between two steps of the progress bar
_AGAIN = "copy it or prepare it again"


def read(name: str, directory: str) -> Arrays:
    """The data set `name` from the TFDS folder `directory`, decoded on first use.

    name: as TFDS spells it: `mnist`, or `cifar10_1/v4` for a set with configurations; of several prepared
        versions the newest is read
    directory: the folder that holds NAME/VERSION/; '' means the environment variable TFDS_DATA_DIR, else
        ~/tensorflow_datasets; nothing is ever written there

    Returns the splits `train` and `test`: uint8 images [N, height, width, channels] and int32 labels [N],
    memory-mapped and read-only. The fingerprint covers the decoded arrays, so the same images and labels have
    the same one however they were prepared. The arrays are cached in $JAXDL_CACHE_DIR/data, by default
    ~/.cache/jaxdl/data.

    Raises UserError when the set is missing, damaged, or no set of labelled images of one size, and when the
    cache cannot be written.
    """
    root = Path(os.path.expanduser(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))
    folder = _find(name, root)
    caches = Path(os.path.expanduser(os.environ.get("JAXDL_CACHE_DIR") or "~/.cache/jaxdl")) / "data"
    cache = caches / f"{name.replace('/', '-')}-{_digest(folder)[:16]}"
    try:
        if not cache.exists():
            _fill(cache, name, folder)
    except OSError as error:
        raise UserError(
            f"cannot write the cache folder {caches} ({_line(error)}); "
            "set the environment variable JAXDL_CACHE_DIR to a folder that can be written"
        ) from error
    return _load(cache)


def _find(name: str, root: Path) -> Path:
    """The folder of the newest prepared version of `name`: root/NAME/[CONFIG/]VERSION."""
    advice = (
        "set data.dir or the environment variable TFDS_DATA_DIR to the folder that holds it, "
        "or prepare it with `tfds build NAME --file_format=array_record` where TensorFlow is installed"
    )
    if not root.is_dir():
        raise UserError(f"no data set {name!r}: there is no folder {root}; {advice}")
    versions: dict[str, list[Path]] = {}
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for info in root.glob(pattern):
            # Anything else, such as 3.0.1.incompleteABC, is what an interrupted preparation left.
            if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name):
                versions.setdefault(info.parent.parent.relative_to(root).as_posix(), []).append(info.parent)
    if not versions:
        raise UserError(f"no data set {name!r}: {root} holds no prepared data set; {advice}")
    if name not in versions:
        raise UserError(f"{unknown('data set', name, sorted(versions))} (looked in {root}); {advice}")
    return max(versions[name], key=lambda folder: tuple(int(number) for number in folder.name.split(".")))


def _digest(folder: Path) -> str:
    """A hash of every byte that decides what a prepared folder decodes to, free of paths and times."""
    total = hashlib.sha256(b"jaxdl cache, layout 1")  # count up when the cached files change their meaning
    try:
        for path in sorted(folder.iterdir()):
            if path.name in ("dataset_info.json", "features.json") or ".array_record" in path.name:
                with path.open("rb") as file:
                    total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    except OSError as error:
        raise UserError(f"cannot read the data set in {folder} ({_line(error)})") from error
    return total.hexdigest()


def _load(cache: Path) -> Arrays:
    try:
        about = json.loads((cache / "about.json").read_text())
        splits = {
            split: {key: np.load(cache / f"{split}_{key}.npy", mmap_mode="r") for key in ("image", "label")}
            for split in _SPLITS
        }
        return Arrays(splits, about["classes"], 1 / 255, about["fingerprint"])
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"the cache {cache} is damaged ({_line(error)}); delete it and start again") from error


def _fill(cache: Path, name: str, folder: Path) -> None:
    """Decodes `folder` into `cache`, which appears complete or not at all, even when two processes do so."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    for leftover in cache.parent.glob("*.partial-*"):  # of processes that were killed
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                shutil.rmtree(leftover)
    partial = cache.with_name(f"{cache.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        prepared = _open(name, folder)
        fingerprint = hashlib.sha256(f"classes {prepared.classes}".encode())
        for split in _SPLITS:
            _decode_split(prepared, split, partial, fingerprint)
        about = {"classes": prepared.classes, "fingerprint": fingerprint.hexdigest()}
        (partial / "about.json").write_text(json.dumps(about))
        try:
            partial.rename(cache)
        except OSError:
            if not cache.exists():  # if it does, another process was first with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Prepared(NamedTuple):
    """A prepared folder, opened and found to be of the kind that is read here."""

    info: Any  # tfds.core.DatasetInfo
    shape: tuple[int, int, int]  # of an image
    classes: int


def _open(name: str, folder: Path) -> _Prepared:
    try:
        import array_record.python.array_record_module  # noqa: F401  TFDS imports it, but says less when it is missing
    except ImportError as error:
        raise UserError(
            f"reading {folder} needs the package array_record, which exists for Linux only ({_line(error)}); "
            "install it, or choose a data set that comes with jaxdl"
        ) from error
    import tensorflow_datasets as tfds

    try:
        # From the files alone: `tfds.builder` insists on the version that the installed TFDS would prepare.
        info = tfds.builder_from_directory(folder, file_format="array_record").info
        features = dict(info.features.items())
    except Exception as error:  # TFDS documents no exceptions
        raise UserError(
            f"TFDS cannot open {folder} ({_line(error)}); prepare it again with file_format='array_record'"
        ) from error

    wanted = f"{name}/{folder.name}"
    if info.full_name != wanted:
        raise UserError(f"{folder / 'dataset_info.json'} describes {info.full_name}, not {wanted}; {_AGAIN}")
    kind = f"{folder} is no image classification set that jaxdl can read"
    for split in _SPLITS:
        if split not in info.splits or not sum(info.splits[split].shard_lengths):
            raise UserError(f"{kind}: it has no {split} examples; its splits: {', '.join(info.splits) or 'none'}")
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(f"{kind}: it needs the features 'image' and 'label' and has {', '.join(sorted(features))}")
    shape, dtype, classes = image.shape, np.dtype(image.np_dtype), label.num_classes
    if None in shape:
        raise UserError(f"{kind}: its images vary in size, {shape}; choose a set with images of one size")
    if len(shape) != 3 or shape[2] not in _MODES or dtype != np.uint8 or not classes:
        raise UserError(f"{kind}: it holds {dtype} images of shape {shape} in {classes} classes")
    return _Prepared(info, shape, classes)


def _decode_split(prepared: _Prepared, split: str, target: Path, fingerprint: Any) -> None:
    """Writes SPLIT_image.npy and SPLIT_label.npy into `target` and adds both arrays to `fingerprint`."""
    from tensorflow_datasets.proto import tf_example_pb2

    info, shape, classes = prepared
    count = sum(info.splits[split].shard_lengths)
    labels = []
    fingerprint.update(f"{split} {count} {shape}".encode())
    with (target / f"{split}_image.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        what = f"decoding {info.name} {split}: {count:,} images"
        for path, first, stop in _shown(_chunks(info.splits[split]), what):
            # One thread: with images this small the interpreter lock makes two take twice as long (measured).
            images = []
            with _reading(path) as reader:
                for record in reader.read(first, stop):
                    features = tf_example_pb2.Example.FromString(record).features.feature
                    images.append(_pixels(features["image"].bytes_list.value[0], shape[2]))
                    labels.append(features["label"].int64_list.value[0])
            sizes = {pixels.shape for pixels in images}
            if sizes != {shape}:
                found = " and ".join(str(size) for size in sorted(sizes - {shape}))
                raise UserError(
                    f"{path} holds images of shape {found}, features.json says {shape}; "
                    f"{_AGAIN}, or choose a set with images of one size"
                )
            block = np.stack(images).tobytes()
            file.write(block)
            fingerprint.update(block)
    label = np.array(labels, dtype="<i8")
    if not ((label >= 0) & (label < classes)).all():
        raise UserError(
            f"{info.data_dir}: the {split} labels lie in {label.min()}..{label.max()}, not 0..{classes - 1} "
            "(TFDS writes -1 where there is none); choose a set with train and test examples all labelled"
        )
    label = label.astype("<i4")
    np.save(target / f"{split}_label.npy", label)
    fingerprint.update(label.tobytes())


def _chunks(split: Any) -> list[tuple[Path, int, int]]:
    """A split in parts of at most _CHUNK records: (file, first record in that file, one past the last)."""
    chunks = []
    for path, length in zip(map(Path, split.filepaths), split.shard_lengths, strict=True):
        if not path.is_file():
            raise UserError(f"{path} is missing from the prepared data set; {_AGAIN}")
        with _reading(path) as reader:
            found = reader.num_records()  # 0 in a file that lost its end, where the index is
        if found != length:
            raise UserError(f"{path} is damaged: {found:,} records found, dataset_info.json says {length:,}; {_AGAIN}")
        chunks += [(path, first, min(first + _CHUNK, length)) for first in range(0, length, _CHUNK)]
    return chunks


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """An open reader of one array_record file; what its content raises becomes a UserError."""
    from array_record.python.array_record_module import ArrayRecordReader
    from google.protobuf.message import DecodeError

    try:
        with contextlib.closing(ArrayRecordReader(str(path))) as reader:  # closing raises too
            yield reader
    except (RuntimeError, IndexError, DecodeError, OSError, SyntaxError, ValueError) as error:
        # In this order: the file's structure, a feature that is not there, a record, and what Pillow raises.
        raise UserError(f"{path} is damaged ({_line(error)}); {_AGAIN}") from error


def _pixels(encoded: bytes, channels: int) -> np.ndarray:
    """An image file's pixels, uint8 [height, width, channels]."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "BMP", "GIF")) as image:  # what TFDS stores
        pixels = np.asarray(image if image.mode == _MODES[channels] else image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _shown(chunks: list[tuple[Path, int, int]], what: str) -> Iterator[tuple[Path, int, int]]:
    """The chunks, while stderr shows how far they are: a bar on a terminal, else one line."""
    shown: Iterable[tuple[Path, int, int]] = chunks
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        shown = track(chunks, description=what, console=Console(stderr=True))
    else:
        print(what, file=sys.stderr, flush=True)
    yield from shown


def _line(error: Exception) -> str:
    """What an error of some library says, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "…"
