"""What the trainability study builds, starts from and measures, what it refuses, and functions represented exactly."""

from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import _expressivity as exact
from experiments import _trainability_claims as about
from experiments import _trainability_fits as fits
from experiments import trainability
from experiments.trainability import study
from jaxdl import models
from jaxdl.data import Source
from jaxdl.data.normalisation import Normalisation
from jaxdl.errors import UserError
from jaxdl.study.config import Config
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.study.terminal import print_plan
from jaxdl.training import Fitted
from jaxdl.training.stopping import Requests

# Functions


@pytest.mark.parametrize("teeth", [1, 3, 5])
def test_layers_of_two_units_are_a_sawtooth_of_two_to_the_number_of_layers_pieces(teeth):
    count = 2 ** (teeth + 3)
    x = np.arange(count + 1) / count
    wave = exact.sawtooth(x, teeth)
    for place, value in zip(x, wave, strict=True):  # in exact arithmetic: the distance to the nearest even tooth
        phase = Fraction(place) * 2**teeth % 2
        assert Fraction(value) == min(phase, 2 - phase)
    np.testing.assert_array_equal(exact.deep_sawtooth(x, teeth), wave)
    np.testing.assert_array_equal(exact.shallow_sawtooth(x, teeth), wave)
    assert exact.pieces(wave) == 2**teeth <= exact.most_pieces(teeth, 2)
    assert exact.most_pieces(1, 2**teeth - 2) < 2**teeth <= exact.most_pieces(1, 2**teeth - 1)


def test_a_random_network_has_no_more_pieces_than_its_form_allows():
    draw = np.random.default_rng(0)
    x = np.arange(4097) / 4096
    for width in (1, 2, 3):
        places, weights = draw.integers(1, 4096, width) / 4096, draw.integers(1, 4, width)
        assert exact.pieces(exact.relu(x[:, None] - places) @ weights) == exact.most_pieces(1, width)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_parity_from_pairs_of_bits_and_from_their_sum(count):
    bits = exact.all_bits(count)
    assert len({tuple(word) for word in bits}) == 2**count
    parity = np.array([sum(word) % 2 for word in bits])
    np.testing.assert_array_equal(exact.deep_parity(bits), parity)
    np.testing.assert_array_equal(exact.shallow_parity(bits), parity)
    assert exact.implicants(bits, parity) == exact.implicants(bits, 1 - parity) == 2 ** (count - 1)
    with pytest.raises(ValueError, match="leave out"):
        exact.implicants(bits, bits[:, 0])


def plain_source(side=4, count=8):
    """A source of random images whose classes are 0 to 3 in turn."""
    draw = np.random.default_rng(0)
    split = {
        "image": draw.standard_normal((count, side, side, 1), np.float32),
        "label": np.arange(count, dtype=np.int32) % 4,
    }
    data = {name: split for name in ("train", "validation", "test")}
    return Source("drawn", data, tuple("abcd"), Normalisation("channel", 1.0), "drawn", 32)


def test_a_function_is_data_of_two_classes():
    config = Config({"functions": {"bits": 3, "teeth": 2, "units": 4}})
    words = exact.function_source(config, plain_source(), "parity")
    split = words.data["test"]
    np.testing.assert_array_equal(split["label"], (split["image"] > 0).sum(axis=1) % 2)
    assert words.batch_size == len(split["label"]) == 8 and words.classes == 2
    wave = exact.function_source(config, plain_source(), "sawtooth")
    image, label = wave.data["train"]["image"][:, 0], wave.data["train"]["label"]
    assert len(image) == 16 * 4 and np.abs(np.diff(label)).sum() == 4  # the wave crosses 1/2 once in each piece
    np.testing.assert_array_equal(wave.images(wave.data["train"]["image"])[:, 0], image)


# Variants, and where they start


def test_names_of_variants_and_their_programs():
    config = Config(study.config().to_dict())
    found = trainability.variants(config)
    assert found["tanh-standard-30"] == {
        "unit": "tanh", "initialisation": "standard", "normalisation": "none", "depth": 30,
    }  # fmt: skip
    assert found["relu-he-batch_norm-10-x0.5"] == {
        "unit": "relu", "initialisation": "he", "normalisation": "batch_norm", "depth": 10, "hyper.gain": 0.5,
    }  # fmt: skip
    assert found["relu-he-2-5starts"] == found["relu-he-2"] | {"starts": 5}
    deep, shallow = found["sawtooth-deep"], found["sawtooth-shallow"]
    assert deep["depth"] * deep["width"] == shallow["depth"] * shallow["width"] and shallow["depth"] == 1
    names = {
        label: fits.fit_name({key: value for key, value in own.items() if key != "initialisation"})
        for label, own in found.items()
    }
    assert names["relu-he-30"] == names["relu-glorot-30"] == "relu_30"  # one program
    assert names["relu-he-10-x1.5"] == names["relu-he-10"]
    # linear, sigmoid, tanh, relu and residual at 4 depths; two kinds of batch norm; the starts; two functions, twice
    assert len(set(names.values())) == 5 * 4 + 2 + 1 + 4


