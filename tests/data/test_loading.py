"""Every set that can be loaded by name, through the one call: tiny ones on disk, and those that are built in."""

import gzip
import hashlib
import io
import shutil
import types
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from test_raw import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, cifar_files, idx_bytes, write_cifar

from jaxdl.data import SETS, Rows, downloads, load, loading
from jaxdl.errors import UserError

NAMES = [*SETS, "tiny"]  # the last one is prepared by TFDS
PARTS = ("train", "validation", "test")
SIZES = {
    "digits": (1199, 299, 299),
    "rendered_digits": (6668, 1666, 1666),
    "shapes": (7680, 1920, 1920),
    "image_folder": None,  # the files' hashes decide
    "npz": (72, 9, 12),
    "csv": (48, 12, 12),
    "tiny": (6, 1, 4),
}  # all others: 72 and 12 examples


class Made(NamedTuple):
    """A set on disk. official: {split: (images, labels)} as written; names: of the classes."""

    directory: str
    official: dict
    names: tuple


def settings(name, directory="", **changes):
    folder, table = types.SimpleNamespace(size=8, colour=False), types.SimpleNamespace(label="kind")
    values = dict(train=0, validation=0, order="seed", normalise="unit", pictures=folder, csv=table)
    return types.SimpleNamespace(name=name, dir=directory, **{**values, **changes})


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """One cache for all tests of this file, no network, and no sets but those that are made here."""
    folder = tmp_path_factory.mktemp("loading")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDL_CACHE_DIR", str(folder / "cache"))
        patch.setenv("JAXDL_OFFLINE", "1")
        patch.setenv("TFDS_DATA_DIR", str(folder / "nothing"))
        yield folder


def draw_images(shape, counts=(72, 12)):
    """{"train", "test"}: random images, labels sorted as files often are."""
    draw = np.random.default_rng(0)
    return {
        split: (draw.integers(0, 256, (count, *shape), dtype=np.uint8), np.sort(np.arange(count) % 3))
        for split, count in zip(("train", "test"), counts, strict=True)
    }


def make_idx(folder, name):
    official = draw_images((5, 4, 1))
    files = {"train": (TRAIN_IMAGES, TRAIN_LABELS), "test": (TEST_IMAGES, TEST_LABELS)}
    for split, (images, labels) in files.items():
        (folder / images).write_bytes(idx_bytes(official[split][0][..., 0]))
        (folder / f"{labels}.gz").write_bytes(gzip.compress(idx_bytes(official[split][1])))
    return official, {"mnist": tuple("0123456789"), "idx": tuple("012")}.get(name, 10)


