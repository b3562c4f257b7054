"""Splits, batches and labelled subsets against plain NumPy indexing, scikit-learn's digits and official MNIST."""

import hashlib
import os
import subprocess
import sys
import types
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.datasets

from jaxdl import batch as batches
from jaxdl.data import Arrays, Source, load, order, splits, tfds
from jaxdl.data.normalisation import Normalisation
from jaxdl.errors import UserError

SIZE, BATCH = 23, 5
LABELS = np.array([0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 1, 1, 0, 1, 0, 1, 2, 1, 2], np.int32)  # 6, 12 and 5


def settings(name="digits", train=1200, validation=200, order="seed", directory="", normalise="unit"):
    folder, table = types.SimpleNamespace(size=8, colour=False), types.SimpleNamespace(label="label")
    return types.SimpleNamespace(
        name=name, dir=directory, train=train, validation=validation, order=order, normalise=normalise,
        pictures=folder, csv=table,
    )  # fmt: skip


def make_source(batch_size=BATCH, order="seed"):
    """Training images of 2 x 1 x 1 that hold (10 i, 10 i + 1) for example i."""
    image = (10 * np.arange(SIZE)[:, None] + np.arange(2)).astype(np.uint8).reshape(SIZE, 2, 1, 1)
    split = {"image": image, "label": LABELS}
    normalise = Normalisation("unit", 1 / 255)
    parts = {"train": split, "validation": split, "test": split}
    return Source("tiny", parts, ("a", "b", "c"), normalise, "0", batch_size, order)


def draw(source, seed, steps, data=None):
    """The batches of `steps`, each leaf [steps, B, ...], as one program makes them."""
    data = source.data["train"] if data is None else data

    def one(seed, step):
        return source.batch(jax.tree.map(jnp.asarray, data), {"seed": seed}, step)

    program = jax.jit(jax.vmap(one, in_axes=(None, 0)))
    return jax.device_get(program(np.uint32(seed), np.asarray(steps, np.uint32)))


def examples(batch):
    """Which examples a batch holds, read from its pixels."""
    return np.rint(batch["image"][..., 0, 0, 0] * 25.5).astype(int)


# Batches


def test_a_batch_is_the_indexed_part_of_the_split_with_images_scaled_to_floats():
    source = make_source()
    found = draw(source, 7, range(9))
    for step in range(9):
        epoch, within = divmod(step, SIZE // BATCH)
        places = np.arange(within * BATCH, (within + 1) * BATCH, dtype=np.uint32)
        rows = order.index(np.uint32(7), np.uint32(epoch), places, SIZE)
        image = source.data["train"]["image"][rows].astype(np.float32) * np.float32(1 / 255)
        np.testing.assert_array_equal(found["image"][step], image, strict=True)
        np.testing.assert_array_equal(found["label"][step], LABELS[rows], strict=True)
        np.testing.assert_array_equal(found["position"][step], np.arange(BATCH, dtype=np.uint32), strict=True)


def test_an_epoch_holds_no_example_twice_and_drops_another_tail_each_time():
    source = make_source()
    assert source.steps_per_epoch == 4
    epochs = 60
    seen = examples(draw(source, 3, range(4 * epochs))).reshape(epochs, 4 * BATCH)
    dropped = []
    for row in seen:
        assert len(set(row)) == 4 * BATCH
        assert set(row) <= set(range(SIZE))
        dropped.append(frozenset(range(SIZE)) - set(row))
    assert set().union(*dropped) == set(range(SIZE))  # nothing is left out for good
    assert len(set(dropped)) > epochs - 10  # 60 of the 1,771 possible tails
    assert len({tuple(row) for row in seen}) == epochs


def test_order_seed_gives_each_seed_its_own_order_and_order_shared_one_to_all():
    first, second = (examples(draw(make_source(), seed, range(9))) for seed in (1, 2))
    assert (first != second).any(axis=1).all()
    first, second = (examples(draw(make_source(order="shared"), seed, range(9))) for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first[:4] != first[4:8]).any()  # and still another one each epoch


def test_a_full_batch_holds_the_split_as_it_is_in_every_step():
    source = make_source(batch_size=SIZE)
    assert source.steps_per_epoch == 1
    found = draw(source, 5, [0, 1, 17])
    np.testing.assert_array_equal(examples(found), np.tile(np.arange(SIZE), (3, 1)))
    np.testing.assert_array_equal(found["label"], np.tile(LABELS, (3, 1)))
    np.testing.assert_array_equal(found["position"], np.tile(np.arange(SIZE), (3, 1)))


@pytest.mark.parametrize("batch_size", [16, 24])
def test_eight_devices_hold_the_batch_of_one_device_cut_in_pieces(batch_size):
    """A part of the split, in an order of its own, and the full batch."""
    data = {"image": np.arange(0, 240, 10, np.uint8).reshape(24, 1, 1, 1), "label": np.arange(24, dtype=np.int32) % 3}
    source = make_source(batch_size)
    whole = draw(source, 4, [5], data)

    def part(step):
        return source.batch(jax.tree.map(jnp.asarray, data), {"seed": jnp.uint32(4)}, step)

    parts = jax.pmap(part, axis_name=batches.AXIS)(np.full(8, 5, np.uint32))
    for name, values in parts.items():
        np.testing.assert_array_equal(values.reshape(-1, *values.shape[2:]), whole[name][0])  # [8, B / 8] -> [B]


def test_integers_are_scaled_to_the_unit_interval():
    scaled = make_source().images(jnp.arange(256, dtype=jnp.uint8))
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, np.arange(256) / 255, rtol=2e-7)
    assert (scaled[0], scaled[-1]) == (0, 1)  # not a bit more: cross-entropy needs values in [0, 1]


