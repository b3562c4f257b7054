"""How fast the training core is, as ratios of medians over repeats taken in one process.

    python -m launch.benchmark [epoch] [runs] [compilations] [vae] [dropout] [convolutions] [graphs] [graph_size]
        [loading] [streaming]

epoch         one epoch of a 784-256-10 classifier on MNIST inside `fit`, over the same in a bare lax.scan
runs          8 runs one after another, over 8 runs spread over the devices, on digits and on MNIST
compilations  how often `advance` is compiled for a 3 x 4 sweep of learning rate and weight decay
vae           one epoch of a 784-200-200-50 variational autoencoder on MNIST in PyTorch, over the same inside `fit`;
              8 betas one after another, over the 8 spread over the devices
dropout       one epoch of a 784-256-10 classifier with dropout of 0.2 and 0.5 on MNIST in PyTorch, over the same inside
              `fit`, with what it costs beside none; 8 rates x 5 seeds one after another, over all in one program
convolutions  training steps of LeNet-5 (batch 64) and the 93,322-parameter network (64) on MNIST and of ResNet-20 (128)
              on CIFAR-10: PyTorch, as it is and with channels_last, over one run here, over one run whose batches are
              split over the devices (--strategy=pmap), and over a run on each device
graphs        training epochs of a GCN and a GAT on Cora ($PLANETOID_DATA_DIR, else downloaded), and of a GCN on a block
              model of 100,000 nodes and 1,000,000 directed edges: torch_geometric, which is given dense features, by
              edges and by sparse matrices, over one run here; 100 seeds of the GCN one by one, over all in one program
graph_size    seconds and memory of an epoch from 10,000 to 1,000,000 edges, with a picture in runs/benchmark
loading       seconds to the first batch of MNIST, CIFAR-10 and a folder of 5,000 JPEGs, cold and warm, and peak memory
streaming     images a second from the disk with 0, 1 and 2 workers, and how long a step of a ResNet-20 waits for them

MNIST and CIFAR-10 are looked for in $TFDS_DATA_DIR. A start is cold when jaxdl's cache is empty; the files themselves
may still be in the system's.
"""

import contextlib
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from experiments import _graph_cost as graph_cost
from jaxdl import data, models, tasks, training
from jaxdl.errors import UserError, unknown
from launch import beside_torch, graph_size

RULE = SimpleNamespace(
    name="sgd", schedule="constant", warmup=0.0, milestones=(), decay=0.1, clip_norm=0.0,
    weight_decay="kernel=1,bias=0", learning_rate_multipliers=".*=1",
)  # fmt: skip
REPEATS = 5


def problem(name: str, hidden: int, batch_size: int) -> tuple[Any, Any, Callable]:
    """(source, task, optimizer) of an MLP with one hidden layer of ReLU units."""
    train, validation = {"digits": (1200, 200), "mnist": (60000 - 5000, 5000)}[name]
    source = data.load(described(name, train=train, validation=validation), batch_size)
    task = tasks.classify(models.MLP((hidden,), 10, "relu", "he_normal"), source.data["train"]["image"].shape[1:])
    return source, task, training.optimizer(RULE, 1)


def described(name: str, **changes: Any) -> Any:
    """Settings of a data set, as a config has them."""
    values = {
        "name": name, "dir": "", "train": 0, "validation": 0, "order": "seed", "normalise": "unit",
        "pictures": SimpleNamespace(size=64, colour=True), "csv": SimpleNamespace(label="label"),
    }  # fmt: skip
    return SimpleNamespace(**values | changes)


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
        return epoch_in_fit(task, optimizer, source, runs(1), jax.devices()[:1])

    ratio("fit / bare scan, one MNIST epoch of 784-256-10, batch 128", inside, bare)


