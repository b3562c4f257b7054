"""What the invariance study does to images, what it measures of them, and what it refuses."""

import jax
import numpy as np
import pytest

from experiments import _invariance_images as images
from experiments import invariance
from experiments.invariance import study
from jaxdl.data import Source
from jaxdl.data.normalisation import Normalisation
from jaxdl.errors import UserError
from jaxdl.study.config import Config
from jaxdl.tasks import Task


def drawn(count=12, side=16, channels=1):
    """A source of random images whose classes are 0 to 3 in turn."""
    draw = np.random.default_rng(0)

    def split(size):
        image = draw.integers(1, 256, (size, side, side, channels), np.uint8)
        return {"image": image, "label": np.arange(size, dtype=np.int32) % 4}

    data = {name: split(count) for name in ("train", "validation", "test")}
    return Source("drawn", data, tuple("abcd"), Normalisation("unit", 1 / 255), "drawn", 4)


def amounts(**changes):
    return Config({"shift": (), "rotation": (), "scale": (), "noise": ()} | changes)


def under(image, disturbance, noise=0.0):
    noise = np.broadcast_to(np.float32(noise), image.shape)
    return np.asarray(images.disturbed(image, np.array(disturbance, np.float32), noise))


# Disturbances


def test_a_shift_moves_whole_pixels_and_brings_in_black():
    image = np.random.default_rng(0).random((2, 6, 7, 3), np.float32)
    down, up, right, left = images.disturbances(amounts(shift=(2,)))["shift_2"]
    np.testing.assert_array_equal(under(image, down), np.pad(image, ((0, 0), (2, 0), (0, 0), (0, 0)))[:, :-2])
    np.testing.assert_array_equal(under(image, up), np.pad(image, ((0, 0), (0, 2), (0, 0), (0, 0)))[:, 2:])
    np.testing.assert_array_equal(under(image, right), np.pad(image, ((0, 0), (0, 0), (2, 0), (0, 0)))[:, :, :-2])
    np.testing.assert_array_equal(under(image, left), np.pad(image, ((0, 0), (0, 0), (0, 2), (0, 0)))[:, :, 2:])


def test_rotations_scales_and_noise():
    image = np.random.default_rng(0).random((2, 7, 7, 1), np.float32)
    listed = images.disturbances(amounts(rotation=(90.0,), scale=(0.5,), noise=(0.25,)))
    assert list(listed) == ["rotation_90", "scale_0.5", "noise_0.25"]
    for disturbance, turns in zip(listed["rotation_90"], (1, -1), strict=True):
        np.testing.assert_allclose(under(image, disturbance), np.rot90(image, turns, (1, 2)), atol=1e-5)
    half = under(image, listed["scale_0.5"][0])
    np.testing.assert_allclose(half[:, 2:5, 2:5], image[:, 1::2, 1::2], atol=1e-6)  # 2 pixels off the middle is 1
    np.testing.assert_allclose(under(image, listed["noise_0.25"][0], 2.0), image + 0.5, atol=1e-6)


def test_noise_is_a_function_of_seed_and_image_alone():
    one, other = (
        images.noise_of({"seed": np.uint32(seed)}, np.array([5, 3, 8], np.uint32), (4, 4, 1)) for seed in (0, 1)
    )
    again = images.noise_of({"seed": np.uint32(0)}, np.array([8, 5], np.uint32), (4, 4, 1))
    np.testing.assert_array_equal(again, np.asarray(one)[[2, 0]])
    assert len(np.unique(np.concatenate([one, other]))) == 6 * 16


