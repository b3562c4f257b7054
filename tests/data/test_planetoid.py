"""Planetoid's files: Cora where it is at hand, small sets written here, and everything that can be wrong with them."""

import functools
import hashlib
import http.server
import pickle
import shutil
import threading
from collections import OrderedDict, defaultdict
from pathlib import Path

import networkx
import numpy as np
import pytest
import scipy.sparse

from jaxdl.data import downloads, planetoid
from jaxdl.errors import UserError


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("PLANETOID_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


def small(leave_out=()):
    """The parts of a set of 3 training nodes, 4 others, and test nodes 7 to 11 without `leave_out`; the whole of it."""
    draw = np.random.default_rng(0)
    matrix = (draw.random((12, 6)) < 0.4).astype(np.float32)
    labels = np.eye(3, dtype=np.int32)[[0, 1, 2, 0, 1, 2, 0, 2, 2, 1, 0, 1]]
    test = [node for node in (9, 7, 11, 8, 10) if node not in leave_out]
    links = defaultdict(list, {node: [] for node in range(12)})
    for a, b in [(0, 1), (1, 2), (2, 3), (3, 7), (4, 11), (5, 6), (7, 11), (8, 0), (0, 1), (6, 6)]:
        if not {a, b} & set(leave_out):
            links[a].append(b)
            if (a, b) != (8, 0):  # one that the files have in one direction only
                links[b].append(a)
    parts = {
        "x": scipy.sparse.csr_matrix(matrix[:3]),
        "y": labels[:3],
        "allx": scipy.sparse.csr_matrix(matrix[:7]),
        "ally": labels[:7],
        "tx": scipy.sparse.csr_matrix(matrix[test]),
        "ty": labels[test],
        "graph": links,
        "test.index": "".join(f"{node}\n" for node in test),
    }
    return parts, matrix, labels, test


def write(folder, parts, name="small", protocol=4):
    folder.mkdir(exist_ok=True)
    for part, value in parts.items():
        content = value.encode() if isinstance(value, str) else pickle.dumps(value, protocol)
        (folder / f"ind.{name}.{part}").write_bytes(content)
    return str(folder)


def refused(folder, *says, name="small"):
    with pytest.raises(UserError) as caught:
        planetoid.read(name, str(folder))
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message, message


def edges_of(graph):
    return sorted(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))


def test_cora(planetoid_dir):
    graph = planetoid.read("cora", planetoid_dir)
    assert graph.features.shape == (2708, 1433) and graph.features.dtype == np.float32 and len(graph.senders) == 10556
    assert {split: len(rows) for split, rows in graph.splits.items()} == {"train": 140, "validation": 500, "test": 1000}
    assert np.bincount(graph.labels[graph.splits["train"]]).tolist() == [20] * 7
    assert graph.splits["validation"].tolist() == list(range(140, 640))
    assert graph.splits["test"].tolist() == list(range(1708, 2708))
    # How many papers of each topic: Sen et al. 2008's README of the same set.
    topics = "Case Based", "Genetic Algorithms", "Neural Networks", "Probabilistic Methods"
    counts = dict(zip(graph.names, np.bincount(graph.labels).tolist(), strict=True))
    assert [counts[topic] for topic in topics] == [298, 418, 818, 426]
    assert [counts[topic] for topic in ("Reinforcement Learning", "Rule Learning", "Theory")] == [217, 180, 351]

    # What GCN's own code makes of the files (github.com/tkipf/gcn), with networkx, row by row.
    def load(part):
        return pickle.loads((Path(planetoid_dir) / f"ind.cora.{part}").read_bytes(), encoding="latin1")

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        allx, tx, ally, ty, links = (load(part) for part in ("allx", "tx", "ally", "ty", "graph"))
    assert edges_of(graph) == sorted(networkx.from_dict_of_lists(links).to_directed().edges)
    test = [int(line) for line in (Path(planetoid_dir) / "ind.cora.test.index").read_text().split()]
    np.testing.assert_array_equal(graph.features[:1708].toarray(), allx.toarray())
    np.testing.assert_array_equal(graph.labels[:1708], ally.argmax(axis=1))
    for row, node in enumerate(test):
        assert graph.labels[node] == ty[row].argmax()
        assert graph.features[node].indices.tolist() == tx[row].indices.tolist()
    assert planetoid.read("cora", planetoid_dir).fingerprint == graph.fingerprint


