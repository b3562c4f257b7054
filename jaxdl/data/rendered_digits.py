"""Rendered digits: 10,000 grey images of 0 to 9 in the fonts that come with matplotlib, each turned by a known angle.

White on black, 28 x 28, a thousand of each class; font, angle, height, place, stroke and noise are random. The same
bits on every machine: the outlines are read from the font files, whose hashes are pinned, and everything from there
on is integer arithmetic - no FreeType, no libm, no floating point.
"""

import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data import cache
from jaxdl.data.progress import shown
from jaxdl.data.source import Arrays
from jaxdl.errors import UserError

_VERSION = "rendered digits, version 1"  # count up with any change of what is drawn
_MATPLOTLIB = "3.11.2"

# The faces with ten lining digits, as matplotlib 3.11.2 has them. (cmmi10 has old-style digits. The 4 of cmti10 does
# reach below the line, but height and place of a digit don't follow from the line here.)
_FONTS = {
    "DejaVuSans.ttf": "3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22",
    "DejaVuSans-Bold.ttf": "b184b89e3c1075f22f6b71575b6fc20d4972b3cfd3b23322ca6fd596dcaef167",
    "DejaVuSans-BoldOblique.ttf": "6edf0283160186af451cbee71e7b845f2e4cabf264bb992ce668c83c25465e6f",
    "DejaVuSans-Oblique.ttf": "ccdf74b350f11fd3dd5774de50e5e6346a1a5da1f5b7d5fb83590665e97a5213",
    "DejaVuSansMono.ttf": "602ec86b8948cfcd956482fe64f94c36c867770149ef2f791d4613f443bcecb3",
    "DejaVuSansMono-Bold.ttf": "baada9a5172fe20886251aff0433fc38461912d5daf07287e7bee56620a8da96",
    "DejaVuSansMono-BoldOblique.ttf": "a69081c15c76c827e0a27a5a7f5c74b6135c843499955495ffa8c20d3a98288b",
    "DejaVuSansMono-Oblique.ttf": "28052813f7a709fc89f52d192dc995ef4f0fdc5c3d7b73a49d6849b1916d0cd0",
    "DejaVuSerif.ttf": "107244956e9962b9e96faccdc551825e0ae0898ae13737133e1b921a2fd35ffa",
    "DejaVuSerif-Bold.ttf": "c3753f2ed6bc673f15846dc45addbeb3b9c872f32fb18fd53a21f1bef1ed7676",
    "DejaVuSerif-BoldItalic.ttf": "d93efec7a9d2e826768d1a2ee95b95870e15e29599a84f3484af1de1cec2e181",
    "DejaVuSerif-Italic.ttf": "3e7994fbc54fa10ce3352a42d548fadd7d9cadb69cb1109bc9d960f6dac57f04",
    "STIXGeneral.ttf": "167378031e2dddc6216d67819c9260e9a06ffc4c478e4e23cb98a6fd44b183c2",
    "STIXGeneralBol.ttf": "e8533dc7083fa346bda1933d60ea4a83b67d0945bceaf1b3541f82b4a0e2c6a0",
    "STIXGeneralBolIta.ttf": "98788fd4ba48dfbb2bd026c0e20a247a8b06c7372879628b7a6bb0d5bb09736c",
    "STIXGeneralItalic.ttf": "6cfcb333d22b7c3c623bdfd40174f14c85c3d6731ca6166c1edc80140eae8527",
    "cmb10.ttf": "074497b50c43ea57597181591f9893d38fc12a87e95104f5657fc2481f61a23a",
    "cmr10.ttf": "4dd9761b058c009db9b2145f55ee6617d093c273dd3d6c5b3e43ff6110fa9bf6",
    "cmss10.ttf": "7df91a83d05b2e471ec638cb0b435a360a3c792b09fc42a7da67e91f2e79115a",
    "cmti10.ttf": "f9f1f9f654308ae82f7be4441ae89b080896b34cc220bbea173c5e9adcfe3ef7",
    "cmtt10.ttf": "6211f09ae93599991afda970c24669dad1a77e253d915624fbf212f702f071d7",
}

