"""How many runs share a program call, from the compiled program's own figure; and the pace that a fit leaves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import training
from jaxdl.training import program
from jaxdl.training.trainer import Trainer


def figure(bench, runs, devices):
    """Bytes that these runs take, by `advance` compiled for real arrays: all but the data that they share."""
    settings = bench.settings(devices=devices)
    made = program.Program("fit", bench.classify, bench.optimizer, bench.source, runs, settings, 0, program.SPLITS)
    place, share = made.spread.place, made.spread.share
    arguments = made.init((place(runs),), {}), place(runs), None, place(np.zeros(len(runs["seed"]), np.uint32))
    train = share(bench.source.data["train"])
    shared = {"data": {"train": train}, "log_every": np.uint32(1)}
    call = jax.jit(lambda state, rest, shared: made.advance((state, *rest), shared), donate_argnums=0)
    taken = call.lower(arguments[0], arguments[1:], shared).compile().memory_analysis()
    held = taken.argument_size_in_bytes - 4 - sum(values.nbytes for values in train.values())
    call = taken.temp_size_in_bytes + taken.output_size_in_bytes - taken.alias_size_in_bytes
    measured = len(runs["seed"]) * 2 * 4 * (42 + 13 + 11)  # loss and error of each example
    return devices * held + max(devices * call, measured)


def chunks(folder):
    return sum(path.is_dir() for path in (folder / "fit").iterdir())


@pytest.mark.parametrize("devices", [1, 2])
def test_300_runs_in_parts_that_fit(bench, same, devices):
    """A limit that all runs together exceed: several chunks, and every bit as in one program call."""
    rates = np.linspace(0.1, 1.0, 300)
    runs = bench.make_runs(range(300), **bench.HYPER | {"learning_rate": rates, "momentum": 0.9})
    whole = bench.fit(bench.classify, runs, 6, place="whole", devices=devices)
    rows, taken = bench.rows, figure(bench, runs, devices)
    assert training.pace(bench.settings("whole"), "fit")["runs_at_once"] == 300
    assert chunks(bench.folder / "whole") == 1

    memory = 0.45 * taken
    parts = bench.fit(bench.classify, runs, 6, place="parts", devices=devices, memory=memory)
    same(parts, whole)
    assert bench.rows == rows and len(rows) == 300
    found = training.pace(bench.settings("parts"), "fit")
    assert found["runs_at_once"] < 150 and found["runs_at_once"] % devices == 0
    assert found["program_bytes"] <= memory
    assert chunks(bench.folder / "parts") == -(-300 // found["runs_at_once"])
    some = jax.tree.map(lambda leaf: leaf[: found["runs_at_once"]], runs)
    assert figure(bench, some, devices) == pytest.approx(found["program_bytes"], rel=0.02)


def hungry(bench, units=256):
    """A few weights, whose outer product is the hidden layer: 256 KiB of temporaries at least."""

    def init(run, key):
        return {"kernel": jax.random.normal(key, (units,))}, {}

    def loss(params, model_state, batch, run, key):
        hidden = jnp.tanh(jnp.outer(params["kernel"], params["kernel"]))
        return jnp.square(hidden @ hidden).mean() * batch["image"].mean(), (model_state, {})

    def evaluate(params, model_state, batch, run, key):
        return {"loss": batch["image"].mean(axis=1) * params["kernel"].mean()}  # [B]

    return bench.classify._replace(init=init, loss=loss, evaluate=evaluate)


def test_temporaries_count(bench, compiled):
    """Memory for three times what the shapes suggest, but not for the temporaries beside it."""
    task, count = hungry(bench), 100
    runs = bench.make_runs(range(count), **bench.HYPER)
    state = 2 * 4 * 256  # parameters and velocity
    memory = 3 * count * 3 * state
    planned, _ = training.plan("fit", task, bench.optimizer, bench.source, runs, bench.settings(memory=memory), steps=2)
    assert planned.runs_at_once == count and compiled() == []
    bench.fit(task, runs, 2, memory=memory)
    found = training.pace(bench.settings(), "fit")
    assert 1 < found["runs_at_once"] < count and 4 * 256 * 256 < found["program_bytes"] <= memory
    assert compiled().count("advance") <= 3

    few = jax.tree.map(lambda leaf: leaf[:4], runs)
    bench.fit(task, few, 2, memory=4 * 256 * 256, place="too little")  # for any: one at a time
    found = training.pace(bench.settings("too little"), "fit")
    assert found["runs_at_once"] == 1 and found["program_bytes"] > 4 * 256 * 256

    two = jax.tree.map(lambda leaf: leaf[:2], runs)
    bench.fit(task, two, 2, devices=2, place="two devices")  # one on each
    on_two = training.pace(bench.settings("two devices"), "fit")
    assert on_two["program_bytes"] == pytest.approx(2 * found["program_bytes"], rel=0.01)

    bench.fit(task, runs, 2, memory=memory, runs_at_once=50, place="chosen")
    assert training.pace(bench.settings("chosen"), "fit")["runs_at_once"] == 50


def test_more_runs_than_the_shapes_suggest(bench, compiled):
    runs = bench.make_runs(range(60), **bench.HYPER)
    memory = 60 * 1200
    arguments = "fit", bench.classify, bench.optimizer, bench.source, runs, bench.settings(memory=memory)
    assert training.plan(*arguments, steps=2)[0].runs_at_once < 50
    bench.fit(bench.classify, runs, 2, memory=memory)
    assert training.pace(bench.settings(), "fit")["runs_at_once"] == 60
    assert compiled().count("advance") <= 3


def test_early_stopping_keeps_parameters_too(bench):
    runs = bench.make_runs([1, 2, 3], **bench.HYPER)
    taken = []
    for patience in (0, 2):
        bench.fit(bench.classify, runs, 2, options={"patience": patience})
        taken.append(training.pace(bench.settings(), "fit")["program_bytes"])
    assert taken[1] - taken[0] == 3 * 4 * 43


def test_without_a_figure_the_guess_stays(bench, monkeypatch):
    monkeypatch.setattr(training.devices.Mapped, "compile", lambda *_: None)
    runs = bench.make_runs(range(5), **bench.HYPER)
    bench.fit(bench.classify, runs, 2, memory=4000)
    found = training.pace(bench.settings(), "fit")
    assert (found["runs_at_once"], found["program_bytes"]) == (2, None)


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ({}, ["evaluate", "init"]),
        ({"devices": 8}, ["evaluate", "init"]),
        ({"devices": 8, "runs_at_once": 8}, ["evaluate", "init"]),
        ({"options": {"patience": 3, "average": 0.5}}, ["evaluate", "init", "keep"]),
        ({"prepare": True}, ["evaluate", "init", "prepare"]),
        ({"streamed": True, "order": "shared"}, ["evaluate", "init"]),
    ],
)
def test_advance_is_compiled_once(bench, compiled, kind, others):
    """The program whose figure was read is the one that trains; another launch finds nothing to compile."""
    source = {key: kind[key] for key in ("streamed", "order") if key in kind}
    if "prepare" in kind:
        source["prepare"] = lambda run, values: values | {"image": bench.source.images(values["image"])}
    rest = {key: value for key, value in kind.items() if key in ("devices", "runs_at_once", "options")}
    runs = bench.make_runs(range(20), **bench.HYPER)
    for _ in range(2):
        bench.fit(bench.classify, runs, 12, source=bench.source._replace(**source), **rest)
        assert [name for name in compiled() if name != "evaluate"] == sorted(["advance", *others[1:]])


def test_pmap_compiles_each_program_once(bench, compiled):
    source = bench.make_source(batch_size=16)
    bench.fit(bench.classify, bench.make_runs([1, 2], **bench.HYPER), 6, source=source, devices=8, strategy="pmap")
    assert compiled() == ["pmap"] * 3  # init, advance, evaluate
    assert training.pace(bench.settings(), "fit")["program_bytes"] > 0


class Stop(Exception):
    pass


def interrupt(bench, seeds, step, done=0, **settings):
    """Begin a fit; its newest checkpoint is of `step`, in the chunk that follows after `done` runs."""

    def stop(state):
        if state.work > done * state.steps and state.step > step:
            raise Stop

    with pytest.raises(Stop):
        runs = bench.make_runs(seeds, **bench.HYPER)
        bench.fit(bench.classify, runs, progress=stop, checkpoint_seconds=0.0, call_seconds=0.0, **settings)


@pytest.fixture
def made(monkeypatch):
    """The steps that all runs together made since, one number for each chunk."""
    counts = []
    train = Trainer.train

    def counted(self, before):
        train(self, before)
        counts.append(self.run_steps)

    monkeypatch.setattr(Trainer, "train", counted)
    return counts


@pytest.fixture(scope="module")
def straight(new_bench):
    """What 7 runs come to and log, in one go."""
    bench = new_bench()
    return bench.fit(bench.classify, bench.make_runs(range(7), **bench.HYPER)), bench.rows


def check(bench, straight, same, seeds, **settings):
    """Train to the end: every bit and row as in one go. The first chunk's first step, and the work before it."""
    fitted = bench.fit(bench.classify, bench.make_runs(seeds, **bench.HYPER), **settings)
    same(fitted, jax.tree.map(lambda leaf: leaf[np.array(seeds)], straight[0]))
    assert bench.rows == {place: straight[1][seed] for place, seed in enumerate(seeds)}
    work = [state.work for state in bench.told]
    assert work == sorted(work) and work[-1] == 20 * len(seeds)
    return bench.told[0].step, work[0]


