"""Batches of whole graphs in a bounded number of array shapes, so that a bounded number of programs is compiled."""

from typing import NamedTuple

import numpy as np

from jaxdl.errors import UserError


class Bucket(NamedTuple):
    """A shape that batches are padded to: how many nodes, one of padding among them, and entries of an operator."""

    nodes: int
    entries: int


def buckets(
    nodes: np.ndarray, entries: np.ndarray, batch_size: int, count: int = 3, most_nodes: int = 0
) -> list[Bucket]:
    """At most `count` buckets for batches of `batch_size` different graphs, the smallest first.

    nodes, entries: of each graph, int [G]; most_nodes: the largest bucket may hold no more, 0: as many as it takes

    The largest bucket holds the `batch_size` largest graphs, each next one half as many nodes and entries, but no less
    than the `batch_size` smallest graphs need; so at most about half of a batch is padding while that goes on.

    Raises UserError where a batch may have more nodes than `most_nodes`.
    """
    if count < 1:
        raise UserError(f"{count} buckets are not possible; valid: at least 1")
    batch_size = min(batch_size, len(nodes))
    nodes, entries = np.sort(nodes)[::-1].astype(int), np.sort(entries)[::-1].astype(int)
    largest, least = (
        (int(nodes[part].sum()), int(entries[part].sum())) for part in (slice(batch_size), slice(-batch_size, None))
    )
    if most_nodes and largest[0] > most_nodes:
        raise UserError(
            f"a batch of {batch_size} graphs may have {largest[0]:,} nodes, more than the largest bucket holds "
            f"(data.most_nodes={most_nodes:,}): choose a smaller batch_size, or allow more nodes"
        )
    found = {
        Bucket(max(-(-largest[0] >> part), least[0]) + 1, max(-(-largest[1] >> part), least[1], 1))
        for part in range(count)
    }
    return sorted(found)
