"""Batch normalisation, arXiv 1502.03167."""

import jax
from flax import linen as nn
from jax import Array

from jaxdl.batch import AXIS, shards
from jaxdl.errors import UserError


def batch_norm(hidden: Array, train: bool, name: str) -> Array:
    """gamma (x - mean) / sqrt(variance + 1e-5) + beta for each channel (algorithm 1): [B, ..., C] -> [B, ..., C].

    Called inside a module's compact method; gamma and beta are its parameters `name`/scale and `name`/bias.

    train: mean and variance are those of the whole batch, over all the devices that share it, and move the running ones
        in the collection `batch_stats` a tenth of the way to them; otherwise the running ones are used

    The running variance is the mean of the biased variances that the batches were divided by. PyTorch's is larger by
    n / (n - 1), n the values of a channel in a batch; algorithm 2 of the paper has that factor too.

    Raises UserError for training on a single value a channel, which would become beta whatever it is.
    """
    norm = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=hidden.dtype,
        axis_name=AXIS if shards() > 1 else None,
        # E[x^2] - E[x]^2 loses all digits where the mean is 1,000 standard deviations
        use_fast_variance=False,
        name=name,
    )
    if train and not norm.is_initializing() and hidden.size // hidden.shape[-1] * shards() == 1:
        shape = "x".join(map(str, hidden.shape[1:-1])) or "1"
        raise UserError(
            f"batch norm can't train on a batch of 1 where a channel is {shape}: it would be constant; "
            "a batch has at least 2 examples"
        )
    # Statistics are at least float32 whatever the maps are, a promotion that Flax leaves to JAX.
    with jax.numpy_dtype_promotion("standard"):
        return norm(hidden)
