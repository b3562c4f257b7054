"""Penalties and measures against plain NumPy, averages of thinned networks against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl import batch as batches
from jaxdl.errors import UserError
from jaxdl.models import MLP
from jaxdl.models.dropout import Noise
from jaxdl.tasks import average_thinned, check_rates, classify, classify_regularised
from jaxdl.tasks.strengths import RATES

OFF = dict.fromkeys((*RATES, "l1", "sparsity_weight"), 0.0) | {"sparsity_target": 0.1}
DRAW = np.random.default_rng(0)
BATCH = {
    "image": DRAW.normal(size=(6, 4)).astype(np.float32),
    "label": np.int32([0, 1, 2, 0, 1, 2]),
    "position": np.arange(6, dtype=np.uint32),
}
KEY = jax.random.key(1)
NUMPY_UNITS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "sigmoid": scipy.special.expit}


def run_of(**changes):
    return {"hyper": {name: jnp.float32(value) for name, value in (OFF | changes).items()}}


def params_of(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4)))["params"]
    draw = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)


def layers(params, image, unit):
    hidden, found = np.float64(image), []
    for name in ("hidden_0", "hidden_1"):
        hidden = NUMPY_UNITS[unit](hidden @ np.float64(params[name]["kernel"]) + params[name]["bias"])
        found.append(hidden)
    return found, hidden @ np.float64(params["output"]["kernel"]) + params["output"]["bias"]


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("unit", NUMPY_UNITS)
def test_the_loss_is_the_cross_entropy_plus_penalties(unit):
    model = MLP((5, 3), 3, unit)
    params, task = params_of(model), classify_regularised(model, (4,))
    loss = jax.jit(lambda run: task.loss(params, {}, BATCH, run, KEY))
    hidden, logits = layers(params, BATCH["image"], unit)
    entropy = -scipy.special.log_softmax(logits, axis=1)[np.arange(6), BATCH["label"]].mean()
    absolute = sum(np.abs(np.float64(layer["kernel"])).sum() for layer in params.values())
    share = {"relu": lambda h: h / (1 + h), "tanh": lambda h: (1 + h) / 2, "sigmoid": lambda h: h}[unit]
    means = [np.clip(share(h).mean(axis=0), 1e-6, 1 - 1e-6) for h in hidden]
    kl = sum((0.1 * np.log(0.1 / a) + 0.9 * np.log(0.9 / (1 - a))).sum() for a in means)
    for changes, penalty in (
        ({}, 0.0),
        ({"l1": 0.3}, 0.3 * absolute),
        ({"sparsity_weight": 0.2}, 0.2 * kl),
        ({"l1": 0.3, "sparsity_weight": 0.2}, 0.3 * absolute + 0.2 * kl),
    ):
        value, (_, metrics) = loss(run_of(**changes))
        np.testing.assert_allclose(value, entropy + penalty, rtol=2e-5)
        np.testing.assert_allclose(metrics["penalty"], penalty, rtol=2e-5)
        np.testing.assert_allclose(metrics["error"], (logits.argmax(axis=1) != BATCH["label"]).mean(), rtol=1e-6)


@pytest.mark.usefixtures("quick_compilation")
def test_without_strengths_it_is_classify_bit_for_bit():
    model = MLP((5, 3), 3, "relu")
    params, run = params_of(model), run_of()

    def both(task):
        value = jax.jit(jax.value_and_grad(lambda params, run: task.loss(params, {}, BATCH, run, KEY)[0]))(params, run)
        measured = jax.jit(lambda run: task.evaluate(params, {}, BATCH, run, KEY))(run)
        predicted = jax.jit(lambda run: task.predict(params, {}, BATCH["image"], run))(run)
        return value, {name: measured[name] for name in ("loss", "error")}, predicted

    jax.tree.map(np.testing.assert_array_equal, both(classify_regularised(model, (4,))), both(classify(model, (4,))))


@pytest.mark.usefixtures("quick_compilation")
def test_measures_are_without_noise_and_tell_how_active_units_are():
    model = MLP((5, 3), 3, "relu")
    params, task = params_of(model), classify_regularised(model, (4,))
    evaluate = jax.jit(lambda run: task.evaluate(params, {}, BATCH, run, KEY))
    hidden, logits = layers(params, BATCH["image"], "relu")
    units = np.concatenate(hidden, axis=1)
    found = evaluate(run_of(hidden_dropout=0.5, input_dropout=0.25, dropconnect=0.5))
    np.testing.assert_allclose(found["activation"], units.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["active"], (units > 0).mean(axis=1), rtol=1e-6)
    entropy = -scipy.special.log_softmax(logits, axis=1)[np.arange(6), BATCH["label"]]
    np.testing.assert_allclose(found["loss"], entropy, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("quick_compilation")
def test_noise_that_is_not_inverted_is_tested_with_smaller_weights():
    model = MLP((5, 3), 3, "relu")
    params, run = params_of(model), run_of(input_dropout=0.25, hidden_dropout=0.5)
    keep = {"hidden_0": 0.75, "hidden_1": 0.5, "output": 0.5}
    smaller = {name: layer | {"kernel": keep[name] * layer["kernel"]} for name, layer in params.items()}
    scaled, inverted = (classify_regularised(model, (4,), inverted=each) for each in (False, True))
    for name in ("evaluate", "predict"):
        arguments = (BATCH["image"], run) if name == "predict" else (BATCH, run, KEY)
        found = getattr(scaled, name)(params, {}, *arguments)
        expected = getattr(inverted, name)(smaller, {}, *arguments)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), found, expected)
    # In training the scaled form keeps its weights as they are, where the inverted one doubles what is kept.
    values = [task.loss(params, {}, BATCH, run, KEY)[0] for task in (scaled, inverted)]
    assert abs(values[0] - values[1]) > 1e-3


@pytest.mark.usefixtures("quick_compilation")
def test_monte_carlo_is_the_mean_over_thinned_networks():
    model = MLP((5, 3), 3, "relu")
    params, run = params_of(model), run_of(hidden_dropout=0.5, input_dropout=0.25)
    found = jax.jit(average_thinned(model, (1, 2, 7)))(params, {}, BATCH, run, KEY)
    assert list(found) == ["error_1", "error_2", "error_7"]
    thinned = jax.jit(
        lambda number: model.apply(
            {"params": params},
            BATCH["image"],
            Noise(jax.random.fold_in(KEY, number), BATCH["position"], *(run["hyper"][name] for name in RATES)),
        )
    )
    each = np.stack([scipy.special.softmax(np.float64(thinned(np.uint32(k))), axis=1) for k in range(7)])
    assert abs(each[0] - each[1]).max() > 0.05
    for count in (1, 2, 7):
        wrong = each[:count].mean(axis=0).argmax(axis=1) != BATCH["label"]
        np.testing.assert_array_equal(found[f"error_{count}"], wrong)


@pytest.mark.usefixtures("quick_compilation")
def test_with_all_strengths_loss_and_gradient_are_the_same_on_eight_devices():
    model = MLP((5, 3), 3, "tanh")
    params, task = params_of(model), classify_regularised(model, (4,))
    run = run_of(**dict.fromkeys(RATES, 0.3), l1=0.1, sparsity_weight=0.2)
    image, label = DRAW.normal(size=(16, 4)).astype(np.float32), np.arange(16, dtype=np.int32) % 3

    def step(params, image, label):
        here = {"image": image, "label": label, "position": batches.positions(16)}
        return batches.across_devices(jax.value_and_grad(task.loss, has_aux=True)(params, {}, here, run, KEY))

    whole = jax.jit(step)(params, image, label)
    pieces = image.reshape(8, 2, 4), label.reshape(8, 2)
    spread = jax.pmap(step, axis_name=batches.AXIS, in_axes=(None, 0, 0))(params, *pieces)
    for device in (0, 7):
        found = jax.tree.map(lambda leaf, device=device: leaf[device], spread)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), found, whole)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_dropout": 1.0}, r"hyper\.hidden_dropout=1\.0 is not possible: .*at least 0 and below 1"),
        ({"input_dropout": -0.1}, r"hyper\.input_dropout=-0\.1"),
        ({"dropconnect": 1.5}, r"hyper\.dropconnect=1\.5"),
        ({"hidden_gaussian": float("nan")}, r"hyper\.hidden_gaussian=nan"),
        ({"sparsity_weight": 0.1, "sparsity_target": 0.0}, r"hyper\.sparsity_target=0\.0"),
        ({"sparsity_weight": 0.1}, r"hyper\.sparsity_weight=0\.1 is not possible with linear units"),
    ],
)
def test_strengths_without_meaning(changes, said):
    check_rates(OFF, "linear")
    check_rates(OFF | {"hidden_dropout": 0.999, "sparsity_target": 0.0}, "relu")
    check_rates(OFF | {"sparsity_weight": 0.1}, "relu")
    with pytest.raises(UserError, match=said):
        check_rates(OFF | changes, "linear")
