"""Sweeps trained in this process: which runs, in which programs, and what failures and interruptions leave behind."""

import dataclasses
import functools
import itertools
import json
import os
import signal
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdl.errors import UserError
from jaxdl.study import command_line, folders, launch, progress, run, terminal
from jaxdl.training.stopping import Requests


def prepare(study, workdir, *swept, only="", **changes):
    values = command_line.values(study.config()) | changes
    return launch.prepare(study, launch.Asked(values, workdir, only, swept, "the command"), Requests())


def programs(found):
    return launch.plan(found, np.full(len(found.rows), True))


def with_train(study, wrong):
    """The study, with `wrong(config, fitted)` called after each fit, of shapes alone as well."""
    own = study.train

    @functools.wraps(own)
    def train(config, source, runs, fit):
        for done in own(config, source, runs, fit):
            wrong(config, done)
            yield done

    return dataclasses.replace(study, train=train)


def times(workdir):
    """When the files of the runs were written."""
    return {path: path.stat().st_mtime_ns for path in workdir.glob("*/*/seed=*/*")}


def statuses(workdir):
    return Counter(json.loads(path.read_text())["status"] for path in workdir.glob("*/*/seed=*/status.json"))


def csv(finished):
    return (finished.launch.asked.workdir / "results.csv").read_text()


def test_a_sweep_is_every_variant_at_every_point_with_every_seed(tiny, tmp_path):
    swept = "hyper.learning_rate=0.1,0.2,0.3", "model.hidden=4,6", "batch_size=16,32"
    found = prepare(tiny, tmp_path / "new", *swept)
    rows = [
        (row.variant, row.hyper["learning_rate"], row.seed, config["model"]["hidden"], config["batch_size"])
        for row, config in zip(found.rows, found.configs, strict=True)
    ]
    assert len(rows) == len(set(rows))
    assert set(rows) == {*itertools.product(("plain", "decay"), (0.1, 0.2, 0.3), (0, 1), (4, 6), (16, 32))}
    assert len({(row.variant, row.hash) for row in found.rows}) == len(rows) / 2  # seeds share a hash
    # A program is a static point; what is traced shares it.
    assert [(g.config.model.hidden, g.source.batch_size, len(g.runs)) for g in found.groups] == [
        (4, 16, 12), (4, 32, 12), (6, 16, 12), (6, 32, 12)
    ]  # fmt: skip
    assert len({group.settings.folder for group in found.groups}) == len(programs(found)) == 4
    assert not (tmp_path / "new").exists()


def test_hyperparameters_alone_are_one_program(tiny, tmp_path):
    found = prepare(tiny, tmp_path, "hyper.learning_rate=0.1,0.2,0.3", "hyper.momentum=0.5,0.9")
    assert len(found.groups) == len(programs(found)) == 1 and len(found.rows) == 2 * 6 * 2
    assert prepare(tiny, tmp_path, "rates").grid == {"hyper.learning_rate": (0.1, 0.3)}
    assert len(prepare(tiny, tmp_path, "both").groups) == 4


def test_only_and_other_seeds_and_points_keep_the_hashes(tiny, tmp_path):
    def hashes(*swept, **options):
        rows = prepare(tiny, tmp_path, *swept, **options).rows
        return {(row.variant, row.seed, *sorted(row.point.items())): row.hash for row in rows}

    wide = hashes("model.hidden=4,6", "hyper.learning_rate=0.3,1")
    assert hashes("model.hidden=6", only="decay", seeds=1).items() <= wide.items()
    assert set(hashes().values()) <= set(wide.values())  # a sweep that stays at the config's value is no other run


@pytest.mark.parametrize("swept", ["hyper.weight_decay=0.1,0.2", "hyper.weight_decay=0.0"])
def test_a_key_of_a_variant_and_a_sweep(tiny, tmp_path, swept):
    with pytest.raises(UserError, match=r"hyper\.weight_decay is set both by --sweep and by the variant 'plain'"):
        prepare(tiny, tmp_path, swept)
    assert len(prepare(tiny, tmp_path, swept, only="decay").groups) == 1