def test_what_goes_on_compiles_once(bench, compiled):
    """From a checkpoint: the restored state is placed as the program was compiled for."""
    interrupt(bench, [1, 2, 3], 4)
    bench.fit(bench.classify, bench.make_runs([1, 2, 3], **bench.HYPER))
    assert bench.told[0].step == 4
    assert compiled().count("advance") == 2  # one a launch


@pytest.mark.parametrize("at_once", [0, 2])
def test_more_runs_are_asked_for(bench, straight, same, made, compiled, at_once):
    """Before those begun and after; all in one program, whatever its size."""
    interrupt(bench, [3, 2], 10)
    before = compiled().count("advance")
    place, work = check(bench, straight, same, [1, 2, 3, 4], devices=2, runs_at_once=at_once)
    assert (place, work, made) == (10, 20, [20, 40])
    assert compiled().count("advance") == before + 1


def test_another_number_fits(bench, straight, same, made):
    """The first chunk ended, the second, padded, was interrupted; not all of the first are asked for again."""
    interrupt(bench, range(5), 10, done=3, runs_at_once=3)
    del made[:]
    place, work = check(bench, straight, same, [6, 4, 3, 2, 1], runs_at_once=3)
    assert (place, work, made) == (10, 2 * 20 + 20, [20, 20])