# Labelled subsets


@pytest.mark.parametrize("per_class", [2, 5])
def test_labelled_draws_exactly_so_many_of_each_class_from_the_training_split(per_class):
    source = make_source().labelled(per_class)
    data = source.data["train"]
    seeds = np.arange(400, dtype=np.uint32)
    program = jax.jit(jax.vmap(lambda seed: source.subset({"seed": seed}, jnp.asarray(data["label"]))))
    rows = np.asarray(program(seeds))  # [400, 3 * per_class]
    for row in rows:
        assert len(set(row)) == 3 * per_class
        assert Counter(LABELS[row]) == {0: per_class, 1: per_class, 2: per_class}
    assert len({frozenset(row) for row in rows}) > 100  # of 9,900 and 4,752 possible ones
    # Every example of a class is drawn equally often: without replacement, so the spread is below a binomial's.
    for label, members in enumerate(np.flatnonzero(row) for row in np.eye(3, dtype=bool)[:, LABELS]):
        counts = np.array([(rows == row).sum() for row in members])
        share = per_class / len(members)
        spread = 400 * share * (1 - share)
        if spread == 0:  # all five of the rarest class
            np.testing.assert_array_equal(counts, 400)
            continue
        statistic = np.square(counts - 400 * share).sum() / spread * (len(members) - 1) / len(members)
        assert scipy.stats.chi2(len(members) - 1).cdf(statistic) < 0.999, label


def test_a_labelled_source_trains_on_the_subset():
    make_source(batch_size=12).labelled(4)  # the full batch is allowed
    source = make_source(order="shared").labelled(4)
    assert source.steps_per_epoch == 2
    data = source.data["train"]
    rows = np.asarray(source.subset({"seed": jnp.uint32(9)}, jnp.asarray(data["label"])))
    subset = {key: values[rows] for key, values in data.items()}
    seen = examples(draw(source, 9, range(2), subset)).reshape(-1)  # 12 examples: two batches of 5
    assert len(set(seen)) == 10
    assert set(seen) <= set(rows)


@pytest.mark.parametrize(
    ("per_class", "message"),
    [
        (0, "0 labels a class is not possible with tiny: the rarest class has 5 training examples"),
        (6, "6 labels a class is not possible with tiny: the rarest class has 5 training examples"),
        (1, "batch_size=5 is larger than the 3 labelled examples"),
    ],
)
def test_labelled_names_what_does_not_fit(per_class, message):
    with pytest.raises(UserError) as error:
        make_source().labelled(per_class)
    assert str(error.value) == message


# Splits


