"""Checkpoints: what is saved comes back, and what is damaged is noticed."""

import errno
import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest

from jaxdl.errors import UserError
from jaxdl.training import checkpoints
from jaxdl.training.optimizers import OptimizerState


class Pair(NamedTuple):
    left: np.ndarray
    right: dict


def make_tree(value):
    params = {"hidden/0": {"kernel": np.full((2, 3), value, np.float32)}, "list": [np.uint32(value), np.int32(-value)]}
    rule = (optax.EmptyState(), optax.TraceState({"w": np.full((2, 1), value, np.float32)}))
    pair = Pair(np.array([True, False, value > 1]), params)
    return {"pair": pair, "rule": OptimizerState(np.int32(value), rule), "none": None}


def shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), tree)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for step in (10, 20, 300):
        checkpoints.save(folder, step, make_tree(step), {"step": step, "history": [float("nan"), 1e300]})
    return folder


@pytest.fixture
def three(saved, tmp_path):
    """A folder with saves of the steps 10, 20 and 300, of which KEEP are left."""
    return shutil.copytree(saved, tmp_path / "run")


def restore(folder):
    """(the restored step or None, warnings)."""
    warned = []
    found = checkpoints.restore(folder, shapes(make_tree(0)), warned.append)
    return (found and found[2]["step"]), warned


def test_round_trip(three, same):
    """Named tuples, lists, odd names, scalars of every type, and notes."""
    tree, further, notes = checkpoints.restore(three, shapes(make_tree(0)), pytest.fail)
    same(tree, jax.tree.map(np.asarray, make_tree(300)))
    assert further == {}
    assert notes["step"] == 300 and np.isnan(notes["history"][0]) and notes["history"][1] == 1e300
    assert isinstance(tree["rule"], OptimizerState) and isinstance(tree["pair"], Pair)
    assert checkpoints.newest_notes(three)["step"] == 300


def test_arrays_that_were_not_asked_for(three, same):
    like = {name: tree for name, tree in shapes(make_tree(0)).items() if name != "rule"}
    tree, further, _ = checkpoints.restore(three, like, pytest.fail)
    same(tree["pair"], jax.tree.map(np.asarray, make_tree(300)["pair"]))
    assert sorted(further) == ["['rule'].rule[1].trace['w']", "['rule'].step"]
    assert further["['rule'].step"] == 300


def test_only_the_newest_are_kept(three):
    assert checkpoints.KEEP == 2
    assert sorted(path.name for path in three.iterdir()) == ["00000020", "00000300"]


def test_what_a_kill_left_behind_goes_with_the_next_save(three):
    (three / "00000300" / "manifest.json").unlink()
    (three / "00000350" / "arrays").mkdir(parents=True)
    (three / "mine").mkdir()
    checkpoints.save(three, 400, make_tree(400), {"step": 400})
    assert sorted(path.name for path in three.iterdir()) == ["00000020", "00000400", "mine"]


def test_nothing_there(tmp_path):
    assert restore(tmp_path / "absent") == (None, [])
    assert checkpoints.newest_notes(tmp_path / "absent") is None
    (tmp_path / "other").mkdir()
    (tmp_path / "00000010").mkdir()  # begun, never finished
    assert restore(tmp_path) == (None, [])
    assert checkpoints.newest_notes(tmp_path) is None


def files_of(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def test_every_flipped_byte_is_noticed(three, same):
    """One bit in the middle of each file, whatever it is for; then the file is as before."""
    newest = three / "00000300"
    assert len(files_of(newest)) > 6
    for path in files_of(newest):
        content = path.read_bytes()
        place = len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        step, warned = restore(three)
        assert step == 20, path
        assert len(warned) == 1 and str(newest) in warned[0], path
        assert path.name in warned[0] or path.name == "manifest.json"  # which then accuses another file
        path.write_bytes(content)
    assert restore(three) == (300, [])


def test_every_truncated_and_every_missing_file_is_noticed(three):
    newest = three / "00000300"
    for path in files_of(newest):
        content = path.read_bytes()
        for length in {0, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:length])
            step, warned = restore(three)
            assert step == 20, path
            assert len(warned) == 1 and str(newest) in warned[0] and path.name in warned[0], path
        path.unlink()
        step, warned = restore(three)
        assert step == 20, path
        if path.name == "manifest.json":  # written last: without it the checkpoint was never finished
            assert warned == []
        else:
            missing = f"{path.relative_to(newest)} is missing"
            assert warned == [f"checkpoint {newest} is damaged ({missing}): falling back to the one before"]
        path.write_bytes(content)
    assert restore(three) == (300, [])


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"notes.json": 3}', '{"notes.json": [1]}', "{", "\x00", "null"])
def test_a_manifest_that_is_none(three, text):
    (three / "00000300" / "manifest.json").write_text(text)
    step, warned = restore(three)
    assert step == 20 and len(warned) == 1 and "manifest.json" in warned[0]


