"""Tables and verdicts of launch.compare against numpy and scipy, from folders and from CSV files."""

import html
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from comparing import CLAIM, LESS, draws, read, refused, store, table, two

from jaxdl.study import claims, folders, statistics
from jaxdl.study.results import Results
from jaxdl.study.runs import Run
from launch import compare, inputs, tables
from launch.rows import Comparison

ROOT = Path(__file__).resolve().parents[2]


# tables


@pytest.mark.parametrize(
    ("spread", "half"),
    [
        ("ci", lambda x: scipy.stats.t.interval(0.95, len(x) - 1, x.mean(), scipy.stats.sem(x))[1] - x.mean()),
        ("std", lambda x: x.std(ddof=1)),
        ("sem", scipy.stats.sem),
    ],
)
def test_means_and_spreads_are_those_of_scipy_in_full_precision(tmp_path, ran, spread, half):
    values = {name: {"test_error": draws(0.2, n, n), "test_loss": draws(3, n)} for name, n in (("b", 5), ("a", 2))}
    status, out, err = ran(table(tmp_path / "r.csv", values), "--format=csv", f"--spread={spread}")
    assert status == 0 and tables.SPREADS[spread] in " ".join(err.split())
    rows = read(out)
    assert [row["variant"] for row in rows] == ["b", "a"]
    for row in rows:
        for metric, own in values[row["variant"]].items():
            assert float(row[f"{metric}_mean"]) == own.mean()
            assert float(row[f"{metric}_{spread}"]) == pytest.approx(half(own), rel=1e-9)
            assert int(row[f"{metric}_n"]) == len(own)


def shown(values, scale=100, digits=2):
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
    return f"{scale * values.mean():.{digits}f}", f"{scale * (high - low) / 2:.{digits}f}"


def test_every_format_shows_the_same_numbers(tmp_path, ran):
    values = {"one": {"test_error": draws(0.2), "test_loss": draws(3.0)}, "other": {"test_error": draws(0.1)}}
    path = table(tmp_path / "r.csv", values)
    (error, half), (loss, wide) = shown(values["one"]["test_error"]), shown(values["one"]["test_loss"], 1, 3)
    (other, thin) = shown(values["other"]["test_error"])
    common = [path, "--metric=test_*"]
    lines = ran(*common)[1].splitlines()
    assert re.split(r"  +", lines[0]) == ["variant", "n", "test error %", "test loss"]
    assert re.split(r"  +", lines[2]) == ["one", "5", f"{error} ± {half}", f"{loss} ± {wide}"]
    assert re.split(r"  +", lines[3]) == ["other", "5", f"{other} ± {thin}", "-"]
    lines = ran(*common, "--format=md")[1].splitlines()
    assert lines[:4] == [
        "| variant | n | test error % | test loss |",
        "|---|---:|---:|---:|",
        f"| one | 5 | {error} ± {half} | {loss} ± {wide} |",
        f"| other | 5 | {other} ± {thin} | - |",
    ]
    latex = ran(*common, "--format=latex")[1]
    assert r"variant & n & test error \% & test loss \\" in latex
    assert rf"one & 5 & ${error} \pm {half}$ & ${loss} \pm {wide}$ \\" in latex
    assert rf"other & 5 & ${other} \pm {thin}$ & -- \\" in latex
    assert latex.index(r"\toprule") < latex.index(r"\midrule") < latex.index(r"\bottomrule")
    error, half = shown(values["one"]["test_error"], digits=4)
    assert f"{error} ± {half}" in ran(*common, "--digits=4")[1]


def test_special_characters_are_escaped(tmp_path, ran):
    name = r"a&b%c$d#e_f{g}h~i^j\k|l"
    path = table(tmp_path / "r.csv", {name: {"test_loss|x_&": [1.0, 2.0]}, "[x] a,b": {"test_loss|x_&": [1.0, 2.0]}})
    latex = ran(path, "--format=latex")[1]
    escaped = r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textbar{}l"
    assert f"\n{escaped} & 2 &" in latex and r"test loss\textbar{}x \&" in latex
    assert "\n{}[x] a,b & 2 &" in latex  # \\[x] would be a length
    lines = ran(path, "--format=md")[1].splitlines()
    cells = [html.unescape(cell.strip().replace(r"\|", "|")) for cell in re.split(r"(?<!\\)\|", lines[2])[1:-1]]
    assert cells[0] == name and len(cells) == 3
    assert [row["variant"] for row in read(ran(path, "--format=csv")[1])] == [name, "[x] a,b"]


