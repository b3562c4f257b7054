"""Sampled neighbourhoods of some nodes as one graph, for graphs that are too large to be read at every step.

Computed inside a step, a pure function of its random key: there is nothing to save or to restore.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax import Array

from jaxdl import batch as batches
from jaxdl.data.graphs import Graph


class Neighbours(NamedTuple):
    """Who sends to whom, by receiver: node v hears from sender[first[v] : first[v + 1]].

    first: int32 [N + 1]; sender: int32 [E + 1], one more than there are edges, so that there always is one to read
    """

    first: Array
    sender: Array


class Sample(NamedTuple):
    """The sampled neighbourhoods of B nodes as one graph of n nodes, as many whatever was sampled.

    graph: its nodes are the B ones, then their neighbours, then those of these, and one of padding at the end; its
        edges lead towards the B. It has no features. Edges of nodes that hear from nobody lie at the padding
    node: int32 [n], which nodes of the whole graph these are; any, for those that no edge leaves
    stream: uint32 [n], a number for each that depends on nothing but a node's position and its way to it
    """

    graph: jraph.GraphsTuple
    node: Array
    stream: Array


def neighbours(graph: Graph) -> Neighbours:
    """The edges sorted by receiver, for `sample`."""
    edge = np.argsort(graph.receivers, kind="stable")
    degree = np.bincount(graph.receivers, minlength=len(graph.ids))
    first = np.concatenate([[0], np.cumsum(degree)]).astype(np.int32)
    return Neighbours(jnp.asarray(first), jnp.asarray(np.append(graph.senders[edge], 0).astype(np.int32)))


def sample(around: Neighbours, nodes: Array, fanouts: Sequence[int], key: Array, position: Array) -> Sample:
    """fanouts[0] neighbours of each of the nodes [B], fanouts[1] of each of these, and so on.

    Hamilton et al. 2017 (arXiv 1706.02216), section 3.1 and appendix A: uniform; without replacement where a node has
    enough neighbours, else with. position: uint32 [B]; what is drawn for a node depends on (key, its position) only.
    """
    layers, streams, senders, receivers = [nodes.astype(jnp.int32)], [position], [], []
    there, start, hops = jnp.ones(len(nodes), bool), 0, len(fanouts)
    last = sum(len(nodes) * int(np.prod(fanouts[:hop])) for hop in range(hops + 1))  # the node of padding
    for hop, fanout in enumerate(fanouts):
        place, found = _drawn(around, layers[-1], fanout, jax.random.fold_in(key, hop), streams[-1])
        there = (there & found)[:, None].repeat(fanout, axis=1).reshape(-1)  # [n fanout]
        heard = start + jnp.arange(len(layers[-1]), dtype=jnp.int32).repeat(fanout)
        start += len(layers[-1])
        place, children = place.reshape(-1), start + jnp.arange(len(heard), dtype=jnp.int32)
        receivers.append(jnp.where(there, heard, last))
        senders.append(jnp.where(there, children, last))
        layers.append(around.sender[place])
        branch = jnp.arange(fanout, dtype=jnp.uint32)
        deeper = streams[-1][:, None] * jnp.uint32(fanout) + branch[None, :]  # [n, fanout]
        streams.append(deeper.reshape(-1))
    tagged = [stream * jnp.uint32(hops + 2) + jnp.uint32(hop) for hop, stream in enumerate(streams)]
    graph = jraph.GraphsTuple(
        np.zeros((last + 1, 0), np.float32), None, jnp.concatenate(receivers), jnp.concatenate(senders), None,
        np.array([last + 1]), np.array([sum(len(each) for each in senders)]),
    )  # fmt: skip
    return Sample(
        graph,
        jnp.concatenate([*layers, jnp.zeros(1, jnp.int32)]),
        jnp.concatenate([*tagged, jnp.full(1, hops + 1, jnp.uint32)]),
    )


def _drawn(around: Neighbours, nodes: Array, fanout: int, key: Array, stream: Array) -> tuple[Array, Array]:
    """Places in `around.sender` of `fanout` neighbours of each node [n], int32 [n, fanout], and which nodes have any.

    Without replacement by Floyd's method (Bentley & Floyd 1987): of d neighbours, for j from d - fanout to d - 1
    draw one of the first j + 1; if it is there already, take number j, which is not. A remainder of 32 random bits is
    uniform to within d / 2^32.
    """
    words = jax.lax.bitcast_convert_type(batches.random_bytes(key, stream, (fanout, 4)), jnp.uint32)  # [n, fanout]
    begin, degree = around.first[nodes], around.first[nodes + 1] - around.first[nodes]
    enough = degree >= fanout

    def turn(place: Array, number: Array) -> Array:
        most = jnp.maximum(jnp.where(enough, degree - fanout + place + 1, degree), 1)  # [n]
        drawn = (words[:, place] % most.astype(jnp.uint32)).astype(jnp.int32)
        again = (number == drawn[None, :]).any(axis=0)
        return number.at[place].set(jnp.where(enough & again, most - 1, drawn))

    number = jax.lax.fori_loop(0, fanout, turn, jnp.full((fanout, len(nodes)), -1, jnp.int32))
    return begin[:, None] + number.T, degree > 0
