"""The TFDS reader against tiny prepared folders written here, and against real MNIST where it is at hand."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import tfds
from jaxdl.errors import UserError

pytest.importorskip("array_record", reason="array_record has wheels for Linux only")

GREY, COLOUR = (4, 5, 1), (6, 3, 3)
IMAGE = {"pythonClassName": "tensorflow_datasets.core.features.image_feature.Image"}
LABEL = {"pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel"}
LABELS = {**LABEL, "classLabel": {"numClasses": "3"}}
DICT = {"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}


def image_file(pixels, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format=form)
    return buffer.getvalue()


def image_feature(shape):
    dimensions = [str(size) for size in shape]  # TFDS writes -1 for a size that varies
    return {**IMAGE, "image": {"dtype": "uint8", "shape": {"dimensions": dimensions}}}


def write_shard(path, images, labels):
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for image, label in zip(images, labels, strict=True):
        example = tf_example_pb2.Example()
        example.features.feature["image"].bytes_list.value.append(image)
        example.features.feature["label"].int64_list.value.append(int(label))
        example.features.feature["id"].bytes_list.value.append(b"not for us")
        writer.write(example.SerializeToString())
    writer.close()


def write_set(root, name="tiny", version="1.0.0", shape=GREY, shards=2, form="PNG", seed=0, info=None, features=None):
    """Writes ROOT/NAME/VERSION as TFDS does; returns (that folder, {split: {"image": ..., "label": ...}})."""
    folder = root / name / version
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    arrays, splits = {}, []
    for split, count in (("train", 7), ("test", 4)):
        images = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        labels = draw.integers(0, 3, count)
        arrays[split] = {"image": images, "label": labels}
        parts = np.array_split(np.arange(count), shards)
        for number, part in enumerate(parts):
            path = folder / f"{name.split('/')[0]}-{split}.array_record-{number:05d}-of-{shards:05d}"
            write_shard(path, [image_file(images[i], form) for i in part], labels[part])
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        lengths = [str(len(part)) for part in parts]
        splits.append({"name": split, "filepathTemplate": template, "numBytes": "1", "shardLengths": lengths})
    about = {"name": name.split("/")[0], "version": version, "fileFormat": "array_record", "splits": splits}
    if "/" in name:
        about["configName"] = name.split("/")[1]
    content = {"image": image_feature(shape), "label": LABELS}
    content = content if features is None else features
    (folder / "dataset_info.json").write_text(json.dumps({**about, **(info or {})}))
    (folder / "features.json").write_text(json.dumps({**DICT, "featuresDict": {"features": content}}))
    return folder, arrays


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder that the caches lie in; each test has its own."""
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "prepared"


def assert_same(splits, written):
    assert set(splits) == set(written)
    for split, arrays in written.items():
        np.testing.assert_array_equal(splits[split]["image"], arrays["image"])
        np.testing.assert_array_equal(splits[split]["label"], arrays["label"])


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("shards", [1, 3])
def test_reads_the_pixels_and_labels_that_were_written(root, shape, shards, monkeypatch):
    monkeypatch.setattr(tfds, "_CHUNK", 2)  # so that chunks end inside files and with them
    _, written = write_set(root, shape=shape, shards=shards)
    arrays = tfds.read("tiny", str(root))
    assert_same(arrays.splits, written)
    assert arrays.names == ("0", "1", "2") and arrays.scale == 1 / 255
    for split in arrays.splits.values():
        assert split["image"].dtype == np.uint8 and split["label"].dtype == np.int32
        assert isinstance(split["image"], np.memmap) and not split["image"].flags.writeable


def test_reads_jpeg_as_pillow_does(root):
    _, written = write_set(root, shape=COLOUR, form="JPEG")
    expected = [np.asarray(Image.open(io.BytesIO(image_file(x, "JPEG")))) for x in written["train"]["image"]]
    np.testing.assert_array_equal(tfds.read("tiny", str(root)).splits["train"]["image"], expected)