def test_text_is_at_most_100_columns_wide_and_loses_nothing(tmp_path, ran):
    names = [f"test_{word}_of_a_quantity_with_a_name_{number}" for number, word in enumerate(("loss", "score") * 5)]
    values = {f"variant-{'x' * 60}-{v}": {name: draws(3.0, seed=v) for name in names} for v in range(2)}
    out = ran(table(tmp_path / "r.csv", values), "--bold")[1]
    assert max(map(len, out.splitlines())) <= 100
    for variant in values.values():
        assert out.count(" ± ".join(shown(variant[names[0]], 1, 3))) == len(names)
    assert "x" * 30 in out


def test_default_columns_are_the_test_metrics_of_all_else_all(tmp_path, ran):
    some = {"a": {"test_error": [0.1], "test_loss": [1], "train_error": [0]}, "b": {"test_error": [0.2]}}
    assert list(read(ran(table(tmp_path / "a.csv", some), "--format=csv")[1])[0])[1::3] == ["test_error_mean"]
    none = {"a": {"val_acc": [0.1], "val_loss": [1]}, "b": {"val_acc": [0.2]}}
    header = list(read(ran(table(tmp_path / "b.csv", none), "--format=csv")[1])[0])[1::3]
    assert header == ["val_acc_mean", "val_loss_mean"]
    header = list(read(ran(table(tmp_path / "a.csv", some), "--format=csv", "--metric=train*,test_error")[1])[0])
    assert header[1::3] == ["train_error_mean", "test_error_mean"]


def test_rows_are_chosen_by_pattern_and_keep_their_order(tmp_path, ran):
    path = table(tmp_path / "r.csv", {name: {"m": [1, 2]} for name in ("b-1", "a-1", "a-2", "c")})
    rows = read(ran("--rows=c,a-*", path, "--format=csv")[1])
    assert [row["variant"] for row in rows] == ["a-1", "a-2", "c"]


def test_percentages_that_are_stored_as_such_are_shown_as_they_are(tmp_path, ran):
    path = table(tmp_path / "r.csv", {"one": {"test_error": [91.0, 93.0]}, "other": {"test_error": [94.0, 97.0]}})
    (tmp_path / "c.toml").write_text(LESS)
    out = ran(path, f"--claims={tmp_path / 'c.toml'}")[1]
    assert "92.000 ± " in out and "Shown as stored" in out and "-3.50 (" in out and "percentage points" not in out


# bold


def expected_bold(columns, sign):
    means = {name: sign * values.mean() for name, values in columns.items()}
    best = max(means, key=means.get)
    others = [name for name in columns if name != best]
    adjusted = statistics.holm([scipy.stats.ttest_rel(columns[best], columns[name]).pvalue for name in others])
    return {best} | {name for name, p in zip(others, adjusted, strict=True) if p >= 0.05}


@pytest.mark.parametrize(("metric", "sign"), [("test_error", -1), ("valLoss/loss", -1), ("test_accuracy", 1)])
def test_bold_is_the_best_and_what_a_paired_t_test_does_not_tell_from_it(tmp_path, ran, metric, sign):
    sizes = set()
    for trial in range(8):
        columns = {f"v{n}": draws(0.5 + 0.01 * n, seed=10 * trial + n) for n in range(5)}
        path = table(tmp_path / f"{trial}.csv", {name: {metric: values} for name, values in columns.items()})
        expected = expected_bold(columns, sign)
        sizes.add(len(expected))
        text = re.findall("^v[0-9].*", ran(path, "--bold")[1], re.M)
        assert {line.split()[0] for line in text if "*" in line} == expected
        markdown = ran(path, "--bold", "--format=md")[1].splitlines()[2:7]
        assert {line.split()[1] for line in markdown if "**" in line} == expected
        latex = ran(path, "--bold", "--format=latex")[1].splitlines()
        assert {line.split()[0] for line in latex if r"$\mathbf{" in line} == expected
    assert len(sizes) > 1  # of different trials


def test_nothing_is_bold_where_the_name_says_no_direction_or_one_seed_tests_nothing(tmp_path, ran):
    path = table(tmp_path / "r.csv", {"a": {"test_norm": [1, 2], "test_loss": [3]}, "b": {"test_norm": [8, 9]}})
    out = ran(path, "--bold", "--metric=*")[1]
    assert "*" not in out and "test_norm has nothing bold" in out
    path = table(tmp_path / "s.csv", {"a": {"test_loss": [3]}, "b": {"test_loss": [4]}})
    out = ran(path, "--bold")[1]
    assert "*" not in out and "b can't be told from a with fewer than two seeds" in out


