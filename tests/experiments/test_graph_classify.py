"""The study of whole graphs: a TU folder in folds from beginning to end, the field's protocol, what is refused."""

import json

import numpy as np
import pytest

from configs.graph_classify import get_config
from experiments import _graph_classify_pictures as pictures
from experiments import graph_classify
from experiments.graph_classify import study
from jaxdl.data import graph_families
from jaxdl.errors import UserError
from jaxdl.study.config import Config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """36 graphs in TU Dortmund's files, with labels of nodes: their degrees, at most 6."""
    place, graph = tmp_path_factory.mktemp("tu") / "any name", graph_families.read(12, 3)
    place.mkdir()
    owner = np.repeat(np.arange(len(graph.sizes)), graph.sizes) + 1
    pairs = np.stack([graph.senders, graph.receivers], axis=1) + 1
    degree = np.minimum(np.bincount(graph.receivers, minlength=len(owner)), 6)
    for name, values in (
        ("A", [f"{a}, {b}" for a, b in pairs]), ("graph_indicator", owner), ("graph_labels", graph.labels),
        ("node_labels", degree),
    ):  # fmt: skip
        (place / f"MUTAG_{name}.txt").write_text("".join(f"{value}\n" for value in values))
    return place


def test_a_tu_folder_in_folds(folder, tmp_path, compiling_quickly, monkeypatch):
    counted = []
    drawn = pictures.confusion
    monkeypatch.setattr(pictures, "confusion", lambda counts, *rest: counted.append(counts) or drawn(counts, *rest))
    config = get_config("tu")
    config.data.dir, config.data.folds, config.seeds = str(folder), 3, 3
    config.epochs, config.evaluations, config.batch_size = 6.0, 6, 8
    config.model = dict(width=4, layers=2, buckets=2)
    config.compare.methods = ("counts", "gin")
    with compiling_quickly():
        found = study.run(config, workdir=tmp_path, stop_on_failure=True)
    results = found.report.results
    for row in results.rows:
        assert (len(row.runs), row.diverged, row.failed, row.absent) == (3, 0, 0, 0)
        np.testing.assert_array_equal(row.metrics["test_error"], row.metrics["validation_error"])  # one fold
        curves = []
        for path in sorted(tmp_path.glob(f"{row.variant}/*/*/metrics.jsonl")):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            curves.append({line["step"]: line["validation_error"] for line in lines})
        assert len(curves) == 3 and len(curves[0]) == 6
        means = {step: np.mean([curve[step] for curve in curves]) for step in curves[0]}
        best = min(means, key=lambda step: (means[step], step))
        spread = np.std([curve[best] for curve in curves])
        paper = " (the paper: 89.4 ± 5.6)" if row.variant == "gin" else ""
        said = f"over 3 folds): {100 * (1 - means[best]):.1f} ± {100 * spread:.1f} % right{paper}, step {best:,};"
        assert any(note.startswith(row.variant) and said in note for note in found.report.notes)
    (counts,) = counted
    assert counts.sum() == 36 and counts.sum(axis=1).tolist() == [12] * 3  # each graph is held out once
    assert 1 - np.trace(counts) / 36 == pytest.approx(np.mean(results.row("gin").metrics["test_error"]))
    (published,) = found.report.published
    assert (published.variant, round(published.value, 3), published.spread) == ("gin", 0.106, 0.056)
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {
        "graphs", "errors", "learning_curves", "confusion"
    }  # fmt: skip


def test_claims_are_about_variants_that_are_there():
    for preset, count in (("default", 7), ("smoke", 7), ("tu", 0)):
        config = Config(get_config(preset).to_dict())
        found = study.claims(config)
        assert len(found) == count
        for claim in found:
            assert {term for contrast in claim.contrasts for term in contrast} <= set(study.variants(config))


def test_the_best_epoch_is_the_first_with_the_least_mean():
    values = np.array([[0.3, 0.5], [0.1, 0.3], [0.2, 0.2], [0.5, 0.1]])
    step, mean, deviation = graph_classify.best_epoch([10, 20, 30, 40], values)
    assert step == 20 and mean == pytest.approx(0.2) and deviation == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("compare.methods", ("gni",), "unknown method in compare.methods 'gni'; did you mean 'gin'"),
        ("data.name", "tu", "data.name=tu needs data.dir: a folder of TU Dortmund's"),
        ("data.name", "cora", "unknown graph 'cora'"),
        ("data.most_nodes", 20, "graphs may have .* nodes, more than the largest bucket holds"),
        ("batch_size", 31, "batch_size=31 is not possible: valid is 1 to 30"),
        ("model.width", 0, "model.width=0 is not possible"),
    ],
)
def test_what_does_not_fit_is_told_before_training(key, value, message, tmp_path):
    config = get_config("smoke")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        study.run(config, workdir=tmp_path)
    assert "\n" not in str(error.value) and not list(tmp_path.glob("*/*/seed=*"))