def test_grey_files_in_a_colour_set_get_three_equal_channels(root):
    folder, _ = write_set(root, shape=COLOUR, shards=1)
    grey = np.arange(18, dtype=np.uint8).reshape(6, 3, 1)
    write_shard(folder / "tiny-test.array_record-00000-of-00001", [image_file(grey)] * 4, [0, 1, 2, 0])
    np.testing.assert_array_equal(tfds.read("tiny", str(root)).splits["test"]["image"][3], np.tile(grey, 3))


def test_second_start_decodes_nothing_and_gives_the_same(root, monkeypatch, capsys):
    _, written = write_set(root)
    first = tfds.read("tiny", str(root))
    assert capsys.readouterr().err == "decoding tiny train: 7 images\ndecoding tiny test: 4 images\n"
    monkeypatch.setattr(tfds, "_decode", None)
    second = tfds.read("tiny", str(root))
    assert_same(second.splits, written)
    assert second.fingerprint == first.fingerprint
    assert capsys.readouterr().err == ""


def test_fingerprint_follows_the_content_alone(root, tmp_path):
    write_set(root)
    fingerprint = tfds.read("tiny", str(root)).fingerprint
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)  # other path, other times
    assert tfds.read("tiny", str(tmp_path / "copy")).fingerprint == fingerprint
    write_set(tmp_path / "other shards", shards=3, version="2.0.0")
    assert tfds.read("tiny", str(tmp_path / "other shards")).fingerprint == fingerprint
    write_set(tmp_path / "other pixels", seed=1)
    assert tfds.read("tiny", str(tmp_path / "other pixels")).fingerprint != fingerprint


def test_a_changed_source_is_decoded_anew(root, cache):
    folder, written = write_set(root, shards=1)
    tfds.read("tiny", str(root))
    images = [image_file(pixels) for pixels in written["test"]["image"]]
    write_shard(folder / "tiny-test.array_record-00000-of-00001", images, [2, 2, 2, 2])
    assert tfds.read("tiny", str(root)).splits["test"]["label"].tolist() == [2, 2, 2, 2]
    assert len(list(cache.iterdir())) == 2


def test_the_newest_complete_version_is_read(root):
    write_set(root, version="1.9.0", seed=1)
    _, newest = write_set(root, version="1.10.0", seed=2)
    shutil.copytree(root / "tiny" / "1.9.0", root / "tiny" / "2.0.0.incompleteABC")
    assert_same(tfds.read("tiny", str(root)).splits, newest)


def test_a_set_with_configurations_is_named_with_its_configuration(root):
    _, written = write_set(root, name="tiny/v4")
    assert_same(tfds.read("tiny/v4", str(root)).splits, written)
    with pytest.raises(UserError, match="did you mean 'tiny/v4'"):
        tfds.read("tiny", str(root))


def test_no_directory_means_the_environment_and_then_the_default_of_tfds(root, tmp_path, monkeypatch):
    _, written = write_set(root)
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert_same(tfds.read("tiny", "").splits, written)
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    root.rename(tmp_path / "tensorflow_datasets")
    assert_same(tfds.read("tiny", "").splits, written)


def test_images_that_vary_in_size_become_squares_as_those_of_a_folder_do(root):
    folder, _ = write_set(root, shards=1, features={"image": image_feature((-1, -1, 3)), "label": LABELS})
    images = [np.arange(size * 3, dtype=np.uint8).reshape(1, size, 3) for size in (2, 5, 9, 3)]
    write_shard(folder / "tiny-test.array_record-00000-of-00001", map(image_file, images), [0, 1, 2, 0])
    for size, colour in ((4, True), (4, False), (3, True)):
        found = tfds.read("tiny", str(root), size=size, colour=colour).splits["test"]["image"]
        for image, square in zip(images, found, strict=True):
            middle = (image.shape[1] - 1) // 2
            pixel = Image.fromarray(image[:, middle : middle + 1]).convert("RGB" if colour else "L")
            expected = np.asarray(pixel).reshape(-1)  # the central square is one pixel
            np.testing.assert_array_equal(square, np.broadcast_to(expected, (size, size, len(expected))))


