"""Augmentation: each transformation against Pillow or SciPy, what is drawn against its distribution, and seeding.

Pillow works on float images here (mode "F", one channel at a time) where it can, on 8 bits where it must.
"""

import colorsys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image, ImageEnhance, ImageOps

from configs import sections
from jaxdl import batch as batches
from jaxdl.data import augmentation, colour, geometry
from jaxdl.errors import UserError

HEIGHT, WIDTH = 14, 11
BYTES = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
IMAGE = BYTES / np.float32(255)
SMOOTH = scipy.ndimage.gaussian_filter(IMAGE, (1, 1, 0))  # a wrong half pixel shows, a rounded corner does not
FILL = np.array([0.2, 0.5, 0.9], np.float32)
ROUNDING = 1.01 / 255  # Pillow rounds what it computes to 8 bits, and a mean to whole steps
COUNT = 4000
EIGEN = colour.Eigen(np.array([0.17, 0.012, 0.003], np.float32), np.linalg.qr(IMAGE[0, :3])[0].astype(np.float32))
EVERYTHING = dict(
    resized_crop=True, crop_padding=4, rotation=30.0, scale_jitter=0.3, translation=2.5, horizontal_flip=0.5,
    vertical_flip=0.2, brightness=0.4, contrast=1.5, saturation=0.6, hue=0.1, grey=0.3, pca_colour=0.1, cutout=5,
    fill=tuple(FILL.tolist()),
)  # fmt: skip


def settings(**changes):
    section = sections.augmentation()
    assert changes.keys() <= section.keys()
    return SimpleNamespace(**(section | changes))


def batch(count, height=HEIGHT, width=WIDTH, channels=3):
    return np.random.default_rng(1).random((count, height, width, channels), np.float32)


def by_channel(image, function):
    """A function of Pillow's float images, on each channel of an array."""
    channels = [np.asarray(function(Image.fromarray(channel))) for channel in np.moveaxis(image, -1, 0)]
    return np.stack(channels, axis=-1)


affine, bilinear_crop, cut = jax.jit(geometry.affine), jax.jit(geometry.resized_crop), jax.jit(geometry.cutout)
changed = {
    name: jax.jit(getattr(colour, name)) for name in ("brightness", "contrast", "saturation", "grey", "pca_colour")
}
shifted, turned_hue = jax.jit(geometry.crop), jax.jit(colour.hue)


@pytest.mark.parametrize(
    ("ours", "pillow"),
    [(geometry.flip_horizontally, ImageOps.mirror), (geometry.flip_vertically, ImageOps.flip)],
)
def test_flips_are_those_of_pillow(ours, pillow):
    wanted = np.asarray(pillow(Image.fromarray(BYTES))) / np.float32(255)
    np.testing.assert_array_equal(ours(IMAGE, jnp.bool_(True)), wanted)
    np.testing.assert_array_equal(ours(IMAGE, jnp.bool_(False)), IMAGE)


def test_a_crop_is_a_window_of_the_padded_image():
    for top, left in [(0, 0), (-4, 4), (3, -1), (-20, 2)]:
        for outside in (FILL, None):
            pad = dict(mode="edge") if outside is None else dict(mode="constant", constant_values=np.nan)
            padded = np.pad(IMAGE, ((20, 20), (20, 20), (0, 0)), **pad)
            wanted = padded[20 + top : 20 + top + HEIGHT, 20 + left : 20 + left + WIDTH]
            wanted = np.where(np.isnan(wanted), FILL, wanted)
            np.testing.assert_array_equal(shifted(IMAGE, jnp.int32(top), jnp.int32(left), outside), wanted)


def test_a_resized_crop_is_what_pillow_resizes_from_a_box():
    for top, left, height, width in [(3, 2, 7, 5), (0, 0, HEIGHT, WIDTH), (9, 10, 5, 1), (4, 1, 9, 10)]:
        box = (left, top, left + width, top + height)
        wanted = by_channel(
            IMAGE, lambda image, box=box: image.crop(box).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        )
        found = bilinear_crop(IMAGE, *(jnp.int32(value) for value in (top, left, height, width)))
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_a_rotation_is_that_of_pillow_counter_clockwise_away_from_the_border():
    # Beyond its last pixels' middles Pillow repeats the edge for half a pixel, we fade into the colour outside.
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inner = np.hypot(rows - (HEIGHT - 1) / 2, columns - (WIDTH - 1) / 2) < (WIDTH - 1) / 2
    for degrees in (30.0, -75.0, 180.0):
        wanted = by_channel(IMAGE, lambda image, by=degrees: image.rotate(by, Image.Resampling.BILINEAR))
        found = affine(IMAGE, degrees, 1.0, 0.0, 0.0, FILL)
        np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-4)


