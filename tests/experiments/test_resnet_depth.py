"""The ResNet study's own parts: what it refuses, how it looks at layers, the slow start, what it says of papers."""

import json
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import resnet_depth as recipe
from experiments import _resnet_claims, _resnet_layers
from experiments.resnet_depth import network, optimizer, study
from jaxdl import models, tasks
from jaxdl.data import loading
from jaxdl.errors import UserError
from jaxdl.study import Config
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.study.run import execute
from jaxdl.training.stopping import Requests


def values_of(preset="smoke", **changes):
    """The values of a preset; of `smoke` with nets of two depths, as the others have them."""
    values = recipe.get_config(preset).to_dict()
    if preset == "smoke":
        changes = {"compare__depths": (8, 14), "compare__option_b": (8,), "warm_up__depth": 14} | changes
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section] = values[section] | {name: value} if name else value
    return values


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(compare__depths=()), "compare.depths=() is not possible: valid are one or more depths 6n + 2"),
        (dict(compare__depths=(14, 8)), "compare.depths=(14, 8) is not possible"),
        (dict(compare__depths=(8, 8)), "compare.depths=(8, 8) is not possible"),
        (dict(compare__depths=(9,)), "depth=9 is not possible: CifarResNet has 6n + 2 layers; nearest: 8"),
        (dict(compare__margin=-0.1), "compare.margin=-0.1 is not possible: valid is 0 or more"),
        (dict(budgets=(8, 4)), "budgets=(8, 4) is not possible: valid are numbers of steps from 1 to 23"),
        (dict(budgets=(4, 4)), "budgets=(4, 4) is not possible"),
        (dict(budgets=(0,)), "budgets=(0,) is not possible"),
        (dict(budgets=(24,)), "budgets=(24,) is not possible"),
        (dict(augmentation__crop_padding=-1), "crop_padding"),
    ],
)
def test_what_is_not_possible_is_said_before_anything_is_trained(changes, said, tmp_path):
    with pytest.raises(UserError) as error:
        check(prepare(study, Asked(values_of(**changes), tmp_path, "", (), ""), Requests()))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_densenet_of_depth_0_is_none():
    config = Config(values_of(compare__densenet=dict(depth=0, growth_rate=1, bottleneck=False, compression=1.0)))
    assert list(study.variants(config)) == ["plain-8", "plain-14", "residual-8", "residual-14", "residual-8-B"]
    assert not any("densenet" in claim.id for claim in study.claims(config))


@pytest.fixture(scope="module")
def net():
    """A residual net of 8 layers with unusual batch norms, its task, and 6 images with labels."""
    module, random = models.CifarResNet(8, 10, "B"), np.random.default_rng(0)
    task = tasks.classify(module, (8, 8, 1))
    params, state = jax.jit(lambda key: task.init({}, key))(jax.random.key(1))
    params = jax.tree.map(lambda w: w + 0.1 * random.standard_normal(w.shape, np.float32), params)
    state = jax.tree.map(lambda s: s + random.random(s.shape, np.float32), state)
    batch = {"image": random.standard_normal((6, 8, 8, 1), np.float32), "label": np.arange(6, dtype=np.int32)}
    respond = jax.jit(lambda params: _resnet_layers.responses(module, params, state, batch["image"]))
    norms = jax.jit(lambda params: _resnet_layers.gradient_norms(task, params, state, batch))
    return SimpleNamespace(task=task, params=params, state=state, batch=batch, respond=respond, norms=norms)


