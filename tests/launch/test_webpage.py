"""--format=html: the numbers of the table, charts of what folders hold, and names that are nothing but text."""

import base64
import html
import io
import json
import re
import time

import numpy as np
import pytest
import scipy.stats
from comparing import LESS, draws, read, store, table
from PIL import Image

from jaxdl.study import folders

NASTY = ("<script>alert(1)</script>", r"\end{tabular}\input{x} $a_1$", "</style><b>& {{ 1 }}", "|*x*|", "層")


def logged(workdir, variant, seed, errors, metrics, *, fit="deep", **options):
    """A run that logged validation errors at steps 10, 20, ..., after another fit."""
    run = store(workdir, variant, seed, metrics, **options)
    folder = folders.run_folder(workdir, run)
    folders.append(folder, {"fit": "early", "step": 10, "validation_error": 0.99})
    for number, error in enumerate(errors, 1):
        folders.append(folder, {"fit": fit, "step": 10 * number, "validation_error": error, "train_loss": 1.0})
    return folder


def cells(text):
    """{variant: cells} of the first table, as text."""
    body = re.search(r"<tbody>(.*?)</tbody>", text, re.S)[1]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]
    return {html.unescape(name): [html.unescape(" ".join(each.split())) for each in own] for name, *own in rows}


def test_the_page_has_the_numbers_of_the_table_its_bold_and_its_verdicts(tmp_path, ran):
    values = {"one": draws(0.2), "other": draws(0.4, seed=1), "third": draws(0.2, seed=2)}
    path = table(tmp_path / "r.csv", {name: {"test_error": own} for name, own in values.items()})
    (tmp_path / "c.toml").write_text(LESS)
    arguments = [path, f"--claims={tmp_path / 'c.toml'}", "--bold", "--format=html", "--spread=sem", "--digits=3"]
    status, text, err = ran(*arguments)
    assert (status, err) == (0, "") and text.startswith("<!doctype html>")
    shown = cells(text)
    for name, own in values.items():
        written = f"{100 * own.mean():.3f} ± {100 * scipy.stats.sem(own):.3f}"
        assert shown[name] == ["5", written if name == "other" else f"<strong>{written}</strong>"]
        assert f'data-value="{own.mean()}' in text and f'<span class="value">{written}</span>' in text
    best = min(values, key=lambda name: values[name].mean())
    lead = re.search(r'class="lead">(.*?)</p>', text)[1]
    assert lead.startswith("1 of 1 claim holds") and f"Best mean test error: {best}, with" in lead
    interval = scipy.stats.ttest_rel(values["one"], values["other"]).confidence_interval(0.95)
    assert f"{100 * interval.low:.2f} to {100 * interval.high:.2f}".replace("-", "−") in text
    (command,) = re.findall(r'id="command">(.*?)</code>', text)
    assert html.unescape(command) == "python -m launch.compare " + " ".join(map(str, arguments))
    assert "Learning curves<" not in text and "<img" not in text
    assert not re.search(r"https?:|url\(|@import|\bhref=", text)


def test_curves_are_those_that_folders_logged(tmp_path, ran):
    errors = {seed: [0.5 + seed / 10, 0.3, 0.1 + seed / 20] for seed in range(3)}
    for seed, own in errors.items():
        metrics = {"test_error": 0.1, "validation_error": own[-1]}
        logged(tmp_path / "s", "logs", seed, own, metrics, config={"environment": {"python": "3.99"}})
        logged(tmp_path / "s", "short", seed, own[: 3 - seed], metrics | {"validation_error": 0.9})
        store(tmp_path / "s", "silent", seed, metrics)
    path = table(tmp_path / "r.csv", {"v": {"test_error": [0.1, 0.2]}})
    text = ran(tmp_path / "s", path, "--format=html")[1]
    data = json.loads(re.search(r'id="curves">(.*?)</script>', text)[1])
    first, second = data["lines"]  # the best by validation
    assert first["x"] == [10, 20, 30] and second["x"] == [10]  # where all seeds are
    for place, values in enumerate(zip(*errors.values(), strict=True)):
        assert first["y"][place] == pytest.approx(100 * np.mean(values), rel=1e-4)
        assert first["h"][place] == pytest.approx(100 * scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values), rel=1e-4)
    assert re.findall(r'<p class="why">(.*?)</p>', text) == ["s/silent: - (not logged)", "r/v: - (not logged)"]
    assert "3.99" in text and "Comparison of s and r" in text


def test_the_plot_is_a_picture_on_the_page(tmp_path, ran):
    for rate in (1, 2):
        store(tmp_path, "v", 0, {"test_error": 0.1}, f"{rate}", config={"hyper": {"rate": rate}})
    text = ran(tmp_path, "--x=hyper.rate", "--format=html")[1]
    ((data, width),) = re.findall(
        r'src="data:image/png;base64,([^"]*)" width="(\d+)"[^>]*alt="Test error % against', text
    )
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size[0] == int(width)
    assert cells(text)["v"] == ["1", "10.00", "10.00"]
    assert "at rate 1, with 10.00 %." in text


