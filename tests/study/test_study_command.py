"""The command of a study: modes, exit statuses, mistakes; and processes that share the work."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import absl.flags
import pytest

from jaxdl.errors import UserError
from jaxdl.study import folders, workers
from jaxdl.training import devices

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = dict(
    seeds=None, only="", strategy=None, device=None, runs_at_once=None, workers=1, share="", on_failure="continue",
    distributed=False, coordinator="", hosts=0, host=-1,
    list=False, report=False, show_augmentation=False, figure="", format="pdf", style="paper",
)  # fmt: skip


@pytest.fixture
def command(tiny, tmp_path, monkeypatch):
    """command(**options): what the study's command does with these options, after they were parsed."""

    def go(study=tiny, sweep=(), workdir=tmp_path / "new", **options):
        chosen = SimpleNamespace(config=tiny.config(), sweep=sweep, workdir=str(workdir), **(DEFAULTS | options))
        monkeypatch.setattr(absl.flags, "FLAGS", chosen)
        monkeypatch.setattr(sys, "argv", ["tiny.py", *(f"--{key}={value}" for key, value in options.items())])
        study._command([])

    return go


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (dict(list=True, report=True), ["--list and --report exclude each other"]),
        (dict(share="0/2", report=True), ["--report and --share exclude each other"]),
        (dict(share="0/2", figure="curves"), ["--figure and --share exclude each other"]),
        (dict(workers=99), ["--workers=99 is not possible: valid is 1 to "]),
        (dict(workers=0), ["--workers=0 is not possible: valid is 1 to "]),
        (dict(workers=-1), ["--workers=-1 is not possible: valid is 1 to "]),
        (dict(workers=99, list=True), ["--workers=99 and --list exclude each other"]),
        (dict(workers=2, share="0/2"), ["--workers=2 and --share exclude each other"]),
        (dict(share="2/2"), ["--share=2/2 is not possible: valid is K/N"]),
        (dict(share="0/0"), ["--share=0/0"]),
        (dict(share="-1/2"), ["--share=-1/2"]),
        (dict(share="1"), ["--share=1 "]),
        (dict(on_failure="maybe"), ["unknown --on_failure 'maybe'", "valid: continue, stop"]),
        (dict(report=True), ["holds no finished run of this command: train some first"]),
        (dict(figure="curves"), ["holds no finished run of this command: train some first"]),
        (dict(sweep=["hyper.weight_decay=0.1,1"]), ["hyper.weight_decay is set both by --sweep and by the variant"]),
        (dict(sweep=["rate"]), ["unknown sweep 'rate'; did you mean 'rates'? valid: KEY=VALUE,..., "]),
        (dict(sweep=["hyper.learning_rate=0.1,fast"]), ["hyper.learning_rate=fast is not possible"]),
    ],
    ids=str,
)
def test_a_mistake_is_told_on_one_line_before_anything_is_written(command, tmp_path, options, parts):
    with pytest.raises(UserError) as caught:
        command(**options)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (dict(figure="nope"), "unknown figure 'nope'; valid: curves"),
        (dict(figure="curves", format="gif"), "unknown --format 'gif'"),
        (dict(figure="curves", style="poster"), "unknown --style 'poster'"),
    ],
    ids=str,
)
def test_a_figure_that_is_not_possible(command, finished, options, part):
    with pytest.raises(UserError) as caught:
        command(workdir=finished.launch.asked.workdir, sweep=["model.hidden=4,6"], **options)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_figure_is_written_and_its_path_is_told(command, finished, capsys):
    workdir = finished.launch.asked.workdir
    command(workdir=workdir, sweep=["model.hidden=4,6"], figure="curves", format="svg", style="slides")
    assert capsys.readouterr().out == f"{workdir}/figures/curves-slides.svg\n"
    assert (workdir / "figures" / "curves-slides.svg").is_file()


