"""Image classification sets in the files that their authors publish, decoded on first use.

IDX, the form of MNIST and Fashion-MNIST, and the binary version of CIFAR-10 and CIFAR-100.
"""

import gzip
import hashlib
import math
import struct
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxdl.data import cache
from jaxdl.data.cache import line
from jaxdl.data.progress import shown
from jaxdl.data.source import Arrays
from jaxdl.errors import UserError

_AGAIN = "copy or download it again"


# IDX: a magic number, the sizes of the axes, the bytes; big-endian. http://yann.lecun.com/exdb/mnist/

_IDX = {  # split -> its images, its labels
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CLASSES = {  # of the sets whose classes are known
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}


def idx(folder: Path, name: str = "idx", canonical: bool = False) -> Arrays:
    """A set in four IDX files, each plain or gzipped: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-...

    name: `mnist` and `fashion_mnist` have ten known classes; the classes of any other set are called by their
        numbers, from 0 to the largest label
    canonical: see `cache.arrays`

    Returns `train` and `test`: uint8 images [N, height, width, 1] and int32 labels [N].

    Raises UserError when files are missing, cannot be read, are damaged or don't fit together.
    """
    _check_folder(folder)
    found = {file: _spelled(folder, file) for files in _IDX.values() for file in files}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}; an IDX data set is the four files {', '.join(found)}, "
            "each plain or with the ending .gz"
        )
    paths = {file: path for file, path in found.items() if path}

    def fill(writer: cache.Writer) -> Sequence[str]:
        largest, sizes = 0, set()
        for split, (images, labels) in shown(_IDX.items(), f"reading {name} from {folder}"):
            image = _idx_array(paths[images], 3)
            label = _idx_array(paths[labels], 1).astype("<i4")
            if len(image) != len(label):
                raise UserError(
                    f"{paths[images]} holds {len(image):,} images, but {paths[labels]} holds {len(label):,} labels; "
                    "take both from the same data set"
                )
            _check_labels(paths[labels], "label", label, len(_CLASSES.get(name, range(256))))
            largest = max(largest, label.max())
            sizes.add(image.shape[1:])
            writer.append(split, image=image[..., None], label=label)
        if len(sizes) > 1:
            raise UserError(
                f"the images in {folder} differ in size: {' and '.join(map(_times, sorted(sizes)))} pixels; "
                "take train and test from the same data set"
            )
        return _CLASSES.get(name) or [str(number) for number in range(largest + 1)]

    return cache.arrays(name, _digest("idx", list(paths.values())), fill, 1 / 255, canonical=canonical)


def _spelled(folder: Path, file: str) -> Path | None:
    """The file as it is spelled in `folder`."""
    spellings = (spelling + ending for spelling in (file, file.replace("-idx", ".idx")) for ending in ("", ".gz"))
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def _idx_array(path: Path, axes: int) -> np.ndarray:
    """The bytes in an IDX file, uint8 with so many axes."""
    content = _content(path)
    if content.startswith(b"\x1f\x8b"):  # by its content, because browsers unpack files and keep their names
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is damaged ({line(error)}); {_AGAIN}") from error
    header, magic = 4 + 4 * axes, 0x0800 + axes  # 8 stands for bytes
    if len(content) < header:
        raise UserError(f"{path} holds {len(content)} bytes, the header of such an IDX file alone {header}; {_AGAIN}")
    found, *shape = struct.unpack(f">{1 + axes}I", content[:header])
    if found != magic:
        kind = {1: "labels", 3: "images"}[axes]
        raise UserError(f"{path} starts with the magic number {found}; valid for IDX {kind}: {magic}; {_AGAIN}")
    if math.prod(shape) != len(content) - header:
        raise UserError(
            f"{path} should hold {_times(shape)} bytes after its header, but holds {len(content) - header:,}; {_AGAIN}"
        )
    if 0 in shape:
        raise UserError(f"{path} holds nothing: its size is {_times(shape)}; valid: at least 1 along each axis")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# CIFAR, binary version: records of one or two labels and 3 x 32 x 32 bytes. https://www.cs.toronto.edu/~kriz/cifar.html


class _Cifar(NamedTuple):
    title: str
    folder: str  # in the archive, where the files lie
    archive: str
    splits: dict[str, tuple[str, ...]]  # split -> its files
    names: str  # the file with the names of the classes, one a line
    labels: tuple[int, ...]  # how many values each label that a record starts with may have; the last one counts

    @property
    def files(self) -> list[str]:
        return [*(file for files in self.splits.values() for file in files), self.names]


