"""Cora, Citeseer and PubMed in the files that Planetoid's authors publish (Yang et al. 2016, arXiv 1603.08861).

    FOLDER/ind.NAME.{x,y,tx,ty,allx,ally,graph,test.index}    pickles of Python 2, and one file of text

Papers with a citation graph among them: bags of words, and the paper's topic to be found.
"""

import io
import os
import pickle
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from jaxdl.data import downloads, graphs
from jaxdl.data.cache import line
from jaxdl.errors import UserError, unknown

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
VALIDATION = 500  # nodes, those after the training nodes: Kipf & Welling 2017 (arXiv 1609.02907)
_AGAIN = "copy or download it again"


class _Known(NamedTuple):
    nodes: int
    features: int
    train: int  # 20 of each class
    names: tuple[str, ...]


# Citeseer's and PubMed's classes have numbers only: which is which, the files do not tell.
KNOWN = {
    "cora": _Known(
        nodes=2708,
        features=1433,
        train=140,
        names=(
            "Theory",
            "Reinforcement Learning",
            "Genetic Algorithms",
            "Neural Networks",
            "Probabilistic Methods",
            "Case Based",
            "Rule Learning",
        ),
    ),
    "citeseer": _Known(nodes=3327, features=3703, train=120, names=tuple("012345")),
    "pubmed": _Known(nodes=19717, features=500, train=60, names=tuple("012")),
}


def read(name: str, folder: str = "") -> graphs.Graph:
    """One of KNOWN, or any other set whose files are called and laid out as theirs.

    folder: holds the files; '' takes the environment variable PLANETOID_DATA_DIR, else downloads those of KNOWN

    Features are float32 CSR [N, F], as published (GCN's row normalisation is `graphs.row_normalised`). The edges are
    undirected, each once in both directions, whichever of them the files have and how often; self-loops once. A test
    node that the files leave out (Citeseer has 15) keeps its number: its features are 0, it has no known class, and
    it is in no split. The public split trains on the first nodes (20 of each class), validates on the next 500, and
    tests on the nodes in test.index.

    Raises UserError, which names the file, for files that are missing, cut, damaged or do not fit together, and for
    pickles that hold anything but arrays, sparse matrices, dictionaries, lists and numbers: nothing in them is run.
    """
    folder = folder or os.environ.get("PLANETOID_DATA_DIR", "")
    if not folder and name not in KNOWN:
        raise unknown("Planetoid data set", name, KNOWN)
    place = Path(folder).expanduser() if folder else downloads.fetch(name)
    paths = {part: place / f"ind.{name}.{part}" for part in PARTS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(f"{place} lacks {', '.join(missing)}; valid: the folder of ind.{name}.x and its seven siblings")
    features = {part: _matrix(paths[part]) for part in ("x", "tx", "allx")}
    labels = {part: _labels(paths[part]) for part in ("y", "ty", "ally")}
    for part, other in (("x", "y"), ("tx", "ty"), ("allx", "ally")):
        _same(paths[part], features[part].shape[0], "rows", paths[other], len(labels[other]), "rows")
    for part, wholes in (("x", features), ("tx", features), ("y", labels), ("ty", labels)):
        whole = "all" + part[-1]
        _same(paths[part], wholes[part].shape[1], "columns", paths[whole], wholes[whole].shape[1], "columns")
    given = len(labels["ally"])
    if len(labels["y"]) > given:
        raise UserError(f"{paths['y']} has {len(labels['y'])} rows, {paths['ally']} only {given}; {_AGAIN}")
    test = _test_index(paths["test.index"], given)
    _same(paths["test.index"], len(test), "lines", paths["tx"], features["tx"].shape[0], "rows")

    count = max(given, int(test.max()) + 1)
    rows = np.concatenate([np.arange(given), test])
    stacked = scipy.sparse.vstack([features["allx"], features["tx"]]).tocoo()
    # Row numbers are looked up, not sorted: the rows of tx come in the order of test.index.
    matrix = scipy.sparse.csr_matrix((stacked.data, (rows[stacked.row], stacked.col)), (count, stacked.shape[1]))
    classes = np.full(count, -1, np.int32)
    classes[rows] = np.concatenate([labels["ally"], labels["ty"]]).argmax(axis=1)
    senders, receivers = _edges(paths["graph"], count)

    train, width = len(labels["y"]), labels["ally"].shape[1]
    known = KNOWN.get(name) or _Known(count, matrix.shape[1], train, tuple(map(str, range(width))))
    for what, value, wanted in (
        ("nodes", count, known.nodes),
        ("features", matrix.shape[1], known.features),
        ("training nodes", train, known.train),
        ("classes", width, len(known.names)),
    ):
        if value != wanted:
            raise UserError(f"{place}: the files of {name} have {value:,} {what}; valid: {wanted:,}; {_AGAIN}")
    splits = {
        "train": np.arange(train),
        "validation": np.arange(train, min(train + VALIDATION, given)),
        "test": np.sort(test),
    }
    return graphs.checked(name, matrix, senders, receivers, classes, known.names, splits=splits)


def _same(path: Path, here: int, what: str, other: Path, there: int, what_there: str) -> None:
    if here != there:
        raise UserError(
            f"{path} has {here:,} {what}, but {other} has {there:,} {what_there}; valid: as many; copy or download "
            "both again"
        )


def _matrix(path: Path) -> scipy.sparse.csr_matrix:
    value = unpickled(path)
    if not isinstance(value, scipy.sparse.csr_matrix):
        raise UserError(f"{path} holds a {type(value).__name__}; valid: a scipy.sparse CSR matrix; {_AGAIN}")
    try:
        parts = vars(value)  # as the pickle set them: nothing about them is sure
        shape = parts.get("_shape", parts.get("shape"))
        arrays = [np.array(parts[key], kind) for key, kind in (("data", np.float32), ("indices", int), ("indptr", int))]
        matrix = scipy.sparse.csr_matrix(tuple(arrays), shape=tuple(map(int, shape)))
        matrix.check_format(full_check=True)  # or a wrong index would read what lies beside the array
    except Exception as error:
        raise UserError(f"{path} is damaged ({line(error)}); {_AGAIN}") from error
    return matrix


def _labels(path: Path) -> np.ndarray:
    """One-hot rows [N, classes]; a row of zeros has no class."""
    value = unpickled(path)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "buif" or 0 in value.shape:
        raise UserError(f"{path} holds no table of labels; valid: a NumPy array [N, classes] of 0 and 1; {_AGAIN}")
    strange = ((value != 0) & (value != 1)).any(axis=1) | ((value == 1).sum(axis=1) != 1)
    if strange.any():
        raise UserError(f"{path}: row {int(strange.argmax()):,} is not one-hot; valid: a single 1 among zeros")
    return value


def _test_index(path: Path, given: int) -> np.ndarray:
    """The nodes of the rows of tx, int64. given: how many nodes allx has, which come first."""
    try:
        words = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no text with a node in each line ({line(error)}); {_AGAIN}") from error
    for number, word in enumerate(words, 1):
        # 10 digits are more than any graph here has nodes, and int() of megabytes of them would take minutes.
        if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) >= given):
            raise UserError(
                f"{path} line {number} is {word[:40]!r}; valid: a node from {given:,} on, behind those of x; {_AGAIN}"
            )
    test = np.array(words, np.int64)
    if not len(test):
        raise UserError(f"{path} is empty; valid: a test node in each line; {_AGAIN}")
    twice = np.flatnonzero(np.bincount(test - given) > 1)
    if len(twice):
        raise UserError(f"{path} has the node {given + twice[0]} twice; valid: once; {_AGAIN}")
    if test.max() - given >= 2 * len(test) + 100:  # Citeseer lacks 15 of 1,015
        raise UserError(f"{path} has the node {test.max():,}, far behind the others; {_AGAIN}")
    return test


