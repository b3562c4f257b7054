"""Graphs by name: what `data.name` may be in the studies of graphs, and the sources of nodes and of whole graphs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxdl.data import graph_families, graph_files, graphs, members, planetoid
from jaxdl.data.graphs import Graph
from jaxdl.errors import UserError, unknown

SPLITS = ("public", "random")
NORMALISE = ("none", "rows")


class GraphSet(NamedTuple):
    """A graph that can be loaded by name. line: what it is; read: settings -> Graph; where: where it comes from."""

    line: str
    read: Callable[[Any], Graph]
    where: str


def node_source(settings: Any, split: str = "") -> members.Members:
    """The nodes of the graph that `settings` names.

    settings: attributes
        name                 a key of NODE_SETS
        dir                  where its files lie: Planetoid's, or the user's own
        split                "public", the official nodes; "random": each run's own, by its seed
        train, validation    of a random split, so many nodes of each class; all others are to test on
        largest_component    random splits are of the largest connected part alone
        normalise            "rows": features are divided by their sum, as bags of words are; "none"
        csv                  attribute `label`, the column that holds the class
        directed             a user's edges go from the first node to the second only
        blocks               the arguments of `graphs.equal_blocks`
    split: another one than the settings'

    Raises UserError for whatever does not fit together.
    """
    # The keys that other sets and splits read count as read too: they are part of every config.
    _ = settings.dir, settings.csv.label, settings.directed, settings.blocks.as_dict()
    split, random = split or settings.split, (settings.train, settings.validation)
    if split not in SPLITS:
        raise unknown("data.split", split, SPLITS)
    if settings.normalise not in NORMALISE:
        raise unknown("data.normalise", settings.normalise, NORMALISE)
    graph = read(settings, NODE_SETS)
    if settings.largest_component and split == "random":
        graph = graphs.largest_component(graph)
    if settings.normalise == "rows":
        graph = graphs.row_normalised(graph)
    return members.of_nodes(settings.name, graph, random if split == "random" else None)


def graph_source(settings: Any, batch_size: int) -> members.Members:
    """The graphs of the set that `settings` names.

    settings: attributes
        name                 a key of GRAPH_SETS
        dir                  a TU folder
        folds                0, or so many folds: a run holds out fold `seed`, see `members.in_folds`
        train, validation    without folds, so many graphs of each class; all others are to test on
        families             attributes `count` (graphs of each family) and `seed`

    Raises UserError for whatever does not fit together.
    """
    _ = settings.dir, settings.families.as_dict(), settings.train, settings.validation
    graph = read(settings, GRAPH_SETS)
    if settings.folds:
        return members.in_folds(settings.name, graph, batch_size, settings.folds)
    return members.of_graphs(settings.name, graph, batch_size, settings.train, settings.validation)


def read(settings: Any, sets: dict[str, GraphSet]) -> Graph:
    """The graph, or graphs, of `settings.name`, as the files have them."""
    if settings.name not in sets:
        raise unknown("graph", settings.name, sets)
    return sets[settings.name].read(settings)


def _block_model(settings: Any) -> Graph:
    blocks = settings.blocks
    return graphs.equal_blocks(
        blocks.nodes, blocks.classes, blocks.degree, blocks.homophily, blocks.features, blocks.signal, blocks.seed
    )


def _planetoid(settings: Any) -> Graph:
    return planetoid.read(settings.name, settings.dir)


def _place(settings: Any) -> str:
    if not settings.dir:
        raise UserError(f"data.name={settings.name} needs data.dir: {(NODE_SETS | GRAPH_SETS)[settings.name].line}")
    return settings.dir


_PUBLISHED = "Planetoid's files"
NODE_SETS = {
    "karate_club": GraphSet(
        "34 members of a club and their friendships, 2 factions", lambda _: graphs.karate_club(), "built in"
    ),
    "block_model": GraphSet("a stochastic block model, see data.blocks", _block_model, "drawn"),
    "cora": GraphSet("2,708 papers, 5,278 citations, 7 topics", _planetoid, _PUBLISHED),
    "citeseer": GraphSet("3,327 papers, 6 topics", _planetoid, _PUBLISHED),
    "pubmed": GraphSet("19,717 papers, 3 topics", _planetoid, _PUBLISHED),
    "graph_csv": GraphSet(
        "a folder with nodes.csv and edges.csv",
        lambda settings: graph_files.csv(_place(settings), settings.csv.label, settings.directed),
        "yours, in data.dir",
    ),
    "graph_npz": GraphSet(
        "a .npz file with edges, y and perhaps x",
        lambda settings: graph_files.npz(_place(settings), settings.directed),
        "yours, in data.dir",
    ),
}
GRAPH_SETS = {
    "graph_families": GraphSet(
        "three families of random graphs with equal counts",
        lambda settings: graph_families.read(settings.families.count, settings.families.seed),
        "drawn",
    ),
    "tu": GraphSet(
        "a folder of TU Dortmund's: MUTAG, PROTEINS, ...",
        lambda settings: graph_files.tu(_place(settings)),
        "yours, in data.dir",
    ),
}
