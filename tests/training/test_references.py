"""Whole fits against other libraries."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from jaxdl import data, models, tasks, training

pytestmark = pytest.mark.usefixtures("quick_compilation")

LBFGS = SimpleNamespace(
    name="lbfgs", schedule="constant", warmup=0.0, milestones=(), decay=0.1, clip_norm=0.0,
    weight_decay="kernel=1,bias=0", learning_rate_multipliers=".*=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def source():
    """300 digits as one full batch."""
    arrays = data.SETS["digits"].read(None)
    parts = {
        split: {key: np.asarray(rows) for key, rows in part.items()}
        for split, part in data.splits.split("digits", arrays, 300, 100).items()
    }
    normalise = data.normalisation.fit("unit", parts["train"]["image"], arrays.scale)
    return data.Source("digits", parts, arrays.names, normalise, arrays.fingerprint, 300)


def full_batch(tmp_path, source, task, steps, weight_decay=0.0):
    """One run of full-batch L-BFGS."""
    zero = np.zeros(1, np.float32)
    names = ("masking", "gaussian", "salt_pepper", "sparsity_weight", "sparsity_target")
    hyper = {name: zero for name in names} | {
        "learning_rate": zero + 1,
        "weight_decay": zero + np.float32(weight_decay),
    }
    settings = training.Settings(tmp_path, jax.devices()[:1])
    optimizer = training.optimizer(LBFGS, steps)
    runs = {"seed": np.zeros(1, np.uint32), "hyper": hyper}
    return training.fit("reference", task, optimizer, source, runs, settings, steps=steps, evaluations=1)


def test_a_linear_autoencoder_reaches_the_error_of_pca(tmp_path, source):
    """The best linear reconstruction from k numbers is PCA's: scikit-learn's error is the minimum."""
    images = source.data["train"]["image"].reshape(300, -1) / 16
    pca = PCA(3).fit(images)
    best = ((pca.inverse_transform(pca.transform(images)) - images) ** 2).sum(axis=1).mean()
    network = models.Autoencoder(64, (3,), code_unit="linear")
    fitted = full_batch(tmp_path, source, tasks.reconstruct(network, 64, "squared_error", bounded=False), 150)
    assert best * (1 - 1e-5) < fitted.metrics["train_squared_error"][0] < best * 1.001


def test_softmax_regression_with_l2_reaches_the_minimum_of_scikit_learn(tmp_path, source):
    """scikit-learn minimises sum_i loss_i + |W|^2 / (2 C): weight decay 1 / (C N) of the mean loss."""
    images, labels = source.data["train"]["image"].reshape(300, -1) / 16, source.data["train"]["label"]
    reference = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(images, labels)
    task = tasks.classify(models.MLP((), 10), (8, 8, 1))
    fitted = full_batch(tmp_path, source, task, 100, weight_decay=1 / 300)
    kernel = fitted.params["output"]["kernel"][0]
    # Adding a constant to all logits changes nothing: compare the probabilities.
    logits = images @ kernel + fitted.params["output"]["bias"][0]
    ours = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, reference.predict_proba(images), atol=2e-3)
