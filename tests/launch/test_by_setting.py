"""launch.compare by a setting: the cells of --columns against numpy, and the lines of --x as they are drawn."""

import csv

import numpy as np
import pytest
import scipy.stats
from comparing import LESS, read, refused, store, table
from PIL import Image

from jaxdl.study import figures
from launch import compare
from launch.rows import Comparison

RATES = (0.001, 0.1, 1.0)


def sweep(folder, variants=("one", "other"), seeds=3, hidden=(8, 16)):
    """A study swept over learning rates and hidden sizes: {(variant, rate, hidden): test errors [S]}."""
    random, found = np.random.default_rng(0), {}
    for variant in variants:
        for rate in RATES:
            for size in hidden:
                config = {"hyper": {"rate": rate}, "model": {"hidden": size, "unit": "relu"}, "seeds": seeds}
                values = found[variant, rate, size] = random.random((2, seeds))
                for seed in range(seeds):
                    metrics = dict(zip(("test_error", "validation_error"), values[:, seed].tolist(), strict=True))
                    store(folder, variant, seed, metrics | {"test_loss": 3.0}, f"{rate}-{size}", config=config)
    return found


def best(found, variant, **fixed):
    """The test errors of the trial with the least mean validation error among those with a rate or a size."""
    among = [
        values
        for (name, rate, hidden), values in found.items()
        if name == variant and fixed.items() <= {"rate": rate, "hidden": hidden}.items()
    ]
    return min(among, key=lambda values: values[1].mean())[0]


def test_a_column_is_the_best_trial_among_all_that_have_its_value(tmp_path, ran):
    found = sweep(tmp_path)
    status, out, err = ran(tmp_path, "--columns=model.hidden", "--format=csv", "--spread=std")
    assert status == 0
    for row in read(out):
        for size in (8, 16):
            values = best(found, row["variant"], hidden=size)
            assert float(row[f"test_error_model.hidden={size}_mean"]) == pytest.approx(values.mean(), rel=1e-12)
            assert float(row[f"test_error_model.hidden={size}_std"]) == pytest.approx(values.std(ddof=1), rel=1e-9)
            assert row[f"test_error_model.hidden={size}_n"] == "3"
    said = " ".join(err.split())
    assert "Columns: test error % by model.hidden." in said
    assert "with one model.hidden, which differ in hyper.rate, that with the least mean validation_error" in said
    assert list(read(ran(tmp_path, "--columns=hyper.rate", "--format=csv")[1])[0])[1::3] == [
        f"test_error_hyper.rate={rate:g}_mean"
        for rate in RATES  # numbers in order
    ]
    lines = ran(tmp_path, "--columns=hyper.rate", "--metric=test_loss", "--format=md")[1].splitlines()
    assert lines[0] == "| variant | n | rate 0.001 | rate 0.1 | rate 1 |" and "3.000 ± 0.000" in lines[2]


def test_without_several_trials_of_a_value_none_is_chosen_and_all_runs_count(tmp_path, ran):
    found = sweep(tmp_path, hidden=(8,))
    status, out, _ = ran(tmp_path, "--columns=hyper.rate")
    assert status == 0 and "Of several" not in out
    row = next(line for line in out.splitlines() if line.startswith("other"))
    assert row.split()[2::3] == [f"{100 * found['other', rate, 8][0].mean():.2f}" for rate in RATES]