# claims


def test_claims_about_a_csv_are_paired_t_tests_with_holms_correction(tmp_path, ran):
    path, (one, other, third) = two(tmp_path / "r.csv", 0.2, 0.25, 0.21)
    more = LESS.replace('"x"', '"y"').replace('"less"', '"greater"').replace('"other"', '"third"')
    (tmp_path / "c.toml").write_text(LESS + more)
    p = statistics.holm([scipy.stats.ttest_rel(one, other).pvalue, scipy.stats.ttest_rel(one, third).pvalue])
    comparison = Comparison([path])
    found = claims.judge(inputs.read_claims(tmp_path / "c.toml", comparison.metrics()), comparison)
    np.testing.assert_allclose([finding.adjusted for finding in found], p, rtol=1e-9)
    interval = scipy.stats.ttest_rel(one, other).confidence_interval(0.95)
    np.testing.assert_allclose(found[0].weakest.interval(), interval)
    assert found[0].verdict == "holds"
    out = " ".join(ran(path, f"--claims={tmp_path / 'c.toml'}")[1].split())
    assert "holds one is less (ours)" in out and f"p = {p[0]:.2g} (Holm); 5 seeds" in out
    assert f"{100 * (one - other).mean():.2f} ({100 * interval.low:.2f} to {100 * interval.high:.2f})" in out
    assert "seeds alone" in out
    for form in ("md", "latex"):
        out = ran(path, f"--claims={tmp_path / 'c.toml'}", f"--format={form}")[1]
        assert "one is less (ours)" in out and f"p = {p[0]:.2g} (Holm); 5 seeds" in out
    _, out, err = ran(path, f"--claims={tmp_path / 'c.toml'}", "--format=csv")
    assert len(read(out)) == 3 and "one is less (ours)" in err


def test_each_relation_makes_the_claim_of_its_name(tmp_path):
    for relation, make in (("less", claims.less), ("greater", claims.greater)):
        (tmp_path / "c.toml").write_text(LESS.replace('"less"', f'"{relation}"'))
        expected = [make("x", "one is less", "ours", "test_error", "one", "other")]
        assert inputs.read_claims(tmp_path / "c.toml", []) == expected
    (tmp_path / "c.toml").write_text(LESS.replace('"less"', '"equal"') + "margin = 0.01\n")
    expected = [claims.equal("x", "one is less", "ours", "test_error", "one", "other", 0.01)]
    assert inputs.read_claims(tmp_path / "c.toml", []) == expected
    for relation, make in (("increasing", claims.increasing), ("decreasing", claims.decreasing)):
        (tmp_path / "c.toml").write_text(CLAIM + f'relation = "{relation}"\nvariants = ["a", "b", "c"]\n')
        expected = [make("x", "one is less", "ours", "test_error", ["a", "b", "c"])]
        assert inputs.read_claims(tmp_path / "c.toml", []) == expected


def test_unequal_seeds_one_seed_and_absent_variants_are_said(tmp_path, ran):
    (tmp_path / "c.toml").write_text(LESS)
    claim = f"--claims={tmp_path / 'c.toml'}"
    one, other = [0.1, 0.11, None, 0.12], [0.2, None, 0.3, 0.35]
    path = table(tmp_path / "r.csv", {"one": {"test_error": one}, "other": {"test_error": other}})
    status, out, _ = ran(path, claim)
    assert status == 0 and "seeds that not all variants have are left out: 1, 2" in out
    low = scipy.stats.ttest_rel([0.1, 0.12], [0.2, 0.35]).pvalue
    assert f"p = {low:.2g} (Holm); 2 seeds" in " ".join(out.split())
    path = table(tmp_path / "s.csv", {"one": {"test_error": [0.1]}, "other": {"test_error": [0.2]}})
    status, out, _ = ran(path, claim)
    assert status == 0 and "no verdict" in out and "1 seed: no verdict with fewer than two" in out
    status, out, _ = ran(table(tmp_path / "t.csv", {"one": {"test_error": [0.1, 0.2]}}), claim)
    assert status == 0 and "no verdict" in out and "not run: other" in out


# study folders


