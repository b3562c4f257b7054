"""Blocks of a source too large for the device: read in the host's background, in the order of the steps.

A block is a split's part that the device holds for a while: {"image": [M, ...], "label": [M], ..., "first": uint32},
where `first` is the number of the block's first batch. What a batch holds follows from its number alone, so going
on from any step gives the same examples, whatever the number of workers.
"""

import contextlib
import functools
import multiprocessing.connection
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator

import numpy as np

from jaxdl.data import order
from jaxdl.data.source import Source, Split

BLOCK_BYTES = 32e6  # two blocks are on the device at a time


def batches_per_block(split: Split, batch_size: int) -> int:
    """How many batches of a split a block has."""
    example = sum(rows.nbytes for rows in split.values()) / len(split["label"])
    return max(1, min(int(BLOCK_BYTES / (example * batch_size)), -(-len(split["label"]) // batch_size)))


def training_blocks(source: Source, step: int, steps: int) -> Generator[Split, None, None]:
    """The training blocks from the one that holds `step` to the one that holds the last of `steps`.

    `close` it to end its worker processes.
    """
    count = batches_per_block(source.data["train"], source.batch_size)
    # Numbers, not the source: its functions need not be known in another process.
    plain = source._replace(data={"train": source.data["train"]}, prepare=None, subset=None)
    block = functools.partial(training_block, plain, count)
    return _ahead(block, step // count, -(-steps // count), source.workers)


def training_block(source: Source, count: int, number: int) -> Split:
    """Block `number` of `count` batches each, in the order that all runs share."""
    position = np.arange(source.batch_size, dtype=np.uint32)
    split = source.data["train"]
    steps = range(number * count, (number + 1) * count)
    size = len(split["label"])
    index = np.concatenate([order.places(0, np.uint32(step), position, size, source.batch_size) for step in steps])
    return {key: rows[index] for key, rows in split.items()} | {"first": np.uint32(number * count)}


def evaluation_blocks(split: Split, batch_size: int) -> Generator[Split, None, None]:
    """A whole split in file order, the last block filled up by repeating the last example."""
    size, count = len(split["label"]), batches_per_block(split, batch_size)
    block = functools.partial(evaluation_block, split, batch_size, count)
    return _ahead(block, 0, -(-size // (batch_size * count)), 0)


def evaluation_block(split: Split, batch_size: int, count: int, number: int) -> Split:
    """Block `number` of `count` batches each."""
    here = np.arange(number * count * batch_size, (number + 1) * count * batch_size)
    index = np.minimum(here, len(split["label"]) - 1)
    return {key: rows[index] for key, rows in split.items()} | {"first": np.uint32(number * count)}


def _ahead(block: Callable[[int], Split], first: int, last: int, workers: int) -> Generator[Split, None, None]:
    """block(first), ..., block(last - 1), read ahead by a thread or by worker processes until `close`."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain reads a flag of its own, and raises in programs that parse none
        flags.FLAGS.mark_as_parsed()
    numbers = grain.MapDataset.range(first, last)
    if not workers:
        blocks = numbers.map(block).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        with contextlib.closing(iter(blocks)) as reading:
            yield from reading
        return
    # A worker hands a block over as files. Grain would do so in shared memory, which stays behind when its iterator
    # is closed before the end, as early stopping does.
    with tempfile.TemporaryDirectory(prefix="jaxdl-blocks-") as folder:
        blocks = numbers.map(functools.partial(_put, block, folder))
        blocks = blocks.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        blocks = blocks.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, folder))
        with contextlib.closing(iter(blocks)) as reading:
            for paths in reading:
                yield {key: _take(path) for key, path in paths.items()}


def _put(block: Callable[[int], Split], folder: str, number: int) -> dict[str, str]:
    paths = {}
    for key, values in block(number).items():
        paths[key] = os.path.join(folder, f"{number}-{key}.npy")
        np.save(paths[key], values)
    return paths


def _take(path: str) -> np.ndarray:
    values = np.load(path)
    os.unlink(path)
    return values


def _start_worker(folder: str, worker: int, workers: int) -> None:
    """A worker ends with the process that trains, however that ends; Ctrl-C, which reaches both, is for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel, folder), daemon=True).start()


def _end_with(sentinel: int, folder: str) -> None:
    multiprocessing.connection.wait([sentinel])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
