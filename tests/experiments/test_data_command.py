"""What a person sees of `python -m experiments.data`: the list, what a set contains, and mistakes in one line."""

import itertools
import json
import re
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn.datasets
from launching import launch, launch_anew
from PIL import Image
from test_command_line import complaint

from experiments import data as command
from jaxdl.data import SETS, normalisation, tfds

DATA = "experiments.data"
COLOURS = {"amber": (250, 120, 10), "green": (20, 200, 30), "violet": (90, 10, 240)}


def write_pictures(folder):
    """20 pictures a class, its colour with a little noise, each another one: {class: [pixels]}."""
    draw = np.random.default_rng(0)
    pictures = {}
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        pictures[name] = []
        for number in range(20):
            pixels = (np.array(colour) + draw.integers(-9, 10, (6, 6, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
            pictures[name].append(pixels)
    return pictures


def write_table(path):
    """60 rows, of which the last 10 are the first 10 again, 5 of them with another label; large numbers."""
    draw = np.random.default_rng(0)
    table = (draw.normal(size=(60, 3)) * [1, 1e4, 1e-3] + [0, -1.7e9, 5]).astype(np.float32)
    table[50:] = table[:10]
    labels = np.arange(60) % 2
    labels[50:55] = 1 - labels[:5]
    labels[55:] = labels[5:10]
    lines = [
        f"{','.join(map(repr, row))},{('yes', 'no')[label]}" for row, label in zip(table.tolist(), labels, strict=True)
    ]
    path.write_text("\n".join(["height,seconds,weight,answer", *lines]) + "\n")
    return table, labels


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """What is written on disk, and how the launches that are looked at ended."""
    folder = tmp_path_factory.mktemp("data command")
    pictures = write_pictures(folder / "pictures")
    table = write_table(folder / "own.csv")
    for name in ("mnist", "tiny"):
        place = folder / "prepared" / name / "1.0.0"
        place.mkdir(parents=True)
        (place / "dataset_info.json").write_text("{}")
    surroundings = {"JAXDL_CACHE_DIR": str(folder / "cache"), "TFDS_DATA_DIR": str(folder / "nothing")}
    dataset, csv = "--config.data.dir={}".format, f"--config.data.dir={folder}/own.csv"
    words = {
        "list": [dataset(folder / "prepared")],
        "digits": ["digits", f"--workdir={folder}/out/digits"],
        "csv": ["csv", csv, "--config.data.csv.label=answer", "--config.data.train=40", f"--workdir={folder}/out/csv"],
        "pictures": [
            "--config.data.name=image_folder",
            dataset(folder / "pictures"),
            "--config.data.pictures.size=6",
            "--config.data.pictures.colour=True",
            "--config.data.normalise=channel",
            f"--workdir={folder}/out/pictures",
        ],
        "help": ["--help"],
        "wrong name": ["digist", f"--workdir={folder}/out/none"],
        "wrong key": ["digits", "--config.data.nme=mnist"],
        "two names": ["digits", "mnist"],
        "two names, one as an option": ["digits", "--config.data.name=mnist"],
        "wrong column": ["csv", csv, "--config.data.csv.label=nope", f"--workdir={folder}/out/none"],
        "offline": ["mnist", "--offline", f"--workdir={folder}/out/none"],
        "wrong option": ["digits", "--workdri=x"],
        "wrong kind": ["digits", "--config.data.normalise=chanel", f"--workdir={folder}/out/none"],
        "too many": ["digits", "--config.data.train=1797", f"--workdir={folder}/out/none"],
        "no folder": ["npz", f"--workdir={folder}/out/none"],
    }
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda each: launch(DATA, *each, **surroundings), words.values())
        found = dict(zip(words, ended, strict=True))
    return types.SimpleNamespace(folder=folder, pictures=pictures, table=table, found=found)


def succeeded(launched, name):
    """The lines that a launch printed, and its folder."""
    done = launched.found[name]
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert max(len(line) for line in lines if str(launched.folder) not in line) <= 100
    return lines, launched.folder / "out" / name


# The list


def test_the_list_names_every_set_and_where_it_comes_from(launched):
    lines, _ = succeeded(launched, "list")
    assert launched.found["list"].err == ""
    where = {"digits": "built in", "mnist": "TFDS folder", "cifar10": "to download: 170 MB", "tiny": "TFDS folder"}
    where["csv"] = "yours, in data.dir"
    listed = lines[: lines.index("")]
    assert [line.split()[0] for line in listed] == [*SETS, "tiny"]
    for line in listed:
        name = line.split()[0]
        assert name not in where or line[18:].startswith(where[name])
        assert line.endswith(SETS[name].line if name in SETS else "TFDS folder")
    assert f"TFDS folder: {launched.folder}/prepared" in lines
    assert any("python -m jaxdl.data.prepare NAME" in line for line in lines)


@pytest.mark.parametrize("name", ["tiny", "cifar10_corrupted/brightness_1"])
def test_the_list_stays_narrow_and_names_a_prepared_set_once(name, monkeypatch, capsys):
    monkeypatch.setattr(tfds, "prepared", lambda folder: [name])
    command.list_sets("")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith(f"{name} ") and line.endswith("TFDS folder") for line in lines) == 1


# What a set contains


def table_of(lines):
    """{split: [examples, min, max, mean, std]} as printed."""
    start = next(number for number, line in enumerate(lines) if line.startswith("split "))
    assert lines[start].split()[:6] == ["split", "examples", "min", "max", "mean", "std"]
    rows = itertools.takewhile(lambda line: line.startswith(("train ", "validation ", "test ")), lines[start + 1 :])
    return {row.split()[0]: [float(text.replace(",", "")) for text in row.split()[1:6]] for row in rows}


def classes_of(lines):
    """{class: [examples in each split]} as printed."""
    start = next(number for number, line in enumerate(lines) if line.startswith("class "))
    assert lines[start].split() == ["class", "train", "validation", "test"]
    rows = itertools.takewhile(lambda line: line and not line.startswith("and "), lines[start + 1 :])
    return {row.split()[0]: [int(text.replace(",", "")) for text in row.split()[1:]] for row in rows}


def duplicates_of(lines):
    """What is printed about duplicates, on one line."""
    start = next(number for number, line in enumerate(lines) if line.startswith("duplicates"))
    return " ".join(" ".join(itertools.takewhile(str.strip, lines[start:])).split())


def test_digits_are_counted_and_shown(launched):
    lines, workdir = succeeded(launched, "digits")
    official = sklearn.datasets.load_digits()
    assert lines[0] == "digits: 10 classes, 8x8x1 values of uint8"
    table, classes = table_of(lines), classes_of(lines)
    assert {split: row[:3] for split, row in table.items()} == {
        "train": [1199, 0, 16],
        "validation": [299, 0, 16],
        "test": [299, 0, 16],
    }
    # Each split's numbers are rounded; together they are those of the whole set.
    weight, mean, std = np.array([[row[0], row[3], row[4]] for row in table.values()]).T
    weight /= 1797
    assert (weight * mean).sum() == pytest.approx(official.images.mean() / 16, abs=1e-4)
    squares = (weight * (std**2 + mean**2)).sum()
    assert squares == pytest.approx((official.images**2).mean() / 256, abs=1e-4)
    assert [sum(row) for row in classes.values()] == np.bincount(official.target).tolist()
    assert np.sum(list(classes.values()), axis=0).tolist() == [1199, 299, 299]
    assert list(classes) == list("0123456789")
    assert "duplicates (the same values in every pixel): none" in lines
    pixels = np.loadtxt(workdir / "pixels.csv", delimiter=",")
    start = next(number for number, line in enumerate(lines) if line.startswith("the first training image, class "))
    (place,) = np.flatnonzero((official.images == pixels).all(axis=(1, 2)))
    assert lines[start].split()[-1] == str(official.target[place])
    assert [list(map(int, line.split())) for line in lines[start + 1 : start + 9]] == pixels.tolist()
    assert lines[-1] == f"written to {workdir}: contents.json, contact_sheet.png, pixels.png, pixels.csv"
    assert {path.name for path in workdir.iterdir()} == set(lines[-1].split(": ")[1].split(", "))
    assert opened(workdir / "contact_sheet.png") and opened(workdir / "pixels.png")


def opened(path):
    """Pixels [height, width, 3] of a picture that is not blank, and not too large to look at."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels)) > 10 and max(pixels.shape) <= 4000
    return pixels.tolist()


def test_contents_json_says_the_same_as_the_terminal(launched):
    lines, workdir = succeeded(launched, "digits")
    content = json.loads((workdir / "contents.json").read_text())
    table, classes = table_of(lines), classes_of(lines)
    for number, (split, each) in enumerate(content["splits"].items()):
        assert each["by_class"] == [row[number] for row in classes.values()]
        numbers = [sum(each["by_class"]), each["minimum"], each["maximum"], *each["mean"], *each["std"]]
        assert numbers == pytest.approx(table[split], abs=6e-5)
    assert (content["name"], content["classes"], content["shape"]) == ("digits", list("0123456789"), [8, 8, 1])
    assert lines[1] == f"fingerprint {content['fingerprint'][:16]}; splits that come with it: train"
    assert content["normalisation"] == {"kind": "unit", "scale": 1 / 16, "offset": None, "factor": None}
    assert content["command"] == f"python -m experiments.data digits '--workdir={workdir}'"


def test_a_table_of_ones_own(launched):
    lines, workdir = succeeded(launched, "csv")
    table, labels = launched.table
    assert lines[0] == "csv: 2 classes, 3 values of float32"
    content = json.loads((workdir / "contents.json").read_text())
    assert content["classes"] == ["no", "yes"]
    printed = table_of(lines)
    assert [printed[split][0] for split in printed] == [40, 10, 10]
    assert np.sum(list(classes_of(lines).values()), axis=1).tolist() == [np.sum(labels == 1), np.sum(labels == 0)]
    mean = sum(count * np.array(content["splits"][split]["mean"]) / 60 for split, (count, *_) in printed.items())
    np.testing.assert_allclose(mean, table.astype(np.float64).mean(axis=0), rtol=1e-9)
    low = min(each["minimum"] for each in content["splits"].values())
    assert low == table.min() and max(each["maximum"] for each in content["splits"].values()) == table.max()
    # 10 rows are there twice, wherever the splits put them; 5 of them with another label.
    twice = content["duplicates"]
    assert sum(twice["within"].values()) + sum(twice["across"].values()) == 10
    assert twice["relabelled"] == 5 and "5 of them have another label there" in lines
    said = duplicates_of(lines)
    for split, count in twice["within"].items():
        assert (f" {count} within {split}" in said) == (count > 0)
    for split, other in itertools.permutations(("train", "validation", "test"), 2):
        count = twice["across"].get(f"{split} in {other}", 0)
        assert (f" {count} of {split} also in {other}" in said) == (count > 0)
    assert lines[-1] == f"written to {workdir}: contents.json"
    assert [path.name for path in workdir.iterdir()] == ["contents.json"]


def runs(flags):
    """How many stretches of True there are."""
    return int(np.count_nonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])) == 1))


def test_pictures_of_ones_own(launched):
    lines, workdir = succeeded(launched, "pictures")
    assert lines[0] == "image_folder: 3 classes, 6x6x3 values of uint8"
    assert lines[1].endswith("splits that come with it: train, validation, test")
    classes = classes_of(lines)
    assert {name: sum(row) for name, row in classes.items()} == dict.fromkeys(COLOURS, 20)
    pixels = np.loadtxt(workdir / "pixels.csv", delimiter=",").reshape(6, 6, 3)
    (title,) = [line for line in lines if line.startswith("the first training image, class ")]
    kind = title.removeprefix("the first training image, class ").removesuffix(", its red channel")
    assert any((picture == pixels).all() for picture in launched.pictures[kind])
    start = lines.index(title)
    assert [list(map(int, line.split())) for line in lines[start + 1 : start + 7]] == pixels[..., 0].tolist()
    # On the sheet each class has a row, in its colour; with a third of white between pictures, at most 12 in a row.
    sheet = np.array(opened(workdir / "contact_sheet.png"))
    ends = []
    for name, colour in COLOURS.items():
        near = (np.abs(sheet - colour).max(axis=-1) < 12) & (np.ptp(sheet, axis=-1) > 50)
        band = np.flatnonzero(near.any(axis=1))
        ends += [band[0], band[-1]]
        assert runs(near.any(axis=1)) == 1
        assert runs(near[int(band.mean())]) == min(12, classes[name][0])
    picture, white, *others = np.diff(ends)
    assert white == pytest.approx(picture / 3, rel=0.15)
    assert others == pytest.approx([picture, white, picture], rel=0.1)
    opened(workdir / "pixels.png")
    stored = json.loads((workdir / "contents.json").read_text())
    fitted, train = normalisation.restore(stored["normalisation"]), stored["splits"]["train"]
    np.testing.assert_allclose(fitted.offset, train["mean"], rtol=1e-6)
    np.testing.assert_allclose(1 / fitted.factor, train["std"], rtol=1e-6)
    channels = re.findall(r"(-?[\d.]+) ± ([\d.]+)", "\n".join(lines))
    np.testing.assert_allclose(np.float64(channels[:3]), np.stack([train["mean"], train["std"]], 1), atol=6e-4)


# Mistakes


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrong name", ["unknown dataset 'digist'; did you mean 'digits'?", "rendered_digits, shapes, mnist"]),
        ("wrong key", ["unknown config key 'data.nme'; did you mean 'data.name'?"]),
        ("two names", ["one data set at a time: digits mnist"]),
        ("two names, one as an option", ["one data set at a time: digits mnist"]),
        ("wrong column", ["label column", "'nope'", "valid: height, seconds, weight, answer"]),
        ("offline", ["mnist is not here", "--offline", "train-images-idx3-ubyte.gz", "set data.dir"]),
        ("wrong option", ["unknown option '--workdri'; did you mean '--workdir'?"]),
        ("wrong kind", ["unknown data.normalise 'chanel'; did you mean 'channel'?"]),
        ("too many", ["data.train=1797 and data.validation=0 do not fit digits"]),
        ("no folder", ["data.name=npz needs data.dir: a .npz file"]),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(launched, name, says):
    done = launched.found[name]
    if name == "wrong column":
        done = done._replace(err=done.err.replace(f"reading {launched.folder}/own.csv\n", ""))
    line = complaint(done)
    for part in says:
        assert part in line
    assert not (launched.folder / "out" / "none").exists()


def test_help_needs_less_than_a_second(launched):
    done = launched.found["help"]
    assert (done.code, done.err) == (0, "")
    assert min(launch_anew(DATA, "--help").seconds for _ in range(2)) < 1
    assert max(map(len, done.out.splitlines())) <= 100
    for option in ("dir", "train", "validation", "normalise", "pictures.size", "pictures.colour", "csv.label"):
        assert f"  --config.data.{option}=" in done.out
    for option in ("--workdir=DIR", "--offline"):
        assert f"  {option}" in done.out


# Sets that few people have, in this process, because it is the same path and much faster


@pytest.fixture
def show(tmp_path, monkeypatch, capsys):
    """Writes arrays into an .npz file, shows what it contains: (lines, workdir)."""
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["data", "npz"])

    def show(normalise="unit", **arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        settings = types.SimpleNamespace(
            name="npz", dir=str(tmp_path / "own.npz"), train=0, validation=0, order="seed", normalise=normalise,
            pictures=types.SimpleNamespace(size=28, colour=False), csv=types.SimpleNamespace(label="label"),
        )  # fmt: skip
        command.show(settings, tmp_path / "out", baselines=False)
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
        return lines, tmp_path / "out"

    return show


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [1e-3, 1, -3e5, 3e30])
def test_numbers_of_any_size_stand_apart_and_are_right(show, channels, size):
    draw = np.random.default_rng(0)
    arrays = {
        split: (size * draw.uniform(0.1, 1, (count, channels)) ** 2).astype(np.float32)
        for split, count in (("train", 40), ("validation", 8), ("test", 12))
    }
    lines, workdir = show(
        **{f"x_{split}": values for split, values in arrays.items()},
        **{f"y_{split}": np.arange(len(values)) % 2 for split, values in arrays.items()},
    )
    printed = table_of(lines)
    for split, values in arrays.items():
        x = values.astype(np.float64)
        expected = [len(x), x.min(), x.max(), x.mean(), x.std()]
        np.testing.assert_allclose(printed[split], expected, rtol=6e-4, atol=6e-5 if size == 1 else 0)
    number = r"-?[\d.]+(?:e[+-]\d+)?"
    found = np.float64(re.findall(rf"({number}) ± ({number})", "\n".join(lines))).reshape(-1, 2)
    if 1 < channels <= 4:
        columns = np.stack([[x.mean(axis=0), x.std(axis=0)] for x in map(np.float64, arrays.values())])
        np.testing.assert_allclose(found, columns.swapaxes(1, 2).reshape(-1, 2), rtol=6e-4, atol=6e-4 * (size == 1))
    else:
        assert not found.size
    assert [path.name for path in workdir.iterdir()] == ["contents.json"]


def test_many_classes_are_listed_in_part_and_many_duplicates_on_short_lines(show):
    images = np.tile(np.arange(100, dtype=np.float32)[:, None], (1, 2))
    parts = {"train": images, "validation": images[:60].repeat(20, 0), "test": images.repeat(30, 0)}
    parts["train"] = images.repeat(25, 0)
    lines, workdir = show(
        **{f"x_{split}": values for split, values in parts.items()},
        **{f"y_{split}": values[:, 0].astype(int) % 25 for split, values in parts.items()},
    )
    assert list(classes_of(lines))[:20] == [str(number) for number in range(20)]
    assert "and 5 more, in contents.json" in lines
    content = json.loads((workdir / "contents.json").read_text())
    assert [len(each["by_class"]) for each in content["splits"].values()] == [25] * 3
    said = duplicates_of(lines)
    for words in (
        "2,400 within train",
        "1,140 within validation",
        "2,900 within test",
        "1,200 of validation also in train",
        "3,000 of test also in train",
        "1,800 of test also in validation",
    ):
        assert words in said
    assert "another label" not in said


def test_pictures_of_floats_are_drawn_the_right_way_round(show):
    """Dark on the left, light on the right; wide, so that only the middle of its numbers fits."""
    image = np.broadcast_to(np.linspace(-2, 2, 40, dtype=np.float32), (12, 10, 40)) * (1 + np.arange(12))[:, None, None]
    lines, workdir = show(normalise="channel", x=image.astype(np.float32), y=np.arange(12) % 2)
    assert lines[0] == "npz: 2 classes, 10x40x1 values of float32"
    matrix = np.loadtxt(workdir / "pixels.csv", delimiter=",")
    (factor,) = {round(value, 4) for value in (matrix[:, 0] / -2).tolist()}
    np.testing.assert_allclose(matrix, factor * np.tile(np.linspace(-2, 2, 40), (10, 1)), rtol=1e-5)
    start = next(number for number, line in enumerate(lines) if line.startswith("the first training image"))
    first, last = map(int, re.search(r"rows 0-9, columns (\d+)-(\d+)$", lines[start]).groups())
    shown = [[float(text) for text in line.split()] for line in lines[start + 1 : start + 11]]
    np.testing.assert_allclose(shown, matrix[:, first : last + 1], rtol=1e-3)
    assert abs(first - (39 - last)) <= 1 and last > first
    picture = np.array(opened(workdir / "pixels.png"), float)[40:].mean(axis=(0, 2))
    quarter = len(picture) // 4
    assert picture[:quarter].mean() + 50 < picture[-quarter:].mean()
    opened(workdir / "contact_sheet.png")


def test_long_series_taken_for_pictures_are_drawn_too(show):
    """[N, time, features] looks like grey images; drawn to scale they would be too high for a picture."""
    series = np.random.default_rng(0).normal(size=(12, 400, 1)).astype(np.float32)
    _, workdir = show(x=series, y=np.arange(12) % 2)
    matrix = np.loadtxt(workdir / "pixels.csv", delimiter=",")
    assert any(np.allclose(matrix, each[:, 0], rtol=1e-5) for each in series)
    for name in ("contact_sheet.png", "pixels.png"):
        opened(workdir / name)


def test_further_keys_are_named(tmp_path, monkeypatch, capsys):
    from jaxdl.data import Arrays, loading

    values = {
        "image": np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1),
        "label": np.arange(6, dtype=np.int32) % 2,
        "angle": np.zeros(6, np.float32),
    }
    monkeypatch.setattr(loading, "read", lambda settings: Arrays({"train": values}, ("a" * 300, "b"), 1 / 255, "0"))
    monkeypatch.setattr(sys, "argv", ["data", "turned"])
    settings = types.SimpleNamespace(name="turned", train=0, validation=0, normalise="unit")
    command.show(settings, tmp_path, baselines=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "turned: 2 classes, 2x2x1 values of uint8, with angle"
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
    assert len((tmp_path / "pixels.csv").read_text().splitlines()) == 2


def test_a_set_of_which_no_test_example_is_left(tmp_path):
    splits = ("--config.data.train=1597", "--config.data.validation=200", f"--workdir={tmp_path / 'digits'}")
    done = launch("experiments.data", "digits", *splits)
    assert done.code == 0, done.err
    assert re.search(r"^validation +200 ", done.out, re.M) and not re.search(r"^test ", done.out, re.M)
    assert (tmp_path / "digits" / "contact_sheet.png").is_file()
