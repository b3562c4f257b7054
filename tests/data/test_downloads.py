"""Downloads from a small server on this machine that cuts, fails, lies or is slow as a test asks it to."""

import contextlib
import hashlib
import http.server
import importlib.util
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdl.data import downloads
from jaxdl.errors import UserError

CONTENT = np.random.default_rng(0).bytes(400_000)
OTHER = np.random.default_rng(1).bytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files, in the way that server.ways has next for the path, or else well."""

    def do_GET(self):
        start = self.headers.get("Range")
        self.server.log.append((self.path, start))
        ways = self.server.ways.get(self.path)
        way = ways.pop(0) if ways else {}
        time.sleep(way.get("wait", 0))
        content = way.get("content", self.server.files.get(self.path))
        if "status" in way or content is None:
            return self.send_error(way.get("status", 404))
        whole = len(content)
        if start and way.get("ranges", True):
            first = int(start.removeprefix("bytes=").removesuffix("-"))
            if first >= whole or way.get("ranges") == "refused":
                return self.send_error(416)
            content = content[first:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        if way.get("length", True):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have gone
            self.wfile.write(content[: way.get("cut", whole)])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """Its attributes: files {path: bytes}; ways {path: [how to answer the first request, the second, ...]}; log."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.files, one.ways, one.log = {"/a/file.bin": CONTENT, "/b/file.bin": CONTENT}, {}, []
        one.url = f"http://127.0.0.1:{one.server_port}"
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXDL_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(downloads, "_WAIT", 0)


@pytest.fixture
def one(server, tmp_path, monkeypatch):
    """The set "one" of a single file with two mirrors; its places on the disk."""
    mirrors = (f"{server.url}/a/", f"{server.url}/b/")
    file = downloads.File("file.bin", len(CONTENT), SHA256, mirrors)
    monkeypatch.setattr(downloads, "FILES", {"one": (file,)})
    folder = tmp_path / "cache" / "downloads" / "one"
    names = {"final": "file.bin", "part": "file.bin.part", "aside": "file.bin.wrong-hash"}
    return SimpleNamespace(folder=folder, mirrors=mirrors, **{key: folder / name for key, name in names.items()})


def refused():
    with pytest.raises(UserError) as caught:
        downloads.fetch("one")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def start_of(range_header):
    return int(range_header.removeprefix("bytes=").removesuffix("-"))


def test_the_table_has_the_hashes_that_tfds_pins():
    (place,) = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations
    for name, files in downloads.FILES.items():
        if name in ("cora", "citeseer", "pubmed"):  # TFDS has none of them; test_planetoid.py has their files
            continue
        rows = [row.split("\t") for row in (Path(place) / "url_checksums" / f"{name}.txt").read_text().splitlines()]
        known = {row[3]: (int(row[1]), row[2]) for row in rows}
        assert {file.name: (file.size, file.sha256) for file in files} == known
        assert {file.mirrors[0] + file.name for file in files} == {row[0] for row in rows}
        assert all(mirror.endswith("/") for file in files for mirror in file.mirrors)


def test_a_file_is_downloaded_once(server, one, capsys):
    assert downloads.fetch("one") == one.folder
    assert downloads.fetch("one") == one.folder
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None)]
    assert [path.name for path in one.folder.iterdir()] == ["file.bin"]
    assert capsys.readouterr().err == f"downloading one: 0.4 MB, to {one.folder}\n"


def test_only_missing_files_are_downloaded(server, one, monkeypatch):
    server.files["/a/second.bin"] = OTHER
    second = downloads.File("second.bin", len(OTHER), hashlib.sha256(OTHER).hexdigest(), one.mirrors)
    downloads.fetch("one")
    monkeypatch.setitem(downloads.FILES, "one", (*downloads.FILES["one"], second))
    downloads.fetch("one")
    assert (one.folder / "second.bin").read_bytes() == OTHER
    assert server.log == [("/a/file.bin", None), ("/a/second.bin", None)]
    one.final.write_bytes(CONTENT[:-1])  # not a file that this module left
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT


def test_an_unknown_name_is_refused(one):
    with pytest.raises(UserError, match="unknown data set to download 'ones'; did you mean 'one'"):
        downloads.fetch("ones")


# Interruptions.


def test_a_cut_connection_is_resumed(server, one):
    server.ways["/a/file.bin"] = [{"cut": 150_000}, {"cut": 100_000}]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    (_, first), (_, second), (_, third) = server.log
    assert first is None
    assert 0 < start_of(second) <= 150_000 < start_of(third) <= 250_000


def test_a_cut_that_the_server_does_not_announce_is_noticed(server, one):
    server.ways["/a/file.bin"] = [{"cut": 150_000, "length": False}]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None), ("/a/file.bin", "bytes=150000-")]


