"""Normalisations against NumPy in float64 and scikit-learn."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing

from jaxdl.data import Rows, load, normalisation
from jaxdl.errors import UserError

COUNT, NEW = 23, 9


def make(form, count=COUNT, seed=0, wide=1.0):
    """Stored values; each channel and each pixel has a mean and a spread of its own. wide: stretches floats."""
    draw = np.random.default_rng(seed)
    if form in ("grey", "colour"):
        shape = (4, 5, 1) if form == "grey" else (4, 5, 3)
        top = np.random.default_rng(9).integers(30, 256, shape)
        return draw.integers(0, np.broadcast_to(top, (count, *shape)), dtype=np.uint8)
    shape = (3, 2, 2) if form == "float images" else (6,)
    place, spread = np.random.default_rng(9).normal(size=(2, *shape)) * [[5.0], [2.0]] if shape == (6,) else (0.3, 2.0)
    channel = 3 ** np.arange(shape[-1])
    return (wide * draw.normal(size=(count, *shape)) * spread * channel + place).astype(np.float32)


FORMS = {"grey": 1 / 255, "colour": 1 / 255, "float images": 1.0, "table": 1.0}


def expected(kind, train, values, scale):
    """What `values` become, in float64, with statistics of `train`: loops over channels, or over pixels."""
    train, x = train.astype(np.float64) * scale, values.astype(np.float64) * scale
    if kind == "pixel_mean":
        return x - np.mean(train, axis=0)
    result = np.empty_like(x)
    for channel in range(x.shape[-1]):
        seen = train[..., channel].ravel()
        if kind == "channel":
            result[..., channel] = (x[..., channel] - np.mean(seen)) / np.std(seen)
        elif np.issubdtype(values.dtype, np.integer):
            result[..., channel] = x[..., channel]
        else:
            low, high = min(seen), max(seen)
            result[..., channel] = np.minimum(np.maximum((x[..., channel] - low) / (high - low), 0), 1)
    return np.where(result >= 0.5, 1.0, 0.0) if kind == "binarised" else result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", normalisation.KINDS)
@pytest.mark.parametrize("block", [1, 5, 2000])
def test_each_kind_is_what_numpy_computes_in_double_precision(kind, form, block, monkeypatch):
    monkeypatch.setattr(normalisation, "_BLOCK", block)
    train, new = make(form), make(form, NEW, seed=1, wide=3)
    fitted = normalisation.fit(kind, train, FORMS[form])
    for values in (train, new):
        found = fitted(values)
        assert (found.dtype, found.shape) == (jnp.float32, values.shape)
        np.testing.assert_allclose(found, expected(kind, train, values, FORMS[form]), rtol=2e-6, atol=3e-6)


@pytest.mark.parametrize("form", FORMS)
def test_training_values_have_the_range_mean_and_deviation_that_the_kind_promises(form):
    train = make(form)
    axes = tuple(range(train.ndim - 1))
    found = {kind: np.asarray(normalisation.fit(kind, train, FORMS[form])(train)) for kind in normalisation.KINDS}
    np.testing.assert_allclose(found["channel"].mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(found["channel"].std(axis=axes), 1, atol=1e-5)
    np.testing.assert_allclose(found["pixel_mean"].mean(axis=0), 0, atol=1e-5)
    assert set(np.unique(found["binarised"])) == {0, 1}
    if FORMS[form] == 1:
        np.testing.assert_array_equal(found["unit"].min(axis=axes), 0)
        np.testing.assert_allclose(found["unit"].max(axis=axes), 1, rtol=3e-7)
        assert found["unit"].max() <= 1  # not a bit more: cross-entropy needs values in [0, 1]


@pytest.mark.parametrize("kind", ["unit", "binarised"])
def test_values_outside_the_range_of_the_training_split_are_clipped(kind):
    fitted = normalisation.fit(kind, np.array([[1.0], [3.0]], np.float32), 1.0)
    found = fitted(np.array([[-1e9], [0.9], [1], [1.9], [2.1], [3], [3.1], [1e9]], np.float32))
    steps = [0, 0, 0, 0.45, 0.55, 1, 1, 1]
    np.testing.assert_allclose(found[:, 0], np.rint(steps) if kind == "binarised" else steps, atol=1e-6)


@pytest.mark.parametrize("kind", ["channel", "pixel_mean"])
def test_other_kinds_are_not_clipped(kind):
    fitted = normalisation.fit(kind, np.array([[1.0], [3.0]], np.float32), 1.0)
    np.testing.assert_allclose(fitted(np.array([[-98.0], [102.0]], np.float32)), [[-100], [100]])


def test_half_is_binarised_to_one():
    fitted = normalisation.fit("binarised", np.arange(17, dtype=np.uint8)[:, None, None, None], 1 / 16)
    assert fitted(np.arange(17, dtype=np.uint8)[:, None, None, None]).ravel().tolist() == [0] * 8 + [1] * 9


@pytest.mark.parametrize("value", [0, 5, 20, 21, 31, 107, 255])
@pytest.mark.parametrize("count", [7, 999, 1000])
def test_a_channel_of_integers_that_never_changes_keeps_its_scale(value, count):
    """Of these values some have, in floating point, a mean that is not the value, unless one takes care."""
    train = np.full((count, 1, 2, 2), value, np.uint8)
    train[..., 1] = np.arange(2 * count).reshape(count, 1, 2) % 200
    new = np.array([[value, 3], [255 - value, 3]], np.uint8).reshape(1, 1, 2, 2)
    found = np.asarray(normalisation.fit("channel", train, 1 / 255)(new))[..., 0].ravel()
    np.testing.assert_allclose(found, [0, (255 - 2 * value) / 255], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9, 3e-30])
def test_a_feature_that_never_changes_keeps_its_scale(value):
    train = np.full((1001, 2), value, np.float32)
    train[:, 1] = np.arange(1001)
    new = np.array([[value, 0], [np.float32(value) + np.float32(0.25), 0]], np.float32)
    more = float(new[1, 0]) - float(new[0, 0])  # 1e9 has no neighbour so near
    for kind in ("unit", "channel", "pixel_mean"):
        found = np.asarray(normalisation.fit(kind, train, 1.0)(new))[:, 0]
        np.testing.assert_allclose(found, [0, more], atol=1e-7, err_msg=kind)


def test_small_spreads_are_found():
    """In single precision the sums of the first two would be off by more than the spread."""
    train = np.random.default_rng(0).normal(size=(30_000, 3)) * [0.05, 3e3, 1e-9] + [1000, 1.7e9, 0]
    train = train.astype(np.float32)
    fitted = normalisation.fit("channel", train, 1.0)
    np.testing.assert_allclose(fitted.offset, train.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(fitted.factor, 1 / train.astype(np.float64).std(axis=0), rtol=1e-6)
    fitted = normalisation.fit("unit", train, 1.0)
    np.testing.assert_allclose(fitted.factor, 1 / np.ptp(train.astype(np.float64), axis=0), rtol=1e-6)


# Against scikit-learn


def test_tables_are_standardised_as_scikit_learn_does():
    train, new = make("table"), make("table", NEW, seed=1, wide=3)
    other = sklearn.preprocessing.StandardScaler().fit(train.astype(np.float64))
    fitted = normalisation.fit("channel", train, 1.0)
    np.testing.assert_allclose(fitted.offset, other.mean_, rtol=1e-6)
    np.testing.assert_allclose(fitted.factor, 1 / other.scale_, rtol=1e-6)
    np.testing.assert_allclose(fitted(new), other.transform(new.astype(np.float64)), rtol=2e-6, atol=3e-6)


def test_tables_are_brought_to_the_unit_interval_as_scikit_learn_does():
    train, new = make("table"), make("table", NEW, seed=1, wide=3)
    other = sklearn.preprocessing.MinMaxScaler(clip=True).fit(train.astype(np.float64))
    found = np.asarray(normalisation.fit("unit", train, 1.0)(new))
    np.testing.assert_allclose(found, other.transform(new.astype(np.float64)), rtol=2e-6, atol=3e-6)
    assert (found == 0).any() and (found == 1).any()  # some were clipped


# Where the values lie, and where they go


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", normalisation.KINDS)
def test_rows_of_an_array_in_memory_or_in_a_file_give_the_same_as_the_array(kind, form, tmp_path, monkeypatch):
    monkeypatch.setattr(normalisation, "_BLOCK", 6)
    pool = make(form, 40)
    np.save(tmp_path / "pool.npy", pool)
    index = np.random.default_rng(3).permutation(40)[:COUNT]
    plain = normalisation.fit(kind, pool[index], FORMS[form]).plain()
    assert normalisation.fit(kind, Rows(pool, index), FORMS[form]).plain() == plain
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    assert normalisation.fit(kind, Rows(mapped, index), FORMS[form]).plain() == plain
    if kind in ("channel", "pixel_mean"):
        assert normalisation.fit(kind, pool, FORMS[form]).plain() != plain


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", normalisation.KINDS)
def test_what_a_run_stores_in_json_restores_the_same_bits(kind, form):
    train, new = make(form), make(form, NEW, seed=1, wide=3)
    fitted = normalisation.fit(kind, train, FORMS[form])
    again = normalisation.restore(json.loads(json.dumps(fitted.plain())))
    assert (again.kind, again.scale) == (kind, FORMS[form])
    for name in ("offset", "factor"):
        before, after = getattr(fitted, name), getattr(again, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert (after.dtype, after.shape, after.tobytes()) == (np.float32, before.shape, before.tobytes())
    assert np.asarray(again(new)).tobytes() == np.asarray(fitted(new)).tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", normalisation.KINDS)
def test_compiled_and_mapped_over_runs_it_gives_the_same(kind, form):
    runs = np.stack([make(form, NEW, seed, wide=2) for seed in range(3)])
    fitted = normalisation.fit(kind, make(form), FORMS[form])
    one_by_one = np.stack([fitted(run) for run in runs])
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda stored: fitted(stored)))(runs), one_by_one, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda stored: fitted(stored))(runs[0]), one_by_one[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", normalisation.KINDS)
def test_bounded_says_whether_any_value_can_leave_the_unit_interval(kind, form):
    fitted = normalisation.fit(kind, make(form), FORMS[form])
    values = np.asarray(fitted(make(form, 200, seed=4, wide=10)))
    assert fitted.bounded == (values.min() >= 0 and values.max() <= 1)


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UserError) as caught:
        normalisation.fit("binarized", make("grey"), 1 / 255)
    assert str(caught.value) == (
        "unknown data.normalise 'binarized'; did you mean 'binarised'? valid: unit, pixel_mean, channel, binarised"
    )


# The training split alone


@pytest.mark.parametrize("form", ["float images", "table", "colour"])
@pytest.mark.parametrize("kind", normalisation.KINDS)
def test_a_loaded_set_is_normalised_by_its_training_split_alone(kind, form, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    fitted = []
    for number, wide in enumerate((1, 4)):
        parts = {"train": make(form)}
        parts |= {split: make(form, 8, 5 + number, wide) for split in ("test", "validation")}
        arrays = {f"x_{split}": values for split, values in parts.items()}
        arrays |= {f"y_{split}": np.arange(len(values)) % 2 for split, values in parts.items()}
        np.savez(tmp_path / f"{number}.npz", **arrays)
        source = load(settings(str(tmp_path / f"{number}.npz"), kind), 4)
        fitted.append(json.dumps(source.normalisation.plain()))
        found = source.images(source.data["test"]["image"])
        wanted = expected(kind, parts["train"], parts["test"], FORMS[form])
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=3e-6)
    assert fitted[0] == fitted[1]


@pytest.mark.parametrize("kind", ["unit", "channel", "pixel_mean"])
def test_where_the_splits_are_carved_from_one_pool_the_statistics_are_those_of_train(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    pool = make("table", 60)
    np.savez(tmp_path / "pool.npz", x=pool, y=np.arange(60) % 2)
    source = load(settings(str(tmp_path / "pool.npz"), kind), 4)
    train, test = source.data["train"]["image"], source.data["test"]["image"]
    assert (len(train), len(test)) == (40, 10)
    np.testing.assert_allclose(source.images(test), expected(kind, train, test, 1.0), rtol=2e-6, atol=3e-6)
    assert source.normalisation.plain() != normalisation.fit(kind, pool, 1.0).plain()


def settings(directory, kind):
    return types.SimpleNamespace(
        name="npz", dir=directory, train=0, validation=0, order="seed", normalise=kind,
        pictures=types.SimpleNamespace(size=8, colour=False), csv=types.SimpleNamespace(label="label"),
    )  # fmt: skip