@pytest.mark.parametrize("swept", ["model.unit=sigmoid,sigmod", "batch_size=32,100000", "optimizer.name=adan"])
def test_a_value_that_the_study_refuses_is_told_before_any_training(tiny, tmp_path, swept):
    with pytest.raises(UserError) as caught:
        tiny.run(workdir=tmp_path / "new", sweep=swept)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("groups", "seeds", "count"), [*itertools.product((1, 2, 3, 5), (1, 2, 5), (1, 2, 3, 4, 7))])
def test_shares_are_disjoint_and_complete(groups, seeds, count):
    rows = [SimpleNamespace(seed=seed) for _ in range(3) for seed in range(seeds)]
    parts, first = [], 0
    for _ in range(groups):
        owners = [(first + number,) for number in range(len(rows))]
        parts.append(SimpleNamespace(runs=SimpleNamespace(rows=rows, owners=owners)))
        first += len(rows)
    whole = SimpleNamespace(groups=parts, rows=rows * groups)
    shares = np.array([launch.share(whole, index, count) for index in range(count)])
    assert (shares.sum(axis=0) == 1).all()
    for group in range(groups):  # runs of one seed of a group stay together
        own = shares[:, group * len(rows) : (group + 1) * len(rows)].reshape(count, 3, seeds)
        assert (own == own[:, :1]).all()
    if groups >= count:  # whole groups
        assert all(each.reshape(groups, -1).all(axis=1).sum() * len(rows) == each.sum() for each in shares)


@pytest.fixture(scope="module")
def extended(tiny, tmp_path_factory):
    """The sweep of `finished` in two steps: (times after each, what was found)."""
    workdir, seen = tmp_path_factory.mktemp("extended"), []
    for swept in (["hyper.learning_rate=1"], ["model.hidden=4,6"]):
        found = tiny.run(workdir=workdir, sweep=swept)
        seen.append(times(workdir))
    return seen, found


def test_a_sweep_that_grows_trains_only_what_is_new(extended):
    (before, after), _ = extended
    assert {path: after[path] for path in before} == before and len(after) == 4 * len(before)


def test_a_sweep_that_grew_has_the_bits_of_one_that_was_trained_at_once(extended, finished):
    _, found = extended
    assert csv(found) == csv(finished)
    assert len(csv(found).splitlines()) == 1 + 16 * 6


def test_shares_and_a_report_are_the_same_as_one_launch(tiny, finished, tmp_path):
    def share(index):
        found = prepare(tiny, tmp_path, "model.hidden=4,6")
        return run.train_share(found, index, 2, False)

    first = share(0)
    assert statuses(tmp_path) == {"done": 8} and first.sum() == 8
    before = times(tmp_path)
    half = run.reread(prepare(tiny, tmp_path, "model.hidden=4,6"))
    assert all(row.absent == 0 for row in half.report.results.rows)  # the trials that are there
    assert "Not there yet" not in repr(half.table())
    second = share(1)
    assert (first ^ second).all()
    assert {path: times(tmp_path)[path] for path in before} == before
    run.reread(prepare(tiny, tmp_path, "model.hidden=4,6"))
    assert csv(tiny.load(tmp_path)) == csv(finished)


def test_locks_of_launches_and_shares(tmp_path):
    def held(*part):
        return folders.locked(tmp_path, *part)

    def refused(*part):
        with pytest.raises(UserError, match="is in use by") as caught, held(*part):
            pass
        return "\n" not in str(caught.value)

    with held("share-0-of-2", "2 of A"):
        assert refused() and refused("share-0-of-2", "2 of A")
        assert refused("share-1-of-3", "3 of A") and refused("share-1-of-2", "2 of B")
        with held("share-1-of-2", "2 of A"), held("workers"):
            assert refused() and refused("workers") and refused("share-2-of-3", "3 of A")
    with held():
        assert refused("share-0-of-2", "2 of A") and refused("workers")
    with held("share-1-of-3", "3 of A"):
        pass