@pytest.mark.parametrize("labels", [sklearn.datasets.load_digits().target, LABELS, np.repeat([2, 0, 1], [40, 10, 25])])
def test_every_prefix_of_the_stratified_order_holds_the_classes_in_proportion(labels):
    rows = splits.stratified(labels)
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(labels)))
    for label in np.unique(labels):
        found = np.cumsum(labels[rows] == label)
        expected = np.arange(1, len(labels) + 1) * np.mean(labels == label)
        assert np.abs(found - expected).max() <= 1
    # Shuffled: which of its class comes first has nothing to do with the place in the file.
    members = rows[labels[rows] == labels[0]]
    if len(members) > 100:
        assert abs(scipy.stats.spearmanr(members, np.arange(len(members))).statistic) < 4 / np.sqrt(len(members))


def make_arrays(official_test):
    """A pool of 23 examples, recognisable by their values; a test split of 4 others."""
    pool = make_source().data["train"]
    official = {"train": pool}
    if official_test:
        official["test"] = {"image": np.full((4, 2, 1, 1), 255, np.uint8), "label": np.arange(4, dtype=np.int32) % 3}
    return Arrays(official, ("a", "b", "c"), 1 / 255, "0")


@pytest.mark.parametrize(
    ("official_test", "train", "validation", "sizes"),
    [
        (False, 12, 6, (12, 6, 5)),
        (True, 12, 6, (12, 6, 4)),
        (True, 0, 6, (17, 6, 4)),
        (True, 17, 6, (17, 6, 4)),
        (False, 21, 1, (21, 1, 1)),
        (False, 0, 3, (17, 3, 3)),
        (False, 0, 0, (17, 3, 3)),
        (False, 12, 0, (12, 3, 8)),
        (True, 20, 0, (20, 3, 4)),
        (True, 0, 0, (20, 3, 4)),
    ],
)
def test_splits_have_the_sizes_asked_for_and_share_no_example(official_test, train, validation, sizes):
    arrays = make_arrays(official_test)
    data = splits.split("tiny", arrays, train, validation)
    data = {name: {key: np.asarray(rows) for key, rows in split.items()} for name, split in data.items()}
    rows = {name: split["image"][:, 0, 0, 0].astype(int) // 10 for name, split in data.items()}
    assert tuple(len(rows[name]) for name in ("train", "validation", "test")) == sizes
    drawn = ("train", "validation") if official_test else ("train", "validation", "test")
    together = np.concatenate([rows[name] for name in drawn])
    assert len(set(together)) == len(together)
    for name in drawn:
        np.testing.assert_array_equal(data[name]["label"], LABELS[rows[name]], strict=True)
    if official_test:
        for key, values in arrays.splits["test"].items():
            np.testing.assert_array_equal(data["test"][key], values, strict=True)


@pytest.mark.parametrize(
    ("official_test", "train", "validation", "message"),
    [
        (False, 21, 3, "data.train=21 and data.validation=3 do not fit tiny: it has 23 examples; 0 and 0"),
        (False, 0, 12, "data.train=0 and data.validation=12 do not fit tiny"),
        (True, 20, 4, "data.train=20 and data.validation=4 do not fit tiny: it has 23 examples"),
        (True, 20, -1, "data.train=20 and data.validation=-1 are not possible"),
        (True, -1, 3, "data.train=-1 and data.validation=3 are not possible"),
        (True, 0, 23, "data.train=0 and data.validation=23 do not fit"),
    ],
)
def test_splits_that_do_not_fit_are_refused(official_test, train, validation, message):
    with pytest.raises(UserError) as error:
        splits.split("tiny", make_arrays(official_test), train, validation)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# Named sets


@pytest.fixture(scope="module")
def digits():
    return load(settings(), 32)


def test_digits_are_those_of_scikit_learn_each_in_one_split(digits):
    official = sklearn.datasets.load_digits()
    assert [len(digits.data[name]["label"]) for name in ("train", "validation", "test")] == [1200, 200, 397]
    found = Counter()
    for split in digits.data.values():
        images = np.asarray(digits.images(jnp.asarray(split["image"])))
        assert images.shape[1:] == (8, 8, 1)
        found.update(zip(map(np.ndarray.tobytes, images), split["label"].tolist(), strict=True))
    scaled = (official.images / 16).astype(np.float32)[..., None]
    assert found == Counter(zip(map(np.ndarray.tobytes, scaled), official.target.tolist(), strict=True))
    assert len(found) == 1797  # no image is there twice, so equal counts mean disjoint splits
    assert (digits.classes, digits.steps_per_epoch, digits.order, digits.prepare) == (10, 37, "seed", None)


def test_splits_of_digits_are_stratified(digits):
    share = np.bincount(sklearn.datasets.load_digits().target) / 1797
    for name, tolerance in (("validation", 1), ("train", 2), ("test", 2)):  # one example at each end of the range
        labels = digits.data[name]["label"]
        assert np.abs(np.bincount(labels, minlength=10) - share * len(labels)).max() <= tolerance


def test_splits_are_the_same_in_another_process(digits):
    program = (
        "import hashlib, types; from jaxdl.data import load\n"
        "other = types.SimpleNamespace(size=8, colour=False, label='')\n"
        "settings = types.SimpleNamespace(name='digits', dir='', train=1200, validation=200, order='shared', "
        "normalise='unit', pictures=other, csv=other)\n"
        "source = load(settings, 100)\n"
        "parts = [source.data[s][k].tobytes() for s in ('validation', 'train', 'test') for k in ('image', 'label')]\n"
        "print(hashlib.sha256(b''.join(parts)).hexdigest(), source.fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1234", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, timeout=60
    )
    parts = [digits.data[s][k].tobytes() for s in ("validation", "train", "test") for k in ("image", "label")]
    assert done.stdout.split() == [hashlib.sha256(b"".join(parts)).hexdigest(), digits.fingerprint]


@pytest.mark.parametrize(
    ("changes", "batch_size", "message"),
    [
        ({"name": "digit"}, 32, "unknown dataset 'digit'; did you mean 'digits'? valid: digits, rendered"),
        ({"name": "fashion-mnist"}, 32, "did you mean 'fashion_mnist'?"),
        ({"order": "sead"}, 32, "unknown data.order 'sead'; did you mean 'seed'? valid: seed, shared"),
        ({}, 0, "batch_size=0 is not possible: valid is 1 to 1200, the training split of digits"),
        ({}, -8, "batch_size=-8 is not possible"),
        ({}, 1201, "batch_size=1201 is not possible: valid is 1 to 1200"),
        ({"train": 1700}, 32, "data.train=1700 and data.validation=200 do not fit digits: it has 1797 examples"),
        ({"train": 1598}, 32, "do not fit digits: it has 1797 examples; 0 and 0 leave it to the set"),
        ({"normalise": "chanel"}, 32, "unknown data.normalise 'chanel'; did you mean 'channel'?"),
    ],
)
def test_load_names_the_mistake_and_what_is_valid(changes, batch_size, message):
    with pytest.raises(UserError) as error:
        load(settings(**changes), batch_size)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch_size", [1, 1200])
def test_the_smallest_and_the_largest_batch_are_allowed(batch_size):
    assert load(settings(), batch_size).steps_per_epoch == 1200 // batch_size


def test_mnist_splits_its_official_training_set_and_keeps_its_official_test_set(tfds_dir):
    official = tfds.read("mnist", tfds_dir, canonical=True).splits
    source = load(settings("mnist", 0, 5000, directory=tfds_dir), 100)
    data = source.data
    assert [len(data[name]["label"]) for name in ("train", "validation", "test")] == [55000, 5000, 10000]
    assert source.steps_per_epoch == 550

    def counted(split):
        return Counter(zip(map(np.ndarray.tobytes, split["image"]), split["label"].tolist(), strict=True))

    # As multisets, because an image might be there twice: each example went into one of the two splits.
    assert counted(data["train"]) + counted(data["validation"]) == counted(official["train"])
    for name in ("image", "label"):
        np.testing.assert_array_equal(data["test"][name], official["test"][name])
    share = np.bincount(official["train"]["label"]) / 60000
    for name, tolerance in (("validation", 1), ("train", 1)):
        labels = data[name]["label"]
        assert np.abs(np.bincount(labels) - share * len(labels)).max() <= tolerance
