"""Classification of nodes: losses of a batch's nodes only, dropout of nodes by their number."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from jaxdl import tasks
from jaxdl.models import graph as graphs

pytestmark = pytest.mark.usefixtures("quick_compilation")


def problem(**rates):
    """A ring of 8 nodes, a GCN on it, its parameters and a run."""
    node = np.arange(8, dtype=np.int32)
    senders, receivers = np.concatenate([node, (node + 1) % 8]), np.concatenate([(node + 1) % 8, node])
    features = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    graph = jraph.GraphsTuple(features, None, receivers, senders, None, np.array([8]), np.array([16]))
    network = graphs.GCN((5,), 3)
    task = tasks.classify_nodes(network, jnp.asarray(features), network.operator(graph))
    hyper = {name: jnp.float32(rates.get(name, 0)) for name in tasks.NODE_RATES}
    run = {"seed": jnp.uint32(0), "hyper": hyper}
    return task, task.init(run, jax.random.key(0)), run


def batch(node):
    node = jnp.asarray(node, jnp.int32)
    return {"member": node, "label": node % 3}


def test_losses_are_those_of_the_nodes_of_the_batch():
    task, (params, state), run = problem()
    found = task.evaluate(params, state, batch([5, 2]), run, jax.random.key(1))
    probability = task.predict(params, state, jnp.array([5, 2]), run)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found["loss"], -np.log(np.asarray(probability)[[0, 1], [2, 2]]), rtol=1e-5)
    np.testing.assert_array_equal(found["error"], np.asarray(probability).argmax(axis=1) != 2)
    loss, (_, metrics) = task.loss(params, state, batch([5, 2]), run, jax.random.key(1))
    np.testing.assert_allclose(loss, found["loss"].mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["error"], found["error"].mean())


def test_dropout_of_a_node_does_not_depend_on_the_batch():
    task, (params, state), run = problem(input_dropout=0.3, hidden_dropout=0.5)
    each = [task.loss(params, state, batch([node]), run, jax.random.key(1))[0] for node in (5, 2)]
    both = task.loss(params, state, batch([2, 5]), run, jax.random.key(1))[0]
    np.testing.assert_allclose(both, np.mean(each), rtol=1e-5)
    without = task.loss(params, state, batch([2, 5]), problem()[2], jax.random.key(1))[0]
    assert abs(float(both) - float(without)) > 1e-3