def epoch_in_fit(task: Any, optimizer: Callable, source: Any, runs: dict[str, Any], devices: Any) -> float:
    """Seconds of an epoch of all `runs` together, told by `fit` itself: logging and measuring included."""
    steps, moments = source.steps_per_epoch, []
    with tempfile.TemporaryDirectory() as folder:
        own = settings(folder, devices)
        own.progress = lambda progress: moments.append((progress.step, time.perf_counter()))
        training.fit("epoch", task, optimizer, source, runs, own, steps=3 * steps, evaluations=3)
    # The first epoch compiles; the mean of the second and the third counts.
    ends = {number: moment for number, moment in moments}
    return (ends[3 * steps] - ends[steps]) / 2


def spread() -> None:
    """8 runs in one program on all devices, against the same 8 one after another on one device."""
    for name, hidden, batch_size, steps in (("digits", 64, 32, 10000), ("mnist", 256, 128, 1000)):
        spread_over_devices(f"8 runs, {name}", *problem(name, hidden, batch_size), runs(8), steps)


def spread_over_devices(
    what: str, source: Any, task: Any, optimizer: Callable, runs: dict[str, Any], steps: int
) -> None:
    """The ratio of 8 runs one by one on one device to all of them on all devices."""
    import jax

    one_by_one = in_programs(source, task, optimizer, runs, steps, jax.devices()[:1], 1)
    together = in_programs(source, task, optimizer, runs, steps, jax.devices(), 8)
    ratio(f"one by one / spread over {len(jax.devices())} devices, {what}", one_by_one, together)


def in_programs(
    source: Any,
    task: Any,
    optimizer: Callable,
    runs: dict[str, Any],
    steps: int,
    devices: Any,
    at_once: int,
    strategy: str = "jit",
    width: int = 1,
) -> Callable[[], float]:
    """A function that trains all runs, `at_once` in a program call, and returns the seconds of the calls."""
    import jax

    begin = training.make_init("runs", task, optimizer, source)
    step_until = training.make_advance("runs", task, optimizer, source)
    spread = training.devices.Spread(devices, strategy, width)
    init = spread.program(begin)
    advance = spread.program(
        lambda state, run, train: step_until(state, run, train, np.uint32(steps), np.uint32(100)), donate=True
    )
    train = spread.share(dict(source.data["train"]))

    def seconds() -> float:
        total = 0.0
        for first in range(0, len(runs["seed"]), at_once):
            chosen = spread.place(jax.tree.map(lambda leaf, here=slice(first, first + at_once): leaf[here], runs))
            state = jax.block_until_ready(init((chosen,), train))
            started = time.perf_counter()
            jax.block_until_ready(advance((state, chosen), train))
            total += time.perf_counter() - started
        return total

    return seconds


def compilations() -> None:
    """Of one sweep."""
    import jax

    source, task, optimizer = problem("digits", 32, 32)
    rates, decays = np.meshgrid([0.03, 0.1, 0.3], [0.0, 1e-4, 1e-3, 1e-2])
    sweep = {
        "seed": np.zeros(12, np.uint32),
        "hyper": {"learning_rate": rates.ravel().astype(np.float32), "weight_decay": decays.ravel().astype(np.float32)},
    }
    with tempfile.TemporaryDirectory() as folder, compilations_of("advance") as names:
        training.fit("sweep", task, optimizer, source, sweep, settings(folder, jax.devices()), steps=200)
    print(f"compilations of advance for a 3 x 4 sweep of learning rate and weight decay: {len(names)}")


@contextlib.contextmanager
def compilations_of(program: str) -> Iterator[list[str]]:
    """JAX's own log lines of its compilations inside the block."""
    import jax

    names: list[str] = []
    logger, handler = logging.getLogger("jax"), logging.Handler()

    def note(record: logging.LogRecord) -> None:
        if "Compiling" in record.getMessage() and program in record.getMessage():
            names.append(record.getMessage())

    handler.emit = note
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with jax.log_compiles():
            yield names
    finally:
        logger.removeHandler(handler)


