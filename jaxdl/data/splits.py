"""Train, validation and test of a set: disjoint, stratified, the same in every process and on every machine."""

import numpy as np

from jaxdl.data import order
from jaxdl.data.source import Arrays, Rows, Split
from jaxdl.errors import UserError

SPLITS = ("train", "validation", "test")


def split(name: str, arrays: Arrays, train: int, validation: int) -> dict[str, Split]:
    """{"train", "validation", "test"} with `train` and `validation` examples, as rows of the arrays.

    Official splits are kept. Where there is no official validation split, it is carved from the training split;
    where there is no official test split, the test split is what train and validation leave over, perhaps nothing.

    validation: 0 takes the official split, else a sixth of the training split
    train: 0 takes all that is left, but for as many test as validation examples where no test split is official

    Raises UserError for what does not fit.
    """
    pool = arrays.splits["train"]
    size = len(pool["label"])
    if validation < 0 or train < 0:
        raise UserError(f"data.train={train} and data.validation={validation} are not possible: valid is 0 or more")
    own_validation, own_test = "validation" in arrays.splits, "test" in arrays.splits
    carved = 0 if own_validation else validation or size // 6
    used = train or size - carved - (0 if own_test else carved or size // 6)
    left = size - carved - used
    if used < 1 or (carved < 1 and not own_validation) or left < 0:
        raise UserError(
            f"data.train={train} and data.validation={validation} do not fit {name}: it has {size} examples"
            + "; 0 and 0 leave it to the set"
        )
    rows = stratified(np.asarray(pool["label"]))
    parts = {"train": _rows(pool, rows[carved : carved + used])}
    if own_validation:
        held_out = arrays.splits["validation"]
        count = len(held_out["label"])
        if validation > count:
            raise UserError(f"data.validation={validation} is not possible: {name} has {count} validation examples")
        parts["validation"] = _rows(held_out, stratified(np.asarray(held_out["label"]))[: validation or count])
    else:
        parts["validation"] = _rows(pool, rows[:carved])
    if own_test:
        test = arrays.splits["test"]
        parts["test"] = _rows(test, np.arange(len(test["label"])))
    else:
        parts["test"] = _rows(pool, rows[carved + used :])
    return parts


def _rows(values: Split, index: np.ndarray) -> Split:
    return {key: Rows(array, np.sort(index)) for key, array in values.items()}


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
