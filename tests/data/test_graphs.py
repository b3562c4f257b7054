"""What is built in and what is done with graphs, against networkx, SciPy and plain loops."""

import time

import jax.numpy as jnp
import networkx
import numpy as np
import pytest
import scipy.sparse

from jaxdl.data import graphs
from jaxdl.errors import UserError


def to_networkx(graph):
    result = networkx.MultiDiGraph()
    result.add_nodes_from(range(len(graph.ids)))
    result.add_edges_from(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    return result


def tiny(**changes):
    parts = {
        "features": np.eye(4),
        "senders": np.array([0, 1, 2, 1]),
        "receivers": np.array([1, 0, 2, 0]),
        "labels": np.array([0, 1, 1, -1]),
        "names": "ab",
    } | changes
    return graphs.checked("the test", **parts)


def test_karate_club():
    graph = graphs.karate_club()
    club = networkx.karate_club_graph()
    assert set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True)) == set(club.to_directed().edges)
    assert len(graph.senders) == 156 and graph.ids == tuple(range(34)) and graph.sizes.tolist() == [34]
    assert [graph.names[label] for label in graph.labels] == [club.nodes[node]["club"] for node in club]
    np.testing.assert_array_equal(graph.features.toarray(), np.eye(34))
    assert graph.features.dtype == np.float32 and {graph.senders.dtype, graph.labels.dtype} == {np.dtype(np.int32)}
    assert graphs.karate_club().fingerprint == graph.fingerprint


def test_duplicates_loops_and_order_are_kept():
    graph = tiny()
    assert graph.senders.tolist() == [0, 1, 2, 1] and graph.receivers.tolist() == [1, 0, 2, 0]
    assert graph.labels.tolist() == [0, 1, 1, -1] and graph.splits == {} and graph.edges is None
    assert graph.features.dtype == np.float32


def test_the_fingerprint_covers_everything():
    base = tiny(ids="wxyz", edges=np.ones((4, 1)), splits={"train": np.array([0, 1])})
    changed = [
        tiny(ids="wxyv", edges=np.ones((4, 1)), splits={"train": np.array([0, 1])}),
        tiny(ids="wxyz", edges=np.zeros((4, 1)), splits={"train": np.array([0, 1])}),
        tiny(ids="wxyz", edges=np.ones((4, 1)), splits={"test": np.array([0, 1])}),
        tiny(ids="wxyz", edges=np.ones((4, 1)), splits={"train": np.array([0, 2])}),
        tiny(ids="wxyz"),
        tiny(features=2 * np.eye(4)),
        tiny(features=scipy.sparse.eye(4)),
        tiny(labels=np.array([1, 0, 1, -1])),
        tiny(senders=np.array([0, 1, 2, 0])),
        tiny(receivers=np.array([1, 0, 2, 1])),
        tiny(names="ac"),
        tiny(sizes=[2, 2]),
    ]
    found = [graph.fingerprint for graph in [base, *changed]]
    assert len(set(found)) == len(found)


NAN = np.eye(4)
NAN[2, 1] = np.nan
BAD = {
    "no nodes": ({"features": np.zeros((0, 3))}, "the test has no nodes"),
    "no features": ({"features": np.zeros((4, 0))}, "the test has no features"),
    "no edges": ({"senders": np.zeros(0, int), "receivers": np.zeros(0, int)}, "the test has no edges"),
    "node 4": ({"senders": np.array([0, 1, 4, 1])}, "edge 2 goes from node 4 to node 2; valid: nodes from 0 to 3"),
    "node -1": ({"receivers": np.array([0, -1, 3, 1])}, "edge 1 goes from node 1 to node -1"),
    "NaN": ({"features": NAN, "ids": "wxyz"}, "feature 1 of node y is nan; valid: finite"),
    "sparse NaN": ({"features": scipy.sparse.csr_matrix(NAN)}, "feature 1 of node 2 is nan"),
    "too large": ({"features": 1e300 * np.eye(4)}, "feature 0 of node 0 is 1e+300"),
    "infinite edge": ({"edges": np.array([[0], [0], [0], [np.inf]])}, "feature 0 of edge 3 is inf"),
    "one class": ({"labels": np.array([1, 1, -1, 1])}, "only the class b; valid: two classes"),
    "no class": ({"labels": np.full(4, -1)}, "no known class; valid: two classes"),
}


@pytest.mark.parametrize(("changes", "says"), BAD.values(), ids=BAD)
def test_bad_graphs(changes, says):
    with pytest.raises(UserError) as caught:
        tiny(**changes)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_both_ways():
    senders, receivers, edge = graphs.both_ways(np.array([0, 1, 3]), np.array([1, 1, 2]))
    found = sorted(zip(senders.tolist(), receivers.tolist(), edge.tolist(), strict=True))
    assert found == [(0, 1, 0), (1, 0, 0), (1, 1, 1), (2, 3, 2), (3, 2, 2)]


