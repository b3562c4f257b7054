"""Pictures in folders, one folder a class, as one's own pictures and most published sets come.

    FOLDER/CLASS/**/PICTURE            split by a hash of each file's content: 70% train, 15% validation, 15% test
    FOLDER/{train,test,...}/CLASS/**/PICTURE    official splits: train and one or both of test and validation (val)

Links are followed; names may be in any script.
"""

import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data import cache
from jaxdl.data.cache import line
from jaxdl.data.progress import shown
from jaxdl.data.source import Arrays
from jaxdl.errors import UserError, unknown

LARGEST = 1024  # pixels along an edge
_VERSION = "image folder 1"  # count up when the same files give other arrays
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}  # folder -> split
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
# fmt: off
_OTHERS = (  # pictures too, which are refused and not passed over
    ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".apng", ".jfif", ".jpe", ".jp2", ".j2k", ".jxl",
    ".ico", ".svg", ".psd", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw",
)
# fmt: on
_BLOCK, _BLOCK_BYTES = 256, 1 << 26  # pictures decoded between two steps of the progress bar, at most


class _Example(NamedTuple):
    hash: str  # SHA-256 of the file, hex
    label: int
    path: Path


def read(folder: str, size: int, colour: bool) -> Arrays:
    """The pictures below `folder`, one class folder a class, decoded on first use.

    size: of the square that every picture becomes, in pixels; see `images.decode`
    colour: three channels; else one, grey

    Returns the splits `train`, `validation` and `test` (of official splits those that are there): images uint8
    [N, size, size, 1 or 3] and labels int32 [N], memory-mapped and read-only, in the order of the hashes of the
    files. Without official splits a file's own content decides its split, so that further files move none. Of
    identical files in a class one is kept. The classes are the folders' names in Unicode's form NFC, sorted.
    Below a class folder lie pictures at any depth; hidden and other files are passed over.

    Raises UserError, which names the file or folder, for whatever does not fit this.
    """
    if not 1 <= size <= LARGEST:
        raise UserError(f"size={size} is not possible for pictures; valid: 1 to {LARGEST} pixels")
    root = Path(os.path.expanduser(folder))
    if not folder or not root.is_dir():
        raise UserError(f"{folder!r} is no folder; valid: a folder with a sub-folder of pictures for each class")
    try:
        names, files = _find(root)
        paths = sorted((path for classes in files.values() for found in classes.values() for path in found), key=str)
        hashes = dict(zip(paths, cache.hashes(paths), strict=True))
    except OSError as error:
        raise UserError(f"cannot read the pictures in {root} ({line(error)})") from error
    splits, copies = _split(root, names, files, hashes)

    def fill(writer: cache.Writer) -> Sequence[str]:
        if copies:
            print(f"{root}: identical copies of pictures left out: {copies:,}", file=sys.stderr, flush=True)
        _decode(writer, root, splits, size, 3 if colour else 1)
        return names

    content = {split: [example[:2] for example in examples] for split, examples in splits.items()}
    parts = [_VERSION, size, colour, names, content]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache.arrays("image_folder", digest, fill, 1 / 255)


def _find(root: Path) -> tuple[list[str], dict[str, dict[str, list[Path]]]]:
    """The names of the classes and {split: {class: pictures}}; the split is "" where there are no official ones."""
    top = _folders(root)
    official = {name: path for name, path in top.items() if name.lower() in _SPLITS}
    if len(official) > 1 and "train" in map(str.lower, official):
        if len(official) < len(top):
            others = ", ".join(sorted(set(top) - set(official)))
            raise UserError(
                f"{root} holds {others} beside {', '.join(sorted(official))}; valid: nothing but the folders train, "
                "test and validation, or nothing but class folders"
            )
        parts: dict[str, dict[str, Path]] = {}
        for name, path in official.items():
            split = _SPLITS[name.lower()]
            if split in parts:
                raise UserError(f"{root} holds both validation and val; valid: one of them")
            parts[split] = _folders(path)
    else:
        parts = {"": top}
    names = sorted(parts.get("train", top))
    if len(names) < 2:
        raise UserError(
            f"{root} holds only one class, {names[0]}; valid: two class folders or more, or splits with such"
        )
    files: dict[str, dict[str, list[Path]]] = {}
    for split, folders in parts.items():
        for name, path in folders.items():
            if name not in names:
                raise unknown(f"class in {path.parent}: the folder", name, names)
            found = pictures(path)
            if not found:
                raise UserError(f"the class folder {path} holds no picture; valid: {' '.join(PICTURES)}")
            files.setdefault(split, {})[name] = found
    return names, files


