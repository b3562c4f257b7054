"""launch/tpu.sh: what it prints, and two real processes on this machine."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "tpu.sh"
BASH = shutil.which("bash")

# Stands in for a study: tells its words, waits for a signal if asked to, ends as asked.
STUB = """
import json, os, signal, sys, time
print(json.dumps(sys.argv[1:]), file=sys.stderr)
if "--wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved at SIGTERM"))
    signal.signal(signal.SIGINT, lambda *_: sys.exit("saved at SIGINT"))
    print("waits", flush=True)
    time.sleep(100)
print("no newline at the end", end="")
sys.exit(3 if "--fail" in sys.argv and "--host=1" in sys.argv else 0)
"""


def run(*words, **changes):
    """(exit status, standard output, standard error)"""
    environment = {**os.environ, **changes}
    ended = subprocess.run([BASH, SCRIPT, *words], capture_output=True, text=True, timeout=60, env=environment)
    return ended.returncode, ended.stdout, ended.stderr


def dry(*words):
    """The printed commands as lists of words, read as a POSIX shell reads them. Nothing is started."""
    code, out, err = run("--dry-run", *words, PATH="/usr/bin:/bin")
    assert (code, err) == (0, "")
    return [shlex.split(line) for line in out.splitlines()]


def test_machines():
    first, second = dry("--machines=anna@one.org,two", "--port=99", "--", "experiments.greedy_pretraining", "--seeds=3")
    code = (
        "cd jaxdl && mkdir -p runs && echo $$ > runs/.99-{}.pid && exec .venv/bin/python -m "
        "experiments.greedy_pretraining --distributed --coordinator=one.org:99 --hosts=2 --host={} --seeds=3"
    )
    assert first == ["ssh", "-o", "BatchMode=yes", "anna@one.org", code.format(0, 0)]
    assert second == ["ssh", "-o", "BatchMode=yes", "two", code.format(1, 1)]


def test_a_tpu_pod():
    options = ["--folder=/opt/jaxdl", "--python=python3"]
    (words,) = dry("--tpu=pod", "--zone=us-a", *options, "--", "experiments.x", "--only=a")
    assert words[:8] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=us-a", "--worker=all"]
    code = "cd /opt/jaxdl && mkdir -p runs && echo $$ > runs/.8476-0.pid && exec python3 -m experiments.x --distributed"
    assert words[8:] == [f"--command={code} --only=a"]
    (words,) = dry("--tpu=pod", "--zone=us-a", "--project=mine", "--", "experiments.x")
    assert words[6:9] == ["--zone=us-a", "--project=mine", "--worker=all"]


NASTY = ['--a=it\'s $HOME `id` $(id) "x" \\ ; & | > < * ? ~ # !', "--b=two\nlines\ttab", "", "--c=ä", "'", "--only=a*"]


def test_words_arrive_as_they_are(tmp_path):
    """Through the printed line's shell and the one on the host."""
    _, out, _ = run("--dry-run", "--machines=one", "--folder=my dir's", "--", "experiments.x", *NASTY)
    code = shlex.split(out)[-1]
    assert shlex.split(code)[:2] == ["cd", "my dir's"] and shlex.split(code)[-len(NASTY) :] == NASTY
    folder = tmp_path / "my dir's $HOME"
    folder.mkdir()
    (folder / "stub.py").write_text("import json, sys; json.dump(sys.argv[1:], open('words', 'w'))")
    code, _, err = run("--machines=localhost", f"--folder={folder}", f"--python={sys.executable}", "--", "stub", *NASTY)
    assert (code, err) == (0, "")
    meeting = ["--distributed", "--coordinator=localhost:8476", "--hosts=1", "--host=0"]
    assert json.loads((folder / "words").read_text()) == meeting + NASTY