def test_the_hashes_are_those_of_the_files(planetoid_dir, tmp_path):
    for file in downloads.FILES["cora"]:
        content = (Path(planetoid_dir) / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    for name in planetoid.KNOWN:
        assert {file.name for file in downloads.FILES[name]} == {f"ind.{name}.{part}" for part in planetoid.PARTS}


@pytest.mark.parametrize("leave_out", [(), (8,), (8, 10)])
def test_a_small_set(tmp_path, leave_out):
    """Also without some test nodes, as Citeseer is: they have no features, no class, no edges, and are in no split."""
    parts, matrix, labels, test = small(leave_out)
    graph = planetoid.read("small", write(tmp_path / "set", parts))
    matrix[list(leave_out)] = 0
    np.testing.assert_array_equal(graph.features.toarray(), matrix)
    wanted = [-1 if node in leave_out else int(labels[node].argmax()) for node in range(12)]
    assert graph.labels.tolist() == wanted and graph.names == tuple("012") and len(graph.ids) == 12
    assert edges_of(graph) == sorted(networkx.from_dict_of_lists(parts["graph"]).to_directed().edges)
    assert (6, 6) in edges_of(graph) and ((0, 8) in edges_of(graph)) == (8 not in leave_out)
    found = {split: rows.tolist() for split, rows in graph.splits.items()}
    assert found == {"train": [0, 1, 2], "validation": [3, 4, 5, 6], "test": sorted(test)}


def test_the_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANETOID_DATA_DIR", write(tmp_path / "set", small()[0]))
    assert len(planetoid.read("small").ids) == 12
    with pytest.raises(UserError, match=r"lacks ind.cora.x, "):
        planetoid.read("cora")


def test_another_set_under_a_known_name(tmp_path):
    write(tmp_path / "set", small()[0], "pubmed")
    refused(tmp_path / "set", "the files of pubmed have 12 nodes; valid: 19,717", name="pubmed")


def test_an_unknown_name_without_a_folder():
    with pytest.raises(UserError, match="unknown Planetoid data set 'corra'; did you mean 'cora'"):
        planetoid.read("corra")


def test_truncated_anywhere(tmp_path):
    folder = tmp_path / "set"
    write(folder, small()[0])
    for part in planetoid.PARTS:
        path = folder / f"ind.small.{part}"
        whole = path.read_bytes()
        for length in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:length])
            refused(folder, part)
        path.write_bytes(whole)
    assert planetoid.read("small", str(folder)).labels.tolist()


def test_truncated_cora(tmp_path, planetoid_dir):
    for part in planetoid.PARTS:
        shutil.copyfile(Path(planetoid_dir) / f"ind.cora.{part}", tmp_path / f"ind.cora.{part}")
    for part in planetoid.PARTS:
        path = tmp_path / f"ind.cora.{part}"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2 + 1])
        refused(tmp_path, f"ind.cora.{part}", name="cora")
        path.unlink()
        refused(tmp_path, f"lacks ind.cora.{part}; valid", name="cora")
        path.write_bytes(whole)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_nothing_is_run(tmp_path, protocol):
    trap = tmp_path / "executed"
    parts = small()[0]
    for part in planetoid.PARTS[:-1]:
        for value in (Harmful(trap), [parts[part], Harmful(trap)], np.array([Harmful(trap)], dtype=object)):
            write(tmp_path / "set", parts)
            (tmp_path / "set" / f"ind.small.{part}").write_bytes(pickle.dumps(value, protocol))
            refused(tmp_path / "set", f"ind.small.{part} asks for ", "could run code; nothing was run")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Harmful(trap), protocol)).close()  # the trap does work
    assert trap.exists()


FORBIDDEN = {
    "eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "getattr": b"c__builtin__\ngetattr\n.",
    "os.system": b"cposix\nsystem\n(S'true'\ntR.",
    "numpy's loader of pickles": b"cnumpy\nload\n.",
    "numpy's testing": b"cnumpy.testing._private.utils\nrunstring\n.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "OrderedDict": pickle.dumps(OrderedDict()),
    "other matrices": pickle.dumps(scipy.sparse.coo_matrix((2, 2))),
    "class instance": b"(ios\nsystem\n.",
    "persistent id": b"Pname\n.",
}


@pytest.mark.parametrize("content", FORBIDDEN.values(), ids=FORBIDDEN)
def test_other_names_are_refused(tmp_path, content):
    write(tmp_path / "set", small()[0])
    (tmp_path / "set" / "ind.small.x").write_bytes(content)
    refused(tmp_path / "set", "ind.small.x")


