"""Image classification sets that TensorFlow Datasets (TFDS) prepared as array_record, without TensorFlow.

A start that finds the decoded set in the cache imports neither TFDS nor Pillow.
"""

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data import cache
from jaxdl.data.cache import line
from jaxdl.data.progress import shown
from jaxdl.data.source import Arrays
from jaxdl.errors import UserError, unknown

_SPLITS = ("train", "validation", "test")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name for such an image
_CHUNK = 2000  # examples decoded between two steps of the progress bar
_AGAIN = "copy it or prepare it again"


def read(name: str, directory: str, *, canonical: bool = False, size: int = 28, colour: bool = True) -> Arrays:
    """The data set `name` from the TFDS folder `directory`, decoded on first use.

    name: as TFDS spells it: `mnist`, or `cifar10_1/v4` for a set with configurations; of several prepared
        versions the newest is read
    directory: the folder that holds NAME/VERSION/, see `root`; nothing is ever written there
    canonical: see `cache.arrays`
    size, colour: what pictures become where those of the set vary in size, see `images.decode`

    Returns `train` and, where the set has them, `validation` and `test`: uint8 images [N, height, width, channels]
    and int32 labels [N], memory-mapped and read-only. The fingerprint covers the decoded arrays, so the same images
    and labels in the same order have the same one however they were prepared.

    Raises UserError when the set is missing, damaged, or no set of labelled images, and when the cache cannot be
    written.
    """
    folder = _find(name, root(directory))
    square = (size, size, 3 if colour else 1) if _varies(folder) else None
    digest = _digest(folder) + (str(square) if square else "")
    return cache.arrays(name, digest, lambda to: _decode(name, folder, square, to), 1 / 255, canonical=canonical)


def root(directory: str) -> Path:
    """The folder of prepared sets: `directory`, or for '' the variable TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.path.expanduser(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))


def prepared(directory: str) -> dict[str, list[Path]]:
    """{name: folders of its versions} of all sets that were prepared below `directory`."""
    versions: dict[str, list[Path]] = {}
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for info in root(directory).glob(pattern):
            # Anything else, such as 3.0.1.incompleteABC, is what an interrupted preparation left.
            if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name):
                name = info.parent.parent.relative_to(root(directory)).as_posix()
                versions.setdefault(name, []).append(info.parent)
    return versions


def _find(name: str, place: Path) -> Path:
    """The folder of the newest prepared version of `name`: PLACE/NAME/[CONFIG/]VERSION."""
    advice = (
        "set data.dir or the environment variable TFDS_DATA_DIR to the folder that holds it, "
        "or prepare it: python -m jaxdl.data.prepare NAME"
    )
    if not place.is_dir():
        raise UserError(f"no data set {name!r}: there is no folder {place}; {advice}")
    versions = prepared(str(place))
    if not versions:
        raise UserError(f"no data set {name!r}: {place} holds no prepared data set; {advice}")
    if name not in versions:
        raise UserError(f"{unknown('data set', name, sorted(versions))} (looked in {place}); {advice}")
    return max(versions[name], key=lambda folder: tuple(int(number) for number in folder.name.split(".")))


def _digest(folder: Path) -> str:
    """A hash of every byte that decides what a prepared folder decodes to, free of paths and times."""
    try:
        wanted = re.compile(r"dataset_info\.json|features\.json|.*\.labels\.txt|.*\.array_record.*")
        paths = [path for path in sorted(folder.iterdir()) if wanted.fullmatch(path.name)]
        found = cache.hashes(paths)
    except OSError as error:
        raise UserError(f"cannot read the data set in {folder} ({line(error)})") from error
    lines = [f"{path.name} {digest}\n" for path, digest in zip(paths, found, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _varies(folder: Path) -> bool:
    """Whether the images differ in size, as features.json says; False where it can't be read, which is told later."""
    try:
        features = json.loads((folder / "features.json").read_text())["featuresDict"]["features"]
        return "-1" in features["image"]["image"]["shape"]["dimensions"][:2]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _decode(name: str, folder: Path, square: tuple[int, int, int] | None, writer: cache.Writer) -> tuple[str, ...]:
    """Decodes `folder` into the cache; returns the names of the classes. square: the shape that all images become."""
    found = _open(name, folder)
    if square:
        found = found._replace(shape=square)
    for split in _SPLITS:
        if split in found.info.splits and sum(found.info.splits[split].shard_lengths):
            _decode_split(found, split, bool(square), writer)
    return found.names


