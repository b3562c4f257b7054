"""One update, the loop around it and the evaluation, against NumPy in float64 and plain loops."""

import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import tasks
from jaxdl.data import order
from jaxdl.training.step import EVALUATE, STEP, State, key, make_advance, make_evaluate, make_init, make_step

HYPER = {"learning_rate": 0.5, "weight_decay": 0.1, "momentum": 0.9}
STRENGTHS = {"masking": 0.3, "gaussian": 0.2, "salt_pepper": 0.1, "sparsity_weight": 0.4, "sparsity_target": 0.2}
STEPS, EVERY = 20, 6


def make_run(hyper, seed=3):
    return {"seed": np.uint32(seed), "hyper": {name: np.float32(value) for name, value in hyper.items()}}


def make(bench, task, average=0.0):
    """init(run) and advance(state, run, until), compiled."""
    arguments = ("fit", task, bench.optimizer, bench.source, average)
    train, every = jax.tree.map(jnp.asarray, bench.source.data["train"]), jnp.uint32(EVERY)
    init, advance = make_init(*arguments), make_advance(*arguments)
    return jax.jit(lambda run: init(run, train)), jax.jit(
        lambda state, run, until: advance(state, run, train, until, every)
    )


@pytest.fixture(scope="module")
def noisy(new_bench):
    """An autoencoder with every penalty and corruption, and what a plain loop makes of it."""
    bench, hyper = new_bench(), HYPER | STRENGTHS
    init, advance = make(bench, bench.reconstruct, average=0.9)
    trace, losses = bench.plain_loop(bench.reconstruct, bench.source, 3, hyper, STEPS)
    return types.SimpleNamespace(init=init, advance=advance, run=make_run(hyper), trace=trace, losses=losses)


def test_step_in_numpy(bench):
    """Three updates of softmax regression on sigmoid units, the gradient by hand."""
    run = make_run(HYPER)
    init, _ = make(bench, bench.classify)
    step = jax.jit(make_step("fit", bench.classify, bench.optimizer))
    state = init(run)
    weights = jax.tree.map(np.float64, state.params)
    velocity = jax.tree.map(np.zeros_like, weights)
    data = bench.source.data["train"]
    for number in range(3):
        place = np.arange(8, dtype=np.uint32) + np.uint32(8 * number)
        rows = order.index(np.uint32(3), np.uint32(0), place, 42)
        image, label = np.float32(data["image"][rows] / 16), data["label"][rows]
        state, metrics = step(state, {"image": image, "label": label, "position": np.arange(8, dtype=np.uint32)}, run)

        first, last = weights["hidden_0"], weights["output"]
        hidden = 1 / (1 + np.exp(-(image @ first["kernel"] + first["bias"])))
        share = np.exp(hidden @ last["kernel"] + last["bias"])
        share /= share.sum(axis=1, keepdims=True)
        loss = -np.log(share[np.arange(8), label]).mean()
        error = (share.argmax(axis=1) != label).mean()
        delta = (share - np.eye(3)[label]) / 8
        back = delta @ last["kernel"].T * hidden * (1 - hidden)
        slopes = {
            "hidden_0": {"kernel": image.T @ back + 0.1 * first["kernel"], "bias": back.sum(axis=0)},
            "output": {"kernel": hidden.T @ delta + 0.1 * last["kernel"], "bias": delta.sum(axis=0)},
        }
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, slopes)
        weights = jax.tree.map(lambda w, v: w - 0.5 * v, weights, velocity)

        assert state.step == number + 1
        np.testing.assert_allclose(state.loss, loss, rtol=1e-6)
        np.testing.assert_allclose([metrics["loss"], metrics["error"]], [loss, error], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.params, weights)


def test_the_loop_is_plain(noisy, close):
    """Keys, batches over several epochs, corruption, penalty, momentum and moving average: one step after another."""
    state = noisy.advance(noisy.init(noisy.run), noisy.run, np.uint32(STEPS))
    close(state.params, noisy.trace[-1])
    np.testing.assert_allclose(state.loss, noisy.losses[-1], rtol=1e-6)
    average = jax.tree.map(np.float64, noisy.trace[0])
    for params in noisy.trace[1:]:
        average = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * np.float64(new), average, params)
    close(state.average, average)
    close(state.measured[0], average)


def test_metrics_are_sums_since_the_last_log(noisy):
    state = noisy.init(noisy.run)
    for until in range(1, STEPS + 1):
        state = noisy.advance(state, noisy.run, np.uint32(until))
        since = (until - 1) // EVERY * EVERY
        np.testing.assert_allclose(state.metrics["loss"], sum(noisy.losses[since:until]), rtol=1e-6)
        total = state.metrics["reconstruction"] + STRENGTHS["sparsity_weight"] * state.metrics["penalty"]
        np.testing.assert_allclose(state.metrics["loss"], total, rtol=1e-6)


