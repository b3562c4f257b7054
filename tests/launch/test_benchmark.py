"""The benchmark compares equals: the VAE in PyTorch has the task's loss and gradients."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxdl import models, tasks
from jaxdl.errors import UserError
from launch import beside_torch

SOURCE = SimpleNamespace(
    data={"train": {"image": np.random.default_rng(0).integers(0, 256, (100, 28, 28, 1), np.uint8)}}
)


def task(**options):
    return tasks.elbo(models.VAE(784, beside_torch.WIDTHS, beside_torch.LATENT, **options), 784, binarise="resampled")


@pytest.fixture(autouse=True)
def torch():
    pytest.importorskip("torch", reason="PyTorch is not here: pip install torch")


def test_both_have_the_same_loss_and_gradients():
    beside_torch.check_same_loss(task(), SOURCE)


def test_another_network_is_not_compared():
    with pytest.raises(UserError, match="jaxdl and PyTorch differ"):
        beside_torch.check_same_loss(task(unit="relu"), SOURCE)


def test_another_gradient_is_not_compared(monkeypatch):
    right = beside_torch.torch_loss

    def doubled(*arguments):
        loss = right(*arguments)
        return 2 * loss - loss.detach()

    monkeypatch.setattr(beside_torch, "torch_loss", doubled)
    with pytest.raises(UserError, match="jaxdl and PyTorch differ"):
        beside_torch.check_same_loss(task(), SOURCE)
