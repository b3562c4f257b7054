"""The readers of the published files against small made-up ones, parsed here a second time, and against real MNIST."""

import gzip
import io
import struct
import tarfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdl.data import cache, raw, tfds
from jaxdl.errors import UserError


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    """The folder that the decoded sets lie in; each test has its own."""
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx_bytes(array, magic=None):
    magic = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder, size=(4, 5), classes=10, counts=(7, 4), seed=0):
    """Writes the four files; returns {file: its array}."""
    draw = np.random.default_rng(seed)
    arrays = {}
    for (images, labels), count in zip(((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)), counts, strict=True):
        arrays[images] = draw.integers(0, 256, (count, *size))
        arrays[labels] = draw.integers(0, classes, count)
    for file, array in arrays.items():
        (folder / file).write_bytes(idx_bytes(array))
    return arrays


def parse_idx(images, labels):
    """A second reader of IDX, byte by byte: nested lists."""
    _, count, height, width = (int.from_bytes(images[4 * i : 4 * i + 4], "big") for i in range(4))
    pixels = iter(images[16:])
    parsed = [[[[next(pixels)] for _ in range(width)] for _ in range(height)] for _ in range(count)]
    return parsed, list(labels[8:])


def assert_same(arrays, written):
    """written: {split: (images, labels), as nested lists}"""
    assert set(arrays.splits) == set(written)
    for split, (images, labels) in written.items():
        found = arrays.splits[split]
        assert found["image"].dtype == np.uint8 and found["label"].dtype == np.int32
        assert found["image"].tolist() == images and found["label"].tolist() == labels


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_reads_what_was_written(folder, zipped, dotted):
    write_idx(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = {
        "train": parse_idx(files[TRAIN_IMAGES], files[TRAIN_LABELS]),
        "test": parse_idx(files[TEST_IMAGES], files[TEST_LABELS]),
    }
    for file, content in files.items():
        (folder / file).unlink()
        name = file.replace("-idx", ".idx") if dotted else file
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    arrays = raw.idx(folder, "mnist")
    assert_same(arrays, written)
    assert arrays.names == tuple("0123456789") and arrays.scale == 1 / 255


def test_idx_gzipped_under_a_plain_name_and_the_reverse(folder):
    arrays = write_idx(folder)
    before = raw.idx(folder).fingerprint
    (folder / TRAIN_IMAGES).write_bytes(gzip.compress(idx_bytes(arrays[TRAIN_IMAGES])))
    (folder / TEST_IMAGES).rename(folder / f"{TEST_IMAGES}.gz")
    assert raw.idx(folder).fingerprint == before


def test_idx_names_its_classes(folder):
    arrays = write_idx(folder)
    for file, labels in ((TEST_LABELS, [0, 3, 12, 1]), (TRAIN_LABELS, [0, 0, 14, 0, 0, 0, 0])):
        (folder / file).write_bytes(idx_bytes(np.array(labels)))
        assert raw.idx(folder).names == tuple(str(number) for number in range(max(labels) + 1))
    for file in (TEST_LABELS, TRAIN_LABELS):
        (folder / file).write_bytes(idx_bytes(arrays[file]))
    names = raw.idx(folder, "fashion_mnist").names
    assert len(names) == 10 and names[0] == "T-shirt/top" and names[9] == "Ankle boot"


def test_idx_fingerprint_is_of_the_content_alone(folder, tmp_path):
    write_idx(folder)
    fingerprint = raw.idx(folder).fingerprint
    (tmp_path / "elsewhere").mkdir()
    write_idx(tmp_path / "elsewhere")
    for path in list((tmp_path / "elsewhere").iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert raw.idx(tmp_path / "elsewhere").fingerprint == fingerprint
    write_idx(tmp_path / "elsewhere", seed=1)
    assert raw.idx(tmp_path / "elsewhere").fingerprint != fingerprint


def test_canonical_order_is_of_the_content_alone(folder, tmp_path):
    arrays = write_idx(folder, counts=(20, 9))
    one = raw.idx(folder, canonical=True)
    for images, labels in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        order = np.random.default_rng(1).permutation(len(arrays[labels]))
        (folder / images).write_bytes(idx_bytes(arrays[images][order]))
        (folder / labels).write_bytes(idx_bytes(arrays[labels][order]))
    other = raw.idx(folder, canonical=True)
    assert one.fingerprint == other.fingerprint != raw.idx(folder).fingerprint
    np.testing.assert_array_equal(one.splits["train"]["image"], other.splits["train"]["image"])


# CIFAR.

NAMES = {"cifar10": [f"kind{number}" for number in range(10)], "cifar100": [f"thing_{number}" for number in range(100)]}
FOLDER = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
ARCHIVE = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}
SPLITS = {
    "cifar10": {"train": [f"data_batch_{number}.bin" for number in (1, 2, 3, 4, 5)], "test": ["test_batch.bin"]},
    "cifar100": {"train": ["train.bin"], "test": ["test.bin"]},
}


def cifar_files(name, seed=0):
    """{file: content}, with two to four records a file."""
    draw = np.random.default_rng(seed)
    files = {}
    for number, file in enumerate([*SPLITS[name]["train"], *SPLITS[name]["test"]]):
        records = []
        for _ in range(2 + number % 3):
            labels = [draw.integers(0, 10)] if name == "cifar10" else [draw.integers(0, 20), draw.integers(0, 100)]
            records.append(bytes(labels) + draw.integers(0, 256, 3072, dtype=np.uint8).tobytes())
        files[file] = b"".join(records)
    names = "batches.meta.txt" if name == "cifar10" else "fine_label_names.txt"
    files[names] = ("\n".join(NAMES[name]) + "\n\n").encode()
    return files


def write_cifar(folder, name, form, files=None):
    files = cifar_files(name) if files is None else files
    if form == "archive":
        # The order of the members is not that of the batches.
        with tarfile.open(folder / ARCHIVE[name], "w:gz") as archive:
            for file, content in reversed(files.items()):
                member = tarfile.TarInfo(f"{FOLDER[name]}/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        place = folder / FOLDER[name] if form == "sub-folder" else folder
        place.mkdir(exist_ok=True)
        for file, content in files.items():
            (place / file).write_bytes(content)


def parse_cifar(name, contents):
    """A second reader of CIFAR, pixel by pixel: {"image": nested lists, "label": list}."""
    first = 1 if name == "cifar10" else 2
    parsed = {"image": [], "label": []}
    for content in contents:
        for start in range(0, len(content), first + 3072):
            record = content[start : start + first + 3072]
            parsed["label"].append(record[first - 1])
            image = np.zeros((32, 32, 3), int)
            for channel in range(3):
                for row in range(32):
                    for column in range(32):
                        image[row, column, channel] = record[first + channel * 1024 + row * 32 + column]
            parsed["image"].append(image.tolist())
    return parsed


@pytest.mark.parametrize("form", ["files", "sub-folder", "archive"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_reads_what_was_written(folder, name, form):
    files = cifar_files(name)
    write_cifar(folder, name, form, files)
    arrays = raw.cifar(folder, name)
    for split, members in SPLITS[name].items():
        parsed = parse_cifar(name, [files[file] for file in members])
        assert_same(SimpleNamespace(splits={split: arrays.splits[split]}), {split: (parsed["image"], parsed["label"])})
        assert set(arrays.splits[split]) == {"image", "label"}
    assert set(arrays.splits) == {"train", "test"}
    assert arrays.names == tuple(NAMES[name]) and arrays.scale == 1 / 255
    assert raw.cifar(folder, "cifar_binary").fingerprint == arrays.fingerprint


def test_cifar_is_the_same_in_each_form(tmp_path):
    fingerprints = set()
    for form in ("files", "sub-folder", "archive"):
        place = tmp_path / f"as {form}"
        place.mkdir()
        write_cifar(place, "cifar10", form)
        fingerprints.add(raw.cifar(place, "cifar10").fingerprint)
    assert len(fingerprints) == 1


def test_cifar_prefers_a_complete_archive_to_an_incomplete_folder(folder):
    write_cifar(folder, "cifar100", "archive")
    write_cifar(folder, "cifar100", "sub-folder", {"train.bin": b"unpacking was interrupted"})
    assert raw.cifar(folder, "cifar100").names == tuple(NAMES["cifar100"])


def test_nothing_of_an_archive_is_unpacked_to_the_disk(folder, tmp_path):
    files = cifar_files("cifar100")
    with tarfile.open(folder / ARCHIVE["cifar100"], "w:gz") as archive:
        link = tarfile.TarInfo("cifar-100-binary/test.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name in ("../../escaped", "/escaped", *files):
            content = files.get(name, b"out")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    before = sorted(path for path in tmp_path.rglob("*"))
    raw.cifar(folder, "cifar100")
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before


# What goes wrong. Each is given good files and damages them; the rest is what the error has to say.


def overwrite(file, content):
    def damage(folder):
        path = folder / file
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return damage


def zipped(file, change):
    def damage(folder):
        content = gzip.compress((folder / file).read_bytes())
        (folder / file).unlink()
        (folder / f"{file}.gz").write_bytes(change(content))

    return damage


def garbled(content):
    half = len(content) // 2
    return content[:half] + bytes(byte ^ 0xFF for byte in content[half : half + 20]) + content[half + 20 :]


def no_deflate(content):
    return content[:10] + b"\xff" + content[11:]  # a kind of block that there is not


def zeros_inside(content):
    coder = zlib.compressobj(strategy=zlib.Z_FIXED, wbits=31)  # a code that zeros are no part of
    content = coder.compress(gzip.decompress(content)) + coder.flush()
    half = len(content) // 2
    return content[:half] + bytes(half - 1000) + content[-1000:]


def unreadable(file):
    def damage(folder):
        (folder / file).unlink()
        (folder / file).symlink_to("/proc/self/mem")  # can be opened, but its start can't be read, even by root

    return damage


def header(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


def remove_all(folder):
    for path in folder.iterdir():
        path.unlink()


def remove_folder(folder):
    remove_all(folder)
    folder.rmdir()


BAD_IDX = {
    "missing": (lambda folder: (folder / TEST_LABELS).unlink(), [f"lacks {TEST_LABELS};", "four files", ".gz"]),
    "nothing": (remove_all, [f"lacks {TRAIN_IMAGES}, {TRAIN_LABELS}, {TEST_IMAGES}, {TEST_LABELS};"]),
    "no folder": (remove_folder, ["there is no folder"]),
    "magic": (overwrite(TEST_IMAGES, lambda old: header(2050) + old[4:]), [TEST_IMAGES, "2050", "valid", "2051"]),
    "swapped": (overwrite(TEST_LABELS, header(2051, 4, 4, 5) + bytes(80)), [TEST_LABELS, "2051", "labels", "2049"]),
    "cut": (overwrite(TRAIN_IMAGES, lambda old: old[:-1]), [TRAIN_IMAGES, "7 x 4 x 5 bytes", "holds 139"]),
    "too long": (overwrite(TRAIN_LABELS, lambda old: old + b"1"), [TRAIN_LABELS, "7 bytes", "holds 8"]),
    "empty": (overwrite(TRAIN_LABELS, b""), [TRAIN_LABELS, "holds 0 bytes", "header"]),
    "cut header": (overwrite(TRAIN_IMAGES, header(2051, 7)), [TRAIN_IMAGES, "holds 8 bytes", "header"]),
    "counts": (overwrite(TEST_LABELS, header(2049, 3) + bytes(3)), [TEST_IMAGES, "4 images", TEST_LABELS, "3 labels"]),
    "label": (overwrite(TEST_LABELS, header(2049, 4) + b"\1\x0a\2\3"), [TEST_LABELS, "example 1 is 10", "0..9"]),
    "no examples": (overwrite(TEST_IMAGES, header(2051, 0, 4, 5)), [TEST_IMAGES, "0 x 4 x 5", "at least 1"]),
    "no pixels": (overwrite(TEST_IMAGES, header(2051, 4, 0, 5)), [TEST_IMAGES, "4 x 0 x 5", "at least 1"]),
    "huge": (overwrite(TEST_IMAGES, header(2051, *[2**32 - 1] * 3)), [TEST_IMAGES, "4294967295 x", "holds 0"]),
    "sizes": (overwrite(TEST_IMAGES, header(2051, 4, 5, 5) + bytes(100)), ["differ in size", "4 x 5 and 5 x 5"]),
    "cut gzip": (zipped(TRAIN_IMAGES, lambda old: old[:-9]), [f"{TRAIN_IMAGES}.gz", "damaged", "again"]),
    "garbled gzip": (zipped(TRAIN_IMAGES, garbled), [f"{TRAIN_IMAGES}.gz", "damaged"]),
    "no deflate": (zipped(TRAIN_IMAGES, no_deflate), [f"{TRAIN_IMAGES}.gz", "damaged", "invalid"]),
    "no gzip": (zipped(TRAIN_IMAGES, lambda old: b"<html>sorry</html>"), [f"{TRAIN_IMAGES}.gz", "magic number"]),
    "unreadable": (unreadable(TEST_IMAGES), ["cannot read", TEST_IMAGES]),
}


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize(("damage", "says"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx_is_one_line_and_leaves_no_cache(folder, cached, name, damage, says):
    write_idx(folder)
    damage(folder)
    assert_refused(lambda: raw.idx(folder, name), [str(folder), *says], cached)


def rewrite(name, form, **changes):
    def damage(folder):
        remove_all(folder)
        files = {**cifar_files(name), **{file.replace("_", ".", 1): content for file, content in changes.items()}}
        write_cifar(folder, name, form, {file: content for file, content in files.items() if content is not None})

    return damage


def both(folder):
    write_cifar(folder, "cifar100", "archive")


RECORD, NO_FINE, NO_COARSE = (bytes(labels) + bytes(3072) for labels in ([19, 99], [19, 100], [20, 99]))
ONE_NAME = cifar_files("cifar10")["batches.meta.txt"].replace(b"kind3\n", b"")
BAD_CIFAR = {
    "missing": ("cifar10", lambda folder: (folder / "data_batch_3.bin").unlink(), ["lacks data_batch_3.bin of CIFAR"]),
    "nothing": ("cifar10", remove_all, ["data_batch_1.bin", "test_batch.bin", ARCHIVE["cifar10"]]),
    "nothing of both": ("cifar_binary", remove_all, ["of CIFAR-10 or train.bin", "of CIFAR-100;", *ARCHIVE.values()]),
    "no folder": ("cifar_binary", remove_folder, ["there is no folder"]),
    "both": ("cifar_binary", both, ["both CIFAR-10 and CIFAR-100"]),
    "other": ("cifar100", lambda folder: None, ["train.bin, test.bin, fine_label_names.txt of CIFAR-100"]),
    "cut": ("cifar10", overwrite("test_batch.bin", lambda old: old[:-1]), ["test_batch.bin", "multiple of 3,073"]),
    "empty": ("cifar10", overwrite("data_batch_5.bin", b""), ["data_batch_5.bin", "holds 0 bytes", "3,073"]),
    "label": ("cifar10", overwrite("test_batch.bin", bytes(3073) + b"\x0a" + bytes(3072)), ["example 1 is 10", "0..9"]),
    "fine": ("cifar100", rewrite("cifar100", "files", test_bin=NO_FINE), ["test.bin", "100", "0..99"]),
    "coarse": ("cifar100", rewrite("cifar100", "files", test_bin=NO_COARSE), ["coarse", "20", "0..19"]),
    "names": ("cifar10", overwrite("batches.meta.txt", ONE_NAME), ["batches.meta.txt", "9 classes", "valid: 10"]),
    "unreadable": ("cifar10", unreadable("data_batch_2.bin"), ["cannot read", "data_batch_2.bin"]),
    "archive lacks": ("cifar100", rewrite("cifar100", "archive", test_bin=None), ["tar.gz lacks test.bin"]),
    "archived cut": ("cifar100", rewrite("cifar100", "archive", test_bin=RECORD[:-1]), ["tar.gz/test.bin", "3,074"]),
}
BAD_ARCHIVE = {
    "cut": lambda old: old[: len(old) // 2],
    "end cut": lambda old: old[:-4],
    "garbled": garbled,
    "no deflate": lambda old: no_deflate(gzip.compress(gzip.decompress(old))),
    "zeros": zeros_inside,
    "empty": lambda old: b"",
    "no gzip": lambda old: b"<html>sorry</html>",
    "no tar": lambda old: gzip.compress(b"not an archive" * 100),
    "checksum": lambda old: old[:-8] + b"\0\0\0\0" + old[-4:],
}


@pytest.mark.parametrize(("name", "damage", "says"), BAD_CIFAR.values(), ids=BAD_CIFAR)
def test_bad_cifar_is_one_line_and_leaves_no_cache(folder, cached, name, damage, says):
    write_cifar(folder, "cifar10", "files")
    damage(folder)
    assert_refused(lambda: raw.cifar(folder, name), [str(folder), *says], cached)


@pytest.mark.parametrize("change", BAD_ARCHIVE.values(), ids=BAD_ARCHIVE)
def test_a_damaged_archive_is_one_line_and_leaves_no_cache(folder, cached, change):
    write_cifar(folder, "cifar10", "archive")
    overwrite(ARCHIVE["cifar10"], change)(folder)
    assert_refused(lambda: raw.cifar(folder, "cifar10"), [str(folder / ARCHIVE["cifar10"]), "again"], cached)


def assert_refused(read, says, cached):
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message
    assert not cached.exists() or not list(cached.iterdir())


def test_damage_anywhere_in_an_archive_is_noticed_or_harmless(folder, monkeypatch):
    """Bytes all over the headers of an archive are changed in turn; its checksum fits, so that only tar can notice."""
    write_cifar(folder, "cifar100", "archive")
    path = folder / ARCHIVE["cifar100"]
    good = raw.cifar(folder, "cifar100")
    whole = gzip.decompress(path.read_bytes())
    with tarfile.open(path) as archive:
        headers = [member.offset for member in archive]
    noticed = 0
    for position in [start + place for start in headers for place in (0, 101, 124, 130, 148, 156, 257, 400)]:
        changed = whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]
        path.write_bytes(gzip.compress(changed, 1))
        try:
            arrays = raw.cifar(folder, "cifar100")
        except UserError as error:
            assert str(path) in str(error)
            noticed += 1
        else:
            assert arrays.fingerprint == good.fingerprint
    assert noticed > 15


def test_a_cache_that_cannot_be_written_names_the_way_out(folder, tmp_path, monkeypatch):
    write_idx(folder)
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write the cache folder .*/file .*JAXDL_CACHE_DIR"):
        raw.idx(folder)


def test_an_interrupted_reading_leaves_nothing_and_the_next_one_works(folder, cached, monkeypatch):
    write_cifar(folder, "cifar10", "files")
    append = cache.Writer.append

    def interrupt(writer, split, **values):
        append(writer, split, **values)
        if split == "test":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache.Writer, "append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            raw.cifar(folder, "cifar10")
    assert not list(cached.iterdir())
    assert len(raw.cifar(folder, "cifar10").splits["train"]["label"]) == 2 + 3 + 4 + 2 + 3


# The real thing.


def test_idx_of_real_mnist_is_the_same_set_as_that_of_tfds(folder, tfds_dir, lasting_cache):
    with lasting_cache():
        known = tfds.read("mnist", tfds_dir, canonical=True)
    draw = np.random.default_rng(0)
    for split, images, labels in (("train", TRAIN_IMAGES, TRAIN_LABELS), ("test", TEST_IMAGES, TEST_LABELS)):
        order = draw.permutation(len(known.splits[split]["label"]))
        (folder / images).write_bytes(idx_bytes(known.splits[split]["image"][order][..., 0]))
        content = gzip.compress(idx_bytes(known.splits[split]["label"][order]), 1)
        (folder / f"{labels}.gz").write_bytes(content)
    assert (folder / TRAIN_IMAGES).stat().st_size == 47_040_016  # of the published file, unpacked
    found = raw.idx(folder, "mnist", canonical=True)
    assert found.fingerprint == known.fingerprint and found.names == known.names
    for split in ("train", "test"):
        for key in ("image", "label"):
            np.testing.assert_array_equal(found.splits[split][key], known.splits[split][key])
