"""How fast the training core is, as ratios of medians over repeats taken in one process.

    python -m launch.benchmark [epoch] [runs] [compilations] [vae] [loading] [streaming]

epoch         one epoch of a 784-256-10 classifier on MNIST inside `fit`, over the same in a bare lax.scan
runs          8 runs one after another, over 8 runs spread over the devices, on digits and on MNIST
compilations  how often `advance` is compiled for a 3 x 4 sweep of learning rate and weight decay
vae           one epoch of a 784-200-200-50 variational autoencoder on MNIST in PyTorch, over the same inside `fit`;
              8 betas one after another, over the 8 spread over the devices

loading       seconds to the first batch of MNIST, CIFAR-10 and a folder of 5,000 JPEGs, cold and warm, and peak memory
streaming     images a second from the disk with 0, 1 and 2 workers, and how long a step of a ResNet-20 waits for them

MNIST and CIFAR-10 are looked for in $TFDS_DATA_DIR. A start is cold when jaxdl's cache is empty; the files themselves
may still be in the system's.
"""

import logging
import os
import statistics
import subprocess
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

    one_by_one = eight_runs(source, task, optimizer, runs, steps, jax.devices()[:1], 1)
    together = eight_runs(source, task, optimizer, runs, steps, jax.devices(), 8)
    ratio(f"one by one / spread over {len(jax.devices())} devices, {what}", one_by_one, together)


def eight_runs(
    source: Any, task: Any, optimizer: Callable, runs: dict[str, Any], steps: int, devices: Any, at_once: int
) -> Callable[[], float]:
    """A function that trains 8 runs, `at_once` in a program call, and returns the seconds of the calls."""
    import jax

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
            chosen = spread.place(jax.tree.map(lambda leaf, here=slice(first, first + at_once): leaf[here], runs))
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


WIDTHS, LATENT, BATCH = (200, 200), 50, 100
HYPER = dict(learning_rate=1e-3, weight_decay=0.0, beta=1.0, noise=1.0, masking=0.0, free_bits=0.0, anneal=0.0)
LAYERS = ("encoder_0", "encoder_1", "mean", "log_variance", "decoder_0", "decoder_1", "output")


def vae() -> None:
    """The VAE of Kingma & Welling 2014 (arXiv 1312.6114) with the layers of Burda et al. 2016 (1509.00519)."""
    import jax

    source = data.load(described("mnist", train=60000 - 5000, validation=5000), BATCH)
    task = tasks.elbo(models.VAE(784, WIDTHS, LATENT), 784, binarise="resampled")
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
        check_same_loss(task, source)
        params, _ = task.init(jax.tree.map(lambda leaf: leaf[0], one), jax.random.key(0))
        layers = torch_layers(params)
        images = torch.from_numpy(np.array(source.data["train"]["image"]).reshape(-1, 784)).float() / 255
        rule = torch.optim.Adam([weights for layer in layers.values() for weights in layer.parameters()], lr=1e-3)

        def in_torch() -> float:
            started = time.perf_counter()
            torch_epoch(layers, rule, images)
            return time.perf_counter() - started

        theirs, ours = ratio("PyTorch / fit, one MNIST epoch of a 784-200-200-50 VAE, batch 100", in_torch, inside)
        examples = source.steps_per_epoch * BATCH
        print(f"  {examples / ours:,.0f} examples/s in fit, {examples / theirs:,.0f} in PyTorch", flush=True)

    betas = autoencoders(8, beta=np.geomspace(0.25, 32, 8))
    spread_over_devices("8 betas of the VAE, 200 steps", source, task, optimizer, betas, 200)


def autoencoders(count: int, **changes: Any) -> dict[str, Any]:
    """`count` runs of the VAE, all with one seed; changes: [count] values of a hyperparameter."""
    hyper = {name: np.full(count, value, np.float32) for name, value in HYPER.items()}
    return {
        "seed": np.zeros(count, np.uint32),
        "hyper": hyper | {name: np.asarray(values, np.float32) for name, values in changes.items()},
    }


def torch_layers(params: Any) -> dict[str, Any]:
    """{name: torch.nn.Linear} with the weights of `models.VAE`."""
    import torch

    layers = {}
    for name in LAYERS:
        kernel, bias = (torch.from_numpy(np.array(params[name][part])) for part in ("kernel", "bias"))
        layers[name] = torch.nn.Linear(*kernel.shape)
        layers[name].load_state_dict({"weight": kernel.T, "bias": bias})  # [in, out] -> [out, in]
    return layers