@pytest.fixture
def local(tmp_path):
    """The options for two hosts on this machine that run the stub."""
    (tmp_path / "stub.py").write_text(STUB)
    return ["--machines=localhost,localhost", f"--folder={tmp_path}", f"--python={sys.executable}", "--", "stub"]


def test_two_hosts(local):
    code, out, err = run(*local, "--x=1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("bash -c 'cd && cd ") and lines[1].startswith("bash -c ")
    expected = {f"[{host} localhost] no newline at the end" for host in range(2)} | {
        f'[{host} localhost] ["--distributed", "--coordinator=localhost:8476", "--hosts=2", "--host={host}", "--x=1"]'
        for host in range(2)
    }
    assert set(lines[2:]) == expected and len(lines) == 6


def test_one_host_fails(local):
    code, out, err = run(*local, "--fail")
    assert (code, err) == (3, "host 1 (localhost) ended with status 3\n")
    assert out.count("no newline at the end") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_host(local, number):
    process = subprocess.Popen(
        [BASH, SCRIPT, *local, "--wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        seen = ""
        while seen.count("waits") < 2:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert sorted(out.splitlines()) == [f"[{host} localhost] saved at {number.name}" for host in range(2)]
    assert err == "".join(f"host {host} (localhost) ended with status 1\n" for host in range(2))


def test_the_second_signal_is_meant(tmp_path):
    """A study that does not stop is killed."""
    deaf = "import signal, time\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\n"
    (tmp_path / "stub.py").write_text(deaf + "print('deaf', flush=True)\ntime.sleep(100)")
    words = ["--machines=localhost", f"--folder={tmp_path}", f"--python={sys.executable}", "--", "stub"]
    process = subprocess.Popen([BASH, SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while "deaf" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGKILL
    finally:
        process.kill()


MACHINES = "--machines=one,two"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "what to run is missing"),
        ((MACHINES,), "what to run is missing"),
        ((MACHINES, "--"), "what to run is missing"),
        ((MACHINES, "experiments.x"), "unknown option 'experiments.x'"),
        ((MACHINES, "--bogus=1", "--", "experiments.x"), "unknown option '--bogus=1'"),
        ((MACHINES, "--", "--seeds=3"), "'--seeds=3' is no module"),
        (("--", "experiments.x"), "no machines: give --tpu=NAME"),
        (("--machines=", "--", "experiments.x"), "no machines"),
        (("--machines=one,,two", "--", "experiments.x"), "'' is no name of a machine"),
        (("--machines=one,-oProxyCommand=id", "--", "experiments.x"), "is no name of a machine"),
        (("--machines=localhost,two", "--", "experiments.x"), "can't reach 'localhost'"),
        ((MACHINES, "--tpu=pod", "--", "experiments.x"), "exclude each other"),
        ((MACHINES, "--zone=a", "--", "experiments.x"), "belong to --tpu"),
        (("--tpu=pod", "--", "experiments.x"), "needs --zone=ZONE"),
        ((MACHINES, "--port=0", "--", "experiments.x"), "--port=0 is no port"),
        ((MACHINES, "--port=70000", "--", "experiments.x"), "--port=70000 is no port"),
        ((MACHINES, "--python=", "--", "experiments.x"), "names no interpreter"),
    ],
)
def test_mistakes(words, message):
    code, out, err = run("--dry-run", *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "missing"), [([MACHINES], "ssh"), (["--tpu=pod", "--zone=a"], "gcloud")], ids=["ssh", "gcloud"]
)
def test_what_is_not_installed(tmp_path, words, missing):
    code, _, err = run(*words, "--", "experiments.x", PATH=str(tmp_path))
    assert code == 2 and err.startswith(f"error: {missing} is not installed") and err.count("\n") == 1


def test_help():
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    script = SCRIPT.read_text()
    parsed = script[script.index("while (($#))") : script.index("esac")]
    options = set(re.findall(r"--[a-z-]+", parsed)) - {"--help"}
    assert options and all(option in out for option in options)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck():
    ended = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout
