"""Training batches of a streamed source on their way to the devices."""

from collections.abc import Callable
from typing import Any

from jaxdl.data import streaming


class Feed:
    """The block in use, and the next one, which travels to the devices while they compute."""

    def __init__(self, source: Any, step: int, steps: int, share: Callable[[Any], Any]) -> None:
        self.blocks = streaming.training_blocks(source, step, steps)
        self.length = streaming.batches_per_block(source.data["train"], source.batch_size)
        self.share, self.number = share, step // self.length - 1
        self.block: Any = None
        self.following: Any = None

    def at(self, step: int) -> tuple[Any, int]:
        """The block that holds a step, not before the last one asked for, and the first step after it."""
        while self.number < step // self.length:
            self.look_ahead()
            self.block, self.following, self.number = self.following, None, self.number + 1
        return self.block, (self.number + 1) * self.length

    def look_ahead(self) -> None:
        """Send the next block, if there is one, without waiting for it to arrive."""
        if self.following is None:
            host = next(self.blocks, None)
            self.following = None if host is None else self.share(host)

    def close(self) -> None:
        """End the worker processes."""
        self.blocks.close()
        self.block = self.following = None