@pytest.mark.parametrize("cuts", [range(1, STEPS), (7, 13), (6, 12, 18), (0, 19, 5)])
def test_cutting_changes_no_bit(noisy, same, cuts):
    straight = cut = noisy.init(noisy.run)
    for until in (*cuts, STEPS):
        cut = noisy.advance(cut, noisy.run, np.uint32(until))
    same(cut, noisy.advance(straight, noisy.run, np.uint32(STEPS)))


def test_stops_where_the_loss_is_not_finite(bench, same):
    hyper = HYPER | {"learning_rate": 1.0, "weight_decay": 1e6, "momentum": 0.0}  # each step multiplies by -1e6
    _, losses = bench.plain_loop(bench.classify, bench.source, 3, hyper, 12)
    first = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
    assert 3 < first < 12
    init, advance = make(bench, bench.classify)
    state = advance(init(make_run(hyper)), make_run(hyper), np.uint32(40))
    assert int(state.step) == first and not np.isfinite(state.loss)
    same(advance(state, make_run(hyper), np.uint32(40)), state)


def test_keys():
    """Seed, name of the fit, stream and step all matter, and the derivation is the documented one."""
    run = {"seed": np.uint32(5)}
    words = [
        key("fit", run, STEP, 7),
        key("fit", run, STEP, 8),
        key("fit", run, EVALUATE, 7),
        key("other", run, STEP, 7),
        key("fit", {"seed": np.uint32(6)}, STEP, 7),
    ]
    data = [tuple(jax.random.key_data(word).tolist()) for word in words]
    assert len(set(data)) == 5
    expected = jax.random.key(5)
    for part in (np.uint32(zlib.crc32(b"fit")), 1, 7):
        expected = jax.random.fold_in(expected, part)
    assert data[0] == tuple(jax.random.key_data(expected).tolist())


def test_the_optimizer_gets_the_objective_of_the_step():
    """value, grad and value_fn are the loss and the gradient under this step's noise: what a line search needs."""
    seen = {}

    def update(gradients, state, params, *, value, grad, value_fn):
        again, slope = jax.value_and_grad(value_fn)(params)
        seen.update(pairs=jnp.stack([value, again]), slopes=(gradients, grad, slope))
        return jax.tree.map(jnp.zeros_like, params), state

    def loss(params, model_state, batch, run, key):
        return jnp.sum((params["w"] - jax.random.normal(key, (3,))) ** 2), (model_state, {})

    rule = optax.GradientTransformationExtraArgs(lambda params: (), update)
    one_step = make_step("fit", tasks.Task(None, loss, None), lambda hyper: rule)
    weights, run = np.float32([1, 2, 3]), make_run({})
    state = State(jnp.uint32(4), {"w": jnp.asarray(weights)}, {}, (), None, {"loss": jnp.float32(0)}, jnp.float32(0))

    def run_step(state):
        return one_step(state, {}, run)[0], dict(seen)

    stepped, values = jax.jit(run_step)(state)
    noise = np.asarray(jax.random.normal(key("fit", run, STEP, 4), (3,)))
    np.testing.assert_allclose(values["pairs"], [((weights - noise) ** 2).sum()] * 2, rtol=1e-6)
    for found in values["slopes"]:
        np.testing.assert_allclose(found["w"], 2 * (weights - noise), rtol=1e-6)
    assert stepped.step == 5


def test_model_state_moves_on(bench):
    """What the loss returns as model_state is there in the next step."""

    def loss(params, model_state, batch, run, key):
        return params["w"] * 0 + model_state["count"], ({"count": model_state["count"] + 1}, {})

    task = tasks.Task(lambda run, key: ({"w": jnp.float32(1)}, {"count": jnp.float32(0)}), loss, None)
    optimizer = lambda hyper: optax.sgd(0.1)  # noqa: E731
    init = make_init("fit", task, optimizer, bench.source)(make_run({}), bench.source.data["train"])
    advance = jax.jit(make_advance("fit", task, optimizer, bench.source))
    state = advance(init, make_run({}), bench.source.data["train"], np.uint32(5), np.uint32(100))
    assert state.model_state["count"] == 5
    assert state.metrics["loss"] == 0 + 1 + 2 + 3 + 4


@pytest.mark.parametrize("batch_size", [1, 4, 13, 20])
def test_evaluation_measures_each_example_once(bench, batch_size):
    """13 examples in batches of any size: the values of a loop over single examples, in order."""
    run = make_run(HYPER)
    params, _ = jax.jit(bench.classify.init)(run, jax.random.key(0))
    split = bench.source.data["validation"]
    values = jax.jit(make_evaluate("fit", bench.classify, bench.source, batch_size))(params, {}, run, split)
    expected = bench.plain_classifier(params, split)
    np.testing.assert_allclose(values["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_array_equal(values["error"], expected["error"])
