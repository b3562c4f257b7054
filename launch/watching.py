"""Showing a comparison anew as long as runs go on."""

import fcntl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxdl.errors import UserError
from launch.inputs import read_folder


def follow(show: Callable[[], str], folders: Sequence[Path], seconds: float) -> None:
    """Print what `show` returns every few seconds until nothing runs in the folders, then once more.

    Raises the UserError of the last time; before, what is wrong may be a file that is to come.
    """
    while True:
        # Looked at before, so that the last table is of what all runs left; and after, for what starts meanwhile.
        went_on = any(map(running, folders))
        try:
            text = show()
        except UserError as error:
            if not went_on and not any(map(running, folders)):
                raise
            text = f"nothing to show so far: {' '.join(str(error).split())}\n"
        if text:
            print("\x1b[2J\x1b[H" if sys.stdout.isatty() else time.strftime("--- %H:%M:%S ---\n"), end="")
            print(text, end="", flush=True)
        if not went_on and not any(map(running, folders)):
            return
        time.sleep(seconds)


def running(folder: Path) -> bool:
    """Whether a launcher holds a study folder; of a folder without locks, whether a run says that it is running.

    The locks know better: after a kill -9, a run still says so.
    """
    locks = [path for path in folder.glob("lock*") if path.name != "lock-whole"]  # that one is always shared
    if locks:
        return any(map(_held, locks))
    try:
        return any(run.status == "running" for run in read_folder(folder))
    except UserError:
        return False


def _held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # gone, or not ours to read
        return False
    return False