def make_cifar(folder, name):
    official = draw_images((32, 32, 3))
    kind = "cifar10" if name == "cifar10" else "cifar100"
    files = cifar_files(kind)
    for split, members in (("train", [file for file in files if file.startswith(("data", "train"))]), ("test", None)):
        members = members or [file for file in files if file.startswith("test")]
        records = [
            bytes([label] if kind == "cifar10" else [7, label]) + image.transpose(2, 0, 1).tobytes()
            for image, label in zip(*official[split], strict=True)
        ]
        for number, file in enumerate(members):
            part = slice(number * len(records) // len(members), (number + 1) * len(records) // len(members))
            files[file] = b"".join(records[part])
    form = {"cifar10": "files", "cifar100": "archive", "cifar_binary": "sub-folder"}[name]
    write_cifar(folder, kind, form, files)
    return official, 10 if kind == "cifar10" else 100


def make_image_folder(folder, name):
    images, labels = draw_images((8, 8, 1))["train"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / ("ants", "bees", "cows")[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(place / f"{number}.png")
    return {"all": (images, labels)}, ("ants", "bees", "cows")


def make_npz(folder, name):
    draw = np.random.default_rng(0)
    counts = {"train": 72, "test": 12, "validation": 9}
    official = {
        split: (draw.normal(size=(count, 2, 3, 2)).astype(np.float32), np.sort(np.arange(count) % 3))
        for split, count in counts.items()
    }
    arrays = {f"x_{split}": images for split, (images, _) in official.items()}
    arrays |= {f"y_{split}": labels for split, (_, labels) in official.items()}
    np.savez(folder / "own.npz", **arrays)
    return official, tuple("012")


def make_csv(folder, name):
    table = np.random.default_rng(0).normal(size=(72, 3)).astype(np.float32)
    labels = np.sort(np.arange(72) % 3)
    text = io.StringIO("kind,a,b,c\n")
    text.seek(0, io.SEEK_END)
    for row, label in zip(table.tolist(), labels, strict=True):
        text.write(f"{('ant', 'bee', 'cow')[label]},{','.join(map(repr, row))}\n")
    (folder / "own.csv").write_text(text.getvalue())
    return {"train": (table, labels)}, ("ant", "bee", "cow")


def make_digits(folder, name):
    official = sklearn.datasets.load_digits()
    return {"train": (official.images[..., None].astype(np.uint8), official.target)}, tuple("0123456789")


def make_tfds(folder, name):
    from test_tfds import write_set

    _, written = write_set(folder)
    return {split: (values["image"], values["label"]) for split, values in written.items()}, tuple("012")


MAKERS = {
    "digits": make_digits,
    "mnist": make_idx,
    "fashion_mnist": make_idx,
    "cifar10": make_cifar,
    "cifar100": make_cifar,
    "idx": make_idx,
    "cifar_binary": make_cifar,
    "image_folder": make_image_folder,
    "npz": make_npz,
    "csv": make_csv,
    "tiny": make_tfds,
}
DRAWN = ("rendered_digits", "shapes")
FILES = {"digits": None, "npz": "own.npz", "csv": "own.csv"}  # data.dir, where it is not the folder


@pytest.fixture(scope="module", autouse=True)
def rendered_once(here, lasting_cache):
    """The rendered digits are those of the lasting cache: rendering them takes seconds, and has tests of its own."""
    read = loading.SETS["rendered_digits"].read

    def lasting(settings):
        with lasting_cache():
            return read(settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loading.SETS, "rendered_digits", loading.SETS["rendered_digits"]._replace(read=lasting))
        yield


@pytest.fixture(scope="module")
def made(here):
    """name -> Made, made on first use."""
    known = {}

    def make(name):
        if name not in known and name in DRAWN:
            drawn = loading.read(settings(name))  # its own tests look at what it holds
            pool = drawn.splits["train"]
            known[name] = Made("", {"train": (pool["image"], pool["label"])}, drawn.names)
        elif name not in known:
            folder = here / name
            folder.mkdir()
            official, names = MAKERS[name](folder, name)
            file = FILES.get(name, "")
            known[name] = Made("" if file is None else str(folder / file), official, names)
        return known[name]

    return make


def examples(images, labels):
    """What an example is recognised by; no two are equal."""
    return list(zip(map(np.ndarray.tobytes, np.asarray(images)), np.asarray(labels).tolist(), strict=True))


def content_hash(example):
    image, label = example
    return hashlib.sha256(image + label.to_bytes(4, "little")).digest()


def arrays(source):
    return {(part, key): np.asarray(values) for part in PARTS for key, values in source.data[part].items()}


def assert_same(one, other):
    assert set(one) == set(other)
    for place, values in one.items():
        np.testing.assert_array_equal(values, other[place], strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_of_a_set_is_in_one_split(name, made):
    directory, official, names = made(name)
    source = load(settings(name, directory), 1)
    assert source.name == name
    assert len(source.names) == names if isinstance(names, int) else source.names == names
    assert list(source.data) == list(PARTS) and not source.streamed
    found = {part: examples(source.data[part]["image"], source.data[part]["label"]) for part in PARTS}
    together = [example for part in PARTS for example in found[part]]
    assert len(set(together)) == len(together)
    written = {split: examples(*values) for split, values in official.items()}
    assert set(together) == {example for split in written.values() for example in split}
    sizes = SIZES.get(name, (60, 12, 12))
    if sizes:
        assert tuple(len(found[part]) for part in PARTS) == sizes
    for split in ("validation", "test"):
        if split in official and name in downloads.FILES:
            assert found[split] == sorted(written[split], key=content_hash)
        elif split in official:
            assert found[split] == written[split]
    for part in PARTS:
        values = source.data[part]
        first = next(iter(official.values()))[0]
        assert values["image"].dtype == first.dtype and values["image"].shape[1:] == first.shape[1:]
        assert values["label"].dtype == np.int32


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("image_folder", "tiny")])
def test_splits_carved_from_one_pool_hold_the_classes_in_proportion(name, made):
    directory, official, _ = made(name)
    source = load(settings(name, directory), 1)
    pool = np.asarray(official["train"][1])
    share = np.bincount(pool) / len(pool)
    carved = [part for part in PARTS if part not in official or part == "train"]
    for part in carved:
        labels = source.data[part]["label"]
        tolerance = 1 if part == "validation" or "test" in official else 2  # one example at each end of the range
        assert np.abs(np.bincount(labels, minlength=len(share)) - share * len(labels)).max() <= tolerance


@pytest.mark.parametrize(("name", "key", "kind"), [("rendered_digits", "angle", "f4"), ("shapes", "factors", "i4")])
def test_further_keys_go_with_their_examples(name, key, kind):
    pool = loading.read(settings(name)).splits["train"]
    known = dict(zip(map(np.ndarray.tobytes, pool["image"]), pool[key].tolist(), strict=True))
    source = load(settings(name), 1)
    for part in PARTS:
        values = source.data[part]
        assert values[key].tolist() == [known[image.tobytes()] for image in values["image"]]
        assert values[key].dtype == kind


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_the_same_each_time_and_the_same_when_it_is_streamed(name, made):
    directory, _, _ = made(name)
    source = load(settings(name, directory, normalise="channel"), 2)
    again = load(settings(name, directory, normalise="channel"), 2)
    streamed = load(settings(name, directory, normalise="channel", order="shared"), 2, device_bytes=0, workers=3)
    assert not source.streamed and streamed.streamed and streamed.workers == 3 and streamed.order == "shared"
    assert all(type(values) is np.ndarray for part in PARTS for values in source.data[part].values())
    assert all(isinstance(values, Rows) for part in PARTS for values in streamed.data[part].values())
    for other in (again, streamed):
        assert_same(arrays(source), arrays(other))
        assert other.normalisation.plain() == source.normalisation.plain()
        assert (other.fingerprint, other.names) == (source.fingerprint, source.names)
    rows = streamed.data["train"]["image"]
    np.testing.assert_array_equal(rows[np.array([3, 0, 3])], source.data["train"]["image"][[3, 0, 3]])


@pytest.mark.parametrize("name", NAMES)
def test_a_set_that_must_be_streamed_has_one_order_for_all_runs(name, made):
    with pytest.raises(UserError) as caught:
        load(settings(name, made(name).directory), 1, device_bytes=0)
    message = str(caught.value)
    assert message.startswith(f"{name} has ") and "\n" not in message
    assert "set --config.data.order=shared" in message and "runtime.device_gigabytes=0" in message


def test_a_set_is_streamed_when_it_is_larger_than_allowed():
    size = 1797 * (8 * 8 + 4)
    assert not load(settings("digits", order="shared"), 1, device_bytes=size).streamed
    assert load(settings("digits", order="shared"), 1, device_bytes=size - 1).streamed
    with pytest.raises(UserError, match=r"digits has 0\.000122 GB, more than runtime\.device_gigabytes=0\.0001,"):
        load(settings("digits"), 1, device_bytes=100_000)


def test_fewer_workers_than_none_are_refused():
    with pytest.raises(UserError, match="workers=-1 is not possible: valid is 0 or more"):
        load(settings("digits"), 1, workers=-1)


# Numbers of examples, where there is an official validation split


def test_a_part_of_an_official_validation_split_is_stratified_and_train_stays_whole(made):
    directory, official, _ = made("npz")
    source = load(settings("npz", directory, validation=3, train=30), 1)
    assert source.data["validation"]["label"].tolist() == [0, 1, 2]
    assert set(examples(**spelled(source, "validation"))) <= set(examples(*official["validation"]))
    assert np.bincount(source.data["train"]["label"]).tolist() == [10, 10, 10]
    assert set(examples(**spelled(source, "train"))) <= set(examples(*official["train"]))
    assert len(load(settings("npz", directory, validation=9, train=72), 72).data["train"]["label"]) == 72


def test_without_an_official_test_split_a_sixth_of_train_becomes_it(made, tmp_path):
    _, official, _ = made("npz")
    parts = {split: official[split] for split in ("train", "validation")}
    arrays = {f"x_{split}": images for split, (images, _) in parts.items()}
    np.savez(tmp_path / "own.npz", **arrays, **{f"y_{split}": labels for split, (_, labels) in parts.items()})
    source = load(settings("npz", str(tmp_path / "own.npz")), 1)
    assert [len(source.data[part]["label"]) for part in PARTS] == [60, 9, 12]
    found = [example for part in ("train", "test") for example in examples(**spelled(source, part))]
    assert Counter(found) == Counter(examples(*official["train"]))
    assert np.bincount(source.data["test"]["label"]).tolist() == [4, 4, 4]


def spelled(source, part):
    return {"images": source.data[part]["image"], "labels": source.data[part]["label"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 10}, "data.validation=10 is not possible: npz has 9 validation examples"),
        ({"train": 73}, "data.train=73 and data.validation=0 do not fit npz: it has 72 examples; 0 and 0 leave it"),
    ],
)
def test_more_examples_than_the_official_splits_have_are_refused(changes, message, made):
    with pytest.raises(UserError) as caught:
        load(settings("npz", made("npz").directory, **changes), 1)
    assert message in str(caught.value)