def convolved(image, kernel):
    """A 3x3 convolution with a border of zeros, stride 1, one product a pixel of the kernel."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, height, width, _ = image.shape
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def normalised(hidden, norm, statistics):
    return norm["scale"] * (hidden - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) + norm["bias"]


def test_responses_are_those_after_batch_norm_before_relu_and_addition(net):
    params, state, batch = net.params, net.state, net.batch
    found = net.respond(params)
    assert found.shape == (7,)  # the output is no 3x3 layer
    w, s = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree) for tree in (params, state["batch_stats"]))
    first = normalised(convolved(batch["image"], w["conv1"]["kernel"]), w["batch_norm"], s["batch_norm"])
    hidden, expected = np.maximum(first, 0), [first.std()]
    for k in ("1", "2"):
        inner, norms = w["conv2_1"], s["conv2_1"]
        kernel = inner[f"convolution_{k}"]["kernel"]
        response = normalised(convolved(hidden, kernel), inner[f"batch_norm_{k}"], norms[f"batch_norm_{k}"])
        hidden, expected = np.maximum(response, 0), [*expected, response.std()]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-5)


def test_responses_and_gradients_are_in_network_order(net):
    """Ten times a batch norm's gamma and beta are ten times its response; what lies before stays.

    Half a gradient arrives in a kernel of twice the size, since batch norm takes its size back out.
    """
    params = net.params
    before, norms = net.respond(params), net.norms(params)
    for number, block, k in ((3, "conv3_1", 1), (4, "conv3_1", 2), (6, "conv4_1", 2)):
        inner = params[block]
        larger = jax.tree.map(lambda leaf: 10 * leaf, inner[f"batch_norm_{k}"])
        changed = params | {block: inner | {f"batch_norm_{k}": larger}}
        after = net.respond(changed)
        np.testing.assert_allclose(after[number], 10 * before[number], rtol=1e-5)
        np.testing.assert_array_equal(after[:number], before[:number])
        double = {"kernel": 2 * inner[f"convolution_{k}"]["kernel"]}
        changed = params | {block: inner | {f"convolution_{k}": double}}
        ratio = net.norms(changed) / norms
        np.testing.assert_allclose(ratio[number], 0.5, rtol=0.01)  # but for batch norm's epsilon
        np.testing.assert_allclose(np.delete(ratio, number), 1, rtol=0.01)


def test_gradient_norms_agree_with_forward_mode(net):
    params = net.params
    kernel = params["conv1"]["kernel"]  # [3, 3, 1, 16]

    def loss(own):
        return net.task.loss(params | {"conv1": {"kernel": own}}, net.state, net.batch, {}, None)[0]

    entries = np.eye(kernel.size, dtype=np.float32).reshape(-1, *kernel.shape)  # [144, 3, 3, 1, 16]
    slopes = jax.jit(jax.vmap(lambda entry: jax.jvp(loss, (kernel,), (entry,))[1]))(entries)
    np.testing.assert_allclose(net.norms(params)[0], np.sqrt((np.asarray(slopes, np.float64) ** 2).sum()), rtol=1e-4)


@pytest.mark.parametrize(
    ("depth", "steps", "rates"),
    [
        (8, 24, [0.5] * 12 + [0.05] * 6 + [0.005] * 6),
        (8, 8, [0.5] * 4 + [0.05] * 2 + [0.005] * 2),
        (14, 24, [0.05] * 5 + [0.5] * 7 + [0.05] * 6 + [0.005] * 6),
        (20, 8, [0.05] * 4 + [0.005] + [0.05] + [0.005] * 2),
    ],
)
def test_every_training_has_the_whole_schedule_and_the_deepest_nets_start_at_a_tenth_of_it(depth, steps, rates):
    """Momentum by hand: the rate lies outside the moving sum of gradients. The slow start: 5 steps, from 14 layers."""
    hyper = {name: np.float32(value) for name, value in dict(learning_rate=0.5, momentum=0.9, weight_decay=0.0).items()}
    rule = optimizer(Config(values_of()), depth, 24)(hyper | {"steps": np.uint32(steps)})
    params = {"kernel": np.float32([1.0, -2.0])}
    state, moved, expected = rule.init(params), np.zeros(2), params["kernel"].astype(float)
    for step, rate in enumerate(rates):
        gradient = {"kernel": np.float32([step + 1, 2 - step])}
        updates, state = rule.update(gradient, state, params, value=None, grad=None, value_fn=None)
        params = jax.tree.map(lambda w, u: w + u, params, updates)
        moved = 0.9 * moved + gradient["kernel"]
        expected = expected - rate * moved
        np.testing.assert_allclose(params["kernel"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("preset", "shape", "near"), [("default", (8, 8, 1), 0.01), ("paper", (32, 32, 3), 0.1)])
def test_the_densenet_has_about_the_parameters_of_the_net_that_it_is_compared_with(preset, shape, near):
    config, source = Config(values_of(preset)), SimpleNamespace(classes=10)
    labels = study.variants(config)
    pair = (_resnet_claims.densenet(config), f"residual-{_resnet_claims.matched(config)}")

    def count(settings):
        init = tasks.classify(network(config, source, settings), shape).init
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: init({}, jax.random.key(0))[0])))

    sizes = [count(labels[name]) for name in pair]
    assert abs(sizes[0] / sizes[1] - 1) < near


@pytest.mark.parametrize("preset", recipe.PRESETS)
def test_claims_and_published_numbers_are_about_variants(preset):
    config = Config(values_of(preset))
    labels, claims = study.variants(config), study.claims(config)
    assert len({claim.id for claim in claims}) == len(claims) >= 7
    for claim in claims:
        for term in (term for contrast in claim.contrasts for term in contrast):
            assert (term if isinstance(term, str) else term.variant) in labels
            end = "" if isinstance(term, str) else term.metric.partition("_at_")[2]
            assert end in ("", "0", *map(str, config.budgets))
    (degrades,) = [claim for claim in claims if claim.id == "plain-degrades"]
    assert len(degrades.contrasts) == len(config.budgets) + 1
    assert all(number.variant in labels and number.verified for number in study.published(config))


def test_the_papers_recipe_is_the_papers():
    config = Config(values_of("paper"))
    kept = [sentence for sentence in study.differs(config) if "DenseNet" not in sentence]
    assert len(kept) == 2 and "for 400 steps" in kept[0] and "Weight decay" in kept[1]
    numbers = {number.variant: (number.value, number.spread) for number in study.published(config)}
    assert numbers == {
        "residual-20": (0.0875, None), "residual-32": (0.0751, None), "residual-44": (0.0717, None),
        "residual-56": (0.0697, None), "residual-110": (0.0661, 0.0016), "densenet-100-12": (0.0451, None),
    }  # fmt: skip
    assert study.published(Config(values_of("paper", augmentation__crop_padding=0))) == []
    assert study.published(Config(values_of("paper", data__name="cifar100"))) == []


@pytest.mark.parametrize("preset", recipe.PRESETS)
def test_what_a_recipe_does_differently_is_told_in_short_sentences(preset):
    sentences = study.differs(Config(values_of(preset)))
    assert len(set(sentences)) == len(sentences)
    assert all(re.fullmatch(r"[A-Z][^\n]{10,110}\.", sentence) for sentence in sentences)
    assert any("digits instead of CIFAR-10" in each for each in sentences) == (preset in ("default", "smoke"))


@pytest.mark.usefixtures("quick_compilation")
def test_runs_have_metrics_of_every_budget_and_of_every_layer_and_pictures_show_them(tmp_path, monkeypatch):
    """The preset `smoke` with fewer steps and one seed, from beginning to end."""
    values = recipe.get_config("smoke").to_dict()
    values |= {"steps": 4, "budgets": (2,), "evaluations": 4, "batch_size": 8, "seeds": 1, "observed": {"images": 8}}
    values["data"] |= {"train": 40, "validation": 20}
    read = loading.SETS["digits"].read(None)  # fewer test images: what is compiled quickly is slow
    few = {"train": {key: rows[:100] for key, rows in read.splits["train"].items()}}
    kept = loading.SETS["digits"]._replace(read=lambda settings: read._replace(splits=few))
    monkeypatch.setitem(loading.SETS, "digits", kept)
    asked = Asked(values, tmp_path, "plain-8,residual-8", (), "the command")
    finished, count = execute(check(prepare(study, asked, Requests())), stop_on_failure=True)
    assert count == 2
    for row in finished.report.results.rows:
        assert {"train_error_at_2", "test_error_at_2", "validation_loss_at_2", "test_error"} <= set(row.metrics)
        for kind in ("test_response_layer_{}", "train_gradient_layer_{}", "train_gradient_layer_{}_at_0"):
            layers = [row.metrics[kind.format(number)][0] for number in range(1, 8)]
            assert min(layers) > 0 and kind.format(8) not in row.metrics
        assert row.metrics["test_response"] == pytest.approx(
            np.mean([row.metrics[f"test_response_layer_{number}"] for number in range(1, 8)])
        )
        first, last = row.metrics["train_gradient_layer_1_at_0"], row.metrics["train_gradient_layer_7_at_0"]
        assert row.metrics["train_log10_gradient_ratio_at_0"] == pytest.approx(np.log10(first / last))
        assert row.metrics["train_parameters"] == [75002]
        place = next(tmp_path.glob(f"{row.variant}/*/seed=0/metrics.jsonl"))
        logged = [json.loads(line)["step"] for line in place.read_text().splitlines()]
        assert logged == [1, 2, 3, 4]  # of the longest training alone
    pictures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert pictures == {"learning_curves", "responses", "gradients", "error_by_depth", "error_by_steps"}
    notes = finished.report.notes
    assert any("after 2 and all steps" in note for note in notes)
    assert any("plain-8 75,002, residual-8 75,002" in note for note in notes)
    model = finished.model("residual-8")
    assert model.apply(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)