_CIFAR = {
    "cifar10": _Cifar(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        splits={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
        names="batches.meta.txt",
        labels=(10,),
    ),
    "cifar100": _Cifar(
        title="CIFAR-100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        splits={"train": ("train.bin",), "test": ("test.bin",)},
        names="fine_label_names.txt",
        labels=(20, 100),
    ),
}


def cifar(folder: Path, name: str, canonical: bool = False) -> Arrays:
    """CIFAR-10 or CIFAR-100, binary version: the .bin files or the published archive, cifar-...-binary.tar.gz.

    folder: holds the archive, or the files, or the sub-folder of the files that the archive unpacks to
    name: `cifar10`, `cifar100`, or `cifar_binary` for the one that is there
    canonical: see `cache.arrays`

    Returns `train` and `test`: uint8 images [N, 32, 32, 3] and int32 labels [N]; for CIFAR-100 the fine
    ones, of 100 classes.

    Raises UserError when files are missing, cannot be read or are damaged.
    """
    _check_folder(folder)
    forms = list(_CIFAR.values()) if name == "cifar_binary" else [_CIFAR[name]]
    found = [(form, place) for form in forms if (place := _cifar_place(folder, form))]
    if not found:
        missing = [f"{', '.join(_cifar_missing(folder, form))} of {form.title}" for form in forms]
        raise UserError(
            f"{folder} lacks {' or '.join(missing)}; valid: the files themselves, the sub-folder "
            f"{' or '.join(form.folder for form in forms)} with them, or the archive "
            f"{' or '.join(form.archive for form in forms)}"
        )
    if len(found) > 1:
        raise UserError(f"{folder} holds both CIFAR-10 and CIFAR-100; name the folder of one of them")
    ((form, place),) = found
    paths = [place / file for file in form.files] if place.is_dir() else [place]

    def fill(writer: cache.Writer) -> Sequence[str]:
        contents = _archived(place, form.files) if place.is_file() else {path.name: _content(path) for path in paths}
        files = [(split, file) for split, files in form.splits.items() for file in files]
        for split, file in shown(files, f"reading {form.title} from {place}"):
            writer.append(split, **_cifar_arrays(place / file, contents[file], form))
        return _cifar_names(place / form.names, contents[form.names], form.labels[-1])

    return cache.arrays(name, _digest(form.title, paths), fill, 1 / 255, canonical=canonical)


def _cifar_place(folder: Path, form: _Cifar) -> Path | None:
    """The folder with all the files, else the archive."""
    for place in (folder, folder / form.folder):
        if all((place / file).is_file() for file in form.files):
            return place
    return folder / form.archive if (folder / form.archive).is_file() else None


def _cifar_missing(folder: Path, form: _Cifar) -> list[str]:
    """The files that are missing, in the folder or the sub-folder, whichever has more."""
    places = folder, folder / form.folder
    return min(([file for file in form.files if not (place / file).is_file()] for place in places), key=len)


def _archived(path: Path, files: Sequence[str]) -> dict[str, bytes]:
    """What the wanted files in an archive hold. Nothing is unpacked to the disk, whatever paths it names."""
    contents = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                file = PurePosixPath(member.name).name
                if file in files and member.isfile() and (reader := archive.extractfile(member)):
                    contents[file] = reader.read()
            while stream.read(1 << 20):  # the checksum comes last
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({line(error)}); {_AGAIN}") from error
    missing = [file for file in files if file not in contents]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; {_AGAIN}")
    return contents


def _cifar_arrays(path: Path, content: bytes, form: _Cifar) -> dict[str, np.ndarray]:
    """The records of one file: {"image": uint8 [N, 32, 32, 3], "label": int32 [N], ...}."""
    size = len(form.labels) + 3 * 32 * 32
    if not content or len(content) % size:
        raise UserError(
            f"{path} holds {len(content):,} bytes; valid: a multiple of {size:,}, the size of a record of "
            f"{form.title}; {_AGAIN}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for column, count in enumerate(form.labels):
        _check_labels(path, "label" if column == len(form.labels) - 1 else "coarse label", records[:, column], count)
    planes = records[:, len(form.labels) :].reshape(-1, 3, 32, 32)
    return {"image": planes.transpose(0, 2, 3, 1), "label": records[:, len(form.labels) - 1].astype("<i4")}


def _cifar_names(path: Path, content: bytes, count: int) -> list[str]:
    lines = content.decode(errors="replace").splitlines()
    names = [name.strip() for name in lines if name.strip()]
    if len(names) != count:
        raise UserError(f"{path} names {len(names)} classes; valid: {count}, one a line; {_AGAIN}")
    return names


# What both need.


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the one that holds the files of the data set")


def _digest(reader: str, paths: Sequence[Path]) -> str:
    words = [reader]
    for path in paths:
        try:
            words += cache.hashes([path])
        except OSError as error:
            raise UserError(f"cannot read {path} ({line(error)})") from error
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({line(error)})") from error


def _check_labels(path: Path, what: str, labels: np.ndarray, count: int) -> None:
    if labels.max() >= count:
        position = int(labels.argmax())
        raise UserError(f"{path}: the {what} of example {position:,} is {labels[position]}; valid: 0..{count - 1}")
