"""Rendered digits: the same bits everywhere; the shapes against FreeType, the angles against Pillow's rotation."""

import hashlib
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import sklearn.linear_model
import sklearn.neighbors
from PIL import Image, ImageDraw, ImageFont

from jaxdl.data import rendered_digits
from jaxdl.errors import UserError

SHA256 = "139318f10a5244747d60b2851cb14a920638e6082bd0e640c31aa949c19cd583"
FONTS = list(rendered_digits._FONTS)
COUNT = 10_000

# Prints the hash that `sha256` computes, then the seconds that a second read took and what it imported.
PROGRAM = """
import hashlib, sys, time
from jaxdl.data import rendered_digits
start = time.perf_counter()
split = rendered_digits.read().splits["train"]
seconds = time.perf_counter() - start
content = [split[key].astype(kind).tobytes() for key, kind in (("image", "u1"), ("label", "<i4"), ("angle", "<f4"))]
print(hashlib.sha256(b"".join(content)).hexdigest(), seconds, *sorted({"fontTools", "matplotlib"} & set(sys.modules)))
"""


def sha256(split):
    content = [split[key].astype(kind).tobytes() for key, kind in (("image", "u1"), ("label", "<i4"), ("angle", "<f4"))]
    return hashlib.sha256(b"".join(content)).hexdigest()


