"""Graphs: one whose nodes are classified, or many that are classified as a whole, on the host.

What is built in (the karate club, block models) is here; `planetoid` and `graph_files` read files.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax import Array

from jaxdl.data import order
from jaxdl.errors import UserError


class Graph(NamedTuple):
    """One graph, or several beside each other, on the host.

    features: of nodes, float32 [N, F], or scipy.sparse CSR of that shape
    senders, receivers: int32 [E]; an undirected edge is there in both directions; duplicates and self-loops are
        kept as given
    edges: features of edges, float32 [E, D]; None where there are none
    labels: int32, classes of nodes [N] (node tasks) or of graphs [G] (graph tasks); -1 where nobody knows the class
    sizes: nodes of each graph, int32 [G]; N in total
    ids: what users call the nodes, N of them
    names: what the classes are called
    splits: official "train", "validation" and "test" rows, int32, of nodes or graphs; {} where there are none
    fingerprint: hex digest of the content, the same on every machine
    """

    features: Any
    senders: np.ndarray
    receivers: np.ndarray
    edges: np.ndarray | None
    labels: np.ndarray
    sizes: np.ndarray
    ids: tuple
    names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    fingerprint: str


def checked(
    what: str,
    features: Any,
    senders: np.ndarray,
    receivers: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    edges: np.ndarray | None = None,
    sizes: Sequence[int] | np.ndarray | None = None,
    ids: Sequence | None = None,
    splits: dict[str, np.ndarray] | None = None,
) -> Graph:
    """The graph of these parts, which may have any integer and float types. what: how errors call it.

    sizes: None: one graph. ids: None: 0 to N - 1. splits: None: no official ones.

    Raises UserError, on one line, for a graph without nodes, features, edges, or a second class, for an edge to a
    node that does not exist, and for values that are not finite.
    """
    count, width = features.shape
    if not count:
        raise UserError(f"{what} has no nodes; valid: at least 1")
    if not width:
        raise UserError(f"{what} has no features; valid: at least 1 number for each node")
    if not len(senders):
        raise UserError(f"{what} has no edges; valid: at least 1 (without edges a table is enough: data.name=csv)")
    ids = tuple(range(count)) if ids is None else tuple(ids)
    strange = (senders < 0) | (senders >= count) | (receivers < 0) | (receivers >= count)
    if strange.any():
        place = int(strange.argmax())
        raise UserError(
            f"{what}: edge {place:,} goes from node {senders[place]} to node {receivers[place]}; valid: nodes from 0 "
            f"to {count - 1:,}, others do not exist"
        )
    for kind, values, row_of in (("node", features, lambda row: ids[row]), ("edge", edges, lambda row: f"{row:,}")):
        place = _not_finite(values)
        if place is not None:
            row, column = place
            raise UserError(
                f"{what}: feature {column:,} of {kind} {row_of(row)} is {values[row, column]}; valid: finite numbers"
            )
    known = np.unique(labels[labels >= 0])
    if len(known) < 2:
        found = f"only the class {names[int(known[0])]}" if len(known) else "no known class"
        raise UserError(f"{what} has {found}; valid: two classes or more")
    if scipy.sparse.issparse(features):
        features = features.tocsr().astype(np.float32)
        features.sort_indices()
    else:
        features = np.ascontiguousarray(features, np.float32)
    graph = Graph(
        features=features,
        senders=np.ascontiguousarray(senders, np.int32),
        receivers=np.ascontiguousarray(receivers, np.int32),
        edges=None if edges is None else np.ascontiguousarray(edges, np.float32),
        labels=np.ascontiguousarray(labels, np.int32),
        sizes=np.array([count] if sizes is None else sizes, np.int32),
        ids=ids,
        names=tuple(map(str, names)),
        splits={split: np.ascontiguousarray(rows, np.int32) for split, rows in (splits or {}).items()},
        fingerprint="",
    )
    return graph._replace(fingerprint=_fingerprint(graph))


def _not_finite(values: Any) -> tuple[int, int] | None:
    """(row, column) of the first value that is no finite number in 32 bits."""
    if values is None:
        return None
    if scipy.sparse.issparse(values):
        values = values.tocoo()
        with np.errstate(over="ignore"):
            strange = ~np.isfinite(values.data.astype(np.float32))
        place = int(strange.argmax()) if strange.any() else None
        return None if place is None else (int(values.row[place]), int(values.col[place]))
    with np.errstate(over="ignore"):
        strange = ~np.isfinite(np.asarray(values).astype(np.float32))
    return tuple(map(int, np.argwhere(strange)[0])) if strange.any() else None


def _fingerprint(graph: Graph) -> str:
    features = graph.features
    stored = [features.data, features.indices, features.indptr] if scipy.sparse.issparse(features) else [features]
    edges = [] if graph.edges is None else [graph.edges]
    total = hashlib.sha256(repr([graph.ids, graph.names, features.shape]).encode())
    for array in [*stored, graph.senders, graph.receivers, *edges, graph.labels, graph.sizes]:
        array = np.asarray(array)
        portable = array.astype("<f4" if array.dtype.kind == "f" else "<i4")  # indices of CSR may have 64 bits
        total.update(f"{array.shape}".encode() + portable.tobytes())
    for split, rows in sorted(graph.splits.items()):
        total.update(f"{split} {len(rows)}".encode() + rows.astype("<i4").tobytes())
    return total.hexdigest()


def both_ways(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Senders and receivers of undirected edges that are given once each, and the edge that each comes from.

    [E], [E] -> three times [2 E - self-loops]: all edges as given, then all turned round; self-loops need no turn.
    """
    turned = np.flatnonzero(first != second)
    edge = np.concatenate([np.arange(len(first)), turned])
    return np.concatenate([first, second[turned]]), np.concatenate([second, first[turned]]), edge


