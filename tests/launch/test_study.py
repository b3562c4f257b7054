"""launch.compare on a study's folder: the same trials, table and verdicts as in the study's own report."""

import json
import re

import numpy as np
import pytest
from comparing import LESS, store, table

from jaxdl.study import claims, folders, page, report
from launch import compare
from launch.inputs import read_study
from launch.rows import Comparison


def says(workdir, select, columns=("test_error",), swept=()):
    """environment.json as a launch writes it."""
    asked = {"study": "s", "select": select, "columns": columns, "values": {}, "only": "", "swept": swept}
    folders.write_launch(workdir, "python -m s", asked, {})


# trials


def test_the_trials_are_those_of_the_study_and_its_table_has_the_same_cells(finished, ran):
    results, workdir = finished.report.results, finished.launch.asked.workdir
    comparison = Comparison([workdir])
    hashes = {row.variant: {run.trial for run in row.runs} for row in comparison.rows}
    assert hashes == {row.variant: {run.hash for run in row.runs} for row in results.rows}
    by_error = {min(trials, key=lambda row: row.metrics["validation_error"].mean()).runs[0].hash
                for trials in results.trials.values()}  # fmt: skip
    assert by_error != {hash for each in hashes.values() for hash in each}  # the usual choice would be another
    own = report.main_table(results, [*finished.report.columns], [])
    places = [n for n, name in enumerate(own.header) if name not in ("hidden", "learning rate")]
    expected = [[row[place].text for place in places] for row in own.rows]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran(workdir, "--format=md")[1].splitlines()]
    assert lines[0] == ["variant", "n", *(own.header[place] for place in places[2:])]
    assert lines[2:4] == expected
    assert "Of several trials, that with the greatest mean validation_loss is compared." in ran(workdir)[1]


@pytest.mark.parametrize(("direction", "best"), [("min", 0.3), ("max", 0.1)])
def test_a_studys_metric_and_direction_choose_and_not_the_validation_error(tmp_path, ran, direction, best):
    for trial, error, squared in (("a", 0.3, 1.0), ("b", 0.2, 2.0), ("c", 0.1, 3.0)):
        for seed in range(2):
            metrics = {"test_error": error, "validation_error": 1 - error, "validation_squared_error": squared + seed}
            store(tmp_path, "v", seed, metrics, trial, config={"hyper": {"rate": squared}, "model": {"a": 1}})
    store(tmp_path, "v", 1, {}, "d", diverged="at step 3")  # best by far, but for a run
    store(tmp_path, "v", 0, {"validation_squared_error": 9.0 if direction == "max" else 0.0}, "d")
    says(tmp_path, ("validation_squared_error", direction))
    comparison = Comparison([tmp_path])
    assert comparison.rows[0].values("test_error").tolist() == [best] * 2
    assert f"{'least' if direction == 'min' else 'greatest'} mean validation_squared_error" in comparison.notes[0]
    out = ran(tmp_path, "--columns=model.a")[1]
    assert f"{100 * best:.2f} ± 0.00" in out


def test_a_studys_trials_without_its_metric_come_last_and_the_first_of_equal_ones_is_chosen(tmp_path):
    for trial, value in (("a", {}), ("b", {"validation_score": 1.0}), ("c", {"validation_score": 1.0})):
        store(tmp_path, "v", 0, {"test_error": 0.5} | value, trial)
    says(tmp_path, ("validation_score", "max"))
    assert Comparison([tmp_path]).rows[0].runs[0].trial == "b"


DAMAGED = [None, ("validation_error",), ("validation_error", "mni"), "validation_error", 3, [["a"], "min"]]


@pytest.mark.parametrize("select", DAMAGED)
def test_a_folder_that_does_not_say_what_selects_is_as_before(tmp_path, select):
    for trial, error, loss in (("a", 0.3, 1.0), ("b", 0.2, 2.0)):
        store(tmp_path, "v", 0, {"test_error": 0.1, "validation_error": error, "validation_loss": loss}, trial)
    says(tmp_path, select, columns=3)
    assert read_study(tmp_path).select is None and read_study(tmp_path).columns == ()
    assert Comparison([tmp_path]).rows[0].runs[0].trial == "b"
    (tmp_path / "environment.json").write_text('{"asked": {"stu')
    assert Comparison([tmp_path]).rows[0].runs[0].trial == "b"


