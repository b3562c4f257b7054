"""Streaming changes no bit: the same fits with the data on the device and in blocks from the host."""

import signal

import jax
import numpy as np
import pytest

from jaxdl.data import Rows, order, streaming
from jaxdl.training.stopping import Interrupted, Requests


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 3 training batches of 8 examples, 10 bytes each: a run goes through several in each epoch."""
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 240)


def shuffled(values):
    """The same values as rows of a longer array, in another order."""
    index = np.random.default_rng(3).permutation(2 * len(values))[: len(values)]
    array = np.zeros((2 * len(values), *values.shape[1:]), values.dtype)
    array[index] = values
    return Rows(array, index)


def streamed(source, workers=0):
    data = {split: {key: shuffled(values) for key, values in part.items()} for split, part in source.data.items()}
    return source._replace(data=data, streamed=True, workers=workers)


@pytest.fixture
def source(bench):
    return bench.source._replace(order="shared")


OPTIONS = {"evaluations": 7, "patience": 3, "average": 0.5}


@pytest.fixture
def runs(bench):
    return bench.make_runs([1, 2, 3], **bench.HYPER | {"learning_rate": [0.5, 0.0, 0.1]})


@pytest.mark.parametrize(("devices", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_a_fit_has_the_same_bits(bench, source, runs, same, devices, workers):
    """Noise, early stopping, a moving average, an odd number of steps, runs that end at different steps."""
    settings = {"options": OPTIONS, "devices": devices}
    expected = bench.fit(bench.noisy, runs, 23, source=source, place="device", **settings)
    rows = bench.rows
    assert len(set(expected.steps)) > 1
    same(bench.fit(bench.noisy, runs, 23, source=streamed(source, workers), place="host", **settings), expected)
    assert bench.rows == rows


def test_a_batch_split_over_devices_has_the_same_bits(bench, source, same):
    runs = bench.make_runs([1, 2], **bench.HYPER)
    settings = {"devices": 4, "strategy": "pmap"}
    expected = bench.fit(bench.noisy, runs, 9, source=source, place="device", **settings)
    same(bench.fit(bench.noisy, runs, 9, source=streamed(source), place="host", **settings), expected)


def test_labelled_subsets_have_the_same_bits(bench, source, same):
    """Each run trains on its own 12 examples, which are fetched; the other splits are streamed."""
    runs = bench.make_runs([1, 2, 3], **bench.HYPER)
    expected = bench.fit(bench.classify, runs, 9, source=source.labelled(4), place="device", devices=2)
    found = bench.fit(bench.classify, runs, 9, source=streamed(source).labelled(4), place="host", devices=2)
    same(found, expected)
    assert not np.array_equal(*(found.params["output"]["bias"][number] for number in (0, 1)))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("labels", [0, 4])
def test_prepared_data_are_the_same(bench, source, close, labels):
    """Features of frozen layers: computed at once, or batch by batch, where a product may differ in its last bit."""

    def prepare(run, values):
        return values | {"image": jax.nn.sigmoid(source.images(values["image"]) @ run["kernel"])}

    kernel = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32)
    runs = bench.make_runs([1, 2], **bench.HYPER) | {"kernel": kernel}

    def fit(source, place):
        source = source.labelled(labels) if labels else source
        return bench.fit(bench.classify, runs, 9, source=source._replace(prepare=prepare), place=place)

    close(fit(streamed(source), "host"), fit(source, "device"))


@pytest.mark.parametrize(("stop_at", "workers"), [(4, 0), (14, 1)])
def test_resuming_in_the_middle_of_an_epoch_and_of_a_block(bench, source, runs, same, stop_at, workers):
    """5 batches an epoch, 3 a block: the next example is the one that was due."""
    options = OPTIONS | {"patience": 0}
    expected = bench.fit(bench.noisy, runs, 17, source=source, options=options, place="device")
    rows = bench.rows

    def stop(state):
        if state.step >= stop_at:
            settings["requests"].number = signal.SIGTERM

    settings = {"requests": Requests(), "call_seconds": 0.0}
    with pytest.raises(Interrupted):
        bench.fit(
            bench.noisy, runs, 17, source=streamed(source), options=options, place="host", progress=stop, **settings
        )
    assert bench.told[-1].step == stop_at
    same(bench.fit(bench.noisy, runs, 17, source=streamed(source, workers), options=options, place="host"), expected)
    assert bench.rows == rows


# The blocks themselves, against a plain loop


@pytest.mark.parametrize(("first", "workers"), [(0, 0), (4, 0), (11, 0), (4, 2)])
def test_training_blocks_hold_the_batches_of_the_shared_order(source, first, workers):
    stream = streamed(source, workers)
    steps, per_epoch = 17, 42 // 8
    found = list(streaming.training_blocks(stream, first, steps))
    assert [int(block["first"]) for block in found] == list(range(first // 3 * 3, 18, 3))
    for block in found:
        for place in range(3):
            step = int(block["first"]) + place
            positions = np.arange(8, dtype=np.uint32) + np.uint32(step % per_epoch * 8)
            rows = order.index(np.uint32(0), np.uint32(step // per_epoch), positions, 42)
            for key in ("image", "label"):
                expected = source.data["train"][key][rows]
                np.testing.assert_array_equal(block[key][8 * place : 8 * place + 8], expected, strict=True)


def test_evaluation_blocks_hold_every_example_once_then_repeat_the_last(source):
    split = streamed(source).data["train"]
    found = list(streaming.evaluation_blocks(split, 10))
    assert [int(block["first"]) for block in found] == [0, 2, 4]  # 2 batches of 10 each
    whole = np.concatenate([block["image"] for block in found])
    image = source.data["train"]["image"]
    np.testing.assert_array_equal(whole[:42], image, strict=True)
    np.testing.assert_array_equal(whole[42:], np.repeat(image[-1:], 18, axis=0))