def test_a_later_call_goes_on(server, one, capsys):
    server.ways["/a/file.bin"] = [{"cut": 100_000}] * 3
    server.ways["/b/file.bin"] = [{"status": 404}]
    message = refused()
    part = one.part.stat().st_size
    assert 150_000 < part <= 300_000 and not one.final.exists()
    for says in (f"{one.mirrors[0]}: the connection was cut, 3 times", "404", f"MB stay in {one.part}", "goes on"):
        assert says in message
    capsys.readouterr()
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT and not one.part.exists()
    assert server.log[-1] == ("/a/file.bin", f"bytes={part}-")
    assert f"{part / 1e6:.1f} MB of them already here" in capsys.readouterr().err


def test_ctrl_c_keeps_what_arrived(server, one, monkeypatch):
    @contextlib.contextmanager
    def bar(*_):
        def show(size):
            if size > 100_000:
                raise KeyboardInterrupt

        yield show

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "_bar", bar)
        with pytest.raises(KeyboardInterrupt):
            downloads.fetch("one")
    part = one.part.stat().st_size
    assert part > 100_000
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None), ("/a/file.bin", f"bytes={part}-")]


@pytest.mark.parametrize(
    ("ranges", "requests"), [(False, ["bytes=1000-"]), ("refused", ["bytes=1000-", None])], ids=["answers 200", "416"]
)
def test_a_server_without_ranges_sends_all_again(server, one, ranges, requests):
    one.folder.mkdir(parents=True)
    one.part.write_bytes(CONTENT[:1000])
    server.ways["/a/file.bin"] = [{"ranges": ranges}]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", start) for start in requests]


def test_a_part_that_is_complete_needs_no_server(server, one):
    one.folder.mkdir(parents=True)
    one.part.write_bytes(CONTENT)
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT and server.log == []


# Servers that fail.


def test_not_found_goes_to_the_next_mirror_at_once(server, one):
    del server.files["/a/file.bin"]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None), ("/b/file.bin", None)]


def test_server_errors_are_retried_with_growing_waits(server, one, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads, "_WAIT", 2)
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=waits.append))
    server.ways["/a/file.bin"] = [{"status": 500}, {"status": 503}]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None)] * 3 and waits == [0, 2, 4]


def test_a_server_that_does_not_answer_is_asked_again(server, one, monkeypatch):
    monkeypatch.setattr(downloads, "_TIMEOUT", (5, 0.2))
    server.ways["/a/file.bin"] = [{"wait": 0.6}]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None)] * 2


def test_when_all_fail_each_reason_is_told(server, one, monkeypatch):
    with socket.socket() as unused:  # nobody listens there
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(downloads, "_TIMEOUT", (5, 0.1))
    mirrors = (*one.mirrors, f"{server.url}/c/", f"http://127.0.0.1:{port}/")
    monkeypatch.setitem(downloads.FILES, "one", (downloads.FILES["one"][0]._replace(mirrors=mirrors),))
    server.ways = {"/a/file.bin": [{"status": 403}], "/b/file.bin": [{"status": 503}] * 3}
    server.ways["/c/file.bin"] = [{"wait": 0.3}] * 3
    message = refused()
    for says in (
        f"{mirrors[0]}: 403 Forbidden |",
        f"{mirrors[1]}: 503 Service Unavailable, 3 times |",
        f"{mirrors[2]}: Read timed out. (read timeout=0.1), 3 times |",
        f"{mirrors[3]}: Failed to establish a new connection: ",
        "try again later",
        str(one.folder),
    ):
        assert says in message
    assert list(one.folder.iterdir()) == []


# Servers that lie.


def test_a_wrong_hash_is_put_aside_and_the_next_mirror_asked(server, one):
    one.folder.mkdir(parents=True)
    one.aside.write_bytes(b"of an earlier time")
    server.files["/a/file.bin"] = OTHER
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT and one.aside.read_bytes() == OTHER
    assert server.log == [("/a/file.bin", None), ("/b/file.bin", None)]


def test_wrong_hashes_everywhere_are_told(server, one):
    server.files = dict.fromkeys(server.files, OTHER)
    message = refused()
    for says in (*one.mirrors, SHA256, hashlib.sha256(OTHER).hexdigest(), str(one.aside)):
        assert says in message
    assert [path.name for path in one.folder.iterdir()] == ["file.bin.wrong-hash"]


def test_a_part_of_something_else_is_not_gone_on_with_forever(server, one):
    one.folder.mkdir(parents=True)
    one.part.write_bytes(OTHER[:1000])
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", "bytes=1000-"), ("/b/file.bin", None)]


@pytest.mark.parametrize("part", [b"", CONTENT[:1000]], ids=["anew", "resumed"])
def test_a_file_of_another_size_is_not_even_downloaded(server, one, part):
    one.folder.mkdir(parents=True)
    one.part.write_bytes(part)
    server.files = dict.fromkeys(server.files, b"<html>please log in</html>" * 100)
    server.ways["/a/file.bin"] = [{"ranges": False}]
    assert refused().count("expected a file of 400,000 bytes, found one of 2,600") == 2
    assert one.part.read_bytes() == part


