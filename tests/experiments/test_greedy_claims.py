"""What greedy_pretraining measures for its claims, and that claims speak of variants that exist."""

import importlib
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdl
from experiments import greedy_pretraining as greedy
from jaxdl.data import Rows, Source, normalisation, order
from jaxdl.errors import UserError
from jaxdl.study import Config, Runs
from jaxdl.study.claims import Cell
from jaxdl.study.runs import Run

CONFIGS = {name: importlib.import_module(f"configs.{name}") for name in ("greedy_pretraining", "deep_autoencoder")}
PRESETS = [(name, preset) for name, module in CONFIGS.items() for preset in module.PRESETS]


def config_of(name="greedy_pretraining", preset="smoke", **changes):
    """The resolved config of a preset; changes: {"section__key": value}."""
    values = CONFIGS[name].get_config(preset).to_dict()
    for key, value in changes.items():
        section, _, own = key.rpartition("__")
        (values[section] if section else values)[own] = value
    return Config(values)


def source_of(size, rows=lambda array: array):
    """`size` grey images of 3x3, class by class, each class with its own mean."""
    random = np.random.default_rng(3)
    label = np.sort(np.arange(size) % 4).astype(np.int32)
    image = (random.integers(0, 120, (size, 3, 3, 1)) + 40 * label[:, None, None, None]).astype(np.uint8)
    split = {"image": rows(image), "label": rows(label)}
    data = {"train": split, "validation": split, "test": split}
    return Source("made up", data, tuple("abcd"), normalisation.fit("unit", image, 1 / 255), "0", 8)


def stack_of(*strengths):
    """Runs that differ in (sparsity_weight, sparsity_target), and layers 9-5 of them."""
    names = ("sparsity_weight", "sparsity_target", "masking", "gaussian", "salt_pepper")
    hypers = [dict(zip(names, (*both, 0.0, 0.0, 0.0), strict=True)) for both in strengths]
    runs = Runs(
        [Run("sparse", seed, {}, hyper, "", {}) for seed, hyper in enumerate(hypers)], [[n] for n in range(len(hypers))]
    )
    random = np.random.default_rng(4)
    kernel = 2 * random.standard_normal((len(runs), 9, 5)).astype(np.float32)
    return runs, {"kernel": kernel, "bias": random.standard_normal((len(runs), 5)).astype(np.float32)}


def penalty(mean, target):
    """KL of Bernoulli distributions, summed over units, float64."""
    return float(np.sum(target * np.log(target / mean) + (1 - target) * np.log((1 - target) / (1 - mean))))


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_the_bias_is_the_penalty_of_batches_minus_that_of_all_their_images():
    source, (runs, layer) = source_of(50), stack_of((1.0, 0.1), (0.0, 0.0), (0.3, 0.4))
    found = greedy.sparsity_bias(config_of(measure__sparsity_batches=(1, 8, 50)), source, runs, layer)
    assert list(found) == [f"train_sparsity_bias_batch{size}" for size in (1, 8, 50)]
    shuffled = order.index(np.uint32(0), np.uint32(0), np.arange(50, dtype=np.uint32), 50)
    images = source.data["train"]["image"][shuffled].reshape(50, 9).astype(np.float64) / 255
    for run, target in ((0, 0.1), (2, 0.4)):
        code = sigmoid(images @ layer["kernel"][run].astype(np.float64) + layer["bias"][run])
        for size, used in ((1, 50), (8, 48), (50, 50)):  # the last two images fill no batch of 8
            batches = [penalty(code[first : first + size].mean(axis=0), target) for first in range(0, used, size)]
            expected = np.mean(batches) - penalty(code[:used].mean(axis=0), target)
            assert found[f"train_sparsity_bias_batch{size}"][run] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert all(np.isnan(values[1]) for values in found.values())  # no penalty, no bias