class _Prepared(NamedTuple):
    """A prepared folder, opened and found to be of the kind that is read here."""

    info: Any  # tfds.core.DatasetInfo
    shape: tuple[int, int, int]  # of an image; None, None where they vary in size
    names: tuple[str, ...]  # of the classes


def _open(name: str, folder: Path) -> _Prepared:
    try:
        import array_record.python.array_record_module  # noqa: F401  TFDS imports it, but says less when it is missing
    except ImportError as error:
        raise UserError(
            f"reading {folder} needs the package array_record, which exists for Linux only ({line(error)}); "
            "install it, or choose a data set that comes with jaxdl"
        ) from error
    import tensorflow_datasets as tfds

    try:
        # From the files alone: `tfds.builder` insists on the version that the installed TFDS would prepare.
        info = tfds.builder_from_directory(folder, file_format="array_record").info
        features = dict(info.features.items())
    except Exception as error:  # TFDS documents no exceptions
        raise UserError(
            f"TFDS cannot open {folder} ({line(error)}); prepare it again with file_format='array_record'"
        ) from error

    wanted = f"{name}/{folder.name}"
    if info.full_name != wanted:
        raise UserError(f"{folder / 'dataset_info.json'} describes {info.full_name}, not {wanted}; {_AGAIN}")
    kind = f"{folder} is no image classification set that jaxdl can read"
    if "train" not in info.splits or not sum(info.splits["train"].shard_lengths):
        raise UserError(f"{kind}: it has no train examples; its splits: {', '.join(info.splits) or 'none'}")
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(f"{kind}: it needs the features 'image' and 'label' and has {', '.join(sorted(features))}")
    shape, dtype, classes = image.shape, np.dtype(image.np_dtype), label.num_classes
    if len(shape) != 3 or shape[2] not in _MODES or dtype != np.uint8 or not classes:
        raise UserError(f"{kind}: it holds {dtype} images of shape {shape} in {classes} classes")
    return _Prepared(info, shape, tuple(label.names))


def _decode_split(found: _Prepared, split: str, resized: bool, writer: cache.Writer) -> None:
    from tensorflow_datasets.proto import tf_example_pb2

    from jaxdl.data.images import decode

    info, shape, names = found
    count = sum(info.splits[split].shard_lengths)
    what = f"decoding {info.name} {split}: {count:,} images"
    for path, first, stop in shown(_chunks(info.splits[split]), what):
        # One thread: with images this small the interpreter lock makes two take twice as long (measured).
        images, labels = [], []
        with _reading(path) as reader:
            for number, record in enumerate(reader.read(first, stop), first):
                features = tf_example_pb2.Example.FromString(record).features.feature
                encoded = features["image"].bytes_list.value[0]
                if resized:
                    images.append(decode(encoded, f"{path}, record {number},", shape[0], shape[2]))
                else:
                    images.append(_pixels(encoded, shape[2]))
                labels.append(features["label"].int64_list.value[0])
        sizes = {pixels.shape for pixels in images}
        if sizes != {shape}:
            others = " and ".join(str(size) for size in sorted(sizes - {shape}))
            raise UserError(
                f"{path} holds images of shape {others}, features.json says {shape}; "
                f"{_AGAIN}, or choose a set with images of one size"
            )
        label = np.array(labels, dtype="<i8")
        if not ((label >= 0) & (label < len(names))).all():
            raise UserError(
                f"{info.data_dir}: {split} labels lie in {label.min()}..{label.max()}, not 0..{len(names) - 1} "
                "(TFDS writes -1 where there is none); choose a set with train and test examples all labelled"
            )
        writer.append(split, image=np.stack(images), label=label.astype("<i4"))


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
        raise UserError(f"{path} is damaged ({line(error)}); {_AGAIN}") from error


def _pixels(encoded: bytes, channels: int) -> np.ndarray:
    """An image file's pixels, uint8 [height, width, channels]."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "BMP", "GIF")) as image:  # what TFDS stores
        pixels = np.asarray(image if image.mode == _MODES[channels] else image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)
