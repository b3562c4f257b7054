"""The cache of decoded sets: complete or not there, whoever is interrupted and however many want it; and hashes."""

import collections
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdl.data import cache
from jaxdl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder that the decoded sets lie in; each test has its own."""
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def make(seed=0, counts=(23, 5)):
    """{split: {key: array}} with a further key that has another shape and type."""
    draw = np.random.default_rng(seed)
    return {
        split: {
            "image": draw.integers(0, 256, (count, 4, 3, 1), dtype=np.uint8),
            "label": draw.integers(0, 3, count).astype(np.int32),
            "angle": draw.normal(size=(count, 2)).astype(np.float32),
        }
        for split, count in zip(("train", "test"), counts, strict=True)
    }


def filler(splits, block=1000, names=("a", "b", "c")):
    """Appends the splits in blocks, in turns, the last one ragged."""

    def fill(writer):
        for first in range(0, max(len(values["label"]) for values in splits.values()), block):
            for split, values in splits.items():
                if first < len(values["label"]):
                    writer.append(split, **{key: array[first : first + block] for key, array in values.items()})
        return names

    return fill


def never(writer):
    raise AssertionError("filled again")


def assert_same(found, splits):
    assert set(found) == set(splits)
    for split, values in splits.items():
        assert set(found[split]) == set(values)
        for key, array in values.items():
            np.testing.assert_array_equal(found[split][key], array, strict=True)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Blocks


@pytest.mark.parametrize("block", [1, 2, 7, 22, 23])
def test_blocks_of_any_size_give_the_files_and_the_fingerprint_of_one_block(place, block):
    splits = make()
    one = cache.arrays("tiny", "0", filler(splits), 0.5)
    assert_same(one.splits, splits)
    assert (one.names, one.scale) == (("a", "b", "c"), 0.5)
    before = contents(place)
    shutil.rmtree(place)
    other = cache.arrays("tiny", "0", filler(splits, block), 0.5)
    assert_same(other.splits, splits)
    assert other.fingerprint == one.fingerprint
    assert contents(place) == before


def test_what_is_read_is_a_read_only_map_of_a_file_that_numpy_reads_by_itself(place):
    splits = make()
    arrays = cache.arrays("tiny", "0", filler(splits, 4), 1.0)
    (entry,) = place.iterdir()
    for split, values in splits.items():
        for key, array in values.items():
            np.testing.assert_array_equal(np.load(entry / f"{split}_{key}.npy"), array, strict=True)
            found = arrays.splits[split][key]
            assert isinstance(found, np.memmap) and not found.flags.writeable
    assert {path.name for path in entry.iterdir()} == {
        "about.json",
        *(f"{split}_{key}.npy" for split, values in splits.items() for key in values),
    }


def test_the_fingerprint_is_the_hash_of_the_hashes_of_the_files(place):
    found = cache.arrays("tiny", "0", filler(make(), 4), 1.0).fingerprint
    (entry,) = place.iterdir()
    lines = [
        f"{path.stem.replace('_', ' ')} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in sorted(entry.glob("*.npy"))
    ]
    assert found == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_changed_pixel_label_or_split_changes_the_fingerprint():
    fingerprints = {cache.arrays("tiny", "0", filler(make()), 1.0).fingerprint}
    for number, key in enumerate(("image", "label", "angle")):
        splits = make()
        splits["test"][key][-1] += 1
        fingerprints.add(cache.arrays("tiny", f"{number + 1}", filler(splits), 1.0).fingerprint)
    swapped = dict(zip(("test", "train"), make().values(), strict=True))
    fingerprints.add(cache.arrays("tiny", "4", filler(swapped), 1.0).fingerprint)
    assert len(fingerprints) == 5


def test_headers_have_room_for_large_counts(place):
    count = 1_234_567

    def fill(writer):
        writer.append("train", image=np.zeros((1, 1), np.uint8), label=np.zeros(1, np.uint8))
        rest = np.arange(1, count) % 251
        writer.append("train", image=rest[:, None].astype(np.uint8), label=rest.astype(np.uint8))
        return ["a"]

    cache.arrays("large", "0", fill, 1.0)
    (entry,) = place.iterdir()
    np.testing.assert_array_equal(np.load(entry / "train_label.npy"), (np.arange(count) % 251).astype(np.uint8))
    assert np.load(entry / "train_image.npy").shape == (count, 1)


def test_blocks_that_do_not_lie_in_one_piece_and_empty_blocks_are_written_as_they_are():
    image = np.arange(2 * 5 * 6, dtype=np.float32).reshape(5, 6, 2)
    label = np.arange(20, dtype=np.int32)

    def fill(writer):
        writer.append("train", image=image.transpose(2, 1, 0), label=label[::10])
        writer.append("train", image=image.transpose(2, 1, 0)[:0], label=label[:0])
        writer.append("train", image=image.transpose(2, 1, 0)[::-1], label=label[1::10])
        return ["a"]

    found = cache.arrays("tiny", "0", fill, 1.0).splits["train"]
    np.testing.assert_array_equal(found["image"], [image[..., i].T for i in (0, 1, 1, 0)])
    assert found["label"].tolist() == [0, 10, 1, 11]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"image": np.zeros((3, 2), np.uint8), "label": np.zeros(2, np.int32)}, "blocks of different lengths"),
        ({"image": np.zeros((2, 3), np.uint8), "label": np.zeros(2, np.int32)}, "train image: a block of uint8"),
        ({"image": np.zeros((2, 2), np.int8), "label": np.zeros(2, np.int32)}, "train image: a block of int8"),
        ({"image": np.zeros((2, 2), np.uint8), "label": np.zeros(2, np.int64)}, "train label: a block of int64"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_blocks_that_do_not_fit_each_other_raise(place, block, says, first):
    def fill(writer):
        if not first or "lengths" not in says:
            writer.append("train", image=np.zeros((2, 2), np.uint8), label=np.zeros(2, np.int32))
        writer.append("train", **block)
        return ["a"]

    with pytest.raises(ValueError, match=says):
        cache.arrays("tiny", "0", fill, 1.0)
    assert not list(place.iterdir())


# Canonical order


@pytest.mark.parametrize("block", [3, 1000])
def test_two_orders_of_the_same_examples_are_one_set_in_the_order_of_their_hashes(block):
    """Some examples are there twice, some images with two labels."""
    splits = make()
    for values in splits.values():
        for key, array in values.items():
            values[key] = np.concatenate([array, array[:4]])
        values["label"][-2:] += 1
    draw = np.random.default_rng(5)
    found = []
    for number in range(3):
        orders = {split: draw.permutation(len(values["label"])) for split, values in splits.items()}
        shuffled = {
            split: {key: array[orders[split]] for key, array in values.items()} for split, values in splits.items()
        }
        found.append(cache.arrays("tiny", f"{number}", filler(shuffled, block), 1.0, canonical=True))
    assert len({arrays.fingerprint for arrays in found}) == 1

    def digest(values, row):
        return hashlib.sha256(b"".join(values[key][row].tobytes() for key in ("angle", "image", "label"))).hexdigest()

    expected = {}
    for split, values in splits.items():
        rows = sorted(range(len(values["label"])), key=lambda row: digest(values, row))
        expected[split] = {key: array[rows] for key, array in values.items()}
    for arrays in found:
        assert_same(arrays.splits, expected)


def test_without_canonical_the_order_is_that_of_the_blocks_and_another_entry(place):
    splits = make()
    one = cache.arrays("tiny", "0", filler(splits), 1.0, canonical=True)
    other = cache.arrays("tiny", "0", filler(splits), 1.0)
    assert_same(other.splits, splits)
    assert one.fingerprint != other.fingerprint
    assert len(list(place.iterdir())) == 2


# When a set is filled


def test_a_second_start_fills_nothing_and_another_digest_or_name_does(place):
    one = cache.arrays("tiny", "0", filler(make()), 1.0)
    again = cache.arrays("tiny", "0", never, 1.0)
    assert_same(again.splits, make())
    assert (again.names, again.fingerprint) == (one.names, one.fingerprint)
    assert_same(cache.arrays("tiny", "1", filler(make(1)), 1.0).splits, make(1))
    assert_same(cache.arrays("other", "0", filler(make(2)), 1.0).splits, make(2))
    assert_same(cache.arrays("some/config", "0", filler(make(3)), 1.0).splits, make(3))
    assert_same(cache.arrays("tiny", "0", never, 1.0).splits, make())
    assert len(list(place.glob("*/about.json"))) == len(list(place.iterdir())) == 4


def test_the_cache_lies_below_the_home_folder_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    assert cache.folder() == tmp_path / "cache"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JAXDL_CACHE_DIR", "~/mine")
    assert cache.folder() == tmp_path / "home" / "mine"
    for unset in (lambda: monkeypatch.setenv("JAXDL_CACHE_DIR", ""), lambda: monkeypatch.delenv("JAXDL_CACHE_DIR")):
        unset()
        assert cache.folder() == tmp_path / "home" / ".cache" / "jaxdl"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, UserError])
def test_a_fill_that_is_interrupted_leaves_nothing_and_the_next_one_works(place, error):
    def fill(writer):
        filler(make())(writer)
        assert len(list(place.iterdir())) == 1  # it is under way
        raise error("by the test")

    with pytest.raises(error, match="by the test"):
        cache.arrays("tiny", "0", fill, 1.0)
    assert not list(place.iterdir())
    assert_same(cache.arrays("tiny", "0", filler(make()), 1.0).splits, make())


# Several processes. The fill waits for a file `go`; it writes a line into `fills`, and names the process.

PROGRAM = """
import os, sys, time
from pathlib import Path
import numpy as np
from jaxdl.data import cache
here = Path(sys.argv[1])
def fill(writer):
    image = np.arange(600, dtype=np.float32).reshape(100, 6)
    writer.append("train", image=image[:50], label=np.arange(50, dtype=np.int32))
    with (here / "fills").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    while not (here / "go").exists():
        time.sleep(0.005)
    writer.append("train", image=image[50:], label=np.arange(50, dtype=np.int32))
    return ["a"]
