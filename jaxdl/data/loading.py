"""One call for every data set: `load(config.data, config.batch_size)`."""

import hashlib
from typing import Any

import numpy as np

from jaxdl.data import order
from jaxdl.data.source import Arrays, Source, Split
from jaxdl.errors import UserError, unknown

EMBEDDED = ("digits",)
TFDS = ("mnist", "fashion_mnist", "cifar10")
ORDERS = ("seed", "shared")


def load(settings: Any, batch_size: int) -> Source:
    """The source that `settings` names, split into train, validation and test.

    settings: attributes `name`, `dir` (a TFDS folder; '' looks in $TFDS_DATA_DIR), `train` and `validation`
    (numbers of examples; 0 for train: all that is left) and `order` ("seed" or "shared"). Sets without an
    official test split give what remains as test. Raises UserError for whatever does not fit together.
    """
    name, folder, train, validation = settings.name, settings.dir, settings.train, settings.validation
    if settings.order not in ORDERS:
        raise unknown("data.order", settings.order, ORDERS)
    if name in EMBEDDED:
        arrays = _digits()
    elif name in TFDS:
        from jaxdl.data import tfds

        arrays = tfds.read(name, folder)
    else:
        raise unknown("dataset", name, EMBEDDED + TFDS)
    data = split(name, arrays, train, validation)
    size = len(data["train"]["label"])
    if not 0 < batch_size <= size:
        raise UserError(f"batch_size={batch_size} is not possible: valid is 1 to {size}, the training split of {name}")
    return Source(name, data, arrays.classes, arrays.scale, arrays.fingerprint, batch_size, settings.order)


def split(name: str, arrays: Arrays, train: int, validation: int) -> dict[str, Split]:
    """Train, validation and test, disjoint and stratified; the same examples in every process and on every machine.

    Validation is carved from the official training split; where there is no official test split, the test
    split is what train and validation leave over.
    """
    pool = arrays.splits["train"]
    size = len(pool["label"])
    official_test = "test" in arrays.splits
    if validation < 1:
        raise UserError(f"data.validation={validation} is not possible: tuning needs at least one example")
    train = train or size - validation
    left = size - train - validation
    if train < 1 or left < 0 or (left < 1 and not official_test):
        raise UserError(
            f"data.train={train} and data.validation={validation} do not fit {name}: it has {size} examples"
            + ("" if official_test else ", of which the test split needs at least one")
        )
    rows = stratified(np.asarray(pool["label"]))
    parts = {"validation": rows[:validation], "train": rows[validation : validation + train]}
    data = {part: {key: values[np.sort(index)] for key, values in pool.items()} for part, index in parts.items()}
    if official_test:
        data["test"] = arrays.splits["test"]
    else:
        data["test"] = {key: values[np.sort(rows[validation + train :])] for key, values in pool.items()}
    return data


def stratified(labels: np.ndarray) -> np.ndarray:
    """A shuffled order of [0, N) whose every prefix holds the classes in proportion.

    To within one example a class where the classes are about equally large; where they are not, to within half
    as many examples as there are classes. Shuffled, because files are often sorted (scikit-learn's digits by
    writer).
    """
    place = np.empty(len(labels))
    shuffled = order.index(0, 0, np.arange(len(labels), dtype=np.uint32), len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")


def _digits() -> Arrays:
    """The 1,797 real 8x8 images that scikit-learn ships (UCI optical recognition of handwritten digits)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    image = digits.images.astype(np.uint8)[..., None]  # [1797, 8, 8, 1], values 0..16
    label = digits.target.astype(np.int32)
    fingerprint = hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest()[:16]
    return Arrays({"train": {"image": image, "label": label}}, 10, 1 / 16, fingerprint)