def test_a_half_deleted_folder(three):
    shutil.rmtree(three / "00000300" / "arrays")
    step, warned = restore(three)
    assert step == 20 and len(warned) == 1 and "00000300" in warned[0]


def test_all_damaged(three):
    for name in ("00000020", "00000300"):
        path = three / name / "arrays" / "_METADATA"
        path.write_bytes(b"x" + path.read_bytes()[1:])
    step, warned = restore(three)
    assert step is None and len(warned) == 2
    assert "00000300" in warned[0] and "00000020" in warned[1]


def test_altered_notes_are_not_read(three):
    """A flipped bit that leaves good JSON."""
    path = three / "00000300" / "notes.json"
    path.write_text(path.read_text().replace('"step"', '"stfp"'))
    assert checkpoints.newest_notes(three)["step"] == 20


def test_another_program(three):
    """Good files, but of other shapes or types: said, and not used."""
    like = shapes(make_tree(0))
    for change, words in (
        ({"none": jax.ShapeDtypeStruct((), np.float32)}, "['none'] is not in it"),
        ({"rule": like["rule"]._replace(step=jax.ShapeDtypeStruct((), np.uint32))}, "int32[], not uint32[]"),
        ({"rule": like["rule"]._replace(step=jax.ShapeDtypeStruct((2,), np.int32))}, "int32[], not int32[2]"),
    ):
        warned = []
        assert checkpoints.restore(three, like | change, warned.append) is None
        assert len(warned) == 2 and words in warned[0]


def test_the_same_step_again(three, same):
    """Saved over what is damaged."""
    (three / "00000300" / "notes.json").write_text("")
    checkpoints.save(three, 300, make_tree(7), {"step": 7})
    tree, _, notes = checkpoints.restore(three, shapes(make_tree(0)), pytest.fail)
    same(tree, jax.tree.map(np.asarray, make_tree(7)))
    assert notes == {"step": 7}


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from jaxdl.errors import UserError
from jaxdl.training import checkpoints

