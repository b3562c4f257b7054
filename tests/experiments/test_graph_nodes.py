"""The study of nodes: what it compares and claims, label propagation in a plain loop, users' graphs, predictions."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.graph_nodes import get_config
from experiments import _graph_claims as about
from experiments import _graph_cost as cost
from experiments import _graph_fits as fits
from experiments.graph_nodes import study
from jaxdl import data, models, tasks
from jaxdl.errors import UserError
from jaxdl.study.config import Config
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.training.stopping import Requests


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """A user's graph: two rings of 15 nodes joined by one edge, ids that are no numbers, one class a ring."""
    folder = tmp_path_factory.mktemp("ring")
    nodes = [f"{'xy'[half]}{place * 7}" for half in (0, 1) for place in range(15)]
    draw = np.random.default_rng(0)
    lines = [f"{name},{'first' if name[0] == 'x' else 'second'},{draw.normal():.3f}" for name in nodes]
    (folder / "nodes.csv").write_text("name,label,noise\n" + "\n".join(lines) + "\n")
    pairs = [(nodes[15 * half + i], nodes[15 * half + (i + 1) % 15]) for half in (0, 1) for i in range(15)]
    pairs.append((nodes[0], nodes[15]))
    (folder / "edges.csv").write_text("".join(f"{a},{b}\n" for a, b in pairs))
    return folder, nodes


def recipe(folder=""):
    config = get_config("smoke")
    config.compare.methods, config.compare.karate_club = ("gcn", "label-propagation", "sampled-sage-mean"), ()
    config.sampling = dict(fanouts=(2, 2), batch_size=2)
    if folder:
        config.data.name, config.data.dir = "graph_csv", str(folder)
        config.data.train, config.data.validation, config.seeds, config.steps = 2, 3, 2, 40
    return config


def test_variants_have_their_papers_recipes():
    found = study.variants(Config(get_config("cora").to_dict()))
    assert {"gcn", "gcn-random", "gat", "chebyshev-3-random", "label-propagation"} < set(found)
    assert not any(name.startswith(("spectral", "karate", "cost")) for name in found)
    assert found["gat"]["hyper.learning_rate"] == 0.005 and found["gat"]["hyper.attention_dropout"] == 0.6
    assert found["gcn"] == {"method": "gcn", "split": "public"}
    assert found["gcn-random"]["split"] == "random"
    names = {fits.fit_name(settings) for settings in found.values()}
    assert len(names) == len(found)


def test_every_claim_is_about_variants_that_are_there():
    for preset in ("default", "full", "cora", "smoke"):
        config = Config(get_config(preset).to_dict())
        variants = set(study.variants(config))
        for claim in about.claims(config):
            assert {getattr(term, "variant", term) for contrast in claim.contrasts for term in contrast} <= variants
        for row in about.published(config):
            assert row.variant in variants and 0 < row.value < 1
    assert len(about.published(Config(get_config("cora").to_dict()))) == 7


def test_labels_spread_as_in_a_plain_loop():
    """Y <- D^-1 A Y with the known rows put back, in NumPy."""
    graph = data.graphs.equal_blocks(60, 3, 4.0, 0.8, 4, 1.0, seed=1)
    source = data.members.of_nodes("blocks", graph, (2, 3))
    rows = {key: jnp.asarray(values) for key, values in source.data["train"].items()}
    task = tasks.label_propagation(graph, lambda run: source.prepare(run, rows), steps=7)
    run = {"seed": np.uint32(5)}
    test = source.prepare(run, source.data["test"])
    found = task.evaluate({}, {}, test, run, jax.random.key(0))

    splits = data.graphs.random_splits(graph, 5, 2, 3)
    adjacency = np.zeros((60, 60))
    np.add.at(adjacency, (graph.receivers, graph.senders), 1)
    degree = adjacency.sum(axis=1, keepdims=True)
    values = np.full((60, 3), 1 / 3)
    values[splits["train"]] = np.eye(3)[graph.labels[splits["train"]]]
    for _ in range(7):
        spread = np.where(degree > 0, adjacency @ values / np.maximum(degree, 1), values)
        spread[splits["train"]] = np.eye(3)[graph.labels[splits["train"]]]
        values = spread
    node = np.asarray(test["member"])
    assert set(node) == set(splits["test"])
    np.testing.assert_allclose(task.predict({}, {}, node, run), values[node], atol=1e-5)
    np.testing.assert_array_equal(found["error"], values[node].argmax(axis=1) != graph.labels[node])


