"""Shapes: the same bits everywhere, each combination of factors once, outlines against polygons that Pillow fills."""

import hashlib
import math

import numpy as np
import pytest
import scipy.optimize
from PIL import Image, ImageDraw

from jaxdl.data import shapes

SHA256 = "72687e4a97d0f4631c4ec6e8038bc9827ff44774c36885b3d589272ff379b8f6"
SIZES = (3, 6, 10, 8, 8)
COUNT = math.prod(SIZES)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDL_CACHE_DIR", str(tmp_path_factory.mktemp("shapes")))
        return shapes.read()


@pytest.fixture(scope="module")
def split(arrays):
    return {key: np.asarray(values) for key, values in arrays.splits["train"].items()}


@pytest.fixture(scope="module")
def grid(split):
    """The images by the values of their factors, int64 [3, 6, 10, 8, 8, 16, 16]."""
    images = np.full((*SIZES, 16, 16), -1)
    images[tuple(split["factors"].T)] = split["image"][..., 0]
    return images


def test_the_set_is_the_pinned_one(arrays, split):
    assert list(arrays.splits) == ["train"]
    assert {key: (values.dtype, values.shape) for key, values in split.items()} == {
        "image": (np.uint8, (COUNT, 16, 16, 1)),
        "label": (np.int32, (COUNT,)),
        "factors": (np.int32, (COUNT, 5)),
    }
    assert arrays.names == ("square", "ellipse", "heart")
    assert arrays.scale == 1 / 255
    content = [
        split[key].astype(kind).tobytes() for key, kind in (("image", "u1"), ("label", "<i4"), ("factors", "<i4"))
    ]
    assert hashlib.sha256(b"".join(content)).hexdigest() == SHA256


def test_every_combination_of_factors_is_there_once_and_no_two_images_are_equal(split):
    assert shapes.FACTORS == ("shape", "scale", "rotation", "x", "y")
    assert sorted(map(tuple, split["factors"].tolist())) == list(np.ndindex(*SIZES))
    assert len({image.tobytes() for image in split["image"]}) == COUNT
    np.testing.assert_array_equal(split["label"], split["factors"][:, 0])


def test_a_step_of_any_factor_is_seen_and_turning_on_never_leads_back(grid):
    for axis in range(5):
        near = np.square(np.diff(grid, axis=axis)).sum(axis=(-1, -2))
        assert math.sqrt(near.min()) > 70  # on images of 0 to 255
    # Of the rotations, the first and the last of a square are 9 degrees apart; of the others, 81.
    ends = np.sqrt(np.square(grid[:, :, 0] - grid[:, :, -1]).sum(axis=(-1, -2))[..., 0, 0])
    steps = np.sqrt(np.square(np.diff(grid, axis=2)).sum(axis=(-1, -2))[..., 0, 0])
    assert (ends[0] > 0.5 * steps[0].mean(axis=-1)).all() and (ends[1:] > 1.5 * steps[1:].max(axis=-1)).all()


def test_the_order_is_shuffled(split):
    """In the first tenth, each value of each factor is about as frequent as in the whole."""
    for column, size in enumerate(SIZES):
        counts = np.bincount(split["factors"][: COUNT // 10, column], minlength=size)
        share = COUNT // 10 / size
        assert np.abs(counts - share).max() < 4 * math.sqrt(share)


def test_positions_move_the_same_picture_by_whole_pixels(grid):
    first = grid[..., 0, 0, :9, :9]
    assert not grid[..., 0, 0, 9:, :].any() and not grid[..., 0, 0, :, 9:].any()
    for x, y in np.ndindex(8, 8):
        np.testing.assert_array_equal(grid[..., x, y, y : y + 9, x : x + 9], first)
        assert (grid[..., x, y, :, :].sum(axis=(-1, -2)) == first.sum(axis=(-1, -2))).all()


def outline(shape):
    """Corners of a polygon, float64 [points, 2] (right, up), in units of the radius of the circle around it."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    if shape == 0:
        return np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) / math.sqrt(2)
    if shape == 1:
        return np.stack([np.cos(angles), np.sin(angles) / 2], axis=1)

    def radius(angle):
        power = math.cos(angle) ** 2 * math.sin(angle) ** 3  # (r^2 - 1)^3 = r^5 cos^2 sin^3
        return scipy.optimize.brentq(lambda r: (r * r - 1) ** 3 - r**5 * power, 0.5, 2)

    heart = np.array([(radius(angle) * math.cos(angle), radius(angle) * math.sin(angle)) for angle in angles])
    return (heart - (0, 0.2425)) / 1.25


@pytest.mark.parametrize("shape", range(3))
def test_pictures_are_the_outlines_turned_and_scaled(grid, shape):
    fine, corners = 64, outline(shape)
    for scale, rotation in np.ndindex(6, 10):
        x, y = (scale + rotation) % 8, 3 * rotation % 8
        angle = math.radians(9 * rotation)
        right = corners @ (math.cos(angle), -math.sin(angle))
        up = corners @ (math.sin(angle), math.cos(angle))
        radius = (42 + 6 * scale) / 16
        places = np.stack([(x + 4.5 + radius * right) * fine - 0.5, (y + 4.5 - radius * up) * fine - 0.5], axis=1)
        canvas = Image.new("L", (16 * fine, 16 * fine))
        ImageDraw.Draw(canvas).polygon(list(map(tuple, places.tolist())), fill=255)
        expected = np.asarray(canvas, np.float64).reshape(16, fine, 16, fine).mean(axis=(1, 3))
        found = grid[shape, scale, rotation, x, y]
        assert np.abs(found - expected).max() < 0.1 * 255
        assert found.sum() == pytest.approx(expected.sum(), rel=0.035)


def test_the_cosines_are_the_nearest_integers():
    assert [round(2**14 * math.cos(math.radians(9 * step))) for step in range(11)] == list(shapes._COSINES)
