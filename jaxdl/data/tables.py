"""Tables of one's own: a CSV file with a column of labels, or NumPy arrays in an .npz file or a folder of .npy files.

Either becomes a set through the cache; nothing in a file is ever executed.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from csv import Error as CsvError
from csv import reader
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxdl.data import cache
from jaxdl.data.cache import line
from jaxdl.data.progress import shown
from jaxdl.data.source import Arrays
from jaxdl.errors import UserError, unknown

LARGEST = 16 << 30  # bytes that all arrays of a set may declare together; a small .npz can claim to hold far more
LABELS = 10_000  # labels in NumPy files lie below
_GREATEST = float(np.finfo(np.float32).max)
_VERSION = "tables 1"  # count up when the same files give other arrays
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}
_WORDS = {word: "image" for word in ("x", "image", "images", "data")} | {
    word: "label" for word in ("y", "label", "labels", "target")
}
_PLACES = {word: ("train", key) for word, key in _WORDS.items()} | {  # name in small letters -> (split, key)
    name: (split, key)
    for word, key in _WORDS.items()
    for affix, split in _SPLITS.items()
    for name in (f"{word}_{affix}", f"{affix}_{word}")
}
_NAMES = (
    "x and y, image and label, images and labels, or data and target, each also with _train, _test and _validation "
    "(or _val) behind or train_, test_ and validation_ (or val_) before"
)


def csv(path: str, label: str) -> Arrays:
    """A CSV file whose first row names the columns: `label` holds the classes, all others are features.

    Comma, semicolon or tab between the cells, whichever divides the first row into more of them; UTF-8. Labels
    may be whole numbers or texts; the classes are the distinct ones, sorted (as numbers where all are).

    Returns the split `train` alone: features float32 [N, columns - 1] as "image" and labels int32 [N].

    Raises UserError, with the line where there is one, for a missing or ragged table, a cell that is no finite
    number, and a label column that can be no class.
    """
    source = Path(os.path.expanduser(path))
    digest = _digest([source], [label])

    def fill(writer: cache.Writer) -> Sequence[str]:
        values, texts, lines = _table(source, label)
        names, labels = classes(source, label, texts, lines, len(texts))
        writer.append("train", image=values, label=labels)
        return names

    return cache.arrays("csv", digest, fill, 1.0)


def numpy_files(path: str) -> Arrays:
    """Arrays that NumPy saved: an .npz file, or a folder of .npy files that are called as arrays in it would be.

    Examples are called x, X, image, images or data and labels y, label, labels or target, with `_train`, `_test`,
    `_validation` or `_val` behind (or `train_`, ... before); without it they are the training split. Images of
    whole numbers ([N, h, w] or [N, h, w, channels], 0 to 255; false and true count as 0 and 255) are stored as
    uint8, everything else as float32; [N, h, w] becomes [N, h, w, 1]. Labels are whole numbers or one-hot rows;
    the classes are the distinct ones in the training split, sorted.

    Returns the splits that are there, "image" and "label" (int32 [N]); the scale is 1/255 for uint8, else 1.

    Raises UserError for a damaged file, one with pickled objects, arrays that don't fit together, values that
    aren't finite, and more than LARGEST bytes.
    """
    source = Path(os.path.expanduser(path))
    files = [source]
    folder = bool(path) and source.is_dir()
    if folder:
        files = sorted(file for file in source.glob("*.npy") if not file.name.startswith("."))
        if not files:
            raise UserError(f"{source} holds no .npy files; valid: files called {_NAMES}")
    elif source.suffix.lower() != ".npz" and source.exists():
        raise UserError(f"{source} is no .npz file; valid: an .npz file, or a folder with .npy files")
    digest = _digest(files, [file.name for file in files] if folder else [])

    def fill(writer: cache.Writer) -> Sequence[str]:
        for _ in shown([source], f"reading {source}"):
            names, splits = _splits(source, read_arrays(source, files, _PLACES, _NAMES))
        for split, values in splits.items():
            writer.append(split, **values)
        return names

    arrays = cache.arrays("npz", digest, fill, 1.0)
    return arrays._replace(scale=1 / 255 if arrays.splits["train"]["image"].dtype == np.uint8 else 1.0)


def _digest(files: list[Path], more: list[str]) -> str:
    """Of the files' content and of what else decides what they become."""
    try:
        for file in files:
            if not file.is_file():  # a folder, a pipe that would never end
                raise UserError(f"{file} is no file" if file.exists() else f"there is no file {file}")
        return hashlib.sha256(json.dumps([_VERSION, cache.hashes(files), more]).encode()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read the data set ({line(error)})") from error


# CSV


def _table(path: Path, label: str) -> tuple[np.ndarray, list[str], list[int]]:
    """Features float32 [N, F], the labels as written, and the line that each example begins in."""
    table = rows(path)
    number, header = header_of(path, table)
    if label not in header:
        raise unknown(f"label column of {path}:", label, [" ".join(name.split()) for name in header])
    if len(header) < 2:
        raise UserError(f"{path} has no column but {label!r}, the label; valid: at least one more, with numbers")

    place = header.index(label)
    features = header[:place] + header[place + 1 :]
    values, texts, lines = array("f"), [], []
    for number, cells in shown(table, f"reading {path}"):
        if len(cells) != len(header):
            raise UserError(f"{path} line {number} has {len(cells)} cells; valid: {len(header)}, as in the first row")
        texts.append(cells.pop(place))
        lines.append(number)
        if not texts[-1]:
            raise UserError(f"{path} line {number}: the label {label!r} is empty; fill it in or remove the line")
        values.extend(numbers(path, number, features, cells))
    if not texts:
        raise UserError(f"{path} has no rows below the names of the columns; valid: one for each example")
    return np.frombuffer(values, np.float32).reshape(len(texts), len(features)), texts, lines


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that aren't blank, with the line that each begins in; cells without blanks around.

    Raises UserError for a file that cannot be read, is not UTF-8, or is no table.
    """
    try:
        content = path.read_bytes()
    except OSError as error:  # not to be taken for one of the cache
        raise UserError(f"cannot read {path} ({line(error)})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {number} is not UTF-8 text; save the table as UTF-8") from error

    # Quotes are read leniently here, as they only make sense with the right delimiter. Of equals the comma wins.
    delimiter = max(",;\t", key=lambda one: len(next(_rows(path, text, one, strict=False), (1, ()))[1]))
    yield from _rows(path, text, delimiter, strict=True)


def header_of(path: Path, table: Iterator[tuple[int, list[str]]]) -> tuple[int, list[str]]:
    """The first of `rows`, which names the columns, and its line. Raises UserError for names that are none."""
    number, header = next(table, (1, []))
    if not header:
        raise UserError(f"{path} is empty; valid: a row with the names of the columns, then the examples")
    if "" in header:
        raise UserError(f"{path} line {number}: column {header.index('') + 1} has no name; name or remove it")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UserError(f"{path} line {number}: two columns are called {twice!r}; rename or remove one")
    return number, header


def numbers(path: Path, number: int, columns: Sequence[str], cells: Sequence[str]) -> list[float]:
    """The values of the cells of line `number`. Raises UserError for one that is no finite number in 32 bits."""
    try:
        return list(map(_number, cells))
    except ValueError as error:
        name, cell = next(pair for pair in zip(columns, cells, strict=True) if not _parses(_number, pair[1]))
        found = f"holds {cell[:40]!r}" if cell else "is empty"
        raise UserError(f"{path} line {number}: column {name!r} {found}; valid: a finite number") from error


def _rows(path: Path, text: str, delimiter: str, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows that aren't blank, with the line that each begins in (quoted cells may hold line breaks)."""
    rows = reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict, skipinitialspace=True)
    while True:
        number = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except CsvError as error:
            raise UserError(f"{path} line {number} is no row of a table ({line(error)})") from error
        cells = [cell.strip() for cell in cells]
        if cells not in ([], [""]):
            yield number, cells


