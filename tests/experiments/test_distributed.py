"""Two hosts: two processes on this machine, with a folder each, that know of each other only through an address."""

import socket
import time

import pytest
from launching import BRIEFLY, launch, start

COMMAND = (
    "experiments.greedy_pretraining",
    "--config=configs/greedy_pretraining.py:smoke",
    "--only=random-1,sparse-1",
    "--config.tune.learning_rate=0.3",
    "--config.measure.sparsity_batches=()",
    "--seeds=3",
)


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def both(folder):
    """Both hosts to their ends."""
    address, since = f"localhost:{free_port()}", time.monotonic()
    where = ("--distributed", f"--coordinator={address}", "--hosts=2")
    started = [
        start(*COMMAND, *where, f"--host={number}", f"--workdir={folder / str(number)}", **BRIEFLY)
        for number in range(2)
    ]
    return [process.end(since) for process in started]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Both hosts to their ends, then the whole by one process."""
    folder = tmp_path_factory.mktemp("hosts")
    return folder, both(folder), launch(*COMMAND, f"--workdir={folder / 'alone'}", **BRIEFLY)


def test_host_0_has_the_results_of_all_and_they_are_those_of_one_process(hosts):
    folder, (first, second), alone = hosts
    assert (first.code, second.code, alone.code) == (0, 0, 0), first.err + second.err
    assert "host 1 of 2: 2 of 6 runs, handed to host 0" in second.out
    assert "6 runs trained, 0 already there" in first.out
    results = (folder / "0" / "results.csv").read_text()
    assert results and results == (folder / "alone" / "results.csv").read_text()
    assert (folder / "0" / "report.html").exists() and not (folder / "1" / "report.html").exists()


def test_each_host_trained_its_own_seeds_alone(hosts):
    folder, _, _ = hosts
    assert {path.name for path in (folder / "1").glob("*/*/seed=*")} == {"seed=1"}
    for number, seeds in ((0, {0, 2}), (1, {1})):
        logged = {path.parent.name for path in (folder / str(number)).glob("*/*/seed=*/metrics.jsonl")}
        assert {f"seed={seed}" for seed in seeds} <= logged
        assert any((folder / str(number) / "programs").glob("*/depth1/*/*/manifest.json"))


def test_repeated_when_all_is_there_it_ends_well_on_both(hosts):
    folder, _, _ = hosts
    first, second = both(folder)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "0 runs trained, 6 already there" in first.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hosts=2"], "belong to --distributed"),
        (["--distributed", "--hosts=2"], "belong together"),
        (["--distributed", "--list"], "exclude each other"),
    ],
)
def test_what_does_not_go_together_is_said_on_one_line(options, said):
    done = launch(*COMMAND, *options)
    assert (done.code, done.out) == (2, "") and said in done.err and len(done.err.splitlines()) == 1