def test_a_folder_gives_what_results_of_the_study_would(tmp_path):
    random = np.random.default_rng(1)
    runs = []
    for variant, shift in (("one", 0.0), ("other", 0.1)):
        for rate in (0.1, 1.0):
            for seed in range(3):
                outcomes = {"test_error": (random.random(50) < 0.3 + shift).astype(np.float32)}
                metrics = {"test_error": float(outcomes["test_error"].mean()), "validation_error": random.random()}
                run = Run(variant, seed, {}, {"rate": rate}, f"{variant}{rate}", {"hyper.rate": rate})
                folder = folders.run_folder(tmp_path, run)
                folders.begin(folder, {"hyper": {"rate": rate}, "steps": 3})
                folders.finish(folder, metrics, outcomes, "")
                runs.append(run)
    results = Results(tmp_path, runs, {"hyper.rate": (0.1, 1.0)}, ("validation_error", "min"))
    comparison = Comparison([tmp_path])
    for row in results.rows:
        own = comparison.row(row.variant)
        assert [run.trial for run in own.runs] == [run.hash for run in row.runs]
        for metric, values in row.metrics.items():
            assert own.values(metric).tolist() == values.tolist()
    assert comparison.notes == ["Of several trials, that with the least mean validation_error is compared."]
    made = [claims.less("x", "less", "ours", "test_error", "one", "other")]
    assert claims.judge(made, comparison) == claims.judge(made, results)
    assert claims.judge(made, comparison)[0].weakest.examples == 50
    (tmp_path / "results.csv").write_text(results.csv("a study"))
    of_file = Comparison([tmp_path / "results.csv"])
    assert [own.values("test_error").tolist() for own in of_file.rows] == [
        own.values("test_error").tolist() for own in comparison.rows
    ]


def test_rows_of_a_folder_have_the_order_of_results_csv(tmp_path):
    for variant in ("a", "c", "b"):
        store(tmp_path, variant, 0, {"test_error": 0.1})
    assert [row.variant for row in Comparison([tmp_path]).rows] == ["a", "b", "c"]
    (tmp_path / "results.csv").write_text("study,variant,hash,seed,metric,value\ns,c,aaaa,0,m,1\ns,a,aaaa,0,m,1\n")
    assert [row.variant for row in Comparison([tmp_path]).rows] == ["c", "a", "b"]


def test_a_trial_that_lost_a_run_is_chosen_last_and_loss_stands_in_for_error(tmp_path, ran):
    for seed in range(2):
        store(tmp_path, "v", seed, {"validation_loss": 0.5, "test_error": 0.3}, "sound")
        diverged = "at step 3" * seed
        store(tmp_path, "v", seed, {"validation_loss": 0.1, "test_error": 0.2}, "broken", diverged=diverged)
    status, out, err = ran(tmp_path, "--format=csv")
    assert status == 0 and float(read(out)[0]["test_error_mean"]) == 0.3
    assert "the least mean validation_loss" in err


def test_trials_that_differ_in_more_than_hyperparameters_are_named(tmp_path):
    for point, steps in (("aaaa", 10), ("bbbb", 20)):
        config = {"hyper": {"rate": steps}, "steps": steps, "seeds": steps, "runtime": {"x": steps}, "seed": steps}
        store(tmp_path, "v", 0, {"validation_error": 0.1, "test_error": 0.1}, point, config=config)
    assert "differ in more than hyperparameters: steps." in Comparison([tmp_path]).notes[1]


def test_runs_that_run_failed_diverged_or_are_half_written_are_counted_and_shown(tmp_path, ran):
    for seed in range(2):
        store(tmp_path, "v", seed, {"test_error": 0.1 + 0.1 * seed})
    store(tmp_path, "v", 2, {}, diverged="at step 3")
    places = [tmp_path / "v" / "aaaa" / f"seed={seed}" for seed in range(3, 9)]
    for place in places:
        folders.begin(place, {"hyper": {}})
    folders.fail(places[1], "ValueError()")
    for place, text in zip(
        places[2:], ('{"status": "do', '{"status": "done"}', "[]", '{"status": "done"}'), strict=True
    ):
        (place / "status.json").write_text(text)
    (places[3] / "result.json").write_text('{"metrics": {"test_er')
    (places[5] / "result.json").write_text('{"metrics": 3}')
    (places[4] / "config.json").write_text('{"hyp')
    (tmp_path / "v" / "aaaa" / "seed=draft").mkdir()
    status, out, err = ran(tmp_path, "--bold")
    assert (status, err) == (0, "")
    assert re.search(r"^v +2 of 9 +15\.00 ± ", out, re.M)
    assert "v (1 diverged, 1 failed, 5 running or not there)" in out
    for place in (tmp_path / "v" / "aaaa").glob("seed=[01]"):
        (place / "result.json").write_text("")
    assert re.search(r"^v +0 of 9$", ran(tmp_path)[1], re.M)


