"""Where runs execute changes no number: companies, chunks, widths, devices and strategies."""

import os
import platform
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import tasks, training
from jaxdl.errors import UserError
from jaxdl.training import devices, program

NOISE = {"masking": 0.3, "gaussian": 0.2, "salt_pepper": 0.1}
SPARSE = {"sparsity_weight": 0.4, "sparsity_target": 0.1}
SEEDS = np.array([7, 3, 11, 0, 8, 5, 1, 4, 10, 2, 6, 9])


def take(fitted, index):
    return jax.tree.map(lambda leaf: leaf[index], fitted)


def scatter(x):
    return jnp.zeros(4).at[x].add(1.0).sum()


SCATTERS = {
    "plain": scatter,
    "segment_sum": lambda x: jax.ops.segment_sum(jnp.ones(2), x, 4).sum(),
    "set": lambda x: jnp.zeros(4).at[x].set(2.0).sum(),
    "gradient of a read": lambda x: jax.grad(lambda values: values[x].sum())(jnp.ones(4)).sum(),
    "jit": jax.jit(scatter),
    "checkpoint": jax.checkpoint(scatter),
    "scan": lambda x: jax.lax.scan(lambda total, _: (total + scatter(x), None), 0.0, None, length=2)[0],
    "while": lambda x: jax.lax.while_loop(lambda total: total < 2, lambda total: total + scatter(x), 0.0),
    "cond": lambda x: jax.lax.cond(x[0] > 0, lambda x: 0.0, scatter, x),
    "jit in cond in scan": lambda x: jax.lax.map(
        lambda each: jax.lax.cond(each > 0, jax.jit(scatter), lambda each: 0.0, each), x
    ).sum(),
}
DENSE = {
    "matmul": lambda x: (jnp.ones((2, 2)) @ x.astype(jnp.float32)).sum(),
    "read": lambda x: jnp.arange(4.0)[x].sum(),
    "jit in cond in scan": lambda x: jax.lax.map(
        lambda each: jax.lax.cond(each > 0, jax.jit(jnp.sin), jnp.cos, each), x.astype(jnp.float32)
    ).sum(),
}


@pytest.mark.parametrize("name", SCATTERS)
def test_width_with_scatter(name):
    x = jnp.array([1, 2])
    assert devices.width("cpu", SCATTERS[name], x) == 8
    assert devices.width("gpu", SCATTERS[name], x) == devices.width("tpu", SCATTERS[name], x) == 8


@pytest.mark.parametrize("name", DENSE)
def test_width_without_scatter(name):
    x = jnp.array([1, 2])
    assert devices.width("cpu", DENSE[name], x) == 1
    assert devices.width("gpu", DENSE[name], x) == 8


def test_plan_takes_the_width_from_the_loss(bench):
    """Of the loss as the task defines it, and fills up to it."""

    def loss(params, model_state, batch, run, key):
        counts = jnp.zeros(3).at[batch["label"]].add(1.0)
        value, rest = bench.classify.loss(params, model_state, batch, run, key)
        return value + counts.sum(), rest

    runs = bench.make_runs([1, 2, 3], **bench.HYPER)
    for task, width, slots in ((bench.classify, 1, 3), (bench.classify._replace(loss=loss), 8, 8)):
        planned, _ = training.plan("fit", task, bench.optimizer, bench.source, runs, bench.settings(), steps=10)
        assert (planned.width, planned.runs_at_once) == (width, slots)


def test_spread():
    some = jax.devices()[:4]
    assert [devices.Spread(some, "jit", width).slots for width in (1, 8)] == [4, 32]
    assert [devices.Spread(some, "pmap", width).slots for width in (1, 8)] == [1, 8]
    devices.Spread(some, "pmap", 1).check_batch(12)
    devices.Spread(some, "jit", 1).check_batch(13)
    with pytest.raises(UserError, match=r"over 4 devices: batch_size=13 is no multiple of 4$"):
        devices.Spread(some, "pmap", 1).check_batch(13)
    with pytest.raises(UserError, match=r"unknown strategy 'pmpa'; did you mean 'pmap'\? valid: jit, pmap"):
        devices.Spread(some, "pmpa", 1)


def test_program_maps_runs_in_order():
    """Each run gets its own row, whatever the width; the shared value reaches all."""
    values, shared = np.arange(16, dtype=np.float32), np.float32(100)
    for width, turns in ((1, 4), (2, 2), (4, 1)):
        spread = devices.Spread(jax.devices()[:4], "jit", width)
        mapped = spread.program(lambda one, two, shared: {"sum": one + two * shared})
        arguments = (spread.place(values), spread.place(values[::-1].copy())), spread.share(shared)
        np.testing.assert_array_equal(jax.device_get(mapped(*arguments))["sum"], values + 100 * values[::-1])
        loops = re.findall(r"scan\[.*? length=(\d+)", str(jax.make_jaxpr(mapped)(*arguments)), re.DOTALL)
        assert loops == [str(turns)]  # 4 runs on a device, `width` a turn


def test_program_overwrites_what_is_donated():
    spread = devices.Spread(jax.devices()[:2], "jit", 1)
    state, other = spread.place(np.zeros(4, np.float32)), spread.place(np.ones(4, np.float32))
    result = spread.program(lambda state, other, shared: state + other, donate=True)((state, other), None)
    assert state.is_deleted() and not other.is_deleted()
    np.testing.assert_array_equal(result, np.ones(4))


def test_start_names_the_device():
    with pytest.raises(UserError, match=r"unknown device 'gpo'; did you mean 'gpu'\? valid: cpu, gpu, tpu"):
        devices.start("gpo")


def test_start_in_a_fresh_process():
    """One host device per visible core; a device that is not there is the user's error."""
    code = """if True:
        import os, jax
        from jaxdl.errors import UserError
        from jaxdl.training import devices
        try:
            devices.start("tpu")
        except UserError as error:
            print(error)
        devices.start("cpu")
        print(len(jax.devices()) == len(os.sched_getaffinity(0)), jax.devices()[0].platform)
    """
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    error, found = done.stdout.splitlines()
    assert error.startswith("--device=tpu")
    assert found == "True cpu"


@pytest.fixture(scope="module")
def crowd(new_bench):
    """12 denoising autoencoders in one program, one after another; and the rows they told."""
    bench = new_bench()
    return types.SimpleNamespace(fitted=bench.fit(bench.noisy, bench.make_runs(SEEDS, **bench.HYPER)), rows=bench.rows)


@pytest.mark.parametrize("chosen", [[0], [7], [2, 1, 9], [4, 5, 6], [*range(8)]])
def test_bits_do_not_depend_on_company(bench, crowd, same, chosen):
    same(bench.fit(bench.noisy, bench.make_runs(SEEDS[chosen], **bench.HYPER)), take(crowd.fitted, chosen))
    assert bench.rows == {row: crowd.rows[number] for row, number in enumerate(chosen)}


@pytest.mark.parametrize(("count", "at_once"), [(1, 3), (1, 8), (2, 0), (8, 0)])
def test_bits_do_not_depend_on_devices_and_chunks(bench, crowd, same, count, at_once):
    """12 runs in chunks of 8, or on 8 devices, need padding."""
    runs = bench.make_runs(SEEDS, **bench.HYPER)
    same(bench.fit(bench.noisy, runs, devices=count, runs_at_once=at_once), crowd.fitted)
    assert bench.rows == crowd.rows


@pytest.mark.parametrize("width", [2, 4, 8])
def test_widths_agree(bench, crowd, same, close, width):
    """Widths differ in the last bits only, after 20 steps; at one width, company changes no bit."""
    many = bench.fit(bench.noisy, bench.make_runs(SEEDS[:8], **bench.HYPER), width=width, place="many")
    close(many, take(crowd.fitted, slice(8)), rtol=1e-5, atol=1e-5)
    if width == 4:
        chosen = [6, 1, 3, 7, 0]  # filled up to 8, in other places and company
        few = bench.fit(bench.noisy, bench.make_runs(SEEDS[chosen], **bench.HYPER), width=width, place="few")
        same(few, take(many, chosen))


PLACES = ((1, "jit"), (2, "jit"), (4, "pmap"))


