"""CSV tables and NumPy files: what is read, against plain loops, and every mistake in one line."""

import os
import pickle
import random
import shutil
import struct
import zipfile

import numpy as np
import pytest

from jaxdl.data import tables
from jaxdl.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder that the caches lie in; each test has its own."""
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def table(tmp_path):
    return tmp_path / "table.csv"


@pytest.fixture
def npz(tmp_path):
    return tmp_path / "set.npz"


def refused(cache, read, *says):
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message, message
    assert not cache.exists() or not list(cache.iterdir())


def assert_train(arrays, image, label, names):
    assert set(arrays.splits) == {"train"} and set(arrays.splits["train"]) == {"image", "label"}
    found = arrays.splits["train"]
    assert found["image"].dtype == np.float32 and found["label"].dtype == np.int32
    np.testing.assert_array_equal(found["image"], np.array(image, np.float32))
    assert found["label"].tolist() == label
    assert arrays.names == tuple(names)


# CSV

ROWS = [("1.5", "-2", "b"), ("1e3", "0.1", "a"), ("+7", ".25", "b"), ("0", "1E-3", "a")]
FEATURES = [[1.5, -2], [1000, 0.1], [7, 0.25], [0, 0.001]]


def text(delimiter=",", end="\n", header=("width", "height", "kind"), rows=ROWS):
    return "".join(delimiter.join(row) + end for row in [header, *rows])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_csv(table, delimiter, end, mark):
    table.write_bytes(mark + text(delimiter, end).encode())
    arrays = tables.csv(str(table), "kind")
    assert_train(arrays, FEATURES, [1, 0, 1, 0], ["a", "b"])
    assert arrays.scale == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_label_may_be_any_column(table, place):
    turned = [row[:2][:place] + row[2:] + row[:2][place:] for row in [("width", "height", "kind"), *ROWS]]
    table.write_text("\n".join(",".join(row) for row in turned))  # without a line break at the end
    assert_train(tables.csv(str(table), "kind"), FEATURES, [1, 0, 1, 0], ["a", "b"])


def test_quotes_blank_lines_and_spaces(table):
    table.write_text('"wid;th"; "he""ight";"two\nlines"\n  \n\n"1";2;"x\ny"\n3; 4 ;"x\ny"\n"5";"6"; z\n7;8;z \n\n')
    arrays = tables.csv(str(table), "two\nlines")
    assert_train(arrays, [[1, 2], [3, 4], [5, 6], [7, 8]], [0, 0, 1, 1], ["x\ny", "z"])


def test_names_in_any_script(table):
    table.write_text(text(header=("Länge", "高さ", "вид"), rows=[(*row[:2], row[2] + "é") for row in ROWS]))
    assert tables.csv(str(table), "вид").names == ("aé", "bé")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["10", "9", "10", "9"], ["9", "10"], [1, 0, 1, 0]),
        (["-1", "1", "1", "-1"], ["-1", "1"], [0, 1, 1, 0]),
        (["1.0", "2", "1", "2.0"], ["1", "2"], [0, 1, 0, 1]),
        (["10", "9", "x", "10", "9", "x"], ["10", "9", "x"], [0, 1, 2, 0, 1, 2]),
        (["1_0", "2", "1_0", "2"], ["1_0", "2"], [0, 1, 0, 1]),
        (["9007199254740993", "9007199254740992"] * 2, ["9007199254740992", "9007199254740993"], [1, 0, 1, 0]),
    ],
)
def test_labels_are_sorted_as_numbers_or_texts(table, labels, names, expected):
    table.write_text(text(header=("a", "y"), rows=[(str(row), label) for row, label in enumerate(labels)]))
    assert_train(tables.csv(str(table), "y"), [[row] for row in range(len(labels))], expected, names)


def test_many_rows_against_numpy(table):
    draw = np.random.default_rng(0)
    values, labels = draw.normal(size=(2000, 20)), draw.integers(0, 7, 2000)
    rows = [(*map(repr, map(float, row)), str(label)) for row, label in zip(values, labels, strict=True)]
    table.write_text(text(header=(*map("f{}".format, range(20)), "y"), rows=rows))
    assert_train(tables.csv(str(table), "y"), values, labels.tolist(), map(str, range(7)))


def test_csv_is_read_once(table, tmp_path, monkeypatch, capsys):
    table.write_text(text())
    first = tables.csv(str(table), "kind")
    assert capsys.readouterr().err == f"reading {table}\n"
    monkeypatch.setattr(tables, "_table", None)
    os.utime(table, (1e9, 1e9))
    shutil.copyfile(table, tmp_path / "copy.csv")
    for path in (table, tmp_path / "copy.csv"):
        assert tables.csv(str(path), "kind").fingerprint == first.fingerprint
    assert capsys.readouterr().err == ""


def test_another_label_column_is_another_set(table, cache):
    table.write_text(
        text(header=("a", "b", "c"), rows=[("1", "2", "3"), ("2", "1", "4"), ("1", "2", "3"), ("2", "1", "4")])
    )
    prints = {tables.csv(str(table), label).fingerprint for label in "abc"}
    assert len(prints) == len(list(cache.iterdir())) == 3


MANY = "a,y\n" + "".join(f"{row},{row}\n" for row in range(9))
BAD_TABLES = {
    "too few cells": ("a,b,y\n1,2,x\n3,4\n", "y", ["line 3 has 2 cells", "valid: 3"]),
    "too many cells": ("a,b,y\n1,2,x\n\n3,4,x,5\n", "y", ["line 4 has 4 cells", "valid: 3"]),
    "after quoted lines": ('a,b,y\n1,2,"x\n\nx"\n3,oops,x\n', "y", ["line 5", "column 'b' holds 'oops'"]),
    "no number": ("a,b,y\n1,2,x\n3,4.5.6,x\n", "y", ["line 3", "column 'b' holds '4.5.6'", "valid: a finite number"]),
    "decimal comma": ("a;b;y\n1;2,5;x\n", "y", ["line 2", "column 'b' holds '2,5'"]),
    "underscore": ("a,y\n1_000,x\n", "y", ["line 2", "column 'a' holds '1_000'"]),
    "empty cell": ("a,b,y\n1,,x\n", "y", ["line 2", "column 'b' is empty"]),
    "empty label": ("a,b,y\n1,2,x\n1,2, \n", "y", ["line 3", "label 'y' is empty"]),
    "NaN": ("a,y\n1,x\nnan,x\n", "y", ["line 3", "column 'a' holds 'nan'", "valid: a finite number"]),
    "infinity": ("a,y\n1,x\n-inf,x\n", "y", ["line 3", "column 'a' holds '-inf'"]),
    "too large": ("a,y\n1,x\n1e39,x\n", "y", ["line 3", "column 'a' holds '1e39'"]),
    "long cell": ("a,y\n" + "z" * 500 + ",x\n", "y", ["line 2", "'" + "z" * 40 + "'"]),
    "no rows": ("a,b,y\n", "y", ["no rows"]),
    "empty": ("", "y", ["is empty", "valid: a row with the names"]),
    "blank": ("\n\n", "y", ["is empty"]),
    "one class": ("a,y\n1,x\n2,x\n", "y", ["label 'y' is 'x' in every row", "valid: two classes"]),
    "one class of two lines": ('a,y\n1,"x\nx"\n2,"x\nx"\n', "y", ["label 'y' is 'x\\nx' in every row"]),
    "unknown beside two lines": ('a,"y\ny"\n1,x\n', "z", ["'z'", "valid: a, y y"]),
    "twice the same name": ("a,a,y\n1,2,x\n", "y", ["line 1", "two columns are called 'a'"]),
    "no name": ("a,,y\n1,2,x\n", "y", ["line 1", "column 2 has no name"]),
    "no features": ("y\nx\nz\n", "y", ["no column but 'y'"]),
    "unknown label": (
        "width,height,kind\n1,2,x\n",
        "kinds",
        ["'kinds'", "did you mean 'kind'", "valid: width, height, kind"],
    ),
    "label in capitals": ("a,y\n1,x\n", "Y", ["'Y'", "valid: a, y"]),
    "fractions": ("a,y\n1,1.5\n2,2\n3,2\n4,2\n", "y", ["line 2", "label 'y' is 1.5", "valid: whole numbers, or texts"]),
    "NaN among labels": ("a,y\n1,1\n2,1\n3,0\n4,nan\n", "y", ["line 5", "label 'y' is nan"]),
    "too many classes": (MANY, "y", ["9 different values in 9 rows", "probably no class"]),
    "open quote": ('a,y\n1,x\n"2,x\n3,x\n', "y", ["line 3", "no row of a table"]),
    "stray quote": ('a,y\n1,x\n"2"3,x\n', "y", ["line 3", "no row of a table"]),
}


@pytest.mark.parametrize(("content", "label", "says"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables(table, cache, content, label, says):
    table.write_text(content)
    refused(cache, lambda: tables.csv(str(table), label), str(table), *says)


@pytest.mark.parametrize(
    ("content", "number"),
    [("a,y\n1,é\n".encode("latin-1"), 2), (text().encode("utf-16"), 1), (text().encode() + b"\xff", 6)],
)
def test_other_encodings(table, cache, content, number):
    table.write_bytes(content)
    refused(cache, lambda: tables.csv(str(table), "kind"), str(table), f"line {number} is not UTF-8")


@pytest.mark.parametrize("read", [lambda path: tables.csv(path, "y"), tables.numpy_files])
def test_missing_files(tmp_path, cache, read):
    refused(cache, lambda: read(str(tmp_path / "nowhere.npz")), "there is no file", "nowhere.npz")
    refused(cache, lambda: read(""))
    (tmp_path / "folder.npz").mkdir()
    refused(cache, lambda: read(str(tmp_path / "folder.npz")), "folder.npz")


# NumPy files

X = np.arange(24, dtype=np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])
GREY = np.random.default_rng(0).integers(0, 256, (6, 3, 5), dtype=np.uint8)


def save(path, **arrays):
    np.savez(path, **arrays)
    return tables.numpy_files(str(path))


@pytest.mark.parametrize(
    ("image", "label"),
    [("x", "y"), ("X", "y"), ("image", "label"), ("images", "labels"), ("data", "target")],
)
def test_names(npz, image, label):
    assert_train(save(npz, **{image: X, label: Y}), X, Y.tolist(), "012")
    for form in ("{}_{}", "{1}_{0}"):
        for validation in ("val", "validation"):
            parts = {"train": slice(0, 3), "test": slice(3, 5), validation: slice(5, 6)}
            arrays = save(
                npz,
                **{form.format(image, part): X[rows] for part, rows in parts.items()},
                **{form.format(label, part): Y[rows] for part, rows in parts.items()},
            )
            assert set(arrays.splits) == {"train", "test", "validation"}
            for part, rows in parts.items():
                found = arrays.splits["validation" if part == validation else part]
                np.testing.assert_array_equal(found["image"], X[rows])
                np.testing.assert_array_equal(found["label"], Y[rows])


def test_without_a_suffix_means_training(npz):
    arrays = save(npz, x=X, y=Y, x_test=X[:2], y_test=Y[:2])
    assert len(arrays.splits["train"]["label"]) == 6 and len(arrays.splits["test"]["label"]) == 2


@pytest.mark.parametrize("compressed", [False, True])
def test_a_set_as_usps_is_handed_round(npz, compressed):
    """16 x 16 floats in [-1, 1], 7,291 for training and 2,007 for testing."""
    draw = np.random.default_rng(0)
    parts = {"train": 7291, "test": 2007}
    x = {part: draw.uniform(-1, 1, (count, 16, 16)) for part, count in parts.items()}
    y = {part: np.arange(count) % 10 for part, count in parts.items()}
    everything = {f"x_{part}": x[part] for part in parts} | {f"y_{part}": y[part] for part in parts}
    (np.savez_compressed if compressed else np.savez)(npz, **everything)
    arrays = tables.numpy_files(str(npz))
    for part, count in parts.items():
        found = arrays.splits[part]
        assert found["image"].dtype == np.float32 and found["image"].shape == (count, 16, 16, 1)
        np.testing.assert_array_equal(found["image"][..., 0], x[part].astype(np.float32))
        np.testing.assert_array_equal(found["label"], y[part])
    assert arrays.scale == 1 and arrays.names == tuple("0123456789")


KINDS = {
    "uint8 h w": (GREY, GREY[..., None], 1 / 255),
    "uint8 h w c": (GREY[..., None].repeat(3, axis=3), GREY[..., None].repeat(3, axis=3), 1 / 255),
    "int64 h w": (GREY.astype(np.int64), GREY[..., None], 1 / 255),
    "big-endian": (GREY.astype(">i2"), GREY[..., None], 1 / 255),
    "bool h w": (GREY > 99, (GREY > 99)[..., None] * np.uint8(255), 1 / 255),
    "uint8 features": (GREY[:, 0], GREY[:, 0].astype(np.float32), 1),
    "int32 features": (GREY[:, 0].astype(np.int32) - 99, GREY[:, 0].astype(np.float32) - 99, 1),
    "bool features": (GREY[:, 0] > 99, (GREY[:, 0] > 99).astype(np.float32), 1),
    "float16": (X.astype(np.float16), X, 1),
    "float64": (X.astype(np.float64) / 3, (X.astype(np.float64) / 3).astype(np.float32), 1),
    "big-endian float": (X.astype(">f8"), X, 1),
    "Fortran order": (np.asfortranarray(X), X, 1),
    "float images": (GREY / 255, (GREY / 255).astype(np.float32)[..., None], 1),
    "float colour": (np.ones((6, 2, 2, 3)), np.ones((6, 2, 2, 3), np.float32), 1),
}


@pytest.mark.parametrize(("stored", "wanted", "scale"), KINDS.values(), ids=KINDS)
def test_kinds_of_examples(npz, stored, wanted, scale):
    for _ in range(2):  # the second time from the cache
        arrays = save(npz, x=stored, y=Y)
        found = arrays.splits["train"]["image"]
        assert found.dtype == wanted.dtype and arrays.scale == scale
        np.testing.assert_array_equal(found, wanted)


LABELS = {
    "int8": Y.astype(np.int8),
    "uint64": Y.astype(np.uint64),
    "float": Y.astype(np.float64),
    "column": Y[:, None],
    "one-hot": np.eye(3)[Y],
    "one-hot integers": np.eye(3, dtype=np.int64)[Y],
    "one-hot bool": np.eye(3, dtype=bool)[Y],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_kinds_of_labels(npz, labels):
    assert_train(save(npz, x=X, y=labels), X, Y.tolist(), "012")


def test_bool_labels(npz):
    assert_train(save(npz, x=X, y=Y > 0), X, (Y > 0).astype(int).tolist(), "01")


def test_classes_are_those_that_train_has(npz):
    arrays = save(npz, x=X, y=[3, 8, 3, 8, 10, 8], x_test=X[:2], y_test=[10, 3])
    assert arrays.names == ("3", "8", "10") and arrays.splits["train"]["label"].tolist() == [0, 1, 0, 1, 2, 1]
    assert arrays.splits["test"]["label"].tolist() == [2, 0]


def test_a_folder_of_npy_files(tmp_path, npz):
    folder = tmp_path / "set"
    folder.mkdir()
    parts = {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}
    for name, array in parts.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "readme.txt").touch()
    (folder / ".x.npy").touch()
    arrays = tables.numpy_files(str(folder))
    assert arrays.fingerprint == save(npz, **parts).fingerprint
    np.testing.assert_array_equal(arrays.splits["test"]["image"], X[:2])
    np.save(folder / "y_test.npy", Y[1:3])
    assert tables.numpy_files(str(folder)).splits["test"]["label"].tolist() == [1, 2]


def test_npz_is_read_once(npz, tmp_path, monkeypatch, capsys):
    first = save(npz, x=X, y=Y)
    assert capsys.readouterr().err == f"reading {npz}\n"
    monkeypatch.setattr(tables, "read_arrays", None)
    os.utime(npz, (1e9, 1e9))
    shutil.copyfile(npz, tmp_path / "copy.npz")
    for path in (npz, tmp_path / "copy.npz"):
        assert tables.numpy_files(str(path)).fingerprint == first.fingerprint
    assert capsys.readouterr().err == ""


def bad(value, place=(2, 1), dtype=np.float64):
    values = X.astype(dtype)
    values[place] = value
    return values


def labels(value, dtype=np.float64):
    values = Y.astype(dtype)
    values[4] = value
    return values


TWO = np.eye(3)[Y]
TWO[3, 1] = 1
BAD_ARRAYS = {
    "unknown": (
        {"x": X, "y": Y, "classes": Y},
        ["'classes'", "found: classes, x, y", "valid: x and y, image and label"],
    ),
    "all unknown": ({"arr_0": X, "arr_1": Y}, ["'arr_0'", "found: arr_0, arr_1", "valid: x and y"]),
    "no labels": ({"x": X}, ["x has no labels beside it"]),
    "no examples": ({"y_train": Y}, ["y_train has no images beside it"]),
    "test without labels": ({"x": X, "y": Y, "x_test": X}, ["x_test has no labels"]),
    "no training": ({"x_test": X, "y_test": Y}, ["no training examples, but x_test, y_test"]),
    "twice": ({"x": X, "y": Y, "images_train": X}, ["x and images_train are both the train images"]),
    "two cases": ({"x": X, "X": X, "y": Y}, ["x and X are both"]),
    "lengths": ({"x": X, "y": Y[:5]}, ["x holds 6 examples and y 5"]),
    "shapes": ({"x": X, "y": Y, "x_test": X[:, :3], "y_test": Y}, ["examples of test are float32 [3]", "float32 [4]"]),
    "kinds": ({"x": GREY, "y": Y, "x_test": GREY / 255, "y_test": Y}, ["float32 [3, 5, 1]", "uint8 [3, 5, 1]"]),
    "empty": ({"x": X[:0], "y": Y[:0]}, ["shape [0, 4]"]),
    "no features": ({"x": X[:, :0], "y": Y}, ["shape [6, 0]", "valid: [N, features]"]),
    "one axis": ({"x": X[:, 0], "y": Y}, ["x.npy has the shape [6]", "valid: [N, features]"]),
    "five axes": ({"x": X.reshape(6, 1, 1, 1, 4), "y": Y}, ["shape [6, 1, 1, 1, 4]"]),
    "scalar": ({"x": X, "y": 3}, ["y.npy has the shape []"]),
    "NaN": ({"x": bad(np.nan), "y": Y}, ["x.npy[2, 1] is nan", "valid: finite"]),
    "infinite": ({"x": bad(-np.inf, (5, 3)), "y": Y}, ["x.npy[5, 3] is -inf"]),
    "too large": ({"x": bad(1e300), "y": Y}, ["x.npy[2, 1] is 1e+300"]),
    "NaN in images": ({"x": np.full((6, 2, 2), np.nan), "y": Y}, ["x.npy[0, 0, 0] is nan"]),
    "above 255": ({"x": GREY.astype(np.int16) + 100, "y": Y}, ["values from 10", " to 34", "valid: 0 to 255"]),
    "below 0": ({"x": GREY.astype(np.int16) - 1, "y": Y}, ["values from -1", "valid: 0 to 255"]),
    "complex": ({"x": X.astype(complex), "y": Y}, ["x.npy", "complex128", "valid: whole numbers"]),
    "texts": ({"x": X, "y": Y.astype(str)}, ["y.npy", "valid: whole numbers"]),
    "dates": ({"x": X.astype("M8[s]"), "y": Y}, ["x.npy", "datetime64"]),
    "records": ({"x": np.zeros(6, [("a", float)]), "y": Y}, ["x.npy", "valid: whole numbers"]),
    "negative label": ({"x": X, "y": labels(-1, int)}, ["y.npy[4] is -1", "valid: whole numbers from 0 to 9,999"]),
    "fraction": ({"x": X, "y": labels(0.5)}, ["y.npy[4] is 0.5"]),
    "NaN label": ({"x": X, "y": labels(np.nan)}, ["y.npy[4] is nan"]),
    "large label": ({"x": X, "y": labels(10_000, int)}, ["y.npy[4] is 10000", "9,999"]),
    "two ones": ({"x": X, "y": TWO}, ["y.npy[3] is not one-hot"]),
    "soft labels": ({"x": X, "y": np.full((6, 2), 0.5)}, ["y.npy[0] is not one-hot"]),
    "labels of images": ({"x": X, "y": GREY}, ["y.npy has the shape [6, 3, 5]"]),
    "one class": ({"x": X, "y": np.zeros(6)}, ["every training label is 0"]),
    "class of test": ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, ["y_test[2] is 3", "3 classes from 0 to 2"]),
}


@pytest.mark.parametrize(("arrays", "says"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays(npz, cache, arrays, says):
    refused(cache, lambda: save(npz, **arrays), str(npz), *says)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_refused_and_never_executed(tmp_path, npz, cache):
    trap = tmp_path / "executed"
    harmful = np.array([Harmful(trap)] * 6, dtype=object)
    refused(cache, lambda: save(npz, x=X, y=harmful), str(npz), "y.npy holds pickled Python objects")
    folder = tmp_path / "set"
    folder.mkdir()
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", harmful)
    refused(cache, lambda: tables.numpy_files(str(folder)), "set/y.npy holds pickled Python objects")
    for path, read in ((npz, npz), (folder / "y.npy", folder)):  # bare pickles
        path.write_bytes(pickle.dumps(Harmful(trap)))
        refused(cache, lambda read=read: tables.numpy_files(str(read)), str(path), "is damaged")
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Harmful(trap)))
    refused(cache, lambda: tables.numpy_files(str(npz)), "x.npy is damaged")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Harmful(trap))).close()  # the trap does work
    assert trap.exists()


def test_truncated_anywhere(tmp_path, npz, cache):
    np.savez_compressed(npz, x=X, y=Y)
    whole = npz.read_bytes()
    for length in (0, 3, 40, len(whole) // 2, len(whole) - 1):
        npz.write_bytes(whole[:length])
        refused(cache, lambda: tables.numpy_files(str(npz)), str(npz), "is damaged")
    folder = tmp_path / "set"
    folder.mkdir()
    np.save(folder / "y.npy", Y)
    np.save(folder / "x.npy", X)
    whole = (folder / "x.npy").read_bytes()
    for length in (0, 3, 40, len(whole) // 2, len(whole) - 1):
        (folder / "x.npy").write_bytes(whole[:length])
        refused(cache, lambda: tables.numpy_files(str(folder)), "set/x.npy is damaged")
    (folder / "x.npy").write_bytes(whole + b"\0")
    refused(cache, lambda: tables.numpy_files(str(folder)), "set/x.npy is damaged", "declares")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_garbled_bytes_are_noticed_or_harmless(npz, write):
    """Whatever byte changes, the data are as they were or the error is one line that names the file."""
    write(npz, x=X, y=Y)
    whole, draw, noticed = npz.read_bytes(), random.Random(0), 0
    for _ in range(150):
        place = draw.randrange(len(whole))
        npz.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :])
        try:
            arrays = tables.numpy_files(str(npz))
        except UserError as error:
            assert str(npz) in str(error) and "\n" not in str(error)
            noticed += 1
        else:
            assert_train(arrays, X, Y.tolist(), "012")
    assert noticed > 75


def header(shape, descr="<f8"):
    content = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(content)) + content


@pytest.mark.parametrize("shape", ["(1000000000000, 1000)", "(7, 4)", "(-6, 4)", "(2**62, 2**62)"])
def test_headers_that_promise_too_much(npz, cache, shape):
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("x.npy", header(shape) + X.astype(np.float64).tobytes())
        archive.writestr("y.npy", header("(6,)") + Y.astype(np.float64).tobytes())
    refused(cache, lambda: tables.numpy_files(str(npz)), "set.npz: x.npy is damaged")


def test_a_zip_bomb_is_refused_by_its_declared_size(npz, cache):
    """Both the array and the archive's directory declare 32 GB."""
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("x.npy", header("(1000000000, 4)"))
        archive.writestr("y.npy", header("(6,)") + Y.astype(np.float64).tobytes())
    content = bytearray(npz.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFF_FFFE)
    npz.write_bytes(content)
    refused(cache, lambda: tables.numpy_files(str(npz)), "x.npy is damaged", "declares 32,000,000,128 bytes")