def torch_loss(layers: dict[str, Any], image: Any, epsilon: Any) -> Any:
    """-ELBO, the mean over the batch, of binary images [B, 784] with noise [B, LATENT]."""
    import torch
    from torch.nn import functional

    hidden = torch.tanh(layers["encoder_1"](torch.tanh(layers["encoder_0"](image))))
    mean, log_variance = layers["mean"](hidden), layers["log_variance"](hidden)
    code = mean + torch.exp(0.5 * log_variance) * epsilon
    logits = layers["output"](torch.tanh(layers["decoder_1"](torch.tanh(layers["decoder_0"](code)))))
    reconstruction = functional.binary_cross_entropy_with_logits(logits, image, reduction="sum")
    kl = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum()
    return (reconstruction + kl) / len(image)


def torch_epoch(layers: dict[str, Any], rule: Any, images: Any) -> None:
    """Every image once, in a new order, binarised anew. images: [N, 784] in [0, 1]"""
    import torch

    order = torch.randperm(len(images))
    for first in range(0, len(images) - BATCH + 1, BATCH):
        image = torch.bernoulli(images.index_select(0, order[first : first + BATCH]))
        rule.zero_grad()
        torch_loss(layers, image, torch.randn(BATCH, LATENT)).backward()
        rule.step()


def check_same_loss(task: Any, source: Any) -> None:
    """UserError unless the task and `torch_loss` agree in value and gradient: what differs is not to be compared.

    The images are 0 or 1 already, so that binarising leaves them; the noise is what the task draws.
    """
    import jax
    import torch

    from jaxdl import batch as batches
    from jaxdl.tasks.elbo import CODE

    run, key = jax.tree.map(lambda leaf: leaf[0], autoencoders(1)), jax.random.key(1)
    params, state = task.init(run, jax.random.key(0))
    position = np.arange(BATCH, dtype=np.uint32)
    image = (np.asarray(source.data["train"]["image"][:BATCH]).reshape(BATCH, 784) >= 128).astype(np.float32)
    batch = {"image": image, "label": np.zeros(BATCH, np.int32), "position": position}
    ours, gradient = jax.value_and_grad(lambda params: task.loss(params, state, batch, run, key)[0])(params)
    epsilon = batches.normal(jax.random.fold_in(key, CODE), position, (1, LATENT))[:, 0]
    layers = torch_layers(params)
    theirs = torch_loss(layers, torch.from_numpy(image), torch.from_numpy(np.array(epsilon)))
    theirs.backward()
    pairs = [(ours, theirs.detach().numpy())]
    for name, layer in layers.items():
        pairs += [(gradient[name]["kernel"].T, layer.weight.grad.numpy()), (gradient[name]["bias"], layer.bias.grad)]
    for here, there in pairs:
        here, there = np.asarray(here), np.asarray(there)
        if not np.abs(here - there).max() <= 1e-5 * np.abs(there).max():
            raise UserError(f"the VAEs of jaxdl and PyTorch differ: {here.ravel()[:3]} and {there.ravel()[:3]}")


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
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    class ResNet20(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            def normalised(x: Any, width: int, stride: int = 1) -> Any:
                x = nn.Conv(width, (3, 3), stride, use_bias=False)(x)
                return nn.BatchNorm(use_running_average=False)(x)

            x = nn.relu(normalised(x, 16))
            for width, stride in ((16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)):
                inner = normalised(nn.relu(normalised(x, width, stride)), width)
                shortcut = jnp.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((0, width - x.shape[-1]),))  # option A
                x = nn.relu(inner + shortcut)
            return nn.Dense(10)(x.mean(axis=(1, 2)))

    network, rule = ResNet20(), optax.sgd(0.1, 0.9)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    run = {"seed": np.uint32(0)}

    @jax.jit
    def step(state: Any, block: Any, number: Any) -> Any:
        params, memory = state
        batch = source.batch(block, run, number)

        def loss(params: Any) -> Any:
            mutable = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, _ = network.apply(mutable, batch["image"], mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        updates, memory = rule.update(jax.grad(loss)(params), memory)
        return optax.apply_updates(params, updates), memory

    return step, (variables["params"], rule.init(variables["params"]))


def ratio(what: str, slow: Callable[[], float], fast: Callable[[], float]) -> tuple[float, float]:
    """Print the ratio of medians over REPEATS alternating calls, after one call of each that compiles; the medians."""
    slow(), fast()
    pairs = [(slow(), fast()) for _ in range(REPEATS)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{what}: {first / second:.2f} ({first:.3f} s / {second:.3f} s, medians of {REPEATS})", flush=True)
    return first, second


PARTS = {
    "epoch": epoch, "runs": spread, "compilations": compilations, "vae": vae, "loading": loading,
    "streaming": streaming,
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