def test_columns_of_studies_are_shown_where_all_inputs_have_them(tmp_path, ran):
    for place, columns in (("a", ("val_x", "test_error", "none")), ("b", ("test_error", "val_x", "train_error"))):
        store(tmp_path / place, "v", 0, {"test_error": 0.1, "test_loss": 1.0, "val_x": 2.0})
        says(tmp_path / place, ("validation_error", "min"), columns)
    path = table(tmp_path / "r.csv", {"v": {"test_error": [0.1], "test_loss": [1.0], "val_x": [1.0]}})

    def header(*inputs):
        return ran(*inputs, "--format=md")[1].splitlines()[0].split(" | ")[2:]

    assert header(tmp_path / "a") == ["val x", "test error % |"]
    assert header(tmp_path / "a", tmp_path / "b") == ["val x", "test error % |"]
    assert header(tmp_path / "b") == ["test error %", "val x |"]
    assert header(tmp_path / "a", path) == ["test error %", "test loss |"]
    assert "Columns: val x by input." in ran(tmp_path / "a", tmp_path / "b", "--columns=input")[1]


def test_the_curves_of_the_page_are_of_the_metric_that_selects_the_best_first(tmp_path, ran):
    for variant, score in (("low", 0.2), ("high", 0.7)):
        run = store(tmp_path, variant, 0, {"test_error": 0.1, "validation_score": score})
        for step in (1, 2):
            row = {"fit": "f", "step": step, "validation_score": score, "validation_error": 0.5}
            folders.append(folders.run_folder(tmp_path, run), row)
    says(tmp_path, ("validation_score", "max"))
    data = json.loads(re.search(r'id="curves">(.*?)</script>', ran(tmp_path, "--format=html")[1])[1])
    assert [line["y"] for line in data["lines"]] == [[0.7, 0.7], [0.2, 0.2]]


# claims


def verdicts(out):
    """The part of a text or a report that holds the verdicts, with blanks as one."""
    return " ".join(out[out.index("claims (95%") :].split())


def test_the_verdicts_are_those_of_the_study(finished, ran, capsys):
    workdir, own = finished.launch.asked.workdir, finished.report.findings
    made, _ = compare.own_claims([workdir])
    again = claims.judge(made, Comparison([workdir]))
    assert again == list(own)
    written = json.loads((workdir / "claims.json").read_text())
    assert [claims.plain(finding) for finding in again] == written
    assert {each["seeds"] for each in written} == {2, 0} and {each["examples"] for each in written} > {0}
    out = ran(workdir)[1]
    report.print_claims(own)
    assert verdicts(out) == verdicts(capsys.readouterr().out)
    assert "Claims are those of the study, tested on the runs that are there now." in out
    html = ran(workdir, "--format=html")[1]
    assert page.verdicts(own)[0] in html and html.count("Decay &lt;b&gt;helps&lt;/b&gt;") >= 1
    assert "Decay | helps" in ran(workdir, "--format=csv")[2]
    assert "Claims and charts: Of several" in " ".join(ran(workdir, "--columns=model.hidden")[1].split())


def few(workdir, gap):
    """Two variants, whose verdict depends on the gap; the claim as a report wrote it when it was none."""
    for variant, shift in (("one", gap), ("other", 0.0)):
        for seed in range(4):
            store(workdir, variant, seed, {"test_error": 0.3 + shift + 0.01 * np.sin(9 * seed + len(variant))})
    made = [claims.greater("x", "one is more", "us", "test_error", "one", "other")]
    return claims.judge(made, Comparison([workdir]))


def test_claims_are_judged_anew_and_only_of_a_single_folder(tmp_path, ran):
    claims.write(tmp_path / "s" / "claims.json", few(tmp_path / "s", 0.0))
    assert "undecided one is more (us)" in verdicts(ran(tmp_path / "s")[1])
    few(tmp_path / "s", 0.2)
    assert "holds one is more (us)" in verdicts(ran(tmp_path / "s")[1])
    (tmp_path / "c.toml").write_text(LESS)
    out = verdicts(ran(tmp_path / "s", f"--claims={tmp_path / 'c.toml'}")[1])
    assert "contradicted one is less (ours)" in out and "one is more" not in out
    path = table(tmp_path / "r.csv", {"v": {"test_error": [0.1, 0.2]}})
    assert "claim" not in ran(tmp_path / "s", path)[1].lower()