# Where a set is looked for


def test_a_published_set_has_the_same_splits_in_whatever_order_and_form_it_lies(made, tmp_path):
    """As the authors' files, and as TFDS prepared it, with other numbers of classes known."""
    test_tfds = pytest.importorskip("test_tfds")
    _, written = test_tfds.write_set(tmp_path / "prepared", "mnist", "3.0.1")
    (tmp_path / "raw").mkdir()
    files = {"train": (TRAIN_IMAGES, TRAIN_LABELS), "test": (TEST_IMAGES, TEST_LABELS)}
    for split, (images, labels) in files.items():
        order = np.random.default_rng(3).permutation(len(written[split]["label"]))
        (tmp_path / "raw" / images).write_bytes(idx_bytes(written[split]["image"][order][..., 0]))
        (tmp_path / "raw" / labels).write_bytes(idx_bytes(written[split]["label"][order]))
    prepared = load(settings("mnist", str(tmp_path / "prepared")), 1)
    raw = load(settings("mnist", str(tmp_path / "raw")), 1)
    assert prepared.fingerprint == raw.fingerprint and (len(prepared.names), len(raw.names)) == (3, 10)
    assert_same(arrays(prepared), arrays(raw))
    pool = examples(written["train"]["image"], written["train"]["label"])
    assert Counter(pool) == Counter(
        [example for part in ("train", "validation") for example in examples(**spelled(raw, part))]
    )


