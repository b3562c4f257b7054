"""What a network keeps beside its parameters, by the example of batch norm: trained, stopped early, split, measured."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl import data, models, tasks
from jaxdl.data import order


class Net(nn.Module):
    """One hidden layer with batch norm; calls jaxdl's `batch_norm`."""

    @nn.compact
    def __call__(self, image, train):
        hidden = models.batch_norm(nn.Dense(4, name="first")(image), train, "norm")
        return nn.Dense(3, name="last")(nn.relu(hidden))


@pytest.fixture(scope="module")
def task():
    return tasks.classify(Net(), (6,))


def by_hand(source, task, seed, hyper, steps):
    """Parameters and running statistics after each step, and the measured error, in NumPy but for the gradient."""
    run = {"seed": np.uint32(seed)}
    image, label = source.data["train"]["image"], source.data["train"]["label"]
    key = jax.random.fold_in(jax.random.key(run["seed"]), np.uint32(zlib.crc32(b"fit")))
    params, state = jax.device_get(jax.jit(task.init)(run, jax.random.fold_in(jax.random.fold_in(key, 0), 0)))
    mean, variance = (np.asarray(state["batch_stats"]["norm"][name]) for name in ("mean", "var"))
    assert (mean == 0).all() and (variance == 1).all()

    def forward(params, x, mean, variance):
        hidden = x @ params["first"]["kernel"] + params["first"]["bias"][None]
        if mean is None:
            mean, variance = hidden.mean(0), hidden.var(0)
        scaled = (hidden - mean[None]) / jnp.sqrt(variance + 1e-5)[None]
        hidden_after = scaled * params["norm"]["scale"][None] + params["norm"]["bias"][None]
        logits = jnp.maximum(hidden_after, 0.0) @ params["last"]["kernel"] + params["last"]["bias"][None]
        return logits, hidden

    def loss(params, x, y):
        logits, hidden = forward(params, x, None, None)
        return -jnp.log(jax.nn.softmax(logits))[np.arange(len(y)), y].mean(), hidden

    trace, velocity, size = [], jax.tree.map(np.zeros_like, params), source.batch_size
    slope_of = jax.jit(jax.grad(loss, has_aux=True))
    for step in range(steps):
        per_epoch = len(label) // size
        place = np.arange(size, dtype=np.uint32) + np.uint32(step % per_epoch * size)
        rows = order.index(run["seed"], np.uint32(step // per_epoch), place, len(label))
        slope, hidden = jax.device_get(slope_of(params, np.float32(image[rows]) / np.float32(16), label[rows]))
        mean = 0.9 * mean + 0.1 * hidden.mean(0)
        variance = 0.9 * variance + 0.1 * hidden.var(0)
        velocity = jax.tree.map(lambda m, g: np.float32(hyper["momentum"]) * m + g, velocity, slope)
        params = jax.tree.map(lambda p, m: p - np.float32(hyper["learning_rate"]) * m, params, velocity)
        trace.append((params, mean, variance))
    test = source.data["test"]
    logits, _ = forward(params, np.float32(test["image"]) / np.float32(16), mean, variance)
    return trace, (np.asarray(logits).argmax(1) != test["label"]).astype(np.float32)


def test_statistics_are_those_of_a_loop_by_hand_and_measuring_uses_them(bench, task, close):
    runs = bench.make_runs([1, 2], **bench.HYPER | {"momentum": 0.5})
    fitted = bench.fit(task, runs)
    for number, seed in enumerate([1, 2]):
        trace, errors = by_hand(bench.source, task, seed, bench.HYPER | {"momentum": 0.5}, 20)
        params, mean, variance = trace[-1]
        own = jax.tree.map(lambda leaf, number=number: leaf[number], (fitted.params, fitted.model_state))
        statistics = {"batch_stats": {"norm": {"mean": mean, "var": variance}}}
        close(own, (params, statistics), rtol=1e-4, atol=1e-5)
        assert (fitted.outcomes["test_error"][number] == errors).all()


def test_a_run_that_stops_early_keeps_the_statistics_of_its_best_parameters(bench, task, same):
    runs = bench.make_runs([1, 5], **bench.HYPER | {"learning_rate": 2.0})
    stopped = bench.fit(task, runs, 100, options={"every": 5, "patience": 2})
    rows = bench.rows
    for number in range(2):
        end, best = bench.plain_stop([row["validation_loss"] for _, row in rows[number]], 5, 2)
        assert stopped.steps[number] == end > best
        shorter = bench.fit(task, runs, best, options={"every": 5})
        one, other = (
            jax.tree.map(lambda leaf, number=number: leaf[number], (end.params, end.model_state))
            for end in (stopped, shorter)
        )
        same(one, other)
        assert stopped.metrics["test_loss"][number] == shorter.metrics["test_loss"][number]
    same(bench.fit(task, runs, 100, options={"every": 5, "patience": 2}), stopped)  # read back


def test_a_batch_over_devices_has_the_statistics_of_the_whole(bench, task, close):
    runs = bench.make_runs([1, 2], **bench.HYPER | {"momentum": 0.5})
    ends = [
        bench.fit(task, runs, 50, devices=devices, strategy=strategy, place=f"{devices}{strategy}")
        for devices, strategy in ((1, "jit"), (2, "jit"), (2, "pmap"))
    ]
    for end in ends[1:]:
        close((end.params, end.model_state, end.metrics), (ends[0].params, ends[0].model_state, ends[0].metrics))


def test_batches_are_augmented_before_they_are_normalised_by_step_and_place(bench):
    """Training sees other images at each step, measuring the stored ones."""
    seen = {}

    def augment(run, step, position, image):
        seen["range"] = image.min(), image.max()
        shift = position.astype(jnp.float32) / 100 + step.astype(jnp.float32) + run["seed"].astype(jnp.float32) * 10
        return image + shift[:, None]

    kept = data.normalisation.Normalisation("pixel_mean", 1 / 16, np.full(6, 0.25, np.float32))
    source = bench.source._replace(augment=augment, normalisation=kept)
    run, split = {"seed": np.uint32(3)}, source.data["train"]
    plain = source._replace(augment=None).batch(split, run, np.uint32(7))
    ours = source.batch(split, run, np.uint32(7))
    shift = np.arange(8) / 100 + 7 + 30
    np.testing.assert_allclose(ours["image"], plain["image"] + shift[:, None], rtol=1e-6)
    assert seen["range"][0] >= 0 and seen["range"][1] <= 1  # before 0.25 is taken off
    np.testing.assert_array_equal(ours["label"], plain["label"])
    index = np.arange(5, dtype=np.uint32)
    taken = source.take(split, run, index, index)["image"]
    np.testing.assert_array_equal(taken, np.float32(split["image"][:5]) / 16 - 0.25)


def test_regression_is_the_squared_distance_in_deviations():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, image):
            return nn.Dense(1, name="output")(image)

    task = tasks.regress(Linear(), (2,), "angle", mean=10.0, deviation=4.0)
    params = {"output": {"kernel": jnp.array([[1.0], [2.0]]), "bias": jnp.array([0.5])}}
    batch = {"image": jnp.array([[1.0, 1.0], [0.0, -1.0]]), "angle": jnp.array([18.0, 6.0])}
    # f(x) = 10 + 4 (3.5, -1.5) = (24, 4): 6 and 2 degrees away, 1.5 and 0.5 deviations
    found = task.evaluate(params, {}, batch, {}, None)
    np.testing.assert_allclose(found["absolute_error"], [6, 2], rtol=1e-6)
    np.testing.assert_allclose(found["loss"], [2.25, 0.25], rtol=1e-6)
    np.testing.assert_allclose(task.predict(params, {}, batch["image"], {}), [24, 4], rtol=1e-6)
    loss, (state, metrics) = task.loss(params, {}, batch, {}, None)
    assert (float(loss), float(metrics["absolute_error"]), state) == (1.25, 4.0, {})


def test_a_split_without_examples_is_not_measured(bench, task):
    empty = {key: values[:0] for key, values in bench.source.data["test"].items()}
    source = bench.source._replace(data=bench.source.data | {"test": empty})
    runs = bench.make_runs([1, 2], **bench.HYPER)
    fitted = bench.fit(task, runs, source=source, options={"measured": ("train", "validation")})
    assert {name.split("_")[0] for name in fitted.metrics} == {"train", "validation"} and not fitted.outcomes
    with pytest.raises(Exception, match="the test split of tiny has no example: ask for fewer in the other splits"):
        bench.fit(task, runs, source=source)