def test_a_report_of_a_half_finished_sweep(command, finished, tmp_path, capsys):
    shutil.copytree(finished.launch.asked.workdir, tmp_path / "new")
    command(sweep=["model.hidden=4,6", "batch_size=32,64"], report=True)
    out = capsys.readouterr().out
    assert "0 runs trained, 16 already there" in out
    table = [line.split() for line in out.splitlines() if line.startswith("model.hidden=")]
    assert table == [
        ["model.hidden=4,", "batch_size=32", "8", "0", "0", "0"],
        ["model.hidden=4,", "batch_size=64", "0", "0", "0", "8"],
        ["model.hidden=6,", "batch_size=32", "8", "0", "0", "0"],
        ["model.hidden=6,", "batch_size=64", "0", "0", "0", "8"],
    ]
    ranked = out[out.index("trials, ranked by validation error alone") :]
    assert "test" not in ranked[: ranked.index("claims (")]
    report = (tmp_path / "new" / "report.md").read_text()
    assert "--report" not in report  # the command that gets it again trains


def test_the_exit_status_is_that_of_the_runs_that_were_asked_for(command, finished, tmp_path):
    shutil.copytree(finished.launch.asked.workdir, tmp_path / "new")
    (owner, *_), *_ = finished.launch.groups[1].runs.owners
    victim = tmp_path / "new" / finished.launch.places[owner].relative_to(finished.launch.asked.workdir)
    folders.fail(victim, "ValueError('x')")
    both = ["model.hidden=4,6"]

    def status(**options):
        with pytest.raises(SystemExit) as caught:
            command(sweep=both, **options)
        return caught.value.code

    assert status(report=True) == 1
    command(report=True)  # without the sweep, it is not among the runs
    command(sweep=both, share="0/2")  # the share of the other group
    assert not folders.is_done(victim)
    command(sweep=both, share="1/2")  # tries it again
    assert folders.is_done(victim)
    command(sweep=both, report=True)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("--workers=2 --seeds=3", "--seeds=3"),
        ("--seeds 3 --workers 2 --only x", "--seeds 3 --only x"),
        ("-workers 2", ""),
        ("--report --seeds=3", "--seeds=3"),
        ("--report=true -report --only=report", "--only=report"),
        ("--only workers", "--only workers"),
    ],
)
def test_options_are_left_out_in_every_spelling(words, kept):
    assert workers.without(shlex.split(words), "workers", "report=") == shlex.split(kept)


def processes(text):
    """The ids of processes with a text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it ended
            continue
    return found


@pytest.mark.skipif(devices.cores() < 2 or not Path("/proc/self").exists(), reason="needs two cores and /proc")
def test_workers_stop_with_their_parent_and_end_with_the_bits_of_one_process(tiny, tmp_path):
    steps = 2500
    words = [f"--workdir={tmp_path}/shared", "--workers=2", "--sweep=model.hidden=4,6", f"--config.steps={steps}"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"  # as in this process: the bits are compared

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.tiny", *words, "--config.evaluations=30"],
            cwd=Path(__file__).parent / "tiny",
            env=environment | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def training():
        """Whether a worker has logged something."""
        return any(path.stat().st_size for path in tmp_path.glob("shared/*/*/*/metrics.jsonl"))

    process = start()
    try:
        while process.poll() is None and not training():
            time.sleep(0.01)
        with pytest.raises(UserError, match="is in use by"), folders.locked(tmp_path / "shared"):
            pass
        process.terminate()
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert (process.returncode, out) == (143, ""), err
    assert "stopped by SIGTERM: everything is saved, repeat the command to go on" in err
    assert "Traceback" not in err and "Warning" not in err
    assert processes(str(tmp_path)) == []
    there = len(list(tmp_path.glob("shared/*/*/*/result.json")))  # a worker may be at its end when another begins
    assert there <= 8 and list(tmp_path.glob("shared/programs/*/net/*/*/manifest.json"))

    process = start()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert f"{16 - there} runs trained, {there} already there" in out and "Traceback" not in err
    config = tiny.config()
    config.steps, config.evaluations = steps, 30
    alone = tiny.run(config, workdir=tmp_path / "alone", sweep="model.hidden=4,6")
    assert (tmp_path / "shared" / "results.csv").read_text() == (tmp_path / "alone" / "results.csv").read_text()
    assert repr(tiny.load(tmp_path / "shared").table().table) == repr(alone.table().table)