def test_a_group_that_fails_stops_no_others_and_is_tried_again(tiny, finished, tmp_path):
    def wrong(config, done):
        if config.model.hidden == 4 and done.metrics["train_loss"].any():  # not with the zeros of a plan
            raise ValueError("4 is\ntoo few")

    sweep = "model.hidden=4,6"
    found = with_train(tiny, wrong).run(workdir=tmp_path, sweep=sweep)
    assert statuses(tmp_path) == {"failed": 8, "done": 8}
    for place in np.array(found.launch.places)[found.launch.failed()]:
        record = json.loads((place / "status.json").read_text())
        assert record == {"status": "failed", "error": "ValueError('4 is\\ntoo few')"}
        assert json.loads((place / "config.json").read_text())["model"]["hidden"] == 4
    (plain, decay) = found.report.results.rows
    assert plain.point["model.hidden"] == decay.point["model.hidden"] == 6
    assert found.plot("curves").axes and "Pictures: of model.hidden=6, " in repr(found.table())
    before = {path: time for path, time in times(tmp_path).items() if "result.json" in path.name}
    again = tiny.run(workdir=tmp_path, sweep=sweep)
    assert {path: times(tmp_path)[path] for path in before} == before
    assert csv(again) == csv(finished)


def test_further_metrics_are_measured_after_training_and_never_for_a_plan(tiny, tmp_path):
    calls = []

    @functools.wraps(tiny.train)
    def train(config, source, runs, fit):
        for done in tiny.train(config, source, runs, fit):

            def measure(done=done):
                calls.append(done.metrics)
                number = np.arange(len(done.runs))
                return {"test_place": 10.0 + number, "test_some": np.where(number == 1, np.nan, 0.5)}

            yield done._replace(measure=measure)

    study = dataclasses.replace(tiny, train=train)
    planned = launch.check(prepare(study, tmp_path, seeds=1))
    terminal.print_plan(planned)
    assert len(planned.plans) == 1 and calls == [] and list(tmp_path.iterdir()) == []
    found = study.run(workdir=tmp_path, only="decay")
    (metrics,) = calls
    assert statuses(tmp_path) == {"done": 4} and len(metrics) == 6
    for number, place in enumerate(found.launch.places):
        own = {name: values[number] for name, values in metrics.items()}
        further = {"test_place": 10.0 + number} | ({"test_some": 0.5} if number != 1 else {})  # what is not finite
        assert json.loads((place / "result.json").read_text())["metrics"] == own | further
    assert csv(found).count("test_place") == 4
    study.load(tmp_path)
    study.run(workdir=tmp_path, only="decay")
    assert len(calls) == 1  # what has ended is only read


def test_the_first_failure_stops_where_that_is_asked_for(tiny, tmp_path, capsys):
    """One of shape evaluation, which is told in a dry run and stops no others before its turn."""

    def wrong(config, done):
        if config.model.hidden == 6:
            raise ValueError("too many")

    failing = with_train(tiny, wrong)
    terminal.print_plan(prepare(failing, tmp_path, "model.hidden=4,6"))
    assert "model.hidden=6 fails: ValueError('too many')\n" in capsys.readouterr().out
    with pytest.raises(ValueError, match="too many"):
        failing.run(workdir=tmp_path, sweep="model.hidden=6,4", stop_on_failure=True)
    assert statuses(tmp_path) == {"failed": 8, "running": 8}
    with pytest.raises(UserError, match="holds no finished run"):
        tiny.load(tmp_path)


def test_where_all_runs_diverge_or_fail_there_is_no_verdict_and_no_traceback(tiny, tmp_path):
    found = tiny.run(workdir=tmp_path / "diverged", sweep="hyper.learning_rate=1e38")
    assert statuses(tmp_path) == {} and statuses(tmp_path / "diverged") == {"diverged": 4}
    (finding,) = found.claims().findings
    assert finding.verdict == "no verdict" and "diverged" in " ".join(finding.notes)
    assert "plain (2 diverged, 0 failed)" in repr(found.table())
    assert found.launch.missing().sum() == 0  # they ended

    def wrong(config, done):
        raise ValueError("never")

    found = with_train(tiny, wrong).run(workdir=tmp_path / "failed")
    assert found.launch.failed().all() and "plain (0 diverged, 2 failed)" in repr(found)


def test_an_interrupt_from_python_saves_gives_the_signals_back_and_goes_on(tiny, finished, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    told = []

    def update(self, now):
        told.append(now.step)
        if len(told) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Display, "update", update)
        with pytest.raises(KeyboardInterrupt):
            tiny.run(workdir=tmp_path, sweep="model.hidden=4,6")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert statuses(tmp_path) == {"running": 16} and 0 < told[3] < 20
    assert csv(tiny.run(workdir=tmp_path, sweep="model.hidden=4,6")) == csv(finished)
