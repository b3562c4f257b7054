"""Users' graphs in tables and .npz files, and TU folders: what is read, against plain loops, and every mistake."""

import pickle

import numpy as np
import pytest

from jaxdl.data import graph_files
from jaxdl.errors import UserError

NODES = """name,height,kind,split,width
Ann,1,x,train,2
17,3,y,train,4.5
b-2,5,,,6
Åse,7,x,test,8
Ann 2,9,y,validation,10
"""
EDGES = """from,to,weight
Ann,17,0.5
17,b-2,1.5
Åse,Åse,2
Ann 2,Åse,-1
Ann,17,3
"""


def write(folder, nodes=NODES, edges=EDGES):
    folder.mkdir(exist_ok=True)
    (folder / "nodes.csv").write_text(nodes)
    (folder / "edges.csv").write_text(edges)
    return str(folder)


def refused(read, *says):
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message, message


def edges_of(graph):
    """(sender, receiver, features) of each edge by the ids of the nodes, sorted."""
    values = [()] * len(graph.senders) if graph.edges is None else map(tuple, graph.edges.tolist())
    ends = zip(graph.senders, graph.receivers, values, strict=True)
    return sorted((graph.ids[a], graph.ids[b], value) for a, b, value in ends)


def test_tables(tmp_path):
    graph = graph_files.csv(write(tmp_path / "set"), "kind")
    assert graph.ids == ("Ann", "17", "b-2", "Åse", "Ann 2") and graph.names == ("x", "y")
    assert graph.features.dtype == np.float32 and graph.features.tolist() == [[1, 2], [3, 4.5], [5, 6], [7, 8], [9, 10]]
    assert graph.labels.tolist() == [0, 1, -1, 0, 1]
    assert {split: rows.tolist() for split, rows in graph.splits.items()} == {
        "train": [0, 1],
        "validation": [4],
        "test": [3],
    }
    given = [("Ann", "17", 0.5), ("17", "b-2", 1.5), ("Ann 2", "Åse", -1.0), ("Ann", "17", 3.0)]
    wanted = [(a, b, (w,)) for a, b, w in given] + [(b, a, (w,)) for a, b, w in given] + [("Åse", "Åse", (2.0,))]
    assert edges_of(graph) == sorted(wanted)
    directed = graph_files.csv(str(tmp_path / "set"), "kind", directed=True)
    assert edges_of(directed) == sorted([(a, b, (w,)) for a, b, w in given] + [("Åse", "Åse", (2.0,))])
    assert directed.fingerprint != graph.fingerprint


def test_edges_that_are_there_both_ways_stay_as_they_are(tmp_path):
    both = "Ann,17\n17,Ann\nÅse,17\n17,Åse\nAnn 2,Ann 2\n"
    graph = graph_files.csv(write(tmp_path / "set", edges=both), "kind")
    assert len(graph.senders) == 5 and graph.edges is None
    once = graph_files.csv(write(tmp_path / "set", edges=both + "Ann,17\n"), "kind")
    assert len(once.senders) == 11


def test_numbers_as_ids_and_no_features(tmp_path):
    """Ids that are not consecutive are mapped; which is which stays in `ids`. A first row of numbers is no header."""
    nodes = "id;label\n1000000007;1\n-3;0\n42;1\n7;0\n"
    graph = graph_files.csv(write(tmp_path / "set", nodes, "42;7\n-3;1000000007\n"), "label")
    assert graph.ids == ("1000000007", "-3", "42", "7") and graph.labels.tolist() == [1, 0, 1, 0]
    assert graph.senders.tolist() == [2, 1, 3, 0] and graph.receivers.tolist() == [3, 0, 2, 1]
    np.testing.assert_array_equal(graph.features.toarray(), np.eye(4))