def csr(**changes):
    matrix = scipy.sparse.csr_matrix(small()[0]["x"])
    vars(matrix).update(changes)
    return matrix


ONES = np.ones((3, 3), np.int32)
WRONG = {
    "no matrix": ({"x": np.zeros((3, 6))}, ["ind.small.x holds a ndarray"]),
    "no labels": ({"y": [0, 1, 2]}, ["ind.small.y holds no table of labels"]),
    "not one-hot": ({"y": ONES}, ["ind.small.y: row 0 is not one-hot"]),
    "no dictionary": ({"graph": [[1], [0]]}, ["ind.small.graph holds no dictionary"]),
    "no neighbours": ({"graph": {0: 1}}, ["ind.small.graph holds no dictionary"]),
    "node 12": ({"graph": {0: [1, 12]}}, ["node 0 has an edge to 12; valid: nodes from 0 to 11"]),
    "node -1": ({"graph": {-1: [0]}}, ["node -1 has an edge to -1"]),
    "text": ({"graph": {0: ["a"]}}, ["node 0 has an edge to a"]),
    "no edges": ({"graph": {}}, ["small has no edges"]),
    "rows": ({"x": scipy.sparse.csr_matrix((2, 6))}, ["ind.small.x has 2 rows", "ind.small.y has 3 rows"]),
    "columns": ({"x": scipy.sparse.csr_matrix((3, 5))}, ["ind.small.x has 5 columns", "ind.small.allx has 6"]),
    "classes": ({"y": np.eye(4)[:3]}, ["ind.small.y has 4 columns", "ind.small.ally has 3"]),
    "indices beyond": ({"x": csr(indices=np.array([99, 1, 2, 3]))}, ["ind.small.x is damaged"]),
    "rows beyond": ({"x": csr(indptr=np.array([0, 50, 60, 10**9]))}, ["ind.small.x is damaged"]),
    "NaN": ({"allx": scipy.sparse.csr_matrix(np.full((7, 6), np.nan))}, ["feature 0 of node 0 is nan"]),
    "text in index": ({"test.index": "9\n7\nelf\n8\n10\n"}, ["test.index line 3 is 'elf'"]),
    "training node": ({"test.index": "9\n7\n6\n8\n10\n"}, ["test.index line 3 is '6'", "from 7 on"]),
    "twice": ({"test.index": "9\n7\n9\n8\n10\n"}, ["test.index has the node 9 twice"]),
    "too far": ({"test.index": "9\n7\n999999999\n8\n10\n"}, ["test.index has the node 999,999,999"]),
    "too few": ({"test.index": "9\n7\n8\n10\n"}, ["test.index has 4 lines", "ind.small.tx has 5 rows"]),
    "no test": ({"test.index": "\n"}, ["test.index is empty"]),
}


@pytest.mark.parametrize(("changes", "says"), WRONG.values(), ids=WRONG)
def test_parts_that_do_not_fit(tmp_path, changes, says):
    refused(write(tmp_path / "set", small()[0] | changes), *says)


def test_bytes_behind_the_end(tmp_path):
    write(tmp_path / "set", small()[0])
    with (tmp_path / "set" / "ind.small.x").open("ab") as file:
        file.write(b"more")
    refused(tmp_path / "set", "ind.small.x has 4 bytes behind its end")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}/"
        one.shutdown()
        thread.join()


@pytest.mark.parametrize("pinned", [True, False])
def test_a_set_is_downloaded_on_first_use(tmp_path, monkeypatch, server, pinned, capsys):
    parts = small()[0]
    write(tmp_path / "served", parts, "cora")
    files = []
    for path in sorted((tmp_path / "served").iterdir()):
        content = path.read_bytes()
        pin = (len(content), hashlib.sha256(content).hexdigest()) if pinned else (0, "")
        files.append(downloads.File(path.name, *pin, (server,)))
    monkeypatch.setitem(downloads.FILES, "cora", tuple(files))
    shape = planetoid.KNOWN["cora"]._replace(nodes=12, features=6, train=3, names=tuple("abc"))
    monkeypatch.setitem(planetoid.KNOWN, "cora", shape)
    graph = planetoid.read("cora")
    assert len(graph.ids) == 12 and graph.names == ("a", "b", "c")
    said = capsys.readouterr().err
    assert said.startswith("downloading cora: ") and ("no pinned hash; its SHA-256 is" in said) != pinned
    shutil.rmtree(tmp_path / "served")
    assert planetoid.read("cora").fingerprint == graph.fingerprint
    assert capsys.readouterr().err == ""
