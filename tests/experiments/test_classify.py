"""Classifying pictures: against Pillow and NumPy, every kind of file, and every mistake in one line."""

import dataclasses
import io
import json
import os
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from launching import ROOT, launch, launch_anew
from PIL import Image

from experiments import classifier, classify
from jaxdl import data
from jaxdl.errors import UserError
from jaxdl.study.config import Config
from jaxdl.study.finished import Model

COLOURS = {"amber": (250, 120, 10), "green": (20, 200, 30), "violet": (90, 10, 240)}
SIZE = 6


def trained(folder, **changes):
    """The workdir of a perceptron that was trained for a moment, without pictures in its report."""
    config = classifier.study.config("smoke")
    config.model.name, config.model.widths, config.model.unit = "mlp", (5,), "tanh"
    config.seeds, config.epochs, config.validate_every = 1, 2.0, 1000
    config.update_from_flattened_dict(changes)
    study = dataclasses.replace(classifier.study, figures=lambda *_: {})
    study.run(config, workdir=folder)
    return str(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The workdir of a network of grey 8x8 digits, values 0 to 16."""
    return trained(tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """(folder, workdir): pictures of three classes in colour, and the network that knows them."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "in" / name).mkdir(parents=True)
        for number in range(40):
            pixels = (np.array(colour) + draw.integers(-80, 81, (9, 7, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "in" / name / f"{number}.png")
    changes = {"data.name": "image_folder", "data.dir": str(folder / "in"), "data.train": 0, "data.validation": 0}
    changes |= {"data.pictures.size": SIZE, "data.pictures.colour": True, "batch_size": 16, "hyper.learning_rate": 0.05}
    return folder / "in", trained(folder / "run", **changes)


@pytest.fixture
def told(capsys):
    """Classifies, and returns (what is printed, what is on standard error, how many failed)."""

    def told(*words, **options):
        failed = classify.classify([str(word) for word in words], **options)
        return *capsys.readouterr(), failed

    return told


def listed(told, *words, **options):
    """(what JSON has, by the names of the files; lines on standard error; how many failed), all labels."""
    out, err, failed = told(*words, top=100, as_json=True, **options)
    return {Path(each["file"]).name: each for each in json.loads(out)}, err.splitlines(), failed


def probabilities(each, names):
    """[classes] in the order of the classes; the answer has them in the order of their probability."""
    found = [label["probability"] for label in each["labels"]]
    assert found == sorted(found, reverse=True)
    assert all(names[label["id"]] == label["label"] for label in each["labels"])
    return np.array([label["probability"] for label in sorted(each["labels"], key=lambda label: label["id"])])


def by_hand(workdir, seen):
    """Softmax of the perceptron in float64, of what it sees [N, inputs], parameters read back from the workdir."""
    params = classifier.study.load(workdir).model().params
    hidden = np.tanh(seen @ np.float64(params["hidden_0"]["kernel"]) + np.float64(params["hidden_0"]["bias"]))
    logits = hidden @ np.float64(params["output"]["kernel"]) + np.float64(params["output"]["bias"])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def seen(folder, images):
    """Pillow's pictures as the network of photos sees them: central square, 6x6, less the mean training picture."""
    settings = SimpleNamespace(
        name="image_folder", dir=str(folder), train=0, validation=0, order="seed", normalise="unit",
        pictures=SimpleNamespace(size=SIZE, colour=True), csv=SimpleNamespace(label="label"),
    )  # fmt: skip
    mean = data.load(settings, 1).data["train"]["image"].astype(np.float64).mean(axis=0)
    pixels = []
    for image in images:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side))
        pixels.append(np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    return ((np.stack(pixels) - mean) / 255).reshape(len(images), -1)


def noise(height, width, *channels, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8))


def test_colour_pictures_have_the_probabilities_that_are_computed_by_hand(photos, told, tmp_path):
    images = {f"{number:03d}.png": noise(7 + number % 5, 12 - number % 7, 3, seed=number) for number in range(150)}
    for name, image in images.items():
        image.save(tmp_path / name)
    found, err, failed = listed(told, tmp_path, workdir=photos[1])
    assert (list(found), err, failed) == (list(images), [], 0)  # 150: three blocks, the last one filled up
    answers = np.stack([probabilities(each, sorted(COLOURS)) for each in found.values()])
    np.testing.assert_allclose(answers, by_hand(photos[1], seen(photos[0], images.values())), rtol=0, atol=1e-6)
    assert len(set(answers.argmax(axis=1))) > 1 and answers.std(axis=0).min() > 0.01
    for name in ("000.png", "077.png", "149.png"):  # to the last bit, whatever the company
        alone, _, _ = listed(told, tmp_path / name, workdir=photos[1])
        assert alone == {name: found[name]}
    again, _, _ = listed(told, tmp_path / "077.png", tmp_path, tmp_path / "000.png", workdir=photos[1])
    assert again == found and next(iter(again)) == "077.png"  # each once


def test_pictures_in_other_steps_of_grey(digits, told, tmp_path):
    """scikit-learn's digits are integers from 0 to 16: a picture of one is classified as the digit itself."""
    model = classifier.study.load(digits).model()
    stored = model.group.source.data["test"]["image"][:20]
    for number, image in enumerate(stored):
        grey = Image.fromarray(np.rint(image[..., 0] * (255 / 16)).astype(np.uint8))
        (grey.convert("RGB") if number % 2 else grey).save(tmp_path / f"{number:02d}.png")  # grey all the same
        Image.fromarray(255 - np.asarray(grey)).save(tmp_path / f"{number:02d}.webp", lossless=True)
        np.testing.assert_array_equal(model.read(tmp_path / f"{number:02d}.png"), image)
    expected = by_hand(
        digits, (stored / 16 - model.group.source.data["train"]["image"].mean(axis=0) / 16).reshape(20, 64)
    )
    found, err, _ = listed(told, *tmp_path.glob("*.png"), workdir=digits)
    assert err == []
    for number in range(20):
        answer = probabilities(found[f"{number:02d}.png"], "0123456789")
        np.testing.assert_allclose(answer, expected[number], rtol=0, atol=1e-6)
    negatives, err, _ = listed(told, *tmp_path.glob("*.webp"), workdir=digits, invert=True)
    assert err == []
    for number in range(20):
        assert negatives[f"{number:02d}.webp"]["labels"] == found[f"{number:02d}.png"]["labels"]


def test_a_note_where_training_was_light_on_dark(digits, photos, told, tmp_path):
    paper = np.full((20, 20), 255, np.uint8)
    paper[5:15, 8:12] = 0
    Image.fromarray(paper).save(tmp_path / "paper.png")
    Image.fromarray(255 - paper).save(tmp_path / "board.png")
    _, err, _ = told(tmp_path, workdir=digits)
    (line,) = err.splitlines()
    assert line.startswith("note: 1 of 2 pictures has a light border, those of digits, ") and "--invert" in line
    _, err, _ = told(tmp_path / "board.png", workdir=digits)
    assert err == ""
    _, err, _ = told(tmp_path / "board.png", workdir=digits, invert=True)
    assert "leave out --invert" in err
    _, err, _ = told(tmp_path, workdir=photos[1])  # whose borders are of all kinds
    assert err == ""


def test_grey_pictures_for_a_network_of_colours_and_the_reverse(photos, digits, told, tmp_path):
    noise(9, 9).save(tmp_path / "grey.png")
    noise(9, 9).convert("RGB").save(tmp_path / "the same.png")
    noise(8, 8, 3).save(tmp_path / "colour.png")
    noise(8, 8, 3).convert("L").save(tmp_path / "its grey.png")
    found, _, _ = listed(told, tmp_path, workdir=photos[1])
    assert found["grey.png"]["labels"] == found["the same.png"]["labels"] != found["colour.png"]["labels"]
    assert found["colour.png"]["labels"] != found["its grey.png"]["labels"]
    found, _, _ = listed(told, tmp_path, workdir=digits)
    assert found["colour.png"]["labels"] == found["its grey.png"]["labels"]


def png(width, height):
    """A grey PNG file that claims a size and holds nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def strange(folder):
    """Files of every kind: ({name: the picture that they are to be taken for}, {name: what its error says})."""
    base = noise(9, 9, 3, seed=5)
    pixels = np.asarray(base)
    fine = {}

    def save(name, image, shown=None, **options):
        image.save(folder / name, **options)
        with Image.open(folder / name) as stored:
            fine[name] = shown or stored.convert("RGB")

    save("plain.png", base)
    save("one pixel wide.png", noise(30, 1, 3))
    grey = np.asarray(noise(9, 9)).astype(np.uint16)
    save("16 bits.png", Image.fromarray(grey * 257), Image.fromarray(grey.astype(np.uint8)).convert("RGB"))
    save("cmyk.jpg", base.convert("CMYK"))
    save("palette.png", base.quantize(16))
    alpha = np.dstack([pixels, np.where(np.arange(81).reshape(9, 9) % 2, 255, 0).astype(np.uint8)])
    white = np.where(alpha[..., 3:] == 0, 255, pixels).astype(np.uint8)
    save("alpha.png", Image.fromarray(alpha), Image.fromarray(white))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise
    save("exif.png", base, base.transpose(Image.Transpose.ROTATE_270), exif=turned)
    content = (folder / "plain.png").read_bytes()
    (folder / "truncated.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    (folder / "broken link.jpg").symlink_to(folder / "gone.jpg")
    frames = {"save_all": True, "append_images": [noise(9, 9, 3, seed=6)]}
    base.save(folder / "moves.gif", **frames)
    base.save(folder / "moves.png", **frames)
    base.save(folder / "moves.webp", **frames)
    base.save(folder / "old.bmp")
    (folder / "huge.png").write_bytes(png(20000, 20000))
    return fine, {
        "truncated.png": "is damaged",
        "empty.jpg": "is empty",
        "text.jpg": "is no picture; valid: JPEG, PNG, WebP",
        "broken link.jpg": "cannot read",
        "moves.gif": "of the kind GIF",
        "moves.png": "is animated (2 frames)",
        "moves.webp": "is animated (2 frames)",
        "old.bmp": "of the kind BMP",
        "huge.png": "is too large (Image size (400000000 pixels)",
    }


def test_files_of_every_kind(photos, told, tmp_path):
    fine, refused = strange(tmp_path)
    (tmp_path / "notes.txt").write_text("passed over")
    found, err, failed = listed(told, tmp_path, workdir=photos[1])
    assert sorted(found) == sorted([*fine, *refused]) and failed == len(refused)
    expected = by_hand(photos[1], seen(photos[0], fine.values()))
    for name, answer in zip(fine, expected, strict=True):
        found_here = probabilities(found[name], sorted(COLOURS))
        np.testing.assert_allclose(found_here, answer, rtol=0, atol=1e-6, err_msg=name)
    for name, part in refused.items():
        assert found[name].keys() == {"file", "error"} and part in found[name]["error"]
    assert err[:-1] == [f"error: {each['error']}" for each in found.values() if "error" in each]
    assert err[-1] == f"{len(refused)} of {len(found)} pictures left out"
    for name in refused.keys() - {"broken link.jpg"}:  # alone, one line
        out, line, failed = told(tmp_path / name, workdir=photos[1])
        assert (out, failed, line) == ("", 1, f"error: {found[name]['error']}\n")


def test_one_broken_file_among_500(photos, tmp_path):
    content = io.BytesIO()
    noise(24, 32, 3).save(content, "JPEG")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number in range(500):
        broken = content.getvalue()[: 200 if number == 321 else None]
        (tmp_path / "in" / ("deep" if number % 2 else "") / f"{number}.jpg").write_bytes(broken)
    done = launch("experiments.classify", f"{tmp_path}/in", "--from", photos[1], "--top=2")
    assert done.code == 1
    lines = done.out.splitlines()
    assert len(lines) == 499 and len(set(line.split(None, 1)[1] for line in lines)) == 1
    assert re.fullmatch(r"\S+/in/0\.jpg +(amber|green|violet) \d+\.\d %  (amber|green|violet) \d+\.\d %", lines[0])
    error, count = done.err.splitlines()
    assert error.startswith(f"error: {tmp_path}/in/deep/321.jpg is damaged")
    assert count == "1 of 500 pictures left out"


def test_pictures_with_their_labels(photos, told, tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("a/x.png", "a/x.jpg", "y.png"):
        noise(9, 12, 3).save(tmp_path / "in" / name)
    (tmp_path / "in" / "z.png").write_text("no picture")
    _, _, failed = told(tmp_path / "in", workdir=photos[1], folder=str(tmp_path / "out"))
    assert failed == 1
    paths = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert paths == ["a/x.jpg.png", "a/x.png.png", "y.png.png"]
    with Image.open(tmp_path / "out" / "y.png.png") as sheet:
        pixels = np.asarray(sheet)
    with Image.open(tmp_path / "in" / "y.png") as image:
        square = image.crop((1, 0, 10, 9)).resize((256, 256), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels[:256], np.asarray(square))
    text = pixels[256:]
    assert text.shape == (28, 256, 3) and text.min() == 0 and (text[:2] == 255).all() and (text[:, -4:] == 255).all()
    content = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    with pytest.raises(UserError, match=r"a/x\.jpg\.png is there already, and stays: name another folder"):
        classify.classify([str(tmp_path / "in")], photos[1], folder=str(tmp_path / "out"))
    assert content == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    told(tmp_path / "in" / "y.png", workdir=photos[1], folder=str(tmp_path / "one"))
    assert (tmp_path / "one" / "y.png.png").read_bytes() == content[tmp_path / "out" / "y.png.png"]


def test_a_label_too_long_for_its_picture_is_written_smaller(tmp_path):
    noise(9, 9).save(tmp_path / "x.png")
    classify.write(tmp_path / "long.png", tmp_path / "x.png", "Ein sehr langer Name, Größe 50 %")
    with Image.open(tmp_path / "long.png") as sheet:
        text = np.asarray(sheet)[256:]
    assert text.min() < 100 and (text[:, -3:] == 255).all()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["{}/in/y.pgn"], "there is no '{}/in/y.pgn'; did you mean '{}/in/y.png'? valid: pictures, and folders"),
        (["{}/nowhere/y.png"], "there is no '{}/nowhere/y.png'; valid: pictures"),
        (["{}/in/y.png", "{}/nothing"], "{}/nothing holds no picture; valid: .jpg .jpeg .png .webp"),
        (["{}/pipe"], "{}/pipe is no file; valid: pictures, and folders of pictures"),
    ],
)
def test_names_where_nothing_is(photos, tmp_path, words, part):
    (tmp_path / "in").mkdir()
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe")
    noise(9, 9).save(tmp_path / "in" / "y.png")
    with pytest.raises(UserError) as caught:
        classify.classify([word.format(tmp_path) for word in words], photos[1])
    assert part.format(tmp_path, tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_launches_that_can_not_classify(photos, digits, tmp_path):
    noise(9, 9).save(tmp_path / "y.png")

    def refused(part, workdir=tmp_path / "run", **options):
        with pytest.raises(UserError) as caught:
            classify.classify([str(tmp_path / "y.png")], str(workdir), **options)
        assert part in str(caught.value) and "\n" not in str(caught.value)

    refused("run holds no launch: name the --workdir of a study that has trained")
    refused("unknown variant 'mpl'; did you mean 'mlp'?", digits, variant="mpl")
    refused("unknown seed '7'; valid: 0", digits, seed=7)
    (tmp_path / "run").mkdir()
    asked = json.loads((Path(digits) / "environment.json").read_text())
    (tmp_path / "run" / "environment.json").write_text(json.dumps(asked))
    refused("run holds no finished run")
    asked["asked"]["study"] = "clasifier"
    (tmp_path / "run" / "environment.json").write_text(json.dumps(asked))
    refused("unknown study in")
    refused("did you mean 'classifier'?")
    asked["asked"]["study"] = "data"
    (tmp_path / "run" / "environment.json").write_text(json.dumps(asked))
    refused("data is no study")


def made(outputs, shape=(4, 4, 1), dtype=np.uint8, weight=0.0):
    """A network that makes `outputs` of images, whatever is on them."""
    images = np.zeros((50, *shape), dtype)
    normalisation = data.normalisation.fit("unit", images, 1 / 255 if dtype == np.uint8 else 1.0)
    source = data.Source("made", {"train": {"image": images}}, ("a", "b"), normalisation, "", 1)
    group = SimpleNamespace(source=source, config=Config({"target": "angle"}))
    params = {"bias": np.array([weight])}
    return Model(params, {}, lambda images: np.repeat(np.asarray(outputs)[None], len(images), axis=0), group, None)


def test_networks_that_do_not_classify_pictures():
    classify.check(made([0.5, 0.5]), "x")
    classify.check(made(3.0), "x")
    for model, part in (
        (made(np.zeros(16)), "the network of x does not classify: it makes 16 values of an image"),
        (made([0.5, 0.5], weight=np.inf), "diverged: name another --seed or --variant"),
        (made([0.5, 0.5], shape=(4, 6, 1)), "pictures become squares, which the 4x6 images of made are not"),
        (made([0.5, 0.5], shape=(16,), dtype=np.float32), "made holds no grey or colour pictures but float32 values"),
    ):
        with pytest.raises(UserError) as caught:
            classify.check(model, "x")
        assert part in str(caught.value)


def test_a_number_instead_of_labels(told, tmp_path, monkeypatch):
    noise(9, 9).save(tmp_path / "y.png")
    monkeypatch.setattr(classify, "trained", lambda *_: made(-12.34))
    assert told(tmp_path / "y.png", workdir="")[0] == f"{tmp_path}/y.png  angle -12.3\n"
    (found,) = json.loads(told(tmp_path / "y.png", workdir="", as_json=True)[0])
    assert found == {"file": f"{tmp_path}/y.png", "angle": -12.34}


def test_large_pictures_go_in_smaller_blocks():
    assert classify.block(made([0.5, 0.5], (28, 28, 1)).group.source) == (64, 28, 28, 1)
    assert classify.block(made([0.5, 0.5], (224, 224, 3)).group.source) == (5, 224, 224, 3)
    assert classify.block(made([0.5, 0.5], (1024, 1024, 1)).group.source)[0] == 1


def test_data_that_changed_since_training(photos, tmp_path):
    folder, workdir = photos
    other = shutil.copytree(workdir, tmp_path / "run")
    copied = shutil.copytree(folder, tmp_path / "in")
    asked = json.loads((other / "environment.json").read_text())
    asked["asked"]["values"]["data"]["dir"] = str(copied)
    (other / "environment.json").write_text(json.dumps(asked))
    assert classifier.study.load(other).model().names == ("amber", "green", "violet")  # the same, elsewhere
    (copied / "red").mkdir()
    with pytest.raises(UserError, match=r"the class folder .*/in/red holds no picture"):
        classifier.study.load(other)
    for number in range(20):
        noise(5, 5, 3, seed=number).save(copied / "red" / f"{number}.png")
    part = f"the data of image_folder in {copied} are not those that --workdir={other} was trained on"
    with pytest.raises(UserError) as caught:
        classifier.study.load(other)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_progress_is_told_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    clock = iter([0.0, 2.0, 4.0, 5.0, 8.0])
    monkeypatch.setattr(classify.time, "monotonic", lambda: next(clock))
    blocks = [[classify.Answer(Path("x"), None)] * 250] * 4
    assert len(list(classify.told(iter(blocks), 1000))) == 1000
    assert capsys.readouterr() == ("", "[ 50%] 500 of 1,000 pictures, about 4 s left\n")


def test_the_command_line():
    before = os.times()
    first = launch_anew("experiments.classify", "--help")
    after = os.times()
    assert (first.code, first.err) == (0, "")
    # Seconds of the processor, which don't depend on what else the machine does.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
    assert max(map(len, first.out.splitlines())) <= 100
    for option in classify.HELP.split("\n  --")[1:]:
        assert f"  --{option}" in first.out
    for words, part in (
        ([], "no picture is named"),
        (["x.png"], "classify needs --from=WORKDIR"),
        (["x.png", "--from=x", "--top=0"], "--top=0 is not possible: valid is 1 or more"),
        (["x.png", "--from=x", "--config.epochs=1.0"], "--config.epochs has no effect"),
        (["x.png", "--from=x", "--pictures=y"], "unknown option '--pictures'; did you mean '--picture'?"),
    ):
        done = launch("experiments.classify", *words)
        assert (done.code, done.out) == (2, "") and done.err.startswith("error: ") and part in done.err, done
        assert done.err.count("\n") == 1


def test_what_readme_shows(digits, tmp_path, monkeypatch, capsys):
    section = re.search(r"^## Train a classifier.*?\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
    assert len(code.strip().splitlines()) <= 6
    commands = re.findall(r"^    \.venv/bin/python -m (.*)$", section, re.M)
    assert len(commands) == 3 and "--from=runs/classifier " in commands[-1]
    noise(9, 9).save(tmp_path / "seven.png")
    (tmp_path / "Scans").mkdir()
    noise(9, 9, seed=1).save(tmp_path / "Scans" / "x.jpg")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "classifier").symlink_to(digits)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    label, probability = capsys.readouterr().out.split()
    words = [word for word in commands[-1].split()[1:] if not word.startswith("--")]
    assert classify.classify(words, "runs/classifier", folder="labelled") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(rf"seven\.png +{label} {100 * float(probability):.1f} %  ", lines[0]) and len(lines) == 2
    assert sorted(path.name for path in Path("labelled").rglob("*.png")) == ["seven.png.png", "x.jpg.png"]
    assert sys.modules["experiments.classifier"] is classifier