def _number(cell: str) -> float:
    """The value of a cell. Raises ValueError for what is no finite number in 32 bits."""
    value = _float(cell)
    if not abs(value) <= _GREATEST:
        raise ValueError(cell)
    return value


def _float(cell: str) -> float:
    return float(cell.replace("_", "?"))  # Python would read 1_000 as a number


def _parses(parse: Callable[[str], float], cell: str) -> bool:
    try:
        parse(cell)
    except ValueError:
        return False
    return True


def classes(path: Path, label: str, texts: list[str], lines: list[int], size: int) -> tuple[list[str], np.ndarray]:
    """The names of the classes and int32 [N] from the N cells of the label column; UserError where they can be none.

    size: rows of the table, where those without a label count too
    """
    keys: list = texts
    if all(_parses(_float, text) for text in texts):
        for text, number in zip(texts, lines, strict=True):
            if not _float(text).is_integer():
                raise UserError(
                    f"{path} line {number}: the label {label!r} is {text}; valid: whole numbers, or texts "
                    "(a column of measurements holds no classes)"
                )
        keys = [int(Decimal(text)) for text in texts]  # exact, where identifiers have twenty digits
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise UserError(
            f"{path}: the label {label!r} is {str(distinct[0])[:40]!r} in every row; valid: two classes or more"
        )
    if 2 * len(distinct) > size:
        raise UserError(
            f"{path}: the label {label!r} has {len(distinct):,} different values in {size:,} rows, so it is "
            "probably no class; valid: at most half as many classes as rows"
        )
    place = {key: index for index, key in enumerate(distinct)}
    return [str(key) for key in distinct], np.array([place[key] for key in keys], np.int32)