def subgraph(graph: Graph, nodes: np.ndarray) -> Graph:
    """The graph of these nodes [n], in this order, and of the edges between them; the splits without the others."""
    place = np.full(len(graph.ids), -1, np.int32)
    place[nodes] = np.arange(len(nodes), dtype=np.int32)
    kept = (place[graph.senders] >= 0) & (place[graph.receivers] >= 0)
    splits = {split: place[rows][place[rows] >= 0] for split, rows in graph.splits.items()}
    return checked(
        f"the subgraph of {len(nodes):,} nodes",
        graph.features[nodes],
        place[graph.senders[kept]],
        place[graph.receivers[kept]],
        graph.labels[nodes],
        graph.names,
        edges=None if graph.edges is None else graph.edges[kept],
        ids=[graph.ids[node] for node in nodes],
        splits=splits,
    )


def largest_component(graph: Graph) -> Graph:
    """The largest connected part of a graph, directions aside; of equally large ones the one with the first node."""
    from scipy.sparse.csgraph import connected_components

    count = len(graph.ids)
    links = np.ones(len(graph.senders), np.int8), (graph.senders, graph.receivers)
    part = connected_components(scipy.sparse.coo_matrix(links, (count, count)), directed=False)[1]
    first = np.unique(part, return_index=True)[1]  # [parts]
    largest = max(range(len(first)), key=lambda one: (np.count_nonzero(part == one), -first[one]))
    return graph if len(first) == 1 else subgraph(graph, np.flatnonzero(part == largest))


def random_order(labels: Any, seed: Any, train: int, validation: int) -> Any:
    """The nodes in the order of a random split: those to train on, to validate on, to test on; int32 [N].

    labels: int32 [N], all known. seed: uint32, a number or traced. Of each class `train` nodes come first, then of
    each `validation` ones, then all others, see `random_splits`. The same in numpy and in jax, so that in one
    program each run can have a split of its own.
    """
    size = labels.shape[0]
    library = jnp if any(isinstance(value, Array) for value in (labels, seed)) else np
    shuffled = order.index(seed, np.uint32(0), library.arange(size, dtype=np.uint32), size).astype(np.int32)
    label = library.asarray(labels)[shuffled]
    by_class = library.argsort(label, stable=True).astype(np.int32)  # [N], class by class, each shuffled
    ordered = label[by_class]
    rank = library.arange(size, dtype=np.int32) - library.searchsorted(ordered, ordered).astype(np.int32)
    part = (rank >= np.int32(train)).astype(np.int32) + (rank >= np.int32(train + validation)).astype(np.int32)
    return shuffled[by_class[library.argsort(part, stable=True)]]