def vae() -> None:
    """The VAE of Kingma & Welling 2014 (arXiv 1312.6114) with the layers of Burda et al. 2016 (1509.00519)."""
    import jax

    batch_size, autoencoders = beside_torch.BATCH, beside_torch.autoencoders
    source = data.load(described("mnist", train=60000 - 5000, validation=5000), batch_size)
    network = models.VAE(784, beside_torch.WIDTHS, beside_torch.LATENT)
    task = tasks.elbo(network, 784, binarise="resampled")
    optimizer = training.optimizer(SimpleNamespace(**vars(RULE) | {"name": "adam"}), 1)
    one = autoencoders(1)

    def inside() -> float:
        return epoch_in_fit(task, optimizer, source, one, jax.devices()[:1])

    try:
        import torch
    except ImportError:
        print("VAE against PyTorch: skipped, PyTorch is not here: pip install torch", flush=True)
    else:
        torch.set_num_threads(training.devices.cores())
        beside_torch.check_same_loss(task, source)
        params, _ = task.init(jax.tree.map(lambda leaf: leaf[0], one), jax.random.key(0))
        layers = beside_torch.torch_layers(params)
        images = torch.from_numpy(np.array(source.data["train"]["image"]).reshape(-1, 784)).float() / 255
        rule = torch.optim.Adam([weights for layer in layers.values() for weights in layer.parameters()], lr=1e-3)

        def in_torch() -> float:
            return timed(lambda: beside_torch.torch_epoch(layers, rule, images))

        theirs, ours = ratio("PyTorch / fit, one MNIST epoch of a 784-200-200-50 VAE, batch 100", in_torch, inside)
        examples = source.steps_per_epoch * batch_size
        print(f"  {examples / ours:,.0f} examples/s in fit, {examples / theirs:,.0f} in PyTorch", flush=True)

    betas = autoencoders(8, beta=np.geomspace(0.25, 32, 8))
    spread_over_devices("8 betas of the VAE, 200 steps", source, task, optimizer, betas, 200)


def dropout() -> None:
    """The task with all its regularisers, of which dropout alone has a strength, on inputs and hidden units."""
    import jax

    source, _, _ = problem("mnist", 256, 128)
    network, shape = models.MLP((256,), 10, "relu", "he_normal"), (28, 28, 1)
    task = tasks.classify_regularised(network, shape)
    optimizer = training.optimizer(RULE, 1, max_norm="kernel=1,bias=0")

    def regularised(count: int, **changes: Any) -> dict[str, Any]:
        """`count` runs; changes: [count] values of a hyperparameter."""
        zeros = dict.fromkeys((*tasks.strengths.RATES, "l1", "sparsity_weight", "sparsity_target", "max_norm"), 0.0)
        hyper = zeros | {"learning_rate": 0.1, "weight_decay": 0.0} | changes
        return {
            "seed": np.arange(count, dtype=np.uint32),
            "hyper": {name: np.broadcast_to(np.float32(value), count) for name, value in hyper.items()},
        }

    thinned, plain = regularised(1, input_dropout=0.2, hidden_dropout=0.5), regularised(1)

    def inside(runs: dict[str, Any] = thinned) -> float:
        return epoch_in_fit(task, optimizer, source, runs, jax.devices()[:1])

    what = "one MNIST epoch of 784-256-10, batch 128"
    ratio(f"fit with dropout / without, {what}", inside, lambda: inside(plain))
    try:
        import torch
    except ImportError:
        print("dropout against PyTorch: skipped, PyTorch is not here: pip install torch", flush=True)
    else:
        torch.set_num_threads(training.devices.cores())
        theirs_network = beside_torch.network("dropout")
        params = jax.eval_shape(task.init, {}, jax.random.key(0))[0]
        if sum(leaf.size for leaf in jax.tree.leaves(params)) != sum(w.numel() for w in theirs_network.parameters()):
            raise UserError("the perceptrons of jaxdl and of PyTorch differ in their parameters")
        pixels = torch.from_numpy(np.array(source.data["train"]["image"]).transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(np.array(source.data["train"]["label"], np.int64))
        rule = torch.optim.SGD(theirs_network.parameters(), 0.1)
        make_steps = beside_torch.steps_in_torch(theirs_network, rule, pixels, labels, 128, False)
        steps = source.steps_per_epoch
        theirs, ours = ratio(
            f"PyTorch / fit, dropout .2 and .5, {what}", lambda: timed(lambda: make_steps(steps)), inside
        )
        print(f"  {steps * 128 / ours:,.0f} examples/s in fit, {steps * 128 / theirs:,.0f} in PyTorch", flush=True)
    source, _, _ = problem("digits", 256, 32)
    task = tasks.classify_regularised(network, (8, 8, 1))
    sweep = regularised(40, hidden_dropout=np.repeat(np.linspace(0.1, 0.8, 8), 5))

    def trained(chosen: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            own = settings(folder, jax.devices())
            training.fit("sweep", task, optimizer, source, chosen, own, steps=2000, evaluations=4)

    with compilations_of("advance") as names:
        together = timed(lambda: trained(sweep))
    rows = [jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], sweep) for row in range(40)]
    alone = timed(lambda: [trained(row) for row in rows])
    print(
        f"8 rates x 5 seeds, 64-256-10 on digits, 2,000 steps: {len(names)} compilation of advance; 40 fits of one run "
        f"/ one fit of 40: {alone / together:.2f} ({alone:.1f} s / {together:.1f} s, once each, compilation included)",
        flush=True,
    )


