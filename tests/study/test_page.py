"""report.html: well-formed, whole in one file, true to the numbers, and safe whatever the data hold."""

import base64
import html.parser
import json
import math
import re
import time
import xml.etree.ElementTree
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from jaxdl.study import charts, claims, folders, page, report
from jaxdl.study.results import Results
from jaxdl.study.runs import Run
from jaxdl.study.statistics import Estimate

COLUMNS = ("test_error", "train_error", "validation_error", "test_loss")
NASTY = ("<script>alert(1)</script>", "a&b", "$x_2$", 'say "hi"', "</style><b>", "long" * 60, "層ごとの事前", "{{ 1 }}")
TITLE = "A study. Someone et al. 2007 (NIPS 19)."
COMMAND = "python -m experiments.some_study --only='a&b<c>'"
ENVIRONMENT = {
    "git_commit": "abc123",
    "python": "3.11.2",
    "packages": {"jax": "1.2.3", "numpy": "4.5.6"},
    "machine": "Linux x86_64",
    "cores": 2,
    "devices": ["cpu:0", "cpu:1"],
    "xla_flags": "",
}
VOID = {"meta", "img", "input", "br"}


def make(
    workdir, names, *, seeds=3, steps=(10, 20, 30), lost=(), error=None, curve=None, metrics=COLUMNS,
    environments=(ENVIRONMENT,),
):  # fmt: skip
    """Results of made-up runs. lost: (variant, seed) that diverged; error: (variant number, seed) -> test error."""
    runs, random = [], np.random.default_rng(0)
    for number, name in enumerate(names):
        for seed in range(seeds):
            run = Run(name, seed, {}, {"rate": 0.1}, f"hash{number}", {})
            runs.append(run)
            folder = folders.run_folder(workdir, run)
            folders.begin(folder, {"environment": environments[len(runs) % len(environments)]})
            for step in steps:
                value = curve(number, seed, step) if curve else 1 / step + 0.01 * number + random.random() / 1000
                row = {"fit": "deep", "step": step, "validation_error": value}
                folders.append(folder, {"fit": "early", "step": step, "validation_error": 0.77})
                folders.append(folder, row)
            values = {name: random.random() / 10 + 0.02 * number for name in metrics}
            values = dict.fromkeys(values, error(number, seed)) if error else values
            folders.finish(folder, values, {}, "deep at step 5" if (name, seed) in lost else "")
    return Results(workdir, runs, {}, ("validation_error", "min"))


def write(tmp_path, results, findings=(), **changes):
    """The text of the page."""
    options = dict(
        title=TITLE, doc=f"{TITLE}\n\nWhat is\ncompared.\n\nMinutes: 2.", results=results, columns=COLUMNS,
        published=(), findings=findings, notes=["An own note."], differs=(), figures=[], command=COMMAND,
    )  # fmt: skip
    page.write(tmp_path / "report.html", report.Report(**(options | changes)))
    return (tmp_path / "report.html").read_text()