arrays = cache.arrays("slow", "0", fill, 1.0)
print(arrays.fingerprint, float(arrays.splits["train"]["image"].sum()))
"""


def start(folder):
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fills(folder):
    """The processes that filled, once there is one."""
    deadline = time.monotonic() + 30
    while not (folder / "fills").exists() or not (folder / "fills").read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(line) for line in (folder / "fills").read_text().split()]


@pytest.mark.parametrize("kill", [False, True], ids=["to its end", "until it is killed"])
def test_two_processes_fill_one_after_the_other(tmp_path, place, kill):
    """The second waits and says so; it fills only if the first was killed."""
    expected = f"{np.arange(600.0).sum()}"
    processes = [start(tmp_path), start(tmp_path)]
    try:
        (filling,) = fills(tmp_path)
        first, second = sorted(processes, key=lambda process: process.pid != filling)
        waiting = second.stderr.readline()
        assert waiting == "waiting for another process that prepares slow\n"
        assert fills(tmp_path) == [filling]
        if kill:
            first.kill()
        (tmp_path / "go").touch()
        out, err = second.communicate(timeout=30)
        assert (second.returncode, err) == (0, "")
        assert out.split()[1] == expected
        found, err = first.communicate(timeout=30)
        assert err == "" and found == ("" if kill else out)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert fills(tmp_path) == ([filling, second.pid] if kill else [filling])
    entries = [path for path in place.iterdir() if ".partial-" not in path.name]
    assert len(entries) == 1
    leftover = [path for path in place.iterdir() if ".partial-" in path.name]
    assert len(leftover) == kill
    # The killed one's draft stays until nobody can still be writing it.
    for path in leftover:
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    cache.arrays("other", "0", filler(make()), 1.0)
    assert not [path for path in place.iterdir() if ".partial-" in path.name]
    found = cache.arrays("slow", "0", never, 1.0)
    np.testing.assert_array_equal(found.splits["train"]["image"], np.arange(600).reshape(100, 6))


def test_drafts_of_processes_that_may_still_write_are_left_alone(place):
    for name, hours in (("slow-0.partial-1", 23), ("slow-0.partial-2", 25)):
        (place / name).mkdir(parents=True)
        os.utime(place / name, (time.time() - hours * 3600,) * 2)
    cache.arrays("other", "0", filler(make()), 1.0)
    assert [path.name for path in place.glob("slow*")] == ["slow-0.partial-1"]


@pytest.mark.parametrize("first", [True, False], ids=["another process was first", "it fails"])
def test_an_entry_appears_whole_by_being_renamed(place, monkeypatch, first):
    """Where locks don't work, another process may have put the same entry there in the meantime."""
    complete = {f"{split}_{key}.npy" for split, values in make().items() for key in values} | {"about.json"}

    def rename(draft, target):
        assert {path.name for path in draft.iterdir()} == complete and not target.exists()
        if first:
            shutil.copytree(draft, target)
        raise OSError(39, "Directory not empty")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        if first:
            assert_same(cache.arrays("tiny", "0", filler(make()), 1.0).splits, make())
        else:
            with pytest.raises(UserError, match=r"cannot write the cache folder .*Directory not empty"):
                cache.arrays("tiny", "0", filler(make()), 1.0)
    assert len(list(place.iterdir())) == first


