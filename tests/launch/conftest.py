import pytest

from launch import compare


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
