"""Every preset of every config: resolved, shape-evaluated, and run for two steps on fake data of its true shapes."""

import functools
import importlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from jaxdl.data import Arrays, graph_families, graph_sets, graphs, loading, planetoid
from jaxdl.study.config import Config
from jaxdl.study.launch import Asked, check, plan, prepare
from jaxdl.study.run import execute
from jaxdl.training.stopping import Requests

ROOT = Path(__file__).resolve().parents[2]


def config_module(name):
    spec = importlib.util.spec_from_file_location(f"config_{name}", ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NO_STUDY = ("__init__", "data", "sections")  # `data` only looks at data
CONFIGS = {
    path.stem: config_module(path.stem) for path in sorted((ROOT / "configs").glob("*.py")) if path.stem not in NO_STUDY
}
PRESETS = [(name, preset) for name, module in CONFIGS.items() for preset in module.PRESETS]
every_preset = pytest.mark.parametrize(("name", "preset"), PRESETS, ids=map("-".join, PRESETS))

# By hand, from the recipes: runs in all, and {fit: (steps, parameters)}. MNIST leaves 55,000 images to train on.
STACKED = {"autoencoder_layer1": (15 * 550, 784 * 200 + 200 + 200 * 784 + 784), "depth2_readout": (10 * 550, 2010)}
VAE = 64 * 100 + 100 + 10100 + 2 * 808 + 900 + 10100 + 100 * 64 + 64
BLOCKS = 9 * 8 + 3 * 8 + 9 * 8 * 16 + 3 * 16 + 9 * 16 * 32 + 3 * 32  # of the classifier: biases, batch norms
MNIST = 157000 + 40200 + 2 * 10050 + 10200 + 40200 + 157584
PERCEPTRON = 65 * 256 + 257 * 10
CNN = 26 * 16 + 401 * 32
# Of grey images; 288 = 3x3x2x16 more of colour ones. Six layers more are 97,216 = 2 (3x3) (16^2 + 32^2 + 64^2) + 4 112.
RESNET_20 = 9 * (16 + 6 * 256 + 16 * 32 + 5 * 1024 + 32 * 64 + 5 * 4096) + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 650
# Of 16 units: first layers of 16, 32 and 1,433 features, hidden ones; a GAT's 8 heads of 8, each with two vectors.
GCN_CORA = 1434 * 16 + 17 * 7
GAT = 16 * 64 + 3 * 64 + 64 * 4 + 3 * 4
GIN_LAYER = 16 * 16 + 1 + 16 + 17 * 16  # of 16 units, that of a single feature has 15 * 16 less
EXPECTED = {
    ("greedy_pretraining", "default"): ((18 + 2) * 4 * 10, {
        "autoencoder_layer1": (1500, 64 * 64 + 64 + 64 * 64 + 64),
        "depth4": (3000, 4 * (64 * 64 + 64) + 650),
        "depth4_top": (3000, 650),
        "depth2_50labels": (3000, 2 * (64 * 64 + 64) + 650),
    }),
    ("greedy_pretraining", "smoke"): ((9 + 2) * 2 * 2, {"depth2": (60, 64 * 16 + 16 + 16 * 16 + 16 + 170)}),
    ("greedy_pretraining", "full"): ((6 * 5 + 4 + 3 * 5) * 4 * 10, {
        "ksparse_layer5": (1500, 2 * 64 * 64 + 2 * 64),
        "supervised_layer1": (1500, 64 * 64 + 64 + 650),
        "depth5": (3000, 5 * (64 * 64 + 64) + 650),
        "depth2_100labels": (3000, 2 * (64 * 64 + 64) + 650),
    }),
    ("greedy_pretraining", "mnist"): ((18 + 2) * 3 * 3, {
        "autoencoder_layer1": (5000, 2 * 784 * 100 + 884),
        "depth4": (5500, 784 * 100 + 100 + 3 * 10100 + 1010),
    }),
    ("greedy_pretraining", "mnist_stacked"): ((2 + 1) * 4 * 3, STACKED | {"depth2": (20 * 550, 157000 + 40200 + 2010)}),
    ("greedy_pretraining", "paper"): ((25 + 3) * 4 * 5, {
        "autoencoder_layer1": (15 * 2750, 784 * 1000 + 1784),  # tied: one matrix
        "supervised_layer5": (15 * 2750, 1001000 + 10010),
        "depth5": (50 * 2750, 785000 + 4 * 1001000 + 10010),
    }),
    ("deep_autoencoder", "default"): ((1 + 4 + 4) * 10, {
        "layer1": (1500, 2 * 64 * 100 + 164),
        "deep": (4000, 2 * (64 * 100 + 100 * 50 + 50 * 25 + 25 * 8) + 2 * (100 + 50 + 25) + 8 + 64),
    }),
    ("deep_autoencoder", "smoke"): (3 * 2, {"deep": (40, 2 * (64 * 16 + 16 * 8 + 8 * 4) + 2 * (16 + 8) + 4 + 64)}),
    ("deep_autoencoder", "mnist"): ((1 + 3 + 3) * 3, {"layer4": (5500, 2 * 50 * 30 + 80)}),
    ("vae_reparameterization", "default"): ((4 + 5 + 2 + 2 + 4) * 4 * 5, {
        "classifier": (1000, 64 * 100 + 100 + 1010), "score": (4000, VAE), "score_running_mean_bound": (0, VAE),
        "pathwise": (1500, VAE),  # the last one of its beginnings
        "latent2_pathwise": (4000, VAE - 2 * 6 * 101 - 6 * 100),
        "categorical_straight_through": (4000, VAE - 2 * 808 + 4040 - 900 + 4100),
    }),
    ("vae_reparameterization", "smoke"): (8 * 2, {"pathwise_gradients": (0, 1040 + 2 * 34 + 48 + 1088)}),
    ("vae_reparameterization", "shapes"): (5 * 5, {
        "pathwise": (10000, 256 * 257 * 4 + 2 * 257 * 10 + 256 * 11),
    }),
    ("vae_reparameterization", "mnist"): ((4 + 5 + 1 + 2) * 2, {"pathwise": (100 * 550, MNIST)}),
    ("vae_reparameterization", "paper"): (1, {"pathwise": (3280 * 2980, MNIST)}),
    ("classifier", "default"): (3, {"train": (4 * 54, 21_690)}),
    ("classifier", "smoke"): (2, {"train": (6 * 9, BLOCKS + 2 * 2 * 32 * 10 + 10)}),
    ("classifier", "digits_cnn"): (1, {"train": (4 * 58, 21_690)}),
    ("classifier", "angle"): (3, {"train": (20 * 54, BLOCKS + 7 * 7 * 32 + 1)}),
    ("classifier", "keras"): (1, {"train": (5 * 859, 93_322)}),
    ("classifier", "lenet"): (1, {"train": (20 * 429, 61_706)}),
    ("invariance", "default"): (11 * 5, {
        "plain_mlp": (400, 785 * 23 + 240), "plain_cnn": (400, CNN + 5130), "augmented_cnn": (400, CNN + 5130),
        "plain_local": (400, 121 * 78 + 16 * 456 + 970), "plain_local_disturbed": (0, 17704),
        "placed_local_global": (400, 121 * 416 + 16 * 12832 + 330), "placed_cnn_global_disturbed": (0, CNN + 330),
    }),
    ("invariance", "smoke"): (4 * 2, {"augmented_cnn": (20, 26 * 4 + 101 * 6 + 970), "permuted_mlp": (20, 6370)}),
    ("invariance", "mnist"): (11 * 5, {"permuted_cnn": (5 * 550, CNN + 5130)}),
    ("dropout_ablation", "default"): (((13 + 2 * 3) * 6 + (7 + 6) * 2) * 10, {
        "train": (2000, PERCEPTRON), "early_stopping": (2000, PERCEPTRON), "examples100": (2000, PERCEPTRON),
        "scaled1280": (2000, 65 * 1280 + 1281 * 10), "speed": (2000 + 20 * 10, PERCEPTRON), "averages": (0, PERCEPTRON),
    }),
    ("dropout_ablation", "smoke"): ((4 * 2 + 2 * 2 + 1) * 2, {"train": (40, 65 * 16 + 17 * 10)}),
    ("dropout_ablation", "mnist"): (((12 + 2 * 3) * 3 + (7 + 6)) * 3, {
        "train": (10 * 550, 785 * 256 + 2570), "examples5000": (10 * 550, 785 * 256 + 2570),
    }),
    ("dropout_ablation", "paper"): (((12 + 2 * 5) * 6 + (7 + 6) * 2) * 3, {
        "train": (1_000_000, 785 * 1024 + 1025 * 1024 + 1025 * 2048 + 20490),
    }),
    ("trainability", "default"): ((7 * 4 + 3 + 2 * 3 - 1 + 1 + 4) * 6 * 10, {
        "linear_2": (1500, 65 * 32 + 33 * 32 + 330), "parity_relu_4": (1500, 9 * 8 + 3 * 72 + 18),
        "relu_10_batch_norm": (1500, 65 * 32 + 9 * 33 * 32 + 10 * 64 + 330),
        "relu_2_starts_best": (0, 65 * 32 + 33 * 32 + 330), "sawtooth_relu_1": (1500, 2 * 32 + 66),
    }),
    ("trainability", "smoke"): ((2 * 2 + 2 + 2) * 2, {"tanh_3_batch_norm": (30, 65 * 12 + 2 * 13 * 12 + 72 + 130)}),
    ("trainability", "full"): ((126 * 5 + 3 * 2 + 1 + 4) * 6 * 10, {"linear_2": (3000, 65 * 32 + 33 * 32 + 330)}),
    ("resnet_depth", "default"): ((2 + 2 + 1 + 1) * 6, {
        "plain_20": (440, RESNET_20), "residual_20": (440, RESNET_20),
        "residual_20_B": (440, RESNET_20 + 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64), "densenet_22_12": (440, 270418),
    }),
    ("resnet_depth", "smoke"): ((1 + 1 + 1) * 2, {"residual_8": (24, 75002)}),
    ("resnet_depth", "cifar10_small"): ((2 + 2) * 2, {"plain_20": (1500, RESNET_20 + 288)}),
    ("resnet_depth", "paper"): ((5 + 5 + 1 + 1) * 5, {"residual_20": (64000, RESNET_20 + 288)}),
    ("graph_nodes", "default"): ((7 + 1) * 10, {"gcn_random": (200, 17 * 16 + 17 * 4)}),
    ("graph_nodes", "large"): (4 * 16, {"sampled_sage_mean_random": (100, 2 * 16 * 16 + 16 + 2 * 16 * 4 + 4)}),
    ("graph_nodes", "full"): ((13 + 5 + 4) * 10, {
        "gcn_random": (200, 17 * 16 + 17 * 4), "gat_random": (400, GAT), "karate_club_gcn_random": (200, 35 * 16 + 34),
        "label_propagation_random": (0, 0),
    }),
    ("graph_nodes", "smoke"): ((4 + 1) * 2, {"gcn_random": (20, 17 * 16 + 17 * 4)}),
    ("graph_nodes", "cora"): (11 * 2 * 100, {"gcn": (200, GCN_CORA), "mlp_random": (200, GCN_CORA)}),
    ("graph_nodes", "citeseer"): (11 * 2 * 100, {"gcn": (200, 3704 * 16 + 17 * 6)}),
    ("graph_nodes", "pubmed"): (11 * 2 * 100, {"gcn": (200, 501 * 16 + 17 * 3)}),
    ("graph_depth", "default"): (3 * 4 * 10, {
        "plain_2": (400, 33 * 16 + 17 * 5), "norm_4": (400, 33 * 16 + 2 * 17 * 16 + 17 * 5),
    }),
    ("graph_depth", "smoke"): (2 * 2 * 2, {"residual_3": (20, 33 * 16 + 17 * 16 + 17 * 5)}),
    ("graph_depth", "cora"): (3 * 4 * 10, {"plain_2": (400, GCN_CORA)}),
    ("graph_classify", "default"): (7 * 10, {
        "gin": (60 * 10, 3 * GIN_LAYER - 15 * 16 + 6 + 3 * 51), "counts": (60 * 10, 4 * 16 + 51),
    }),
    ("graph_classify", "smoke"): (4 * 2, {"gin": (2, 29 + 41 + 6 + 2 * 15)}),
    ("graph_classify", "tu"): (7 * 10, {  # 60 graphs here: 54 in nine folds, one batch
        "gin": (350, 5 * (32 * 32 + 1 + 32 + 33 * 32) - 31 * 32 + 6 + 5 * 99),
    }),
    ("deep_autoencoder", "paper"): ((1 + 3 + 3) * 3, {
        "layer2": (50 * 550, 2 * 1000 * 500 + 1500),
        "deep": (200 * 550, 2 * (784000 + 500000 + 125000 + 7500) + 2 * (1000 + 500 + 250) + 30 + 784),
    }),
}  # fmt: skip


def study_of(name):
    return importlib.import_module(f"experiments.{name}").study


def values_of(name, preset):
    return CONFIGS[name].get_config(preset).to_dict()


def one_run_each(values):
    """The same with one seed, one point of the tuning grid, and at most two where gradients are measured."""
    values = values | {"seeds": 1, "tune": {name: grid[:1] for name, grid in values["tune"].items()}}
    if "gradients" in values:  # each of them is a fit of its own, on the way and at the end
        values["gradients"] = values["gradients"] | {"points": values["gradients"]["points"][-2:]}
    if "latents" in values.get("compare", {}):  # one other size of the code is as good as two
        values["compare"] = values["compare"] | {"latents": values["compare"]["latents"][:1]}
    if "families" in values.get("compare", {}):  # some units, at the least depth
        compare = values["compare"]
        few = compare["families"][:: max(3, len(compare["families"]) // 5)]
        values["compare"] = compare | {"families": few, "depths": compare["depths"][:1]}
    if "split" in values["data"] and "depths" in values["compare"]:
        values["compare"] = values["compare"] | {"depths": values["compare"]["depths"][:2]}
    if "methods" in values.get("compare", {}):  # the others' networks have tests of their own
        methods = [name for name in values["compare"]["methods"] if name in FEW]
        values["compare"] = values["compare"] | {"methods": tuple(methods)}
    if "option_b" in values.get("compare", {}):  # the shallowest nets, and no DenseNet of 100 layers
        compare = values["compare"] | {"depths": values["compare"]["depths"][:1]}
        small = compare["densenet"]["depth"] < 100
        none = {"option_b": (), "densenet": compare["densenet"] | {"depth": 0}}
        values["compare"] = compare if small else compare | none
    return values


FEW = ("mlp", "label-propagation", "gcn", "gat", "sampled-sage-mean", "spectral", "counts", "gin", "messages")


# Presets that are another one but for its data: of these the variants whose fits are counted above.
COPIES = {
    ("graph_nodes", "citeseer"): "gcn", ("graph_nodes", "pubmed"): "gcn", ("graph_depth", "cora"): "plain-2",
    ("dropout_ablation", "mnist"): "none*", ("invariance", "mnist"): "permuted-*",
    ("resnet_depth", "cifar10_small"): "*-20",
}  # fmt: skip


@functools.cache
def small_graphs():
    """{name: a small random graph with as many features and classes}, of Planetoid's; and 60 whole graphs."""
    found = {}
    for name, known in planetoid.KNOWN.items():
        classes = len(known.names)
        graph = graphs.equal_blocks(80 * classes, classes, 4.0, 0.8, known.features, 1.0, seed=0)
        rows = np.arange(80 * classes)
        splits = {"train": rows[:20], "validation": rows[20:40], "test": rows[40:]}
        features = scipy.sparse.csr_matrix(graph.features > 2.5, dtype=np.float32)
        found[name] = graph._replace(features=features, splits=splits)
    return found, graph_families.read(20, 0)


def replace_graphs(patch):
    """Small graphs take the place of Planetoid's, and 60 of a TU folder's."""
    nodes, families = small_graphs()
    for name, read in nodes.items():
        patch.setitem(
            graph_sets.NODE_SETS, name, graph_sets.NODE_SETS[name]._replace(read=lambda settings, read=read: read)
        )
    patch.setitem(graph_sets.GRAPH_SETS, "tu", graph_sets.GRAPH_SETS["tu"]._replace(read=lambda settings: families))


@functools.cache
def random_images(train, test, *shape):
    """A set of ten classes."""
    random = np.random.default_rng(0)

    def split(size):
        image = random.integers(0, 256, (size, *shape), np.uint8)
        return {"image": image, "label": (np.arange(size) % 10).astype(np.int32)}

    splits = {"train": split(train), "test": split(test)}
    return Arrays(splits, tuple("0123456789"), 1 / 255, "0123456789abcdef")


def replace_sets(patch, train, test):
    """Random images of their shapes and classes take the place of MNIST and CIFAR-10."""
    for name, shape in (("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))):
        read = functools.partial(random_images, train, test, *shape)
        patch.setitem(loading.SETS, name, loading.SETS[name]._replace(read=lambda settings, read=read: read()))


def test_a_preset_that_is_new_is_tested_here():
    assert set(EXPECTED) == set(PRESETS)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """evaluated(name, preset): its runs with one seed, the plans for one run of each variant, the keys left unread.

    A shape evaluation of all of `paper`'s runs takes 10 GB. What asks for a section of the config as a whole (as
    `hyper`, `tune` and `sweeps` are asked for) reads none of its keys here.
    """
    known = {}

    def evaluate(name, preset):
        if (name, preset) not in known:
            folder = tmp_path_factory.mktemp("evaluated")
            study, values = study_of(name), values_of(name, preset)
            with pytest.MonkeyPatch.context() as patch:
                replace_sets(patch, 60000, 10000)
                replace_graphs(patch)
                patch.setattr(Config, "as_dict", Config.content)
                runs = prepare(study, Asked(values | {"seeds": 1}, folder, "", (), ""), Requests()).rows
                only = COPIES.get((name, preset), "")
                launch = prepare(study, Asked(one_run_each(values), folder, only, (), ""), Requests())
                # Principal components are computed, not trained: there is no shape to evaluate.
                plans = plan(launch, np.array([run.variant != "pca" for run in launch.rows]))
            assert list(folder.iterdir()) == []
            known[name, preset] = runs, {each.name: each for _, each in plans}, launch.config.unread()
        return known[name, preset]

    return evaluate


@every_preset
def test_a_preset_resolves_to_its_runs_and_fits(name, preset, evaluated):
    runs, plans, _ = evaluated(name, preset)
    count, fits = EXPECTED[name, preset]
    assert len(runs) == len({(run.variant, run.hash) for run in runs})
    assert len(runs) * values_of(name, preset)["seeds"] == count
    assert {fit: (plans[fit].steps, plans[fit].parameters) for fit in fits} == fits


WHOLE = {"classifier": ("model",), "graph_nodes": ("optimizer",)}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_of_a_recipe_is_read(name, evaluated):
    read_elsewhere = {"runtime.tensorboard", "cost.nodes", "cost.edges"}  # after training
    unread = []
    for preset in CONFIGS[name].PRESETS:
        if (name, preset) in COPIES:
            continue
        _, _, keys = evaluated(name, preset)
        sections = ("hyper", "tune", "sweeps", *WHOLE.get(name, ()))  # read as a whole
        unread.append({key for key in keys if key.split(".")[0] not in sections} - read_elsewhere)
    assert set.intersection(*unread) == set()
    whole = ("categorical.", "generation.", "gradients.", "functions.", "compare.leave_one_out")  # read as sections
    whole += ("data.blocks.", "data.families.", "karate_club.", "label_propagation.", "spectral.", "gat.", "sampling.")
    left = {key for key in set.union(*unread) if not key.startswith(whole)}
    assert left <= {"model.top_k"}  # of k-sparse autoencoders, which only `full` has


@pytest.mark.parametrize(
    ("name", "named"), [(name, each) for name, module in CONFIGS.items() for each in module.get_config().sweeps]
)
def test_a_sweep_that_a_recipe_has_a_name_for_is_possible(name, named, tmp_path):
    launch = prepare(study_of(name), Asked(values_of(name, "smoke"), tmp_path, "", (named,), ""), Requests())
    assert len({json.dumps(run.point) for run in launch.rows}) > 1


# The smoke presets run as they are, from the command line (test_smoke.py); `default`, `mnist`, `cifar10_small` and
# `paper` are their fits, longer, larger and with other images; so are three of the classifier and `full` of
# trainability, whose networks have tests of their own.
SAME = ("smoke", "default", "mnist", "cifar10_small", "paper", "keras", "lenet", "digits_cnn")
SAME += ("cora", "citeseer", "pubmed", "tu", "large")  # longer, of other graphs
LARGE = (("trainability", "full"), ("graph_nodes", "full"))
OTHERS = [pair for pair in PRESETS if pair[1] not in SAME and pair not in LARGE]


@pytest.mark.parametrize(("name", "preset"), OTHERS, ids=lambda value: value)
def test_two_steps_of_every_fit_of_a_preset(name, preset, tmp_path, monkeypatch, compiling_quickly, png_alone):
    """With the preset's own networks, losses and optimizers; as many examples as its batches and labels need.

    Of `compare`, the kinds that smoke lacks, at depth 2 with the most labels: deeper layers are trained by the same
    code, and were shape-evaluated above; compiling them all takes minutes. Principal components of MNIST's 784 values
    are left out: they take seconds, no steps, and those of digits are compared with a reference in test_smoke.py.
    """
    study, values = study_of(name), one_run_each(values_of(name, preset))
    labels = ()
    if "labels" in values.get("compare", {}):
        labels = values["compare"]["labels"][-1:]
        own = set(values["compare"]["kinds"]) - set(values_of(name, "smoke")["compare"]["kinds"])
        values["compare"] |= {"depths": (2,), "labels": labels, "kinds": tuple(sorted(own)) or ("sparse",)}
        values["measure"] = {"sparsity_batches": (1, 8)}
    if "generation" in values:
        values["bound"] = {"samples": 2}
        values["generation"] |= {"samples": min(2, values["generation"]["samples"]), "codes": 10, "steps": 2}
    train = max(2 * values["batch_size"], 10 * max(labels, default=0))
    values["data"] |= {"train": 1200 if values["data"]["name"] == "digits" else 0}
    values["data"] |= {"validation": 0 if values["data"]["name"] == "shapes" else 40}
    values |= {"validate_every": 2} if "validate_every" in values else {"evaluations": 1}
    for section in (values, values.get("pretrain", {}), values.get("readout", {})):
        if section.get("steps") or section.get("epochs"):
            section |= {"steps": 2, "epochs": 0.0}
    replace_sets(monkeypatch, train + 40, 30)
    if values["data"]["name"] == "rendered_digits":  # as many as they need, not 10,000
        read = loading.SETS["rendered_digits"].read(None)
        few = {"train": {key: rows[: train + 70] for key, rows in read.splits["train"].items()}}
        kept = loading.SETS["rendered_digits"]._replace(read=lambda settings: read._replace(splits=few))
        monkeypatch.setitem(loading.SETS, "rendered_digits", kept)
        values["data"]["train"] = train
    variants = [name for name in study.variants(Config(values)) if name != "pca" or values["data"]["name"] == "digits"]
    asked = Asked(values, tmp_path, ",".join(variants), (), "the command")
    with compiling_quickly(), png_alone():
        found, count = execute(check(prepare(study, asked, Requests())), stop_on_failure=True)
    results = found.report.results
    assert count == len(variants)
    assert [row.variant for row in results.rows] == variants
    for row in results.rows:
        assert (len(row.runs), row.diverged, row.failed) == (1, 0, 0)
        elsewhere = {"test_error_before", *(name for name in study.columns if name.endswith("absolute_error"))}
        if preset == "angle":
            elsewhere = {"test_error", "validation_error", "train_error"}
        assert set(study.columns) - elsewhere <= set(row.metrics)
        assert np.isfinite(list(row.metrics.values())).all()
        whole = not row.variant.endswith("-top")  # fine-tuned after the output layer alone, in one preset
        assert ("test_error_before" in row.metrics) == (preset == "mnist_stacked" and whole)
    trained = {}
    for path in tmp_path.glob("*/*/seed=0/metrics.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            trained.setdefault(row["fit"], set()).add(row["step"])
    measured = ("classifier", "_bound", "_generation")  # of these no steps are part of a run's history
    assert set(trained) == {path.name for path in tmp_path.glob("programs/*/*") if not path.name.endswith(measured)}
    assert trained.keys() & {"depth2", "deep", "pathwise", "train"}
    assert all(steps == {2} for steps in trained.values())
    pictures = re.findall(r"\((figures/\w+\.png)\)", (tmp_path / "report.md").read_text())
    assert pictures and all((tmp_path / picture).is_file() for picture in pictures)
