"""A tiny problem and its training loop in plain Python: 42 images of 6 values in 3 classes, networks of 4 units."""

import functools
import logging
import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import data, models, tasks, training
from jaxdl.data import normalisation, order

HYPER = {"learning_rate": 0.5, "weight_decay": 0.0, "momentum": 0.0}
STRENGTHS = {"masking": 0.0, "gaussian": 0.0, "salt_pepper": 0.0, "sparsity_weight": 0.0, "sparsity_target": 0.2}
SCALE, INPUTS, CLASSES, UNITS = 1 / 16, 6, 3, 4


def make_source(train=42, validation=13, test=11, batch_size=8):
    rng = np.random.default_rng(7)

    def split(size):
        image = rng.integers(0, 17, (size, INPUTS)).astype(np.uint8)
        return {"image": image, "label": rng.integers(0, CLASSES, size).astype(np.int32)}

    splits = {"train": split(train), "validation": split(validation), "test": split(test)}
    normalise = normalisation.Normalisation("unit", SCALE)
    return data.Source("tiny", splits, ("a", "b", "c"), normalise, f"{train} {validation} {test}", batch_size)


def make_runs(seeds, **hyper):
    """Runs with these hyperparameters, numbers or one for each seed."""
    hyper = {name: np.broadcast_to(np.float32(values), len(seeds)) for name, values in hyper.items()}
    return {"seed": np.array(seeds, np.uint32), "hyper": hyper}


def optimizer(hyper):
    """Momentum with weight decay on the kernels; `hyper` as in a run."""
    section = {"name": "momentum", "schedule": "constant", "warmup": 0.0, "milestones": (), "decay": 1.0}
    rest = {"clip_norm": 0.0, "weight_decay": "kernel=1,bias|scale=0", "learning_rate_multipliers": ".*=1"}
    return training.optimizer(types.SimpleNamespace(**section, **rest), 100)(hyper)


@functools.cache
def plain_programs(task, name, hyper):
    """init(seed) and loss_and_gradient(params, batch, seed, step) of a run whose `hyper`, pairs, are constants."""

    def run_of(seed):
        return {"seed": seed, "hyper": {key: np.float32(value) for key, value in hyper}}

    def key(seed, stream, step):
        root = jax.random.fold_in(jax.random.key(seed), np.uint32(zlib.crc32(name.encode())))
        return jax.random.fold_in(jax.random.fold_in(root, stream), step)

    def start(seed):
        return task.init(run_of(seed), key(seed, 0, 0))[0]

    def loss_and_gradient(params, batch, seed, step):
        run = run_of(seed)
        return jax.value_and_grad(lambda params: task.loss(params, {}, batch, run, key(seed, 1, step))[0])(params)

    return jax.jit(start), jax.jit(loss_and_gradient, compiler_options={"xla_backend_optimization_level": 0})


