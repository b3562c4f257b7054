"""Graphs of one's own: two CSV tables or one .npz file; and the folders of TU Dortmund's graph classification sets.

Nothing in a file is ever executed.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse

from jaxdl.data import graphs, tables
from jaxdl.data.cache import line
from jaxdl.data.progress import shown
from jaxdl.errors import UserError, unknown

SPLITS = ("train", "validation", "test")
_ARRAYS = ("edges", "x", "y", "ids", "edge_x", *SPLITS)


def csv(folder: str, label: str, directed: bool = False) -> graphs.Graph:
    """One graph: FOLDER/nodes.csv and FOLDER/edges.csv, tables as `tables.csv` reads them.

    nodes.csv: a first row with the names of the columns; the first column holds the ids, any texts; `label` the
        classes, empty where unknown; a column `split`, where there is one, train, validation, test or nothing;
        all other columns are features, numbers. Without such columns each node's feature is its own identity.
    edges.csv: two ids in each row, then features of the edge, numbers. A first row whose first two cells are
        texts and no ids is one with names.
    directed: edges go from the first to the second node only; else both ways, where the table does not itself
        have every edge in both directions

    Raises UserError, with the line, for whatever does not fit this.
    """
    place = Path(os.path.expanduser(folder))
    if not folder or not place.is_dir():
        raise UserError(f"{folder!r} is no folder; valid: a folder with the tables nodes.csv and edges.csv")
    ids, features, labels, names, splits = _nodes(place / "nodes.csv", label)
    first, second, values = _edge_list(place / "edges.csv", {name: row for row, name in enumerate(ids)})
    return _one(str(place), ids, features, labels, names, splits, first, second, values, directed)


def _one(
    what: str,
    ids: list,
    features: np.ndarray | None,
    labels: np.ndarray,
    names: list[str],
    splits: dict[str, np.ndarray],
    first: np.ndarray,
    second: np.ndarray,
    values: np.ndarray | None,
    directed: bool,
) -> graphs.Graph:
    if not directed and not _symmetric(first, second, len(ids)):
        first, second, edge = graphs.both_ways(first, second)
        values = None if values is None else values[edge]
    matrix = scipy.sparse.eye(len(ids), format="csr") if features is None else features
    return graphs.checked(what, matrix, first, second, labels, names, edges=values, ids=ids, splits=splits)


def _symmetric(first: np.ndarray, second: np.ndarray, count: int) -> bool:
    """Whether every edge is there in both directions, equally often."""
    there, back = np.sort(first * count + second), np.sort(second * count + first)
    return bool((there == back).all())


def _nodes(path: Path, label: str) -> tuple[list[str], np.ndarray | None, np.ndarray, list[str], dict[str, np.ndarray]]:
    """Ids, features [N, F] or None, labels int64 [N], names of the classes, splits."""
    table = tables.rows(path)
    _, header = tables.header_of(path, table)
    if label not in header[1:]:
        raise unknown(f"label column of {path}:", label, [" ".join(name.split()) for name in header[1:]])
    columns = [place for place, name in enumerate(header) if place and name not in (label, "split")]
    kind = header.index("split") if "split" in header[1:] else None
    values, texts, lines, known = array("f"), [], [], []
    ids: dict[str, int] = {}
    splits: dict[str, list[int]] = {}
    for number, cells in shown(table, f"reading {path}"):
        if len(cells) != len(header):
            raise UserError(f"{path} line {number} has {len(cells)} cells; valid: {len(header)}, as in the first row")
        if not cells[0]:
            raise UserError(f"{path} line {number}: the id {header[0]!r} is empty; valid: any text")
        if cells[0] in ids:
            raise UserError(f"{path} line {number}: a second node is called {cells[0][:40]!r}; valid: each id once")
        values.extend(tables.numbers(path, number, [header[at] for at in columns], [cells[at] for at in columns]))
        row = ids[cells[0]] = len(ids)
        text = cells[header.index(label)]
        if text:
            texts.append(text)
            lines.append(number)
            known.append(row)
        if kind is not None and cells[kind]:
            if cells[kind] not in SPLITS:
                raise unknown(f"split in {path} line {number}:", cells[kind], SPLITS)
            if not text:
                raise UserError(f"{path} line {number} is in {cells[kind]} without a class; valid: a {label!r}")
            splits.setdefault(cells[kind], []).append(row)
    if not ids:
        raise UserError(f"{path} has no nodes below the names of the columns; valid: one in each row")
    if not texts:
        raise UserError(f"{path}: the label {label!r} is empty in every row; valid: two classes or more")
    labels = np.full(len(ids), -1)
    names, labels[known] = tables.classes(path, label, texts, lines, len(ids))
    features = np.frombuffer(values, np.float32).reshape(len(ids), len(columns)) if columns else None
    return list(ids), features, labels, names, {split: np.array(rows) for split, rows in splits.items()}


def _edge_list(path: Path, ids: dict[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """First and second nodes int64 [E], features of the edges float32 [E, D] or None."""
    ends, values, width, header = array("q"), array("f"), 0, []
    for place, (number, cells) in enumerate(shown(tables.rows(path), f"reading {path}")):
        if len(cells) < 2:
            raise UserError(f"{path} line {number} has {len(cells)} cell; valid: the ids of two nodes, then numbers")
        if not place:
            width = len(cells)
            header = [str(column) for column in range(1, width + 1)]
            if not any(cell in ids or cell.lstrip("-").isdigit() for cell in cells[:2]):
                header = cells
                continue
        if len(cells) != width:
            raise UserError(f"{path} line {number} has {len(cells)} cells; valid: {width}, as in the first row")
        for cell in cells[:2]:
            if cell not in ids:
                raise unknown(f"node in {path} line {number}: nodes.csv has no", cell, ids)
            ends.append(ids[cell])
        values.extend(tables.numbers(path, number, header[2:], cells[2:]))
    if not ends:
        raise UserError(f"{path} has no edges; valid: at least one row with the ids of two nodes")
    first, second = np.frombuffer(ends, np.int64).reshape(-1, 2).T
    return first, second, np.frombuffer(values, np.float32).reshape(-1, width - 2) if width > 2 else None


def npz(path: str, directed: bool = False) -> graphs.Graph:
    """One graph in an .npz file of NumPy's.

    edges: [E, 2], nodes' places 0 to N - 1, or their ids where the file has `ids`
    y: classes [N], whole numbers, -1 where unknown
    x: features [N, F]; without them each node's feature is its own identity
    ids: [N], numbers or texts, each once
    edge_x: features of edges [E, D]
    train, validation, test: rows, or true and false for each node
    directed: as for `csv`

    Raises UserError for whatever does not fit this.
    """
    source = Path(os.path.expanduser(path))
    if not path or not source.is_file():
        raise UserError(f"there is no file {path!r}; valid: an .npz file")
    valid = "edges and y, perhaps x, ids, edge_x, train, validation and test"
    found = tables.read_arrays(source, [source], _ARRAYS, valid, "buifU")
    arrays = {name.lower(): values for name, (_, values) in found.items()}
    for name in ("edges", "y"):
        if name not in arrays:
            raise UserError(f"{source} holds no array {name}; valid: {valid}")
    y, edges = arrays["y"], arrays["edges"]
    count = len(arrays["x"]) if arrays.get("x", np.zeros(())).ndim else y.size
    forms = {"y": (count,), "x": (count, -1), "ids": (count,), "edges": (-1, 2), "edge_x": (len(edges), -1)}
    for name, form in forms.items():
        shape = arrays[name].shape if name in arrays else form
        if len(shape) != len(form) or any(size not in (-1, have) for size, have in zip(form, shape, strict=True)):
            wanted = ", ".join("any" if size < 0 else str(size) for size in form)
            raise UserError(f"{source}: {name} has the shape {list(shape)}; valid: [{wanted}]")
    for name, kinds in {"y": "iu", "x": "buif", "edge_x": "buif", "edges": "iuU" if "ids" in arrays else "iu"}.items():
        if name in arrays and arrays[name].dtype.kind not in kinds:
            wanted = "numbers" if "f" in kinds else "whole numbers"
            raise UserError(f"{source}: {name} holds {arrays[name].dtype}; valid: {wanted}")
    if count and not -1 <= y.min() <= y.max() < tables.LABELS:
        raise UserError(f"{source}: y holds {y.min()} to {y.max()}; valid: 0 to {tables.LABELS - 1:,}, -1 for unknown")
    present, labels = np.unique(y[y >= 0]), np.full(count, -1)
    labels[y >= 0] = np.searchsorted(present, y[y >= 0])
    names = [str(one) for one in present]
    ids = arrays["ids"].tolist() if "ids" in arrays else list(range(count))
    place = {name: row for row, name in enumerate(ids)}
    if len(place) < count:
        twice = next(name for row, name in enumerate(ids) if place[name] != row)
        raise UserError(f"{source}: ids holds {str(twice)[:40]!r} twice; valid: each id once")
    if "ids" in arrays:
        for end in edges.ravel().tolist():
            if end not in place:
                raise unknown(f"node in {source}: ids has no", end, ids)
        edges = np.array([place[end] for end in edges.ravel().tolist()], np.int64).reshape(-1, 2)
    splits = {split: _rows(source, split, arrays[split], labels) for split in SPLITS if split in arrays}
    first, second = edges.astype(np.int64).T
    values = arrays.get("edge_x")
    return _one(str(source), ids, arrays.get("x"), labels, names, splits, first, second, values, directed)


def _rows(source: Path, split: str, values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if values.dtype == bool and values.shape == labels.shape:
        values = np.flatnonzero(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UserError(f"{source}: {split} is {values.dtype}{list(values.shape)}; valid: rows, or a mask of the nodes")
    inside = (values >= 0) & (values < len(labels))
    if not inside.all() or len(np.unique(values)) < len(values) or (labels[values] < 0).any():
        raise UserError(
            f"{source}: {split} holds rows that no node has, one twice, or one without a class; valid: each once, from "
            f"0 to {len(labels) - 1:,}"
        )
    return values


# TU Dortmund: Morris et al. 2020 (arXiv 2007.08663). Plain texts, a line for each thing; nodes and graphs count from 1.


def tu(folder: str) -> graphs.Graph:
    """A set of graphs in the files NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt and perhaps more.

    folder: of such files, by whatever name it has; NAME is what stands before _A.txt

    Features of nodes are NAME_node_attributes.txt, then the classes of NAME_node_labels.txt one-hot; of edges those of
    NAME_edge_... in the same way. A set without any has one feature, 1, for each node: what its graphs' shapes tell.
    Labels are classes of graphs [G].

    Raises UserError, which names the file and where it can the line, for whatever does not fit.
    """
    place = Path(os.path.expanduser(folder))
    found = sorted(place.glob("*_A.txt")) if folder and place.is_dir() else []
    if len(found) != 1:
        raise UserError(f"{folder!r} holds {len(found)} files *_A.txt; valid: a folder with NAME_A.txt and its like")
    name = found[0].name.removesuffix("_A.txt")

    def path(part: str) -> Path:
        return place / f"{name}_{part}.txt"

    graph_of = _table(path("graph_indicator"), np.int64)[:, 0] - 1  # [N]
    given = _table(path("graph_labels"), np.int64)[:, 0]  # [G]
    pairs = _table(path("A"), np.int64)
    count, total = len(graph_of), len(given)
    if pairs.shape[1] != 2:
        raise UserError(f"{path('A')} has {pairs.shape[1]} numbers in a line; valid: the 2 nodes of an edge")
    if (np.diff(graph_of) < 0).any() or graph_of[0] < 0 or graph_of[-1] >= total:
        raise UserError(
            f"{path('graph_indicator')} does not fit {path('graph_labels').name}; valid: a graph from 1 to {total:,} "
            "in each line, ascending"
        )
    sizes = np.bincount(graph_of, minlength=total)
    if not sizes.all():
        raise UserError(f"{path('graph_indicator')}: graph {int(sizes.argmin()) + 1} has no nodes; valid: at least 1")
    strange = ((pairs < 1) | (pairs > count)).any(axis=1)
    if strange.any():
        row = int(strange.argmax())
        raise UserError(
            f"{path('A')} line {row + 1:,}: an edge between the nodes {pairs[row, 0]} and {pairs[row, 1]}; valid: 1 to "
            f"{count:,}, others do not exist"
        )
    senders, receivers = pairs.T - 1
    apart = graph_of[senders] != graph_of[receivers]
    if apart.any():
        raise UserError(f"{path('A')} line {int(apart.argmax()) + 1:,}: an edge between nodes of two graphs")
    names, labels = np.unique(given, return_inverse=True)
    features = _features(path, "node", count)
    return graphs.checked(
        f"{place}",
        np.ones((count, 1), np.float32) if features is None else features,
        senders,
        receivers,
        labels,
        [str(one) for one in names],
        edges=_features(path, "edge", len(pairs)),
        sizes=sizes,
    )


def _features(path: Callable[[str], Path], thing: str, count: int) -> np.ndarray | None:
    parts = []
    for part, kind in ((f"{thing}_attributes", np.float64), (f"{thing}_labels", np.int64)):
        if not path(part).is_file():
            continue
        values = _table(path(part), kind)
        if len(values) != count:
            raise UserError(f"{path(part)} has {len(values):,} lines; valid: {count:,}, one for each {thing}")
        if kind is np.float64:
            parts.append(values)
        else:
            parts += [column[:, None] == np.unique(column)[None, :] for column in values.T]  # one-hot [count, classes]
    return np.concatenate(parts, axis=1).astype(np.float32) if parts else None


def _table(path: Path, kind: type) -> np.ndarray:
    """The numbers of a text file with commas between them, [lines, columns]."""
    try:
        text = path.read_text("utf-8")
        if not text.strip():
            raise UserError(f"{path} is empty; valid: numbers in each line")
        return np.loadtxt(text.splitlines(), dtype=kind, delimiter=",", ndmin=2)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}; it is part of every TU set") from error
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is no table of numbers ({line(error)}); copy or download it again") from error
