"""The table on the terminal and in report.md: complete, true to the numbers, and at most 100 columns wide."""

import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxdl.study import claims, folders, report
from jaxdl.study.published import Published
from jaxdl.study.results import Results, title
from jaxdl.study.runs import Run
from jaxdl.study.statistics import Estimate

COLUMNS = ("test_error_before", "test_error", "train_error", "validation_error")
VARIANTS = ("random-2", "denoising-2-50labels", "lost-1")
TUNE = {"hyper.learning_rate": (0.1, 0.3, 1.0), "hyper.pretrain_learning_rate": (0.01, 0.03)}
COMMAND = "python -m experiments.some_study --seeds=3"
ENVIRONMENT = {
    "git_commit": "abc123",
    "python": "3.11.2",
    "packages": {"jax": "1.2.3", "numpy": "4.5.6"},
    "machine": "Linux x86_64",
    "cores": 2,
    "devices": ["CPU_0", "CPU_1"],
}


@pytest.fixture
def results(tmp_path):
    """Three seeds at each point; the best learning rates are 1.0 and 0.3; `lost-1` has one seed that diverged."""
    random = np.random.default_rng(0)
    runs = []
    for variant in VARIANTS:
        for rate in TUNE["hyper.learning_rate"]:
            for pretrain in (0.0,) if variant == "random-2" else TUNE["hyper.pretrain_learning_rate"]:
                hyper = {"learning_rate": rate, "pretrain_learning_rate": pretrain}
                point = {f"hyper.{name}": value for name, value in hyper.items() if value}
                runs += [Run(variant, seed, {}, hyper, f"{rate}{pretrain}", point) for seed in range(3)]
    for run in runs:
        best = {"random-2": 1.0}.get(run.variant, 0.3)
        error = 0.1 + abs(run.hyper["learning_rate"] - best) + run.hyper["pretrain_learning_rate"]
        metrics = {name: error + random.normal(0, 0.01) for name in COLUMNS}
        if run.variant == "random-2":
            del metrics["test_error_before"]
        folder = folders.run_folder(tmp_path, run)
        folders.begin(folder, {"environment": ENVIRONMENT})
        folders.finish(folder, metrics, {}, "deep at step 5" if (run.variant, run.seed) == ("lost-1", 1) else "")
    return Results(tmp_path, runs, TUNE, ("validation_error", "min"))


@pytest.mark.parametrize(("best", "shared", "own"), [(0.15, "0.1*", "0.2*"), (0.4, "0.3*", "0.4*")])
def test_grids_of_single_variants_share_a_column(tmp_path, best, shared, own):
    """One has its own learning rates, another a grid of `decay`; both are marked where their own grids end."""
    runs = [Run("shared", 0, {}, {}, f"s{rate}", {"hyper.rate": rate}) for rate in (0.1, 0.3)]
    runs += [Run("faster", 0, {}, {}, f"f{rate}", {"hyper.rate": rate}) for rate in (0.2, 0.3, 0.4)]
    runs += [
        Run("decay", 0, {}, {}, f"d{rate}{decay}", {"hyper.rate": rate, "hyper.decay": decay})
        for rate in (0.1, 0.3)
        for decay in (1.0, 2.0, 4.0)
    ]
    for run in runs:
        error = abs(run.point["hyper.rate"] - best) + abs(run.point.get("hyper.decay", 0) - 2)
        folder = folders.run_folder(tmp_path, run)
        folders.begin(folder, {})
        folders.finish(folder, {"validation_error": error, "test_error": error}, {}, "")
    results = Results(tmp_path, runs, {"hyper.rate": (0.1, 0.3)}, ("validation_error", "min"))
    table = report.main_table(results, ("test_error",), [])
    assert table.header[:4] == ["variant", "seeds", "rate", "own choice"]
    texts = [[cell.text for cell in row][:4] for row in table.rows]
    assert texts == [
        ["shared", "1", shared, "-"], ["faster", "1", own, "-"], ["decay", "1", shared, "decay=2"]
    ]  # fmt: skip
    assert len(report.trial_table(results).rows) == 2 + 3 + 6
    lines = report.notes(results, ("test_error",), [], [])
    assert "rate chosen from 0.1, 0.3 by the mean validation error." in lines
    assert "rate of faster chosen from 0.2, 0.3, 0.4 (* best at its edge: faster)." in lines
    assert "decay of decay chosen from 1, 2, 4." in lines
    (edge,) = [line for line in lines if line.startswith("* best at the edge")]
    assert "(shared, decay)" in edge and ("below" in edge) == (shared == "0.1*")