def test_claims_are_about_variants_that_are_there():
    for preset in ("default", "smoke", "full"):
        config = Config(study.config(preset).to_dict())
        there = trainability.variants(config)
        claims = about.claims(config)
        assert len({claim.id for claim in claims}) == len(claims)
        for claim in claims:
            assert {getattr(term, "variant", term) for each in claim.contrasts for term in each} <= set(there)
    ids = " ".join(claim.id for claim in about.claims(Config(study.config().to_dict())))
    for what in ("sigmoid", "glorot", "he-trains", "batch-norm", "residual", "relu-is-faster", "linear", "starts"):
        assert what in ids


def test_a_factor_is_the_slope_of_a_line_through_the_logarithms():
    noise = np.array([-0.01, 0.0, 0.01])
    values = {depth: depth * (np.log10(0.25) + noise) - 1 for depth in (2, 5, 9)}
    mean, half = about.factor(values)
    factors = 10 ** (np.log10(0.25) + noise)
    np.testing.assert_allclose((mean, half), (factors.mean(), 4.303 * factors.std(ddof=1) / 3**0.5), rtol=1e-3)


@pytest.mark.usefixtures("quick_compilation")
def test_runs_start_from_the_weights_of_their_initialisation():
    net = models.DeepMLP(3, 40, 4, initialisation="lecun_normal", normalisation="batch_norm")
    init = jax.jit(fits.start(net, (4, 4, 1)))
    names = ("he_normal", "glorot_normal", "orthogonal")
    kernels = {}
    for name in names:
        gains = {
            "first": models.gain(name, 16, 40), "hidden": models.gain(name, 40, 40), "output": models.gain(name, 40, 4),
        }  # fmt: skip
        run = {"hyper": {"gain": np.float32(2)}, "gains": jax.tree.map(np.float32, gains), "start": np.uint32(1)}
        params, _ = init(run | {"orthogonal": np.float32(name == "orthogonal")}, jax.random.key(0))
        np.testing.assert_array_equal(params["hidden"]["batch_norm"]["scale"], 1)
        kernels[name] = [
            params["first"]["dense"]["kernel"],
            *params["hidden"]["dense"]["kernel"],
            params["output"]["kernel"],
        ]
        if name != "orthogonal":
            stds = [float(kernel.std()) for kernel in kernels[name]]
            expected = [float(models.initialiser(name)(jax.random.key(1), k.shape).std()) for k in kernels[name]]
            np.testing.assert_allclose(stds, 2 * np.array(expected), rtol=0.2)
    np.testing.assert_allclose(kernels["orthogonal"][1].T @ kernels["orthogonal"][1], 4 * np.eye(40), atol=1e-4)
    other, _ = init(run | {"orthogonal": np.float32(1), "start": np.uint32(2)}, jax.random.key(0))
    assert np.abs(other["output"]["kernel"] - kernels["orthogonal"][-1]).max() > 0.1


def test_of_several_starts_the_one_with_the_least_validation_loss_is_measured(recipe):
    config, source = Config(recipe.to_dict()), plain_source()
    task = fits.objective(config, source, {"depth": 1, "unit": "relu", "normalisation": "none"})
    runs = study_runs(recipe, "relu-he-2-3starts")
    losses = np.array([[3.0, 1.0], [2.0, 5.0], [np.nan, 4.0]])  # [starts, runs]
    diverged = np.array([0, 0, 0, 0, 7, 0])
    ends = {"kernel": np.arange(6)}
    fitted = Fitted(ends, {}, diverged, diverged, {"validation_loss": losses.reshape(-1)}, {})
    seen = {}

    def fit(name, task, optimizer, source, runs, extra, **options):
        seen.update(extra["end"], name=name, **options)
        return fitted

    best = fits.best_start(config, source, "relu_2_starts", task, runs, fitted, fit)
    assert seen["params"]["kernel"].tolist() == [2, 1]  # places: start x runs + run
    assert (seen["name"], seen["steps"], best.diverged.tolist()) == ("relu_2_starts_best", 0, [0, 0])


# The study


def study_runs(recipe, variant):
    """The runs of a variant, without training."""
    return prepare(study, Asked(recipe.to_dict(), Path("unused"), variant, (), ""), Requests()).groups[0].runs


