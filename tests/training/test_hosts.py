"""Several hosts: real processes on this machine that meet, wait, hand over and die; tars that mean harm."""

import concurrent.futures
import hashlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from jaxdl.errors import UserError
from jaxdl.training import hosts
from jaxdl.training.hosts import Hosts

ROOT = Path(__file__).resolve().parents[2]

# host.py COORDINATOR COUNT INDEX LIMIT BEHAVIOUR: what a study does between meeting and leaving.
HOST = """
import hashlib, random, sys, time
from jaxdl.errors import UserError
from jaxdl.training import hosts, stopping

coordinator, count, index, limit, behaviour = sys.argv[1:]
requests, me = stopping.Requests(), hosts.Hosts()
try:
    with requests.listening():
        me = hosts.join(coordinator, int(count), int(index), float(limit))
        print("met", me.index, me.count, flush=True)
        if behaviour == "look":
            import jax
            from jaxdl.training import devices

            devices.start("cpu")
            print(jax.process_count(), len(jax.devices()) == len(jax.local_devices()) == devices.cores())
        if behaviour == "hang":
            time.sleep(600)
        if behaviour == "late":
            time.sleep(6 + me.index)
        if me.index:
            hosts.send(me, random.Random(me.index).randbytes({1: 0, 2: 5_000_000}[me.index]))
            print("sent", flush=True)
        else:
            for blob in hosts.receive(me):
                print(len(blob), hashlib.sha256(blob).hexdigest(), flush=True)
except UserError as error:
    sys.exit(f"error: {error}")
except stopping.Interrupted as stop:
    sys.exit(stop.status)
finally:
    hosts.leave(me)
"""


