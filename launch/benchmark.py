"""How fast the training core is, as ratios of medians over repeats taken in one process.

    python -m launch.benchmark [epoch] [runs] [compilations]

epoch         one epoch of a 784-256-10 classifier on MNIST inside `fit`, over the same in a bare lax.scan
runs          8 runs one after another, over 8 runs spread over the devices, on digits and on MNIST
compilations  how often `advance` is compiled for a 3 x 4 sweep of learning rate and weight decay

MNIST is looked for in $TFDS_DATA_DIR.
"""

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxdl import data, models, tasks, training
from jaxdl.errors import UserError, unknown

RULE = SimpleNamespace(
    name="sgd", schedule="constant", warmup=0.0, milestones=(), decay=0.1, clip_norm=0.0,
    weight_decay="kernel=1,bias=0", learning_rate_multipliers=".*=1",
)  # fmt: skip
REPEATS = 5


def problem(name: str, hidden: int, batch_size: int) -> tuple[Any, Any, Callable]:
    """(source, task, optimizer) of an MLP with one hidden layer of ReLU units."""
    sizes = {"digits": (1200, 200), "mnist": (60000 - 5000, 5000)}[name]
    settings = SimpleNamespace(name=name, dir="", train=sizes[0], validation=sizes[1], order="seed")
    source = data.load(settings, batch_size)
    task = tasks.classify(models.MLP((hidden,), 10, "relu", "he_normal"), source.data["train"]["image"].shape[1:])
    return source, task, training.optimizer(RULE, 1)


def runs(count: int) -> dict[str, Any]:
    """`count` runs that differ in the seed."""
    return {
        "seed": np.arange(count, dtype=np.uint32),
        "hyper": {"learning_rate": np.full(count, 0.1, np.float32), "weight_decay": np.zeros(count, np.float32)},
    }


def settings(folder: str, devices: Any) -> training.Settings:
    """Quiet settings with all runs in one program call."""
    return training.Settings(Path(folder), devices, memory=8e9)


def epoch() -> None:
    """The cost of `fit`'s loop: everything that it does between the first and the last step of an epoch."""
    import jax
    import jax.numpy as jnp

    source, task, optimizer = problem("mnist", 256, 128)
    steps = source.steps_per_epoch
    run = jax.tree.map(lambda leaf: leaf[0], runs(1))
    train = jax.device_put(dict(source.data["train"]), jax.devices()[0])
    begin = jax.jit(training.make_init("epoch", task, optimizer, source))
    step = training.make_step("epoch", task, optimizer)

    @jax.jit
    def scan(state: Any, run: Any, train: Any) -> Any:
        def body(state: Any, number: Any) -> tuple[Any, Any]:
            return step(state, source.batch(train, run, number), run)

        return jax.lax.scan(body, state, jnp.arange(steps, dtype=jnp.uint32))

    def bare() -> float:
        state = jax.block_until_ready(begin(run, train))
        started = time.perf_counter()
        jax.block_until_ready(scan(state, run, train))
        return time.perf_counter() - started

    def inside() -> float:
        """Seconds between the first and the last step, told by `fit` itself: logging and measuring included."""
        with tempfile.TemporaryDirectory() as folder:
            own, moments = settings(folder, jax.devices()[:1]), []
            own.progress = lambda progress: moments.append((progress.step, time.perf_counter()))
            training.fit("epoch", task, optimizer, source, runs(1), own, steps=3 * steps, evaluations=3)
        # The first epoch compiles; the calls of the third and last one are timed.
        ends = {number: moment for number, moment in moments}
        return (ends[3 * steps] - ends[steps]) / 2

    ratio("fit / bare scan, one MNIST epoch of 784-256-10, batch 128", inside, bare)


def spread() -> None:
    """8 runs in one program on all devices, against the same 8 one after another on one device."""
    import jax

    for name, hidden, batch_size, steps in (("digits", 64, 32, 10000), ("mnist", 256, 128, 1000)):
        one_by_one = eight_runs(name, hidden, batch_size, steps, jax.devices()[:1], 1)
        together = eight_runs(name, hidden, batch_size, steps, jax.devices(), 8)
        ratio(f"8 runs one by one / spread over {len(jax.devices())} devices, {name}", one_by_one, together)


def eight_runs(name: str, hidden: int, batch_size: int, steps: int, devices: Any, at_once: int) -> Callable[[], float]:
    """A function that trains 8 runs, `at_once` in a program call, and returns the seconds of the calls."""
    import jax

    source, task, optimizer = problem(name, hidden, batch_size)
    begin = training.make_init("runs", task, optimizer, source)
    step_until = training.make_advance("runs", task, optimizer, source)
    spread = training.devices.Spread(devices, "jit", 1)
    init = spread.program(begin)
    advance = spread.program(
        lambda state, run, train: step_until(state, run, train, np.uint32(steps), np.uint32(100)), donate=True
    )
    train = spread.share(dict(source.data["train"]))

    def seconds() -> float:
        total = 0.0
        for first in range(0, 8, at_once):
            chosen = spread.place(jax.tree.map(lambda leaf, here=slice(first, first + at_once): leaf[here], runs(8)))
            state = jax.block_until_ready(init((chosen,), train))
            started = time.perf_counter()
            jax.block_until_ready(advance((state, chosen), train))
            total += time.perf_counter() - started
        return total

    return seconds


def compilations() -> None:
    """Count JAX's own log lines."""
    import jax

    names: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: names.append(record.getMessage())
    logging.getLogger("jax").addHandler(handler)
    logging.getLogger("jax").propagate = False
    source, task, optimizer = problem("digits", 32, 32)
    rates, decays = np.meshgrid([0.03, 0.1, 0.3], [0.0, 1e-4, 1e-3, 1e-2])
    sweep = {
        "seed": np.zeros(12, np.uint32),
        "hyper": {"learning_rate": rates.ravel().astype(np.float32), "weight_decay": decays.ravel().astype(np.float32)},
    }
    with tempfile.TemporaryDirectory() as folder, jax.log_compiles():
        training.fit("sweep", task, optimizer, source, sweep, settings(folder, jax.devices()), steps=200)
    count = sum("Compiling" in name and "advance" in name for name in names)
    print(f"compilations of advance for a 3 x 4 sweep of learning rate and weight decay: {count}")


def ratio(what: str, slow: Callable[[], float], fast: Callable[[], float]) -> None:
    """Print the ratio of medians over REPEATS alternating calls, after one call of each that compiles."""
    slow(), fast()
    pairs = [(slow(), fast()) for _ in range(REPEATS)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{what}: {first / second:.2f} ({first:.3f} s / {second:.3f} s, medians of {REPEATS})", flush=True)


PARTS = {"epoch": epoch, "runs": spread, "compilations": compilations}


def main() -> None:
    """Run the named parts, or all."""
    names = sys.argv[1:] or list(PARTS)
    if {"-h", "--help"} & set(names):
        print(__doc__.strip())
        return
    try:
        for name in names:
            if name not in PARTS:
                raise unknown("part", name, PARTS)
        training.devices.start()
        for name in names:
            PARTS[name]()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
