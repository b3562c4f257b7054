"""Families of graphs: what is equal in all of them, what is not, and folds."""

import networkx
import numpy as np
import pytest

from jaxdl.data import graph_families, members
from jaxdl.errors import UserError


@pytest.fixture(scope="module")
def families():
    return graph_families.read(30, 0)


def apart(graph):
    """Each graph as networkx holds it."""
    start = np.cumsum(graph.sizes) - graph.sizes
    for first, size in zip(start, graph.sizes, strict=True):
        one = networkx.Graph()
        one.add_nodes_from(range(first, first + size))
        inside = (graph.senders >= first) & (graph.senders < first + size)
        one.add_edges_from(zip(graph.senders[inside].tolist(), graph.receivers[inside].tolist(), strict=True))
        yield one


def test_counts_say_nothing_and_degrees_do(families):
    spread = {name: [] for name in families.names}
    for label, size, one in zip(families.labels, families.sizes, apart(families), strict=True):
        degrees = np.array([degree for _, degree in one.degree])
        assert (len(one), one.number_of_edges()) == (size, 2 * size - 4) and degrees.min() > 0
        spread[families.names[label]].append(degrees.std())
    sizes = families.sizes.reshape(-1, 3)  # graph k of each family
    assert (sizes == sizes[:, :1]).all() and len(np.unique(sizes)) > 5
    means = {name: np.mean(values) for name, values in spread.items()}
    assert means["near-regular"] < means["uniform"] < means["preferential"]
    assert (families.features == 1).all() and np.bincount(families.labels).tolist() == [30] * 3


def test_the_same_on_every_machine(families):
    assert families.fingerprint.startswith("f351d7792d27c914")
    assert graph_families.read(30, 1).fingerprint != families.fingerprint


def test_one_split_of_all_runs_has_so_many_of_each_class(families):
    source = members.of_graphs("families", families, 10, 15, 5)
    parts = [source.data[split]["member"] for split in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(90))
    assert [np.bincount(families.labels[part]).tolist() for part in parts] == [[15] * 3, [5] * 3, [10] * 3]
    assert source.steps_per_epoch == 4 and source.prepare is None and source.width == 1


def test_every_graph_is_held_out_once_but_for_those_left_over(families):
    source = members.in_folds("families", families, 10, 7)  # 7 folds of 12, 6 graphs are left over
    held = []
    for seed in range(7):
        run = {"seed": np.uint32(seed)}
        parts = {split: source.prepare(run, source.data[split]) for split in source.data}
        train, test = (np.asarray(parts[split]["member"]) for split in ("train", "test"))
        np.testing.assert_array_equal(parts["validation"]["member"], test)
        np.testing.assert_array_equal(parts["test"]["label"], families.labels[test])
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(90)) and len(test) == 12
        assert np.abs(np.bincount(families.labels[test]) - 30 / 7).max() < 1.5  # of each class about as many
        held += test.tolist()
    assert len(set(held)) == len(held) == 84
    again = source.prepare({"seed": np.uint32(7)}, source.data["test"])["member"]
    assert sorted(np.asarray(again).tolist()) == sorted(held[:12])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda graph: members.in_folds("families", graph, 10, 91), "91 folds are not possible: valid is 2 to 90"),
        (lambda graph: members.in_folds("families", graph, 81, 10), "batch_size=81 is not possible: valid is 1 to 81"),
        (lambda graph: members.of_graphs("families", graph, 0, 15, 5), "batch_size=0 is not possible"),
        (lambda graph: members.of_graphs("families", graph, 10, 25, 5), "a random split with 25 nodes of each class"),
    ],
)
def test_what_does_not_fit_is_told(make, message, families):
    if "valid is 1 to 81" in message:
        members.in_folds("families", families, 81, 10)
        make, message = lambda graph: members.in_folds("families", graph, 82, 10), message.replace("=81", "=82")
    with pytest.raises(UserError, match=message):
        make(families)