def free_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def start(coordinator, count, index, behaviour="", limit=60, **changes):
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = {
        **kept,
        "JAX_PLATFORMS": "cpu",
        "PYTHONWARNINGS": "error",
        "http_proxy": "http://localhost:9",
    } | changes
    words = [coordinator, count, index, limit, behaviour]
    command = [sys.executable, "-c", HOST, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def end(process):
    """(exit status, standard output, standard error)"""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def met(process):
    """Wait until it has met the others."""
    line = process.stdout.readline()
    assert line.startswith("met"), (line, *end(process))


def test_alone():
    assert Hosts() == (0, 1, ())
    assert list(hosts.receive(Hosts())) == []
    hosts.leave(Hosts())


def test_three_hosts_hand_over():
    """Nothing at all, and five megabytes; one host waits for host 0, and host 0 for the other: it gets every byte."""
    address = f"localhost:{free_port()}"
    processes = [start(address, 3, index, "" if index == 1 else "late") for index in range(3)]
    ends = [end(process) for process in processes]

    blobs = [b"", random.Random(2).randbytes(5_000_000)]
    expected = "".join(f"{len(blob)} {hashlib.sha256(blob).hexdigest()}\n" for blob in blobs)
    assert ends[0] == (0, "met 0 3\n" + expected, "")
    assert ends[1:] == [(0, f"met {index} 3\nsent\n", "") for index in (1, 2)]


def test_a_host_dies():
    """Host 0 takes what the living have, then says who has gone; nobody waits in vain."""
    address = f"localhost:{free_port()}"
    processes = [start(address, 3, index, "hang" if index == 2 else "") for index in range(3)]
    met(processes[2])
    processes[2].kill()
    since = time.monotonic()
    (code, out, err), living, _ = (end(process) for process in processes)
    assert time.monotonic() - since < 30
    assert code == 1 and len(out.splitlines()) == 2
    assert err.startswith("error: host 2 ended without handing over") and err.count("\n") == 1
    assert living == (0, "met 1 3\nsent\n", "")


def test_host_0_dies():
    address = f"localhost:{free_port()}"
    processes = [start(address, 2, index, "hang" if index == 0 else "") for index in range(2)]
    met(processes[0])
    processes[0].kill()
    code, out, err = end(processes[1])
    end(processes[0])
    assert (code, out) == (1, "met 1 2\n")
    assert err.startswith("error: host 0 ended before it took over what host 1 has trained") and err.count("\n") == 1


def test_a_signal_ends_a_host_cleanly():
    """Both while it trains and while it waits for others."""
    address = f"localhost:{free_port()}"
    processes = [start(address, 2, index, "hang" if index else "") for index in range(2)]
    for process in processes:
        met(process)
    processes[0].send_signal(signal.SIGTERM)
    assert end(processes[0]) == (128 + signal.SIGTERM, "", "")
    processes[1].send_signal(signal.SIGINT)
    assert end(processes[1]) == (128 + signal.SIGINT, "", "")


def test_the_others_do_not_come():
    """Host 0 alone, host 1 alone, and a port that is taken: one line each, no stack of jax's C++."""
    with socket.create_server(("", 0)) as taken:
        used = taken.getsockname()[1]
        cases = [(f"localhost:{free_port()}", 0), (f"localhost:{free_port()}", 1), (f"localhost:{used}", 0)]
        processes = [start(address, 2, index, limit=1) for address, index in cases]
        for process, (address, _) in zip(processes, cases, strict=True):
            code, out, err = end(process)
            assert (code, out) == (1, "")
            assert err.startswith(f"error: the 2 hosts did not meet at {address} (") and err.count("\n") == 1, err


def test_no_cluster_is_found():
    code, _, err = end(start("", 0, -1))
    assert code == 1 and err.startswith("error: --distributed finds no cluster here") and err.count("\n") == 1
    assert "--coordinator=HOST:PORT --hosts=N --host=I" in err


def test_a_cluster_is_found():
    """As SLURM describes two tasks on one node; jax derives the port from the job's number. Each has its own jax."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [job | {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)} for index in range(2)]
    ends = [end(process) for process in [start("", 0, -1, "look", **task) for task in tasks]]
    assert [(code, err) for code, _, err in ends] == [(0, "")] * 2
    assert [out.splitlines()[:2] for _, out, _ in ends] == [["met 0 2", "1 True"], ["met 1 2", "1 True"]]


def test_a_tpu_host_stands_alone():
    """What libtpu is told. That a TPU then behaves so has never been tried."""
    assert hosts._own_chips(0, {"TPU_WORKER_HOSTNAMES": "a,b"}) == {}
    alone = {"TPU_HOST_BOUNDS": "1,1,1", "TPU_CHIPS_PER_HOST_BOUNDS": "2,2,1"}
    assert hosts._own_chips(4, {}) == alone
    assert hosts._own_chips(8, {})["TPU_CHIPS_PER_HOST_BOUNDS"] == "2,4,1"
    kubernetes = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    assert hosts._own_chips(4, {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}) == alone | kubernetes


def test_strangers_at_the_port():
    """What says hello in no known way, or nothing at all, keeps no host from its link."""
    port = free_port()
    deadline = time.monotonic() + 30
    with concurrent.futures.ThreadPoolExecutor() as pool:
        server = pool.submit(hosts._answer, port, 2, deadline)
        for words in (b"GET / HTTP/1.0\r\n\r\n", b"", b"GET / HTTP\0\0\0\1", hosts.HELLO + b"\0\0\0\7"):
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection(("localhost", port)) as stranger:
                        stranger.sendall(words)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        mine = hosts._call("localhost", port, 1, deadline)
        (theirs,) = server.result()
    zero, one = Hosts(0, 2, (theirs,)), Hosts(1, 2, (mine,))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        sent = pool.submit(hosts.send, one, b"abc")
        assert list(hosts.receive(zero)) == [b"abc"]
        sent.result()
    hosts.leave(one)
    with pytest.raises(UserError, match="host 1 ended without"):
        list(hosts.receive(zero))
    hosts.leave(zero)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1234", 2, -1), "belong together"),
        (("localhost:1234", 0, 1), "belong together"),
        (("", 2, 1), "belong together"),
        (("", 0, 0), "belong together"),
        (("localhost:1234", -1, 0), "--hosts=-1"),
        (("localhost:1234", 2, 2), "--host=2 is none of the 2 hosts: they are numbered 0 to 1"),
        (("localhost:1234", 2, -2), "--host=-2 is none"),
        (("localhost", 2, 0), "--coordinator=localhost is no HOST:PORT"),
        ((":1234", 2, 0), "--coordinator=:1234 is no HOST:PORT"),
        (("localhost:", 2, 0), "is no HOST:PORT"),
        (("localhost:http", 2, 0), "is no HOST:PORT"),
        (("localhost:0", 2, 0), "from 1 to 65535"),
        (("localhost:65536", 2, 0), "from 1 to 65535"),
    ],
)
def test_what_is_not_possible(given, message):
    with pytest.raises(UserError) as caught:
        hosts.join(*given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def write_run(root, name, status="done", metric=1):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": status}))
    (folder / "result.json").write_text(json.dumps({"metric": metric}))
    (folder / "outcomes.npz").write_bytes(bytes(range(256)))
    return folder


def is_done(folder):
    path = folder / "status.json"
    return path.exists() and json.loads(path.read_text())["status"] in ("done", "diverged")


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_runs_move(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    packed = [write_run(here, f"a/HASH/seed={seed}", status) for seed, status in enumerate(("done", "diverged"))]
    left = write_run(here, "a/HASH/seed=2")
    expected = files(here)
    (packed[0] / "tensorboard").mkdir()
    (packed[0] / "tensorboard" / "events").write_text("made anew where it is wanted")
    (packed[1] / "link").symlink_to("/etc/passwd")
    blob = hosts.pack(packed, here)
    assert hosts.unpack(blob, there, is_done) == 2
    assert files(there) == {
        name: content for name, content in expected.items() if not name.startswith(str(left.relative_to(here)))
    }
    assert hosts.unpack(hosts.pack([], here), there, is_done) == 0


def test_what_is_finished_stays(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    packed = [write_run(here, name, metric=2) for name in ("a/x", "a/y", "a/z")]
    for name, status in (("a/x", "done"), ("a/y", "running")):
        write_run(there, name, status)
    assert hosts.unpack(hosts.pack(packed, here), there, is_done) == 2
    metrics = [json.loads((there / name / "result.json").read_text())["metric"] for name in ("a/x", "a/y", "a/z")]
    assert metrics == [1, 2, 2]
    assert is_done(there / "a/y")


def test_the_status_comes_last(tmp_path, monkeypatch):
    """Wherever the disk fills up, no folder says that it is complete; and a draft is never taken for a file."""
    here = tmp_path / "here"
    blob = hosts.pack([write_run(here, "a/x")], here)
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}
    backwards = make_tar(*((name, contents[name]) for name in sorted(contents, reverse=True)))
    assert list(contents)[-1] == "a/x/status.json" == sorted(contents)[-1]
    write_bytes = Path.write_bytes
    for number in range(3):
        there, left = tmp_path / f"there{number}", [number]

        def fail(path, content, left=left):
            if not left[0]:
                raise OSError(28, "full")
            left[0] -= 1
            return write_bytes(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", fail)
            with pytest.raises(OSError, match="full"):
                hosts.unpack(backwards, there, is_done)
        assert not (there / "a/x/status.json").exists() and len(files(there)) == number
        assert hosts.unpack(backwards, there, is_done) == 1
        assert files(there) == files(here)


def make_tar(*members):
    """(name, content) for a file, or a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../x/y", b""),
        ("a/../../x", b""),
        ("a/../lock", b""),
        ("/tmp/jaxdl-harm", b""),
        ("lock", b""),
        ("out/y", b""),
        special("a/link", tarfile.SYMTYPE, "../b"),
        special("a/hard", tarfile.LNKTYPE, "a/x"),
        special("a/pipe", tarfile.FIFOTYPE),
        special("a/folder", tarfile.DIRTYPE),
        special("a/device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name if isinstance(member, tarfile.TarInfo) else member[0],
)
def test_a_tar_that_means_harm(tmp_path, member):
    """A good file before it and one after: nothing is written at all. `out` is a link that leads out."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "out").symlink_to(outside)
    blob = make_tar(("a/x", b"good"), member, ("a/z", b"good"))
    with pytest.raises(UserError, match="no file of a run: nothing was taken"):
        hosts.unpack(blob, root, is_done)
    assert [path.name for path in root.iterdir()] == ["out"] and not list(outside.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]
    assert not Path("/tmp/jaxdl-harm").exists()


@pytest.mark.parametrize("blob", [b"", b"x" * 3000, make_tar(("a/x", b"1" * 5000))[:3000]])
def test_what_is_no_tar(tmp_path, blob):
    with pytest.raises(UserError, match="can't be read"):
        hosts.unpack(blob, tmp_path, is_done)
    assert not list(tmp_path.iterdir())