def test_too_many_bytes(npz, cache, monkeypatch):
    np.savez_compressed(npz, x=np.zeros((100, 10_000)), y=np.arange(100) % 2)
    assert npz.stat().st_size < 20_000
    monkeypatch.setattr(tables, "LARGEST", 8_000_000)
    refused(cache, lambda: tables.numpy_files(str(npz)), str(npz), "declares 8,001,", "valid: at most 8,000,000")


def test_a_zip_of_something_else(npz, cache):
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    refused(cache, lambda: tables.numpy_files(str(npz)), str(npz), "'word/document.xml'", "valid: x and y")
    with zipfile.ZipFile(npz, "w"):
        pass
    refused(cache, lambda: tables.numpy_files(str(npz)), str(npz), "no training examples, but nothing")


def test_other_files_and_folders(tmp_path, cache):
    np.save(tmp_path / "x.npy", X)
    refused(
        cache, lambda: tables.numpy_files(str(tmp_path / "x.npy")), "x.npy is no .npz file", "a folder with .npy files"
    )
    (tmp_path / "empty").mkdir()
    refused(
        cache, lambda: tables.numpy_files(str(tmp_path / "empty")), "empty holds no .npy files", "valid: files called x"
    )


def test_files_that_cannot_be_read(npz, cache, monkeypatch):
    """Permission bits don't stop the superuser, so the refusal is staged."""
    np.savez(npz, x=X, y=Y)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np.lib.format, "read_array", refuse)
    refused(cache, lambda: tables.numpy_files(str(npz)), str(npz), "Permission denied")
