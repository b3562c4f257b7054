"""Run folders, the lock, environment.json and TensorBoard files, read back by other means than the code that wrote."""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdl.errors import UserError
from jaxdl.study import folders
from jaxdl.study.runs import Run

ROOT = Path(__file__).resolve().parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from jaxdl.study import folders
with folders.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def strict_json(text):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_lock_keeps_a_second_launcher_out_and_ends_with_its_holder(tmp_path):
    workdir = tmp_path / "a" / "workdir"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(workdir)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError) as caught, folders.locked(workdir):
            pass
        assert f"process {holder.pid} " in str(caught.value)
        assert str(workdir) in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        holder.kill()  # SIGKILL: it cleans nothing up
        holder.wait()
        holder.stdout.close()
    with folders.locked(workdir):
        assert "process" in (workdir / "lock").read_text()
        with pytest.raises(UserError), folders.locked(workdir):
            pass
    with folders.locked(workdir):
        pass


@pytest.mark.parametrize("below", ["", "sub", "sub/sub"])
def test_a_workdir_that_cannot_be_made_is_named(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    workdir = tmp_path / "file" / below
    with pytest.raises(UserError) as caught, folders.locked(workdir):
        pass
    assert str(workdir) in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_folder_is_variant_hash_and_seed():
    run = Run("sparse-2", 7, {"depth": 2}, {"rate": 0.1}, "0123456789", {})
    assert folders.run_folder(Path("w"), run) == Path("w/sparse-2/0123456789/seed=7")


def test_the_files_of_a_run_that_ended(tmp_path):
    folder = tmp_path / "v" / "hash" / "seed=0"
    assert not folders.is_done(folder)
    folders.begin(folder, {"steps": 3, "hyper": {"rate": 0.1}, "widths": (3, 4)})
    assert not folders.is_done(folder)
    assert strict_json((folder / "config.json").read_text()) == {"steps": 3, "hyper": {"rate": 0.1}, "widths": [3, 4]}
    assert strict_json((folder / "status.json").read_text()) == {"status": "running"}
    outcomes = np.random.default_rng(0).random(397).astype(np.float32)
    metrics = {"test_error": 1 / 3, "test_loss": 5e-324}
    folders.finish(folder, metrics, {"test_error": outcomes}, "")
    assert folders.is_done(folder)
    assert strict_json((folder / "status.json").read_text()) == {"status": "done"}
    assert strict_json((folder / "result.json").read_text()) == {"metrics": metrics}
    with np.load(folder / "outcomes.npz") as stored:
        assert stored.files == ["test_error"]
        np.testing.assert_array_equal(stored["test_error"], outcomes, strict=True)
    assert folders.read_run(folder) == {"status": "done", "metrics": metrics}
    names = {"config.json", "metrics.jsonl", "result.json", "status.json", "outcomes.npz"}
    assert {path.name for path in folder.iterdir()} == names


def test_a_run_that_diverged_has_its_step_and_no_metrics(tmp_path):
    folders.begin(tmp_path, {})
    folders.finish(tmp_path, {"test_error": 0.9}, {}, "layer2 at step 41")
    assert strict_json((tmp_path / "status.json").read_text()) == {"status": "diverged"}
    assert strict_json((tmp_path / "result.json").read_text()) == {"metrics": {}, "diverged": "layer2 at step 41"}
    assert folders.is_done(tmp_path)
    assert folders.read_run(tmp_path)["metrics"] == {}


def test_a_run_that_failed_or_has_a_torn_result_is_not_done(tmp_path):
    folders.begin(tmp_path / "a", {})
    folders.fail(tmp_path / "a", "ValueError('x')")
    assert not folders.is_done(tmp_path / "a")
    assert folders.read_run(tmp_path / "a") == {"status": "failed", "error": "ValueError('x')", "metrics": {}}
    folders.begin(tmp_path / "b", {})
    folders.finish(tmp_path / "b", {"test_error": 0.5}, {}, "")
    text = (tmp_path / "b" / "result.json").read_text()
    (tmp_path / "b" / "result.json").write_text(text[:-4])
    assert not folders.is_done(tmp_path / "b")
    assert folders.read_run(tmp_path / "c") == {"status": "absent", "metrics": {}}


def test_metrics_are_valid_json_with_every_bit_and_null_for_what_is_not_finite(tmp_path):
    folders.begin(tmp_path, {})
    row = {"fit": "deep", "step": 3, "a": 0.1 + 0.2, "b": math.nan, "c": math.inf, "d": -math.inf, "e": 5e-324}
    folders.append(tmp_path, row)
    folders.append(tmp_path, row | {"step": 6, "b": 1.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    expected = row | {"b": None, "c": None, "d": None}
    assert [strict_json(line) for line in lines] == [expected, expected | {"step": 6, "b": 1.0}]
    assert folders.read_metrics(tmp_path) == [expected, expected | {"step": 6, "b": 1.0}]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    folders.begin(tmp_path, {})
    for step in (1, 2):
        folders.append(tmp_path, {"fit": "deep", "step": step})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-6])
    assert folders.read_metrics(tmp_path) == [{"fit": "deep", "step": 1}]
    assert folders.read_metrics(tmp_path / "absent") == []


def test_begin_starts_the_metrics_anew(tmp_path):
    folders.begin(tmp_path, {})
    folders.append(tmp_path, {"fit": "deep", "step": 1})
    folders.begin(tmp_path, {})
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_write_replaces_the_file_at_once(tmp_path, monkeypatch):
    """A reader sees the old text until the new one is whole; and a failed write leaves the old one."""
    path = tmp_path / "status.json"
    folders.write(path, {"status": "running"})

    def fail(self, text, *args, **kwargs):
        with self.open("w") as file:
            file.write(text[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        folders.write(path, {"status": "done"})
    assert strict_json(path.read_text()) == {"status": "running"}


def events(folder):
    """{tag: [(step, float32 value)]} of TensorBoard event files, read record by record (TFRecord framing)."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    (path,) = folder.glob("events.out.tfevents.*")
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])  # 8 bytes of length, 4 of its CRC
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        data = data[12 + length + 4 :]
    return found


def test_tensorboard_files_hold_the_values_that_were_logged(tmp_path):
    folders.begin(tmp_path, {})
    random = np.random.default_rng(0)
    expected = {}
    for fit in ("layer1", "deep"):
        for step in (10, 20, 30):
            values = {"train_loss": random.random(), "validation_error": random.random()}
            if (fit, step) == ("deep", 20):
                values["train_loss"] = math.nan
            folders.append(tmp_path, {"fit": fit, "step": step} | values)
            for name, value in values.items():
                if math.isfinite(value):
                    expected.setdefault(f"{fit}/{name}", []).append((step, float(np.float32(value))))
    folders.write_tensorboard(tmp_path)
    assert events(tmp_path / "tensorboard") == expected
