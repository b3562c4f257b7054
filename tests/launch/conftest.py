import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from launch import compare

TINY = Path(__file__).parents[1] / "study" / "tiny" / "experiments" / "tiny.py"


@pytest.fixture
def ran(capsys):
    """A function that runs the command and returns (exit status, standard output, standard error)."""

    def call(*arguments):
        status = 0
        try:
            compare.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory, compiling_quickly):
    """The tests' study, which chooses by the greatest validation loss, a trial that no other rule would: 16 runs."""
    from jaxdl.study import claims

    spec = importlib.util.spec_from_file_location("tiny_compared", TINY)
    module = sys.modules["tiny_compared"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def claimed(config):
        gap = claims.greater("gap", "There is a gap", "us", "test_error", "plain", claims.Cell("plain", "train_error"))
        same = claims.equal("same", "Decay does nothing", "us", "test_loss", "plain", "decay", 0.5)
        ordered = claims.decreasing("order", "Decay | helps", "us", "test_error", ["plain", "decay"])
        return [*module.claims(config), gap, same, ordered, claims.less("x", "None", "us", "test_error", "plain", "no")]

    study = dataclasses.replace(
        module.study,
        select=("validation_loss", "max"),
        columns=("validation_error", "test_error", "train_error", "no_error"),
        claims=claimed,
    )
    workdir = tmp_path_factory.mktemp("finished") / "tiny"
    with compiling_quickly():
        return study.run(workdir=workdir, sweep=["model.hidden=4,6"])
