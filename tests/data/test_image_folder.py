"""Folders of pictures: what is read, how it is split, and every mistake in one line."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import image_folder
from jaxdl.errors import UserError

SIZE = 4
NAMES = ("cats", "dogs", "fish")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder that the caches lie in; each test has its own."""
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def picture(number, form="PNG"):
    """A file of SIZE x SIZE pixels, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def fill(root, names=NAMES, count=30, first=0):
    """`count` pictures a class: {path: content}."""
    return {
        write(root / name / f"{number}.png", picture(first + place * 1000 + number)): None
        for place, name in enumerate(names)
        for number in range(count)
    }


def read(root, size=SIZE, colour=True):
    return image_folder.read(str(root), size, colour)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def drawn(content):
    fraction = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64
    return "test" if fraction < 0.15 else "validation" if fraction < 0.3 else "train"


def expected(classes):
    """{split: (images, labels)} of {name: [content]}, by plain loops."""
    names = sorted(classes)
    rows = sorted(
        (hashlib.sha256(content).digest(), drawn(content), names.index(name), content)
        for name, contents in classes.items()
        for content in contents
    )
    return {
        split: (
            np.array([pixels(row[3]) for row in rows if row[1] == split]),
            np.array([row[2] for row in rows if row[1] == split]),
        )
        for split in ("train", "validation", "test")
    }


def assert_expected(arrays, wanted):
    assert set(arrays.splits) == set(wanted)
    for split, (image, label) in wanted.items():
        found = arrays.splits[split]
        assert set(found) == {"image", "label"} and found["label"].dtype == np.int32
        assert isinstance(found["image"], np.memmap) and not found["image"].flags.writeable
        np.testing.assert_array_equal(found["image"], image)
        np.testing.assert_array_equal(found["label"], label)


def contents(root, names=NAMES):
    return {name: [path.read_bytes() for path in sorted((root / name).rglob("*.*"))] for name in names}


def rows(arrays):
    """{bytes of an image: split}"""
    return {row.tobytes(): split for split, values in arrays.splits.items() for row in values["image"]}


# What is read


def test_pixels_labels_splits_and_order_are_those_of_plain_loops(root, monkeypatch):
    fill(root)
    wanted = expected(contents(root))
    arrays = read(root)
    assert_expected(arrays, wanted)
    assert arrays.names == NAMES and arrays.scale == 1 / 255
    monkeypatch.setattr(image_folder, "_BLOCK", 7)  # blocks decide nothing
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(root.parent / "other cache"))
    again = read(root)
    assert_expected(again, wanted)
    assert again.fingerprint == arrays.fingerprint


def test_grey_and_sizes(root):
    fill(root)
    image = read(root, 6, False).splits["train"]["image"]
    assert image.shape[1:] == (6, 6, 1) and image.dtype == np.uint8
    assert read(root, 1, True).splits["test"]["image"].shape[1:] == (1, 1, 3)
    assert read(root, 9, True).splits["test"]["image"].shape[1:] == (9, 9, 3)


def test_nested_folders_and_all_kinds_of_pictures(root):
    fill(root)
    for number, (suffix, form) in enumerate([(".JPG", "JPEG"), (".jpeg", "JPEG"), (".WebP", "WEBP"), (".PNG", "PNG")]):
        write(root / "cats" / "2024" / "a b" / f"x{suffix}", picture(5000 + number, form))
    assert_expected(read(root), expected(contents(root)))


def test_other_files_are_passed_over(root):
    fill(root)
    before = read(root)
    for name in (
        "Thumbs.db",
        ".DS_Store",
        "desktop.ini",
        "notes.txt",
        "a.json",
        "b.csv",
        "c.md",
        ".hidden.gif",
        "noext",
    ):
        write(root / name, b"?")
        write(root / "cats" / name, b"?")
        write(root / "cats" / "deeper" / name, b"?")
    write(root / ".git" / "x.png", b"?")
    write(root / "cats" / ".thumbnails" / "x.gif", b"?")
    assert read(root).fingerprint == before.fingerprint


def test_names_in_any_script_are_sorted_by_their_normal_form(root):
    names = ["Zebra", "apfel", "cafe\u0301", "猫", "собака", "🐟"]
    fill(root, names)
    arrays = read(root)
    assert arrays.names == tuple(sorted(unicodedata.normalize("NFC", name) for name in names))
    assert "caf\u00e9" in arrays.names
    for name in names:  # each label is that of its folder
        place = arrays.names.index(unicodedata.normalize("NFC", name))
        wanted = {pixels(path.read_bytes()).tobytes() for path in (root / name).iterdir()}
        found = {
            row.tobytes() for values in arrays.splits.values() for row in values["image"][values["label"] == place]
        }
        assert found == wanted


@pytest.mark.parametrize("validation", [None, "val", "validation", "Validation"])
def test_official_splits(root, validation):
    parts = {"train": "train", "test": "test"} | ({validation: "validation"} if validation else {})
    for number, part in enumerate(parts):
        fill(root / part, count=3, first=100 * number)
    arrays = read(root)
    assert arrays.names == NAMES and set(arrays.splits) == set(parts.values())
    for part, split in parts.items():
        wanted = sorted(
            (hashlib.sha256(content).digest(), label, content)
            for label, name in enumerate(NAMES)
            for content in contents(root / part)[name]
        )
        np.testing.assert_array_equal(arrays.splits[split]["image"], [pixels(row[2]) for row in wanted])
        np.testing.assert_array_equal(arrays.splits[split]["label"], [row[1] for row in wanted])


def test_a_class_may_be_missing_from_test(root):
    fill(root / "train")
    fill(root / "test", ["dogs"], count=2, first=9000)
    assert read(root).splits["test"]["label"].tolist() == [1, 1]


def test_a_train_folder_alone_beside_other_names_is_a_class(root):
    fill(root, ["train", "tram", "bus"])
    assert read(root).names == ("bus", "train", "tram")


def test_links_are_followed(root, tmp_path):
    fill(root)
    before = read(root)
    (root / "fish").rename(tmp_path / "elsewhere")
    (root / "fish").symlink_to(tmp_path / "elsewhere")
    path = root / "dogs" / "0.png"
    path.rename(tmp_path / "one.png")
    path.symlink_to(tmp_path / "one.png")
    assert read(root).fingerprint == before.fingerprint


def test_links_in_a_ring_end(root, tmp_path, capsys):
    fill(root)
    before = read(root)
    (tmp_path / "aside").mkdir()
    (root / "cats" / "aside").symlink_to(tmp_path / "aside")
    (tmp_path / "aside" / "back").symlink_to(root / "cats")
    assert read(root).fingerprint == before.fingerprint
    assert "copies" not in capsys.readouterr().err


# Splits


def test_further_files_move_none(root):
    fill(root)
    before = rows(read(root))
    fill(root, [f"{name}/new" for name in NAMES], count=17, first=200_000)
    write(root / "dogs" / "0 first.png", picture(77_777))
    after = rows(read(root))
    assert len(after) == len(before) + 52
    assert {image: after[image] for image in before} == before


def test_removing_and_renaming_move_none(root):
    fill(root)
    before = rows(read(root))
    for number in range(20):
        (root / "cats" / f"{number}.png").unlink()
    (root / "dogs").rename(root / "hounds")
    after = rows(read(root))
    assert {image: before[image] for image in after} == after and len(after) == 70


def test_splits_have_about_the_shares_that_they_should(root):
    fill(root, count=300)
    counts = {split: len(values["label"]) for split, values in read(root).splits.items()}
    assert sum(counts.values()) == 900
    assert abs(counts["test"] - 135) < 45 and abs(counts["validation"] - 135) < 45


def test_no_picture_is_in_two_splits(root, capsys):
    fill(root)
    for number in range(10):  # copies under other names
        write(root / "cats" / "again" / f"copy of {number}.png", picture(number))
    arrays = read(root)
    images = [row.tobytes() for values in arrays.splits.values() for row in values["image"]]
    assert len(images) == len(set(images)) == 90
    assert "identical copies of pictures left out: 10\n" in capsys.readouterr().err


# The cache


def test_the_second_start_decodes_nothing(root, monkeypatch, capsys):
    fill(root)
    first = read(root)
    assert capsys.readouterr().err == f"decoding {root}: 90 pictures\n"
    monkeypatch.setattr(image_folder, "_decode", None)
    second = read(root)
    assert second.fingerprint == first.fingerprint and capsys.readouterr().err == ""
    for path in root.rglob("*.png"):  # other times
        os.utime(path, (1e9, 1e9))
    assert read(root).fingerprint == first.fingerprint
    copy = shutil.copytree(root, root.parent / "copy", copy_function=shutil.copyfile)
    assert read(copy).fingerprint == first.fingerprint
    (copy / "cats" / "0.png").rename(copy / "cats" / "z.PNG")
    assert read(copy).fingerprint == first.fingerprint


def test_other_content_names_sizes_and_colours_are_other_sets(root, cache):
    fill(root)
    prints = {read(root).fingerprint, read(root, 5).fingerprint, read(root, colour=False).fingerprint}
    (root / "cats").rename(root / "lions")
    prints.add(read(root).fingerprint)
    write(root / "dogs" / "0.png", picture(31_337))
    prints.add(read(root).fingerprint)
    assert len(prints) == len(list(cache.iterdir())) == 5


def test_a_start_from_the_cache_needs_no_pillow(root):
    fill(root)
    first = read(root)
    code = (
        "import sys\nfrom jaxdl.data import image_folder\n"
        f"print(image_folder.read({str(root)!r}, {SIZE}, True).fingerprint, 'PIL' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [first.fingerprint, "False"] and done.stderr == ""


def test_an_interrupted_start_leaves_nothing(root, cache, monkeypatch):
    from jaxdl.data import images

    fill(root)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read(root)
    assert list(cache.iterdir()) == []
    assert_expected(read(root), expected(contents(root)))


# What goes wrong. Each is given a good folder and spoils it; the rest is what the error has to say.


def gone(root):
    shutil.rmtree(root)


def a_file(root):
    gone(root)
    root.write_bytes(b"")


def no_classes(root):
    gone(root)
    write(root / "1.png", picture(1))


def one_class(root):
    gone(root)
    fill(root, ["cats"])


def empty_class(root):
    (root / "birds" / "deeper").mkdir(parents=True)


def class_of_texts(root):
    write(root / "birds" / "notes.txt", b"none yet")


def put(name, content=b"?"):
    return lambda root: write(root / name, content)


def link(name, target):
    return lambda root: (root / name).symlink_to(target)


def other_form(root):
    fill(root, ["caf\u00e9", "cafe\u0301"], 1)


def two_classes(root):
    write(root / "dogs" / "kept.png", (root / "cats" / "3.png").read_bytes())


def few(root):
    gone(root)
    fill(root, count=1)


def none_to_train(root):
    numbers = [number for number in range(60_000, 60_100) if drawn(picture(number)) != "train"]
    write(root / "birds" / "1.png", picture(numbers[0]))


def official(root):
    gone(root)
    fill(root / "train", count=3)
    fill(root / "test", count=3, first=100)


def unknown_class(root):
    official(root)
    (root / "test" / "cats").rename(root / "test" / "cat")


def beside_splits(root):
    official(root)
    fill(root, ["unlabelled"], 2)


def both_validations(root):
    official(root)
    fill(root / "val", count=1, first=200)
    fill(root / "validation", count=1, first=300)


def leak(root):
    official(root)
    write(root / "test" / "dogs" / "old.png", picture(1001))


def picture_beside_official_classes(root):
    official(root)
    write(root / "test" / "x.png", picture(1))


def empty_official_class(root):
    official(root)
    shutil.rmtree(root / "train" / "cats")
    (root / "train" / "cats").mkdir()


def pipe(root):
    os.mkfifo(root / "cats" / "pipe.png")


BAD = {
    "gone": (gone, ["photos", "is no folder", "valid: a folder with"]),
    "a file": (a_file, ["photos", "is no folder"]),
    "no classes": (no_classes, ["photos has no class folders", "valid: a sub-folder"]),
    "one class": (one_class, ["photos holds only one class, cats", "valid: two"]),
    "empty class": (empty_class, ["photos/birds holds no picture", "valid: .jpg .jpeg .png .webp"]),
    "class of texts": (class_of_texts, ["photos/birds holds no picture"]),
    "GIF": (put("cats/deep/x.GIF"), ["cats/deep/x.GIF is no picture of a valid kind", "valid: .jpg .jpeg .png .webp"]),
    "HEIC": (put("cats/x.heic"), ["cats/x.heic", "valid: .jpg"]),
    "BMP beside": (put("x.bmp"), ["photos/x.bmp lies beside the class folders"]),
    "picture beside": (put("x.jpg"), ["photos/x.jpg lies beside the class folders"]),
    "case": (lambda root: fill(root, ["Cats"], 1), ["'Cats' and 'cats'", "differ only in case", "rename or merge"]),
    "form": (other_form, ["'caf\\xe9'", "'cafe\\u0301'", "Unicode form"]),
    "two classes": (two_classes, ["cats/3.png and", "dogs/kept.png", "two classes, cats and dogs", "remove one"]),
    "few": (few, ["photos holds too few images (3 different ones)", "valid: some dozens"]),
    "none to train": (none_to_train, ["too few images of class birds"]),
    "loop": (link("cats/loop", ".."), ["cats/loop is a link to a folder that it lies in"]),
    "loop to itself": (link("cats/loop", "."), ["cats/loop is a link to a folder"]),
    "class loop": (link("all", "."), ["photos/all/all is a link to a folder that it lies in"]),
    "ring of two": (link("cats/ring", "ring"), ["cannot read the pictures", "cats/ring"]),
    "broken link": (link("cats/broken.png", "nowhere.png"), ["cats/broken.png", "broken link"]),
    "pipe": (pipe, ["cats/pipe.png", "no file that can be read"]),
    "damaged": (put("dogs/x.png", picture(1)[:60]), ["dogs/x.png is damaged", "replace or remove it"]),
    "empty file": (put("dogs/x.png", b""), ["dogs/x.png is empty", "valid: JPEG, PNG, WebP"]),
    "GIF in disguise": (put("dogs/x.jpg", picture(1, "GIF")), ["dogs/x.jpg is of the kind GIF"]),
    "unknown class": (unknown_class, ["photos/test", "'cat'", "did you mean 'cats'", "valid: cats, dogs, fish"]),
    "beside splits": (beside_splits, ["photos holds unlabelled beside test, train", "valid: nothing but"]),
    "val and validation": (both_validations, ["photos holds both validation and val"]),
    "leak": (leak, ["train/dogs/1.png", "test/dogs/old.png", "in test and in train", "remove one"]),
    "beside official": (picture_beside_official_classes, ["photos/test/x.png lies beside"]),
    "empty official": (empty_official_class, ["photos/train/cats holds no picture"]),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_no_cache(root, cache, spoil, says):
    fill(root)
    spoil(root)
    with pytest.raises(UserError) as caught:
        read(root)
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message, message
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize("size", [0, -1, 1025])
def test_bad_sizes(root, size):
    fill(root)
    with pytest.raises(UserError, match=f"size={size} is not possible.*valid: 1 to 1024"):
        read(root, size)


def test_the_empty_name_is_no_folder(root):
    with pytest.raises(UserError, match="'' is no folder"):
        image_folder.read("", SIZE, True)


@pytest.mark.parametrize("method", ["open", "read_bytes"])
def test_files_that_cannot_be_read_are_named(root, cache, monkeypatch, method):
    """Permission bits don't stop the superuser, so the refusal is staged: while hashing, and while decoding."""
    fill(root)
    real = getattr(Path, method)

    def refuse(path, *arguments, **options):
        if path.name == "7.png" and "dogs" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(UserError, match=r"cannot read .*Permission denied.*dogs/7.png") as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_file_lost_while_decoding_is_named(root, cache, monkeypatch):
    fill(root)
    decode = image_folder._decode

    def late(*arguments):
        (root / "fish" / "5.png").unlink()
        decode(*arguments)

    monkeypatch.setattr(image_folder, "_decode", late)
    with pytest.raises(UserError, match=r"cannot read .*fish/5.png .*No such file"):
        read(root)
    assert list(cache.iterdir()) == []
