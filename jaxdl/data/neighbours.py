"""The sampled surroundings of some nodes as one graph, for graphs that are too large to be read at every step.

A pure function of (seed, step): nothing to save or to restore.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jraph
import numpy as np
import scipy.sparse

from jaxdl.data.graphs import Graph
from jaxdl.errors import UserError


class Neighbours(NamedTuple):
    """Who sends to whom, by receiver: node v hears from sender[first[v] : first[v + 1]]. See `neighbours`."""

    graph: Graph
    first: np.ndarray  # int64 [N + 1]
    sender: np.ndarray  # int32 [E]
    edge: np.ndarray  # int64 [E], where the edge stands in the graph


class Sample(NamedTuple):
    """The sampled surroundings of B nodes as one graph, and a graph of padding that is always there.

    graph: its nodes are the B ones, then their neighbours, then those of these; edges lead towards the B. As many
        nodes and edges whatever was sampled: those of nodes that hear from nobody lie at the node of padding, the
        last one
    nodes: int32 [nodes], which nodes of the whole graph these are; 0 for padding
    labels: int32 [B]
    """

    graph: jraph.GraphsTuple
    nodes: np.ndarray
    labels: np.ndarray


def neighbours(graph: Graph) -> Neighbours:
    """The edges sorted by receiver, for `Neighbours` samples."""
    edge = np.argsort(graph.receivers, kind="stable")
    degree = np.bincount(graph.receivers, minlength=len(graph.ids))
    first = np.concatenate([[0], np.cumsum(degree, dtype=np.int64)])
    return Neighbours(graph, first, graph.senders[edge], edge)


def sample(around: Neighbours, nodes: np.ndarray, fanouts: Sequence[int], seed: int, step: int) -> Sample:
    """The surroundings of `nodes` [B]: fanouts[0] neighbours of each, fanouts[1] of each of these, and so on.

    Hamilton et al. 2017 (arXiv 1706.02216), section 3.1: uniform; without replacement where a node has enough
    neighbours, else with. Which ones is a pure function of (seed, step) and the place in the batch.
    """
    graph = around.graph
    words = np.random.Philox(key=[seed, step])  # only its raw words: NumPy guarantees them, unlike its distributions
    if len(fanouts) < 1 or min(fanouts) < 1:
        raise UserError(f"fanouts={list(fanouts)} is not possible; valid: at least 1 neighbour for each layer")
    layers = [np.asarray(nodes, np.int64)]
    chosen, receivers, start = [], [], 0
    for fanout in fanouts:
        heard = layers[-1]
        picked = _drawn(words, around, heard, fanout)  # [n, fanout], places in around.edge; -1: none
        chosen.append(picked.reshape(-1))
        receivers.append(np.repeat(start + np.arange(len(heard)), fanout))
        start += len(heard)
        sender = np.where(picked < 0, -1, around.sender[picked])
        layers.append(sender.reshape(-1))  # [n, fanout] -> [n fanout]
    place, to = np.concatenate(chosen), np.concatenate(receivers)
    found = np.concatenate([*layers, [-1]])  # the last one is padding
    last = len(found) - 1
    here = place >= 0
    values = _dense(graph.features[np.maximum(found, 0)])
    values = np.where((found >= 0)[:, None], values, np.float32(0))
    edges = None
    if graph.edges is not None:
        edges = np.where(here[:, None], graph.edges[around.edge[place]], np.float32(0))
    # Edges that are there come first, as jraph has padding behind; a node that stands for nobody is padding, too, but
    # has to keep its place. It hears and says nothing, so it may be counted to the graph.
    turn = np.argsort(~here, kind="stable")
    sampled = jraph.GraphsTuple(
        nodes=values,
        edges=None if edges is None else edges[turn],
        senders=np.where(here, len(nodes) + np.arange(len(place)), last)[turn].astype(np.int32),
        receivers=np.where(here, to, last)[turn].astype(np.int32),
        globals=None,
        n_node=np.array([last, 1], np.int32),
        n_edge=np.array([here.sum(), (~here).sum()], np.int32),
    )
    return Sample(sampled, np.maximum(found, 0).astype(np.int32), graph.labels[np.asarray(nodes)])


def _drawn(words: np.random.Philox, around: Neighbours, nodes: np.ndarray, fanout: int) -> np.ndarray:
    """Places in `around.sender` of `fanout` neighbours of each node [n], int64 [n, fanout]; -1 where it has none.

    Without replacement by Floyd's method (Bentley & Floyd 1987): of d neighbours, for j from d - fanout to d - 1
    draw one of the first j + 1; if it is there already, take number j, which is not.
    """
    known = np.maximum(nodes, 0)
    begin, degree = around.first[known], around.first[known + 1] - around.first[known]
    degree = np.where(nodes < 0, 0, degree)
    random = words.random_raw(len(nodes) * fanout).reshape(len(nodes), fanout) >> np.uint64(32)
    enough = degree >= fanout
    number = np.zeros((len(nodes), fanout), np.int64)
    for turn in range(fanout):
        most = np.where(enough, degree - fanout + turn + 1, degree)  # [n]
        drawn = ((random[:, turn] * most.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
        again = (number[:, :turn] == drawn[:, None]).any(axis=1)
        number[:, turn] = np.where(enough & again, most - 1, drawn)
    return np.where((degree > 0)[:, None], begin[:, None] + number, -1)


def _dense(features: Any) -> np.ndarray:
    return features.toarray() if scipy.sparse.issparse(features) else features