def test_what_is_not_begun(bench, straight, same, made):
    """A chunk too large for the program, or of which some runs are not this command's, or have ended."""
    interrupt(bench, [1, 2, 3], 10)
    assert check(bench, straight, same, [1, 2, 3], runs_at_once=2)[0] == 0
    assert made == [40, 20]
    interrupt(bench, [4, 5, 6], 10)
    assert check(bench, straight, same, [4, 5])[0] == 0
    assert check(bench, straight, same, [4, 5, 6])[0] == 0
    assert made[2:] == [40, 20]


@pytest.mark.parametrize("steps", [(12, 6), (6, 12)])
def test_begun_twice(bench, straight, same, made, steps):
    """Run 2 in two chunks, as with other seeds: the one that is furthest goes on. A third shares no run with it."""
    interrupt(bench, [1, 2], steps[0])
    interrupt(bench, [2, 3], steps[1])
    interrupt(bench, [5, 6], 3)
    assert check(bench, straight, same, [1, 2, 3, 4, 5, 6], runs_at_once=2) == (12, 24)
    assert made == [16, 34, 40]


def test_a_figure_near_the_limit(bench, straight, same, monkeypatch):
    """By the margin alone 3 of 5 would fit: 4 do, which were begun."""
    monkeypatch.setattr(program.Program, "_compile", lambda self, count, keeps_best: 250_000 * count)
    interrupt(bench, [1, 2, 3, 4], 10, memory=1e6)
    assert check(bench, straight, same, [0, 1, 2, 3, 4], memory=1e6) == (10, 40)
    assert training.pace(bench.settings(), "fit")["runs_at_once"] == 4
    bench.fit(bench.classify, bench.make_runs(range(5), **bench.HYPER), memory=1e6, place="anew")
    assert training.pace(bench.settings("anew"), "fit")["runs_at_once"] == 3


