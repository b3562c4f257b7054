"""Pooling against loops over windows in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.models import average_pool, max_pool, min_pool, sum_pool

pytestmark = pytest.mark.usefixtures("quick_compilation")

POOLS = {
    "max": (max_pool, -np.inf, np.max),
    "min": (min_pool, np.inf, np.min),
    "sum": (sum_pool, 0, np.sum),
    "average": (average_pool, 0, np.mean),
    "average without padding": (functools.partial(average_pool, count_padding=False), np.nan, np.nanmean),
}
# window, stride, padding
GEOMETRIES = [(2, None, 0), (3, 2, 1), (3, 1, 1), (2, 1, 1), (3, None, 0), (2, 3, 0), (5, 2, 2), (1, 2, 0)]


def windows(maps, window, stride, padding, fill):
    """{(y, x): [B, window, window, C]} of the padded maps."""
    stride = stride or window
    padded = np.pad(maps, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
    rows, columns = (range(0, length - window + 1, stride) for length in padded.shape[1:3])
    return {
        (y, x): padded[:, top : top + window, left : left + window]
        for y, top in enumerate(rows)
        for x, left in enumerate(columns)
    }


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", POOLS)
def test_each_window_gives_its_value(name, geometry):
    pool, fill, reduce = POOLS[name]
    maps = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
    found = np.asarray(jax.jit(lambda maps: pool(maps, *geometry))(maps))
    wanted = windows(maps, *geometry, fill)
    assert found.dtype == np.float32 and found.shape[1:3] == tuple(1 + last for last in max(wanted))
    for (y, x), values in wanted.items():
        np.testing.assert_allclose(found[:, y, x], reduce(values, axis=(1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", POOLS)
def test_the_type_of_the_maps_is_kept(name):
    assert POOLS[name][0](jnp.ones((1, 4, 4, 1), jnp.bfloat16), 3, 2, 1).dtype == jnp.bfloat16


@pytest.mark.parametrize("pool", [max_pool, min_pool])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_the_gradient_goes_to_the_first_of_equal_values(pool, window, stride, padding):
    """Few values, so that nearly every window has several that are equal."""
    maps = np.random.default_rng(1).integers(0, 3, (2, 6, 7, 2)).astype(np.float32)
    sign = 1 if pool is max_pool else -1
    wanted = np.zeros((2, 6 + 2 * padding, 7 + 2 * padding, 2))
    found_windows = windows(sign * maps, window, stride, padding, -np.inf)
    weight = np.random.default_rng(2).normal(size=(2, *(1 + last for last in max(found_windows)), 2))
    for (y, x), values in found_windows.items():
        first = values.reshape(2, -1, 2).argmax(axis=1)  # [B, C], the first of equal ones in reading order
        for example, channel in np.ndindex(2, 2):
            row, column = divmod(first[example, channel], window)
            wanted[example, y * stride + row, x * stride + column, channel] += weight[example, y, x, channel]
    gradient = jax.grad(lambda maps: (pool(maps, window, stride, padding) * weight.astype(np.float32)).sum())
    found = jax.jit(gradient)(maps)
    np.testing.assert_allclose(found, wanted[:, padding : padding + 6, padding : padding + 7], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, min_pool])
def test_a_value_that_is_not_a_number_stays_one(pool):
    for place in np.ndindex(2, 2):
        maps = np.ones((1, 2, 2, 1), np.float32)
        maps[0, *place, 0] = np.nan
        assert np.isnan(pool(jnp.asarray(maps), 2)).all(), place


def test_a_window_without_a_pixel_is_refused():
    with pytest.raises(ValueError, match="padding=2 is not possible with a window of 3"):
        average_pool(jnp.ones((1, 4, 4, 1)), 3, 1, 2)
