"""What a person gets of `python -m experiments.look`: pictures, the page, the report, and mistakes in one line."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from launching import launch
from PIL import Image

from experiments import classifier, look
from jaxdl import data, models
from jaxdl.errors import UserError
from jaxdl.study.finished import Model

MAPS = ["convolution_1", "batch_norm_1", "convolution_2", "batch_norm_2", "convolution_3", "batch_norm_3"]


@pytest.fixture(autouse=True, scope="module")
def quickly(compiling_quickly, png_alone):
    """Most of a look is compilation and pictures; numbers are compared with those of programs compiled as quickly."""
    with compiling_quickly(), png_alone():
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A launch that trained the three-block network on a few digits."""
    place = tmp_path_factory.mktemp("look") / "run"
    config = classifier.study.config("smoke")
    config.data.train, config.seeds, config.epochs = 600, 1, 3.0
    classifier.study.run(config, workdir=place)
    return place


@pytest.fixture(scope="module")
def finished(workdir):
    return look.load(workdir)


def test_a_look_at_test_images(workdir, capsys):
    (workdir / "look" / "digits_cnn-seed=0").mkdir(parents=True)
    (workdir / "look" / "digits_cnn-seed=0" / "unit_of_before_1.png").write_text("old")
    look.look(workdir, explained="7", layer="batch_norm_2", unit="batch_norm_2:3,output:1")
    place = workdir / "look" / "digits_cnn-seed=0"
    report = ["filters", "grad_cam", "maps", "receptive_fields", "saliency", "unit_batch_norm_2_3", "unit_output_1"]
    own = [f"maps_{name}" for name in MAPS]
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["look.html", *(f"{name}.png" for name in [*report, *own])]
    )
    assert list((workdir / "look").iterdir()) == [place]
    for path in place.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 150 and np.asarray(image.convert("L")).std() > 10, path
    lines = capsys.readouterr().out.splitlines()
    cells = [re.split(r"  +", line) for line in lines[:8]]
    assert cells[0] == ["layer", "kind", "after", "output", "field", "stride", "begins", "centre sees", "measured"]
    assert cells[4] == ["batch_norm_2", "BatchNorm", "relu", "4x4x16", "8x8", "2", "-3", "7x7", "the same"]
    assert [row[-1] for row in cells[1:]] == ["the same"] * 7
    assert (
        sum(re.fullmatch(r"Test image \d+, class \d: \d \(.*%\), 7 \(.*%\)\.", line) is not None for line in lines) == 4
    )
    html = (place / "look.html").read_text()
    assert (
        html.count("data:image/png") == len(report) + len(own)
        and "http:" not in html
        and "https:" not in html.split("</style>")[1]
    )
    page = (workdir / "report.html").read_text()
    assert page.count("Digits cnn-seed=0: ") == 2 * len(report) and "Maps batch norm" not in page
    markdown = (workdir / "report.md").read_text()
    assert all(f"(look/digits_cnn-seed%3D0/{name}.png)" in markdown for name in report)


def test_a_picture_of_the_user_s_is_seen_as_in_training(finished, workdir, tmp_path):
    stored = finished.model("digits_cnn", 0).group.source.data["test"]["image"][:1]
    Image.fromarray(np.rint(stored[0, ..., 0] * (255 / 16)).astype(np.uint8)).save(tmp_path / "é 3.png")
    seen = look.looked_at(finished, "digits_cnn", 0, str(tmp_path / "é 3.png"), "")
    same = look.looked_at(finished, "digits_cnn", 0, "", "")
    assert seen.titles == ["é 3.png"] and len(same.titles) == look.CLASSES
    np.testing.assert_array_equal(seen.image, seen.source.images(stored))
    probabilities = finished.model("digits_cnn", 0).apply(stored)[0]
    assert seen.label[0] == probabilities.argmax()
    assert seen.said == [f"{probabilities.argmax()} ({probabilities.max():.1%})"]