def test_damaged_or_old_claims_are_none_and_it_is_said(tmp_path, ran):
    findings = few(tmp_path / "s", 0.2)
    claims.write(tmp_path / "s" / "claims.json", findings)
    whole = (tmp_path / "s" / "claims.json").read_text()
    old = json.loads(whole)
    old[0]["contrasts"] = [{"one": 1.0, "other": -1.0}]
    for content in (whole[:-5], "", "3", '["x"]', "{}x", json.dumps(old), "\udcff"):
        (tmp_path / "s" / "claims.json").write_text(content, errors="surrogateescape")
        status, out, err = ran(tmp_path / "s")
        assert (status, err) == (0, "") and "claims (95%" not in out
        assert "The study's own claims are left out: its claims.json is damaged" in out
    for content in ("[]", None):
        (tmp_path / "s" / "claims.json").unlink()
        if content:
            (tmp_path / "s" / "claims.json").write_text(content)
        assert "claim" not in ran(tmp_path / "s")[1].lower()
        (tmp_path / "s" / "claims.json").touch()


@pytest.mark.parametrize(("sizes", "swept"), [((100, 200), ()), ((100, 100), ("data.train=100",))])
def test_trials_on_other_data_compare_means_alone_as_in_a_study(tmp_path, sizes, swept):
    for variant in ("one", "other"):
        for seed in range(3):
            for size, trial in zip(sizes, "ab", strict=True):
                outcomes = {"test_error": np.random.default_rng([seed, len(variant)]).random(20).astype(np.float32)}
                metrics = {"test_error": float(outcomes["test_error"].mean()), "validation_error": float(size)}
                store(tmp_path, variant, seed, metrics, trial, outcomes, config={"data": {"train": size}})
    made = [claims.less("x", "less", "us", "test_error", "one", "other")]
    says(tmp_path, ("validation_error", "min"), swept=swept)
    assert claims.judge(made, Comparison([tmp_path]))[0].weakest.examples == 0
    if swept:
        says(tmp_path, ("validation_error", "min"))
        assert claims.judge(made, Comparison([tmp_path]))[0].weakest.examples == 20


# the gap between training and test


def test_the_gap_is_the_last_column_of_the_first_metric_that_has_both(tmp_path, ran):
    values = {
        "one": {"test_loss": [3.0, 4.0], "test_error": [0.5, 0.7], "train_error": [0.25, 0.3]},
        "other": {"test_loss": [3.0, 4.0], "test_error": [0.5, 0.7], "train_error": [None, 0.3]},
        "none": {"test_loss": [3.0, 4.0], "test_error": [0.5, 0.7]},
    }
    path = table(tmp_path / "r.csv", values)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran(path, "--format=md")[1].splitlines()[:5]]
    assert lines[0] == ["variant", "n", "test loss", "test error %", "gap error %"]
    assert [line[-1] for line in lines[2:]] == ["32.50 ± 95.30", "40.00 (n=1)", "-"]  # t(0.975, 1) = 12.706
    out = ran(path)[1]
    assert "gap: test minus training." in out and "32.50 ± 95.30" in out
    assert r"gap error \%" in ran(path, "--format=latex")[1] and "gap error %" in ran(path, "--format=html")[1]
    bold = ran(path, "--bold", "--format=md")[1]
    assert "gap_error has nothing" not in bold and "| 32.50 ± 95.30 |" in bold
    for options in (
        ("--metric=test_loss",),
        ("--metric=train_error",),
        ("--format=csv",),
        ("--columns=input",),
        ("--rows=none",),
    ):
        assert not any("gap" in text for text in ran(path, *options)[1:]), options


def test_the_gap_of_percentages_that_are_stored_as_such_is_shown_as_it_is(tmp_path, ran):
    path = table(tmp_path / "r.csv", {"v": {"test_error": [9.0, 9.0], "train_error": [0.5, 0.5]}})
    lines = ran(path, "--format=md")[1].splitlines()
    assert lines[0].endswith("| gap error |") and lines[2].endswith("| 8.500 ± 0.000 |")