CLAIM = claims.less("x", "One is less", "A paper, Table 1", "test_error", "random-2", "lost-1")
ESTIMATE = Estimate(-0.03, 0.01, 4.0, 5, 397, (0.0, 0.0, 0.0))
FINDINGS = [claims.Finding(CLAIM, "holds", (ESTIMATE,), 0.004, 0.04, None, ("a note",))]
# t(0.975; 4) = 2.776445 in any table
CLAIMED = "-3.00 (-5.78 to -0.22) percentage points; p = 0.04 (Holm); 5 seeds and 397 test examples; a note"


def test_claims_are_printed_with_their_verdicts_within_100_columns(capsys):
    undecided = FINDINGS[0]._replace(verdict="undecided", needed=12)
    hopeless = undecided._replace(needed=None, estimates=(ESTIMATE, ESTIMATE._replace(mean=0.01)))
    report.print_claims([FINDINGS[0], undecided, hopeless])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    assert f"holds One is less (A paper, Table 1) {CLAIMED.split('; a note')[0]} a note" in flat
    assert "about 12 seeds would decide it" in flat and "no number of seeds on this test set would decide it" in flat
    assert "the weakest of 2 differences: 1.00 (" in flat
    report.print_claims([])
    assert capsys.readouterr().out == ""


def content(results, columns=COLUMNS, published=(), **changes):
    """All that a report is written from."""
    options = dict(
        title="A study", doc="A study", results=results, columns=columns, published=published, findings=FINDINGS,
        notes=["An own note."], differs=["A smaller network."], figures=[Path("figures/error_by_depth.png")],
        command=COMMAND,
    )  # fmt: skip
    return report.Report(**(options | changes))


def mean_and_half(values):
    """By hand: t(0.975; 2) = 4.302653 and t(0.975; 1) = 12.706205 in any table."""
    values = 100 * np.array(values)
    quantile = {3: 4.302653, 2: 12.706205}[len(values)]
    return f"{values.mean():.2f} ± {quantile * values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def test_markdown_holds_each_variant_with_its_point_seeds_and_numbers(results):
    text = report.markdown(content(results))
    lines = text.splitlines()
    assert lines[0] == "# A study"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table, claimed, trials = table[: 2 + len(VARIANTS)], table[2 + len(VARIANTS) :][:3], table[5 + len(VARIANTS) :]
    assert {len(row) for row in table} == {9}
    assert table[0] == [
        *("variant", "seeds", "learning rate", "pretrain learning rate"),
        *("test error before %", "test error %", "train error %", "validation error %", "gap error %"),
    ]
    body = {row[0]: row[1:] for row in table[2:]}
    assert list(body) == list(VARIANTS)
    for variant in VARIANTS:
        row = results.row(variant)
        numbers = [mean_and_half(row.metrics[name]) if name in row.metrics else "-" for name in COLUMNS]
        assert body[variant][3:] == [*numbers, mean_and_half(row.metrics["test_error"] - row.metrics["train_error"])]
    assert claimed[2] == ["holds", "One is less (A paper, Table 1)", CLAIMED]
    assert trials[0] == ["variant", "rank", "seeds", "learning rate", "pretrain learning rate", "validation error %"]
    assert [(row[0], row[1]) for row in trials[2:]] == [
        *(("random-2", str(rank)) for rank in range(1, 4)),
        *((variant, str(rank)) for variant in VARIANTS[1:] for rank in range(1, 7)),
    ]
    assert trials[2][3:5] == ["1", "-"] and trials[5][3:5] == ["0.3", "0.01"]  # what the table shows comes first
    errors = [float(row[-1].split()[0]) for row in trials[5:11]]
    assert errors == sorted(errors)
    assert body["random-2"][:4] == ["3", "1*", "-", "-"]
    assert body["denoising-2-50labels"][:3] == ["3", "0.3", "0.01*"]
    assert body["lost-1"][0] == "2 of 3"
    assert "lost-1 (1 diverged, 0 failed)" in text
    assert "![error_by_depth](figures/error_by_depth.png)" in text
    assert "- An own note." in lines and "- A smaller network." in lines
    for fact in (COMMAND, "abc123", "jax 1.2.3", "numpy 4.5.6", "CPU_1"):
        assert fact in text


def test_an_edge_of_the_grid_is_explained_with_the_flag_that_extends_it(results):
    notes = " ".join(report.notes(results, COLUMNS, [], []))
    assert "learning rate chosen from 0.1, 0.3, 1 by the mean validation error." in notes
    assert "* best at the edge of its grid (random-2): look above with --sweep=hyper.learning_rate=..." in notes
    assert "(denoising-2-50labels, lost-1): look below with --sweep=hyper.pretrain_learning_rate=..." in notes


