"""The variance and the bias of estimators of one gradient, at given parameters, image by image."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl import batch as batches
from jaxdl.errors import UserError, unknown
from jaxdl.tasks.task import Batch, Metrics, Run

TINY = float(jnp.finfo(jnp.float32).tiny)  # about 1e-38
# Streams of random numbers of one estimator: of what is measured, and of what bias is measured against.
MEASURED, REFERENCE = range(2)


def gradient_moments(
    losses: dict[str, Callable[[Any, Any, Batch, Run, Array], tuple[Array, Any]]],
    blocks: dict[str, tuple[str, ...]],
    reference: str,
    samples: int,
    reference_samples: int,
) -> Callable[[Any, Any, Batch, Run, Array], Metrics]:
    """The `evaluate` that measures how noisy and how wrong each loss's gradient g is, for every image and block.

    With m the mean and T = sum |g - m|^2 / (n - 1) the total variance (the trace of the covariance) of n draws of g,
    and m_r, T_r, n_r those of further, independent draws of the reference, each image gets

        log10_variance_{estimator}_{block}   log10 T
        bias_{estimator}_{block}             (|m - m_r|^2 - T / n - T_r / n_r) / (|m_r|^2 - T_r / n_r)

    Both parts of the last fraction are unbiased, of |E g - E g_r|^2 and of |E g_r|^2: where nothing is wrong it
    scatters around 0, below as well as above. Its divisor is at least 1e-6 |m_r|^2, which it is only where the
    reference is lost in its own noise. T is at least 1e-38: a gradient without noise has -37.9.

    Image by image is all there is to know: a batch's loss is the mean over its B images, whose noise is independent, so
    the total variance of a batch's gradient, given its images, is the sum of theirs / B^2. A loss sees each image as a
    batch of one, which matters to what it computes over the batch, such as free bits.

    losses: {estimator: a Task's `loss`}; all get the same parameters and model_state
    blocks: {block: names in params}; a name may be in several blocks
    reference: the estimator that is right
    samples, reference_samples: n and n_r, at least 2 each; a few gradients an image are in memory, whatever they are
    batch: an image's draws depend on (key, the estimator's name, its position) only
    """
    if reference not in losses:
        raise unknown("reference", reference, losses)
    for name, count in (("samples", samples), ("reference_samples", reference_samples)):
        if count < 2:
            raise UserError(f"{name}={count} is not possible: a variance needs at least 2")
    names = tuple(dict.fromkeys(name for block in blocks.values() for name in block))

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        for name in names:
            if name not in params:
                raise unknown("parameters", name, params)
        measured = {name: params[name] for name in names}

        def moments(estimator: str, stream: int, image: Batch, count: int) -> tuple[Any, dict[str, Array]]:
            own = jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(zlib.crc32(estimator.encode()))), stream)

            def gradient(draw: Array) -> Any:
                def objective(measured: Any) -> Array:
                    draw_key = jax.random.fold_in(own, draw)
                    return losses[estimator](params | measured, model_state, image, run, draw_key)[0]

                return jax.grad(objective)(measured)

            return _moments(gradient, measured, count)

        def of_image(example: Batch) -> Metrics:
            image = {name: value[None] for name, value in example.items()}
            right, right_variance = moments(reference, REFERENCE, image, reference_samples)
            values = {}
            for estimator in losses:
                mean, variance = moments(estimator, MEASURED, image, samples)
                off = {name: _square(jax.tree.map(jnp.subtract, mean[name], right[name])) for name in names}
                for block, inside in blocks.items():
                    total = sum(variance[name] for name in inside)
                    noise = sum(right_variance[name] for name in inside) / reference_samples
                    length = sum(_square(right[name]) for name in inside)
                    bias = sum(off[name] for name in inside) - total / samples - noise
                    values[f"log10_variance_{estimator}_{block}"] = jnp.log10(jnp.maximum(total, TINY))
                    divisor = jnp.maximum(length - noise, jnp.maximum(1e-6 * length, TINY))
                    values[f"bias_{estimator}_{block}"] = bias / divisor
            return values

        def alone(example: Batch) -> Metrics:
            # An axis of one image hides the devices' axis of this name: no mean of the loss spans other images.
            return jax.vmap(lambda: of_image(example), axis_size=1, axis_name=batches.AXIS)()

        return {metric: values[:, 0] for metric, values in jax.vmap(alone)(batch).items()}  # [B, 1] -> [B]

    return evaluate


def _moments(gradient: Callable[[Array], Any], like: Any, count: int) -> tuple[Any, dict[str, Array]]:
    """Mean and total variance of gradient(0), ..., gradient(count - 1), {name: pytree} as `like`: the variance by name.

    By Welford's update (1962, Technometrics 4): a plain sum of squares would cancel in float32. Of the squares only the
    sum over the parameters is wanted: one number for each name, next to the mean.
    """

    def add(sums: tuple[Any, dict[str, Array]], draw: Array) -> tuple[tuple[Any, dict[str, Array]], None]:
        mean, squares = sums
        before = draw.astype(jnp.float32)
        off = jax.tree.map(jnp.subtract, gradient(draw), mean)
        mean = jax.tree.map(lambda mean, off: mean + off / (before + 1), mean, off)
        share = before / (before + 1)
        return (mean, {name: squares[name] + share * _square(off[name]) for name in squares}), None

    start = jax.tree.map(jnp.zeros_like, like), dict.fromkeys(like, jnp.float32(0))
    (mean, squares), _ = jax.lax.scan(add, start, jnp.arange(count, dtype=jnp.uint32))
    return mean, {name: total / (count - 1) for name, total in squares.items()}


def _square(tree: Any) -> Array:
    """|tree|^2, over all entries of all leaves."""
    return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(tree))