def test_values_that_are_not_finite_lose_their_run(tmp_path, ran):
    path = table(tmp_path / "r.csv", {"v": {"test_error": [0.1, 0.9, 0.3], "test_loss": [1, math.nan, 3]}})
    _, out, err = ran(path, "--format=csv")
    (row,) = read(out)
    assert (row["test_error_n"], row["test_loss_n"], float(row["test_error_mean"])) == ("2", "2", 0.2)
    assert "v (1 diverged)" in err


def test_several_inputs_are_told_apart_by_their_names(tmp_path, ran):
    for place in ("a", "b"):
        for seed in range(3):
            store(tmp_path / place / "out", "v", seed, {"test_error": 0.1 * (1 + seed + (place == "b"))})
    torch, _ = two(tmp_path / "torch.csv", 0.3, 0.4)
    first = tmp_path / "a" / "out"
    rows = read(ran(first, "--format=csv", torch)[1])
    assert [row["variant"] for row in rows] == ["out/v", "torch/one", "torch/other"]
    rows = read(ran(first, tmp_path / "b" / "out", "--format=csv")[1])
    assert [row["variant"] for row in rows] == [f"{first}/v", f"{tmp_path / 'b' / 'out'}/v"]
    (tmp_path / "c.toml").write_text(LESS.replace('= "one"', '= "out/v"').replace('= "other"', '= "torch/one"'))
    status, out, _ = ran(first, torch, f"--claims={tmp_path / 'c.toml'}")
    assert status == 0 and "(Holm); 3 seeds" in " ".join(out.split())
    (tmp_path / "c.toml").write_text(LESS)
    status, out, _ = ran(first, torch, f"--claims={tmp_path / 'c.toml'}")
    assert status == 0 and "not run: one, other" in out


# mistakes


def test_what_spreadsheets_write_is_read(tmp_path):
    text = "\ufeffnote, variant ,seed,metric,value,hash\r\nx,a,0.0,m, 1.5 ,\r\n,a,1,m,2.5,\r\n,,,,,\r\n\r\n"
    (tmp_path / "r.csv").write_text(text, newline="")
    (row,) = Comparison([tmp_path / "r.csv"]).rows
    assert ([run.seed for run in row.runs], row.values("m").tolist()) == ([0, 1], [1.5, 2.5])


HEADER = "variant,seed,metric,value\n"
WRONG_CSV = [
    ("varient,seed,metric,value\n", "no column variant; did you mean 'varient'?"),
    ("variant;seed;metric;value\na;0;m;1\n", "no columns variant, seed, metric, value; "),
    ("variant,metric\n", "no columns seed, value; "),
    ('"a\nb",seed,metric,value\na,0,m,1\n', "no column variant; its columns, by commas: a b, seed, metric, value"),
    ("", "no columns variant, seed, metric, value"),
    (HEADER, "holds no runs"),
    (HEADER + "a,0,m,1\na,1,m,good\n", "line 3: value 'good' is no number"),
    (HEADER + "a,0,m,1\n\na,0.5,m,1\n", "line 4: seed '0.5' is no whole number"),
    (HEADER + "a,0,m,1\na,one,m,1\n", "line 3: seed 'one' is no whole number"),
    (HEADER + "a,0,m,1\nb,0,m,1\na,0,m,1\n", "line 4: variant 'a', seed 0, metric 'm' is in line 2 already"),
    (HEADER + "a,0,m,\n", "line 2: the column 'value' is empty"),
    (HEADER + "a,0\n", "line 2: the column 'metric' is empty"),
    ("variant,seed,metric,value,hash\na,0,m,1,x\na,0,m,1,y\n", "several trials"),
    (HEADER + "a,0,m\xff,1\n", "is no text in UTF-8"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_CSV)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path, ran, text, message):
    (tmp_path / "r.csv").write_bytes(text.encode("latin-1"))
    refused(ran(tmp_path / "r.csv"), message)