# What goes wrong


def test_a_full_disk_is_one_line_and_leaves_no_entry(place):
    """Here a limit on the size of files; a write beyond it fails as it does on a full disk."""
    program = (
        "import numpy as np\n"
        "from jaxdl.data import cache\n"
        "from jaxdl.errors import UserError\n"
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "for size in (200_000, 99_990):\n"  # while the blocks are written, and when the rest of the header is
        "    def fill(writer):\n"
        "        writer.append('train', image=np.ones((size, 1), np.uint8), label=np.ones(size, np.uint8))\n"
        "        return ['a']\n"
        "    try:\n"
        "        cache.arrays('large', '0', fill, 1.0)\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"cannot write the cache folder {place.parent} ([Errno 27] File too large")
        assert "JAXDL_CACHE_DIR" in line
    assert not list(place.iterdir())


@pytest.mark.parametrize("canonical", [False, True])
def test_a_disk_that_is_full_after_the_blocks_leaves_no_entry(place, monkeypatch, canonical):
    """When the examples are brought into order, or when about.json is written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    close = cache.Writer.close

    def close_and_limit(writer):
        close(writer)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))

    monkeypatch.setattr(cache.Writer, "close", close_and_limit)
    try:
        with pytest.raises(UserError, match=r"cannot write the cache folder .*File too large.*JAXDL_CACHE_DIR"):
            cache.arrays("tiny", "0", filler(make(), names=["a" * 400]), 1.0, canonical=canonical)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(place.iterdir())


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, below):
    """The tests may run as root, whom no permission stops: a file is in the way."""
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "file" / below))
    with pytest.raises(UserError) as caught:
        cache.arrays("tiny", "0", never, 1.0)
    message = str(caught.value)
    assert message.startswith(f"cannot write the cache folder {tmp_path / 'file' / below} (") and "\n" not in message
    assert "JAXDL_CACHE_DIR" in message
    assert (tmp_path / "file").read_text() == "mine"


def edit(**changes):
    def damage(entry):
        about = json.loads((entry / "about.json").read_text())
        (entry / "about.json").write_text(json.dumps({**about, **changes}))

    return damage


def overwrite(file, change):
    def damage(entry):
        (entry / file).write_bytes(change((entry / file).read_bytes()))

    return damage


DAMAGE = {
    "no about": lambda entry: (entry / "about.json").unlink(),
    "cut about": overwrite("about.json", lambda old: old[:-5]),
    "empty about": overwrite("about.json", lambda old: b""),
    "about is text": overwrite("about.json", lambda old: b"\xff\xfe what?"),
    "about is a list": overwrite("about.json", lambda old: b"[]"),
    "about lacks a key": overwrite("about.json", lambda old: old.replace(b"fingerprint", b"fingerprunt")),
    "names of other files": edit(files=["train_image", "train_label", "train_depth"]),
    "names are numbers": edit(files=[1, 2]),
    "no array": lambda entry: (entry / "train_image.npy").unlink(),
    "cut array": overwrite("train_image.npy", lambda old: old[:-1]),
    "cut header": overwrite("train_image.npy", lambda old: old[:60]),
    "empty array": overwrite("test_label.npy", lambda old: b""),
    "no magic": overwrite("test_label.npy", lambda old: b"?" + old[1:]),
    "an archive": overwrite("test_label.npy", lambda old: b"PK\3\4" + old[4:]),
    "no bracket": overwrite("test_label.npy", lambda old: old.replace(b"}", b" ")),
    "open bracket": overwrite("test_label.npy", lambda old: old.replace(b"(5,)", b"(5, ")),
    "pickled": lambda entry: np.save(entry / "test_label.npy", np.array([{}] * 5), allow_pickle=True),
    "fewer labels": lambda entry: np.save(entry / "test_label.npy", np.zeros(4, np.int32)),
    "more angles": lambda entry: np.save(entry / "train_angle.npy", np.zeros((24, 2), np.float32)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_named_and_made_anew_once_it_is_deleted(place, damage):
    cache.arrays("tiny", "0", filler(make()), 1.0)
    (entry,) = place.iterdir()
    damage(entry)
    with pytest.raises(UserError) as caught:
        cache.arrays("tiny", "0", never, 1.0)
    message = str(caught.value)
    assert message.startswith(f"the cache {entry} is damaged (") and message.endswith("); delete it and start again")
    assert "\n" not in message
    shutil.rmtree(entry)
    assert_same(cache.arrays("tiny", "0", filler(make()), 1.0).splits, make())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("one\n two\t three ", "one two three"), ("", "ValueError"), ("x" * 200, "x" * 200), ("x" * 201, "x" * 200 + "…")],
)
def test_what_a_library_says_becomes_one_short_line(text, expected):
    assert cache.line(ValueError(text)) == expected


# Hashes of files


@pytest.fixture
def read(monkeypatch):
    """Counts how often each file is read."""
    counts = collections.Counter()
    original = hashlib.file_digest

    def count(file, name):
        counts[Path(file.name).name] += 1
        return original(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return counts


def write_old(path, content, age=100.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def assert_hashes(paths):
    assert cache.hashes(paths) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_hashes_are_those_of_hashlib_and_files_are_read_once(tmp_path, read):
    paths = [write_old(tmp_path / f"{name}.bin", name.encode() * 1000) for name in "abc"]
    for _ in range(3):
        assert_hashes(paths)
    assert read == {"a.bin": 1, "b.bin": 1, "c.bin": 1}
    assert_hashes([*reversed(paths), paths[0]])
    more = write_old(tmp_path / "d.bin", b"d")
    assert_hashes([paths[1], more])
    assert_hashes([*paths, more])
    assert read == {"a.bin": 1, "b.bin": 1, "c.bin": 1, "d.bin": 1}


def test_files_in_several_folders_are_each_read_once(tmp_path, read):
    paths = [write_old(tmp_path / name / "same.bin", name.encode()) for name in ("one", "two", "two/deep")]
    for _ in range(2):
        assert_hashes(paths)
    assert read == {"same.bin": 3}
    assert_hashes(paths[1:])  # another folder comes first
    assert_hashes(paths)


def test_a_path_below_the_current_folder_is_that_file(tmp_path, monkeypatch, read):
    write_old(tmp_path / "one" / "x.bin", b"1")
    write_old(tmp_path / "two" / "x.bin", b"2")
    for name in ("one", "two", "one", "two"):
        monkeypatch.chdir(tmp_path / name)
        assert_hashes([Path("x.bin")])
    assert read == {"x.bin": 2}


def test_a_file_of_another_size_or_time_is_read_again(tmp_path, read):
    path = write_old(tmp_path / "x.bin", b"before", 300)
    before = path.stat().st_mtime_ns
    assert_hashes([path])
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(before, before))  # as a copy that keeps times would be
    assert_hashes([path])
    path.write_bytes(b"as long, but other")
    os.utime(path, ns=(before + 1, before + 1))
    assert_hashes([path])
    assert read == {"x.bin": 3}
    assert_hashes([path])
    assert read == {"x.bin": 3}


def test_a_file_that_was_just_written_is_not_taken_for_known(tmp_path, read):
    path = write_old(tmp_path / "x.bin", b"one", age=0)
    for _ in range(2):
        assert_hashes([path])
    assert read == {"x.bin": 2}
    time_before = path.stat().st_mtime_ns
    path.write_bytes(b"two")  # within the same tick of the clock
    os.utime(path, ns=(time_before, time_before))
    assert_hashes([path])
    path = write_old(tmp_path / "y.bin", b"one", age=5)
    for _ in range(2):
        assert_hashes([path])
    assert read["y.bin"] == 1


def memo():
    (path,) = (cache.folder() / "hashes").iterdir()
    return path


GARBAGE = {
    "nothing": lambda known: "",
    "cut": lambda known: json.dumps(known)[:-3],
    "a list": lambda known: "[1, 2]",
    "a number": lambda known: "3",
    "entries are numbers": lambda known: json.dumps(dict.fromkeys(known, 3)),
    "entries are cut": lambda known: json.dumps({name: entry[:2] for name, entry in known.items()}),
    "entries are null": lambda known: json.dumps(dict.fromkeys(known)),
}


@pytest.mark.parametrize("garbage", [*GARBAGE.values(), None], ids=[*GARBAGE, "bytes"])
def test_a_damaged_memo_is_passed_over_and_mended(tmp_path, read, garbage):
    paths = [write_old(tmp_path / "files" / name, name.encode()) for name in ("x", "y")]
    assert_hashes(paths)
    content = b"\xff\0\xfe" if garbage is None else garbage(json.loads(memo().read_text())).encode()
    memo().write_bytes(content)
    for _ in range(2):
        assert_hashes(paths)
    assert read == {"x": 2, "y": 2}


def test_without_a_place_for_the_memo_files_are_read_each_time(tmp_path, monkeypatch, read):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "file"))
    path = write_old(tmp_path / "x", b"content")
    for _ in range(2):
        assert_hashes([path])
    assert read == {"x": 2}


def test_a_missing_file_is_for_the_caller_to_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        cache.hashes([tmp_path / "nothing"])