BAD_TABLES = {
    "no edges": ({"edges": ""}, ["edges.csv has no edges; valid: at least one row"]),
    "only names": ({"edges": "from,to\n"}, ["edges.csv has no edges"]),
    "unknown node": ({"edges": EDGES + "Ann,18,1\n"}, ["edges.csv line 7", "no '18'", "did you mean '17'"]),
    "unknown in the first row": ({"edges": "Ann,Bob\n"}, ["edges.csv line 1", "'Bob'"]),
    "unknown number first": ({"edges": "1,2\n"}, ["edges.csv line 1", "'1'"]),
    "only text": ({"edges": "This is a letter.\n"}, ["edges.csv line 1 has 1 cell"]),
    "text": ({"edges": "Dear Ann, how are you?\nI am fine, thanks.\n"}, ["edges.csv line 2", "'I am fine'"]),
    "text as weight": ({"edges": EDGES + "Ann,17,heavy\n"}, ["edges.csv line 7: column 'weight' holds 'heavy'"]),
    "NaN weight": ({"edges": "Ann,17,nan\n"}, ["edges.csv line 1: column '3' holds 'nan'"]),
    "ragged": ({"edges": EDGES + "Ann,17\n"}, ["edges.csv line 7 has 2 cells; valid: 3"]),
    "no nodes": ({"nodes": "id,kind\n"}, ["nodes.csv has no nodes"]),
    "empty nodes": ({"nodes": ""}, ["nodes.csv is empty"]),
    "NaN feature": ({"nodes": NODES.replace("4.5", "nan")}, ["nodes.csv line 3: column 'width' holds 'nan'"]),
    "text feature": ({"nodes": NODES.replace("4.5", "wide")}, ["nodes.csv line 3: column 'width' holds 'wide'"]),
    "ragged nodes": ({"nodes": NODES + "Eve,1,x\n"}, ["nodes.csv line 7 has 3 cells; valid: 5"]),
    "same id": ({"nodes": NODES + "17,1,x,,2\n"}, ["nodes.csv line 7: a second node is called '17'"]),
    "no id": ({"nodes": NODES + ",1,x,,2\n"}, ["nodes.csv line 7: the id 'name' is empty"]),
    "split": ({"nodes": NODES + "Eve,1,x,tests,2\n"}, ["nodes.csv line 7", "'tests'", "did you mean 'test'"]),
    "split without class": ({"nodes": NODES + "Eve,1,,test,2\n"}, ["nodes.csv line 7 is in test without a class"]),
    "no such label": ({"nodes": NODES.replace("kind", "kinds")}, ["label column", "'kind'", "did you mean 'kinds'"]),
    "one class": ({"nodes": NODES.replace(",y,", ",x,")}, ["the label 'kind' is 'x' in every row; valid: two classes"]),
    "no class": ({"nodes": "a,kind\n1,\n2,\n"}, ["the label 'kind' is empty in every row"]),
}


