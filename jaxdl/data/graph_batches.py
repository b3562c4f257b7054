"""Batches of whole graphs, and of the sampled surroundings of nodes, in a bounded number of array shapes.

Padding is jraph's: one graph at the end holds all nodes and edges of padding, so whatever sums over a graph's
nodes or a node's edges ignores them. Everything is a pure function of (seed, step): nothing to save or to restore.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jraph
import numpy as np
import scipy.sparse

from jaxdl.data import order
from jaxdl.data.graphs import Graph
from jaxdl.errors import UserError


class Bucket(NamedTuple):
    """A shape that batches are padded to: how many nodes, edges and graphs, those of padding included."""

    nodes: int
    edges: int
    graphs: int


class Batch(NamedTuple):
    """Some graphs, padded. labels: int32 [graphs]; mask: bool [graphs], of which the last is always False.

    graph: nodes float32 [nodes, F], edges float32 [edges, D] or None, globals None; the edges of padding lead from
        the first node of padding to itself
    """

    graph: jraph.GraphsTuple
    labels: np.ndarray
    mask: np.ndarray


class Batches(NamedTuple):
    """Graphs ready to be drawn from, see `batches`. first_node, first_edge: int64 [G + 1]; edge: int64 [E]."""

    graph: Graph
    batch_size: int
    buckets: tuple[Bucket, ...]
    first_node: np.ndarray
    first_edge: np.ndarray  # of each graph, in `edge`
    edge: np.ndarray  # the edges, graph by graph

    def pad(self, rows: np.ndarray) -> Batch:
        """The graphs `rows`, at most `batch_size` of them, in the smallest bucket that holds them.

        Raises UserError where the largest one does not.
        """
        graph = self.graph
        nodes, edges = _ranges(self.first_node, rows), self.edge[_ranges(self.first_edge, rows)]
        counts, links = np.diff(self.first_node)[rows], np.diff(self.first_edge)[rows]
        bucket = smallest(self.buckets, len(nodes), len(edges), len(rows))
        shift = np.repeat(np.cumsum(counts) - counts - self.first_node[rows], links)  # old number -> new, by edge
        empty = bucket.graphs - len(rows) - 1  # graphs of no nodes, behind the one of padding
        labels = np.zeros(bucket.graphs, np.int32)
        labels[: len(rows)] = graph.labels[rows]
        padded = jraph.GraphsTuple(
            nodes=_filled(_dense(graph.features[nodes]), bucket.nodes),
            edges=None if graph.edges is None else _filled(graph.edges[edges], bucket.edges),
            senders=_filled((graph.senders[edges] + shift).astype(np.int32), bucket.edges, len(nodes)),
            receivers=_filled((graph.receivers[edges] + shift).astype(np.int32), bucket.edges, len(nodes)),
            globals=None,
            n_node=np.array([*counts, bucket.nodes - len(nodes), *[0] * empty], np.int32),
            n_edge=np.array([*links, bucket.edges - len(edges), *[0] * empty], np.int32),
        )
        return Batch(padded, labels, np.arange(bucket.graphs) < len(rows))

    def draw(self, rows: np.ndarray, seed: int, step: int) -> Batch:
        """The batch of one step of training on the graphs `rows` [n]; an epoch's ragged tail is dropped.

        Raises UserError where there are fewer rows than a batch has.
        """
        size = self.batch_size
        if len(rows) < size:
            raise UserError(f"batch_size={size} is not possible: valid is 1 to {len(rows)}, the graphs to train on")
        epoch, within = divmod(step, len(rows) // size)
        position = np.arange(within * size, (within + 1) * size, dtype=np.uint32)
        return self.pad(rows[order.index(seed, epoch, position, len(rows))])

    def all(self, rows: np.ndarray) -> list[Batch]:
        """The graphs `rows` in their order, each once; for evaluation. The last batch may have fewer graphs."""
        return [self.pad(rows[first : first + self.batch_size]) for first in range(0, len(rows), self.batch_size)]


def batches(graph: Graph, batch_size: int, count: int = 3) -> Batches:
    """Batches of up to `batch_size` of the graphs, in at most `count` buckets: so many programs are compiled.

    The largest bucket holds the `batch_size` largest graphs, each next one half as many nodes and edges, but no less
    than the `batch_size` smallest graphs need; so at most about half of a batch is padding while that goes on.
    """
    if not 0 < batch_size <= len(graph.sizes):
        raise UserError(f"batch_size={batch_size} is not possible: valid is 1 to {len(graph.sizes)}, all the graphs")
    if count < 1:
        raise UserError(f"{count} buckets are not possible; valid: at least 1")
    first_node = np.concatenate([[0], np.cumsum(graph.sizes, dtype=np.int64)])
    owner = np.searchsorted(first_node, graph.senders, side="right") - 1  # the graph of each edge
    edge = np.argsort(owner, kind="stable")
    links = np.bincount(owner, minlength=len(graph.sizes))
    first_edge = np.concatenate([[0], np.cumsum(links, dtype=np.int64)])
    nodes, edges = np.sort(graph.sizes)[::-1], np.sort(links)[::-1]
    least = int(nodes[-batch_size:].sum()), int(edges[-batch_size:].sum())
    buckets = {
        Bucket(
            max(-(-int(nodes[:batch_size].sum()) >> part), least[0]) + 1,
            max(-(-int(edges[:batch_size].sum()) >> part), least[1]),
            batch_size + 1,
        )
        for part in range(count)
    }
    return Batches(graph, batch_size, tuple(sorted(buckets)), first_node, first_edge, edge)


def smallest(buckets: Sequence[Bucket], nodes: int, edges: int, graphs: int) -> Bucket:
    """The first bucket with room for so many nodes, one node of padding, edges, graphs and the one of padding.

    buckets: the smallest first. Raises UserError where there is none.
    """
    for bucket in buckets:
        if nodes < bucket.nodes and edges <= bucket.edges and graphs < bucket.graphs:
            return bucket
    largest = buckets[-1]
    raise UserError(
        f"{graphs:,} graphs with {nodes:,} nodes and {edges:,} edges together are more than the largest bucket holds; "
        f"valid: {largest.graphs - 1:,} graphs, {largest.nodes - 1:,} nodes, {largest.edges:,} edges"
    )


def _ranges(first: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """first[row] to first[row + 1] for each of the rows, one after another."""
    counts = first[rows + 1] - first[rows]
    return np.arange(counts.sum()) + np.repeat(first[rows] - (np.cumsum(counts) - counts), counts)


def _filled(values: np.ndarray, length: int, value: float = 0) -> np.ndarray:
    result = np.full((length, *values.shape[1:]), value, values.dtype)
    result[: len(values)] = values
    return result


def _dense(features: Any) -> np.ndarray:
    return features.toarray() if scipy.sparse.issparse(features) else features


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