def test_counter_clockwise_as_seen_brings_the_right_side_up():
    square = IMAGE[:WIDTH]
    np.testing.assert_allclose(affine(square, 90.0, 1.0, 0.0, 0.0, FILL), np.rot90(square), atol=1e-5)


@pytest.mark.parametrize(
    ("degrees", "scale", "down", "right"),
    [(0.0, 1.3, 0.0, 0.0), (0.0, 1.0, 2.25, -1.5), (25.0, 0.7, 3.0, 0.5), (-170.0, 1.2, -0.3, 1.0)],
)
def test_an_affine_map_is_that_of_scipy(degrees, scale, down, right):
    # From the definition: enlarge, then turn, then move; SciPy wants the way back, place = matrix (y, x) + offset.
    angle = np.deg2rad(degrees)
    forward = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # on (y, x)
    matrix, middle = np.linalg.inv(forward), np.array([HEIGHT - 1, WIDTH - 1]) / 2
    offset = middle - matrix @ (middle + np.array([down, right]))
    for outside, mode in ((FILL, "grid-constant"), (None, "nearest")):
        wanted = np.stack(
            [
                scipy.ndimage.affine_transform(
                    SMOOTH[..., c].astype(np.float64), matrix, offset, order=1, mode=mode, cval=FILL[c]
                )
                for c in range(3)
            ],
            axis=-1,
        )
        np.testing.assert_allclose(affine(SMOOTH, degrees, scale, down, right, outside), wanted, atol=1e-5)


