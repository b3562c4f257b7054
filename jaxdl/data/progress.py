"""How far reading, decoding or downloading is: a bar on a terminal, else one line."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, while stderr shows how far they are. total: how many there will be, where `items` has no length."""
    if not sys.stderr.isatty():
        print(what, file=sys.stderr, flush=True)
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=what, total=total, console=Console(stderr=True))
