"""The study of depth on graphs: what it compares, what a distance is, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs.graph_depth import get_config
from experiments import graph_depth
from experiments.graph_depth import study
from jaxdl.errors import UserError
from jaxdl.study.config import Config


def test_a_spread_is_that_of_all_pairs():
    draw = np.random.default_rng(0)
    for shift in (0.0, 1.0, 30.0):
        values = draw.standard_normal((12, 5)) + shift
        pairs = np.square(values[:, None] - values[None]).sum(axis=2).mean()
        expected = np.sqrt(pairs / (2 * np.square(values).sum(axis=1).mean()))
        np.testing.assert_allclose(graph_depth.spread(jnp.float32(values)), expected, rtol=2e-3)
        np.testing.assert_allclose(graph_depth.spread(jnp.float32(1e-25 * values)), expected, rtol=2e-3)
    assert graph_depth.spread(jnp.ones((4, 3))) == 0 == graph_depth.spread(jnp.zeros((4, 3)))


def test_networks_have_the_depth_that_their_name_says():
    config = Config(get_config().to_dict())
    found = study.variants(config)
    assert list(found)[:2] == ["plain-2", "plain-4"]
    for name, settings in found.items():
        net = graph_depth.network(config, settings, 5)
        assert len(net.widths) + 1 == int(name.rpartition("-")[2])
        assert net.residual == name.startswith("residual") and net.normalised == name.startswith("norm")


def test_claims_are_about_variants_that_are_there():
    for preset in ("default", "smoke", "cora"):
        config = Config(get_config(preset).to_dict())
        variants, found = set(study.variants(config)), study.claims(config)
        assert found
        for claim in found:
            assert {term for contrast in claim.contrasts for term in contrast} <= variants


def test_the_smoke_preset_from_beginning_to_end(tmp_path, quick_compilation):
    found = study.run("smoke", workdir=tmp_path, stop_on_failure=True)
    for row in found.report.results.rows:
        assert (len(row.runs), row.diverged, row.failed, row.absent) == (2, 0, 0, 0)
        assert set(study.columns) <= set(row.metrics)
        assert ((row.metrics["test_distance"] > 0) & (row.metrics["test_distance"] < 1)).all()
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert names == {"error_by_depth", "training_error_by_depth", "distance_by_depth", "distance_before_training"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("compare.kinds", ("plian",), "unknown kind of network in compare.kinds 'plian'; did you mean 'plain'"),
        ("compare.depths", (4, 2), r"compare.depths=\(4, 2\): valid are numbers of layers from 2"),
        ("compare.depths", (1, 2), "valid are numbers of layers from 2"),
        ("model.width", 0, "model.width=0 is not possible"),
    ],
)
def test_what_does_not_fit_is_told_before_training(key, value, message, tmp_path):
    config = get_config("smoke")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        study.run(config, workdir=tmp_path)
