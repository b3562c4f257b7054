"""What looks across a batch gives the same numbers on 8 devices as on one, and as plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdl import batch as batches

DEVICES, SIZE = 8, 24


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def split(values):
    """[B, ...] -> [D, B / D, ...], as examples lie on the devices: the first B / D on the first one."""
    return values.reshape(DEVICES, SIZE // DEVICES, *values.shape[1:])


def test_on_one_device_the_functions_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert batches.shards() == 1
    np.testing.assert_array_equal(batches.positions(5), np.arange(5, dtype=np.uint32), strict=True)
    np.testing.assert_allclose(batches.batch_mean(jnp.asarray(values)), values.mean(axis=0), rtol=1e-6)
    tree = {"a": jnp.asarray(values)}
    assert batches.across_devices(tree) is tree
    assert batches.gather(tree["a"]) is tree["a"]


def test_on_eight_devices_every_device_sees_the_whole_batch():
    values = np.random.default_rng(1).normal(size=(SIZE, 3)).astype(np.float32)

    def all_functions(values):
        return {
            "shards": jnp.int32(batches.shards()),
            "positions": batches.positions(SIZE),
            "mean": batches.batch_mean(values),
            "whole": batches.gather(values),
            "tree": batches.across_devices({"sum": values.sum(), "first": values[0]}),
        }

    found = jax.pmap(all_functions, axis_name=batches.AXIS)(split(values))
    np.testing.assert_array_equal(found["shards"], [DEVICES] * DEVICES)
    assert found["positions"].dtype == jnp.uint32
    np.testing.assert_array_equal(found["positions"], split(np.arange(SIZE)))
    for device in range(DEVICES):
        np.testing.assert_allclose(found["mean"][device], values.mean(axis=0), rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(found["whole"][device], values)
        np.testing.assert_allclose(found["tree"]["sum"][device], values.sum() / DEVICES, rtol=1e-5)
        np.testing.assert_allclose(found["tree"]["first"][device], split(values)[:, 0].mean(axis=0), rtol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("devices", [1, DEVICES])
def test_gradient_of_a_loss_on_the_batch_mean_is_the_one_of_the_whole_batch(devices):
    """For two runs side by side (vmap inside pmap), against central differences of the loss in NumPy.

    Averaged over devices, as the training step takes it, and through `whole`, as a line search takes it.
    """
    draw = np.random.default_rng(2)
    values, weights, strengths = draw.normal(size=(SIZE, 3)), draw.normal(size=(2, 3, 4)), np.array([0.5, 3.0])

    def both(weight, strength, values):
        def loss(weight):  # not linear in the mean, so a mean of means would be another loss
            hidden = jnp.tanh(values @ weight)
            return strength * jnp.square(batches.batch_mean(hidden) - 0.3).sum() + jnp.square(hidden).mean()

        averaged = batches.across_devices(jax.value_and_grad(loss)(weight))
        half, gradient = jax.value_and_grad(lambda weight: 0.5 * batches.whole(loss)(weight))(weight)
        return averaged, (2 * half, 2 * gradient)

    runs = jax.vmap(both, in_axes=(0, 0, None))
    if devices == 1:
        found = jax.tree.map(lambda leaf: leaf[None], jax.jit(runs)(weights, strengths, values))
    else:
        found = jax.pmap(runs, axis_name=batches.AXIS, in_axes=(None, None, 0))(weights, strengths, split(values))

    def plain(weight, strength):
        hidden = np.tanh(values @ weight)
        return strength * np.square(hidden.mean(axis=0) - 0.3).sum() + np.square(hidden).mean()

    for run, (weight, strength) in enumerate(zip(weights, strengths, strict=True)):
        expected = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            change = np.zeros_like(weight)
            change[place] = 1e-5
            expected[place] = (plain(weight + change, strength) - plain(weight - change, strength)) / 2e-5
        for losses, gradients in found:
            assert len(losses) == devices
            for device in range(devices):
                np.testing.assert_allclose(losses[device, run], plain(weight, strength), rtol=1e-12)
                np.testing.assert_allclose(gradients[device, run], expected, rtol=1e-7, atol=1e-9)


def test_uniform_bits_are_uniform_in_both_bytes_and_at_every_place():
    program = jax.jit(lambda places: batches.uniform_bits(jax.random.key(3), places, (7, 31)))
    bits = np.asarray(program(np.arange(600, dtype=np.uint32)))
    assert bits.shape == (600, 7, 31)  # an odd number of values: the last word serves one draw only
    assert bits.dtype == np.uint16
    for byte in (bits >> 8, bits & 255):
        assert scipy.stats.chisquare(np.bincount(byte.reshape(-1), minlength=256)).pvalue > 0.01
    # The mean of n uniform integers below 65536 has standard deviation 65536 / sqrt(12 n).
    for axis, count in ((0, 600), ((1, 2), 7 * 31)):
        score = (bits.mean(axis=axis) - 32767.5) / (65536 / np.sqrt(12 * count))
        assert np.abs(score).max() < 4.5
        assert scipy.stats.kstest(score.reshape(-1), "norm").pvalue > 0.01


def test_normal_noise_is_standard_normal():
    program = jax.jit(lambda places: batches.normal(jax.random.key(4), places, (10, 7)))
    noise = np.asarray(program(np.arange(300, dtype=np.uint32)))
    assert noise.shape == (300, 10, 7)
    assert noise.dtype == np.float32
    assert scipy.stats.kstest(noise.reshape(-1), "norm").pvalue > 0.01
    assert scipy.stats.kstest(noise.mean(axis=(1, 2)) * np.sqrt(70), "norm").pvalue > 0.01  # examples differ
    assert scipy.stats.kstest(noise.mean(axis=0).reshape(-1) * np.sqrt(300), "norm").pvalue > 0.01


@pytest.mark.parametrize("draw", [batches.uniform_bits, batches.normal])
def test_random_numbers_depend_on_key_and_position_only(draw):
    program = jax.jit(lambda seed, places: draw(jax.random.key(seed), places, (3, 3)))
    whole = np.asarray(program(5, np.arange(12, dtype=np.uint32)))
    for places in ([3, 4, 5], [11, 0, 7]):
        np.testing.assert_array_equal(program(5, np.array(places, np.uint32)), whole[places])
    assert len({example.tobytes() for example in whole}) == 12
    other = np.asarray(program(6, np.arange(12, dtype=np.uint32)))
    assert not (other == whole).all(axis=(1, 2)).any()