@pytest.mark.parametrize("form", ["text", "md", "latex", "csv", "html"])
def test_names_are_text_in_every_format(tmp_path, ran, form):
    for name in NASTY:
        for seed in range(2):
            config = {"hyper": {"rate": name}, "environment": {"machine": name}}
            store(tmp_path / "s", name.replace("/", "∕"), seed, {"test_error": 0.1 + seed}, config=config)
    path = table(tmp_path / "r.csv", {name: {"test_error": draws(0.3), "test_" + name: draws(1)} for name in NASTY})
    (tmp_path / "c.toml").write_text(LESS.replace('"one"', f"'{NASTY[0]}'").replace("is less", f"is {NASTY[2]}"))
    for inputs in ([path], [path, tmp_path / "s"], [tmp_path / "s", "--columns=hyper.rate"]):
        claims = [f"--claims={tmp_path / 'c.toml'}"]
        status, out, err = ran(*inputs, f"--format={form}", *claims, *["--bold"] * (form != "csv"))
        assert (status, "Traceback") == (0, "Traceback") and (form == "csv" or err == "")
        for tag in ("<script>alert", "</style><b>"):
            assert form not in ("html", "md") or tag not in out
        if form == "html":
            own = {name.removeprefix("r/") for name in cells(out)}
            assert set(NASTY) <= own or inputs[0] != path
            assert out.count("<script") == out.count("</script>") == 1
        if form == "latex":
            assert out.count(r"\end{tabular}") == 2 and r"\input" not in out  # the table and the claims
        if form == "csv":
            assert len(read(out)) == len(NASTY) * len([each for each in inputs if "--" not in str(each)])


@pytest.mark.parametrize("form", ["text", "md", "latex", "csv", "html"])
def test_one_seed_and_nothing_but_diverged_runs_are_shown_in_every_format(tmp_path, ran, form):
    (tmp_path / "c.toml").write_text(LESS)
    options = [f"--format={form}", f"--claims={tmp_path / 'c.toml'}"]
    one = table(tmp_path / "r.csv", {"one": {"test_error": [0.1]}, "other": {"test_error": [0.2]}})
    status, out, err = ran(one, *options)
    assert status == 0 and "nan" not in out.split("<style")[0] and "1 seed: no verdict" in out + err
    for name in ("one", "other"):
        for seed in range(2):
            logged(tmp_path / "s", name, seed, [0.5], {}, diverged="at step 3")
    status, out, err = ran(tmp_path / "s", *options)
    assert status == 0 and "2 diverged" in out + err and "no verdict" in out + err
    if form == "html":
        assert "There are no results" in out and "nan" not in re.sub(r"<s(cript|tyle).*?</s\1>", "", out, flags=re.S)


def test_half_written_files_are_left_out_wherever_they_end(tmp_path, ran):
    """A whole run beside one whose files are cut off at many places, which must change nothing but its own numbers."""
    outcomes = {"test_error": np.arange(40, dtype=np.float32) % 2}
    for name in ("one", "other"):
        for seed in range(3):
            metrics = {"test_error": 0.5, "validation_error": 0.5}
            cut = logged(tmp_path / "s", name, seed, [0.5, 0.4], metrics, outcomes=outcomes)
    (tmp_path / "c.toml").write_text(LESS)
    for name in ("config.json", "metrics.jsonl", "outcomes.npz", "result.json", "status.json"):
        whole = (cut / name).read_bytes()
        for end in {*range(0, len(whole), max(1, len(whole) // 7)), len(whole) - 1}:
            for content in (whole[:end], whole[:end] + b"\xff\x00"):
                (cut / name).write_bytes(content)
                status, out, _ = ran(tmp_path / "s", f"--claims={tmp_path / 'c.toml'}", "--bold", "--format=html")
                assert status == 0 and cells(out)["one"][0] == "3"
        for content in (b"3\n", b"[]\n", b'{"metrics": 3, "fit": 1, "step": "x"}\n', b'"x"\n'):
            (cut / name).write_bytes(content)
            assert ran(tmp_path / "s", f"--claims={tmp_path / 'c.toml'}", "--format=html")[0] == 0
        (cut / name).write_bytes(whole)
    (tmp_path / "s" / "results.csv").write_bytes(b"study,vari\xff")
    assert ran(tmp_path / "s", "--format=html")[0] == 0


def test_a_page_of_200_runs_takes_less_than_10_s_and_5_MB(tmp_path, ran):
    errors = np.linspace(0.9, 0.1, 300)
    for variant in range(20):
        for seed in range(10):
            outcomes = {"test_error": np.random.default_rng(seed).random(1000).astype(np.float32)}
            metrics = {"test_error": 0.1 + variant / 100, "test_loss": 1.0, "validation_error": 0.1}
            logged(tmp_path / "s", f"v{variant}", seed, (errors + seed / 1000).tolist(), metrics, outcomes=outcomes)
    started = time.monotonic()
    assert ran(tmp_path / "s", "--format=html", "--bold", f"--output={tmp_path / 'o.html'}")[0] == 0
    assert time.monotonic() - started < 10 and (tmp_path / "o.html").stat().st_size < 5e6