def test_cutout_hides_the_part_of_the_square_that_lies_in_the_image():
    for row, column, length in [(6, 5, 4), (0, 10, 5), (13, 0, 8), (3, 3, 0)]:
        wanted = IMAGE.copy()
        for y in range(row - length // 2, row - length // 2 + length):
            for x in range(column - length // 2, column - length // 2 + length):
                if 0 <= y < HEIGHT and 0 <= x < WIDTH:
                    wanted[y, x] = FILL
        np.testing.assert_array_equal(cut(IMAGE, row, column, length, FILL), wanted)


@pytest.mark.parametrize(
    ("name", "pillow"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_brightness_contrast_and_saturation_are_those_of_pillow(name, pillow):
    for factor in (0.0, 0.3, 1.0, 1.8):
        wanted = np.asarray(pillow(Image.fromarray(BYTES)).enhance(factor)) / 255
        np.testing.assert_allclose(changed[name](IMAGE, factor), wanted, atol=ROUNDING * (1 + abs(1 - factor) / 2))
    np.testing.assert_array_equal(changed[name](IMAGE, 1.0), IMAGE)


def test_contrast_of_a_grey_image_is_that_of_pillow():
    wanted = np.asarray(ImageEnhance.Contrast(Image.fromarray(BYTES[..., 0])).enhance(1.6)) / 255
    np.testing.assert_allclose(colour.contrast(IMAGE[..., :1], 1.6)[..., 0], wanted, atol=1.2 * ROUNDING)


def test_a_grey_copy_is_pillows():
    wanted = np.asarray(Image.fromarray(BYTES).convert("L").convert("RGB")) / 255
    np.testing.assert_allclose(changed["grey"](IMAGE, jnp.bool_(True)), wanted, atol=0.51 / 255)
    np.testing.assert_array_equal(changed["grey"](IMAGE, jnp.bool_(False)), IMAGE)


def test_hue_turns_in_the_hsv_space_of_the_standard_library():
    image = IMAGE.copy()
    image[0] = np.linspace(0, 1, WIDTH, dtype=np.float32)[:, None]  # greys, black and white
    image[1, :4] = [[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]]  # ties between channels
    for turn in (0.0, 0.3, -0.5):
        wanted = np.empty_like(image)
        for place in np.ndindex(HEIGHT, WIDTH):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[place].tolist())
            wanted[place] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        np.testing.assert_allclose(turned_hue(image, turn), wanted, atol=2e-6)


def test_hue_is_pillows_within_its_8_bits():
    hue, saturation, value = (np.asarray(channel) / 255 for channel in Image.fromarray(BYTES).convert("HSV").split())
    found = jax.jit(colour.to_hsv)(IMAGE)
    for ours, wanted in zip(found, (hue, saturation, value), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=ROUNDING)


def test_principal_components_diagonalise_the_covariance_of_the_colours():
    stored = np.random.default_rng(2).integers(0, 200, (2500, 2, 3, 3), dtype=np.uint8)  # more than one block
    stored[..., 1] = stored[..., 0] // 2 + stored[..., 1] // 4
    eigen = colour.principal_components(stored, 1 / 255)
    covariance = np.cov(stored.reshape(-1, 3).T / 255, bias=True)
    np.testing.assert_allclose(eigen.vectors @ np.diag(eigen.values) @ eigen.vectors.T, covariance, atol=1e-7)
    np.testing.assert_allclose(eigen.vectors.T @ eigen.vectors, np.eye(3), atol=1e-6)
    assert (np.diff(eigen.values) < 0).all()
    assert (eigen.vectors[np.abs(eigen.vectors).argmax(axis=0), np.arange(3)] > 0).all()


def test_components_of_grey_pictures_have_no_variance_below_zero():
    stored = np.repeat(BYTES[None, ..., :1], 3, axis=-1)
    eigen = colour.principal_components(stored, 1 / 255)
    np.testing.assert_allclose(eigen.values, [3 * (stored[..., 0] / 255).var(), 0, 0], atol=1e-7)
    assert (eigen.values >= 0).all()


def test_pca_colour_varies_as_the_square_of_the_covariance():
    # change = V (alpha * lambda) with alpha ~ N(0, strength^2): covariance strength^2 V diag(lambda^2) V^T.
    chosen = settings(pca_colour=0.3)
    middle = jnp.full((COUNT, 1, 2, 3), 0.5)
    found = jax.jit(augmentation.augment(chosen, EIGEN))(middle, jnp.arange(COUNT, dtype=jnp.uint32), jax.random.key(3))
    np.testing.assert_array_equal(found[:, 0, 0], found[:, 0, 1])  # one change for a whole image
    change = np.asarray(found[:, 0, 0], np.float64) - 0.5
    covariance = EIGEN.vectors @ np.diag(EIGEN.values) @ EIGEN.vectors.T
    wanted = 0.3**2 * covariance @ covariance
    np.testing.assert_allclose(np.cov(change.T), wanted, atol=5 * np.abs(wanted).max() * np.sqrt(2 / COUNT))
    np.testing.assert_allclose(change.mean(axis=0), 0, atol=4 * np.sqrt(np.diag(wanted).max() / COUNT))
    along = (change @ EIGEN.vectors) / (0.3 * EIGEN.values)  # standard normal in each component, small ones too
    for component in along.T:
        assert scipy.stats.kstest(component, "norm").pvalue > 0.001
    bright = colour.pca_colour(jnp.ones((1, 1, 3)), jnp.full(3, 9.0), EIGEN)
    assert 0 <= bright.min() <= bright.max() <= 1


@pytest.fixture(scope="module")
def drawn():
    """What COUNT examples of 14x11 draw when everything is on."""
    chosen = settings(**EVERYTHING)
    draw = jax.vmap(lambda place, key: augmentation.draw(chosen, (HEIGHT, WIDTH, 3), place, key), (0, None))
    found = jax.jit(draw)(jnp.arange(COUNT, dtype=jnp.uint32), jax.random.key(5))
    return {name: np.stack(values, axis=-1) if isinstance(values, tuple) else np.asarray(values)
            for name, values in found.items()}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("rotation", -30, 30),
        ("scale_jitter", 0.7, 1.3),
        ("translation", -2.5, 2.5),
        ("brightness", 0.6, 1.4),
        ("contrast", 0, 2.5),
        ("saturation", 0.4, 1.6),
        ("hue", -0.1, 0.1),
    ],
)
def test_strengths_are_uniform(drawn, name, low, high):
    for values in drawn[name].reshape(COUNT, -1).T:
        assert low <= values.min() and values.max() <= high
        assert scipy.stats.kstest(values, "uniform", (low, high - low)).pvalue > 0.001


@pytest.mark.parametrize(("name", "probability"), [("horizontal_flip", 0.5), ("vertical_flip", 0.2), ("grey", 0.3)])
def test_coins_fall_with_their_probability(drawn, name, probability):
    assert scipy.stats.binomtest(int(drawn[name].sum()), COUNT, probability).pvalue > 0.001


@pytest.mark.parametrize(
    ("name", "values"),
    [("crop_padding", (range(-4, 5), range(-4, 5))), ("cutout", (range(HEIGHT), range(WIDTH)))],
)
def test_places_are_uniform_among_whole_pixels(drawn, name, values):
    for found, valid in zip(drawn[name].T, values, strict=True):
        counts = np.array([(found == value).sum() for value in valid])
        assert counts.sum() == COUNT
        assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_draws_of_different_transformations_are_independent(drawn):
    names = ["rotation", "scale_jitter", "translation", "brightness", "contrast", "saturation", "hue", "crop_padding"]
    names += ["horizontal_flip", "vertical_flip", "grey", "cutout", "pca_colour"]
    columns = np.concatenate([drawn[name].reshape(COUNT, -1) for name in names], axis=1).astype(np.float64)
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 4.5 / np.sqrt(COUNT)


@pytest.fixture(scope="module")
def boxes():
    """Boxes drawn in images of 200x300, where rounding to pixels hides nothing; areas and aspects are traced."""
    draw = jax.jit(jax.vmap(lambda u, area, aspect: augmentation.box(u, 200, 300, area, aspect), (0, None, None)))
    shares = np.random.default_rng(3).random((COUNT, 22), np.float32)
    return lambda area, aspect: np.stack(draw(shares, jnp.array(area), jnp.array(aspect)), axis=-1).astype(np.float64)


def test_boxes_have_a_uniform_area_and_a_log_uniform_aspect(boxes):
    top, left, height, width = boxes((0.1, 0.4), (0.75, 3.0)).T  # the image holds them all
    assert scipy.stats.kstest(height * width / 60000, "uniform", (0.1, 0.3)).pvalue > 0.001
    logarithm = np.log(width / height)
    assert scipy.stats.kstest(logarithm, "uniform", (np.log(0.75), np.log(4))).pvalue > 0.001
    noise = np.random.default_rng(0).random((2, COUNT))  # spreads whole pixels evenly
    for share in ((top + noise[0]) / (201 - height), (left + noise[1]) / (301 - width)):
        assert scipy.stats.kstest(share, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(height * width, logarithm)[0, 1]) < 4 / np.sqrt(COUNT)


def test_boxes_lie_in_the_image_and_the_largest_one_in_its_middle_stands_in(boxes):
    top, left, height, width = boxes((0.08, 1.0), (0.75, 4 / 3)).T
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= 200 and (left + width).max() <= 300
    for area, aspect, wanted in [
        ((0.99, 1.0), (0.75, 1.0), (0, 50, 200, 200)),  # no square of that area: the largest, in the middle
        ((0.99, 1.0), (3.0, 4.0), (50, 0, 100, 300)),
        ((1.0, 1.0), (1.5, 1.5), (0, 0, 200, 300)),
    ]:
        np.testing.assert_array_equal(np.unique(boxes(area, aspect), axis=0), [wanted])


def test_the_result_is_the_documented_order_of_what_was_drawn(drawn):
    images = np.repeat(IMAGE[None], 16, axis=0)
    found = everything(images, jnp.arange(16, dtype=jnp.uint32), jax.random.key(5))
    for place in range(16):
        p = {name: values[place] for name, values in drawn.items()}
        image = bilinear_crop(IMAGE, *p["resized_crop"])
        image = shifted(image, *p["crop_padding"], FILL)
        image = affine(image, p["rotation"], p["scale_jitter"], *p["translation"], FILL)
        image = image[:, ::-1] if p["horizontal_flip"] else image
        image = image[::-1] if p["vertical_flip"] else image
        image = changed["brightness"](image, p["brightness"])
        image = changed["contrast"](image, p["contrast"])
        image = changed["saturation"](image, p["saturation"])
        image = turned_hue(image, p["hue"])
        image = changed["grey"](image, p["grey"])
        image = changed["pca_colour"](image, p["pca_colour"], EIGEN)
        np.testing.assert_allclose(found[place], cut(image, *p["cutout"], 5, FILL), atol=1e-5)
    assert set(augmentation.NAMES) == drawn.keys()


everything = jax.jit(augmentation.augment(settings(**EVERYTHING), EIGEN))


def test_an_example_depends_on_the_key_and_its_position_alone():
    images, places, key = batch(16), jnp.arange(16, dtype=jnp.uint32), jax.random.key(13)
    found = np.asarray(everything(images, places, key))
    assert found.dtype == np.float32 and found.shape == images.shape
    assert found.min() >= 0 and found.max() <= 1
    order = np.random.default_rng(0).permutation(16)
    others = np.where((order < 8)[:, None, None, None], images[order], 0)  # other company, another place in memory
    shuffled = np.asarray(everything(others, jnp.asarray(order, jnp.uint32), key))
    np.testing.assert_array_equal(shuffled[order < 8], found[order[order < 8]])
    same = np.repeat(images[:1], 16, axis=0)
    assert len(np.unique(np.asarray(everything(same, places, key)), axis=0)) == 16
    assert (np.abs(np.asarray(everything(images, places, jax.random.key(14))) - found).max(axis=(1, 2, 3)) > 0.05).all()


@pytest.mark.usefixtures("quick_compilation")
def test_devices_and_vectorised_runs_change_nothing():
    few = dict(horizontal_flip=0.5, crop_padding=3, contrast=0.5)
    images = batch(16)
    keys = jax.random.split(jax.random.key(17), 2)
    places = jnp.arange(16, dtype=jnp.uint32)
    change = augmentation.augment(settings(**few))
    alone = jax.jit(change)
    wanted = np.stack([alone(images, places, key) for key in keys])
    split = jax.pmap(
        lambda images, key: change(images, batches.positions(16), key),
        axis_name=batches.AXIS,
        in_axes=(0, None),
        devices=jax.devices()[:2],
    )
    found = split(images.reshape(2, 8, HEIGHT, WIDTH, 3), keys[0])  # [16, ...] -> [2, 8, ...]
    np.testing.assert_allclose(found.reshape(16, HEIGHT, WIDTH, 3), wanted[0], atol=1e-5)
    runs = jax.jit(jax.vmap(change, (None, None, 0)))(images, places, keys)
    np.testing.assert_allclose(runs, wanted, atol=1e-5)


def test_switching_one_transformation_on_leaves_the_draws_of_the_others(drawn):
    alone = settings(rotation=30.0, grey=0.3)
    found = jax.jit(jax.vmap(lambda place: augmentation.draw(alone, (HEIGHT, WIDTH, 3), place, jax.random.key(5))))(
        jnp.arange(COUNT, dtype=jnp.uint32)
    )
    assert found.keys() == {"rotation", "grey"}
    for name, values in found.items():
        np.testing.assert_array_equal(values, drawn[name])


def test_shares_reach_both_ends_and_no_further():
    ends = jnp.array([0.0, 1 - 2.0**-23])
    np.testing.assert_allclose(augmentation.within(ends, 3.0), [-3, 3], atol=1e-5)
    np.testing.assert_allclose(augmentation.factor(ends, 0.25), [0.75, 1.25], atol=1e-5)
    np.testing.assert_allclose(augmentation.factor(ends, 4.0), [0, 5], atol=1e-5)
    for count in (1, 7, 10_000):
        np.testing.assert_array_equal(augmentation.whole(ends, count), [0, count - 1], strict=False)
    np.testing.assert_allclose(augmentation.normal(ends), scipy.stats.norm.ppf([2.0**-24, 1 - 2.0**-24]), rtol=1e-3)


def test_what_is_off_costs_nothing():
    images, places, key = batch(2), jnp.arange(2, dtype=jnp.uint32), jax.random.key(0)
    change = augmentation.augment(settings())
    np.testing.assert_array_equal(change(images, places, key), images)
    assert not jax.make_jaxpr(change)(images, places, key).eqns
    features = np.ones((2, 5), np.float32)  # a table needs no exception
    np.testing.assert_array_equal(change(features, places, key), features)
    flips = str(jax.make_jaxpr(augmentation.augment(settings(horizontal_flip=0.5)))(images, places, key))
    assert "gather" not in flips and "sin" not in flips


def test_parameters_of_no_change_change_no_bit():
    whole_image = (jnp.int32(0), jnp.int32(0), jnp.int32(HEIGHT), jnp.int32(WIDTH))
    np.testing.assert_array_equal(affine(IMAGE, 0.0, 1.0, 0.0, 0.0, FILL), IMAGE)
    np.testing.assert_array_equal(bilinear_crop(IMAGE, *whole_image), IMAGE)
    np.testing.assert_array_equal(cut(IMAGE, 3, 3, 0, FILL), IMAGE)
    np.testing.assert_allclose(turned_hue(IMAGE, 0.0), IMAGE, atol=1e-6)
    flat = np.full_like(IMAGE, 0.3)
    np.testing.assert_array_equal(affine(flat, 33.0, 0.8, 0.4, 0.1, None), flat)


def test_edges_of_grey_images_fill_what_is_outside():
    chosen = settings(crop_padding=3, rotation=20.0, translation=4.0, outside="edge")
    ones, places = np.ones((4, 8, 8, 1), np.float32), jnp.arange(4, dtype=jnp.uint32)
    found = jax.jit(augmentation.augment(chosen))(ones, places, jax.random.key(0))
    np.testing.assert_array_equal(found, ones)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(horizontal_flip=1.5), "augmentation.horizontal_flip=1.5 is not possible: valid is 0 to 1"),
        (dict(grey=float("nan")), "augmentation.grey=nan is not possible"),
        (dict(rotation=-5.0), "augmentation.rotation=-5.0 is not possible: valid is 0 to 180"),
        (dict(hue=0.6), "augmentation.hue=0.6 is not possible: valid is 0 to 0.5"),
        (dict(brightness=float("inf")), "augmentation.brightness=inf is not possible: valid is 0 or more"),
        (dict(crop_padding=-1), "augmentation.crop_padding=-1 is not possible: valid is 0 or more"),
        (dict(scale_jitter=1.0), "augmentation.scale_jitter=1.0 is not possible: valid is 0 to below 1"),
        (dict(resized_crop_area=(0.5, 1.2)), "augmentation.resized_crop_area=(0.5, 1.2) is not possible"),
        (dict(resized_crop_aspect=(2.0, 1.0)), "augmentation.resized_crop_aspect=(2.0, 1.0) is not possible"),
        (dict(resized_crop_aspect=(1.0,)), "augmentation.resized_crop_aspect=(1.0,) is not possible"),
        (dict(outside="edges"), "unknown augmentation.outside 'edges'; did you mean 'edge'?"),
        (dict(fill=(2.0,)), "augmentation.fill=(2.0,) is not possible"),
        (dict(pca_colour=0.1), "augmentation.pca_colour needs the principal components"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(changes, words):
    with pytest.raises(UserError) as error:
        augmentation.augment(settings(**changes))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "shape", "words"),
    [
        (
            dict(crop_padding=9),
            (8, 12, 3),
            "augmentation.crop_padding=9 is larger than an image of 8x12: valid is 0 to 8",
        ),
        (dict(cutout=13), (14, 12, 3), "augmentation.cutout=13 is larger than an image of 14x12"),
        (dict(translation=8.5), (8, 8, 3), "augmentation.translation=8.5 is larger than an image of 8x8"),
        (dict(hue=0.1), (8, 8, 1), "augmentation.hue is for images of 3 channels, these have 1"),
        (dict(grey=0.1), (8, 8, 1), "augmentation.grey is for images of 3 channels, these have 1"),
        (dict(contrast=0.1), (8, 8, 2), "augmentation.contrast is for images of 1 or 3 channels, these have 2"),
        (dict(rotation=5.0, fill=(0.0, 1.0)), (8, 8, 3), "augmentation.fill has 2 values, the images 3 channels"),
        (
            dict(rotation=5.0),
            (64,),
            "augmentation.rotation is for images [height, width, channels], not for shape [64]",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused_when_traced(changes, shape, words):
    change = augmentation.augment(settings(**changes))
    with pytest.raises(UserError) as error:
        jax.eval_shape(change, jnp.zeros((2, *shape)), jnp.arange(2, dtype=jnp.uint32), jax.random.key(0))
    assert words in str(error.value)