def test_works_offline_and_from_a_folder_that_cannot_be_written(root, monkeypatch):
    _, written = write_set(root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(root.rglob("*"))

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert_same(tfds.read("tiny", str(root)).splits, written)
    assert sorted(root.rglob("*")) == before


# What goes wrong. Each is given a good prepared folder and damages it; the rest is what the error has to say.


def first_shard(folder):
    return folder / "tiny-train.array_record-00000-of-00002"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(folder):
    first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:-70_000])


def garble(folder):
    content = bytearray(first_shard(folder).read_bytes())
    start = content.index(b"PNG")
    content[start : start + 20] = bytes(20)
    first_shard(folder).write_bytes(content)


def write_records(*images):
    return lambda folder: write_shard(first_shard(folder), images, [0] * len(images))


def rewrite(**options):
    def again(folder):
        shutil.rmtree(folder)
        write_set(folder.parent.parent, **options)

    return again


def unlabel(folder):
    write_shard(first_shard(folder), [image_file(np.zeros(GREY, np.uint8))] * 4, [0, 1, 2, -1])


GOOD, WIDE = image_file(np.zeros(GREY, np.uint8)), image_file(np.zeros((4, 6, 1), np.uint8))
TEXT = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
SHARD = "tiny-train.array_record-00000-of-00002"
BAD = {
    "truncated": (truncate, [SHARD, "damaged", "prepare it again"]),
    "empty file": (lambda folder: first_shard(folder).write_bytes(b""), [SHARD, "damaged"]),
    "garbled": (garble, [SHARD, "damaged", "Corrupted", "prepare it again"]),
    "missing shard": (lambda folder: first_shard(folder).unlink(), [SHARD, "missing", "prepare it again"]),
    "fewer records": (write_records(GOOD, GOOD), [SHARD, "2 records found", "says 4"]),
    "more records": (write_records(*[GOOD] * 5), [SHARD, "5 records found", "says 4"]),
    "no image": (write_records(GOOD, GOOD, b"GIF?", GOOD), [SHARD, "damaged", "cannot identify"]),
    "cut image": (write_records(GOOD, GOOD, GOOD[:-20], GOOD), [SHARD, "damaged"]),
    "other size": (write_records(GOOD, WIDE, GOOD, GOOD), [SHARD, "(4, 6, 1)", "(4, 5, 1)", "one size"]),
    "unlabelled": (unlabel, ["1.0.0", "train labels lie in -1..2, not 0..2", "choose a set"]),
    "no label": (rewrite(features={"image": image_feature((-1, -1, 1)), "text": TEXT}), ["'label'", "has image, text"]),
    "no test split": (
        lambda folder: edit(folder / "dataset_info.json", splits=[]),
        ["1.0.0", "no train examples"],
    ),
    "another set": (rewrite(info={"name": "huge"}), ["dataset_info.json", "huge/1.0.0, not tiny/1.0.0"]),
    "another version": (rewrite(info={"version": "1.0.1"}), ["tiny/1.0.1, not tiny/1.0.0"]),
    "tfrecord": (
        rewrite(info={"fileFormat": "tfrecord"}),
        ["1.0.0", "tfrecord", "file_format='array_record'"],
    ),
    "no JSON": (lambda folder: (folder / "dataset_info.json").write_text("{"), ["TFDS cannot open", "1.0.0"]),
    "no features": (lambda folder: (folder / "features.json").unlink(), ["TFDS cannot open", "1.0.0"]),
    "other name": (
        lambda folder: folder.parent.rename(folder.parent.parent / "tiney"),
        ["did you mean 'tiney'"],
    ),
    "nothing": (
        lambda folder: shutil.rmtree(folder),
        ["'tiny'", "holds no prepared data set", "TFDS_DATA_DIR"],
    ),
    "no folder": (
        lambda folder: shutil.rmtree(folder.parent.parent),
        ["'tiny'", "there is no folder", "data.dir"],
    ),
}