def agree(bench, close, *arguments, **keywords):
    """The end on one device; the others must agree with it, in every row of metrics too."""
    ends, rows = [], []
    for count, strategy in PLACES:
        keywords |= {"devices": count, "strategy": strategy, "place": f"{count}{strategy}"}
        ends.append(bench.fit(*arguments, **keywords))
        rows.append(bench.rows)
    for end, row in zip(ends[1:], rows[1:], strict=True):
        close(end, ends[0])
        close(row, rows[0])
    return ends[0]


def test_strategies_agree_on_autoencoders(bench, close, monkeypatch):
    """50 steps: sparse, denoising, both. Evaluation has to fill up batches."""
    monkeypatch.setattr(program, "EVALUATION_BATCH", 4)
    hyper = bench.HYPER | {"momentum": 0.5, "weight_decay": 0.01, "sparsity_target": 0.1, "sparsity_weight": [4, 0, 4]}
    hyper |= {name: [0, value, value] for name, value in NOISE.items()}
    runs = bench.make_runs([1, 2, 3], **bench.STRENGTHS | hyper)
    end = agree(bench, close, bench.reconstruct, runs, 50, source=bench.make_source(batch_size=16))
    assert (end.steps == 50).all()


def test_strategies_agree_on_classifiers(bench, close):
    """50 steps on data of a run's own, with a moving average; one run stops early."""

    def prepare(run, values):
        return values | {"image": bench.source.images(values["image"]) * run["hyper"]["zoom"]}

    source = bench.make_source(batch_size=16)._replace(prepare=prepare)
    runs = bench.make_runs([1, 2], **bench.HYPER | {"learning_rate": [0.5, 0.0], "zoom": [1.0, 5.0]})
    options = {"patience": 4, "evaluations": 10, "average": 0.5}
    end = agree(bench, close, bench.classify, runs, 50, source=source, options=options)
    assert end.steps[0] > 25 and end.steps[1] == 25


def test_pmap_gives_the_line_search_the_whole_batch(bench, close):
    """A rule that follows the gradient of value_fn: it must be that of the whole batch, on every device."""

    def optimizer(hyper):
        def update(gradients, state, params, *, value, grad, value_fn):
            again, slope = jax.value_and_grad(value_fn)(params)
            scale = -hyper["learning_rate"] * again / value  # one
            return jax.tree.map(lambda leaf: scale * leaf, slope), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    def error(params, batch):
        return jnp.square(batch["image"] @ params["w"] - batch["label"].astype(jnp.float32))  # [B]

    def loss(params, model_state, batch, run, key):
        return error(params, batch).mean(), (model_state, {})

    def evaluate(params, model_state, batch, run, key):
        return {"loss": error(params, batch)}

    regression = tasks.Task(lambda run, key: ({"w": jnp.zeros(6)}, {}), loss, evaluate)
    hyper = {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.0}
    plain, _ = bench.plain_loop(regression, bench.source, 1, hyper, 5)
    runs = bench.make_runs([1], **hyper)
    fitted = bench.fit(regression, runs, 5, optimizer=optimizer, devices=4, strategy="pmap")
    close(take(fitted.params, 0), plain[-1])


def test_batch_that_pmap_cannot_split(bench):
    runs = bench.make_runs([1], **bench.HYPER)
    with pytest.raises(UserError, match="batch_size=12 is no multiple of 8"):
        bench.fit(bench.classify, runs, source=bench.make_source(batch_size=12), devices=8, strategy="pmap")
    assert not list(bench.folder.rglob("manifest.json"))


FAULTS = """
import resource, sys
import numpy as np
from jaxdl.training import devices

if sys.argv[1] == "keep":
    devices.keep_memory()
np.ones(1 << 23)  # 64 MB, taken from the system in any case
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(os, "confstr") or "glibc" not in platform.libc_ver(), reason="glibc's allocator alone")
def test_freed_memory_is_taken_again_without_page_faults():
    clean = {name: value for name, value in os.environ.items() if "MALLOC" not in name and name != "GLIBC_TUNABLES"}
    found = {}
    for how, environment in (("keep", clean), ("as it is", clean), ("keep, but", clean | {"MALLOC_TOP_PAD_": "0"})):
        command = [sys.executable, "-c", FAULTS, how.split(",")[0]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found[how] = int(done.stdout)
    assert found["keep"] < 100 < min(found["as it is"], found["keep, but"])  # 16,384 pages of 4 kB in each array