def test_columns_of_a_csv_tell_its_points_apart(tmp_path, ran):
    lines, random = [("variant", "seed", "metric", "value", "lr", "opt")], np.random.default_rng(0)
    values = {}
    for lr, text in ((0.1, "1e-1"), (2, "2")):
        for seed in range(4):
            values.setdefault(lr, []).append(float(random.random()))
            written = "0.1" if (lr, seed) == (0.1, 2) else text  # the same number
            lines.append(("a", seed, "test_score", values[lr][-1], written, "sgd"))
    with (tmp_path / "r.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    (row,) = read(ran(tmp_path / "r.csv", "--columns=lr", "--format=csv")[1])
    for lr, own in values.items():
        assert float(row[f"test_score_lr={lr}_mean"]) == pytest.approx(np.mean(own), rel=1e-12)
    refused(ran(tmp_path / "r.csv"), "is in line 2 already, with another lr: show it with --columns=lr")
    refused(ran(tmp_path / "r.csv", "--columns=lt"), "show it with --columns=lr")


def test_columns_of_inputs_drop_the_prefix_and_claims_keep_it(tmp_path, ran):
    for place, names in (("a", ("one", "both")), ("b", ("both", "other"))):
        sweep(tmp_path / place, names)
    common = [tmp_path / "a", tmp_path / "b", "--columns=input"]
    rows = read(ran(*common, "--format=csv", "--metric=test_error")[1])
    assert [row["variant"] for row in rows] == ["both", "one", "other"]  # as in the folders
    filled = [(row["test_error_input=a_n"], row["test_error_input=b_n"]) for row in rows]
    assert filled == [("3", "3"), ("3", "0"), ("0", "3")]
    plain = {row["variant"]: row for row in read(ran(*common[:2], "--format=csv")[1])}
    assert rows[0]["test_error_input=b_mean"] == plain["b/both"]["test_error_mean"]
    assert [row["variant"] for row in read(ran(*common, "--rows=o*", "--format=csv")[1])] == ["one", "other"]
    (tmp_path / "c.toml").write_text(LESS.replace('"one"', '"a/one"').replace('"other"', '"b/other"'))
    assert "(Holm); 3 seeds" in " ".join(ran(*common, f"--claims={tmp_path / 'c.toml'}")[1].split())
    (tmp_path / "c.toml").write_text(LESS)
    out = " ".join(ran(*common, f"--claims={tmp_path / 'c.toml'}")[1].split())
    assert "not run: one, other" in out and "Claims call variants INPUT/VARIANT, as in a/both." in out


def test_bold_is_told_for_each_column(tmp_path, ran):
    for rate, order in ((0.1, (0.1, 0.9)), (1.0, (0.8, 0.2))):
        for variant, level in zip(("one", "other"), order, strict=True):
            for seed in range(5):
                metrics = {"test_error": level + 0.001 * np.random.default_rng(seed).random()}
                store(tmp_path, variant, seed, metrics, f"{rate}", config={"hyper": {"rate": rate}})
    lines = ran(tmp_path, "--columns=hyper.rate", "--bold", "--format=md")[1].splitlines()
    assert [["**" in cell for cell in line.split("|")[3:5]] for line in lines[2:4]] == [[True, False], [False, True]]


def test_runs_without_the_key_are_left_out_and_counted(tmp_path, ran):
    sweep(tmp_path / "swept", ("one",), hidden=(8,))
    table(tmp_path / "r.csv", {"plain": {"test_error": [0.1, 0.2]}})
    out = ran(tmp_path / "swept", tmp_path / "r.csv", "--columns=hyper.rate")[1]
    assert "r: 2 of 2 runs have no hyper.rate." in out and "r/plain" not in out.replace("r/plain:", "")
    for place in (tmp_path / "swept").glob("one/0.1-8/*"):
        (place / "config.json").write_text('{"hyper": {"ra')
    out = ran(tmp_path / "swept", "--columns=hyper.rate")[1]
    assert "3 of 9 runs have no hyper.rate." in out and "rate 0.1" not in out


def test_lost_runs_are_counted_where_they_are(tmp_path, ran):
    sweep(tmp_path, ("one",), hidden=(8,))
    store(tmp_path, "one", 1, {}, "0.1-8", diverged="at step 3", config={"hyper": {"rate": 0.1}})
    for seed in range(3):
        store(tmp_path, "one", seed, {}, "1.0-8", diverged="at step 3", config={"hyper": {"rate": 1.0}})
    out = " ".join(ran(tmp_path, "--columns=hyper.rate")[1].split())
    assert "(n=2)" in out and "one (rate 0.1: 1 diverged; rate 1: 3 diverged)" in out


# --x


@pytest.fixture
def drawn(monkeypatch):
    """What figures.bands was asked to draw."""
    calls, bands = [], figures.bands

    def spy(lines, *arguments, **options):
        calls.append((lines, arguments, options, bands(lines, *arguments, **options)))
        return calls[-1][-1]

    monkeypatch.setattr(figures, "bands", spy)
    return calls


@pytest.mark.parametrize(("form", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_plot_goes_to_the_file_and_its_numbers_to_the_table(tmp_path, ran, drawn, form, begin):
    found = sweep(tmp_path / "s")
    status, out, err = ran(tmp_path / "s", "--x=hyper.rate", f"--output={tmp_path / f'plot.{form}'}")
    assert (status, err) == (0, "") and (tmp_path / f"plot.{form}").read_bytes().startswith(begin)
    assert out == ran(tmp_path / "s", "--columns=hyper.rate")[1]
    ((lines, labels, _, figure),) = drawn
    assert labels == ("rate", "test error %") and list(lines) == ["one", "other"]
    for variant, (x, values) in lines.items():
        assert x == list(RATES)
        for rate, own in zip(x, values, strict=True):
            np.testing.assert_allclose(own, 100 * best(found, variant, rate=rate), rtol=1e-12)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_ylim()[0] <= min(min(line.get_ydata()) for line in axes.lines)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(lines["one"][1][0])
    assert any(np.isclose(band, lines["one"][1][0].mean() + half))
    assert not list(tmp_path.glob("*draft*"))


@pytest.mark.parametrize(("values", "scale"), [((1, 10), "linear"), ((1, 11), "log"), ((0, 11), "linear")])
def test_x_is_logarithmic_where_values_span_more_than_a_factor_of_10(tmp_path, ran, drawn, values, scale):
    for x in values:
        store(tmp_path, "a", 0, {"test_loss": 1.0 + x}, f"{x}", config={"hyper": {"rate": x}})
    ran(tmp_path, "--x=hyper.rate", f"--output={tmp_path / 'x.png'}", "--style=paper")
    assert drawn[0][-1].axes[0].get_xscale() == scale
    with Image.open(tmp_path / "x.png") as image:
        assert image.size[0] == pytest.approx(3.4 * 300, abs=2)


def test_any_names_and_any_number_of_lines_are_drawn(tmp_path, ran, drawn):
    names = ["$x_", "_hidden", r"\textbf{a}", "<b>", "層", *(f"v{number}" for number in range(20))]
    for name in names:
        for x in (1, 2):
            store(tmp_path, name, 0, {"test_loss": 1.0}, f"{x}", config={"hyper": {"rate": x}})
    assert ran(tmp_path, "--x=hyper.rate", f"--output={tmp_path / 'x.svg'}")[0] == 0
    figure = drawn[0][-1]
    assert len(figure.legends[0].get_texts()) == len(names)
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == len(names)


WRONG = [
    (("--columns=hyper.rat",), "unknown key in --columns 'hyper.rat'; did you mean 'hyper.rate'? valid: input, "),
    (("--x=hyper.rat", "--output={0}/o.png"), "unknown key in --x 'hyper.rat'; did you mean 'hyper.rate'?"),
    (("--x=model.unit", "--output={0}/o.png"), "--x=model.unit has values that are no numbers: relu;"),
    (("--x=input", "--format=html"), "--x=input has values that are no numbers: s;"),
    (("--x=hyper.rate",), "--x=hyper.rate needs --output=FILE.png, .svg or .pdf for its plot, or --format=html"),
    (("--x=hyper.rate", "--output={0}/o.txt"), "--x=hyper.rate needs --output=FILE.png"),
    (("--x=hyper.rate", "--columns=hyper.rate", "--format=html"), "leave out --columns=hyper.rate"),
    (("--output={0}/o.png",), "o.png is for a plot: add --x=KEY"),
    (("--x=hyper.rate", "--format=html", "--output={0}/o.png"), "o.png is for a plot"),
    (("--style=paper",), "--style=paper is that of a plot: add --x=KEY"),
    (("--x=hyper.rate", "--style=papr", "--output={0}/o.png"), "unknown --style 'papr'; did you mean 'paper'?"),
    (
        ("--columns=hyper.rate", "--metric=test_*"),
        "shows one metric, not test_error, test_loss: choose it with --metric",
    ),
    (("--x=hyper.rate", "--output={0}/none/o.png"), "can't be written: No such file"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_is_not_possible_is_refused_and_nothing_written(tmp_path, ran, options, message):
    sweep(tmp_path / "s", ("one",), seeds=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    refused(ran(tmp_path / "s", *(each.format(tmp_path) for each in options)), message)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_trials_of_one_value_that_nothing_tells_apart_are_refused(tmp_path, ran):
    for point in ("x", "y"):
        store(tmp_path, "v", 0, {"test_error": 0.1}, point, config={"hyper": {"rate": 0.5}})
    refused(ran(tmp_path, "--columns=hyper.rate"), "several trials (hashes) with hyper.rate=0.5, and not all")


def test_with_nothing_but_diverged_runs_there_is_a_table_and_no_plot(tmp_path, ran):
    store(tmp_path, "v", 0, {}, diverged="at step 3", config={"hyper": {"rate": 0.5}})
    status, out, _ = ran(tmp_path, "--columns=hyper.rate")
    assert status == 0 and "v (rate 0.5: 1 diverged)" in out
    refused(ran(tmp_path, "--x=hyper.rate", f"--output={tmp_path / 'x.png'}"), "there is nothing to plot")
    assert ran(tmp_path, "--x=hyper.rate", "--format=html")[0] == 0


def test_the_choice_of_a_comparison_need_not_be_possible_for_a_table_by_a_key(tmp_path):
    for rate in (0.1, 0.2):
        store(tmp_path, "v", 0, {"test_error": rate}, f"{rate}", config={"hyper": {"rate": rate}})
    with pytest.raises(compare.UserError, match="several trials"):
        Comparison([tmp_path])
    found, _ = Comparison([tmp_path], ["hyper.rate"]).by("hyper.rate", "")
    assert {value: rows.rows[0].values("test_error").tolist() for value, rows in found.items()} == {
        0.1: [0.1],
        0.2: [0.2],
    }