@pytest.fixture
def recipe():
    config = study.config("smoke")
    config.steps, config.evaluations, config.observed.images, config.data.train = 3, 1, 10, 64
    config.compare.families, config.compare.depths = ("relu-glorot", "relu-he"), (2,)
    config.compare.gain_families, config.compare.gain_depth, config.compare.gains = ("relu-he",), 2, (1e30,)
    config.compare.functions, config.compare.starts = (), 3
    return config


@pytest.mark.usefixtures("quick_compilation")
def test_a_run_whose_activations_overflow_diverges_and_the_others_of_its_program_go_on(recipe, tmp_path):
    found = study.run(recipe, workdir=tmp_path, stop_on_failure=True)
    results = found.report.results
    rows = {row.variant: row for row in results.rows}
    assert set(rows) == {"relu-glorot-2", "relu-he-2", "relu-he-2-x1e+30", "relu-he-2-3starts"}
    lost = rows.pop("relu-he-2-x1e+30")
    assert lost.diverged == 2 and not lost.failed
    for row in rows.values():
        assert not row.diverged + row.failed and len(row.metrics["test_error"]) == 2
    # Beside the metrics of a run: what reached its layers, before and after.
    he = rows["relu-he-2"].metrics
    names = {name.removesuffix("_at_0") for name in he if name.endswith("_at_0")}
    assert len(names) == 7 and names <= set(he)
    assert (he["train_steps_to_loss"] == 3).all()  # never reached
    assert (he["train_log10_gradient_at_0"] > rows["relu-glorot-2"].metrics["train_log10_gradient_at_0"]).all()
    assert (he["train_saturated_at_0"] > 0.2).all() and (he["train_saturated_at_0"] < 0.8).all()
    # Several starts are measured as one run, and read back as such.
    starts = rows["relu-he-2-3starts"].metrics
    assert found.model("relu-he-2-3starts", 1).apply(np.zeros((3, 8, 8, 1), np.uint8)).shape == (3, 10)
    assert "train_saturated" not in starts and set(starts) <= set(he)
    pictures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"error_by_depth", "gradient_by_layer", "activation_histograms", "gradient_histograms"} <= pictures
    report = (tmp_path / "report.md").read_text()
    assert "diverged" in report and "Mean singular value" in report


def test_a_sweep_of_a_gain_and_a_width_is_one_program_for_each_width(recipe, tmp_path, capsys):
    recipe.compare.starts, recipe.compare.gain_families = 0, ()
    sweep = ("model.width=8,12", "hyper.gain=0.5,1.0,2.0")
    launch = check(prepare(study, Asked(recipe.to_dict(), tmp_path, "", sweep, ""), Requests()))
    assert len(launch.groups) == 2 and len(launch.rows) == 2 * 2 * 3 * 2
    print_plan(launch)
    out = capsys.readouterr().out
    groups = out.split("\nmodel.width=")[1:]
    assert [group.split()[0] for group in groups] == ["8", "12"]
    for group, parameters in zip(groups, (64 * 8 + 8 + 72 + 90, 64 * 12 + 12 + 156 + 130), strict=True):
        line = next(line for line in group.splitlines() if line.startswith("relu_2 "))
        assert line.split()[1:4] == ["12", "3", f"{parameters:,}"]  # 2 initialisations, 3 gains, 2 seeds: at once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compare.families": ("relu-hee",)}, "initialisation of the family 'relu-hee' 'hee'; did you mean 'he'"),
        ({"compare.families": ("rely-he",)}, "unknown unit 'rely'; did you mean 'relu'"),
        ({"compare.families": ("relu-he-batchnorm",)}, "unknown normalisation 'batchnorm'; did you mean 'batch_norm'"),
        ({"compare.depths": (3, 2)}, r"compare.depths=\(3, 2\) and compare.gain_depth=2 are not possible"),
        ({"compare.depths": (0,)}, "valid are numbers of hidden layers from 1"),
        ({"compare.functions": ("sawtoot",)}, "unknown function in compare.functions 'sawtoot'; did you mean"),
        ({"functions.teeth": 0}, "functions.teeth=0"),
        ({"observed.images": 0}, "observed.images=0"),
        ({"model.width": 0}, "model.width=0"),
        ({"target_loss": 0.0}, "target_loss=0.0"),
        (
            {"compare.depths": (2, 200000)},
            "a depth of 200,000 does not fit: a run with layers of 12 units would take 1.4 GB, and "
            "runtime.memory_gigabytes=0.5 hold 70,382 layers",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_training(change, message, recipe, tmp_path):
    recipe.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message) as raised:
        study.run(recipe, workdir=tmp_path)
    assert "\n" not in str(raised.value) and not any(tmp_path.iterdir())
