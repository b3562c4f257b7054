"""Images binarised once: what is drawn, that it is drawn the same everywhere, and what is refused."""

import hashlib

import numpy as np
import pytest
import scipy.stats

import jaxdl
from jaxdl.data import Rows, Source
from jaxdl.data.normalisation import Normalisation
from jaxdl.errors import UserError

HIGHEST = 16
SPLITS = ("train", "validation", "test")


def make_source(images, highest=HIGHEST, **changes):
    """A source with these images [N, h, w, 1] in every split."""
    split = {"image": images, "label": np.arange(len(images), dtype=np.int32) % 3}
    normalise = Normalisation("unit", 1 / highest)
    return Source("tiny", dict.fromkeys(SPLITS, split), ("a", "b", "c"), normalise, "F", 2)._replace(**changes)


def greys(highest, count=3000):
    """Images of 1 x (highest + 1) pixels, which hold 0, 1, ..., highest; float64 probabilities of 1."""
    images = np.tile(np.arange(highest + 1, dtype=np.uint8), (count, 1))[:, None, :, None]
    return images, np.arange(highest + 1) / highest


@pytest.mark.parametrize("highest", [16, 255])
def test_a_pixel_is_one_as_often_as_it_is_bright(highest):
    images, probability = greys(highest)
    found = jaxdl.data.binarised(make_source(images, highest))
    for split in SPLITS:
        image = found.data[split]["image"]
        assert (image.dtype, image.shape) == (images.dtype, images.shape)
        assert set(np.unique(image)) == {0, highest}
        assert set(np.unique(found.images(image))) == {0.0, 1.0}
        ones = (image[:, 0, :, 0] == highest).sum(axis=0)
        assert (ones[0], ones[-1]) == (0, len(images))  # black stays black, and white white
        low, high = scipy.stats.binom.interval(1 - 1e-7, len(images), probability)
        assert ((low <= ones) & (ones <= high)).all()
        # All grey values together: a bias of each that the intervals above would let pass.
        spread = (len(images) * probability * (1 - probability)).sum()
        assert abs(ones.sum() - len(images) * probability.sum()) < 5 * np.sqrt(spread)


def test_pixels_images_and_splits_are_drawn_independently():
    found = jaxdl.data.binarised(make_source(np.full((2000, 2, 2, 1), HIGHEST // 2, np.uint8)))
    flat = {split: found.data[split]["image"].reshape(-1).astype(float) for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert abs(np.corrcoef(flat[one], flat[other])[0, 1]) < 5 / np.sqrt(8000)
    pixels = flat["train"].reshape(2000, 4)
    assert np.abs(np.corrcoef(pixels, rowvar=False) - np.eye(4)).max() < 5 / np.sqrt(2000)
    assert np.abs(np.corrcoef(pixels[:-1, 0], pixels[1:, 0])[0, 1]) < 5 / np.sqrt(2000)


def test_the_draw_is_the_same_on_every_machine():
    images = (np.arange(24) % (HIGHEST + 1)).astype(np.uint8).reshape(6, 2, 2, 1)
    digests = []
    for _ in range(2):
        found = jaxdl.data.binarised(make_source(images))
        parts = [found.data[split]["image"].tobytes() for split in SPLITS]
        digests.append(hashlib.sha256(b"".join(parts)).hexdigest())
    assert digests == ["bc86d3e398f99a9aea3569c1cf15e3b129b8fdb73026925a3729191a089b46b6"] * 2


def test_nothing_else_changes_but_the_fingerprint():
    images, _ = greys(HIGHEST, 4)
    source = make_source(Rows(images, np.arange(4)), order="shared")  # as splits of a file are
    before = np.array(images)
    found = jaxdl.data.binarised(source)
    np.testing.assert_array_equal(source.data["train"]["image"], before)
    for split in SPLITS:
        assert found.data[split].keys() == source.data[split].keys()
        assert found.data[split]["label"] is source.data[split]["label"]
    same = {"data": None, "fingerprint": ""}
    assert found._replace(**same) == source._replace(**same)
    other = jaxdl.data.binarised(source._replace(fingerprint="G"))
    assert len({source.fingerprint, found.fingerprint, other.fingerprint}) == 3
    assert found.fingerprint == jaxdl.data.binarised(make_source(images)).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"streamed": True},
        {"normalisation": Normalisation("unit", 1.0, np.zeros(1, np.float32), np.ones(1, np.float32))},  # of floats
        {"normalisation": Normalisation("binarised", 1 / HIGHEST)},
        {"normalisation": Normalisation("pixel_mean", 1 / HIGHEST, np.zeros((1, 17, 1), np.float32))},
    ],
    ids=["streamed", "floats", "binarised", "pixel_mean"],
)
def test_what_is_no_set_of_grey_values_in_memory_is_refused(changes):
    with pytest.raises(UserError, match=r"tiny can't be binarised once: it must .*data\.normalise=unit") as caught:
        jaxdl.data.binarised(make_source(greys(HIGHEST, 2)[0], **changes))
    assert "\n" not in str(caught.value)
