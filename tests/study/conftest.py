"""A study of the tests' own, in tiny/: two variants of a network with 4 hidden units, 20 steps on the digits."""

import importlib.util
import sys
from pathlib import Path

import pytest

TINY = Path(__file__).parent / "tiny"


@pytest.fixture(autouse=True, scope="module")
def quickly_compiled(compiling_quickly):
    """What a study's files and reports say of its runs is looked at here, which are compared with one another alone."""
    with compiling_quickly():
        yield


@pytest.fixture(scope="session")
def tiny():
    """The study; its command is `python -m experiments.tiny` in the folder tiny/."""
    spec = importlib.util.spec_from_file_location("tiny_study", TINY / "experiments" / "tiny.py")
    module = sys.modules["tiny_study"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.study


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory, compiling_quickly):
    """Two variants x two learning rates x two networks x two seeds, in one launch."""
    workdir = tmp_path_factory.mktemp("finished") / "tiny"
    with compiling_quickly():
        return tiny.run(workdir=workdir, sweep=["model.hidden=4,6"])