_COUNT = 10_000
_BLOCK = 250  # images between two steps of the progress bar
_SIDE = 28  # pixels
_FINE = 4  # sub-pixels a pixel, along each side
_UNIT = 64  # lengths in an image are integers of 1/64 pixel
_DEGREE = 1024  # angles are integers of 1/1024 degree

# What is random, from one value to the other, both included.
_ANGLE = -45 * _DEGREE, 45 * _DEGREE
_HEIGHT = 13 * _UNIT, 18 * _UNIT  # of the digit as its font has it, before it is turned
_SHIFT = 2 * _UNIT  # at most this far from the middle, along each axis; less where the digit would leave the image
_LEVEL = 40, 100  # of the blurred digit: low is thick
_GRAIN = 0, 52  # of the noise: times 147.8 / 256 is its standard deviation in levels of grey

# A digit's shape: a map of 256 x 256 cells with the digit in its middle, 160 cells high.
_CELLS = 256
_TALL = 160
_BLUR = 11  # cells of the box that is averaged over, twice
_CURVE = 16  # pieces of a quadratic spline
_POINT = 64  # outlines are integers of 1/64 cell

_ONE = 1 << 60  # fixed point of the sine and cosine
_PI = 3622009729038561421  # pi of it
_STEP = 1 << 18  # fixed point of the steps through a map


class _Looks(NamedTuple):
    """How the images look, int64 [10000] each."""

    label: np.ndarray
    face: np.ndarray  # place in _FONTS
    angle: np.ndarray  # 1/1024 degree, counter-clockwise
    height: np.ndarray  # 1/64 pixel
    right: np.ndarray  # shift of the middle, 1/64 pixel
    down: np.ndarray
    level: np.ndarray
    grain: np.ndarray


def read() -> Arrays:
    """The set from the cache; rendered on first use, which takes some seconds.

    One split, "train", in shuffled order: `image` uint8 [10000, 28, 28, 1], `label` int32 [10000] and `angle` float32
    [10000] in degrees from -45 to 45, counter-clockwise positive as seen in the picture.

    Raises UserError when a font of this matplotlib is missing or another one, and when the cache cannot be written.
    """
    digest = hashlib.sha256(json.dumps([_VERSION, _FONTS]).encode()).hexdigest()
    return cache.arrays("rendered_digits", digest, _render, 1 / 255)


def _render(to: cache.Writer) -> Sequence[str]:
    shapes = _shapes()
    looks = _looks([_reach(shape) for shape in shapes])
    noise = np.random.Philox(key=1)
    for start in shown(range(0, _COUNT, _BLOCK), f"rendering {_COUNT} digits"):
        rows = range(start, start + _BLOCK)
        clean = np.stack([_clean(shapes, looks, row) for row in rows])
        images = clean + _noise(noise, looks.grain[start : start + _BLOCK])
        to.append(
            "train",
            image=np.clip(images, 0, 255).astype(np.uint8)[..., None],
            label=looks.label[start : start + _BLOCK].astype(np.int32),
            # A division by a power of two, hence exact.
            angle=looks.angle[start : start + _BLOCK].astype(np.float32) / np.float32(_DEGREE),
        )
    return [str(digit) for digit in range(10)]


# Random numbers: only the raw words of Philox, a stream that NumPy guarantees, unlike that of its distributions.