@pytest.mark.parametrize(("columns", "gap"), [(COLUMNS[1:], False), (("test_error",), True)])
def test_the_printed_table_has_a_line_for_each_variant_and_fits_100_columns(results, capsys, columns, gap):
    """The gap between training and test is printed where there is room for it."""
    report.print_table(report.main_table(results, columns, []), ["An own note."])
    lines = capsys.readouterr().out.splitlines()
    assert "An own note." in lines
    assert max(map(len, lines)) <= 100
    for variant in VARIANTS:
        (line,) = [line for line in lines if line.strip().startswith(variant + " ")]
        metrics = results.row(variant).metrics
        cells = [mean_and_half(metrics[name]) for name in columns]
        cells += [mean_and_half(metrics["test_error"] - metrics["train_error"])] * gap
        assert re.split(r"\s{2,}", line.strip())[-len(cells) :] == cells


def test_a_table_that_is_too_wide_loses_its_last_columns_and_says_which(results, capsys):
    report.print_table(report.main_table(results, (*COLUMNS, "validation_error", "test_error"), []))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text  # rich's sign for what it left out
    (said,) = [line for line in text.splitlines() if line.startswith("for want of room only in report.md: ")]
    cut = said.partition(": ")[2].split(", ")
    assert cut and set(cut) <= {*map(title, COLUMNS), "validation error %", "test error %"}
    kept = [name for name in COLUMNS if title(name) not in cut]
    assert kept
    for row in results.rows:
        for name in set(kept) & set(row.metrics):  # in one piece, not folded
            assert mean_and_half(row.metrics[name]) in text


def test_columns_that_no_variant_has_are_left_out(results):
    header, body, *_ = report.main_table(results, ("test_error", "test_auc"), [])
    assert header[-2:] == ["test error %", "gap error %"]
    assert {len(line) for line in body} == {len(header)}


def test_published_numbers_stand_beside_ours_with_the_difference_and_their_source(results, capsys):
    ours = 100 * results.row("random-2").metrics["test_error"].mean()
    theirs = [
        Published("random-2", "test_error", 0.016, 0.001, 5, "A paper, Table 3", True),
        Published("lost-1", "test_error", 0.02, None, 0, "A letter", False),
    ]
    table = report.main_table(results, COLUMNS, theirs)
    place = table.header.index("published test error %")
    assert table.header[place - 1 : place + 2] == ["test error %", "published test error %", "ours minus published"]
    rows = {row[0].text: [cell.text for cell in row[place : place + 2]] for row in table.rows}
    assert rows["random-2"] == ["1.60 ± 0.10", f"{ours - 1.6:+.2f}"]
    assert rows["denoising-2-50labels"] == ["-", "-"]
    notes = report.notes(results, COLUMNS, theirs, [])
    assert "published: A paper, Table 3: random-2 test error, 5 runs." in notes
    assert "published: A letter (not verified): lost-1 test error." in notes
    report.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    (said,) = [line for line in lines if line.strip().startswith("random-2") and "1.60 ± 0.10" in line]
    assert said.split()[-1] == f"{ours - 1.6:+.2f}"
    assert f"| 1.60 ± 0.10 | {ours - 1.6:+.2f} |" in report.markdown(content(results, published=theirs))


def test_text_that_is_markup_stays_text_in_a_table(results):
    claim = CLAIM._replace(text="<b>a</b> | b\nc")
    text = report.markdown(content(results, findings=[FINDINGS[0]._replace(claim=claim)]))
    assert r"&lt;b&gt;a&lt;/b&gt; \| b c (A paper, Table 1) |" in text


def test_figures_are_written_whole_and_their_paths_returned(tmp_path):
    def figure(inches):
        drawn = Figure(figsize=inches)
        drawn.subplots().plot([1, 2], [3, 4])
        return drawn

    paths = report.save_figures(tmp_path / "figures", {"one": figure((4, 2)), "two": figure((2, 2))})
    assert [path.name for path in paths] == ["one.png", "two.png"]
    names = {f"{name}.{form}" for name in ("one", "two") for form in ("png", "svg", "pdf")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert (tmp_path / "figures" / "one.pdf").read_bytes().startswith(b"%PDF")
    assert xml.etree.ElementTree.parse(tmp_path / "figures" / "two.svg").getroot().tag.endswith("svg")
    with Image.open(paths[0]) as image:
        image.load()
        assert image.size[0] == 2 * image.size[1]