@pytest.mark.parametrize(("changes", "says"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables(tmp_path, changes, says):
    folder = write(tmp_path / "set", **changes)
    refused(lambda: graph_files.csv(folder, "kind"), *says)


def test_missing_tables(tmp_path):
    refused(lambda: graph_files.csv("", "kind"), "'' is no folder; valid: a folder with the tables nodes.csv")
    refused(lambda: graph_files.csv(str(tmp_path), "kind"), "nodes.csv", "No such file")
    write(tmp_path)
    (tmp_path / "edges.csv").unlink()
    refused(lambda: graph_files.csv(str(tmp_path), "kind"), "edges.csv", "No such file")


ARRAYS = {
    "edges": np.array([[0, 1], [1, 2], [3, 3]]),
    "x": np.arange(8).reshape(4, 2),
    "y": np.array([5, 9, -1, 5]),
    "edge_x": np.array([[1.0], [2], [3]]),
    "train": np.array([0, 1]),
    "test": np.array([False, False, False, True]),
}


def save(folder, **changes):
    arrays = {name: array for name, array in (ARRAYS | changes).items() if array is not None}
    np.savez(folder / "graph.npz", **arrays)
    return graph_files.npz(str(folder / "graph.npz"))


def test_npz(tmp_path):
    graph = save(tmp_path)
    assert graph.ids == (0, 1, 2, 3) and graph.names == ("5", "9") and graph.labels.tolist() == [0, 1, -1, 0]
    wanted = [(0, 1, (1.0,)), (1, 0, (1.0,)), (1, 2, (2.0,)), (2, 1, (2.0,)), (3, 3, (3.0,))]
    assert edges_of(graph) == wanted and graph.features.tolist() == ARRAYS["x"].tolist()
    assert {split: rows.tolist() for split, rows in graph.splits.items()} == {"train": [0, 1], "test": [3]}
    directed = graph_files.npz(str(tmp_path / "graph.npz"), directed=True)
    assert directed.senders.tolist() == [0, 1, 3] and directed.receivers.tolist() == [1, 2, 3]
    bare = save(tmp_path, x=None, edge_x=None, train=None, test=None)
    assert bare.edges is None and bare.splits == {} and (bare.features.toarray() == np.eye(4)).all()


@pytest.mark.parametrize("ids", [np.array([70, -3, 9, 10**12]), np.array(["a", "b b", "ü", "0"])])
def test_npz_with_ids(tmp_path, ids):
    graph = save(tmp_path, ids=ids, edges=ids[ARRAYS["edges"]])
    plain = save(tmp_path)
    assert graph.ids == tuple(ids.tolist())
    np.testing.assert_array_equal(graph.senders, plain.senders)
    np.testing.assert_array_equal(graph.receivers, plain.receivers)


BAD_ARRAYS = {
    "no such node": (
        {"edges": np.array([[0, 4]]), "edge_x": None},
        ["goes from node 0 to node 4; valid: nodes from 0 to 3"],
    ),
    "negative": ({"edges": np.array([[0, -1]]), "edge_x": None}, ["goes from node 0 to node -1"]),
    "id": (
        {"ids": np.array([1, 2, 3, 5]), "edges": np.array([[1, 4]]), "edge_x": None},
        ["ids has no '4'", "valid: 1, 2, 3, 5"],
    ),
    "same ids": ({"ids": np.array([1, 2, 2, 5])}, ["ids holds '2' twice"]),
    "no edges": ({"edges": np.zeros((0, 2), int), "edge_x": None}, ["graph.npz has no edges"]),
    "missing": ({"edges": None}, ["holds no array edges; valid: edges and y"]),
    "no nodes": ({"x": np.zeros((0, 2)), "y": np.zeros(0, int), "test": None, "train": None}, ["has no nodes"]),
    "unknown": ({"z": np.zeros(3)}, ["the array 'z' is none of the valid ones"]),
    "NaN": ({"x": np.array([[0, np.nan]] * 4)}, ["feature 1 of node 0 is nan"]),
    "NaN of edges": ({"edge_x": np.array([[0], [np.nan], [0]])}, ["feature 0 of edge 1 is nan"]),
    "one class": ({"y": np.array([3, 3, -1, 3])}, ["only the class 3"]),
    "float classes": ({"y": np.array([0.5, 1, 2, 3])}, ["y holds float64; valid: whole numbers"]),
    "float edges": ({"edges": np.array([[0.5, 1]]), "edge_x": None}, ["edges holds float64; valid: whole numbers"]),
    "negative class": ({"y": np.array([-2, 1, 2, 3])}, ["y holds -2 to 3; valid: 0 to 9,999"]),
    "text features": ({"x": np.array([["a"]] * 4)}, ["x holds <U1; valid: numbers"]),
    "lengths": ({"y": np.array([0, 1, 1])}, ["y has the shape [3]; valid: [4]"]),
    "triples": ({"edges": np.zeros((3, 3), int)}, ["edges has the shape [3, 3]; valid: [any, 2]"]),
    "edge features": ({"edge_x": np.zeros((2, 1))}, ["edge_x has the shape [2, 1]; valid: [3, any]"]),
    "row 4": ({"train": np.array([0, 4])}, ["train holds rows that no node has"]),
    "row twice": ({"train": np.array([0, 0])}, ["train holds rows", "one twice"]),
    "unknown class": ({"train": np.array([0, 2])}, ["train holds rows", "without a class"]),
    "mask": ({"train": np.array([True, False])}, ["train is bool[2]; valid: rows, or a mask"]),
}


@pytest.mark.parametrize(("changes", "says"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays(tmp_path, changes, says):
    refused(lambda: save(tmp_path, **changes), "graph.npz", *says)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_refused_and_never_executed(tmp_path):
    trap = tmp_path / "executed"
    refused(lambda: save(tmp_path, ids=np.array([Harmful(trap)] * 4, object)), "ids.npy holds pickled Python objects")
    (tmp_path / "graph.npz").write_bytes(pickle.dumps(Harmful(trap)))
    refused(lambda: graph_files.npz(str(tmp_path / "graph.npz")), "graph.npz is damaged")
    assert not trap.exists()
    refused(lambda: graph_files.npz(str(tmp_path / "other.npz")), "there is no file")


TU = {
    "A": "1, 2\n2, 1\n2, 2\n4, 5\n5, 4\n",
    "graph_indicator": "1\n1\n2\n3\n3\n3\n",
    "graph_labels": "1\n-1\n1\n",
    "node_labels": "0\n5\n2\n2\n0\n5\n",
    "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, 1e-3\n",
    "edge_labels": "3\n3\n7\n3\n7\n",
}


def write_tu(folder, **changes):
    folder.mkdir(exist_ok=True)
    for part, text in (TU | changes).items():
        if text is not None:
            (folder / f"TINY_{part}.txt").write_text(text)
    return str(folder)


def test_tu(tmp_path):
    graph = graph_files.tu(write_tu(tmp_path / "set"))
    assert graph.sizes.tolist() == [2, 1, 3] and graph.labels.tolist() == [1, 0, 1] and graph.names == ("-1", "1")
    assert graph.senders.tolist() == [0, 1, 1, 3, 4] and graph.receivers.tolist() == [1, 0, 1, 4, 3]
    one_hot = {0: [1, 0, 0], 2: [0, 1, 0], 5: [0, 0, 1]}
    wanted = [[k + 0.5, k + 1 if k < 5 else 1e-3, *one_hot[label]] for k, label in enumerate([0, 5, 2, 2, 0, 5])]
    np.testing.assert_array_equal(graph.features, np.array(wanted, np.float32))
    assert graph.edges.tolist() == [[1, 0], [1, 0], [0, 1], [1, 0], [0, 1]]
    bare = graph_files.tu(write_tu(tmp_path / "bare", node_labels=None, node_attributes=None, edge_labels=None))
    assert bare.features.tolist() == [[1]] * 6 and bare.edges is None


BAD_TU = {
    "node 7": ({"A": "1, 2\n7, 2\n"}, ["TINY_A.txt line 2", "the nodes 7 and 2; valid: 1 to 6"]),
    "node 0": ({"A": "0, 2\n"}, ["TINY_A.txt line 1", "the nodes 0 and 2"]),
    "two graphs": ({"A": "1, 2\n2, 3\n"}, ["TINY_A.txt line 2: an edge between nodes of two graphs"]),
    "text": ({"A": "1, two\n"}, ["TINY_A.txt is no table of numbers", "two"]),
    "ragged": ({"A": "1, 2\n1\n"}, ["TINY_A.txt is no table of numbers"]),
    "one column": ({"A": "1\n2\n"}, ["TINY_A.txt has 1 numbers in a line"]),
    "no edges": ({"A": "\n"}, ["TINY_A.txt is empty"]),
    "no nodes": ({"graph_indicator": ""}, ["TINY_graph_indicator.txt is empty"]),
    "graph 4": ({"graph_indicator": "1\n1\n2\n3\n3\n4\n"}, ["graph_indicator.txt does not fit", "from 1 to 3"]),
    "mixed": ({"graph_indicator": "1\n2\n1\n3\n3\n3\n"}, ["graph_indicator.txt does not fit", "ascending"]),
    "empty graph": ({"graph_indicator": "1\n1\n3\n3\n3\n3\n"}, ["graph 2 has no nodes"]),
    "one class": ({"graph_labels": "1\n1\n1\n"}, ["only the class 1"]),
    "float class": ({"graph_labels": "1.5\n1\n1\n"}, ["TINY_graph_labels.txt is no table of numbers"]),
    "no classes": ({"graph_labels": None}, ["there is no file", "TINY_graph_labels.txt"]),
    "lengths": ({"node_labels": "0\n1\n"}, ["TINY_node_labels.txt has 2 lines; valid: 6"]),
    "edge lengths": ({"edge_labels": "0\n1\n"}, ["TINY_edge_labels.txt has 2 lines; valid: 5"]),
    "NaN": ({"node_attributes": "1\n2\nnan\n4\n5\n6\n"}, ["feature 0 of node 2 is nan"]),
}


@pytest.mark.parametrize(("changes", "says"), BAD_TU.values(), ids=BAD_TU)
def test_bad_tu(tmp_path, changes, says):
    folder = write_tu(tmp_path / "set", **changes)
    refused(lambda: graph_files.tu(folder), *says)


def test_folders_that_are_no_tu_set(tmp_path):
    refused(lambda: graph_files.tu(str(tmp_path)), "holds 0 files *_A.txt")
    refused(lambda: graph_files.tu(""), "'' holds 0 files *_A.txt")
    (tmp_path / "B_A.txt").touch()
    refused(lambda: graph_files.tu(write_tu(tmp_path)), "holds 2 files *_A.txt")