def test_prepared_sets_are_found_without_data_dir(made, tmp_path, monkeypatch):
    test_tfds = pytest.importorskip("test_tfds")
    directory = made("tiny").directory
    test_tfds.write_set(tmp_path, "mnist", "3.0.1")
    monkeypatch.setenv("TFDS_DATA_DIR", directory)
    assert_same(arrays(load(settings("tiny"), 1)), arrays(load(settings("tiny", directory), 1)))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert load(settings("mnist"), 1).data["train"]["image"].shape == (6, *test_tfds.GREY)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "idx", "cifar_binary", "image_folder", "npz", "csv"])
def test_a_folder_may_be_given_from_home(name, made, here, monkeypatch):
    directory = made(name).directory
    monkeypatch.setenv("HOME", str(here))
    source = load(settings(name, directory.replace(str(here), "~")), 1)
    assert source.fingerprint == load(settings(name, directory), 1).fingerprint


def test_downloaded_files_are_read_without_the_network(made, here, monkeypatch):
    directory = made("mnist").directory
    use_downloads(monkeypatch, made)
    folder = here / "cache" / "downloads" / "mnist"
    shutil.copytree(directory, folder)
    try:
        assert SETS["mnist"].where("mnist", "") == "downloaded"
        assert_same(arrays(load(settings("mnist"), 1)), arrays(load(settings("mnist", directory), 1)))
    finally:
        shutil.rmtree(folder)


