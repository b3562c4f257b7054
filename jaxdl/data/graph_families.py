"""Random graphs of three families that counts of nodes and edges do not tell apart."""

import networkx
import numpy as np

from jaxdl.data import graphs
from jaxdl.data.graphs import Graph

FAMILIES = ("uniform", "preferential", "near-regular")
SMALLEST, LARGEST = 16, 32  # nodes


def read(count: int, seed: int) -> Graph:
    """`count` graphs of each family; graph k of each has the same n nodes and 2 n - 4 edges. Every feature is 1.

    uniform: all graphs with so many edges are equally likely (Erdos & Renyi 1959)
    preferential: each node joins two that have many edges already (Barabasi & Albert 1999)
    near-regular: a random graph whose nodes have 4 edges each (Steger & Wormald 1999), less 4 edges
    All of them are drawn again until every node has an edge: a mean of no neighbours would be seen.

    Nodes differ in nothing but their surroundings: sums over neighbours see degrees, which the families distribute
    differently; means and maxima of equal features are equal features, in all layers (Xu et al. 2019, arXiv
    1810.00826, section 5.2), so that a mean or a maximum over nodes is the same for all graphs.
    """
    draw = np.random.Philox(key=seed)  # only its raw words: NumPy guarantees them
    ends, sizes, labels = [], [], []
    for _ in range(count):
        words = draw.random_raw(len(FAMILIES) + 1)
        nodes = SMALLEST + int(words[0] % np.uint64(LARGEST - SMALLEST + 1))
        for label, word in enumerate(words[1:]):
            family_seed = int(word % np.uint64(2**30))
            while min(dict((found := _one(label, nodes, family_seed)).degree).values()) < 1:
                family_seed += 1
            ends.append(np.array(found.edges) + sum(sizes))
            sizes.append(nodes)
            labels.append(label)
    first, second = np.concatenate(ends).T
    senders, receivers, _ = graphs.both_ways(first, second)
    features = np.ones((sum(sizes), 1), np.float32)
    return graphs.checked("the families", features, senders, receivers, np.array(labels), FAMILIES, sizes=sizes)


def _one(family: int, nodes: int, seed: int) -> networkx.Graph:
    if FAMILIES[family] == "uniform":
        return networkx.gnm_random_graph(nodes, 2 * nodes - 4, seed=seed)
    if FAMILIES[family] == "preferential":
        return networkx.barabasi_albert_graph(nodes, 2, seed=seed)
    found = networkx.random_regular_graph(4, nodes, seed=seed)
    edges = sorted(tuple(sorted(edge)) for edge in found.edges)
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(edges)), kind="stable")
    ordered = networkx.empty_graph(nodes)
    ordered.add_edges_from(edges[place] for place in order[4:])
    return ordered