SPARSE = ([40, 30, 25], [[0.02, 0.003, 0.001], [0.003, 0.03, 0], [0.001, 0, 0.04]], 3, 1.0)


def test_largest_component():
    graph = graphs.block_model(*SPARSE, seed=1)
    graph = graph._replace(splits={"train": np.arange(0, 95, 2, dtype=np.int32)})
    parts = sorted(networkx.weakly_connected_components(to_networkx(graph)), key=len)
    assert len(parts) > 3 and len(parts[-1]) > len(parts[-2])
    largest = graphs.largest_component(graph)
    kept = sorted(parts[-1])
    assert list(largest.ids) == kept
    again = networkx.relabel_nodes(to_networkx(largest), dict(enumerate(kept)))
    wanted = to_networkx(graph).subgraph(kept)
    assert sorted(again.edges()) == sorted(wanted.edges())
    np.testing.assert_array_equal(largest.features, graph.features[kept])
    np.testing.assert_array_equal(largest.labels, graph.labels[kept])
    assert [largest.ids[row] for row in largest.splits["train"]] == [node for node in kept if node % 2 == 0]
    assert graphs.largest_component(largest).fingerprint == largest.fingerprint


def test_of_equal_components_the_first_counts():
    edges = {"senders": np.array([3, 2, 1, 0]), "receivers": np.array([2, 3, 0, 1])}
    assert graphs.largest_component(tiny(**edges)).ids == (0, 1)


def test_subgraph_keeps_the_features_of_its_edges():
    part = graphs.subgraph(tiny(edges=np.arange(4)[:, None]), np.array([1, 0]))
    assert part.senders.tolist() == [1, 0, 0] and part.receivers.tolist() == [0, 1, 1]
    assert part.edges[:, 0].tolist() == [0, 1, 3] and part.labels.tolist() == [1, 0]


def test_random_splits():
    graph = graphs.block_model([60, 90, 70], np.full((3, 3), 0.1), 2, 1.0, seed=0)
    labels = graph.labels.copy()
    labels[:10] = -1
    graph = graph._replace(labels=labels)
    splits = graphs.random_splits(graph, seed=3)
    assert np.bincount(labels[splits["train"]]).tolist() == [20] * 3
    assert np.bincount(labels[splits["validation"]]).tolist() == [30] * 3
    nodes = np.concatenate(list(splits.values()))
    assert sorted(nodes.tolist()) == list(range(10, 220))
    again, other = graphs.random_splits(graph, seed=3), graphs.random_splits(graph, seed=4)
    assert all((again[split] == splits[split]).all() for split in splits)
    shared = len(set(other["train"]) & set(splits["train"]))
    assert shared < 35  # by chance about 17 of 60


def test_every_node_is_as_likely_to_be_trained_on():
    graph = graphs.block_model([60, 60], np.full((2, 2), 0.1), 2, 1.0, seed=0)
    times = np.zeros(120)
    for seed in range(300):
        times[graphs.random_splits(graph, seed)["train"]] += 1
    # Binomial(300, 1/3): mean 100, sd 8.2; of 120 the farthest is about 2.6 sd away.
    assert times.mean() == 100 and 5.5 < times.std() < 11 and np.abs(times - 100).max() < 40


def test_the_order_of_a_split_is_the_same_in_jax():
    labels = np.random.default_rng(0).integers(0, 3, 100).astype(np.int32)
    for seed in (0, 7):
        host = graphs.random_order(labels, np.uint32(seed), 4, 5)
        device = graphs.random_order(jnp.asarray(labels), jnp.uint32(seed), 4, 5)
        assert host.dtype == np.int32 and device.dtype == jnp.int32
        np.testing.assert_array_equal(host, device)
        assert np.bincount(labels[host[:12]]).tolist() == [4] * 3
        assert np.bincount(labels[host[12:27]]).tolist() == [5] * 3


@pytest.mark.parametrize(("train", "validation"), [(0, 3), (3, 0), (10, 7), (20, 30)])
def test_splits_that_do_not_fit(train, validation):
    with pytest.raises(UserError, match=r"not possible: the class Mr. Hi has 17 nodes") as caught:
        graphs.random_splits(graphs.karate_club(), 0, train, validation)
    assert "\n" not in str(caught.value)


