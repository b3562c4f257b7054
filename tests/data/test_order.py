"""The order of examples is a permutation for each (seed, epoch), the same in NumPy and JAX, and looks random."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdl.data import order


def whole(seed, epoch, size):
    return order.index(np.uint32(seed), np.uint32(epoch), np.arange(size, dtype=np.uint32), size)


PAIRS = 3000


@functools.partial(jax.jit, static_argnums=2)
def _many(seeds, epochs, size):
    def one(seed, epoch):
        return order.index(seed, epoch, jnp.arange(size, dtype=jnp.uint32), size)

    return jax.vmap(one)(seeds, epochs)


def many(size, seeds, epochs):
    """The orders of 3,000 pairs (seed, epoch), int64 [3000, size]; one program for each size."""
    pairs = [np.broadcast_to(np.asarray(numbers, np.uint32), PAIRS) for numbers in (seeds, epochs)]
    return np.asarray(_many(*pairs, size)).astype(int)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 100, 1200, 55000])
def test_every_example_has_exactly_one_place_in_an_epoch(size):
    for seed, epoch in ((0, 0), (1, 0), (7, 123), (2**32 - 1, 2**32 - 1)):
        places = whole(seed, epoch, size)
        assert isinstance(places, np.ndarray)
        assert places.dtype == np.uint32
        np.testing.assert_array_equal(np.sort(places), np.arange(size))


@pytest.mark.parametrize("size", [1, 10, 97, 55000])
def test_numpy_and_jax_agree_inside_jit_and_vmap(size):
    """Over a window of places that includes both ends, for small and very large seeds."""
    window = np.unique(np.minimum([0, 1, 2, size // 2, size - 2 if size > 1 else 0, size - 1], size - 1))
    seeds, epochs = np.array([0, 3, 2**32 - 1], np.uint32), np.array([0, 9, 2**31], np.uint32)

    def one(seed, epoch, place):
        return order.index(seed, epoch, place, size)

    found = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))(seeds, epochs, window.astype(np.uint32))
    assert found.dtype == jnp.uint32
    for row, seed, epoch in zip(found, seeds, epochs, strict=True):
        np.testing.assert_array_equal(row, whole(seed, epoch, size)[window])


def test_a_part_of_an_epoch_is_that_part_of_the_whole():
    places = np.array([96, 0, 40, 41], np.uint32)
    expected = whole(5, 2, 97)[places]
    np.testing.assert_array_equal(order.index(np.uint32(5), np.uint32(2), places, 97), expected)
    eager = order.index(jnp.uint32(5), jnp.uint32(2), jnp.asarray(places), 97)
    assert isinstance(eager, jax.Array)
    np.testing.assert_array_equal(eager, expected)


def test_python_integers_serve_as_seed_and_epoch():
    np.testing.assert_array_equal(order.index(5, 2, np.arange(97, dtype=np.uint32), 97), whole(5, 2, 97))


@pytest.mark.parametrize("differ", ["seeds", "epochs", "seed and epoch swapped"])
def test_two_orders_agree_in_as_many_places_as_two_random_ones(differ):
    """Two random permutations agree in Poisson(1) places: over 3,000 pairs, 3000 +- sqrt(3000)."""
    numbers = np.arange(PAIRS)
    if differ == "seeds":
        first, second = many(97, numbers, 0), many(97, numbers + 1, 0)
    elif differ == "epochs":
        first, second = many(97, 3, numbers), many(97, 3, numbers + 1)
    else:
        first, second = many(97, numbers, numbers + 1), many(97, numbers + 1, numbers)
    agreements = (first == second).sum(axis=1)
    assert abs(agreements.sum() - PAIRS) < 4 * np.sqrt(PAIRS)
    assert agreements.max() < 10  # P(Poisson(1) >= 10) = 1e-7


@pytest.mark.parametrize("size", [3, 10, 97])
@pytest.mark.parametrize("vary", ["seeds", "epochs"])
def test_every_example_comes_to_every_place_equally_often(size, vary):
    """The counts of (place, example) are those of random permutations: chi-square with (size - 1)^2 degrees."""
    numbers = np.arange(PAIRS)
    found = many(size, numbers, 0) if vary == "seeds" else many(size, 11, numbers)
    table = np.zeros((size, size))
    np.add.at(table, (np.arange(size), found), 1)
    statistic = np.square(table - PAIRS / size).sum() / (PAIRS / size)
    assert scipy.stats.chi2((size - 1) ** 2).cdf(statistic) < 0.999


@pytest.mark.parametrize(("size", "columns"), [(1200, 35), (100, 10)])
def test_neighbours_in_an_epoch_are_no_neighbours_in_the_file(size, columns):
    """How far two places' examples lie apart in the file, modulo its size, is uniform on 1..size - 1.

    For neighbours, and for places one row of the grid apart on which the examples are permuted.
    """
    found = many(size, np.arange(PAIRS), np.arange(PAIRS))
    for distance in (1, columns):
        jumps = (found[:, distance:] - found[:, :-distance]) % size
        counts = np.bincount(jumps.reshape(-1), minlength=size)
        assert counts[0] == 0
        expected = jumps.size / (size - 1)
        statistic = np.square(counts[1:] - expected).sum() / expected
        assert scipy.stats.chi2(size - 2).cdf(statistic) < 0.999, distance


def test_place_and_example_are_not_correlated():
    """The correlation of two random orders of N has standard deviation 1 / sqrt(N - 1)."""
    size = 1200
    found = many(size, np.arange(PAIRS), np.arange(PAIRS)[::-1])[:300]
    place = np.arange(size)
    correlation = np.array([np.corrcoef(place, row)[0, 1] for row in found]) * np.sqrt(size - 1)
    assert scipy.stats.kstest(correlation, "norm").pvalue > 0.01
    next_one = np.array([np.corrcoef(row[:-1], row[1:])[0, 1] for row in found]) * np.sqrt(size - 1)
    assert scipy.stats.kstest(next_one, "norm").pvalue > 0.01