def convolutions() -> None:
    """Whole training steps, batches included, in float32 with the same optimizer."""
    try:
        import torch
    except ImportError:
        print("convolutions against PyTorch: skipped, PyTorch is not here: pip install torch", flush=True)
        return
    torch.set_num_threads(training.devices.cores())
    momentum = "momentum", lambda weights: torch.optim.SGD(weights, 0.001, 0.9)
    rmsprop = "rmsprop", lambda weights: torch.optim.RMSprop(weights, 0.001, alpha=0.9)
    train_beside_torch("lenet", "mnist", 64, 200, *momentum)
    train_beside_torch("keras_cnn", "mnist", 64, 60, *rmsprop)
    train_beside_torch("cifar_resnet", "cifar10", 128, 6, *momentum)


def train_beside_torch(name: str, images: str, batch_size: int, steps: int, rule: str, torch_rule: Callable) -> None:
    """One network: PyTorch's time over that of one run, whole and split, and over that of a run on each device."""
    import jax
    import torch

    source = data.load(described(images), batch_size)
    train, devices = source.data["train"], jax.devices()
    count, shape = len(devices), train["image"].shape[1:]
    settings = SimpleNamespace(name=name, depth=20, shortcut="A", initialisation="he_normal", as_dict=dict)
    task = tasks.classify(models.named(settings, 10, shape), shape)
    optimizer = training.optimizer(SimpleNamespace(**vars(RULE) | {"name": rule, "weight_decay": ".*=0"}), 1)
    hyper = {"learning_rate": 0.001, "momentum": 0.9, "weight_decay": 0.0}
    each = {
        "seed": np.arange(count, dtype=np.uint32),
        "hyper": {key: np.full(count, value, np.float32) for key, value in hyper.items()},
    }
    first = jax.tree.map(lambda leaf: leaf[:1], each)
    alone = in_programs(source, task, optimizer, first, steps, devices[:1], 1)
    split = in_programs(source, task, optimizer, first, steps, devices, 1, "pmap")
    beside = in_programs(source, task, optimizer, each, steps, devices, count)
    pixels = torch.from_numpy(np.array(train["image"]).transpose(0, 3, 1, 2).copy())  # NHWC -> NCHW
    labels = torch.from_numpy(np.array(train["label"], np.int64))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(task.init, {}, jax.random.key(0))[0]))
    for layout in ("default", "channels_last"):
        network = beside_torch.network(name)
        if parameters != sum(weights.numel() for weights in network.parameters()):
            raise UserError(f"{name} of jaxdl and of PyTorch differ in their parameters")
        make_steps = beside_torch.steps_in_torch(
            network, torch_rule(network.parameters()), pixels, labels, batch_size, layout == "channels_last"
        )
        what = f"{name}, batch {batch_size}, {steps} steps: PyTorch {layout}"
        theirs, ours = ratio(
            f"{what} / one run here", lambda make_steps=make_steps: timed(lambda: make_steps(steps)), alone
        )
        _, split_ours = ratio(
            f"{what} / one run here, split", lambda make_steps=make_steps: timed(lambda: make_steps(steps)), split
        )
        _, all_ours = ratio(
            f"{what} x {count} / a run on each device",
            lambda make_steps=make_steps: timed(lambda: make_steps(count * steps)),
            beside,
        )
        rates = [steps * batch_size / seconds for seconds in (theirs, ours, split_ours, all_ours / count)]
        print("  examples/s: PyTorch {:,.0f}; here {:,.0f}, {:,.0f} split, {:,.0f} in all".format(*rates), flush=True)


