"""Stopping on request: a signal saves and exits, it never cuts a step in two."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. `status`: the exit status by convention, 128 + signal.

    cut: it was the second, and cut short what the first one was waiting for, the last save perhaps
    """

    def __init__(self, number: int, cut: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.status, self.cut = 128 + number, cut


class Requests:
    """What signals have asked for. Outside `held` a signal raises Interrupted at once; inside, it waits."""

    def __init__(self) -> None:
        self.number = 0
        self._held = False

    @contextlib.contextmanager
    def listening(self) -> Iterator["Requests"]:
        """Answer SIGINT and SIGTERM until the block ends. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._answer) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block that signals must not cut; it asks `pending` itself, and whoever asked is answered at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.number:
            raise Interrupted(self.number)

    @property
    def pending(self) -> bool:
        """Whether a signal has arrived."""
        return bool(self.number)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self._held and not self.number:
            self.number = number
        else:  # nothing to protect, or the second request: the user means it
            raise Interrupted(number, cut=self._held)
