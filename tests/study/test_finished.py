"""What a launch gives back in Python, and what another launch reads of it."""

import csv
import json
import re
import shlex
import shutil

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from PIL import Image

from jaxdl.errors import UserError
from jaxdl.study import command_line, launch
from jaxdl.study import finished as finishing
from jaxdl.training.stopping import Requests


def rows_of(finished):
    with (finished.launch.asked.workdir / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("variant", ["plain", "decay"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_makes_of_the_test_images_what_is_stored(finished, variant, seed):
    found = finished.model(variant, seed)
    row = finished.report.results.row(variant)
    run = next(run for run in row.runs if run.seed == seed)
    group = next(group for group in finished.launch.groups if run in group.runs.rows)
    test = group.source.data["test"]
    probabilities = found.apply(test["image"])
    assert probabilities.shape == (len(test["label"]), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    wrong = (probabilities.argmax(axis=1) != test["label"]).astype(np.float32)
    np.testing.assert_array_equal(wrong, finished.report.results.values(row, "test_error")[seed])
    assert wrong.mean(dtype=np.float64) == finished.report.results.record(run)["metrics"]["test_error"]
    hidden = row.point["model.hidden"]
    assert {leaf.shape for leaf in found.params["hidden_0"].values()} == {(64, hidden), (hidden,)}


def test_what_is_not_there_is_named(finished):
    for ask, bad in (
        (lambda: finished.model("plan"), "did you mean 'plain'?"),
        (lambda: finished.model("plain", 2), "unknown seed '2'; valid: 0, 1"),
        (lambda: finished.plot("curve"), "did you mean 'curves'?"),
        (lambda: finished.plot("curves", "poster"), "unknown --style 'poster'"),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        assert bad in str(caught.value) and "\n" not in str(caught.value)


def test_loaded_it_is_the_same(tiny, finished):
    workdir = finished.launch.asked.workdir
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.suffix in (".csv", ".json", ".md")}
    loaded = tiny.load(workdir)
    assert repr(loaded) == repr(finished) and loaded._repr_html_() == finished._repr_html_()
    assert {path: path.read_bytes() for path in before} == before
    assert [run.hash for run in loaded.launch.rows] == [run.hash for run in finished.launch.rows]
    one, other = (each.model("decay", 1).params["hidden_0"]["kernel"] for each in (loaded, finished))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [None, '{"command": "pyth', "[]", "[1]", "{}", '{"asked": 1}'])
def test_a_folder_that_says_nothing_of_a_launch(tiny, tmp_path, content):
    if content is not None:
        (tmp_path / "environment.json").write_text(content)
    with pytest.raises(UserError, match="holds no launch of tiny: name the --workdir of one"):
        tiny.load(tmp_path)


def test_a_folder_of_another_study(tiny, finished, tmp_path):
    path = finished.launch.asked.workdir / "environment.json"
    asked = json.loads(path.read_text())
    asked["asked"]["study"] = "huge"
    (tmp_path / "environment.json").write_text(json.dumps(asked))
    with pytest.raises(UserError, match=r"holds no launch of tiny \(it holds one of huge\)"):
        tiny.load(tmp_path)
    shutil.copy(path, tmp_path)
    with pytest.raises(UserError, match="holds no finished run"):
        tiny.load(tmp_path)


def test_text_and_html_have_every_number_and_no_markup_of_others(finished):
    text, page = repr(finished), finished._repr_html_()
    rows = finished.table().table.rows
    assert [row[0].text for row in rows] == ["plain", "decay"]
    for row in rows:
        assert all(f"<td>{cell.text}</td>" in page for cell in row)
        assert all(cell.text in text for cell in row[:-1])  # there is no room for the gap to the training error
    assert "Decay <b>helps</b>" in text
    assert "<b>" not in page and "Decay &lt;b&gt;helps&lt;/b&gt;" in page
    assert page.count("<table>") == page.count("</table>") == 2
    (finding,) = finished.claims().findings
    assert finding.verdict in repr(finished.claims())
    assert "all seeds share one test set." in repr(finished.table())


def test_the_frame_is_results_csv_with_the_points(finished):
    pandas = pytest.importorskip("pandas")
    found, expected = finished.frame(), pandas.DataFrame(rows_of(finished))
    assert len(found) == len(expected) == 16 * 6
    for name in ("variant", "hash", "metric"):
        assert found[name].tolist() == expected[name].tolist()
    assert found["seed"].tolist() == expected["seed"].astype(int).tolist()
    assert found["value"].tolist() == expected["value"].astype(float).tolist()
    assert set(found["model.hidden"]) == {4, 6} and set(found["hyper.learning_rate"]) == {0.3, 1.0}


@pytest.mark.parametrize(("form", "magic"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
@pytest.mark.parametrize(("style", "inches"), [("paper", 3.4), ("slides", 10.0)])
def test_a_figure_alone_is_as_wide_as_its_style_wants(finished, form, magic, style, inches):
    path = finishing.write_figure(finished.launch, "curves", form, style)
    assert path.name == f"curves-{style}.{form}"
    content = path.read_bytes()
    assert content.startswith(magic)
    if form == "png":
        with Image.open(path) as image:
            width = image.width / 300
    elif form == "svg":
        width = float(re.search(r'<svg [^>]*?width="([\d.]+)pt"', content.decode(), re.DOTALL)[1]) / 72
    else:
        width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", content)[1]) / 72
        assert b"/Type3" not in content  # fonts are embedded as TrueType
    assert width == pytest.approx(inches, abs=0.01)


@pytest.mark.parametrize(
    ("name", "form", "style", "part"),
    [
        ("nope", "pdf", "paper", "unknown figure 'nope'; valid: curves"),
        ("curves", "gif", "paper", "unknown --format 'gif'"),
        ("curves", "pdf", "poster", "unknown --style 'poster'"),
    ],
)
def test_a_figure_that_is_not_possible(finished, name, form, style, part):
    with pytest.raises(UserError) as caught:
        finishing.write_figure(finished.launch, name, form, style)
    assert part in str(caught.value) and "valid: " in str(caught.value) and "\n" not in str(caught.value)


def parsed(study, command, monkeypatch):
    """(values, workdir, only, sweeps) that the command line makes of a command."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", f"experiments.{study.name}"]
    monkeypatch.chdir(study._recipe().parents[1])
    own = flags.FlagValues()
    chosen = command_line._check_overrides(words[2:], study._recipe())
    monkeypatch.setattr("sys.argv", words[2:])  # where config_flags looks for overrides
    config_flags.DEFINE_config_file("config", chosen, lock_config=True, flag_values=own)
    flags.DEFINE_string("workdir", f"runs/{study.name}", "", flag_values=own)
    flags.DEFINE_string("only", "", "", flag_values=own)
    flags.DEFINE_multi_string("sweep", [], "", flag_values=own)
    assert own(words[2:]) == words[2:3]
    return command_line.values(own.config), own.workdir, own.only, tuple(own.sweep)


CHANGES = {
    "nothing": lambda config: None,
    "numbers": lambda config: config.update({"steps": 30, "average": 0.5} if "average" in config else {"steps": 30}),
    "a tuned value": lambda config: config.hyper.update({"learning_rate": 0.7, "momentum": 1e-05}),
    "a grid": lambda config: config.tune.update({"learning_rate": (0.1, 1 / 3)}),
    "a grid of one": lambda config: config.tune.update({"learning_rate": (0.1,)}),
    "text": lambda config: config.optimizer.update({"learning_rate_multipliers": "output.*=0.5,.*=1"}),
    "tuples": lambda config: config.update({"compare": {"kinds": ("decay",)}, "evaluations": 3}),
}


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections loads configs in an old way
@pytest.mark.parametrize("preset", ["", "other"])
@pytest.mark.parametrize("name", CHANGES)
def test_the_command_in_the_report_asks_for_the_same_runs(tiny, tmp_path, monkeypatch, preset, name):
    config = tiny.config(preset)
    config.sweeps.mine = ("model.hidden=4,6", "hyper.momentum=0.5,0.9")  # which the recipe knows nothing of
    CHANGES[name](config)
    values = command_line.values(config)
    swept = ("mine", "batch_size=64") if name == "nothing" else ("model.hidden=6",)
    command = command_line.spelled("tiny", values, tiny._recipe(), tmp_path / "a b", "dec*", swept)
    asked = parsed(tiny, command, monkeypatch)
    assert asked[1:3] == (str(tmp_path / "a b"), "dec*")
    assert ("--config=configs/tiny.py:other" in command) == bool(preset)
    wanted = launch.prepare(tiny, launch.Asked(values, tmp_path, "dec*", swept, ""), Requests())
    found = launch.prepare(tiny, launch.Asked(asked[0], tmp_path, *asked[2:], ""), Requests())
    assert found.rows == wanted.rows and found.grid == wanted.grid