def start_process(cache, **variables):
    environment = os.environ | {"JAXDL_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"} | variables
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM], env=environment, stdout=pipe, stderr=pipe, text=True
    )


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The cache folder into which `arrays` were rendered."""
    return tmp_path_factory.mktemp("rendered_digits")


@pytest.fixture(scope="session")
def arrays(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDL_CACHE_DIR", str(cache))
        return rendered_digits.read()


@pytest.fixture(scope="session")
def split(arrays):
    return {key: np.asarray(values) for key, values in arrays.splits["train"].items()}


@pytest.fixture(scope="session")
def shapes():
    return rendered_digits._shapes()


@pytest.fixture(scope="session")
def looks(shapes):
    return rendered_digits._looks([rendered_digits._reach(shape) for shape in shapes])


@pytest.fixture(scope="session")
def clean(shapes, looks):
    """All images before the noise, [10000, 28, 28]."""
    return np.stack([rendered_digits._clean(shapes, looks, row) for row in range(COUNT)]).astype(np.uint8)


def freetype(name, digit):
    """A digit as FreeType draws it, about 1,000 pixels high and cut to its ink: bool [height, width]."""
    font = ImageFont.truetype(str(rendered_digits._folder() / name), 1400, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (2400, 2400))
    ImageDraw.Draw(image).text((600, 300), str(digit), fill=255, font=font)
    return np.asarray(image.crop(image.getbbox())) > 127


# The same everywhere


def test_the_set_is_the_pinned_one(arrays, split):
    assert list(arrays.splits) == ["train"]
    assert {key: (values.dtype, values.shape) for key, values in split.items()} == {
        "image": (np.uint8, (COUNT, 28, 28, 1)),
        "label": (np.int32, (COUNT,)),
        "angle": (np.float32, (COUNT,)),
    }
    assert arrays.names == tuple("0123456789")
    assert arrays.scale == 1 / 255
    assert sha256(split) == SHA256


def test_other_processors_threads_and_hash_seeds_make_the_same_bits(tmp_path):
    from numpy._core._multiarray_umath import __cpu_dispatch__ as dispatched
    from numpy._core._multiarray_umath import __cpu_features__ as features

    available = " ".join(name for name in dispatched if features[name])
    process = start_process(  # all of it unlike the process of these tests, whose set is the pinned one too
        tmp_path, OPENBLAS_NUM_THREADS="1", PYTHONHASHSEED="1", NPY_DISABLE_CPU_FEATURES=available,
        LC_ALL="C", TZ="Asia/Kathmandu",
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "rendering 10000 digits\n")
    assert out.split()[0] == SHA256


def test_a_second_start_reads_the_cache_alone(arrays, cache):
    process = start_process(cache)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    found, seconds, *imported = out.split()
    assert found == SHA256
    assert float(seconds) < 0.1
    assert imported == []


@pytest.mark.parametrize("damage", ["changed", "missing", "no matplotlib"])
def test_another_font_is_an_error_of_one_line_that_names_it(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    named = "DejaVuSans.ttf"
    if damage == "no matplotlib":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        named = "cmr10.ttf"
        shutil.copytree(rendered_digits._folder(), tmp_path / "ttf")
        if damage == "missing":
            (tmp_path / "ttf" / named).unlink()
        else:
            content = bytearray((tmp_path / "ttf" / named).read_bytes())
            content[len(content) // 2] ^= 1
            (tmp_path / "ttf" / named).write_bytes(content)
        monkeypatch.setattr(rendered_digits, "_folder", lambda: tmp_path / "ttf")
    with pytest.raises(UserError, match=r"^rendered_digits cannot be made bit-identically with this ") as found:
        rendered_digits.read()
    assert named in str(found.value)
    assert "\n" not in str(found.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))


# The shapes


@pytest.mark.parametrize("name", FONTS)
def test_the_ink_is_what_freetype_draws(name):
    """Cell by cell; what differs lies along the outline, which FreeType places to one of about 1,000 pixels."""
    for digit, outline in enumerate(rendered_digits._outlines(name)):
        ink = rendered_digits._ink(outline)
        expected = freetype(name, digit)
        height, width = expected.shape
        assert height > 700
        away = (np.arange(256) + 0.5 - 128) * height / 160  # from the middle, in FreeType's pixels
        line, column = (np.floor(away + size / 2).astype(int) for size in (height, width))
        inside = ((line >= 0) & (line < height))[:, None] & ((column >= 0) & (column < width))[None, :]
        drawn = expected[np.clip(line, 0, height - 1)][:, np.clip(column, 0, width - 1)] & inside
        assert (ink == drawn).mean() > 0.998
        assert (ink & drawn).sum() / (ink | drawn).sum() > 0.98


def test_the_blur_is_that_of_scipy():
    ink = rendered_digits._ink(next(rendered_digits._outlines("cmr10.ttf")))
    once = scipy.ndimage.uniform_filter(ink * 255.0, 11, mode="constant")
    expected = scipy.ndimage.uniform_filter(once, 11, mode="constant")
    found = rendered_digits._blurred(ink)
    assert found.max() > 100
    np.testing.assert_allclose(found + 0.5, expected, atol=0.5001)


@pytest.mark.parametrize("angle", [-46080, -30001, -1, 0, 1, 12345, 46080])
def test_sine_and_cosine_are_those_of_the_libm(angle):
    cosine, sine = (value / 2**60 for value in rendered_digits._turn(angle))
    assert abs(cosine - math.cos(math.radians(angle / 1024))) < 1e-15
    assert abs(sine - math.sin(math.radians(angle / 1024))) < 1e-15


def test_the_digits_of_one_font_differ(shapes):
    """In at least a quarter of the ink of the larger one; the most alike are a bold 6 and 8, 3 and 8, 0 and 8."""
    for face in range(len(FONTS)):
        ink = (shapes[face * 10 : face * 10 + 10] > 127).reshape(10, -1)
        for first in range(10):
            for second in range(first):
                differ = (ink[first] != ink[second]).sum() / max(ink[first].sum(), ink[second].sum())
                assert differ > 1 / 4, (FONTS[face], first, second, differ)


def test_a_lower_level_is_a_thicker_stroke(shapes, looks):
    row = np.argsort(looks.grain, kind="stable")[0]
    sums = []
    for level in range(40, 101, 10):
        other = looks._replace(level=np.full(COUNT, level))
        sums.append(rendered_digits._clean(shapes, other, row).sum())
    assert all(np.diff(sums) < 0)
    assert sums[0] > 1.2 * sums[-1]


# The images


def test_an_image_turned_back_by_its_angle_is_the_upright_digit(split, looks):
    """Pillow turns counter-clockwise; turned back by -angle, an image is most like what FreeType draws upright."""
    rows = [row for row in range(COUNT) if abs(split["angle"][row]) > 15][:200]
    uprights, likeness = {}, []
    for row in rows:
        face, digit = looks.face[row], split["label"][row]
        if (face, digit) not in uprights:
            uprights[face, digit] = Image.fromarray(freetype(FONTS[face], digit).astype(np.uint8) * 255)
        upright, height = uprights[face, digit], looks.height[row] / 64
        size = round(upright.width * height / upright.height), round(height)
        expected = Image.new("L", (28, 28))
        expected.paste(upright.resize(size, Image.Resampling.BOX), ((28 - size[0]) // 2, (28 - size[1]) // 2))
        right, down = looks.right[row] / 64, looks.down[row] / 64
        image, angle = Image.fromarray(split["image"][row, :, :, 0]), float(split["angle"][row])
        turned = [
            image.rotate(by, Image.Resampling.BILINEAR, center=(14 + right, 14 + down), translate=(-right, -down))
            for by in (-angle, 0, angle)
        ]
        likeness.append([np.corrcoef(np.ravel(expected), np.ravel(picture))[0, 1] for picture in turned])
    back, left, further = np.transpose(likeness)
    assert np.median(back) > 0.85
    assert (back > left).mean() > 0.98
    assert (left > further).mean() > 0.95
    assert (back > further).mean() > 0.99


def test_nothing_is_cut_off_at_the_border(clean, looks):
    """One pixel all around is free, though the digits come as close to it as they may."""
    border = np.ones((28, 28), bool)
    border[1:-1, 1:-1] = False
    assert clean[:, border].max() == 0
    border[2:-2, 2:-2] = False
    border[1, :] = border[:, 1] = border[-2, :] = border[:, -2] = True
    assert clean[:, border].max() > 0
    for shift in (looks.right, looks.down):
        assert (shift.min(), shift.max()) == (-128, 128)
        assert abs(shift.mean()) < 4 * shift.std() / math.sqrt(COUNT)


def test_the_digits_are_as_high_as_drawn(clean, looks):
    """The ink of upright images is the digit's height, give or take the pixels it touches and the thicker stroke."""
    for row in np.flatnonzero(np.abs(looks.angle) < 1024):
        lines = np.flatnonzero(clean[row].max(axis=1) > 0)
        assert -1 < lines[-1] - lines[0] + 1 - looks.height[row] / 64 < 3.5