def test_with_every_neighbour_a_sampled_step_is_a_step_on_the_whole_graph(quick_compilation):
    """Of a ring, whose nodes hear from two each: losses and gradients of GraphSAGE, float32 against float32."""
    ring, draw = np.arange(12), np.random.default_rng(0)
    ends = np.concatenate([(ring + 1) % 12, (ring - 1) % 12])
    graph = data.graphs.checked("ring", draw.normal(size=(12, 4)), ends, np.tile(ring, 2), ring % 2, "ab")
    net = models.graph.GraphSAGE((5,), 2, aggregator="mean")
    whole = tasks.classify_nodes(net, tasks.nodes.features(graph), net.operator(tasks.nodes.structure(graph)))
    around = data.neighbours.neighbours(graph)
    sampled = tasks.classify_sampled(net, tasks.nodes.dense(graph), around, (2, 2))
    run = {"seed": np.uint32(0), "hyper": dict.fromkeys(tasks.NODE_RATES, np.float32(0))}
    node = jnp.arange(3, 8, dtype=jnp.int32)
    batch = {"member": node, "label": jnp.asarray(graph.labels)[node], "position": jnp.arange(5, dtype=jnp.uint32)}
    key = jax.random.key(3)
    params, _ = jax.jit(whole.init)(run, key)
    shapes, _ = jax.eval_shape(sampled.init, run, key)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    one, other = (
        jax.jit(jax.value_and_grad(lambda params, task=task: task.loss(params, {}, batch, run, key)[0]))(params)
        for task in (whole, sampled)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)
    one, other = (
        jax.jit(lambda node, task=task: task.predict(params, {}, node, run))(node) for task in (whole, sampled)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_exponent_is_that_of_the_power_law():
    sizes = (10, 100, 1000, 5000)
    assert cost.exponent(sizes, [3e-4 * size**2.5 for size in sizes]) == pytest.approx(2.5)


def test_the_cost_of_each_repeat_is_fitted_by_itself(monkeypatch):
    config = Config(get_config("full").to_dict())
    clock = iter(np.linspace(1, 2, 1000))
    powers = {"spectral": 3, "gcn": 1}

    def timed(network, graph, rate, attention, count):
        size = len(graph.ids) if type(network).__name__ == "SpectralNetwork" else len(graph.senders)
        power = 3 if type(network).__name__ == "SpectralNetwork" else 1
        return cost.Cost(lambda: size**power * next(clock), lambda: size**power * next(clock), 0, 0)

    monkeypatch.setattr(cost, "cost", timed)
    for method, power in powers.items():
        found = cost.growth(config, method, 5)
        assert found["train_exponent"].shape == (5,)
        np.testing.assert_allclose(found["train_exponent"], power, atol=0.05)
        np.testing.assert_allclose(found["train_exponent_excess"], found["train_exponent"] - power)


@pytest.fixture(scope="module")
def trained(ring, tmp_path_factory, compiling_quickly):
    workdir = tmp_path_factory.mktemp("trained")
    with compiling_quickly():
        return study.run(recipe(ring[0]), workdir=workdir, stop_on_failure=True), workdir


def test_a_users_graph_from_beginning_to_end(trained):
    found, workdir = trained
    results = found.report.results
    assert [row.variant for row in results.rows] == ["gcn", "label-propagation", "sampled-sage-mean"]
    for row in results.rows:
        assert (len(row.runs), row.diverged, row.failed, row.absent) == (2, 0, 0, 0)
        # Features are noise: the network whose nodes see themselves apart from others learns the training nodes alone.
        split = "train" if row.variant == "sampled-sage-mean" else "test"
        assert row.metrics[f"{split}_error"].mean() < 0.5
        # 40 steps: of all nodes, or of 2 of the 4 to train on.
        epochs = {"gcn": 40, "label-propagation": 0, "sampled-sage-mean": 20}[row.variant]
        np.testing.assert_array_equal(row.metrics["train_epochs"], epochs)
    assert {path.stem for path in (workdir / "figures").glob("*.png")} >= {"errors", "learning_curves", "embedding"}
    for path in workdir.glob("*/*/*/outcomes.npz"):  # of random splits: seeds share no test nodes
        assert not np.load(path).files
    assert "over seeds (Student's t)." in repr(found.table())  # and no word of a shared test set


def test_predictions_are_the_networks_for_every_node(trained, ring, tmp_path, capsys):
    found, _ = trained
    place = tmp_path / "out.csv"
    study.actions["predict"].do(found, "gcn", 1, str(place), "")
    assert str(place) in capsys.readouterr().out
    with place.open() as file:
        header, *rows = list(csv.reader(file))
    assert header == ["node", "id", "class", "probability of first", "probability of second"]
    assert [row[:2] for row in rows] == [[str(number), name] for number, name in enumerate(ring[1])]
    model = found.model("gcn", 1)
    source = model.group.source
    logits = fits.layers(model.group.config, source, {"method": "gcn", "split": "random"}, model.params)[-1]
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = weight / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([[float(value) for value in row[3:]] for row in rows], probability, atol=1e-5)
    assert [row[2] for row in rows] == [source.names[label] for label in probability.argmax(axis=1)]
    for value, message in ((str(place), "it is there already"), ("out.txt", "valid is the name of a .csv file")):
        with pytest.raises(UserError, match=message):
            study.actions["predict"].do(found, "gcn", 1, value, "")
    with pytest.raises(UserError, match="unknown variant 'gnc'; did you mean 'gcn'"):
        study.actions["predict"].do(found, "gnc", 1, str(tmp_path / "b.csv"), "")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("compare.methods", ("gcm",), "unknown method 'gcm'; did you mean 'gcn'"),
        ("compare.methods", ("chebyshev-x",), "unknown method 'chebyshev-x'; did you mean 'chebyshev-"),
        ("compare.methods", ("sampled-spectral",), "unknown method 'sampled-spectral'; did you mean 'spectral'"),
        ("sampling.fanouts", (5,), r"sampling.fanouts=\(5,\) is not possible: valid are .* for each of the 2 layers"),
        ("sampling.fanouts", (5, 0), r"sampling.fanouts=\(5, 0\) is not possible"),
        ("sampling.batch_size", 21, "batch_size=21 is not possible: valid is 1 to 20, the nodes to train on"),
        ("data.split", "public", "block_model has no official train"),
        ("data.name", "karate", "unknown graph 'karate'; did you mean 'karate_club'"),
        ("hyper.hidden_dropout", 1.0, "hyper.hidden_dropout=1.0 is not possible"),
        ("gat.dropout", 1.5, "hyper.input_dropout=1.5 is not possible"),
        ("steps", 0, "steps=0 and epochs=0.0: exactly one must be positive"),
    ],
)
def test_what_does_not_fit_is_told_before_training(key, value, message, tmp_path):
    config = get_config("smoke")
    config.compare.karate_club, config.compare.methods = (), ("gcn", "gat", "sampled-gcn")
    config.sampling.batch_size = 20
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        check(prepare(study, Asked(config.to_dict(), tmp_path, "", (), ""), Requests()))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_the_spectral_network_is_refused_where_its_eigenvectors_would_take_too_long(tmp_path):
    config = recipe()
    config.compare.methods, config.spectral.most_nodes = ("spectral",), 100
    with pytest.raises(UserError, match="spectral is not possible with 120 nodes"):
        check(prepare(study, Asked(config.to_dict(), tmp_path, "", (), ""), Requests()))