def test_a_server_that_does_not_end_is_left(server, one):
    server.ways["/a/file.bin"] = [{"content": OTHER * 50, "length": False}]
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert len(CONTENT) < one.aside.stat().st_size < 2 * len(CONTENT)


# This machine.


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_nothing_is_asked_and_the_way_out_is_named(server, one, monkeypatch, value):
    monkeypatch.setenv("JAXDL_OFFLINE", value)
    assert downloads.offline()
    message = refused()
    for says in ("one is not here", "JAXDL_OFFLINE", "--offline", "file.bin", str(one.folder), "data.dir"):
        assert says in message
    assert server.log == [] and not one.folder.exists()
    one.folder.mkdir(parents=True)
    one.final.write_bytes(CONTENT)
    assert downloads.fetch("one") == one.folder


@pytest.mark.parametrize("value", ["", "0"])
def test_offline_can_be_switched_off(one, monkeypatch, value):
    monkeypatch.setenv("JAXDL_OFFLINE", value)
    assert not downloads.offline()
    downloads.fetch("one")


def test_too_little_space_is_told_before_the_download(server, one, monkeypatch):
    one.folder.mkdir(parents=True)
    one.part.write_bytes(CONTENT[:100_000])
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=299_999))
    message = refused()
    for says in ("no space for one", "0.3 MB are to be downloaded", "JAXDL_CACHE_DIR"):
        assert says in message
    assert server.log == []
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=300_000))
    downloads.fetch("one")


def test_a_disk_that_is_full_in_the_middle_keeps_what_arrived(server, one):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        message = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write the cache folder" in message and "JAXDL_CACHE_DIR" in message
    part = one.part.stat().st_size
    assert 100_000 < part <= 200_000
    downloads.fetch("one")
    assert one.final.read_bytes() == CONTENT
    assert server.log == [("/a/file.bin", None), ("/a/file.bin", f"bytes={part}-")]


def test_a_cache_that_cannot_be_written_is_told(server, one, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "file"))  # what even root cannot write to
    message = refused()
    assert f"cannot write the cache folder {tmp_path / 'file'}" in message and "JAXDL_CACHE_DIR" in message
    assert server.log == []


def test_a_terminal_shows_a_bar(server, one, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    server.ways["/a/file.bin"] = [{"cut": 150_000}]
    downloads.fetch("one")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"downloading one: 0.4 MB, to {one.folder}"
    assert "400.0/400.0 kB" in "".join(rest)


def test_the_bar_is_over_all_bytes_that_were_missing(server, one, monkeypatch):
    server.files["/a/second.bin"] = OTHER
    second = downloads.File("second.bin", len(OTHER), hashlib.sha256(OTHER).hexdigest(), one.mirrors)
    monkeypatch.setitem(downloads.FILES, "one", (*downloads.FILES["one"], second))
    one.folder.mkdir(parents=True)
    one.part.write_bytes(CONTENT[:100_000])
    seen = []

    @contextlib.contextmanager
    def bar(what, total, done):
        assert (total, done) == (800_000, 100_000)
        yield seen.append

    monkeypatch.setattr(downloads, "_bar", bar)
    downloads.fetch("one")
    assert seen[0] > 100_000 and seen == sorted(seen) and seen[-1] == 800_000 and 400_000 in seen


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}


def test_two_processes_download_once(server, one):
    server.ways["/a/file.bin"] = [{"wait": 0.5}]
    code = (
        "import json, sys\n"
        "from jaxdl.data import downloads\n"
        "name, size, sha256, mirrors = json.loads(sys.argv[1])\n"
        "downloads.FILES['one'] = (downloads.File(name, size, sha256, tuple(mirrors)),)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(downloads.fetch('one'))"
    )
    command = [sys.executable, "-c", code, json.dumps(downloads.FILES["one"][0])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, env=environment(), text=True, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=30) for process in both]
    assert [out for out, _ in said] == [f"{one.folder}\n"] * 2
    errors = sorted(error for _, error in said)
    assert errors[0].startswith("downloading one") and errors[1].startswith("waiting for another process")
    assert len(server.log) == 1 and one.final.read_bytes() == CONTENT


def test_a_warm_start_imports_neither_pooch_nor_requests(one):
    downloads.fetch("one")
    code = (
        "import sys\n"
        "from jaxdl.data import downloads\n"
        f"downloads.FILES['one'] = (downloads.File('file.bin', {len(CONTENT)}, '{SHA256}', ()),)\n"
        "downloads.fetch('one')\n"
        "print(*{'pooch', 'requests', 'urllib3', 'rich', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
