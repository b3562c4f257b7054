"""Members of a graph as a source: what `fit` makes of it, against a plain loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import tasks, training
from jaxdl.data import graphs, members
from jaxdl.errors import UserError
from jaxdl.tasks import classification


def propagated(graph):
    """What a node's neighbours have, and itself: (A + I) X, dense."""
    count = len(graph.ids)
    links = np.eye(count, dtype=np.float32)
    np.add.at(links, (graph.receivers, graph.senders), np.float32(1))
    return links @ graph.features


def linear(graph):
    """Softmax regression on the propagated features: the simplest network that sees the graph."""
    seen = propagated(graph)

    def logits(params, batch):
        return (jnp.asarray(seen) @ params)[batch["member"]]

    def init(run, key):
        return jnp.zeros((seen.shape[1], len(graph.names)), jnp.float32), {}

    def loss(params, model_state, batch, run, key):
        values = classification.per_example(logits(params, batch), batch)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def evaluate(params, model_state, batch, run, key):
        which = {"member": batch["member"].astype(jnp.float32)}
        return classification.per_example(logits(params, batch), batch) | which

    return tasks.Task(init, loss, evaluate)


def fit(folder, graph, source, seeds, steps=30):
    runs = {"seed": np.array(seeds, np.uint32), "hyper": {"rate": np.full(len(seeds), 0.1, np.float32)}}
    settings = training.Settings(folder, jax.devices()[:2], log=lambda *_: None)
    return training.fit(
        "nodes", linear(graph), lambda hyper: optax.sgd(hyper["rate"]), source, runs, settings, steps=steps
    )


def plain(graph, splits, steps=30):
    """The weights after full-batch gradient descent, in float64."""
    seen, rows = propagated(graph).astype(np.float64), splits["train"]
    target = np.eye(len(graph.names))[graph.labels[rows]]
    weights = np.zeros((seen.shape[1], len(graph.names)))
    for _ in range(steps):
        scores = np.exp(seen[rows] @ weights)
        weights -= 0.1 * seen[rows].T @ (scores / scores.sum(axis=1, keepdims=True) - target) / len(rows)
    return weights, (seen @ weights).argmax(axis=1) != graph.labels


def graph_with_splits():
    graph = graphs.block_model([40, 30], [[0.2, 0.02], [0.02, 0.2]], 4, 1.0, seed=0)
    return graph._replace(splits=graphs.random_splits(graph, 9, 5, 8))


def test_official_splits(tmp_path):
    graph = graph_with_splits()
    source = members.of_nodes("blocks", graph)
    assert source.classes == 2 and source.steps_per_epoch == 1 and source.batch_size == 10
    fitted = fit(tmp_path, graph, source, [0])
    weights, wrong = plain(graph, graph.splits)
    np.testing.assert_allclose(fitted.params[0], weights, atol=1e-5)
    for split, rows in graph.splits.items():
        assert fitted.metrics[f"{split}_error"][0] == pytest.approx(wrong[rows].mean())
    assert fitted.outcomes["test_member"][0].tolist() == graph.splits["test"].tolist()
    assert 0 < wrong.mean() < 0.4


def test_each_run_has_its_own_random_split(tmp_path):
    graph = graph_with_splits()
    labels = graph.labels.copy()
    labels[:6] = -1
    graph = graph._replace(labels=labels)
    fitted = fit(tmp_path, graph, members.of_nodes("blocks", graph, (4, 6)), [3, 8, 5])
    for number, seed in enumerate([3, 8, 5]):
        splits = graphs.random_splits(graph, seed, 4, 6)
        weights, wrong = plain(graph, splits)
        np.testing.assert_allclose(fitted.params[number], weights, atol=1e-5)
        assert sorted(fitted.outcomes["test_member"][number].tolist()) == splits["test"].tolist()
        for split, rows in splits.items():
            assert fitted.metrics[f"{split}_error"][number] == pytest.approx(wrong[rows].mean())


def test_mistakes():
    graph = graphs.karate_club()
    with pytest.raises(UserError, match="karate has no official train and no validation and no test nodes"):
        members.of_nodes("karate", graph)
    with pytest.raises(UserError, match=r"the class Mr\. Hi has 17 nodes"):
        members.of_nodes("karate", graph, (20, 30))
    sizes = {members.of_nodes("karate", graph, (part, 3)).fingerprint for part in (1, 2, 3)}
    assert len(sizes | {graph.fingerprint}) == 4