def _edges(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Both directions of every edge of {node: neighbours}, sorted by receiver, without duplicates."""
    value = unpickled(path)
    if not isinstance(value, dict) or not all(isinstance(neighbours, list) for neighbours in value.values()):
        raise UserError(f"{path} holds no dictionary with the neighbours of each node; {_AGAIN}")
    for node, neighbours in value.items():
        for end in (node, *neighbours):
            if not isinstance(end, int) or not 0 <= end < count:
                raise UserError(
                    f"{path}: node {str(node)[:40]} has an edge to {str(end)[:40]}; valid: nodes from 0 to "
                    f"{count - 1:,}, others do not exist"
                )
    first = np.repeat(np.fromiter(value, np.int64, len(value)), [len(ends) for ends in value.values()])
    second = np.array([end for ends in value.values() for end in ends], np.int64)
    both = np.unique(np.concatenate([first * count + second, second * count + first]))
    return both % count, both // count


# Pickles


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array that the pickle fills, as numpy.core.multiarray._reconstruct makes it, whatever was asked for."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


# Python's and NumPy's old and new names of the few things that the files consist of.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("scipy.sparse.csr", "csr_matrix"): scipy.sparse.csr_matrix,
    ("scipy.sparse._csr", "csr_matrix"): scipy.sparse.csr_matrix,
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) not in _ADMITTED:
            raise _Refused(f"{module}.{name}")
        return _ADMITTED[module, name]


class _Refused(Exception):
    """A pickle asks for something that is not admitted."""


def unpickled(path: Path) -> Any:
    """What a pickle holds, if that is NumPy arrays, CSR matrices, (default) dictionaries, lists and numbers.

    A pickle is a program that may call whatever it can name; here it can name nothing but these types.

    Raises UserError for anything else, and for a file that is cut or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({line(error)})") from error
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of types that an old NumPy wrote
            value = _Unpickler(stream, encoding="latin1").load()
    except _Refused as error:
        raise UserError(
            f"{path} asks for {line(error)}, which could run code; nothing was run; valid: pickles of NumPy arrays, "
            "scipy.sparse CSR matrices, dictionaries and lists"
        ) from error
    except Exception as error:  # a damaged pickle raises all kinds
        raise UserError(f"{path} is cut or damaged ({line(error)}); {_AGAIN}") from error
    if stream.tell() != len(content):
        raise UserError(f"{path} has {len(content) - stream.tell():,} bytes behind its end; {_AGAIN}")
    return value