WRONG_OPTIONS = [
    (("--bodl",), "unknown option '--bodl'; did you mean '--bold'?"),
    (("--formt=md",), "unknown option '--formt'; did you mean '--format'?"),
    (("--format=markdown",), "unknown --format 'markdown'; did you mean"),
    (("--spread=sdt",), "unknown --spread 'sdt'; did you mean 'std'?"),
    (("--digits=two",), "--digits=two is not possible"),
    (("--digits=-1",), "--digits=-1 is not possible"),
    (("--metric=test_eror",), "unknown metric 'test_eror'; did you mean 'test_error'?"),
    (("--rows=oen,other",), "unknown variant in --rows 'oen'; did you mean 'one'?"),
    (("--claims",), "expected one argument"),
    (("--claims=none.toml",), "--claims=none.toml can't be read: No such file"),
    (("--bold", "--format=csv"), "leave out"),
    (("none",), "none can't be read: No such file"),
    (("{folder}",), "holds no runs"),
    (("{file}",), "named twice"),
    (("--output={file}",), "would replace what is read"),
    (("--output={folder}",), "is a folder: name a file"),
    (("--output={folder}/none/x.md",), "can't be written: No such file"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS)
def test_a_wrong_command_is_refused_in_one_line_and_writes_nothing(tmp_path, ran, options, message):
    path, _ = two(tmp_path / "r.csv", 0.2, 0.3)
    (tmp_path / "empty").mkdir()
    before = path.read_bytes()
    refused(ran(path, *(each.format(folder=tmp_path / "empty", file=path) for each in options)), message)
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.rglob("*")} == {"r.csv", "empty"}


def test_no_input_is_refused(ran):
    refused(ran(), "nothing to compare")


WRONG_CLAIMS = [
    ("[[claim]\n", "is no TOML"),
    ("", "holds no claims"),
    ("[claim]\nid = 'x'\n", "holds no claims"),
    (LESS.replace("[[claim]]", "[[claims]]"), "unknown key in {}"),
    (
        LESS.replace("metric =", "metrik ="),
        "unknown key of claim 'x', whose relation is 'less', 'metrik'; did you mean",
    ),
    (LESS.replace('text = "one is less"\n', ""), "claim 'x': the key 'text' is missing"),
    (LESS.replace('id = "x"\n', ""), "claim 1: the key 'id' is missing"),
    (CLAIM + 'one = "one"\nother = "other"\n', "claim 'x': the key 'relation' is missing"),
    (LESS.replace('"less"', '"lses"'), "unknown relation of claim 'x' 'lses'; did you mean 'less'?"),
    (LESS.replace('"less"', '["less"]'), "unknown relation of claim 'x'"),
    (LESS + "margin = 0.1\n", "unknown key of claim 'x', whose relation is 'less', 'margin'"),
    (LESS.replace('"less"', '"equal"') + "margin = 0\n", "claim 'x': margin=0 is not possible"),
    (LESS.replace('"less"', '"equal"') + 'margin = "1"\n', "claim 'x': margin='1' is not possible: it is a number"),
    (LESS.replace('= "other"', "= 3"), "claim 'x': other=3 is not possible: it is text"),
    (LESS.replace('= "other"', '= "one"'), "claim 'x' needs two or more different variants, not one, one"),
    (CLAIM + 'relation = "increasing"\nvariants = ["a"]\n', "claim 'x' needs two or more different variants, not a"),
    (CLAIM + 'relation = "increasing"\nvariants = "ab"\n', "claim 'x': variants='ab' is not possible: it is a list"),
    (LESS.replace("test_error", "test_eror"), "unknown metric of claim 'x' 'test_eror'; did you mean 'test_error'?"),
    (LESS + LESS, "holds two claims with the id 'x'"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_CLAIMS)
def test_wrong_claims_are_refused_by_name_and_key(tmp_path, ran, text, message):
    path, _ = two(tmp_path / "r.csv", 0.2, 0.3)
    (tmp_path / "c.toml").write_text(text)
    refused(ran(path, f"--claims={tmp_path / 'c.toml'}"), message.format(tmp_path / "c.toml"))


def test_output_goes_to_the_file(tmp_path, ran):
    path, _ = two(tmp_path / "r.csv", 0.2, 0.3)
    expected = ran(path, "--format=md")[1]
    assert ran(path, "--format=md", f"--output={tmp_path / 'o.md'}") == (0, "", "")
    assert (tmp_path / "o.md").read_text() == expected


def test_help_is_quick_and_needs_no_jax():
    code = "import sys; from launch import compare; compare.main(['--help']); assert 'jax' not in sys.modules"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("One table") and done.stderr == ""
    assert all(option in done.stdout for option in compare.OPTIONS)
    assert time.monotonic() - started < 5  # well below a second where nothing else runs