def graph_seeds() -> None:
    """20 epochs of the published GCN on Cora for 100 seeds, without measuring."""
    import jax

    graph = data.graphs.row_normalised(data.planetoid.read("cora"))
    source, network = data.members.of_nodes("cora", graph), graph_cost.networks(graph)["GCN"]
    operator = network.operator(tasks.nodes.structure(graph))
    task = tasks.classify_nodes(network, tasks.nodes.features(graph), operator)
    rule = training.optimizer(SimpleNamespace(**vars(RULE) | {"name": "adam", "weight_decay": "hidden_0=1,.*=0"}), 1)
    rates = dict(learning_rate=0.01, weight_decay=5e-4, input_dropout=0.5, hidden_dropout=0.5, attention_dropout=0.0)
    chosen = {
        "seed": np.arange(100, dtype=np.uint32),
        "hyper": {name: np.full(100, value, np.float32) for name, value in rates.items()},
    }
    together = in_programs(source, task, rule, chosen, 20, jax.devices(), 100, width=8)
    single = in_programs(source, task, rule, chosen, 20, jax.devices()[:1], 1)
    ratio("20 epochs of a GCN on Cora, 100 seeds: one by one / in one program", single, together)


def graphs() -> None:
    """Whole graphs at each epoch; the propagation operators of GCNs are computed once on both sides."""
    graph_seeds()
    try:
        import torch
        import torch_geometric  # noqa: F401
    except ImportError as error:
        print(f"graphs against PyTorch: skipped, {error.name} is not here: pip install {error.name}", flush=True)
        return
    torch.set_num_threads(training.devices.cores())
    cora = data.graphs.row_normalised(data.planetoid.read("cora"))
    blocks = graph_cost.blocks(1_000_000)
    for what, graph, name, rate, attention, count in (
        ("GCN 1433-16-7, Cora", cora, "GCN", 0.5, 0.0, 50),
        ("GAT 1433-8x8-7, Cora", cora, "GAT", 0.6, 0.6, 20),
        (f"GCN 32-16-10, 100,000 nodes and {len(blocks.senders):,} edges", blocks, "GCN", 0.5, 0.0, 5),
    ):
        ours = graph_cost.cost(graph_cost.networks(graph)[name], graph, rate, attention, count)
        for form in ("edges", "sparse matrix"):
            theirs, partner = beside_torch.graph_epochs(name, graph, form, rate, attention, count)
            if ours.parameters != partner:
                raise UserError(f"{name}: {ours.parameters} parameters in jaxdl and {partner} in torch_geometric")
            ratio(f"an epoch of {what}: torch_geometric ({form}) / here", theirs, ours.epoch)


