"""One study by several processes: each trains its share of the runs, the caller makes the report."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from jaxdl.errors import UserError
from jaxdl.training import devices

MARK = "JAXDL_WORKER"  # in the environment of a worker


def check(count: int, platform: str) -> None:
    """UserError when `count` workers can't share the cores of this machine."""
    cores = devices.cores()
    if not 1 <= count <= cores:
        raise UserError(f"--workers={count} is not possible: valid is 1 to {cores}, the cores that are there")
    if count > 1 and platform != "cpu":
        raise UserError(f"--workers={count} is not possible on {platform}: workers share cores, not an accelerator")
    if count > 1 and not hasattr(os, "sched_setaffinity"):
        raise UserError(f"--workers={count} is not possible on {sys.platform}: a process can't be kept to some cores")


def work(module: str, arguments: Sequence[str], count: int) -> list[int]:
    """Run `python -m MODULE ARGUMENTS --share=K/COUNT` for every K, each on its own cores; returns the exit statuses.

    All have the same number of cores, however many workers live: other numbers of cores are other bits in places.
    What they say goes to standard error, behind the worker's name. A signal that stops the caller stops them too.
    """
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // count
    started: list[subprocess.Popen] = []
    try:
        for number in range(count):
            own = cores[number * each : (number + 1) * each]
            command = [sys.executable, "-m", module, *arguments, f"--share={number}/{count}"]
            # Affinity is inherited, so it is set here rather than between fork and exec, where threads may hold locks.
            os.sched_setaffinity(0, own)
            started.append(
                subprocess.Popen(
                    command,
                    env=os.environ | {MARK: "1"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,  # Ctrl-C reaches the caller alone, which passes it on once
                )
            )
        os.sched_setaffinity(0, cores)
        readers = [
            threading.Thread(target=_tell, args=(number, process), daemon=True)
            for number, process in enumerate(started)
        ]
        for reader in readers:
            reader.start()
        statuses = [process.wait() for process in started]
        for reader in readers:
            reader.join()
        return statuses
    finally:
        os.sched_setaffinity(0, cores)
        for process in started:
            if process.poll() is None:
                process.terminate()  # it saves and stops
        for process in started:
            process.wait()
            process.stdin.close()


def without(arguments: Sequence[str], *options: str) -> list[str]:
    """The words of a command line without --OPTION=VALUE or --OPTION VALUE; "OPTION=": its value never stands apart."""
    kept, skip = [], False
    for word in arguments:
        name, equals, _ = word.lstrip("-").partition("=")
        if skip:
            skip = False
        elif word.startswith("-") and name in options:
            skip = not equals
        elif not (word.startswith("-") and f"{name}=" in options):
            kept.append(word)
    return kept


def stop_with_parent() -> None:
    """In a worker: end by SIGTERM, which saves, when the process that started it is gone."""

    def wait() -> None:
        while os.read(0, 1):  # ends with the parent's end of the pipe; sys.stdin would lock what exiting closes
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.get(MARK):
        threading.Thread(target=wait, daemon=True).start()


def _tell(number: int, process: subprocess.Popen) -> None:
    with process.stdout:
        for line in process.stdout:
            print(f"worker {number}: {line}", end="", file=sys.stderr, flush=True)