def random_splits(graph: Graph, seed: int, train: int = 20, validation: int = 30) -> dict[str, np.ndarray]:
    """{"train", "validation", "test"} -> nodes: `train` and `validation` ones of each class, and all others.

    The protocol of Shchur et al. 2018 (arXiv 1811.05868, section 4), 20 and 30, is on the largest component:
    `graph = largest_component(graph); graph._replace(splits=random_splits(graph, seed))`. Nodes of no known class
    are in no split.

    Raises UserError where a class has too few nodes.
    """
    known = np.flatnonzero(graph.labels >= 0).astype(np.int32)
    labels = graph.labels[known]
    counts = np.bincount(labels, minlength=len(graph.names))
    rarest = int(np.where(counts, counts, counts.max()).argmin())
    if train < 1 or validation < 1 or counts[rarest] <= train + validation:
        raise UserError(
            f"a random split with {train} nodes of each class to train on and {validation} to validate on is not "
            f"possible: the class {graph.names[rarest]} has {counts[rarest]} nodes; valid: at least 1 each, and fewer "
            "together than the nodes of each class"
        )
    nodes = known[random_order(labels, np.uint32(seed), train, validation)]
    present = np.count_nonzero(counts)
    parts = np.split(nodes, [present * train, present * (train + validation)])
    return dict(zip(("train", "validation", "test"), (np.sort(part) for part in parts), strict=True))


def karate_club() -> Graph:
    """Zachary's karate club (1977, J. Anthropological Research 33): 34 members, 78 friendships, two factions.

    Each node's feature is its own identity, as in Kipf & Welling 2017 (arXiv 1609.02907), appendix A. The ids are
    networkx's, 0 to 33.
    """
    import networkx

    club = networkx.karate_club_graph()
    first, second = np.array(club.edges).T
    senders, receivers, _ = both_ways(first, second)
    names = ("Mr. Hi", "Officer")
    labels = np.array([names.index(faction) for _, faction in club.nodes(data="club")])
    identity = scipy.sparse.eye(len(labels), format="csr")
    return checked("the karate club", identity, senders, receivers, labels, names, ids=list(club))


def block_model(
    sizes: Sequence[int], probabilities: Sequence[Sequence[float]], features: int, signal: float, seed: int
) -> Graph:
    """A stochastic block model (Holland et al. 1983): the classes are blocks of nodes, nodes in no particular order.

    sizes: nodes of each block [B]; probabilities: of an edge between a node of block a and another one of block b,
        [B, B], symmetric
    features: F numbers for each node, signal * m[block] + noise: noise has mean 0 and variance 1 and is about normal,
        m as well, divided by sqrt(F) (Deshpande et al. 2018, arXiv 1807.09596, with many blocks)

    Undirected, no self-loops, no duplicates. Time and memory follow the number of edges: 1M take about a second.

    Raises UserError for sizes, probabilities and features that make no such graph.
    """
    table = np.array(probabilities, np.float64)
    blocks = len(sizes)
    if not blocks or min(sizes) < 1:
        raise UserError(f"a block model of blocks with {list(sizes)} nodes is not possible; valid: at least 1 in each")
    if table.shape != (blocks, blocks) or (table != table.T).any() or not ((table >= 0) & (table <= 1)).all():
        raise UserError(
            f"a block model of {blocks} blocks with the edge probabilities {np.array(probabilities).tolist()} is not "
            f"possible; valid: symmetric, {blocks} rows of {blocks} numbers from 0 to 1"
        )
    if features < 1:
        raise UserError(f"a block model with {features} features is not possible; valid: at least 1")
    words = np.random.Philox(key=seed)  # only its raw words: NumPy guarantees them, unlike its distributions
    start = np.cumsum([0, *sizes])
    firsts, seconds = [], []
    for a in range(blocks):
        for b in range(a, blocks):
            within = sizes[a] * (sizes[a] - 1) // 2
            found = _successes(words, within if a == b else sizes[a] * sizes[b], table[a, b])
            first, second = _pair(found) if a == b else np.divmod(found, sizes[b])
            firsts.append(start[a] + first)
            seconds.append(start[b] + second)
    count = int(start[-1])
    shuffled = np.argsort(words.random_raw(count), kind="stable")  # or node numbers would give the classes away
    labels = np.empty(count, np.int32)
    labels[shuffled] = np.repeat(np.arange(blocks), sizes)
    senders, receivers, _ = both_ways(shuffled[np.concatenate(firsts)], shuffled[np.concatenate(seconds)])
    means = _normal(words, blocks, features) / np.float32(np.sqrt(features))
    values = np.float32(signal) * means[labels] + _normal(words, count, features)
    return checked("the block model", values, senders, receivers, labels, [str(block) for block in range(blocks)])


