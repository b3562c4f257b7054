"""What the command does with a trained autoencoder: new pictures, codes of a user's own, every mistake."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from launching import launch
from PIL import Image
from scipy import stats

from experiments import _vae_images
from experiments.vae_reparameterization import study
from jaxdl import data
from jaxdl.errors import UserError
from jaxdl.study.finished import Model

VAE = "experiments.vae_reparameterization"


@pytest.fixture(scope="module")
def workdir(vae_smoke, tmp_path_factory):
    """A copy of the trained folder: others look at the folder itself."""
    done, trained = vae_smoke
    assert done.code == 0, done.err
    return shutil.copytree(trained, tmp_path_factory.mktemp("vae") / "run")


@pytest.fixture(scope="module")
def finished(workdir):
    return study.load(workdir)


def act(name, finished, value, out="", variant="pathwise", seed=0):
    study.actions[name].do(finished, variant, seed, str(value), str(out))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def dense(params, values):
    return values @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_command_that_users_type(workdir, finished):
    before = {path for path in workdir.rglob("*")}
    done = launch(VAE, "--generate", "9", "--from", str(workdir))
    assert done.code == 0 and done.err == "", done.err
    folder = workdir / "generated" / "pathwise-seed=0"
    assert done.out == f"pictures  {folder}/0000.png to 0008.png\ntile      {folder}/tile.png\n"
    assert sorted(contents(folder)) == [*(f"000{number}.png" for number in range(9)), "tile.png"]
    assert {path for path in workdir.rglob("*")} - before == {folder.parent, folder, *folder.iterdir()}
    params = finished.model("pathwise", 0).params
    assert params["mean"]["bias"].shape == (2,)
    for number in range(9):
        (code,) = _vae_images.codes(0, np.array([number], np.uint32), 2)
        hidden = np.tanh(dense(params["decoder_0"], np.asarray(code, np.float64)))
        expected = 255 / (1 + np.exp(-dense(params["output"], hidden))).reshape(8, 8)
        found = read(folder / f"000{number}.png")
        assert found.dtype == np.uint8 and found.std() > 3
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.5001)
    tile = read(folder / "tile.png")  # 3 x 3 of them, 64 pixels wide, 2 between
    assert tile.shape == (3 * 66 + 2, 3 * 66 + 2)
    for number in range(9):
        corner = tile[2 + 66 * (number // 3) :, 2 + 66 * (number % 3) :][:64, :64]
        np.testing.assert_array_equal(corner[4::8, 4::8], read(folder / f"000{number}.png"))
        np.testing.assert_array_equal(corner, np.kron(corner[::8, ::8], np.ones((8, 8), np.uint8)))
    assert (tile[:2] == 255).all() and (tile[:, 66:68] == 255).all()


def test_the_same_command_gives_the_same_bytes_and_fewer_are_the_first(finished, tmp_path, capsys):
    for name, count in (("many", 70), ("again", 70), ("few", 8), ("one", 1)):
        act("generate", finished, count, tmp_path / name)
    many = contents(tmp_path / "many")
    assert len(many) == 71 and many == contents(tmp_path / "again")
    assert len(set(many.values())) == 71
    for name, count in (("few", 8), ("one", 1)):
        found = contents(tmp_path / name)
        found.pop("tile.png")
        assert sorted(found) == [f"{number:04d}.png" for number in range(count)]
        assert all(content == many[file] for file, content in found.items())
    assert capsys.readouterr().out.endswith(f"{tmp_path}/one/0000.png\ntile      {tmp_path}/one/tile.png\n")


def test_each_run_has_pictures_of_its_own(finished, tmp_path):
    asked = {"own": {}, "other seed": {"seed": 1}, "other variant": {"variant": "beta-4"}}
    for name, options in asked.items():
        act("generate", finished, 2, tmp_path / name, **options)
    assert len({(tmp_path / name / "0000.png").read_bytes() for name in asked}) == 3


def test_codes_are_draws_of_the_prior():
    codes = np.asarray(_vae_images.codes(3, np.arange(4000, dtype=np.uint32), 5))
    assert stats.kstest(codes.reshape(-1), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(codes.T) - np.eye(5)).max() < 0.06
    np.testing.assert_array_equal(codes[[7, 2]], _vae_images.codes(3, np.array([7, 2], np.uint32), 5))
    assert (codes[:9] != np.asarray(_vae_images.codes(4, np.arange(9, dtype=np.uint32), 5))).all()


def digits(folder, count):
    """Test digits as pictures of many kinds, in two folders; returns {relative name: their values, 0 to 16}."""
    config = SimpleNamespace(**study.config("smoke").data.to_dict())
    config.pictures, config.csv = SimpleNamespace(**config.pictures), SimpleNamespace(**config.csv)
    stored = data.load(config, 40).data["test"]["image"][:count]
    written = {}
    for number, values in enumerate(stored):
        name = (f"b/{number:03d}.png", f"a/deep/é {number:03d}.PNG", f"{number:03d}.webp")[number % 3]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray(np.rint(values[..., 0] * (255 / 16)).astype(np.uint8))
        image = grey.convert("RGB") if number % 2 else grey
        image.save(folder / name, lossless=True) if name.endswith("webp") else image.save(folder / name)
        written[name] = values
    return written


def test_codes_of_pictures_are_those_of_the_same_images_in_training(workdir, finished, tmp_path, capsys):
    written = digits(tmp_path / "mine", 70)  # more than a block
    (tmp_path / "mine" / "labels.csv").write_text("1,2")
    (tmp_path / "mine" / ".hidden.png").write_text("no picture")
    act("encode", finished, tmp_path / "mine")
    place = workdir / "encoded" / "pathwise-seed=0.npz"
    assert capsys.readouterr().out.splitlines() == [
        f"codes     {place}: 70 pictures, 2 values each",
        "passed over, being no pictures: labels.csv",
    ]
    with np.load(place, allow_pickle=False) as found:
        assert sorted(found.files) == ["file", "log_variance", "mean"]
        file, mean, log_variance = found["file"], found["mean"], found["log_variance"]
    assert file.tolist() == sorted(written) and file.dtype.kind == "U"
    assert (mean.shape, mean.dtype) == ((70, 2), np.float32) and log_variance.dtype == np.float32
    params = finished.model("pathwise", 0).params
    seen = np.stack([written[name] for name in file]).reshape(70, 64) / 16
    hidden = np.tanh(dense(params["encoder_0"], seen))
    np.testing.assert_allclose(mean, dense(params["mean"], hidden), rtol=0, atol=1e-5)
    np.testing.assert_allclose(log_variance, dense(params["log_variance"], hidden), rtol=0, atol=1e-5)
    assert mean.std(axis=0).min() > 0.01
    act("encode", finished, tmp_path / "mine", tmp_path / "new" / "again.npz")
    assert (tmp_path / "new" / "again.npz").read_bytes() == place.read_bytes()


def test_what_exists_stays(finished, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there.npz").write_text("mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    digits(tmp_path / "mine", 1)
    for name, value, out in (
        ("generate", 1, "there"),
        ("generate", 1, "nowhere"),
        ("encode", tmp_path / "mine", "there.npz"),
    ):
        with pytest.raises(UserError, match=f"{out} is there already, and stays: name another place with --out"):
            act(name, finished, value, tmp_path / out)
    with pytest.raises(UserError, match=r"can't be written .* name another place with --out"):
        act("generate", finished, 1, tmp_path / "there.npz" / "below")
    assert list((tmp_path / "there").iterdir()) == [] and (tmp_path / "there.npz").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "nowhere", "there", "there.npz"]


@pytest.mark.parametrize(
    ("name", "value", "options", "part"),
    [
        ("generate", "0", {}, "--generate=0 is not possible: valid is a whole number from 1 to 999999"),
        ("generate", "-3", {}, "--generate=-3 is not possible"),
        ("generate", "ten", {}, "--generate=ten is not possible"),
        ("generate", "2.5", {}, "--generate=2.5 is not possible"),
        ("generate", "", {}, "--generate= is not possible"),
        ("generate", "9" * 5000, {}, "is not possible"),
        ("generate", "1", {"variant": "pathwide"}, "unknown variant 'pathwide'; did you mean 'pathwise'?"),
        ("generate", "1", {"seed": 2}, "unknown seed '2'; valid: 0, 1"),
        ("generate", "1", {"seed": -1}, "unknown seed '-1'; did you mean '1'? valid: 0, 1"),
        ("encode", "{}/gone", {}, "/gone is no folder: valid is a folder of pictures"),
        ("encode", "{}/words.png", {}, "words.png is no folder"),
        ("encode", "{}/empty", {}, "empty holds no picture; valid: .jpg .jpeg .png .webp"),
        ("encode", "{}/only words", {}, "only words holds no picture"),
        ("encode", "{}/broken", {}, "broken/sub/words.png is no picture; valid: JPEG, PNG, WebP"),
        ("encode", "{}/moving", {}, "moving/x.gif is no picture of a valid kind"),
        ("encode", "{}/fine", {"out": "codes.txt"}, "--out=codes.txt is no .npz file: write --out=codes.txt.npz"),
        ("encode", "{}/fine", {"seed": 5}, "unknown seed '5'"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),  # the same in every process
)
def test_what_is_not_possible_is_told_on_one_line(finished, tmp_path, monkeypatch, name, value, options, part):
    (tmp_path / "words.png").write_text("words")
    for folder in ("empty", "only words", "broken/sub", "moving", "fine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "only words" / "notes.txt").write_text("words")
    (tmp_path / "broken" / "sub" / "words.png").write_text("words")
    (tmp_path / "moving" / "x.gif").write_bytes(b"GIF89a")
    Image.new("L", (8, 8)).save(tmp_path / "fine" / "x.png")
    Image.new("L", (8, 8)).save(tmp_path / "broken" / "a.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        act(name, finished, value.format(tmp_path), **({"out": tmp_path / "new.npz"} | options))
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


GO_WITH = "what goes with --generate is --from, --variant, --seed, --out, --offline"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--generate", "4"], "--generate needs --from=WORKDIR"),
        (["--generate", "--from", "x"], "--generate has no value: write --generate=N"),
        (["--generate"], "generate"),
        (["--from=x"], "--from has no effect without --generate=N or --encode=FOLDER"),
        (["--seed=1", "--list"], "--seed has no effect without"),
        (["--generate=4", "--from=x", "--encode=y"], f"--generate and --encode exclude each other: {GO_WITH}"),
        (["--generate=4", "--from=x", "--list"], f"--generate and --list exclude each other: {GO_WITH}"),
        (["--generate=4", "--from=x", "--report"], "--generate and --report exclude each other"),
        (["--generate=4", "--from=x", "--figure=samples"], "--generate and --figure exclude each other"),
        (["--generate=4", "--from=x", "--share=0/2"], "--generate and --share exclude each other"),
        (["--generate=4", "--from=x", "--distributed"], "--generate and --distributed exclude each other"),
        (["--generate=4", "--from=x", "--config.seeds=3"], "--generate and --config.seeds exclude each other"),
        (["--generate=4", "--workdir=x"], "--generate and --workdir exclude each other"),
        (["--generate=4", "--from=x", "more"], "unexpected argument 'more'"),
        (["--generate=4", "--from=x", "--seed=one"], "--seed=one"),
        (["--generat=4", "--from=x"], "unknown option '--generat'; did you mean '--generate'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together(words, part):
    done = launch(VAE, *words)
    assert (done.code, done.out) == (2, ""), done
    (line,) = done.err.splitlines()
    assert line.startswith("error: ") and part in line


def test_a_folder_with_another_model_or_none(workdir, tmp_path):
    asked = json.loads((workdir / "environment.json").read_text())
    asked["asked"]["study"] = "deep_autoencoder"
    (tmp_path / "environment.json").write_text(json.dumps(asked))
    done = launch(VAE, "--generate=4", f"--from={tmp_path}", "--offline")
    assert (done.code, done.out) == (2, "")
    said = "holds no launch of vae_reparameterization (it holds one of deep_autoencoder): name the --workdir of one"
    assert done.err == f"error: {tmp_path} {said}\n"
    done = launch(VAE, f"--encode={tmp_path}", f"--from={tmp_path}/gone")
    assert done.code == 2 and done.err.count("\n") == 1 and f"{tmp_path}/gone holds no launch" in done.err


def test_a_seed_that_was_asked_for_and_is_not_trained(workdir, tmp_path):
    other = shutil.copytree(workdir, tmp_path / "run")
    content = json.loads((other / "environment.json").read_text())
    content["asked"]["values"]["seeds"] = 3
    (other / "environment.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"pathwise with seed 2 is not trained \(absent\): repeat its launch"):
        act("generate", study.load(other), 1, seed=2)


def test_studies_without_actions_have_no_such_options():
    done = launch("experiments.greedy_pretraining", "--from=x")
    assert done.code == 2 and "unknown option '--from'" in done.err
    done = launch("experiments.greedy_pretraining", "--help")
    assert "--from" not in done.out and "--figure=NAME" in done.out and "\n\n  --list" not in done.out


def test_help_and_the_list_of_studies():
    done = launch(VAE, "--help")
    for option in ("--generate=N ", "--encode=FOLDER ", "--from=WORKDIR ", "--variant=NAME --seed=K ", "--out=PATH "):
        assert f"\n  {option}" in done.out
    assert "default pathwise and 0" in done.out and max(map(len, done.out.splitlines())) <= 100
    assert "vae_images" not in launch("experiments").out


def of_hand(shape, kind, decoder, tmp_path, change=lambda params: None, dtype=np.uint8):
    """(finished, source) of a network whose mean code is what it sees, and that decodes everything to one image.

    That is the first training image, as the network sees it. The recipe has another size of the code.
    """
    images = np.random.default_rng(0).integers(0, 256, (50, *shape)).astype(dtype)
    normalisation = data.normalisation.fit(kind, images, 1 / 255 if dtype == np.uint8 else 1.0)
    source = data.Source("made", {"train": {"image": images}}, ("a",), normalisation, "", 1)
    inputs = math.prod(shape)
    params = {
        name: {"kernel": np.zeros((inputs, inputs), np.float32), "bias": np.zeros(inputs, np.float32)}
        for name in ("mean", "log_variance", "output")
    }
    params["mean"]["kernel"] = np.eye(inputs, dtype=np.float32)
    params["output"]["bias"] = np.array(source.images(images[:1])).reshape(-1)
    change(params)
    model = SimpleNamespace(
        widths=(), channels=(), latent=3, unit="tanh", initialisation="glorot_uniform", decoder=decoder
    )
    group = SimpleNamespace(config=SimpleNamespace(model=model), source=source)
    launched = SimpleNamespace(asked=SimpleNamespace(workdir=tmp_path / "run"))
    return SimpleNamespace(model=lambda variant, seed: Model(params, {}, None, group, None), launch=launched), source


@pytest.mark.parametrize("kind", ["unit", "pixel_mean", "channel"])
@pytest.mark.parametrize("shape", [(5, 5, 3), (3, 3, 1)])
def test_normalised_values_become_the_pixels_that_they_were_and_back(tmp_path, kind, shape):
    finished, source = of_hand(shape, kind, "gaussian", tmp_path)
    act("generate", finished, 2)
    images = source.data["train"]["image"]
    found = read(tmp_path / "run/generated/pathwise-seed=0/0001.png")
    np.testing.assert_array_equal(found.reshape(shape), images[0])
    tile = read(tmp_path / "run/generated/pathwise-seed=0/tile.png")
    side = 5 * 13 if shape[0] == 5 else 3 * 22
    assert tile.shape == (side + 4, 2 * side + 6, *shape[2:] * (shape[2] == 3))
    act("encode", finished, tmp_path / "run/generated/pathwise-seed=0", tmp_path / "codes.npz")
    values = images / 255.0
    expected = {
        "unit": lambda: values,
        "pixel_mean": lambda: values - values.mean(axis=0),
        "channel": lambda: (values - values.mean(axis=(0, 1, 2))) / values.std(axis=(0, 1, 2)),
    }[kind]()
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as codes:
        assert codes["file"].tolist() == ["0000.png", "0001.png", "tile.png"]
        np.testing.assert_allclose(codes["mean"][1].reshape(shape), expected[0], rtol=0, atol=1e-5)


def test_values_beyond_white_and_black_are_cut(tmp_path):
    def change(params):
        params["output"]["bias"][:] = [-0.5, 0, 0.2, 1.7]

    act("generate", of_hand((2, 2, 1), "unit", "gaussian", tmp_path, change)[0], 1, tmp_path / "new")
    np.testing.assert_array_equal(read(tmp_path / "new/0000.png"), [[0, 0], [51, 255]])


def test_wide_pictures_can_be_drawn_but_not_encoded(tmp_path):
    finished, _ = of_hand((2, 3, 1), "unit", "gaussian", tmp_path)
    act("generate", finished, 1)
    assert read(tmp_path / "run/generated/pathwise-seed=0/0000.png").shape == (2, 3)
    with pytest.raises(UserError, match="pictures become squares, which the 2x3 images of made are not"):
        act("encode", finished, tmp_path)


@pytest.mark.parametrize(
    ("shape", "dtype", "change", "part"),
    [
        ((2, 2, 1), np.uint8, lambda params: params.pop("mean"), "'pathwise' has no decoder of Gaussian codes"),
        ((2, 2, 1), np.uint8, lambda params: params.pop("output"), "'pathwise' has no decoder of Gaussian codes"),
        ((2, 2, 1), np.uint8, lambda params: params["output"]["bias"].fill(np.nan), "diverged with seed 0"),
        ((7,), np.float32, lambda params: None, "made holds no grey or colour pictures but float32 values of shape (7"),
        ((2, 2, 2), np.uint8, lambda params: None, "but uint8 values of shape (2, 2, 2)"),
        ((2, 2, 1), np.float32, lambda params: None, "but float32 values of shape (2, 2, 1)"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),  # the same in every process
)
@pytest.mark.parametrize("name", ["generate", "encode"])
def test_a_run_that_has_no_pictures_to_give(tmp_path, name, shape, dtype, change, part):
    finished, _ = of_hand(shape, "unit", "gaussian", tmp_path, change, dtype)
    with pytest.raises(UserError) as caught:
        act(name, finished, 1 if name == "generate" else tmp_path)
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
