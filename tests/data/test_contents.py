"""What a set contains, against NumPy and a comparison of all pairs."""

import numpy as np
import pytest

from jaxdl.data import Rows, contents


def labelled(image, labels=None):
    return {"image": image, "label": np.zeros(len(image), np.int32) if labels is None else np.int32(labels)}


@pytest.mark.parametrize("block", [1, 4, 2000])
@pytest.mark.parametrize("form", ["grey", "colour", "float images", "table"])
def test_counts_ranges_means_and_deviations_are_those_of_numpy(form, block, monkeypatch):
    monkeypatch.setattr(contents, "_BLOCK", block)
    shape = {"grey": (3, 4, 1), "colour": (3, 4, 3), "float images": (3, 4, 2), "table": (5,)}[form]
    draw = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 17), ("validation", 4), ("test", 9)):
        image = draw.normal(size=(count, *shape)).astype(np.float32) * 30
        if form in ("grey", "colour"):
            image = draw.integers(3, 250 - 40 * np.arange(shape[-1]), (count, *shape), dtype=np.uint8)
        splits[split] = labelled(image, draw.integers(0, 3, count))
    scale = 1 / 255 if form in ("grey", "colour") else 1.0
    found = contents.describe(splits, 4, scale)
    assert list(found) == list(splits)
    for split, values in splits.items():
        image, labels = values["image"], values["label"].tolist()
        each = found[split]
        assert each.by_class == [labels.count(label) for label in range(4)]  # nobody is in class 3
        assert (each.minimum, each.maximum) == (image.min(), image.max())
        for channel in range(shape[-1]):
            scaled = image[..., channel].astype(np.float64) * scale
            assert each.mean[channel] == pytest.approx(np.mean(scaled), rel=1e-12, abs=1e-14)
            assert each.std[channel] == pytest.approx(np.std(scaled), rel=1e-12)


def test_a_small_deviation_around_a_large_mean_is_found_and_none_is_none():
    """Seconds since 1970, and two columns that never change."""
    table = np.random.default_rng(0).normal(size=(3001, 3)) * [1e4, 0, 0] + [1.7e9, 0.1, 1e9]
    table = table.astype(np.float32)
    found = contents.describe({"train": labelled(table)}, 1, 1.0)["train"]
    np.testing.assert_allclose(found.mean, table.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, table.astype(np.float64).std(axis=0), rtol=1e-9)
    assert found.std[1:] == [0, 0]


def test_rows_in_a_file_are_described_and_compared_as_arrays_are(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_BLOCK", 5)
    pool = np.random.default_rng(0).integers(0, 3, (30, 2, 2, 1), dtype=np.uint8)
    labels = np.arange(30, dtype=np.int32) % 3
    np.save(tmp_path / "pool.npy", pool)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    parts = {"train": np.arange(0, 30, 2), "test": np.arange(29, 0, -2)}
    lazy = {split: {"image": Rows(mapped, rows), "label": Rows(labels, rows)} for split, rows in parts.items()}
    plain = {split: labelled(pool[rows], labels[rows]) for split, rows in parts.items()}
    assert contents.describe(lazy, 3, 1 / 255) == contents.describe(plain, 3, 1 / 255)
    assert contents.duplicates(lazy) == contents.duplicates(plain)


# Duplicates


def compare_all(splits):
    """(within, across, relabelled): each example against the first equal one of each split, by a look at all pairs."""
    names = list(splits)
    within, across, relabelled = dict.fromkeys(names, 0), {}, 0
    for place, split in enumerate(names):
        for earlier in names[:place]:
            across[earlier, split] = 0
        for number, (image, label) in enumerate(zip(splits[split]["image"], splits[split]["label"], strict=True)):
            others = []
            for earlier in names[: place + 1]:
                stop = number if earlier == split else None
                candidates = zip(splits[earlier]["image"][:stop], splits[earlier]["label"][:stop], strict=True)
                equal = [other for pixels, other in candidates if np.array_equal(pixels, image)]
                if equal:
                    others.append(equal[0])
                    if earlier == split:
                        within[split] += 1
                    else:
                        across[earlier, split] += 1
            relabelled += any(other != label for other in others)
    return within, across, relabelled


def test_known_duplicates_are_found_within_splits_across_them_and_with_another_label():
    image = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 1), np.uint8)
    splits = {
        "train": labelled(image[[0, 1, 2, 1, 1, 3]], [0, 1, 2, 1, 0, 3]),  # 1 twice more, once as another
        "validation": labelled(image[[10, 11, 2]], [0, 1, 2]),  # 2 of train
        "test": labelled(image[[12, 2, 3, 3, 10]], [0, 2, 3, 4, 0]),  # 2 of both, 3 of train twice, 10 of validation
    }
    found = contents.duplicates(splits)
    assert found.within == {"train": 2, "validation": 0, "test": 1}
    assert found.across == {("train", "validation"): 1, ("train", "test"): 3, ("validation", "test"): 2}
    assert found.relabelled == 2
    assert tuple(found) == compare_all(splits)


@pytest.mark.parametrize("block", [1, 7, 2000])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("seed", range(4))
def test_duplicates_are_those_that_a_comparison_of_all_pairs_finds(seed, dtype, block, monkeypatch):
    monkeypatch.setattr(contents, "_BLOCK", block)
    draw = np.random.default_rng(seed)
    splits = {
        split: labelled(draw.integers(0, 2, (count, 2, 3, 1)).astype(dtype), draw.integers(0, 2, count))
        for split, count in (("train", 40), ("validation", 12), ("test", 20))
    }
    found = contents.duplicates(splits)
    assert tuple(found) == compare_all(splits)
    assert min(sum(found.within.values()), sum(found.across.values()), found.relabelled) > 3


def test_a_set_without_duplicates_has_none():
    image = np.arange(24, dtype=np.float32).reshape(12, 2)
    splits = {"train": labelled(image[:6]), "validation": labelled(image[6:8]), "test": labelled(image[8:])}
    splits["test"]["label"] += 1
    assert tuple(contents.duplicates(splits)) == (
        {"train": 0, "validation": 0, "test": 0},
        {("train", "validation"): 0, ("train", "test"): 0, ("validation", "test"): 0},
        0,
    )


def test_a_large_split_says_what_takes_so_long(monkeypatch, capsys):
    monkeypatch.setattr(contents, "_LARGE", 5)
    image = np.arange(2000, dtype=np.float32)[:, None]
    contents.duplicates({"train": labelled(image), "test": labelled(-1 - image[:5])})
    assert capsys.readouterr().err == "comparing the 2,000 examples of train\n"
