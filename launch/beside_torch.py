"""Networks of jaxdl in PyTorch, for `launch.benchmark`: what is compared must compute the same."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdl.errors import UserError

WIDTHS, LATENT, BATCH = (200, 200), 50, 100
HYPER = dict(learning_rate=1e-3, weight_decay=0.0, beta=1.0, noise=1.0, masking=0.0, free_bits=0.0, anneal=0.0)
LAYERS = ("encoder_0", "encoder_1", "mean", "log_variance", "decoder_0", "decoder_1", "output")


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
    params, state = jax.jit(task.init)(run, jax.random.key(0))
    position = np.arange(BATCH, dtype=np.uint32)
    image = (np.asarray(source.data["train"]["image"][:BATCH]).reshape(BATCH, 784) >= 128).astype(np.float32)
    batch = {"image": image, "label": np.zeros(BATCH, np.int32), "position": position}
    loss = jax.value_and_grad(lambda params: task.loss(params, state, batch, run, key)[0])
    ours, gradient = jax.jit(loss)(params)
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


CONVOLUTIONAL = ("lenet", "keras_cnn", "cifar_resnet")


def network(name: str) -> Any:
    """A torch.nn.Module with the layers of `models.named`: "lenet", "keras_cnn", or "cifar_resnet" of 20 layers.

    And "dropout": 784-256-10 with a fifth of its inputs and half of its hidden units dropped.
    """
    from torch import nn

    if name == "dropout":
        first, second = nn.Linear(784, 256), nn.Linear(256, 10)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), first, nn.ReLU(), nn.Dropout(0.5), second)
    if name == "lenet":
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
        )  # fmt: skip
    if name == "keras_cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    return _resnet(3)


def _resnet(n: int) -> Any:
    """The 6n + 2 layers of He et al. 2016 (arXiv 1512.03385, section 4.2), shortcuts of option A."""
    from torch import nn
    from torch.nn import functional

    def normalised(before: int, after: int, stride: int) -> Any:
        return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = normalised(before, after, stride), normalised(after, after, 1)
            self.stride, self.lacking = stride, after - before

        def forward(self, image: Any) -> Any:
            hidden = self.second(functional.relu(self.first(image)))
            shortcut = image[:, :, :: self.stride, :: self.stride]
            return functional.relu(hidden + functional.pad(shortcut, (0, 0, 0, 0, 0, self.lacking)))

    blocks, before = [], 16
    for after in (16, 32, 64):
        for number in range(n):
            blocks.append(Block(before, after, 2 if after > 16 and number == 0 else 1))
            before = after
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(normalised(3, 16, 1), nn.ReLU(), *blocks, *end)


def steps_in_torch(
    network: Any, rule: Any, images: Any, labels: Any, batch_size: int, channels_last: bool
) -> Callable[[int], None]:
    """A function that makes so many training steps on images uint8 [N, C, H, W], in a new order each epoch."""
    import torch
    from torch.nn import functional

    network = network.to(memory_format=torch.channels_last) if channels_last else network

    def train(steps: int) -> None:
        per_epoch = len(images) // batch_size
        for step in range(steps):
            if step % per_epoch == 0:
                order = torch.randperm(len(images))
            chosen = order[step % per_epoch * batch_size :][:batch_size]
            image = images.index_select(0, chosen).float() / 255
            if channels_last:
                image = image.contiguous(memory_format=torch.channels_last)
            rule.zero_grad()
            functional.cross_entropy(network(image), labels.index_select(0, chosen)).backward()
            rule.step()

    return train


def graph_epochs(
    name: str, graph: Any, form: str, rate: float, attention: float, count: int
) -> tuple[Callable[[], float], int]:
    """As `experiments._graph_cost.cost`, with torch_geometric. form: "edges", or "sparse matrix" (torch's CSR)."""
    import time
    import warnings

    import torch
    from torch.nn import functional
    from torch_geometric.nn import GATConv, GCNConv
    from torch_geometric.utils import to_torch_csr_tensor

    channels, classes = graph.features.shape[1], len(graph.names)
    dense = graph.features.toarray() if hasattr(graph.features, "toarray") else graph.features
    features, known = torch.from_numpy(dense), torch.from_numpy(graph.splits["train"].astype(np.int64))
    label = torch.from_numpy(graph.labels.astype(np.int64))[known]
    edges = torch.from_numpy(np.stack([graph.senders, graph.receivers]).astype(np.int64))
    if form == "sparse matrix":  # torch_geometric reads the transpose of the adjacency; this graph is symmetric
        with warnings.catch_warnings(action="ignore"):  # torch calls its CSR a beta
            edges = to_torch_csr_tensor(edges, size=(len(features), len(features)))
    if name == "GCN":
        first, last, unit = GCNConv(channels, 16, cached=True), GCNConv(16, classes, cached=True), functional.relu
    else:
        first, last = GATConv(channels, 8, 8, dropout=attention), GATConv(64, classes, dropout=attention)
        unit = functional.elu
    weights = [*first.parameters(), *last.parameters()]
    rule = torch.optim.Adam(weights, 0.01, weight_decay=5e-4)

    def epoch() -> None:
        rule.zero_grad()
        hidden = unit(first(functional.dropout(features, rate), edges))
        logits = last(functional.dropout(hidden, rate), edges)[known]
        functional.cross_entropy(logits, label).backward()
        rule.step()

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(count):
            epoch()
        return (time.perf_counter() - started) / count

    return seconds, sum(each.numel() for each in weights)
