"""Graphs by name: what settings make of them, and what they refuse."""

import numpy as np
import pytest

from configs import sections
from jaxdl import data
from jaxdl.errors import UserError
from jaxdl.study.config import Config


def settings(name="block_model", blocks=(), **changes):
    values = sections.graph(name) | changes
    values["blocks"] |= dict(blocks)
    return Config(values)


def test_blocks_have_the_degree_and_the_homophily_that_are_asked_for():
    graph = data.node_source(settings(blocks=dict(classes=5, nodes=4000, degree=12.0, homophily=0.7))).graph
    assert len(graph.senders) / len(graph.ids) == pytest.approx(12, rel=0.03)
    assert (graph.labels[graph.senders] == graph.labels[graph.receivers]).mean() == pytest.approx(0.7, abs=0.02)
    np.testing.assert_array_equal(np.bincount(graph.labels), [800] * 5)


def test_a_split_is_random_or_official(tmp_path):
    source = data.node_source(settings(train=3, validation=5))
    assert [len(source.data[split]["member"]) for split in source.data] == [12, 20, 400 - 32]
    with pytest.raises(UserError, match="block_model has no official train and no validation and no test nodes"):
        data.node_source(settings(), "public")
    nodes = np.arange(12)
    np.savez(
        tmp_path / "ring.npz", edges=np.stack([nodes, (nodes + 1) % 12], axis=1), y=nodes % 2, x=np.eye(12),
        train=nodes[:4], validation=nodes[4:8], test=nodes[8:],
    )  # fmt: skip
    public = data.node_source(settings("graph_npz", dir=str(tmp_path / "ring.npz"), split="public"))
    np.testing.assert_array_equal(public.data["validation"]["member"], nodes[4:8])
    assert public.prepare is None and public.batch_size == 4 and len(public.graph.senders) == 24


def test_random_splits_are_of_the_largest_component_if_that_is_asked_for(tmp_path):
    (tmp_path / "nodes.csv").write_text("id,label\n" + "".join(f"n{i},{'ab'[i % 2]}\n" for i in range(11)))
    (tmp_path / "edges.csv").write_text("".join(f"n{i},n{i + 1}\n" for i in range(7)) + "n8,n9\nn9,n10\n")
    given = dict(dir=str(tmp_path), train=1, validation=1)
    whole = data.node_source(settings("graph_csv", **given, largest_component=False)).graph
    part = data.node_source(settings("graph_csv", **given)).graph
    assert whole.ids == tuple(f"n{i}" for i in range(11)) and part.ids == whole.ids[:8]


def test_rows_are_normalised_on_demand():
    plain = data.node_source(settings("karate_club", train=1, validation=3)).graph
    rows = data.node_source(settings("karate_club", train=1, validation=3, normalise="rows")).graph
    np.testing.assert_array_equal(plain.features.toarray(), rows.features.toarray())  # one 1 in each row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(name="coar"), "unknown graph 'coar'; did you mean 'cora'"),
        (dict(split="pubic"), "unknown data.split 'pubic'; did you mean 'public'"),
        (dict(normalise="row"), "unknown data.normalise 'row'; did you mean 'rows'"),
        (dict(name="graph_csv"), "data.name=graph_csv needs data.dir: a folder with nodes.csv and edges.csv"),
        (dict(train=200), "a random split with 200 nodes of each class to train on"),
        (dict(blocks=dict(nodes=401)), "blocks of 401 nodes in 4 classes are not possible"),
        (dict(blocks=dict(classes=1)), "blocks of 400 nodes in 1 classes are not possible"),
        (dict(blocks=dict(degree=1000.0)), "edges would have the probabilities 8.08081 within a class"),
        (dict(blocks=dict(homophily=1.5)), "edges would have the probabilities .* and -0.0133333 between two"),
        (dict(blocks=dict(degree=0.0)), "the block model has no edges"),
    ],
)
def test_what_is_not_possible_is_told_on_one_line(change, message):
    name = change.pop("name", "block_model")
    with pytest.raises(UserError, match=message) as error:
        data.node_source(settings(name, **change))
    assert "\n" not in str(error.value)
