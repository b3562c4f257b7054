"""The smoke preset of each study, end to end from the command line, under strict promotion and warnings as errors."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

# Variants; runs: a hash for each trial, with 2 seeds; fits, in their order.
EXPECTED = {
    "greedy_smoke": (
        [
            *("random-1", "random-2", "sparse-1", "sparse-2", "denoising-1", "denoising-2"),
            *("sparse-2-top", "denoising-2-top"),
            *("random-2-10labels", "sparse-2-10labels", "denoising-2-10labels"),
        ],
        11 * 2 * 2,
        ["autoencoder_layer1", "autoencoder_layer2", "depth1", "depth2", "depth2_top", "depth2_10labels"],
        397,
    ),
    "classifier_smoke": (["digits_cnn"], 2, ["train"], 397),
    "dropout_smoke": (
        ["none", "dropout", "max-norm", "early-stopping", "none-100", "dropout-100", "keep-0.5"],
        13 * 2,
        ["train", "speed", "averages", "early_stopping", "examples100"],
        397,
    ),
    "deep_smoke": (["pca", "random", "pretrained"], 3 * 2, ["layer1", "layer2", "layer3", "deep"], 397),
    "vae_smoke": (
        [
            *("pathwise", "leave_one_out", "beta-0", "beta-4", "autoencoder", "denoising"),
            *("categorical-leave_one_out", "categorical-gumbel_softmax"),
        ],
        8 * 2,
        [
            *("classifier", "pathwise", "pathwise_bound", "pathwise_generation", "pathwise_gradients"),
            *("score_leave_one_out", "score_leave_one_out_bound"),
            *("categorical_score_leave_one_out", "categorical_score_leave_one_out_bound"),
            *(f"categorical_gumbel_softmax{end}" for end in ("", "_bound", "_gradients")),
        ],
        397,
    ),
}


@pytest.fixture(params=EXPECTED)
def smoke(request):
    done, workdir = request.getfixturevalue(request.param)
    return done, workdir, *EXPECTED[request.param]


def rows_of(workdir):
    with (workdir / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_ends_well_with_a_table_of_every_variant(smoke):
    done, _, variants, runs, _, _ = smoke
    assert done.code == 0, done.err
    assert f"{runs} runs trained, 0 already there" in done.out
    lines = done.out.splitlines()
    for variant in variants:
        (line,) = [line for line in lines if line.strip().startswith(variant + " ") and "±" in line]
        assert len(re.findall(r"\d+\.\d+ ± \d+\.\d+", line)) >= 3
    assert max(len(line) for line in lines if "/" not in line) <= 100  # a path is as long as it is
    for what in ("pictures", "report", "all runs"):
        assert any(line.startswith(what) for line in lines)


def test_progress_is_told_on_stderr_fit_by_fit(smoke):
    done, _, _, _, fits, _ = smoke
    pattern = r"\[ *\d+%\] (\w+): \d+ runs?, step [\d,]+ of [\d,]+, .*(compiling|about .* left in all)"
    found = [re.fullmatch(pattern, line) for line in done.err.splitlines()]
    assert all(found), done.err
    assert list(dict.fromkeys(match[1] for match in found)) == fits


def test_every_run_has_its_files(smoke):
    _, workdir, variants, runs, fits, examples = smoke
    folders = sorted(workdir.glob("*/*/seed=*"))
    assert len(folders) == runs
    assert {folder.parent.parent.name for folder in folders} == set(variants)
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {"config.json", "metrics.jsonl", "result.json", "status.json", "outcomes.npz"}
        assert json.loads((folder / "status.json").read_text()) == {"status": "done"}
        assert json.loads((folder / "config.json").read_text())["seed"] == int(folder.name.removeprefix("seed="))
        metrics = json.loads((folder / "result.json").read_text())["metrics"]
        assert {name.split("_")[0] for name in metrics} == {"train", "validation", "test"}
        with np.load(folder / "outcomes.npz") as outcomes:
            for name, values in outcomes.items():  # the value of each test example: their mean is the metric
                few = "_at_" in name  # gradients: of the first images
                assert values.shape == (2 if few else examples,) and values.dtype == np.float32
                np.testing.assert_allclose(values.mean(dtype=np.float64), metrics[name], rtol=1e-6)
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert row["fit"] in fits
            prefixes = {name.split("_")[0] for name in row if name not in ("fit", "step")}
            assert prefixes == {"train", "validation"}
            assert not any(word in name for name in row for word in ("time", "second", "clock"))


def test_the_last_logged_validation_metrics_are_the_result(smoke):
    """No early stopping and no average here: the end of the last fit is what is measured."""
    _, workdir, _, runs, fits, _ = smoke
    checked = 0
    for path in workdir.glob("*/*/seed=*/metrics.jsonl"):
        lines = path.read_text().splitlines()
        if lines:
            last = json.loads(lines[-1])
            result = json.loads((path.parent / "result.json").read_text())["metrics"]
            logged = {name: value for name, value in last.items() if name.startswith("validation_")}
            assert logged and logged == {name: result[name] for name in logged}
            checked += last["fit"] in fits
    assert checked >= min(4, runs)


def test_results_csv_is_what_the_run_folders_hold(smoke):
    _, workdir, _, runs, _, _ = smoke
    found, expected = {}, {}
    for row in rows_of(workdir):
        key = (row["variant"], row["hash"], row["seed"])
        found.setdefault(key, {})[row["metric"]] = float(row["value"])
    for path in workdir.glob("*/*/seed=*/result.json"):
        variant, digest, seed = path.parts[-4:-1]
        expected[variant, digest, seed.removeprefix("seed=")] = json.loads(path.read_text())["metrics"]
    assert found == expected and len(found) == runs


def test_report_pictures_and_environment_are_there(smoke):
    done, workdir, variants, _, _, _ = smoke
    report = (workdir / "report.md").read_text()
    assert all(f"| {variant} |" in report for variant in variants)
    pictures = re.findall(r"\(figures/(\w+)\.png\)", report)
    assert len(pictures) >= 2 and sorted(pictures) == sorted(path.stem for path in (workdir / "figures").glob("*.png"))
    assert all(picture in done.out for picture in pictures)
    for picture in pictures:
        with Image.open(workdir / "figures" / f"{picture}.png") as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
    environment = json.loads((workdir / "environment.json").read_text())
    assert ":smoke" in environment["command"] and "--workdir=" in environment["command"]
    assert {"jax", "jaxlib"} <= set(environment["packages"]) and environment["devices"] and environment["cores"]


def test_pretraining_is_shared_by_the_runs_that_differ_only_later(greedy_smoke):
    """A stack does not depend on depth, labels or the learning rate of fine-tuning: the same metrics in every run."""
    _, workdir = greedy_smoke
    curves = {}
    for path in workdir.glob("denoising-*/*/seed=*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for layer in ("autoencoder_layer1", "autoencoder_layer2"):
            own = [json.dumps(row) for row in rows if row["fit"] == layer]
            if own:
                curves.setdefault((layer, path.parent.name), []).append(own)
    assert {key: len(each) for key, each in curves.items()} == {
        ("autoencoder_layer1", "seed=0"): 8,
        ("autoencoder_layer1", "seed=1"): 8,
        ("autoencoder_layer2", "seed=0"): 6,
        ("autoencoder_layer2", "seed=1"): 6,
    }
    assert all(each == others[0] for others in curves.values() for each in others)
    assert curves["autoencoder_layer1", "seed=0"][0] != curves["autoencoder_layer1", "seed=1"][0]


def test_pca_is_that_of_a_singular_value_decomposition(deep_smoke):
    _, workdir = deep_smoke
    from jaxdl import data

    parts = data.splits.split("digits", data.SETS["digits"].read(None), 1200, 200)
    train, test = (np.asarray(parts[split]["image"]).reshape(-1, 64) / 16 for split in ("train", "test"))
    mean = train.mean(axis=0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    code = (test - mean) @ axes[:4].T
    expected = np.square(test - mean - code @ axes[:4]).sum(axis=1).mean()
    found = [
        float(row["value"])
        for row in rows_of(workdir)
        if (row["variant"], row["metric"]) == ("pca", "test_squared_error")
    ]
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-10)


def test_split_over_eight_devices_the_numbers_are_the_same(greedy_smoke, pmap_smoke):
    """--strategy=pmap on 8 fake devices beside runs spread over the real ones."""
    _, workdir = greedy_smoke
    done, split = pmap_smoke
    assert done.code == 0, done.err
    assert len(json.loads((split / "environment.json").read_text())["devices"]) == 8
    found, expected = (
        {tuple(row.values())[1:5]: float(row["value"]) for row in rows_of(folder)} for folder in (split, workdir)
    )
    chosen = {key: value for key, value in expected.items() if key[0] in ("random-2", "denoising-2")}
    assert len({key[0] for key in chosen}) == 2
    assert set(found) == set(chosen)
    for key, value in chosen.items():
        sizes = {"train": 1200, "validation": 200, "test": 397}
        # An error is a share of examples: rounding may turn one.
        tolerance = (
            1.01 / sizes[key[3].split("_")[0]] if key[3].endswith("_error") and "squared" not in key[3] else 1e-4
        )
        assert found[key] == pytest.approx(value, abs=tolerance), key
