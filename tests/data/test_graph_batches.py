"""The shapes of batches of graphs: few, and none too small."""

import numpy as np
import pytest

from jaxdl.data.graph_batches import buckets
from jaxdl.errors import UserError

NODES = np.random.default_rng(0).integers(1, 40, 60)
ENTRIES = NODES * np.random.default_rng(1).integers(0, 5, 60)


@pytest.mark.parametrize("size", [1, 8, 60])
def test_shapes_are_few_and_the_largest_holds_every_batch(size):
    draw = np.random.default_rng(2)
    for count in (1, 2, 3):
        found = buckets(NODES, ENTRIES, size, count)
        assert 1 <= len(found) <= count and found == sorted(found)
        assert found[-1].nodes == np.sort(NODES)[-size:].sum() + 1
        assert found[-1].entries == np.sort(ENTRIES)[-size:].sum()
        taken = set()
        for _ in range(50):
            rows = draw.choice(60, size, replace=False)
            fits = [each for each in found if NODES[rows].sum() < each.nodes and ENTRIES[rows].sum() <= each.entries]
            taken.add(fits[0])
        if size == 8 and count == 3:
            assert len(taken) > 1  # they are of use


def test_a_batch_may_be_larger_than_the_set():
    assert buckets(NODES, ENTRIES, 1000, 1)[0].nodes == NODES.sum() + 1


def test_graphs_without_edges_have_room_for_one_entry():
    assert buckets(np.ones(3, int), np.zeros(3, int), 2, 1)[0].entries == 1


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match="0 buckets are not possible"):
        buckets(NODES, ENTRIES, 4, 0)
    largest = np.sort(NODES)[-4:].sum()
    assert buckets(NODES, ENTRIES, 4, 1, most_nodes=largest)
    with pytest.raises(UserError, match=f"a batch of 4 graphs may have {largest} nodes, more than the largest bucket"):
        buckets(NODES, ENTRIES, 4, 1, most_nodes=largest - 1)