def use_downloads(monkeypatch, made):
    """Let the tiny files stand for the published ones."""
    rows = [
        downloads.File(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), ())
        for path in sorted(Path(made("mnist").directory).iterdir())
    ]
    monkeypatch.setitem(downloads.FILES, "mnist", tuple(rows))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_without_files_and_network_one_line_says_what_is_missing(name, here):
    with pytest.raises(UserError) as caught:
        load(settings(name), 1)
    message = str(caught.value)
    assert message.startswith(f"{name} is not here and JAXDL_OFFLINE (or --offline) forbids the network: ")
    assert str(here / "cache" / "downloads" / name) in message and "\n" not in message
    first = f"{name.replace('cifar', 'cifar-')}-binary.tar.gz" if "cifar" in name else "train-images-idx3-ubyte.gz"
    assert first in message


@pytest.mark.parametrize("name", ["idx", "cifar_binary", "image_folder", "npz", "csv"])
def test_a_set_of_ones_own_needs_data_dir(name):
    with pytest.raises(UserError) as caught:
        load(settings(name), 1)
    assert str(caught.value) == f"data.name={name} needs data.dir: {SETS[name].line}"


def test_an_unknown_name_lists_what_there_is_prepared_sets_too(made, tmp_path):
    directory = made("tiny").directory
    with pytest.raises(UserError) as caught:
        load(settings("tinny", directory), 1)
    assert str(caught.value) == (
        "unknown dataset 'tinny'; did you mean 'tiny'? valid: digits, rendered_digits, shapes, mnist, fashion_mnist, "
        "cifar10, cifar100, idx, cifar_binary, image_folder, npz, csv, tiny"
    )
    with pytest.raises(UserError) as caught:
        load(settings("tiny"), 1)  # it lies elsewhere
    assert str(caught.value).endswith("npz, csv")
    test_tfds = pytest.importorskip("test_tfds")
    for name in ("mnist", "tiny/v4", "alone"):
        test_tfds.write_set(tmp_path, name)
    with pytest.raises(UserError) as caught:
        load(settings("tin", str(tmp_path)), 1)
    assert str(caught.value).endswith("npz, csv, alone, tiny/v4")  # mnist is named once


def test_the_list_says_where_each_set_comes_from(made, here, monkeypatch):
    where = {name: SETS[name].where(name, "") for name in SETS}
    yours = dict.fromkeys(("idx", "cifar_binary", "image_folder", "npz", "csv"), "yours, in data.dir")
    megabytes = {"mnist": 12, "fashion_mnist": 31, "cifar10": 170, "cifar100": 169}
    assert where == {**dict.fromkeys(("digits", *DRAWN), "built in"), **yours} | {
        name: f"to download: {size} MB" for name, size in megabytes.items()
    }
    rows = (downloads.File("a", 2_600_000, "0", ()), downloads.File("b", 3, "0" * 64, ()))
    monkeypatch.setitem(downloads.FILES, "mnist", rows)
    assert SETS["mnist"].where("mnist", "") == "to download: 3 MB"
    test_tfds = pytest.importorskip("test_tfds")
    test_tfds.write_set(here / "sets", "mnist", "3.0.1")
    assert SETS["mnist"].where("mnist", str(here / "sets")) == "TFDS folder"
    assert SETS["cifar10"].where("cifar10", str(here / "sets")) == "to download: 170 MB"


def test_every_set_is_tested_here_and_has_a_line_that_fits_a_list():
    assert {*MAKERS, *DRAWN} == set(loading.SETS) | {"tiny"}
    for each in loading.SETS.values():
        assert 0 < len(each.line) <= 61 and "\n" not in each.line
