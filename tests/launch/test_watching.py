"""--watch: as long as runs go on, and not longer."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from comparing import refused, store, two

from jaxdl.study import folders
from launch import watching

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def waits(monkeypatch):
    """What happens instead of waiting: a list of functions, one a time."""
    steps = []
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: steps.pop(0)(seconds))
    return steps


def test_the_table_is_printed_until_the_launcher_ends_and_once_with_all_it_left(tmp_path, ran, waits):
    asked = []
    store(tmp_path, "v", 0, {"test_error": 0.1})
    held = folders.locked(tmp_path)
    held.__enter__()

    def half_written(seconds):
        asked.append(seconds)
        store(tmp_path, "v", 1, {"test_error": 0.3})
        (tmp_path / "v" / "aaaa" / "seed=1" / "result.json").write_text('{"metr')

    def end(seconds):
        store(tmp_path, "v", 1, {"test_error": 0.3})
        held.__exit__(None, None, None)

    waits += [half_written, end]
    status, out, err = ran(tmp_path, "--watch=7")
    assert (status, err, asked, waits) == (0, "", [7.0], [])
    tables = re.split(r"^--- \d\d:\d\d:\d\d ---$", out, flags=re.M)
    counts = [re.search(r"^v +(\d(?: of \d)?)", each, re.M)[1] for each in tables[1:]]
    assert tables[0] == "" and counts == ["1", "1 of 2", "2"]


def test_an_output_is_written_anew_each_time_and_nothing_printed(tmp_path, ran, waits):
    store(tmp_path / "s", "v", 0, {"test_error": 0.1})
    seen = []
    held = folders.locked(tmp_path / "s")
    held.__enter__()

    def look(seconds):
        seen.append((tmp_path / "o.md").read_text())
        store(tmp_path / "s", "v", 0, {"test_error": 0.2})
        held.__exit__(None, None, None)

    waits.append(look)
    assert ran(tmp_path / "s", "--watch", "--format=md", f"--output={tmp_path / 'o.md'}") == (0, "", "")
    assert "| 10.00 |" in seen[0] and "| 20.00 |" in (tmp_path / "o.md").read_text()


def test_what_is_not_there_yet_is_waited_for(tmp_path, ran, waits):
    held = folders.locked(tmp_path)
    held.__enter__()
    waits += [
        lambda seconds: store(tmp_path, "v", 0, {"test_error": 0.1}),
        lambda seconds: held.__exit__(None, None, None),
    ]
    status, out, _ = ran(tmp_path, "--watch")
    assert status == 0 and "nothing to show so far" in out.split("---")[2] and out.count("10.00") == 2


def test_nothing_is_waited_for_where_nothing_runs(tmp_path, ran, waits):
    path, _ = two(tmp_path / "r.csv", 0.2, 0.3)
    assert ran(path, "--watch")[1].splitlines()[1:] == ran(path)[1].splitlines()
    refused(ran(path, "--watch", "--metric=test_eror"), "unknown metric 'test_eror'")
    (tmp_path / "empty").mkdir()
    refused(ran(tmp_path / "empty", "--watch"), "holds no runs")
    for wrong in ("0", "-1", "x", "1e", "inf"):
        refused(ran(path, f"--watch={wrong}"), f"--watch={wrong} is not possible: it is a number of seconds above 0")


def test_a_run_goes_on_as_its_launchers_lock_says_and_without_one_as_it_says_itself(tmp_path):
    place = tmp_path / "v" / "aaaa" / "seed=0"
    folders.begin(place, {})
    assert watching.running(tmp_path)  # a folder that was copied
    with folders.locked(tmp_path):
        assert watching.running(tmp_path)
    assert not watching.running(tmp_path)  # killed: the lock is there and free
    with folders.locked(tmp_path, "share-1-of-2", "x"), (tmp_path / "lock").open() as file:
        assert watching.running(tmp_path)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shares leave it to others
    assert not watching.running(tmp_path)
    with folders.locked(tmp_path):  # looking at a lock takes it from no one
        pass
    (tmp_path / "lock").unlink()
    (tmp_path / "lock-share-1-of-2").unlink()
    folders.finish(place, {"test_error": 0.1}, {}, "")
    assert not watching.running(tmp_path)


def test_control_c_ends_it_with_status_130_and_a_terminal_is_cleared(tmp_path):
    store(tmp_path, "v", 0, {"test_error": 0.1})
    command = [sys.executable, "-m", "launch.compare", str(tmp_path), "--watch=0.2"]
    ours, theirs = pty.openpty()
    text = bytearray()

    def listen():
        try:
            while block := os.read(ours, 1000):
                text.extend(block)
        except OSError:  # closed at the other end
            pass

    with folders.locked(tmp_path):
        process = subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE)
        os.close(theirs)
        listener = threading.Thread(target=listen)
        listener.start()
        deadline = time.monotonic() + 60
        while text.count(b"\x1b[2J") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    listener.join()
    os.close(ours)
    assert (process.returncode, err) == (130, b"")
    assert text.count(b"\x1b[2J\x1b[H") >= 2 and b"--- " not in text.split(b"v  ")[0].replace(b"-----", b"")