@pytest.mark.parametrize("unit", ["sigmoid", "tanh"])
def test_the_penalty_is_the_one_that_training_minimises(unit):
    """`reconstruct`'s own `penalty` of each batch, from its loss."""
    source, (runs, layer) = source_of(64), stack_of((1.0, 0.2))
    config = config_of(measure__sparsity_batches=(16,), model__unit=unit, model__hidden=5)
    found = greedy.sparsity_bias(config, source, runs, layer)["train_sparsity_bias_batch16"]
    task = jaxdl.tasks.reconstruct(greedy.autoencoder(config, 9, "autoencoder"), 9, "squared_error")
    run = jax.tree.map(lambda leaf: leaf[0], runs.arrays())
    params, _ = task.init(run, jax.random.key(0))
    params |= {"encoder_0": jax.tree.map(lambda leaf: leaf[0], layer)}

    def penalty_of(chosen):
        batch = {
            "image": source.images(source.data["train"]["image"][chosen]),
            "position": np.arange(len(chosen), dtype=np.uint32),
        }
        return float(task.loss(params, {}, batch, run, jax.random.key(1))[1][1]["penalty"])

    shuffled = order.index(np.uint32(0), np.uint32(0), np.arange(64, dtype=np.uint32), 64)
    expected = np.mean([penalty_of(batch) for batch in shuffled.reshape(4, 16)]) - penalty_of(shuffled)
    assert found[0] == pytest.approx(expected, rel=1e-4) and found[0] > 0.001


def test_the_bias_falls_with_the_batch_though_images_lie_class_by_class():
    source, (runs, layer) = source_of(1024), stack_of(*[(1.0, 0.1)] * 3)
    sizes = (1, 2, 8, 64, 512)
    found = greedy.sparsity_bias(config_of(measure__sparsity_batches=sizes), source, runs, layer)
    values = np.stack(list(found.values()))  # [sizes, R]
    assert (values > 0).all() and (np.diff(values, axis=0) < 0).all()
    # 1 / B, as for independent examples; batches of one class would be off by the classes' differences for any B.
    assert (values[2] / values[3] > 5).all()


def test_rows_that_lie_in_a_file_are_read_only_as_far_as_they_are_needed():
    read = []

    class Counted(Rows):
        def __getitem__(self, places):
            read.append(len(places))
            return super().__getitem__(places)

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("all rows were read")

    size = greedy.BIAS_IMAGES + 1000
    runs, layer = stack_of((1.0, 0.1))
    config = config_of(measure__sparsity_batches=(1, 64))
    lazy = greedy.sparsity_bias(config, source_of(size, lambda array: Counted(array, np.arange(size))), runs, layer)
    assert read == [greedy.BIAS_IMAGES]
    assert lazy == greedy.sparsity_bias(config, source_of(size), runs, layer)


def test_what_needs_no_bias_costs_nothing_and_a_batch_beyond_the_images_is_refused():
    source, (runs, layer) = source_of(50)._replace(data={}), stack_of((0.0, 0.0))
    assert greedy.sparsity_bias(config_of(), source, runs, layer) == {}
    runs, layer = stack_of((1.0, 0.1))
    assert greedy.sparsity_bias(config_of(measure__sparsity_batches=()), source, runs, layer) == {}
    with pytest.raises(UserError, match=r"sparsity_batches=\(8, 51\) is not possible: valid is 1 to 50"):
        greedy.sparsity_bias(config_of(measure__sparsity_batches=(8, 51)), source_of(50), runs, layer)


def test_the_bias_is_cheap_enough_for_a_plan():
    """Of the default study: ten layers, compiled before."""
    runs, _ = stack_of(*[(0.1, 0.1)] * 10)
    source = source_of(1200)
    layer = {"kernel": np.zeros((10, 9, 64), np.float32), "bias": np.zeros((10, 64), np.float32)}
    greedy.sparsity_bias(config_of(), source, runs, layer)
    started = time.perf_counter()
    greedy.sparsity_bias(config_of(), source, runs, layer)
    assert time.perf_counter() - started < 0.1


