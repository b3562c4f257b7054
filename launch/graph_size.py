"""Seconds and memory of an epoch against the number of edges, for `launch.benchmark`."""

import statistics
from pathlib import Path

from experiments import _graph_cost as graph_cost
from jaxdl import models

EDGES = (10_000, 30_000, 100_000, 300_000, 1_000_000)  # directed, 10 a node
PICTURE = Path("runs/benchmark/graph_size.png")


def measure(repeats: int) -> None:
    """Print seconds (medians) and bytes of an epoch of a GCN, a GAT and GraphSAGE, their exponents, and draw them."""
    from matplotlib.figure import Figure

    graphs = {edges: graph_cost.blocks(edges) for edges in EDGES}
    networks = graph_cost.networks(graphs[EDGES[0]]) | {
        "GraphSAGE": models.graph.GraphSAGE((16,), len(graphs[EDGES[0]].names))
    }
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, network in networks.items():
        seconds, memory, sizes = [], [], []
        for graph in graphs.values():
            found = graph_cost.cost(network, graph, 0.5, 0.0, 1)
            found.epoch()
            seconds.append(statistics.median(found.epoch() for _ in range(repeats)))
            memory.append(found.bytes)
            sizes.append(len(graph.senders))
            print(f"{name}, {sizes[-1]:,} edges: {seconds[-1]:.4f} s an epoch, {memory[-1] / 1e6:.1f} MB", flush=True)
        slopes = [graph_cost.exponent(sizes, values) for values in (seconds, memory)]
        print(f"{name}: seconds grow with edges to the power {slopes[0]:.2f}, bytes {slopes[1]:.2f}", flush=True)
        left.plot(sizes, seconds, marker="o", label=f"{name}: exponent {slopes[0]:.2f}")
        right.plot(sizes, [each / 1e6 for each in memory], marker="o", label=f"{name}: exponent {slopes[1]:.2f}")
    for axes, label in ((left, "seconds an epoch"), (right, "MB, data and all that is kept")):
        axes.set(xscale="log", yscale="log", xlabel="directed edges", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=150)
    print(PICTURE)