@pytest.mark.parametrize(("damage", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_no_cache(root, cache, damage, says):
    folder, _ = write_set(root)
    damage(folder)
    with pytest.raises(UserError) as caught:
        tfds.read("tiny", str(root))
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(root), *says):
        assert part in message
    assert not cache.exists() or not list(cache.iterdir())


def test_damage_anywhere_in_a_shard_is_noticed_or_harmless(root):
    """Each of many bytes is changed in turn, and the file cut there. (Changed padding is harmless.)"""
    folder, written = write_set(root, shards=1)
    path = folder / "tiny-test.array_record-00000-of-00001"
    whole = path.read_bytes()
    used = [position for position, byte in enumerate(whole) if byte]
    noticed = 0
    for position in used[:: len(used) // 40]:
        changed = whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]
        for content in (changed, whole[:position]):
            path.write_bytes(content)
            try:
                arrays = tfds.read("tiny", str(root))
            except UserError as error:
                assert str(path) in str(error)
                noticed += 1
            else:
                assert_same(arrays.splits, written)
    assert noticed > 70


def test_a_missing_array_record_package_says_what_to_do(root, monkeypatch):
    write_set(root)
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(UserError, match=r"array_record.*Linux only.*install it"):
        tfds.read("tiny", str(root))


def test_a_cache_that_cannot_be_written_names_the_way_out(root, tmp_path, monkeypatch):
    write_set(root)
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write the cache folder .*/file .*JAXDL_CACHE_DIR"):
        tfds.read("tiny", str(root))


@pytest.mark.parametrize("name", ["about.json", "train_image.npy", "test_label.npy"])
@pytest.mark.parametrize("content", [b"", None], ids=["cut", "gone"])
def test_a_damaged_cache_is_named(root, cache, name, content):
    write_set(root)
    tfds.read("tiny", str(root))
    (path,) = cache.glob(f"*/{name}")
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=f"cache {path.parent} is damaged .*delete it"):
        tfds.read("tiny", str(root))


def test_an_interrupted_decode_leaves_nothing_and_the_next_one_works(root, cache, monkeypatch):
    _, written = write_set(root)

    def interrupt(*_):
        assert list(cache.iterdir())  # it is under way
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tfds, "_pixels", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tfds.read("tiny", str(root))
    assert not list(cache.iterdir())
    assert_same(tfds.read("tiny", str(root)).splits, written)


def test_what_killed_processes_left_is_removed_after_a_day(root, cache):
    write_set(root)
    old, new = cache / "tiny-0.partial-1", cache / "tiny-0.partial-2"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 90_000,) * 2)
    tfds.read("tiny", str(root))
    assert not old.exists() and new.exists()


# The real thing.


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """(folder of the real sets, cache folder, MNIST as first read)"""
    directory = os.environ.get("TFDS_DATA_DIR", "")
    if not (Path(directory) / "mnist").is_dir() or not directory:
        pytest.skip("TFDS_DATA_DIR names no folder with a prepared mnist")
    cache = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDL_CACHE_DIR", cache)
        return directory, cache, tfds.read("mnist", directory)


def test_mnist_is_mnist(mnist):
    _, _, arrays = mnist
    train, test = arrays.splits["train"], arrays.splits["test"]
    assert train["image"].shape == (60_000, 28, 28, 1) and test["image"].shape == (10_000, 28, 28, 1)
    assert arrays.names == tuple("0123456789")
    assert np.bincount(train["label"]).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert np.bincount(test["label"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The mean and standard deviation that everyone normalises MNIST with.
    assert round(float(train["image"].mean()) * arrays.scale, 4) == 0.1307
    assert round(float(train["image"].std()) * arrays.scale, 4) == 0.3081
    assert arrays.fingerprint.startswith("273b9049238d6892")


def test_mnist_starts_fast_the_second_time_without_tfds(mnist):
    directory, cache, arrays = mnist
    code = (
        "import sys, time, jax; start = time.perf_counter()\n"
        "from jaxdl.data import tfds\n"
        "arrays = tfds.read('mnist', '')\n"
        "print(time.perf_counter() - start, arrays.fingerprint)\n"
        "print(*{'tensorflow_datasets', 'array_record', 'PIL', 'rich'} & set(sys.modules))"
    )
    environment = {**os.environ, "JAXDL_CACHE_DIR": cache, "TFDS_DATA_DIR": directory}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    (seconds, fingerprint), imported = (line.split() for line in done.stdout.splitlines())
    assert fingerprint == arrays.fingerprint and imported == []
    assert float(seconds) < 0.5  # measured: 0.03