def fits_of(config, variants):
    """{name: (its source, its runs, what it was given, its options)} of the fits that `variants` ask for."""
    seen = {}
    settings = jaxdl.training.Settings(folder=Path("nowhere"), devices=jax.devices())

    def fit(name, task, optimizer, source, runs, extra=None, **options):
        seen[name] = source, runs, extra, options
        return jaxdl.training.plan(name, task, optimizer, source, runs.arrays() | (extra or {}), settings, **options)[1]

    labels = greedy.variants(config)
    hyper = config.content()["hyper"]
    rows = []
    for variant in variants:
        changes = {key.removeprefix("hyper."): v for key, v in labels[variant].items() if key.startswith("hyper.")}
        own = {key: v for key, v in labels[variant].items() if not key.startswith("hyper.")}
        rows.append(Run(variant, 0, own, hyper | changes, "", {}))
    source = source_of(64)
    done = list(greedy.train(config, source, Runs(rows, [[n] for n in range(len(rows))]), fit))
    return seen, done


def test_the_top_is_trained_alone_on_the_layers_that_fine_tuning_starts_from():
    config = config_of(measure__sparsity_batches=(1, 8), compare__labels=(), compare__kinds=("random", "sparse"))
    seen, done = fits_of(config, ["random-2", "sparse-2", "sparse-2-top"])
    assert list(seen) == ["autoencoder_layer1", "autoencoder_layer2", "depth2", "depth2_top"]
    for layer in ("autoencoder_layer1", "autoencoder_layer2"):
        (row,) = seen[layer][1].rows
        assert seen[layer][1].owners == ((1, 2),) and not {"top", "depth"} & set(row.settings)
    source, runs, extra, options = seen["depth2_top"]
    assert [row.variant for row in runs.rows] == ["sparse-2-top"]
    assert options == seen["depth2"][3]  # the same steps, evaluations and early stopping
    # What its output layer sees: the outputs of the two given layers.
    random = np.random.default_rng(0)
    layers = [
        {name: random.standard_normal(v.shape[1:]) for name, v in layer.items()} for layer in extra["start"]["layers"]
    ]
    given = {"given": np.float32(1), "layers": jax.tree.map(np.float32, layers)}
    split = source.data["test"]
    hidden = split["image"].reshape(64, -1) / 255
    for layer in layers:
        hidden = sigmoid(hidden @ layer["kernel"] + layer["bias"])
    prepared = source.prepare({"seed": np.uint32(0), "start": given}, split)
    np.testing.assert_allclose(prepared["image"], hidden, rtol=2e-4, atol=1e-6)
    assert [group.runs.rows[0].variant for group in done] == ["random-2", "sparse-2-top"]
    assert "train_sparsity_bias_batch8" in done[1].metrics


def test_variants_that_were_there_before_are_the_same_runs_with_and_without_the_top():
    with_top, without = (greedy.variants(config_of(preset="full", compare__top=top)) for top in (True, False))
    new = set(with_top) - set(without)
    assert new == {f"{kind}-5-top" for kind in ("plain", "sparse", "denoising", "ksparse")}
    assert {name: with_top[name] for name in without} == without


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_claims_of_every_preset_speak_of_its_variants(name, preset):
    study, config = importlib.import_module(f"experiments.{name}").study, config_of(name, preset)
    made, variants = study.claims(config), study.variants(config)
    assert len({claim.id for claim in made}) == len(made)
    for claim in made:
        terms = {term for contrast in claim.contrasts for term in contrast}
        absent = {term.variant if isinstance(term, Cell) else term for term in terms} - set(variants)
        assert not absent or claim.id.startswith("denoising-beats-plain")  # stated where plain ones are not run, too
        assert all(sum(contrast.values()) == 0 for contrast in claim.contrasts)
        assert claim.text and claim.paper


def test_the_claims_of_the_default_study():
    assert [claim.id for claim in greedy.claims(config_of(preset="default"))] == [
        *("sparse-helps-4", "denoising-helps-4", "depth-hurts-random", "denoising-beats-plain-4"),
        *("sparse-fine-tuning-helps-4", "denoising-fine-tuning-helps-4", "sparsity-needs-batches"),
        *("sparse-helps-few-10", "denoising-helps-few-10"),
    ]
    (bias,) = [claim for claim in greedy.claims(config_of(preset="default")) if claim.id == "sparsity-needs-batches"]
    names = [f"train_sparsity_bias_batch{size}" for size in (1, 8, 64)]
    cells = [Cell("sparse-1", name) for name in names]
    assert bias.relation == "less" and bias.contrasts == ({cells[1]: 1, cells[0]: -1}, {cells[2]: 1, cells[1]: -1})