def test_every_class_and_every_font_is_there_in_no_order(split, looks):
    label = split["label"]
    assert (label == looks.label).all()
    assert np.bincount(label).tolist() == [1000] * 10
    assert abs((label[1:] == label[:-1]).mean() - 0.1) < 4 * math.sqrt(0.09 / COUNT)
    table = np.zeros((len(FONTS), 10))
    np.add.at(table, (looks.face, label), 1)
    assert table.min() > 20  # 47.6 expected
    assert scipy.stats.chi2_contingency(table).pvalue > 0.001
    assert scipy.stats.chisquare(table.sum(axis=1)).pvalue > 0.001


def test_angles_are_uniform_and_independent_of_the_class(split):
    angle, label = split["angle"].astype(float), split["label"]
    assert -45 <= angle.min() < -44.9
    assert 44.9 < angle.max() <= 45
    assert scipy.stats.kstest(angle, "uniform", (-45, 90)).pvalue > 0.01
    assert scipy.stats.kruskal(*(angle[label == digit] for digit in range(10))).pvalue > 0.01


def test_what_else_is_drawn_is_uniform_and_uncorrelated(looks):
    for values, (low, high) in ((looks.height, (832, 1152)), (looks.level, (40, 100)), (looks.grain, (0, 52))):
        assert (values.min(), values.max()) == (low, high)
        assert scipy.stats.chisquare(np.bincount(values - low)).pvalue > 0.001
    drawn = [looks.label, looks.face, looks.angle, looks.height, looks.level, looks.grain, looks.right, looks.down]
    correlation = np.corrcoef(drawn) * math.sqrt(COUNT)
    assert np.abs(correlation[np.triu_indices(len(drawn), 1)]).max() < 4


def test_noise_is_about_gaussian_and_as_strong_as_said(split, clean, looks):
    noise = rendered_digits._noise(np.random.Philox(key=5), np.array([0, 10, 52]))
    assert not noise[0].any()
    assert noise.shape == (3, 28, 28)
    many = rendered_digits._noise(np.random.Philox(key=6), np.full(500, 52)).reshape(-1)
    deviation = 52 * 147.8 / 256
    assert abs(many.mean()) < 4 * deviation / math.sqrt(many.size)
    assert abs(many.std() / deviation - 1) < 0.01
    assert scipy.stats.kstest(many / deviation, "norm").statistic < 0.02
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) * math.sqrt(many.size) < 4
    # Of an image's black, one half is clipped.
    grain = 30
    dark = (split["image"][..., 0] - clean.astype(int))[(looks.grain == grain)][(clean == 0)[looks.grain == grain]]
    assert dark.min() == 0
    assert abs(np.sqrt(2 * np.mean(dark.astype(float) ** 2)) / (grain * 147.8 / 256) - 1) < 0.02


def test_the_set_is_neither_trivial_nor_absurd(split):
    """Nearest neighbours read the digits, a linear model can't."""
    image, label = split["image"].reshape(COUNT, -1) / np.float32(255), split["label"]
    neighbours = sklearn.neighbors.KNeighborsClassifier(3).fit(image[:7500], label[:7500])
    assert 0.94 < neighbours.score(image[7500:], label[7500:]) < 0.98
    linear = sklearn.linear_model.LogisticRegression(C=0.1, tol=1e-2).fit(image[:7500], label[:7500])
    assert 0.55 < linear.score(image[7500:], label[7500:]) < 0.75