FIRST_BATCH = """
import resource, time
import jax, numpy as np
from jaxdl import data
from launch.benchmark import described
started = time.perf_counter()
source = data.load(described({name!r}, dir={folder!r}), 128)
train = jax.device_put(dict(source.data["train"]))
run = {{"seed": np.uint32(0)}}
jax.block_until_ready(jax.jit(source.batch)(train, run, np.uint32(0)))
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def loading() -> None:
    """Each start in a process of its own, with a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_photos(photos, 5000)
        for name, place in (("mnist", ""), ("cifar10", ""), ("image_folder", str(photos))):
            code = FIRST_BATCH.format(name=name, folder=place)
            environment = os.environ | {"JAXDL_CACHE_DIR": f"{folder}/{name}"}
            found = []
            for _ in ("cold", *["warm"] * REPEATS):
                done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise UserError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
                found.append([float(word) for word in done.stdout.split()])
            (cold, memory), warm = found[0], statistics.median(seconds for seconds, _ in found[1:])
            again = statistics.median(gigabytes for _, gigabytes in found[1:])
            print(
                f"first batch of {name}: cold {cold:.2f} s, {memory:.2f} GB; warm {warm:.2f} s, {again:.2f} GB "
                f"(median of {REPEATS}; after `import jax`)",
                flush=True,
            )


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of 320 x 240 pixels in 5 classes: smooth random colours."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % 5}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize((320, 240), Image.Resampling.BICUBIC).save(place / f"{number:05d}.jpg", quality=90)


def streaming() -> None:
    """CIFAR-10 in batches of 128."""
    import jax

    for workers in (0, 1, 2):
        source = data.load(described("cifar10", order="shared"), 128, 0, workers)
        count = data.streaming.batches_per_block(source.data["train"], 128)
        blocks = data.streaming.training_blocks(source, 0, 10**9)
        next(blocks)  # the processes have started
        rates = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            for _ in range(5):
                next(blocks)
            rates.append(5 * count * 128 / (time.perf_counter() - started))
        blocks.close()
        print(f"streaming CIFAR-10, {workers} workers: {statistics.median(rates):,.0f} images/s", flush=True)
    source = data.load(described("cifar10", order="shared"), 128, 0)
    step, state = resnet_step(source)
    feed = training.Feed(source, 0, 10**9, jax.device_put)
    block, end = feed.at(0)
    state = jax.block_until_ready(step(state, block, np.uint32(0)))  # compiles
    waited, started = 0.0, time.perf_counter()
    for number in range(1, 2 * end):
        before = time.perf_counter()
        block, _ = feed.at(number)
        waited += time.perf_counter() - before
        state = step(state, block, np.uint32(number))
        before = time.perf_counter()
        feed.look_ahead()
        waited += time.perf_counter() - before  # an upper bound: the device computes meanwhile
        jax.block_until_ready(state)
    share = waited / (time.perf_counter() - started)
    feed.close()
    print(f"a ResNet-20 step of batch 128 waits for data at most {share:.2%} of its time ({2 * end - 1} steps)")


def resnet_step(source: Any) -> tuple[Callable, Any]:
    """One SGD step of a ResNet-20 for CIFAR (He et al. 2015, arXiv 1512.03385, section 4.2), on a streamed block."""
    import jax

    task = tasks.classify(models.CifarResNet(20, 10), source.data["train"]["image"].shape[1:])
    optimizer = training.optimizer(SimpleNamespace(**vars(RULE) | {"weight_decay": ".*=0"}), 1)
    run = jax.tree.map(lambda leaf: leaf[0], runs(1))
    one_step = training.make_step("streaming", task, optimizer)
    state = training.make_init("streaming", task, optimizer, source)(run, source.data["train"])
    return jax.jit(lambda state, block, number: one_step(state, source.batch(block, run, number), run)[0]), state


def timed(work: Callable[[], None]) -> float:
    """The seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(what: str, slow: Callable[[], float], fast: Callable[[], float]) -> tuple[float, float]:
    """Print the ratio of medians over REPEATS alternating calls, after one call of each that compiles; the medians."""
    slow(), fast()
    pairs = [(slow(), fast()) for _ in range(REPEATS)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{what}: {first / second:.2f} ({first:.3g} s / {second:.3g} s, medians of {REPEATS})", flush=True)
    return first, second


PARTS = {
    "epoch": epoch, "runs": spread, "compilations": compilations, "vae": vae,
    "dropout": dropout, "convolutions": convolutions, "graphs": graphs,
    "graph_size": lambda: graph_size.measure(REPEATS), "loading": loading, "streaming": streaming,
}  # fmt: skip


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