def up(count, slots):
    return -(-count // slots) * slots


@pytest.mark.parametrize("slots", [1, 8])
def test_most_that_fit(slots):
    """Against trying all numbers: on a line, give or take a percent, but for its first point.

    What is fixed takes up to half of the memory; the guess suggests a third to 50 times of what a run takes.
    """
    rng = np.random.default_rng(3)
    memory = 1e9
    for _ in range(2000):
        most = up(int(rng.integers(1, 400)), slots)
        fixed, each = rng.uniform(0, 0.5) * memory, memory / np.exp(rng.uniform(0, np.log(2000)))
        taken = (fixed + each * np.arange(most + 1)) * rng.uniform(0.99, 1.01, most + 1)
        taken[slots] *= rng.uniform(0.7, 1)
        guess = int(memory / (each * np.exp(rng.uniform(-np.log(50), np.log(3)))))
        guess, asked = min(max(guess // slots * slots, slots), most), []

        def measure(count, asked=asked, taken=taken):
            asked.append(count)
            return int(taken[count])

        found = program.most_that_fit(guess, 0, most, slots, memory, measure)
        fitting = [count for count in range(slots, most + 1, slots) if taken[count] <= memory]
        assert found in fitting or (found == slots and not fitting)
        assert found in asked and len(asked) == len(set(asked)) <= 3
        assert all(count % slots == 0 and slots <= count <= most for count in asked)
        assert -(-most // found) <= 2 * -(-most // max(fitting, default=slots))  # half of the best, or as many chunks
        if guess == most and most in fitting:
            assert asked == [most]


def test_chunks_are_evenly_full():
    assert program.most_that_fit(300, 0, 300, 1, 280.0, lambda count: count) == 150


def test_a_few_more_at_once_are_not_worth_a_compilation():
    asked = []
    program.most_that_fit(90, 0, 1000, 1, 100.0, lambda count: asked.append(count) or count)
    assert asked == [90]
    program.most_that_fit(90, 0, 95, 1, 101.0, lambda count: asked.append(count) or count)
    assert asked == [90, 90, 95]


def test_what_was_begun_is_tried():
    asked = []

    def figure(count):
        asked.append(count)
        return 10 * count

    assert program.most_that_fit(60, 28, 60, 1, 280.0, figure) == 28  # by the margin 20, and three chunks
    asked.clear()
    assert program.most_that_fit(5, 28, 60, 1, 280.0, figure) == 28 and asked == [28]
    assert program.most_that_fit(60, 28, 60, 1, 270.0, figure) == 20  # not any more
    assert program.most_that_fit(60, 10, 60, 1, 280.0, figure) == 20


FIELDS = {"seconds_per_run_step", "compile_seconds", "runs_at_once", "program_bytes"}
GOOD = {"seconds_per_run_step": 0.5, "compile_seconds": 2.0, "runs_at_once": 4, "program_bytes": None}


def test_pace(bench, monkeypatch):
    """Wall time over the steps that were made: those of runs that ended early or were there before do not count."""
    calls = []
    train = Trainer.train

    def counted(self, before):
        train(self, before)
        calls.append((self.seconds, self.run_steps))

    monkeypatch.setattr(Trainer, "train", counted)
    bench.folder /= "programs"  # other benches lie beside it
    assert training.pace(bench.settings("own"), "fit") is None
    runs = bench.make_runs([1, 2, 3], **bench.HYPER | {"learning_rate": [0.5, 0.0, 0.5], "weight_decay": [0, 0, 1e6]})
    options = {"patience": 1, "evaluations": 4}
    fitted = bench.fit(bench.classify, runs, 20, options=options, runs_at_once=2, place="own")
    assert [steps for _, steps in calls] == [fitted.steps[:2].sum(), fitted.steps[2]]
    found = training.pace(bench.settings("own"), "fit")
    assert set(found) == FIELDS and found["runs_at_once"] == 2 and found["compile_seconds"] > 0
    assert found["seconds_per_run_step"] == sum(seconds for seconds, _ in calls) / fitted.steps.sum()

    more = bench.make_runs([1, 4], **bench.HYPER)
    bench.fit(bench.classify, more, 20, options=options, place="own")
    again = training.pace(bench.settings("own"), "fit")
    assert again["seconds_per_run_step"] == sum(s for s, _ in calls[2:]) / sum(steps for _, steps in calls[2:])
    bench.fit(bench.classify, more, 20, options=options, place="own")
    bench.fit(bench.classify, bench.make_runs([7], **bench.HYPER), 0, place="own")  # nothing to tell of
    assert training.pace(bench.settings("own"), "fit") == again


def test_a_pace_that_cannot_be_read_is_none(bench):
    """Nor is that of other settings of the study one: their program may be another."""

    def write(place, text):
        folder = bench.folder / place / "fit"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pace.json").write_text(text)

    write("other", json.dumps(GOOD))
    settings = bench.settings("own")
    assert training.pace(settings, "fit") is None
    write("own", json.dumps(GOOD))
    assert training.pace(settings, "fit") == GOOD and training.pace(settings, "other") is None
    others = [*({key: value for key, value in GOOD.items() if key != name} for name in GOOD), [1], 3, None, {}]
    others += [GOOD | {"seconds_per_run_step": value} for value in (0.0, None, "fast", float("nan"))]
    for text in ["", "\0\0", *map(json.dumps, others)]:
        write("own", text)
        assert training.pace(settings, "fit") is None, text


def test_pace_is_no_condition(bench, same):
    """A damaged file changes nothing, nor does a disk that can't take it."""
    runs = bench.make_runs([1, 2], **bench.HYPER)
    first = bench.fit(bench.classify, runs)
    (bench.folder / "fit" / "pace.json").write_text("{")
    same(bench.fit(bench.classify, runs), first)
    assert not bench.warned
    (bench.folder / "other" / "fit" / "pace.json").mkdir(parents=True)
    same(bench.fit(bench.classify, runs, place="other"), first)