tree = {"large": np.random.default_rng(0).normal(size=10_000), "small": np.zeros(1)}
before = resource.getrlimit(resource.RLIMIT_FSIZE)
for folder, size in zip(sys.argv[1:], (50_000, 100, 50_000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # writes fail as they do on a full disk
    try:
        checkpoints.save(Path(folder), 400, tree, {})
    except UserError as error:
        print(error)
    print("next", file=sys.stderr, flush=True)
    checkpoints._check_room = lambda path, size: None
"""


def test_full_disk(saved, tmp_path):
    """Seen before the first write; or, where the room goes meanwhile, by whichever file finds none.

    The larger size is enough for all but the array, which tensorstore's threads write.
    """
    seen, *found = folders = [shutil.copytree(saved, tmp_path / name) for name in ("seen", "metadata", "array")]
    command = [sys.executable, "-c", FULL_DISK, *map(str, folders)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    for folder, line in zip(folders, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"could not save step 400 in {folder}: ")
        assert "File too large; checkpoints that stay: 00000020, 00000300." in line
        assert restore(folder) == (300, [])
    assert done.stderr.startswith("next\n")
    assert sorted(path.name for path in seen.iterdir()) == ["00000020", "00000300"]
    for folder in found:  # threads that still write may leave a folder without a manifest
        assert {path.name for path in folder.iterdir()} - {"00000400"} == {"00000020", "00000300"}


def no_room(path, text):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_full_disk_after_the_arrays(three, monkeypatch):
    """The notes, or the manifest, find no room."""
    monkeypatch.setattr(checkpoints, "write_atomically", no_room)
    with pytest.raises(UserError, match="could not save step 400"):
        checkpoints.save(three, 400, make_tree(400), {"step": 400})
    assert restore(three) == (300, [])


def test_write_atomically(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoints.write_atomically(path, "old")
    checkpoints.write_atomically(path, "new")
    assert path.read_text() == "new"
    monkeypatch.setattr(os, "fsync", lambda number: no_room(path, number))
    with pytest.raises(OSError):
        checkpoints.write_atomically(path, "x" * 1000)
    assert path.read_text() == "new"


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.fixture(scope="module")
def straight(new_bench):
    """A fit of five steps that is saved after each: (its runs, its end, its rows, its folder)."""
    bench = new_bench()
    runs = bench.make_runs([1, 2, 3], **bench.HYPER)
    fitted = bench.fit(bench.noisy, runs, 5, checkpoint_seconds=0.0, call_seconds=0.0)
    return runs, fitted, bench.rows, bench.folder


@pytest.fixture
def finished(bench, straight):
    """The same with a copy of its folder, for the bench at hand."""
    runs, fitted, rows, folder = straight
    shutil.copytree(folder, bench.folder, dirs_exist_ok=True)
    (chunk,) = (path for path in (bench.folder / "fit").iterdir() if path.is_dir())
    # The end stands one beyond its step.
    assert sorted(path.name for path in chunk.iterdir()) == ["00000004", "00000006"]
    return runs, fitted, rows, chunk


@pytest.mark.parametrize("name", ["notes.json", "manifest.json", "arrays/_METADATA"])
def test_a_damaged_end_is_trained_again(bench, finished, same, name):
    """From the checkpoint before."""
    runs, fitted, rows, chunk = finished
    flip(chunk / "00000006" / name)
    same(bench.fit(bench.noisy, runs, 5), fitted)
    assert bench.rows == rows
    assert set(bench.warned) == {bench.warned[0]} and "00000006" in bench.warned[0] and name in bench.warned[0]
    assert [state.step for state in bench.told] == [4, 5]
    same(bench.fit(bench.noisy, runs, 5), fitted)
    assert not bench.warned and not bench.told


def test_notes_altered_where_json_stays_good(bench, finished, same):
    runs, fitted, rows, chunk = finished
    notes = chunk / "00000006" / "notes.json"
    notes.write_text(notes.read_text().replace('"finished"', '"finishfd"'))
    same(bench.fit(bench.noisy, runs, 5), fitted)
    assert bench.rows == rows and any("notes.json" in line for line in bench.warned)


def test_all_damaged_starts_anew(bench, finished, same):
    runs, fitted, rows, chunk = finished
    flip(chunk / "00000006" / "notes.json")
    flip(chunk / "00000004" / "arrays" / "manifest.ocdbt")
    same(bench.fit(bench.noisy, runs, 5), fitted)
    assert bench.rows == rows
    assert len({line.split()[1] for line in bench.warned}) == 2
    assert bench.told[0].step == 0


def test_a_damaged_end_among_others(bench, finished, same):
    """Asked for in other company, the run trains in a folder of its own."""
    _, fitted, _, chunk = finished
    flip(chunk / "00000006" / "arrays" / "_METADATA")
    others = bench.fit(bench.noisy, bench.make_runs([3, 9, 1], **bench.HYPER), 5)
    same(jax.tree.map(lambda leaf: leaf[[0, 2]], others), jax.tree.map(lambda leaf: leaf[[2, 0]], fitted))
    assert any("00000006" in line for line in bench.warned)


def test_full_disk_in_a_fit(bench, straight, same, monkeypatch):
    """The fit ends with one line; with room again it goes on from the last good checkpoint, to the same bits."""
    runs, fitted, rows, _ = straight
    save, saved = checkpoints.save, []

    def fill(folder, step, tree, notes):
        if step == 4:
            monkeypatch.setattr(checkpoints, "write_atomically", no_room)
        saved.append(step)
        save(folder, step, tree, notes)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", fill)
        with pytest.raises(UserError, match=r"could not save step 4 .*stay: 00000002, 00000003\. Make room"):
            bench.fit(bench.noisy, runs, 5, checkpoint_seconds=0.0, call_seconds=0.0)
    assert saved == [0, 1, 2, 3, 4]
    monkeypatch.undo()
    same(bench.fit(bench.noisy, runs, 5), fitted)
    assert bench.told[0].step == 3 and bench.rows == rows and not bench.warned


def test_manifest_covers_every_file(three):
    newest = three / "00000300"
    manifest = json.loads((newest / "manifest.json").read_text())
    assert set(manifest) | {"manifest.json"} == {str(path.relative_to(newest)) for path in files_of(newest)}