def test_block_model_has_the_edges_it_should():
    """Counts of edges between blocks over 200 graphs against their binomial means, which a plain loop would give."""
    sizes, table = [7, 5, 4], np.array([[0.6, 0.1, 0], [0.1, 0.3, 1], [0, 1, 0.5]])
    counts, pairs = np.zeros((3, 3)), set()
    for seed in range(200):
        graph = graphs.block_model(sizes, table, 1, 1.0, seed)
        edges = list(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
        assert len(set(edges)) == len(edges) and set(edges) == {(b, a) for a, b in edges}
        assert all(a != b for a, b in edges) and np.bincount(graph.labels).tolist() == sizes
        np.add.at(counts, (graph.labels[graph.senders], graph.labels[graph.receivers]), 1)
        pairs |= set(edges)
    for a in range(3):
        for b in range(3):
            trials = 200 * sizes[a] * (sizes[b] - (a == b))
            sd = np.sqrt(2 * trials * table[a, b] * (1 - table[a, b]))  # both directions of an edge come together
            assert abs(counts[a, b] - trials * table[a, b]) <= 4 * sd
    assert len(pairs) == 16 * 15  # with the nodes in no order, any two of them meet in one graph or another


def test_all_pairs_are_equally_likely():
    found = np.zeros(45)
    for seed in range(400):
        found[graphs._successes(np.random.Philox(key=seed), 45, 0.2)] += 1
    assert abs(found.mean() - 80) < 5 and 5 < found.std() < 11 and np.abs(found - 80).max() < 36  # sd 8


@pytest.mark.parametrize("probability", [0.0, 1e-300, 1e-12, 0.5, 1.0])
def test_extreme_probabilities(probability):
    found = graphs._successes(np.random.Philox(key=0), 1000, probability)
    assert (np.diff(found) > 0).all() and ((found >= 0) & (found < 1000)).all()
    assert abs(len(found) - 1000 * probability) <= (80 if probability == 0.5 else 1e-6)


def test_pairs_in_a_triangle():
    wanted = [(i, j) for j in range(60) for i in range(j)]
    first, second = graphs._pair(np.arange(len(wanted)))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == wanted
    for j in (94_906_267, 3_000_000_000):  # where float64 no longer holds every square
        place = np.array([j * (j - 1) // 2 - 1, j * (j - 1) // 2, j * (j + 1) // 2 - 1])
        first, second = graphs._pair(place)
        assert first.tolist() == [j - 2, 0, j - 1] and second.tolist() == [j - 1, j, j]


def test_block_model_features_and_seeds():
    graph = graphs.block_model([3000, 2000], [[0.001, 0], [0, 0.001]], 8, 3.0, seed=5)
    means = np.stack([graph.features[graph.labels == block].mean(axis=0) for block in range(2)])
    noise = graph.features - means[graph.labels]
    assert abs(noise.std() - 1) < 0.02 and np.abs(np.corrcoef(noise.T) - np.eye(8)).max() < 0.1
    assert 0.3 < np.linalg.norm(means, axis=1).mean() / 3 < 2  # |m| is about 1
    assert graphs.block_model([3000, 2000], [[0.001, 0], [0, 0.001]], 8, 3.0, 5).fingerprint == graph.fingerprint
    assert graphs.block_model([3000, 2000], [[0.001, 0], [0, 0.001]], 8, 3.0, 6).fingerprint != graph.fingerprint
    assert not (np.diff(graph.labels) >= 0).all()


def test_a_large_block_model_is_quick():
    """1M edges took 0.2 s of processor time where this was written."""
    started = time.process_time()
    graph = graphs.block_model([50_000, 50_000], [[3e-4, 1e-4], [1e-4, 3e-4]], 4, 1.0, 0)
    assert abs(len(graph.senders) / 2 - 1e6) < 5000 and time.process_time() - started < 10


@pytest.mark.parametrize(
    ("sizes", "table", "features", "says"),
    [
        ([], [], 1, "blocks with [] nodes"),
        ([3, 0], [[1, 1], [1, 1]], 1, "blocks with [3, 0] nodes"),
        ([3, 3], [[1, 0.5], [0.4, 1]], 1, "valid: symmetric, 2 rows of 2"),
        ([3, 3], [[1, 1.5], [1.5, 1]], 1, "numbers from 0 to 1"),
        ([3, 3], [[1, np.nan], [np.nan, 1]], 1, "numbers from 0 to 1"),
        ([3, 3], [1, 1], 1, "valid: symmetric"),
        ([3, 3], [[1, 1], [1, 1]], 0, "0 features"),
        ([3, 3], [[0, 0], [0, 0]], 1, "the block model has no edges"),
        ([3], [[1]], 1, "only the class 0"),
    ],
)
def test_block_models_that_are_none(sizes, table, features, says):
    with pytest.raises(UserError) as caught:
        graphs.block_model(sizes, table, features, 1.0, 0)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
def test_row_normalised(kind):
    values = np.array([[1, 3, 0], [0, 0, 0], [2, 0, 2], [0, 5, 0]], np.float32)
    graph = graphs.row_normalised(tiny(features=kind(values)))
    found = graph.features if kind is np.asarray else graph.features.toarray()
    np.testing.assert_allclose(found, [[0.25, 0.75, 0], [0, 0, 0], [0.5, 0, 0.5], [0, 1, 0]])
    assert graph.features.dtype == np.float32 and graph.fingerprint != tiny(features=kind(values)).fingerprint