def equal_blocks(
    nodes: int, classes: int, degree: float, homophily: float, features: int, signal: float, seed: int
) -> Graph:
    """A block model of classes of one size; `degree` neighbours a node, `homophily` of them of its class.

    features, signal, seed: see `block_model`. Raises UserError for what is not possible.
    """
    size = nodes // max(classes, 1)
    if classes < 2 or nodes % classes or size < 2:
        raise UserError(
            f"blocks of {nodes:,} nodes in {classes} classes are not possible; valid: 2 classes or more, all of one "
            "size from 2"
        )
    within, between = degree * homophily / (size - 1), degree * (1 - homophily) / (nodes - size)
    if not (0 <= within <= 1 and 0 <= between <= 1):
        raise UserError(
            f"blocks with a degree of {degree:g} and a homophily of {homophily:g} are not possible: edges would have "
            f"the probabilities {within:g} within a class and {between:g} between two"
        )
    table = np.full((classes, classes), between)
    np.fill_diagonal(table, within)
    return block_model([size] * classes, table.tolist(), features, signal, seed)


def _successes(words: np.random.Philox, trials: int, probability: float) -> np.ndarray:
    """Which of so many independent trials succeed, int64, ascending: the gaps between successes are geometric.

    Batagelj & Brandes 2005, "Efficient generation of large random networks"; here for all gaps at once.
    """
    if probability == 0 or trials == 0:
        return np.zeros(0, np.int64)
    mean = trials * probability
    last, parts = -1, []
    while last < trials:
        drawn = words.random_raw(int(mean + 6 * np.sqrt(mean) + 16)) >> np.uint64(11)
        uniform = (drawn.astype(np.float64) + 1) / 2**53  # in (0, 1]
        # 1 + floor(log u / log(1 - p)). Of a tiny p it may be beyond any integer; just beyond the last trial is enough.
        with np.errstate(divide="ignore"):  # log 0, where p = 1
            gaps = 1 + np.minimum(np.log(uniform) / np.log1p(-probability), trials).astype(np.int64)
        places = last + np.cumsum(gaps)
        parts.append(places)
        last = int(places[-1])
    found = np.concatenate(parts)
    return found[found < trials]


def _normal(words: np.random.Philox, rows: int, columns: int) -> np.ndarray:
    """About normal numbers, float32 [rows, columns], with mean 0 and variance 1: sums of 8 random bytes each."""
    drawn = words.random_raw(rows * columns).view(np.uint8).reshape(rows, columns, 8)
    total = drawn.sum(axis=2, dtype=np.int32) - 8 * 255 // 2
    return total.astype(np.float32) / np.float32(np.sqrt(8 * (256**2 - 1) / 12))


def _pair(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(i, j), i < j, at a place in the list (0, 1), (0, 2), (1, 2), (0, 3), ...: place = j (j - 1) / 2 + i."""
    second = ((1 + np.sqrt(1 + 8 * place.astype(np.float64))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > place  # where the root was rounded up
    second += second * (second + 1) // 2 <= place  # and down
    return place - second * (second - 1) // 2, second


def row_normalised(graph: Graph) -> Graph:
    """The graph with each node's features divided by their sum, as bags of words are (Kipf & Welling 2017, 5.2).

    Rows of zeros stay so.
    """
    total = np.asarray(graph.features.sum(axis=1)).reshape(-1, 1)  # [N] or [N, 1] -> [N, 1]
    scale = np.divide(1, total, out=np.zeros_like(total), where=total != 0)
    if scipy.sparse.issparse(graph.features):
        features = scipy.sparse.csr_matrix(scipy.sparse.diags(scale[:, 0]) @ graph.features, dtype=np.float32)
    else:
        features = (graph.features * scale).astype(np.float32)
    graph = graph._replace(features=features)
    return graph._replace(fingerprint=_fingerprint(graph))
