"""Shapes: 11,520 grey images, one for each combination of five factors; a small dSprites (Matthey et al. 2017).

White on black, 16 x 16. The factors and their values, each counted from 0 in `factors`:

    shape     3   square, ellipse, heart
    scale     6   the circle around the shape has a radius of 2.625, 3, ..., 4.5 pixels
    rotation 10   0, 9, ..., 81 degrees, counter-clockwise as seen in the picture
    x         8   whole pixels, from left to right
    y         8   whole pixels, from top to bottom

A square repeats after 90 degrees and an ellipse after 180, so rotations stop short of 90, for all shapes alike: no two
images are equal. (dSprites goes on to 360.) The same bits on every machine: integer arithmetic only.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from jaxdl.data import cache
from jaxdl.data.source import Arrays

_VERSION = "shapes, version 1"  # count up with any change of what is drawn

FACTORS = ("shape", "scale", "rotation", "x", "y")  # the columns of `factors`
_SHAPES = ("square", "ellipse", "heart")
_RADII = range(84, 145, 12)  # 1/32 pixel
_PLACES = 8  # along each axis

# cos(0), cos(9), ..., cos(90 degrees) in units of 2^-14; backwards, they are the sines.
_COSINES = (16384, 16182, 15582, 14598, 13255, 11585, 9630, 7438, 5063, 2563, 0)
_TURN = 1 << 14

_SPRITE = 9  # pixels along each side of the largest shape
_FINE = 16  # sub-pixels a pixel, along each side
_UNIT = 320  # the radius of the circle around a shape, in whose units its outline is computed


def read() -> Arrays:
    """The set from the cache; drawn on first use, which takes less than a second.

    One split, "train", in shuffled order: `image` uint8 [11520, 16, 16, 1], `label` int32 [11520], which is the shape,
    and `factors` int32 [11520, 5], the number of each factor's value, in the order of FACTORS.

    Raises UserError when the cache cannot be written.
    """
    return cache.arrays("shapes", hashlib.sha256(_VERSION.encode()).hexdigest(), _draw, 1 / 255)


def _draw(to: cache.Writer) -> Sequence[str]:
    sizes = len(_SHAPES), len(_RADII), len(_COSINES) - 1, _PLACES, _PLACES
    side = _SPRITE + _PLACES - 1
    image = np.zeros((*sizes, side, side), np.uint8)
    for drawn in np.ndindex(*sizes[:3]):
        sprite = _sprite(*drawn)
        for x, y in np.ndindex(*sizes[3:]):
            image[drawn][x, y, y : y + _SPRITE, x : x + _SPRITE] = sprite
    image = image.reshape(-1, side, side, 1)  # [3, 6, 10, 8, 8, 16, 16] -> [11520, 16, 16, 1]
    factors = np.indices(sizes, np.int32).reshape(len(FACTORS), -1).T
    # Only raw words of Philox, a stream that NumPy guarantees, unlike that of its permutations.
    order = np.argsort(np.random.Philox(key=0).random_raw(len(factors)), kind="stable")
    to.append("train", image=image[order], label=factors[order, 0], factors=factors[order])
    return _SHAPES


def _sprite(shape: int, scale: int, rotation: int) -> np.ndarray:
    """One shape in the middle of uint8 [9, 9], from 0 to 255: the share of each pixel that it covers."""
    middles = np.arange(1, 2 * _FINE * _SPRITE, 2, np.int64) - _FINE * _SPRITE  # of the sub-pixels, 1/32 pixel
    right, up = middles[None, :], -middles[:, None]
    cosine, sine = _COSINES[rotation], _COSINES[-1 - rotation]
    # Turned back, in units of the circle's radius, to the nearest integer: [144, 144] each.
    unit = _TURN * _RADII[scale]
    along = ((cosine * right + sine * up) * _UNIT + unit // 2) // unit
    across = ((cosine * up - sine * right) * _UNIT + unit // 2) // unit
    ink = (_square, _ellipse, _heart)[shape](along, across)
    covered = ink.reshape(_SPRITE, _FINE, _SPRITE, _FINE).sum(axis=(1, 3))
    return ((covered * 255 + _FINE * _FINE // 2) // (_FINE * _FINE)).astype(np.uint8)


# Which points of a plane a shape covers, bool like x (right) and y (up): integers, 320 is the radius of the circle.


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 2 * np.maximum(abs(x), abs(y)) ** 2 <= _UNIT**2


def _ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Twice as long as it is wide."""
    return x**2 + 4 * y**2 <= _UNIT**2


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x^2 + y^2 - 1)^3 <= x^2 y^3; a circle of radius 1.25 around (0, 0.24) touches it left, right and below."""
    one = _UNIT * 4 // 5
    y = y + 62
    return (x**2 + y**2 - one**2) ** 3 <= one * x**2 * y**3