# NumPy files


class _Member(NamedTuple):
    what: str  # how errors call it
    size: int  # bytes, header included
    open: Callable[[], IO[bytes]]


def read_arrays(
    source: Path, files: list[Path], known: Collection[str], valid: str, kinds: str = "buif"
) -> dict[str, tuple[str, np.ndarray]]:
    """{name: (how errors call it, array as stored)}; sizes and types are checked before any array is read.

    files: [source], an .npz file, or the .npy files in the folder `source`
    known, valid: the names in small letters, and as errors list them; kinds: NumPy's letters of types
    """
    with contextlib.ExitStack() as stack:
        members: dict[str, _Member] = {}
        with _damaged(source):
            if files == [source]:
                archive = stack.enter_context(zipfile.ZipFile(source))
                for info in archive.infolist():
                    what = f"{source}: {info.filename}"
                    members[info.filename] = _Member(what, info.file_size, partial(archive.open, info))
            else:
                for file in files:
                    members[file.name] = _Member(str(file), file.stat().st_size, partial(file.open, "rb"))
        strange = sorted(name for name in members if name.removesuffix(".npy").lower() not in known)
        if strange:
            found = ", ".join(sorted(name.removesuffix(".npy") for name in members))
            raise UserError(
                f"{source}: the array {strange[0].removesuffix('.npy')!r} is none of the valid ones; "
                f"found: {found}; valid: {valid}"
            )
        size = sum(member.size for member in members.values())
        if size > LARGEST:
            raise UserError(f"{source} declares {size:,} bytes of arrays; valid: at most {LARGEST:,}")
        for member in members.values():
            with _damaged(member.what), member.open() as stream:
                _check(member, stream, kinds)
        arrays = {}
        for name, member in members.items():
            with _damaged(member.what), member.open() as stream:
                arrays[name.removesuffix(".npy")] = member.what, np.lib.format.read_array(stream, allow_pickle=False)
        return arrays


@contextlib.contextmanager
def _damaged(what: object) -> Iterator[None]:
    """Whatever zipfile, zlib and NumPy raise for files that are not as they should be becomes a UserError."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"{what} is damaged ({line(error)}); copy or save it again") from error


def _check(member: _Member, stream: IO[bytes], kinds: str) -> None:
    """That the header of an array fits its file and declares numbers."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")  # which NumPy writes for records alone
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise UserError(f"{member.what} holds pickled Python objects, which could run code; save it as numbers")
    if dtype.kind not in kinds:
        text = " and texts" if "U" in kinds else ""
        raise UserError(
            f"{member.what} holds values of the type {dtype}; valid: whole numbers, floats, true and false{text}"
        )
    declared = stream.tell() + math.prod(shape) * dtype.itemsize
    if declared != member.size:
        raise ValueError(f"its header declares {declared:,} bytes, it has {member.size:,}")


