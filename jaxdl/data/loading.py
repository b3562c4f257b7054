"""One call for every data set: `load(config.data, config.batch_size)`."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data import normalisation, tfds
from jaxdl.data.source import Arrays, Source
from jaxdl.data.splits import split
from jaxdl.errors import UserError, unknown

ORDERS = ("seed", "shared")


class Set(NamedTuple):
    """A data set that can be loaded by name.

    line: what it is; read: settings -> Arrays, see `load` for the settings
    where: (name, TFDS folder) -> where it comes from, as things are now
    """

    line: str
    read: Callable[[Any], Arrays]
    where: Callable[[str, str], str]


def load(settings: Any, batch_size: int, device_bytes: float = math.inf, workers: int = 0) -> Source:
    """The source that `settings` names, split into train, validation and test.

    settings: attributes
        name                 a key of SETS, or a set that TFDS prepared, as TFDS spells it
        dir                  where the set lies: a TFDS folder, the authors' own files, a user's folder or file
        train, validation    numbers of examples, see `splits.split`; 0 and 0 leave it to the set
        order                "seed" or "shared"
        normalise            one of `normalisation.KINDS`
        pictures             attributes `size` (pixels a side) and `colour`
        csv                  attribute `label`, the column that holds the class
    device_bytes: a set larger than this stays on the host and is streamed, by `workers` processes

    Raises UserError for whatever does not fit together.
    """
    if settings.order not in ORDERS:
        raise unknown("data.order", settings.order, ORDERS)
    arrays = read(settings)
    name = settings.name
    data = split(name, arrays, settings.train, settings.validation)
    size = len(data["train"]["label"])
    if not 0 < batch_size <= size:
        raise UserError(f"batch_size={batch_size} is not possible: valid is 1 to {size}, the training split of {name}")
    total = sum(rows.nbytes for part in data.values() for rows in part.values())
    streamed = total > device_bytes
    if streamed and settings.order != "shared":
        raise UserError(
            f"{name} has {total / 1e9:.3g} GB, more than runtime.device_gigabytes={device_bytes / 1e9:.3g}, so it is "
            "streamed, in one order for all runs: set --config.data.order=shared, or allow more gigabytes"
        )
    if workers < 0:
        raise UserError(f"workers={workers} is not possible: valid is 0 or more")
    if not streamed:
        data = {part: {key: np.asarray(rows) for key, rows in values.items()} for part, values in data.items()}
    normalise = normalisation.fit(settings.normalise, data["train"]["image"], arrays.scale)
    return Source(
        name, data, arrays.names, normalise, arrays.fingerprint, batch_size, settings.order, streamed, workers
    )


def read(settings: Any) -> Arrays:
    """The set as it is stored, with its official splits; see `load` for the settings."""
    # The keys that other sets read count as read too: they are part of every config.
    _ = settings.pictures.size, settings.pictures.colour, settings.csv.label, settings.dir
    if settings.name in SETS:
        return SETS[settings.name].read(settings)
    if settings.name in tfds.prepared(settings.dir):
        pictures = settings.pictures
        return tfds.read(settings.name, settings.dir, size=pictures.size, colour=pictures.colour)
    raise unknown("dataset", settings.name, [*SETS, *sorted(set(tfds.prepared(settings.dir)) - set(SETS))])


def _digits(settings: Any) -> Arrays:
    from sklearn.datasets import load_digits

    digits = load_digits()
    image = digits.images.astype(np.uint8)[..., None]  # [1797, 8, 8, 1], values 0..16
    label = digits.target.astype(np.int32)
    fingerprint = hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest()[:16]
    return Arrays({"train": {"image": image, "label": label}}, tuple("0123456789"), 1 / 16, fingerprint)


def _rendered_digits(settings: Any) -> Arrays:
    from jaxdl.data import rendered_digits

    return rendered_digits.read()


def _shapes(settings: Any) -> Arrays:
    from jaxdl.data import shapes

    return shapes.read()


def _published(settings: Any) -> Arrays:
    """A set that its authors publish as raw files: those, or TFDS's copy of it, wherever it is; else a download.

    The order is canonical, so that the splits are the same whichever form was found.
    """
    from jaxdl.data import downloads, raw

    name, folder = settings.name, settings.dir
    if name in tfds.prepared(folder):
        return tfds.read(name, folder, canonical=True)
    reader = raw.cifar if name.startswith("cifar") else raw.idx
    return reader(Path(folder).expanduser() if folder else downloads.fetch(name), name, canonical=True)


def _raw(settings: Any) -> Arrays:
    from jaxdl.data import raw

    reader = {"idx": raw.idx, "cifar_binary": raw.cifar}[settings.name]
    return reader(Path(_place(settings)), settings.name)


def _image_folder(settings: Any) -> Arrays:
    from jaxdl.data import image_folder

    return image_folder.read(_place(settings), settings.pictures.size, settings.pictures.colour)


def _csv(settings: Any) -> Arrays:
    from jaxdl.data import tables

    return tables.csv(_place(settings), settings.csv.label)


def _numpy(settings: Any) -> Arrays:
    from jaxdl.data import tables

    return tables.numpy_files(_place(settings))


def _place(settings: Any) -> str:
    if not settings.dir:
        raise UserError(f"data.name={settings.name} needs data.dir: {SETS[settings.name].line}")
    return str(Path(settings.dir).expanduser())


def _where_published(name: str, folder: str) -> str:
    from jaxdl.data import downloads

    if name in tfds.prepared(folder):
        return "TFDS folder"
    missing = sum(file.size for file in downloads.missing(name))
    return f"to download: {missing / 1e6:,.0f} MB" if missing else "downloaded"


def _built_in(name: str, folder: str) -> str:
    return "built in"


def _yours(name: str, folder: str) -> str:
    return "yours, in data.dir"


SETS = {
    "digits": Set("1,797 grey 8x8 scans of digits (UCI), from scikit-learn", _digits, _built_in),
    "rendered_digits": Set("10,000 grey 28x28 digits in matplotlib's fonts, with angles", _rendered_digits, _built_in),
    "shapes": Set("11,520 grey 16x16 pictures of 3 shapes with their factors", _shapes, _built_in),
    "mnist": Set("70,000 grey 28x28 scans of handwritten digits", _published, _where_published),
    "fashion_mnist": Set("70,000 grey 28x28 pictures of clothing, 10 classes", _published, _where_published),
    "cifar10": Set("60,000 colour 32x32 photos, 10 classes", _published, _where_published),
    "cifar100": Set("60,000 colour 32x32 photos, 100 classes", _published, _where_published),
    "idx": Set("a folder of raw IDX files, named as MNIST's", _raw, _yours),
    "cifar_binary": Set("a folder of raw CIFAR-10 or CIFAR-100 binary files", _raw, _yours),
    "image_folder": Set("a folder of pictures, one sub-folder a class", _image_folder, _yours),
    "npz": Set("a .npz file, or a folder of .npy files, with x and y", _numpy, _yours),
    "csv": Set("a table of numbers with a label column", _csv, _yours),
}