def _folders(parent: Path) -> dict[str, Path]:
    """{name in form NFC: folder} of the visible folders right below `parent`, beside which no pictures may lie."""
    folders: dict[str, Path] = {}
    alike: dict[str, Path] = {}
    beside = []
    for path in sorted(parent.iterdir(), key=str):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            if path.suffix.lower() in (*PICTURES, *_OTHERS):
                beside.append(path)
            continue
        name = unicodedata.normalize("NFC", path.name)
        key = unicodedata.normalize("NFC", name.lower())
        if key in alike:
            raise UserError(
                f"{alike[key].name!a} and {path.name!a} in {parent} differ only in case or in their Unicode form; "
                "rename or merge one of them"
            )
        folders[name] = alike[key] = path
    if not folders:
        raise UserError(f"{parent} has no class folders; valid: a sub-folder of pictures for each class")
    if beside:
        raise UserError(f"{beside[0]} lies beside the class folders; move it into one of them, or away")
    return folders


def pictures(folder: Path, strict: bool = True) -> list[Path]:
    """All pictures below a folder, in no order; hidden and other files are passed over.

    Links are followed, but no real folder is entered twice. UserError for a picture of another kind than PICTURES
    and for a broken link; not `strict`, they are among what is returned, for the reader to refuse one by one.
    """
    found: list[Path] = []
    entered: set[Path] = set()
    left = [folder]
    while left:
        place = left.pop()
        real = Path(os.path.realpath(place))
        if real in entered:
            continue
        entered.add(real)
        with os.scandir(place) as entries:
            for entry in entries:
                path, suffix = Path(entry.path), os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if entry.is_symlink() and real.is_relative_to(os.path.realpath(path)):
                        raise UserError(f"{path} is a link to a folder that it lies in; remove it")
                    left.append(path)
                elif suffix in _OTHERS and strict:
                    raise UserError(f"{path} is no picture of a valid kind; valid: {' '.join(PICTURES)}")
                elif suffix in (*PICTURES, *_OTHERS):
                    if strict and not entry.is_file():
                        raise UserError(f"{path} is no file that can be read (a broken link?); remove it")
                    found.append(path)
    return found


def _split(
    root: Path, names: list[str], files: dict[str, dict[str, list[Path]]], hashes: dict[Path, str]
) -> tuple[dict[str, list[_Example]], int]:
    """The examples of each split in the order of their hashes, and how many identical copies were left out."""
    kept: dict[str, tuple[str, str, Path]] = {}
    splits: dict[str, list[_Example]] = {}
    copies = 0
    for split, classes in files.items():
        for label, name in enumerate(names):
            for path in sorted(classes.get(name, ()), key=str):
                found = hashes[path]
                if found not in kept:
                    kept[found] = split, name, path
                    splits.setdefault(split or _drawn(found), []).append(_Example(found, label, path))
                    continue
                other_split, other_name, other = kept[found]
                if other_name != name:
                    raise UserError(
                        f"the same picture is in two classes, {other_name} and {name}: {other} and {path}; remove one"
                    )
                if other_split != split:
                    raise UserError(
                        f"the same picture is in {other_split} and in {split}: {other} and {path}; remove one"
                    )
                copies += 1
    empty = sorted({"train", "validation", "test"} - set(splits)) if "" in files else []
    if empty:
        raise UserError(
            f"{root} holds too few images ({len(kept)} different ones): none falls into {' and '.join(empty)}; "
            "valid: some dozens, or official splits in the folders train and test"
        )
    missing = sorted(set(range(len(names))) - {example.label for example in splits["train"]})
    if missing:
        raise UserError(f"{root} holds too few images of class {names[missing[0]]}: none falls into train; add some")
    return {split: sorted(examples) for split, examples in splits.items()}, copies


def _drawn(found: str) -> str:
    """The split that a file's hash decides."""
    fraction = int(found[:16], 16) / 2**64
    return "test" if fraction < 0.15 else "validation" if fraction < 0.3 else "train"


def _decode(writer: cache.Writer, root: Path, splits: dict[str, list[_Example]], size: int, channels: int) -> None:
    from jaxdl.data import images  # with Pillow, which a start that finds the cache does not need

    def one(example: _Example) -> np.ndarray:
        try:
            content = example.path.read_bytes()
        except OSError as error:  # not to be taken for one of the cache
            raise UserError(f"cannot read {example.path} ({line(error)})") from error
        return images.decode(content, str(example.path), size, channels)

    length = max(1, min(_BLOCK, _BLOCK_BYTES // (size * size * channels)))
    blocks = [
        (split, examples[start : start + length])
        for split, examples in splits.items()
        for start in range(0, len(examples), length)
    ]
    count = sum(len(examples) for examples in splits.values())
    # Pillow decodes and resizes without the interpreter lock: 500 x 400 JPEGs take 0.36 ms on 2 cores, 0.65 on one.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, block in shown(blocks, f"decoding {root}: {count:,} pictures"):
            label = np.array([example.label for example in block], np.int32)
            writer.append(split, image=np.stack(list(pool.map(one, block))), label=label)