def _splits(
    source: Path, arrays: dict[str, tuple[str, np.ndarray]]
) -> tuple[list[str], dict[str, dict[str, np.ndarray]]]:
    """The names of the classes, and the splits as they are cached."""
    splits: dict[str, dict[str, np.ndarray]] = {}
    names: dict[tuple[str, str], str] = {}
    for name, (what, values) in arrays.items():
        split, key = _PLACES[name.lower()]
        if (split, key) in names:
            raise UserError(f"{source}: {names[split, key]} and {name} are both the {split} {key}s; remove one")
        names[split, key] = name
        splits.setdefault(split, {})[key] = _images(what, values) if key == "image" else _labels(what, values)
    if "train" not in splits:
        raise UserError(f"{source} holds no training examples, but {', '.join(arrays) or 'nothing'}; valid: {_NAMES}")
    for split, values in splits.items():
        for key, other in (("image", "label"), ("label", "image")):
            if key not in values:
                raise UserError(f"{source}: {names[split, other]} has no {key}s beside it; valid: {_NAMES}")
        found, label = values["image"], values["label"]
        if len(found) != len(label):
            raise UserError(
                f"{source}: {names[split, 'image']} holds {len(found):,} examples and {names[split, 'label']} "
                f"{len(label):,}; valid: as many"
            )
        train = splits["train"]["image"]
        if (found.dtype, found.shape[1:]) != (train.dtype, train.shape[1:]):
            raise UserError(
                f"{source}: examples of {split} are {found.dtype} {list(found.shape[1:])}, those of train "
                f"{train.dtype} {list(train.shape[1:])}; valid: the same"
            )
    known = np.unique(splits["train"]["label"])
    if len(known) < 2:
        raise UserError(f"{source}: every training label is {known[0]}; valid: two classes or more")
    for split, values in splits.items():
        strange = ~np.isin(values["label"], known)
        if strange.any():
            row = int(strange.argmax())
            raise UserError(
                f"{source}: {names[split, 'label']}[{row}] is {values['label'][row]}, a class that train does not "
                f"have; valid: {len(known):,} classes from {known[0]} to {known[-1]}"
            )
        values["label"] = np.searchsorted(known, values["label"]).astype(np.int32)
    return [str(label) for label in known], splits


def _images(what: str, values: np.ndarray) -> np.ndarray:
    """Examples as they are cached: float32, or uint8 [N, h, w, channels]."""
    if values.ndim not in (2, 3, 4) or 0 in values.shape:
        raise UserError(
            f"{what} has the shape {list(values.shape)}; valid: [N, features], [N, height, width] and "
            "[N, height, width, channels], none of them 0"
        )
    if values.ndim == 2 or values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # found below
            result = values.astype(np.float32)
        finite = np.isfinite(result)
        if not finite.all():
            place = tuple(int(index) for index in np.unravel_index(finite.argmin(), finite.shape))
            raise UserError(f"{what}{list(place)} is {values[place]}; valid: finite numbers, at most 3.4e38")
    elif values.dtype.kind == "b":
        result = values.astype(np.uint8) * np.uint8(255)
    else:
        if values.min() < 0 or values.max() > 255:
            raise UserError(f"{what} holds values from {values.min()} to {values.max()}; valid: 0 to 255, or floats")
        result = values.astype(np.uint8)
    return result[..., None] if values.ndim == 3 else result


def _labels(what: str, values: np.ndarray) -> np.ndarray:
    """Labels as int32 [N], from whole numbers [N] or [N, 1] or one-hot rows [N, classes]."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and len(values):
        ones = values == 1
        strange = (ones.sum(axis=1) != 1) | ((values != 0) & ~ones).any(axis=1)
        if strange.any():
            raise UserError(
                f"{what}[{int(strange.argmax())}] is not one-hot; valid: a single 1 among zeros in each row"
            )
        values = ones.argmax(axis=1)
    if values.ndim != 1 or not len(values):
        raise UserError(f"{what} has the shape {list(values.shape)}; valid: [N] with whole numbers, or one-hot [N, C]")
    strange = ~((values >= 0) & (values < LABELS) & (values == np.floor(values)))
    if strange.any():
        row = int(strange.argmax())
        raise UserError(
            f"{what}[{row}] is {values[row]}; valid: whole numbers from 0 to {LABELS - 1:,}, or one-hot rows"
        )
    return values.astype(np.int32)