def _looks(reach: Sequence[int]) -> _Looks:
    """Draw how each image looks. reach: see `_reach`, of every shape."""
    words = np.random.Philox(key=0)

    def between(low: Any, high: Any) -> np.ndarray:
        """Integers [10000] from low to high, both included."""
        span = np.asarray(high - low + 1, np.uint64)
        return (((words.random_raw(_COUNT) >> np.uint64(32)) * span) >> np.uint64(32)).astype(np.int64) + low

    label = (np.arange(_COUNT) % 10)[np.argsort(words.random_raw(_COUNT), kind="stable")]
    face = between(0, len(_FONTS) - 1)
    angle, height, level, grain = (between(*ends) for ends in (_ANGLE, _HEIGHT, _LEVEL, _GRAIN))
    # At every angle the digit lies in a circle around its middle; one pixel at the image's border stays free.
    radius = -(-np.asarray(reach, np.int64)[face * 10 + label] * height // (2 * _TALL))
    free = np.minimum(_SHIFT, (_SIDE // 2 - 1) * _UNIT - radius)
    return _Looks(label, face, angle, height, between(-free, free), between(-free, free), level, grain)


def _noise(words: np.random.Philox, grain: np.ndarray) -> np.ndarray:
    """About Gaussian noise for n images, int64 [n, 28, 28]; each value is a sum of 4 random bytes.

    grain: int64 [n]
    """
    drawn = words.random_raw(len(grain) * _SIDE * _SIDE // 2)
    halves = np.stack([drawn & np.uint64(0xFFFFFFFF), drawn >> np.uint64(32)], axis=1)
    total = sum((halves >> np.uint64(shift)) & np.uint64(0xFF) for shift in (0, 8, 16, 24))
    centred = np.asarray(total).astype(np.int64).reshape(-1, _SIDE, _SIDE) - 4 * 255 // 2
    return (centred * grain[:, None, None] + 128) >> 8


# One image


def _clean(shapes: np.ndarray, looks: _Looks, row: int) -> np.ndarray:
    """The image of one row before the noise, int64 [28, 28] from 0 to 255.

    Each sub-pixel looks up the cell of the map from which it comes: shifted back, turned back, scaled.
    """
    shape = shapes[looks.face[row] * 10 + looks.label[row]]
    cosine, sine = _turn(int(looks.angle[row]))
    scale = _TALL * _STEP
    along, across = (value * scale // (int(looks.height[row]) * _ONE) for value in (cosine, sine))
    width = _UNIT // _FINE
    middles = np.arange(_SIDE * _FINE, dtype=np.int32) * width + (width - _SIDE * _UNIT) // 2  # of the sub-pixels
    right, down = middles - np.int32(looks.right[row]), middles - np.int32(looks.down[row])
    middle = _CELLS // 2 * _STEP
    column = (along * right + middle)[None, :] - (across * down)[:, None]
    line = (across * right)[None, :] + (along * down + middle)[:, None]
    for place in (column, line):
        np.floor_divide(place, _STEP, out=place)
        np.clip(place, 0, _CELLS - 1, out=place)  # beyond the map is nothing, as at its border
    line *= _CELLS
    line += column
    ink = shape.reshape(-1)[line] > int(looks.level[row])
    grey = ink.reshape(_SIDE, _FINE, _SIDE, _FINE).sum(axis=(1, 3))
    return (grey * 255 + _FINE * _FINE // 2) // (_FINE * _FINE)


def _turn(angle: int) -> tuple[int, int]:
    """Cosine and sine of an angle in 1/1024 degree, in units of 2^-60: their Taylor series in integers."""
    radians = angle * _PI // (180 * _DEGREE)
    sums, term = [0, 0, 0, 0], _ONE
    for power in range(24):  # the first term left out is below 2^-60 for angles below 90 degrees
        sums[power % 4] += term
        term = term * radians // (_ONE * (power + 1))
    return sums[0] - sums[2], sums[1] - sums[3]


# The shapes


def _shapes() -> np.ndarray:
    """The blurred digits, uint8 [faces * 10, 256, 256]: 0 far from the ink, 255 deep in it."""
    return np.stack([_blurred(_ink(outline)) for name in _FONTS for outline in _outlines(name)])


def _folder() -> Path:
    """Where matplotlib keeps its fonts; found without importing it, which would take a second."""
    found = importlib.util.find_spec("matplotlib")
    package = Path(found.origin).parent if found and found.origin else Path("matplotlib")
    return package / "mpl-data" / "fonts" / "ttf"


def _outlines(name: str) -> Iterator[list[np.ndarray]]:
    """The contours of the digits 0 to 9 of a font file, each an int64 [points, 2] (right, up) that closes itself.

    In 1/512 of the font's units, so that the corners of the flattened splines are integers.
    """
    path = _folder() / name
    failed = f"rendered_digits cannot be made bit-identically with this matplotlib: the font {path}"
    advice = f"install matplotlib {_MATPLOTLIB}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{failed} cannot be read ({cache.line(error)}); {advice}") from error
    if hashlib.sha256(content).hexdigest() != _FONTS[name]:
        raise UserError(f"{failed} is not the one of version {_MATPLOTLIB}; {advice}")
    from fontTools.ttLib import TTFont  # a warm start does without

    with _quiet(), TTFont(io.BytesIO(content), lazy=True) as font:
        names, glyphs = font.getBestCmap(), font["glyf"]
        for digit in "0123456789":
            points, ends, flags = glyphs[names[ord(digit)]].getCoordinates(glyphs)  # resolves composite glyphs
            starts = [0, *(end + 1 for end in ends)]
            yield [
                _flat([tuple(points[place]) for place in range(*ends)], [flags[place] & 1 for place in range(*ends)])
                for ends in itertools.pairwise(starts)
            ]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep fontTools from remarks on the creation dates of the cm fonts."""
    logger = logging.getLogger("fontTools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _flat(points: list[tuple[int, int]], on: list[int]) -> np.ndarray:
    """A TrueType contour as a polygon, int64 [corners, 2] in 1/512 of the unit of the points.

    on: which points lie on the curve. The others control quadratic splines; halfway between two of them in a row
    lies a point of the curve.
    """
    double = 2 * np.asarray(points, np.int64)
    full: list[tuple[np.ndarray, int]] = []
    for place in range(len(points)):
        if not on[place - 1] and not on[place]:
            full.append(((double[place - 1] + double[place]) // 2, 1))
        full.append((double[place], on[place]))
    first = next(place for place, (_, lies_on) in enumerate(full) if lies_on)
    full = full[first:] + full[: first + 1]
    part = np.arange(_CURVE)[:, None]
    pieces = []
    for place in range(len(full) - 1):
        (point, lies_on), (following, next_lies_on) = full[place : place + 2]
        if not lies_on:
            start = full[place - 1][0]
            pieces.append((_CURVE - part) ** 2 * start + 2 * part * (_CURVE - part) * point + part**2 * following)
        elif next_lies_on:
            pieces.append(_CURVE**2 * point[None])
    return np.concatenate(pieces)


def _ink(outline: list[np.ndarray]) -> np.ndarray:
    """Which cells' middles lie inside an outline (non-zero winding), bool [256, 256]; its first row is the top.

    The box around the outline is put into the middle and scaled to a height of 160 cells.
    """
    corners = np.concatenate(outline)
    low, high = corners.min(axis=0), corners.max(axis=0)
    height = int(high[1] - low[1])
    winding = np.zeros((_CELLS, _CELLS + 1), np.int64)
    lines = (np.arange(_CELLS) * _POINT + _POINT // 2)[:, None]  # the middles of the rows
    for contour in outline:
        offset = (2 * contour - low - high) * [1, -1]
        placed = offset * (_TALL * _POINT) // (2 * height) + _CELLS * _POINT // 2
        x, y = placed.T
        next_x, next_y = np.roll(placed, -1, axis=0).T
        crossed, edge = np.nonzero((y <= lines) != (next_y <= lines))
        x, y, next_x, next_y = x[edge], y[edge], next_x[edge], next_y[edge]
        at = x + (lines[crossed, 0] - y) * (next_x - x) // (next_y - y)
        first = -((_POINT // 2 - at) // _POINT)  # the first cell whose middle does not lie left of the crossing
        np.add.at(winding, (crossed, first), np.where(next_y > y, 1, -1))
    return winding.cumsum(axis=1)[:, :_CELLS] != 0


def _blurred(ink: np.ndarray) -> np.ndarray:
    """Averages over a square around each cell, taken twice, from 0 to 255: uint8 [256, 256]."""
    values = ink.astype(np.int64)
    for _ in range(4):  # along each axis twice
        sums = np.pad(values, ((_BLUR // 2 + 1, _BLUR // 2), (0, 0))).cumsum(axis=0)
        values = (sums[_BLUR:] - sums[:-_BLUR]).T
    return (values * 255 // _BLUR**4).astype(np.uint8)


def _reach(shape: np.ndarray) -> int:
    """How far the ink of the thickest stroke lies from the middle, in half cells, rounded up."""
    lines, columns = np.nonzero(shape > _LEVEL[0])
    away = [np.abs(2 * places + 1 - _CELLS) + 1 for places in (lines, columns)]  # of each cell's far side
    return math.isqrt(int((away[0] ** 2 + away[1] ** 2).max())) + 1
