"""What a set contains, in numbers: counts, ranges, means, and examples that are there twice."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.progress import shown
from jaxdl.data.source import Split

_BLOCK = 2000  # examples read at a time
_LARGE = 200_000  # examples of a split; such a one takes seconds


class Contents(NamedTuple):
    """One split. minimum, maximum: of the stored values; mean, std: of stored * scale, [channels]."""

    by_class: list[int]
    minimum: float
    maximum: float
    mean: list[float]
    std: list[float]


def describe(splits: dict[str, Split], classes: int, scale: float) -> dict[str, Contents]:
    """The contents of each split of images or features [N, ..., channels]."""
    found = {}
    for split, values in splits.items():
        stored = values["image"]
        channels = stored.shape[-1]
        low, high, total, squares, count = np.inf, -np.inf, np.zeros(channels), np.zeros(channels), 0
        # Sums of differences from some value of each channel: of the values, small deviations would cancel.
        origin = np.asarray(stored[:1]).reshape(-1, channels)[0].astype(np.float64) * scale
        for first in range(0, len(stored), _BLOCK):
            block = np.asarray(stored[first : first + _BLOCK]).reshape(-1, channels)  # [n, ..., C] -> [n ..., C]
            low, high = min(low, block.min()), max(high, block.max())
            scaled = block.astype(np.float64) * scale - origin
            total, squares, count = total + scaled.sum(axis=0), squares + (scaled**2).sum(axis=0), count + len(block)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        by_class = np.bincount(np.asarray(values["label"]), minlength=classes)
        found[split] = Contents(by_class.tolist(), float(low), float(high), (origin + mean).tolist(), std.tolist())
    return found


class Duplicates(NamedTuple):
    """Examples whose image is, byte for byte, that of an earlier example.

    within: {split: count}; across: {(split, other): examples of `other` that `split` has, too}
    relabelled: those of all these that have another label there
    """

    within: dict[str, int]
    across: dict[tuple[str, str], int]
    relabelled: int


def duplicates(splits: dict[str, Split]) -> Duplicates:
    """Look for duplicates within each split, and of earlier splits in later ones."""
    seen: dict[str, dict[bytes, int]] = {}
    within, across, relabelled = {}, {}, 0
    for split, values in splits.items():
        own: dict[bytes, int] = {}
        within[split] = 0
        across |= {(earlier, split): 0 for earlier in seen}
        labels = np.asarray(values["label"])
        blocks = range(0, len(labels), _BLOCK)
        if len(labels) > _LARGE:
            blocks = shown(blocks, f"comparing the {len(labels):,} examples of {split}")
        for first in blocks:
            for image, label in zip(_images(values, first), labels[first : first + _BLOCK].tolist(), strict=True):
                digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                others = {label}
                if digest in own:
                    within[split] += 1
                    others.add(own[digest])
                for earlier, known in seen.items():
                    if digest in known:
                        across[earlier, split] += 1
                        others.add(known[digest])
                relabelled += len(others) > 1
                own.setdefault(digest, label)
        seen[split] = own
    return Duplicates(within, across, relabelled)


def _images(values: Split, first: int) -> Any:
    return np.ascontiguousarray(values["image"][first : first + _BLOCK])
