"""What networks on a whole graph cost: seconds and bytes of training, and of what they compute of the graph once."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import _graph_fits as fits
from jaxdl import data, models, tasks


def blocks(edges: int) -> Any:
    """A block model of 10 classes with about so many directed edges, 10 a node; the classes of all nodes are known."""
    graph = data.graphs.equal_blocks(edges // 100 * 10, 10, 10.0, 0.9, 32, 3.0, seed=0)
    return graph._replace(splits={"train": np.arange(len(graph.ids))})


class Cost(NamedTuple):
    """Of one network on one graph.

    epoch: trains some epochs and returns the seconds of one; operator: the same of what is computed of the graph once
    parameters: how many; bytes: what one epoch needs at once, data, parameters and all that is kept for gradients
    """

    epoch: Callable[[], float]
    operator: Callable[[], float]
    parameters: int
    bytes: int


def cost(network: Any, graph: Any, rate: float, attention: float, count: int) -> Cost:
    """What `count` epochs of training in one program cost.

    Adam with a learning rate of 0.01, weight decay 5e-4 on all parameters; dropout of `rate` on inputs and hidden
    units and of `attention` on attention.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from jaxdl.models import graph as graphs

    nodes = len(graph.ids)
    structure = tasks.nodes.structure(graph)
    operator = network.operator(structure)
    features = tasks.nodes.features(graph)
    params = network.init(jax.random.key(0), features, operator)["params"]
    rule = optax.chain(optax.add_decayed_weights(5e-4), optax.adam(0.01))
    known = graph.splits["train"]
    # One-hot labels, 0 where they are not known: the gradient of an indexed read is a scatter.
    target = jnp.zeros((nodes, network.classes)).at[known, graph.labels[known]].set(1)

    @jax.jit
    def train(params: Any, state: Any, features: Any, operator: Any) -> tuple[Any, Any]:
        def loss(params: Any, key: Any) -> Any:
            rates = (jnp.float32(rate), jnp.float32(rate), jnp.float32(attention))
            noise = graphs.GraphNoise(key, jnp.arange(nodes, dtype=jnp.uint32), *rates)
            logits = network.apply({"params": params}, features, operator, noise)
            return -(jax.nn.log_softmax(logits) * target).sum() / len(known)

        def epoch(number: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            params, state = carried
            gradient = jax.grad(loss)(params, jax.random.fold_in(jax.random.key(0), number))
            updates, state = rule.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, count, epoch, (params, state))

    arguments = params, rule.init(params), features, operator
    compiled = train.lower(*arguments).compile()
    memory = compiled.memory_analysis()

    def epoch() -> float:
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        return (time.perf_counter() - started) / count

    def once() -> float:
        started = time.perf_counter()
        jax.block_until_ready(network.operator(structure))
        return time.perf_counter() - started

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Cost(epoch, once, parameters, memory.argument_size_in_bytes + memory.temp_size_in_bytes)


def networks(graph: Any) -> dict[str, Any]:
    """The networks of both sides: the published ones for Cora."""
    classes = len(graph.names)
    return {"GCN": models.graph.GCN((16,), classes), "GAT": models.graph.GAT((8,), classes, heads=(8, 1))}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a line through log(values) against log(sizes): 1 for values in proportion to sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth_sizes(config: Any, method: str) -> Sequence[int]:
    """Numbers of nodes for the spectral network, of directed edges for others."""
    return config.cost.nodes if method == fits.SPECTRAL else config.cost.edges


def growth(config: Any, method: str, repeats: int) -> dict[str, np.ndarray]:
    """How the seconds of a method's training grow with its graph, each repeat measured anew: {metric: [repeats]}.

    The spectral network grows with nodes: what counts is its operator, the eigenvectors. The others grow with edges:
    an epoch. train_exponent: the fitted power; train_exponent_excess: above 3, or 1; train_seconds_SIZE: what was
    measured.
    """
    spectral, sizes = method == fits.SPECTRAL, growth_sizes(config, method)
    seconds = np.zeros((repeats, len(sizes)))
    for column, size in enumerate(sizes):
        graph = blocks(10 * size if spectral else size)
        found = cost(fits.network(config, method, len(graph.names)), graph, 0.5, 0.0, 1)
        measure = found.operator if spectral else found.epoch
        measure()  # what happens once, happens now
        seconds[:, column] = [measure() for _ in range(repeats)]
    slopes = np.array([exponent(sizes, row) for row in seconds])
    return {"train_exponent": slopes, "train_exponent_excess": slopes - (3 if spectral else 1)} | {
        f"train_seconds_{size}": seconds[:, column] for column, size in enumerate(sizes)
    }
