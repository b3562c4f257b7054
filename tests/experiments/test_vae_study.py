"""The VAE study's own parts: what it refuses, what it says of papers, warnings, great circles."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs import vae_reparameterization as recipe
from experiments import _vae_claims, _vae_pictures
from experiments.vae_reparameterization import study
from jaxdl.errors import UserError
from jaxdl.study import Config
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.training.stopping import Requests


def values_of(preset="smoke", **changes):
    values = recipe.get_config(preset).to_dict()
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section] = values[section] | {name: value} if name else value
    return values


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(model__latent=0), "model.latent=0 is not possible"),
        (dict(hyper__noise=0.5), "hyper.noise=0.5 is not possible: valid is 1, or 0 for no noise"),
        (dict(hyper__beta=-1.0), "hyper.beta=-1.0 is not possible: valid is 0 or more"),
        (dict(data__normalise="channel"), "data.normalise=channel is not possible with a Bernoulli decoder"),
        (dict(data__normalise="channel", model__decoder="gaussian", model__binarise="resampled"), "binarised pixels"),
        (dict(model__binarise="resample"), "did you mean 'resampled'?"),
        (dict(model__decoder="bernouli"), "did you mean 'bernoulli'?"),
        (dict(steps=50), "gradients.points=(0, 60): valid are 0 to 50"),
        (dict(categorical__units=0), "0 units of 2 classes are not possible"),
        (dict(compare__estimators=("pathwize",)), "did you mean 'pathwise'?"),
        (dict(bound__samples=0), "bound.samples=0 is not possible: valid is 1 to 1000000"),
        (dict(bound__samples=10**10), "bound.samples=10000000000 is not possible"),
        (dict(gradients__samples=1), "samples=1 is not possible"),
        (dict(compare__leave_one_out=1), "samples=1 is not possible with score_leave_one_out"),
    ],
)
def test_what_is_not_possible_is_said_before_anything_is_trained(changes, said, tmp_path):
    values = values_of(**changes)
    with pytest.raises(UserError) as error:
        check(prepare(study, Asked(values, tmp_path, "", (), ""), Requests()))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_presets_that_compare_less_read_all_of_their_keys_too(tmp_path):
    launch = check(prepare(study, Asked(values_of("shapes", seeds=1), tmp_path, "", (), ""), Requests()))
    assert [plan.name for _, plan in launch.plans] == ["pathwise", "pathwise_bound"] and not launch.config.unread()


def test_a_gaussian_decoder_takes_any_values(tmp_path):
    values = values_of(data__normalise="channel", model__decoder="gaussian")
    values["gradients"]["points"], values["categorical"]["estimators"] = (), ()
    launch = check(prepare(study, Asked(values, tmp_path, "pathwise", (), ""), Requests()))
    assert [plan.name for _, plan in launch.plans][:2] == ["classifier", "pathwise"]


def test_bias_is_measured_where_its_reference_trains_no_variant(tmp_path):
    values = values_of(categorical__estimators=("gumbel_softmax",), generation__samples=0)
    launch = check(prepare(study, Asked(values, tmp_path, "categorical-*", (), ""), Requests()))
    assert "categorical_gumbel_softmax_gradients" in [plan.name for _, plan in launch.plans]


def test_the_published_likelihood_stands_beside_nothing_but_its_own_setting():
    def published(**changes):
        return _vae_claims.published(Config(values_of("mnist", **changes)))

    (number,) = published()
    assert (number.variant, number.metric, number.value) == ("pathwise", "test_bound", -86.76)
    assert published(model__binarise="fixed") == published(model__latent=20) == published(bound__samples=50) == []
    assert _vae_claims.published(Config(values_of("default"))) == []


def test_what_differs_from_the_paper_is_empty_for_its_own_recipe():
    assert _vae_claims.differs(Config(values_of("paper"))) == []
    said = " ".join(_vae_claims.differs(Config(values_of("mnist", model__channels=(16, 32)))))
    assert "The encoder is convolutions of 16-32 channels and 200-50 instead of 200-200-50." in said
    said = " ".join(_vae_claims.differs(Config(values_of("mnist", model__binarise="fixed"))))
    assert "binarised once" in said and "100 epochs on batches of 100" in said and "MNIST" not in said


def test_a_collapsed_posterior_is_a_warning_and_an_autoencoder_is_none():
    def row(variant, active, noise):
        run = SimpleNamespace(settings={"latent": 8}, hyper={"noise": noise})
        metrics = {"test_active_units": np.array(active), "test_kl": np.array([0.01, 0.03])}
        return SimpleNamespace(variant=variant, runs=[run], metrics=metrics)

    rows = [row("beta-10", [0.0, 0.0], 1.0), row("pathwise", [4.0, 5.0], 1.0), row("autoencoder", [0.0, 0.0], 0.0)]
    notes = _vae_claims.notes(Config(values_of()), SimpleNamespace(rows=rows))
    (warning,) = [note for note in notes if note.startswith("warning")]
    assert warning == "warning: beta-10 has collapsed: 0.0 of 8 units are active (KL 0.02 nats)"


def test_a_great_circle_keeps_the_length_and_a_line_is_a_line():
    share = np.linspace(0, 1, 5)[:, None]
    start, end = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    found = _vae_pictures.spherical(start, end, share)
    angle = np.linspace(0, np.pi / 2, 5)
    np.testing.assert_allclose(found, 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1), atol=1e-12)
    np.testing.assert_allclose(_vae_pictures.spherical(start, 2 * start, share)[:, 0], [3, 3.75, 4.5, 5.25, 6])