def test_errors_are_means_over_the_disturbances_of_an_amount_and_over_the_amounts_of_a_kind():
    source = images.in_unit_range(drawn())
    batch = dict(source.data["test"])
    batch["image"] = np.asarray(source.images(batch["image"]))
    listed = images.disturbances(amounts(shift=(1, 4), noise=(0.5,)))

    def error(image):  # a classifier by one pixel
        return (image[:, 3, 5, 0] > 0.4).astype(np.float32)

    def evaluate(params, state, seen, run, key):
        return {"error": error(seen["image"]), "loss": seen["image"].mean(axis=(1, 2, 3))}

    measure = images.errors_under(Task(None, None, evaluate), listed, lambda image: image / np.float32(2))
    found = jax.jit(measure)({}, {}, batch, {"seed": np.uint32(0)}, jax.random.key(0))
    noise = np.asarray(images.noise_of({"seed": np.uint32(0)}, batch["number"], (16, 16, 1)))
    padded = np.pad(batch["image"], ((0, 0), (4, 4), (4, 4), (0, 0))) / 2
    wanted = {
        f"error_shift_{by}": np.mean(
            [error(padded[:, 4 - y : 20 - y, 4 - x : 20 - x]) for y, x in ((by, 0), (-by, 0), (0, by), (0, -by))],
            axis=0,
        )
        for by in (1, 4)
    }
    wanted["error_shift"] = (wanted["error_shift_1"] + wanted["error_shift_4"]) / 2
    wanted["error_noise_0.5"] = wanted["error_noise"] = error((batch["image"] + np.float32(0.5) * noise) / 2)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert 0 < values.mean() < 1
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_measured_images_are_in_the_unit_range_whatever_the_network_sees():
    source = drawn()._replace(normalisation=Normalisation("channel", 1 / 255, np.float32([0.5]), np.float32([4])))
    plain = images.in_unit_range(source)
    stored = source.data["test"]["image"]
    np.testing.assert_allclose(plain.images(stored), stored / 255, rtol=1e-6)
    np.testing.assert_allclose(
        source.normalisation.of_scaled(plain.images(stored)), (stored / 255 - 0.5) * 4, rtol=1e-4, atol=1e-6
    )
    assert plain.data["test"]["number"].tolist() == list(range(12))


# Permuted and placed images


def test_all_images_are_permuted_alike_and_pixels_keep_their_colours():
    source = drawn(channels=3)
    found = images.permuted(source)
    places = np.arange(16 * 16, dtype=np.int32).reshape(1, 16, 16, 1)
    numbered = {name: split | {"image": places} for name, split in source.data.items()}
    order = images.permuted(source._replace(data=numbered)).data["test"]["image"].reshape(-1)
    assert sorted(order) == list(range(256)) and (order == np.arange(256)).mean() < 0.05
    for name, split in source.data.items():
        np.testing.assert_array_equal(
            found.data[name]["image"].reshape(12, 256, 3), split["image"].reshape(12, 256, 3)[:, order]
        )
        np.testing.assert_array_equal(found.data[name]["label"], split["label"])


def test_images_are_placed_in_the_middle_and_moved_towards_the_corners():
    source = drawn(side=29)
    stored = source.data["test"]["image"]
    small = stored[:, :28, :28].reshape(12, 14, 2, 14, 2, 1).astype(np.float64).mean(axis=(2, 4))
    home = images.placed(source).data["test"]["image"].astype(np.float32)
    listed = images.away(29, 29)
    assert list(listed) == ["home", "elsewhere"]
    places = {"home": [(7, 7)], "elsewhere": [(-1, -1), (-1, 15), (15, -1), (15, 15)]}
    for name, expected in places.items():
        for move, (row, column) in zip(listed[name], expected, strict=True):
            moved = np.pad(under(home, move), ((0, 0), (1, 1), (1, 1), (0, 0)))  # what is moved out is black
            inside = moved[:, row + 1 : row + 15, column + 1 : column + 15]
            seen = inside[:, max(0, -row) :, max(0, -column) :]
            assert np.abs(seen - small[:, max(0, -row) :, max(0, -column) :]).max() <= 0.5
            assert np.count_nonzero(moved) == np.count_nonzero(seen)


# Mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": (0.5, -1.5)}, r"^disturb.scale=-1.5 is not possible for images of 28x20: valid are factors above 0"),
        ({"scale": (float("nan"),)}, "disturb.scale=nan"),
        ({"scale": (1.0,)}, "disturb.scale=1.0"),
        (
            {"shift": (1, 20)},
            "disturb.shift=20 is not possible for images of 28x20: valid are whole pixels from 1 to 19$",
        ),
        ({"shift": (1.5,)}, "disturb.shift=1.5"),
        ({"shift": (0,)}, "disturb.shift=0"),
        ({"rotation": (200.0,)}, "disturb.rotation=200.0"),
        ({"noise": (float("inf"),)}, "disturb.noise=inf"),
        ({"noise": (0.1, 0.1)}, "each amount once"),
    ],
)
def test_amounts_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UserError, match=message) as raised:
        images.check(amounts(**changes), 28, 20)
    assert "\n" not in str(raised.value)


def test_amounts_that_make_sense_are_not_refused():
    images.check(amounts(shift=(1, 19), rotation=(180.0, 0.5), scale=(0.1, 9), noise=(3,)), 28, 20)


@pytest.fixture
def recipe():
    config = study.config("smoke")
    config.seeds, config.steps, config.evaluations, config.test_images = 2, 2, 1, 40
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.name": "digits", "data.train": 1000}, "LocalNetwork can't take images of 8x8: at least 16x16"),
        ({"disturb.shift": (6,)}, r"disturb.shift=\(6,\): the claims need one of 1 to 4"),
        ({"disturb.scale": (-1.0,)}, "disturb.scale=-1.0 is not possible"),
        ({"augmentation.crop_padding": 40}, "augmentation.crop_padding=40 is larger than an image of 28x28"),
        ({"test_images": 100000}, "test_images=100000 is not possible: valid are 1 to 9400, 0 for all"),
        ({"compare.variants": ("mlp", "cnn-maximum")}, "unknown variant in compare.variants 'cnn-maximum'; did you"),
    ],
)
def test_what_does_not_fit_is_told_before_training(change, message, recipe, tmp_path):
    recipe.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        study.run(recipe, workdir=tmp_path)
    assert not any(tmp_path.iterdir())


# The study


def test_networks_are_of_about_the_same_size_but_for_those_that_differ_in_sharing_alone():
    config, source = Config(study.config().to_dict()), drawn(side=28)._replace(names=tuple("0123456789"))
    sizes = {}
    for name in ("mlp", "local", "cnn", "cnn-max", "cnn-average", "local-global", "cnn-global"):
        network = invariance.network(config, source, name)
        shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
        sizes[name] = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert sizes.pop("local-global") > 10 * sizes.pop("cnn-global")
    assert max(sizes.values()) < 1.05 * min(sizes.values())


@pytest.mark.usefixtures("quick_compilation")
def test_two_steps_of_the_smoke_preset_from_beginning_to_end(recipe, tmp_path):
    recipe.compare.variants = ("local", "permuted-mlp", "placed-cnn-global")
    found = study.run(recipe, workdir=tmp_path, stop_on_failure=True)
    local, permuted, placed = (found.report.results.row(name) for name in recipe.compare.variants)
    kinds = ("shift", "shift_1", "shift_4", "rotation", "rotation_45", "scale", "scale_0.7", "noise", "noise_0.2")
    assert {f"test_error_{kind}" for kind in kinds} <= set(local.metrics)
    assert not any("shift" in name for name in (*permuted.metrics, *placed.metrics))
    assert {"test_error_home", "test_error_elsewhere"} <= set(placed.metrics)
    values = found.report.results.values(local, "test_error_shift_4")
    assert {seed: each.shape for seed, each in values.items()} == {0: (40,), 1: (40,)}
    assert set(np.unique(values[0])) <= {0, 0.25, 0.5, 0.75, 1}
    pictures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert pictures >= {"disturbed_images", *(f"error_by_{kind}" for kind in images.KINDS)}
    assert "Parameters: local" in (tmp_path / "report.md").read_text()
    assert found.model("permuted-mlp", 1).apply(np.zeros((3, 28, 28, 1), np.uint8)).shape == (3, 10)
