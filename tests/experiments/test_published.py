"""The papers' numbers beside each preset's variants, and what its recipe does differently."""

import importlib
import re

import pytest

from jaxdl.study import Config

CONFIGS = {name: importlib.import_module(f"configs.{name}") for name in ("greedy_pretraining", "deep_autoencoder")}
PRESETS = [(name, preset) for name, module in CONFIGS.items() for preset in module.PRESETS]

# By hand: {(variant, metric): what the paper prints}, errors in %, (what it prints being) 100 minus the accuracy.
NUMBERS = {
    ("greedy_pretraining", "mnist"): {("denoising-3", "test_error"): 1.28},
    ("greedy_pretraining", "mnist_stacked"): {
        ("sparse-2", "test_error_before"): 100 - 87.7,
        ("sparse-2", "test_error"): 100 - 97.6,
    },
    ("greedy_pretraining", "paper"): {("plain-3", "test_error"): 1.40, ("denoising-3", "test_error"): 1.28},
    ("deep_autoencoder", "mnist"): {("pca", "test_squared_error"): 13.87, ("pretrained", "test_squared_error"): 3.00},
    ("deep_autoencoder", "paper"): {("pca", "test_squared_error"): 13.87, ("pretrained", "test_squared_error"): 3.00},
}

# What each preset must and must not say of itself.
DIFFERENCES = {
    ("greedy_pretraining", "default"): (["digits instead of MNIST", "64 units", "1,500 steps"], ["60,000"]),
    ("greedy_pretraining", "smoke"): (["digits instead of MNIST", "16 units", "60 steps"], []),
    ("greedy_pretraining", "full"): (["digits instead of MNIST", "64 units"], []),
    ("greedy_pretraining", "mnist"): (["55,000 images", "100 units", "5,500 steps instead of 36 epochs"], ["digits"]),
    ("greedy_pretraining", "mnist_stacked"): (["55,000 images", "adam and momentum"], ["units", "tutorial"]),
    ("greedy_pretraining", "paper"): (["20 images instead of 1", "50 epochs"], ["units", "15 epochs", "tied"]),
    ("deep_autoencoder", "default"): (["digits instead of MNIST", "100-50-25-8", "momentum on batches of 40"], []),
    ("deep_autoencoder", "smoke"): (["digits instead of MNIST", "16-8-4"], []),
    ("deep_autoencoder", "mnist"): (["55,000 images", "200-100-50-30", "11,000 steps"], ["digits"]),
    ("deep_autoencoder", "paper"): (["Boltzmann", "conjugate gradients"], ["500-250", "epochs"]),
}


def study_and_config(name, preset, **changes):
    values = CONFIGS[name].get_config(preset).to_dict()
    for key, value in changes.items():
        section, _, own = key.partition("__")
        values[section][own] = value
    return importlib.import_module(f"experiments.{name}").study, Config(values)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_published_number_is_about_a_variant_and_says_where_it_is_from(name, preset):
    study, config = study_and_config(name, preset)
    numbers, variants = study.published(config), study.variants(config)
    found = {(number.variant, number.metric): number.value for number in numbers}
    assert len(found) == len(numbers)
    scale = {"test_squared_error": 1, "test_error": 100, "test_error_before": 100}  # a fraction is printed as %
    printed = {key: scale[key[1]] * value for key, value in found.items()}
    assert printed == pytest.approx(NUMBERS.get((name, preset), {}))
    for number in numbers:
        assert number.variant in variants and number.metric in study.columns
        assert re.search(r"(Table|Figure) \d|exercise", number.source)
        assert number.verified and number.spread is None and number.runs == 0


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_what_a_recipe_does_differently_is_told_in_short_sentences(name, preset):
    study, config = study_and_config(name, preset)
    sentences = study.differs(config)
    assert len(set(sentences)) == len(sentences)
    assert all(re.fullmatch(r"[A-Z][^\n]{10,100}\.", sentence) for sentence in sentences)
    there, not_there = DIFFERENCES[name, preset]
    assert all(any(words in sentence for sentence in sentences) for words in there), sentences
    assert not any(words in sentence for sentence in sentences for words in not_there), sentences


def test_a_number_goes_where_the_comparison_no_longer_makes_sense():
    def variants(name, preset, **changes):
        study, config = study_and_config(name, preset, **changes)
        return [number.variant for number in study.published(config)]

    assert variants("greedy_pretraining", "mnist", data__name="fashion_mnist") == []
    assert variants("greedy_pretraining", "mnist", hyper__masking=0.1) == []
    assert variants("greedy_pretraining", "mnist", compare__depths=(1, 2)) == []
    assert variants("greedy_pretraining", "mnist_stacked", model__hidden=100) == []
    assert variants("greedy_pretraining", "mnist_stacked", readout__epochs=0.0) == []
    assert variants("deep_autoencoder", "mnist", data__normalise="binarised") == []
    assert variants("deep_autoencoder", "mnist", model__widths=(200, 30)) == ["pca"]
    assert variants("deep_autoencoder", "mnist", model__widths=(200, 100, 50, 20)) == []


def test_what_differs_follows_the_config():
    study, config = study_and_config("greedy_pretraining", "mnist", hyper__masking=0.5, model__unit="tanh")
    assert {
        "Masking sets 50% of the values to 0 instead of 25% (Table 3).",
        "Units are tanh instead of sigmoid.",
    } <= set(study.differs(config))