def test_the_strongest_images_are_those_of_a_search(finished):
    from experiments import _look_pictures

    seen = look.looked_at(finished, "digits_cnn", 0, "", "")
    source = seen.source
    logits = models.forward(*seen.call, source.images(np.asarray(source.data["test"]["image"])), train=False)[0]
    best = np.sort(np.asarray(logits)[:, 4])[::-1][: look.STRONGEST]
    figure = _look_pictures.strongest(seen, {}, "output", 4)
    values = [float(axes.get_title().split(", ")[1]) for axes in figure.axes]
    np.testing.assert_allclose(values, best, rtol=6e-3)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"variant": "digitscnn"}, "unknown variant 'digitscnn'; did you mean 'digits_cnn'?"),
        ({"seed": 3}, "unknown seed '3'"),
        ({"explained": "seven"}, "unknown class 'seven'; valid: 0, 1, 2"),
        ({"layer": "convolution2"}, "unknown layer with maps 'convolution2'; did you mean 'convolution_2'?"),
        ({"layer": "output"}, "unknown layer with maps 'output'"),
        ({"unit": "batch_nrm_1:2"}, "unknown layer 'batch_nrm_1'; did you mean 'batch_norm_1'?"),
        ({"unit": "batch_norm_1:8"}, "--unit=batch_norm_1:8 is not possible: units of batch_norm_1 are 0 to 7"),
        ({"unit": "batch_norm_1:-1"}, "units of batch_norm_1 are 0 to 7"),
        ({"unit": "output"}, "--unit=output names no unit: write --unit=LAYER:NUMBER, as convolution_1:0"),
        ({"picture": "{}/gone.png"}, "gone.png (No such file or directory)"),
        ({"picture": "{}"}, "(Is a directory)"),
        ({"picture": "{}/words.png"}, "words.png is no picture; valid: JPEG, PNG, WebP"),
        ({"out": "{}/words.png"}, "words.png is there already, and stays"),
    ],
    ids=str,
)
def test_mistakes_are_told_on_one_line(workdir, tmp_path, monkeypatch, finished, options, part):
    (tmp_path / "words.png").write_text("words")
    monkeypatch.setattr(look, "load", lambda workdir: finished)
    before = sorted(workdir.rglob("*"))
    with pytest.raises(UserError) as caught:
        look.look(
            workdir, **{key: str(value).format(tmp_path) if key != "seed" else value for key, value in options.items()}
        )
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(workdir.rglob("*")) == before


def of_hand(network, shape=(6, 6, 1), dtype=np.uint8, change=lambda params: None):
    """What a launch found whose one run has this network with random weights, of 3 classes."""
    images = np.random.default_rng(0).integers(0, 256, (30, *shape)).astype(dtype)
    split = {"image": images, "label": np.arange(30, dtype=np.int32) % 3}
    normalisation = data.normalisation.fit("unit", images, 1 / 255 if dtype == np.uint8 else 1.0)
    source = data.Source("made", {"train": split, "test": split}, ("a", "b", "c"), normalisation, "", 1)
    params, state = {}, {}
    if network is not None:
        import jax

        params, state = models.initialise(network, jax.random.key(0), shape)
        params = jax.tree.map(np.array, params)
        change(params)

    def apply(stored):
        return np.full((len(stored), 3), 1 / 3)

    model = Model(params, state, apply, SimpleNamespace(source=source), network)
    return SimpleNamespace(model=lambda variant, seed: model)


def test_a_network_without_maps(tmp_path, monkeypatch, capsys):
    from jaxdl.study import run

    found = of_hand(models.MLP((5,), 3), (6, 7, 3))
    found.launch = SimpleNamespace(study=SimpleNamespace(default_variant="mlp"))
    monkeypatch.setattr(look, "load", lambda workdir: found)
    monkeypatch.setattr(run, "reread", lambda launch: pytest.fail("--out leaves the launch as it is"))
    look.look(tmp_path / "run", out=str(tmp_path / "new"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "filters.png", "look.html", "receptive_fields.png", "saliency.png",
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert "left out: feature maps and Grad-CAM: no layer of this network has maps\n" in out
    assert re.search(r"^hidden_0 +Dense +relu|^hidden_0 +Dense +sigmoid", out, re.M) and not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="no layer of this network has maps"):
        look.look(tmp_path / "run", out=str(tmp_path / "newer"), layer="hidden_0")


@pytest.mark.parametrize(
    ("found", "part"),
    [
        (lambda: of_hand(None), "the variant 'x' is no network that answers for an image: name another --variant"),
        (
            lambda: of_hand(models.MLP((), 3), (6,), np.float32),
            "sees no grey or colour images but values of shape (6,)",
        ),
        (
            lambda: of_hand(models.MLP((), 3), change=lambda params: params["output"]["bias"].fill(np.nan)),
            "'x' diverged with seed 0: name another --seed or --variant",
        ),
    ],
    ids=["no network", "no images", "diverged"],
)
def test_runs_with_nothing_to_look_into(found, part):
    with pytest.raises(UserError) as caught:
        look.looked_at(found(), "x", 0, "", "")
    assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "look needs --from=WORKDIR"),
        (["--from=nowhere"], "--from=nowhere holds no launch"),
        (["--from=x", "a.png", "b.png"], "one image at a time: a.png b.png"),
        (["--from=x", "--config.data.name=mnist"], "--config.data.name has no effect"),
    ],
)
def test_options_that_do_not_go_together(words, part):
    done = launch("experiments.look", *words)
    assert (done.code, done.out) == (2, ""), done
    (line,) = done.err.splitlines()
    assert line.startswith("error: ") and part in line


def test_help():
    done = launch("experiments.look", "--help")
    assert done.code == 0 and "--unit=LAYER:NUMBER" in done.out and max(map(len, done.out.splitlines())) <= 120