def plain_loop(task, source, seed, hyper, steps, name="fit"):
    """Parameters before and after each of `steps` updates, and their losses, with every value of `hyper` a constant.

    One gradient after another, batches by NumPy and the published rule of momentum: nothing of
    `jaxdl.training`, and no method of the source.
    """
    hyper = {key: np.float32(value) for key, value in hyper.items()}
    seed = np.uint32(seed)

    def update(path, weight, slope, velocity):
        decay = hyper["weight_decay"] if "kernel" in jax.tree_util.keystr(path) else np.float32(0)
        velocity[...] = hyper["momentum"] * velocity + slope + decay * weight
        return weight - hyper["learning_rate"] * velocity

    start, loss_and_gradient = plain_programs(task, name, tuple(hyper.items()))
    image, label = source.data["train"]["image"], source.data["train"]["label"]
    per_epoch = len(label) // source.batch_size
    params = jax.device_get(start(seed))
    trace, losses, velocity = [params], [], jax.tree.map(np.zeros_like, params)
    for step in range(steps):
        place = np.arange(source.batch_size, dtype=np.uint32)
        drawn = place + np.uint32(step % per_epoch * source.batch_size)
        rows = order.index(seed, np.uint32(step // per_epoch), drawn, len(label))
        batch = {"image": np.float32(image[rows]) * np.float32(SCALE), "label": label[rows], "position": place}
        loss, slope = jax.device_get(loss_and_gradient(params, batch, seed, np.uint32(step)))
        with np.errstate(all="ignore"):  # runs may diverge
            params = jax.tree_util.tree_map_with_path(update, params, slope, velocity)
        trace.append(params)
        losses.append(float(loss))
    return trace, losses


def plain_stop(values, every, patience, sign=1):
    """(step where early stopping ends the run, step of the best parameters), from what each evaluation gave.

    sign: -1 where the largest value is best
    """
    best, best_step, waited = np.inf, 0, 0
    for number, value in enumerate(values, 1):
        if sign * value < best:
            best, best_step, waited = sign * value, number * every, 0
        else:
            waited += 1
        if waited == patience:
            return number * every, best_step
    return number * every, best_step


def plain_classifier(params, split):
    """{"loss": [N], "error": [N]} of `Bench.classify`, example by example in float64."""
    first, last = (jax.tree.map(np.float64, params[name]) for name in ("hidden_0", "output"))
    losses, errors = [], []
    for image, label in zip(split["image"], split["label"], strict=True):
        hidden = 1 / (1 + np.exp(-(np.float64(image) * SCALE @ first["kernel"] + first["bias"])))
        logits = hidden @ last["kernel"] + last["bias"]
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        errors.append(float(logits.argmax() != label))
    return {"loss": np.array(losses), "error": np.array(errors)}


def light(task):
    """The task with one random draw for all parameters, which compiles fast."""
    shapes = jax.eval_shape(task.init, {}, jax.random.key(0))[0]
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]

    def init(run, key):
        parts = jnp.split(jax.random.uniform(key, (sum(sizes),), minval=-1.0), np.cumsum(sizes)[:-1])
        leaves = [part.reshape(leaf.shape) for part, leaf in zip(parts, jax.tree.leaves(shapes), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves), {}

    return task._replace(init=init)


def constant(task, **hyper):
    """The task with some of its hyperparameters as constants: what they switch off is not compiled."""

    def loss(params, model_state, batch, run, key):
        return task.loss(params, model_state, batch, run | {"hyper": run["hyper"] | hyper}, key)

    return task._replace(loss=loss)


class Bench:
    """Fits of the tiny problem in one folder; `rows` and `warned` hold what the latest one told."""

    HYPER, STRENGTHS = HYPER, STRENGTHS
    make_source, make_runs = staticmethod(make_source), staticmethod(make_runs)
    optimizer, plain_loop = staticmethod(optimizer), staticmethod(plain_loop)
    plain_stop, plain_classifier = staticmethod(plain_stop), staticmethod(plain_classifier)
    classify = light(tasks.classify(models.MLP((UNITS,), CLASSES), (INPUTS,)))
    reconstruct = light(tasks.reconstruct(models.Autoencoder(INPUTS, (UNITS,)), INPUTS, "cross_entropy"))

    noisy = constant(reconstruct, **STRENGTHS | {"masking": 0.3})

    def __init__(self, folder):
        self.folder = folder
        self.source = make_source()
        self.rows, self.warned, self.told = {}, [], []

    def settings(self, place="", devices=1, progress=lambda _: None, **changes):
        def log(name, numbers, step, values):
            for row, number in enumerate(numbers):
                own = {metric: float(value[row]) for metric, value in values.items()}
                self.rows.setdefault(int(number), []).append((step, own))

        def report(state):
            self.told.append(state)
            progress(state)

        settings = training.Settings(self.folder / place, jax.devices()[:devices], **changes)
        settings.log, settings.warn, settings.progress = log, self.warned.append, report
        return settings

    def fit(self, task, runs, steps=20, *, source=None, optimizer=optimizer, name="fit", options=None, **settings):
        """Train; `settings` as for the method, `options` for `training.fit`. As a launch does, files start anew."""
        self.rows, self.warned, self.told = {}, [], []
        options = {"evaluations": 4} | (options or {})
        place = self.settings(**settings)
        return training.fit(name, task, optimizer, source or self.source, runs, place, steps=steps, **options)


def assert_same(one, other):
    """Bit for bit the same pytree: structure, types, and every byte."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), jax.tree_util.keystr(path)
        assert a.tobytes() == b.tobytes(), f"{jax.tree_util.keystr(path)}: {a} against {b}"


def assert_close(one, other, rtol=1e-6, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


@pytest.fixture(scope="session")
def new_bench(tmp_path_factory):
    """Makes benches, for fixtures that live longer than a test."""
    return lambda: Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(new_bench):
    return new_bench()


@pytest.fixture
def compiled(caplog):
    """A function that lists our programs compiled since, from JAX's own log; a cache on disk does not shorten it."""
    before = jax.config.jax_log_compiles
    jax.config.update("jax_log_compiles", True)
    caplog.set_level(logging.WARNING)

    def names():
        ours = {f"jit({name})": name for name in ("choose", "prepare", "init", "advance", "evaluate", "keep")}
        ours |= {"jit(_fun)": "pmap"}  # by pmap all are called so
        logged = [record.getMessage().split() for record in caplog.records]
        return sorted(ours[words[1]] for words in logged if words[0] == "Compiling" and words[1] in ours)

    yield names
    jax.config.update("jax_log_compiles", before)


@pytest.fixture(scope="session")
def same():
    return assert_same


@pytest.fixture(scope="session")
def close():
    return assert_close