class Tree(html.parser.HTMLParser):
    """The elements of a page as [tag, attributes, text, path]; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), "", [each[0] for each in self.open]]
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), "", [each[0] for each in self.open]])

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag, tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag, **attributes):
        """The elements of a tag with these attributes; `kind` is their class."""
        wanted = {"class" if name == "kind" else name: value for name, value in attributes.items()}
        return [e for e in self.elements if e[0] == tag and all(e[1].get(k) == v for k, v in wanted.items())]

    def texts(self, tag, **attributes):
        return [" ".join(element[2].split()) for element in self.all(tag, **attributes)]


def table(tree):
    """The cells of the table as text, row by row."""
    rows, width = tree.texts("th", scope="row"), len(tree.texts("th", scope="col"))
    cells = [tree.texts("td")[place * (width - 1) : (place + 1) * (width - 1)] for place in range(len(rows))]
    names = tree.texts("th", scope="col")[1:]
    return {row: dict(zip(names, each, strict=True)) for row, each in zip(rows, cells, strict=True)}


def drawings(text):
    """The outermost SVGs."""
    found, depth, start = [], 0, 0
    for match in re.finditer(r"<(/?)svg\b", text):
        if not match[1]:
            start, depth = (match.start() if depth == 0 else start), depth + 1
        else:
            depth -= 1
            found += [text[start : match.end() + 1]] * (depth == 0)
    return found


def mean_and_half(values):
    values = 100 * np.array(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    return f"{values.mean():.2f} ± {(high - low) / 2:.2f}".replace("-", "−")


CLAIM = claims.less("x", "One is less <than> another", "A & B, Table 1", "test_error", "one", "two")
ESTIMATE = Estimate(-0.03, 0.01, 4.0, 5, 397, (0.0, 0.0, 0.0))
FINDING = claims.Finding(CLAIM, "holds", (ESTIMATE,), 0.004, 0.04, None, ("a note",))
EQUAL = claims.equal("e", "Both are alike", "C", "test_loss", "one", "two", 0.05)
MANY = claims.increasing("i", "It grows", "D", "test_error", ["one", "two", "three"])
FINDINGS = [
    FINDING,
    claims.Finding(EQUAL, "undecided", (ESTIMATE,), 0.4, 0.8, 1234, ()),
    claims.Finding(MANY, "contradicted", (ESTIMATE, ESTIMATE._replace(mean=0.01)), 0.001, 0.002, None, ()),
    claims.Finding(CLAIM._replace(id="y"), "no verdict", (), 1.0, 1.0, None, ("not run: two",)),
]


def test_the_table_has_the_numbers_of_numpy_and_scipy(tmp_path):
    results = make(tmp_path, ["one", "two"], seeds=4)
    cells = table(Tree(write(tmp_path, results)))
    assert list(cells) == ["one", "two"]
    for row in results.rows:
        own = cells[row.variant]
        assert own["seeds"] == "4"
        for metric in ("test_error", "train_error", "validation_error"):
            assert own[metric.replace("_", " ") + " %"] == mean_and_half(row.metrics[metric])
        assert own["gap error %"] == mean_and_half(row.metrics["test_error"] - row.metrics["train_error"])
        values = row.metrics["test_loss"]
        half = scipy.stats.t.ppf(0.975, 3) * scipy.stats.sem(values)
        assert own["test loss"] == f"{values.mean():.3f} ± {half:.3f}"
    sorted_by = [float(cell["data-value"]) for _, cell, _, _ in Tree(write(tmp_path, results)).all("td")[1::6]]
    assert sorted_by == [pytest.approx(row.metrics["test_error"].mean(), rel=1e-12) for row in results.rows]


def test_the_headline_is_computed_and_its_dots_stand_where_the_numbers_are(tmp_path):
    results = make(tmp_path, ["bad", "good"], error=lambda number, seed: [0.2, 0.1][number] + 0.01 * seed)
    text = write(tmp_path, results, FINDINGS)
    tree = Tree(text)
    best = mean_and_half([0.1, 0.11, 0.12])
    (lead,) = tree.texts("p", kind="lead")
    assert lead == (
        "1 of 4 claims holds, 1 is contradicted, 1 undecided, 1 without a verdict. "
        f"Best by validation error: good, with a test error of {best} % (3 seeds)."
    )
    (dots,) = re.findall(r'<figure class="dots">.*?</figure>', text, re.S)
    assert re.findall(r'class="name">(.*?)<', dots) == ["good", "bad"]  # the best on top
    half = 100 * scipy.stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    ticks = {float(name): float(at) for at, name in re.findall(r'<text x="([\d.]+)%"[^>]*>([\d.]+)<', dots)}
    (low, at_low), *_, (high, at_high) = sorted(ticks.items())
    where = [at_low + (value - low) * (at_high - at_low) / (high - low) for value in (11, 21)]
    assert [float(at) for at in re.findall(r'<circle cx="([\d.]+)%', dots)] == pytest.approx(where, abs=0.02)
    reach = re.findall(r'class="reach" x1="([\d.]+)%" x2="([\d.]+)%" y1="13"', dots)
    width = 2 * half * (at_high - at_low) / (high - low)
    assert [float(b) - float(a) for a, b in reach] == pytest.approx([width, width], abs=0.04)


def test_more_is_better_where_the_metric_says_so(tmp_path):
    results = make(tmp_path, ["low", "high"], error=lambda n, s: [0.2, 0.9][n], metrics=("test_accuracy",))
    tree = Tree(write(tmp_path, results, columns=("test_accuracy",)))
    assert [each[2] for each in tree.all("span", kind="name")][:2] == ["high", "low"]
    assert tree.texts("p", kind="lead") == []  # no claim, no validation metric: nothing to say


def test_the_page_is_well_formed_accessible_and_needs_no_network(tmp_path):
    Image.new("RGB", (64, 32), "red").save(tmp_path / "error_by_depth.png")
    results = make(tmp_path, ["one", "two"])
    text = write(tmp_path, results, FINDINGS, figures=[tmp_path / "error_by_depth.png"])
    tree = Tree(text)
    assert tree.all("html")[0][1]["lang"] == "en"
    assert (tree.texts("h1"), tree.texts("p", kind="subtitle")) == (["A study"], ["Someone et al. 2007 (NIPS 19)."])
    levels = [int(tag[1]) for tag, *_ in tree.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    order = ["What was found", "Table", "Learning curves", "Claims", "Pictures", "To get it again"]
    assert tree.texts("h2") == order
    names = [attributes["id"] for _, attributes, _, _ in tree.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert len(tree.all("caption")) == len(tree.all("table")) == 1
    assert len(drawings(text)) > 8
    for drawing in drawings(text):
        xml.etree.ElementTree.fromstring(drawing)
    assert not re.search(r"https?:|url\(|@import|\bhref=", text)
    assert all(source.startswith("data:") for source in re.findall(r'\bsrc="([^"]*)', text))
    (image,) = tree.all("img")
    assert (image[1]["alt"], image[1]["width"], image[1]["height"]) == ("Error by depth", "64", "32")
    content = base64.b64decode(image[1]["src"].removeprefix("data:image/png;base64,"))
    assert content == (tmp_path / "error_by_depth.png").read_bytes()


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_a_contrast_of_at_least_4_5_and_lines_of_at_least_3(tmp_path, scheme):
    """The WCAG 2 ratio of relative luminances, in the light and in the dark scheme."""
    style = re.findall(r":root \{(.*?)\}", (page.Path(page.__file__).parent / "page.css").read_text(), re.S)[scheme]
    colors = dict(re.findall(r"--(\w+): (#\w+)", style))

    def luminance(color):
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one, other):
        dark, light = sorted((luminance(colors[one]), luminance(colors[other])))
        return (light + 0.05) / (dark + 0.05)

    for paper in ("paper", "tint"):
        for ink in ("ink", "quiet", "accent", "holds", "contradicted"):
            assert contrast(ink, paper) >= 4.5
    assert all(contrast(f"c{number}", "paper") >= 3 for number in range(8))


def test_names_from_the_data_are_text_whatever_they_contain(tmp_path):
    results = make(tmp_path, NASTY, environments=[ENVIRONMENT | {"machine": NASTY[0]}])
    names = [row.variant for row in results.rows]
    claim = claims.less("x", names[0], names[1], "test_error", names[0], names[1])
    finding = claims.Finding(claim, "holds", (ESTIMATE,), 0.004, 0.04, None, (names[0],))
    text = write(tmp_path, results, [finding], title=NASTY[0], doc=NASTY[1], notes=NASTY)
    tree = Tree(text)
    assert tree.texts("th", scope="row") == names
    assert tree.texts("h1") == tree.texts("title") == [NASTY[0]]
    assert len(tree.all("script")) == 2 and len(tree.all("style")) == 1 and "alert(1)</script>" not in text
    assert not tree.all("b")
    assert set(NASTY) <= set(tree.texts("li"))
    assert tree.texts("code") == [COMMAND]
    assert tree.texts("p", kind="paper") == [names[1]]


def test_learning_curves_are_those_of_the_last_fit_with_the_intervals_of_scipy(tmp_path):
    steps = range(5, 2505, 5)  # 500 points
    results = make(tmp_path, ["a", "b"], steps=steps, curve=lambda n, seed, step: (0.3 + 0.1 * n + seed / 50) / step)
    tree = Tree(write(tmp_path, results))
    data = json.loads(tree.all("script", id="curves")[0][2])
    assert len(data["lines"]) == 2
    for number, line in enumerate(data["lines"]):
        assert len(line["x"]) == 200 and (line["x"][0], line["x"][-1]) == (5, 2500)
        for place in (0, 77, 199):
            values = [100 * (0.3 + 0.1 * number + seed / 50) / line["x"][place] for seed in range(3)]
            assert line["y"][place] == pytest.approx(np.mean(values), rel=1e-4)
            half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values)
            assert line["h"][place] == pytest.approx(half, rel=1e-4)
    assert "logarithmic scale" in tree.texts("figcaption")[1]  # from 0.3 / 5 to 0.3 / 2500
    final = [100 * (0.3 + seed / 50) / 2500 for seed in range(3)]
    assert tree.texts("span", id="value-0") == [mean_and_half(np.array(final) / 100)]


def test_of_many_variants_the_best_8_are_on_and_no_two_lines_look_alike(tmp_path):
    names = [f"v{number:02}" for number in range(18)]
    text = write(tmp_path, make(tmp_path, names, error=lambda number, seed: 0.5 - 0.01 * number + seed / 1000))
    tree = Tree(text)
    boxes = tree.all("input", type="checkbox")
    assert [("checked" in attributes) for _, attributes, _, _ in boxes] == [True] * 8 + [False] * 10
    assert [each.split()[0] for each in tree.texts("label")] == names[::-1]  # the last are the best
    drawn = re.findall(r'<path class="curve line-\d+ (color-\d)"( stroke-dasharray="[^"]*")?', text)
    assert len(drawn) == len(set(drawn)) == 18
    assert len({color for color, _ in drawn}) == 8


def test_claims_show_estimate_interval_verdict_and_the_folded_statistics(tmp_path):
    text = write(tmp_path, make(tmp_path, ["one", "two"]), FINDINGS)
    tree = Tree(text)
    assert tree.texts("h3")[:2] == ["Test error", "Test loss"]  # one scale for each metric
    verdicts = tree.texts("span", kind="verdict")
    assert verdicts == ["✓ holds", "✗ contradicted", "– no verdict", "? undecided"]
    articles = [" ".join(element[2].split()) for element in tree.elements if element[0] == "article"]
    half = scipy.stats.t.ppf(0.975, 4)
    shown = f"{-3 - half:.2f} to {-3 + half:.2f}".replace("-", "−")
    assert f"−3.00 {shown}" in articles[0] and "one − two" in articles[0]
    assert "One is less <than> another" in articles[0] and "A & B, Table 1" in articles[0]
    for fact in ("p 0.004", "Holm's correction 0.04", "seeds 5", "test examples 397", "note a note", "lies below 0"):
        assert fact in articles[0]
    assert "two − one" in articles[1] and "three − two" in articles[1]
    assert "not run: two" in articles[2]
    assert "about 1,234" in articles[3] and "margin 0.05" in articles[3] and "percentage" not in articles[3]
    equal = text[text.index("Both are alike") :]
    zero, start, width = (
        float(re.search(pattern, equal)[1])
        for pattern in (r'"zero" x1="([\d.]+)', r'"claimed" x="([\d.]+)', r'"claimed".*?width="([\d.]+)')
    )
    assert start + width / 2 == pytest.approx(zero, abs=0.02)  # the margin lies around zero
    assert "Claims" not in Tree(write(tmp_path, make(tmp_path, ["one", "two"]))).texts("h2")


def test_a_contrast_is_named_by_its_variants_and_weights():
    assert charts.contrast_name({"a": 1.0, "b": -1.0}) == "a − b"
    assert charts.contrast_name({"a": -1.0, "b": 0.5, "c": 0.5}) == "−a + 0.5 × b + 0.5 × c"


def test_lost_runs_and_missing_values_are_shown_with_their_reason(tmp_path):
    names = ["whole", "part", "none"]
    lost = [("part", 1), *(("none", seed) for seed in range(3))]
    results = make(tmp_path, names, lost=lost)
    results.rows[0].metrics["test_error"][:] = [math.nan, math.nan, math.nan]
    results.rows[0].metrics["train_error"][0] = math.nan
    text = write(tmp_path, results)
    tree, cells = Tree(text), table(Tree(text))
    assert cells["whole"]["test error %"] == "- not finite"
    assert cells["whole"]["train error %"].endswith("2 of 3 seeds")
    assert cells["part"]["seeds"] == "2 of 3 1 diverged"
    assert cells["part"]["test error %"] == mean_and_half(results.row("part").metrics["test_error"])
    assert cells["none"]["test error %"] == cells["none"]["gap error %"] == "- 3 diverged"
    assert "none - (3 diverged)" in tree.texts("li")
    assert "part, seed 1: diverged, deep at step 5" in tree.texts("li")
    assert tree.texts("summary")[0] == "Runs lost: 4"
    assert "none: - (3 diverged)" in tree.texts("p", kind="why")  # no curve
    assert "nan" not in re.sub(r"<s(cript|tyle).*?</s\1>", "", text, flags=re.S).lower()
    assert "(2 of 3 seeds)" in tree.texts("p", kind="lead")[0] or "whole" in tree.texts("p", kind="lead")[0]


def test_one_seed_has_a_mean_and_no_interval(tmp_path):
    results = make(tmp_path, ["one", "two"], seeds=1, error=lambda number, seed: 0.1 + number)
    text = write(tmp_path, results)
    body = text[text.index("<body>") : text.index("Table</h2>")]
    assert "±" not in body and 'x1="' in body and "(1 seed)" in body
    assert all(low == high for low, high in re.findall(r'class="reach" x1="([\d.]+%)" x2="([\d.]+%)"', body))
    assert table(Tree(text))["one"]["test error %"] == "10.00"
    assert not re.search(r'<path class="band', text)


def test_without_results_the_page_says_so(tmp_path):
    everything = make(tmp_path / "lost", ["one"], lost=[("one", seed) for seed in range(3)])
    for results in (everything, Results(tmp_path, [], {}, ("validation_error", "min"))):
        tree = Tree(write(tmp_path, results))
        assert tree.texts("p", kind="lead") == ["There are no results: no run has a metric of the table."]
        assert "Learning curves" not in tree.texts("h2") and tree.texts("code") == [COMMAND]


def test_what_is_needed_to_get_it_again_is_there(tmp_path):
    other = ENVIRONMENT | {"cores": 64, "date": "2024-05-01", "git_commit": ""}
    tree = Tree(write(tmp_path, make(tmp_path, ["one"], environments=[other, ENVIRONMENT])))
    assert "An own note." in tree.texts("li")
    stated = dict(zip(tree.texts("dt"), tree.texts("dd"), strict=True))  # by the second one, where both do
    assert stated == {
        "git commit": "unknown", "python": "3.11.2", "versions": "jax 1.2.3, numpy 4.5.6", "hardware": "Linux x86_64",
        "cores": "64", "devices": "cpu:0, cpu:1", "date": "2024-05-01",
    }  # fmt: skip
    assert "abc123" in tree.texts("dd")
    (said,) = [text for text in tree.texts("p") if text.startswith("The runs come from")]
    assert said == "The runs come from 2 environments, which differ in: git commit, cores, date."
    assert [text for text in tree.texts("p", kind="about")][:2] == ["What is compared.", "Minutes: 2."]


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"),
    [(0, 1, False), (-3e-7, 2e-7, False), (1e6, 1.0001e6, False), (0.3, 97, True), (1e-9, 1e9, True), (3, 4, True)],
)
def test_ticks_are_few_in_order_and_inside(low, high, logarithmic):
    ticks = charts.Axis(low, high, logarithmic).ticks()
    places = [tick["at"] for tick in ticks]
    assert 2 <= len(ticks) <= 6
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100
    assert len({tick["text"] for tick in ticks}) == len(ticks)


@pytest.mark.parametrize("means", [[0.0], [5.0], [5.0, 5.0], [-1.0, 1.0], [1e-12, 1.0], [3.0, 3.0 + 1e-15]])
@pytest.mark.parametrize("half", [0.0, 0.5, 1e9])
def test_every_mean_lies_on_its_axis(means, half):
    axis = charts.fitting_axis(means, [mean - half for mean in means], [mean + half for mean in means], 0.5)
    assert axis.low < axis.high and all(axis.low <= mean <= axis.high for mean in means)
    assert all(0 <= axis.at(value) <= 100 for value in (*means, -1e12, 1e12))
    assert len(axis.ticks()) >= 2


def test_200_runs_and_6_pictures_make_less_than_5_MB_in_less_than_10_s(tmp_path):
    random = np.random.default_rng(0)
    for number in range(6):
        pixels = random.integers(0, 256, (260, 400, 3), np.uint8)  # noise: 310 kB that PNG can't compress
        Image.fromarray(pixels).save(tmp_path / f"picture_{number}.png")
    results = make(tmp_path, [f"variant-{number}" for number in range(20)], seeds=10, steps=range(1, 301))
    figures = sorted(tmp_path.glob("*.png"))
    start = time.monotonic()
    write(tmp_path, results, FINDINGS * 5, figures=figures)
    assert time.monotonic() - start < 10
    assert (tmp_path / "report.html").stat().st_size < 5e6


def test_the_script_is_short():
    assert len((page.Path(page.__file__).parent / "page.js").read_text().splitlines()) < 150


def test_variants_are_compared_by_the_headlines_metric_and_not_by_objectives_of_their_own(tmp_path):
    """`own` is better by what chose among its trials, and worse by what all variants share."""
    runs = []
    for name, objective, loss in (("own", 1.0, 9.0), ("shared", 5.0, 3.0)):
        for seed in range(2):
            run = Run(name, seed, {}, {"rate": 0.1}, f"hash-{name}", {})
            runs.append(run)
            folder = folders.run_folder(tmp_path, run)
            folders.begin(folder, {})
            values = {"validation_objective": objective, "validation_loss": loss, "test_loss": loss + seed}
            folders.finish(folder, values, {}, "")
    results = Results(tmp_path, runs, {}, ("validation_objective", "min"))
    (sentence,) = page.best(results, "test_loss")
    assert sentence.startswith("Best by validation loss: shared, with a test loss of 3.500")
    assert page.by_validation(results, page.compared_by(results, "test_loss"))[0].variant == "shared"
    assert page.compared_by(results, "test_unknown") == "validation_objective"
