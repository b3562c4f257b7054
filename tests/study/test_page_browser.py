"""report.html in a browser: headless Chromium loads a copy of the page with a script that clicks and looks."""

import html
import json
import re
import shutil
import subprocess

import pytest
from test_page import FINDINGS, NASTY, make, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt install chromium")

ERRORS = """<script>
window.errors = [];
window.onerror = message => { errors.push(message) };
window.onunhandledrejection = event => { errors.push(String(event.reason)) };
console.error = (...all) => { errors.push(all.join(" ")) };
document.addEventListener("securitypolicyviolation", event => { errors.push(event.violatedDirective) });
</script>"""
# Chromium makes no window narrower than 500: a phone is a frame, which hands on what its page found.
FRAME = """<!doctype html><iframe src="copy.html" width="{width}" height="740" style="border: 0"></iframe><script>
onmessage = event => { const out = document.createElement("pre"); out.id = "found"; out.textContent = event.data;
  document.body.append(out); };
</script>"""
TOOLS = """
const all = query => [...document.querySelectorAll(query)];
const text = element => element.textContent.trim();
const seen = element => getComputedStyle(element).display !== "none";
const column = place => all("tbody tr").map(row => text(row.cells[place]));
const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const point = (kind, share) => {
  const box = document.querySelector(".chart").getBoundingClientRect();
  const event = {clientX: box.left + share * box.width, clientY: box.top + 9, pointerType: "touch", bubbles: true};
  document.querySelector(".chart").dispatchEvent(new PointerEvent(kind, event));
};
"""


def browse(tmp_path, page, script, *, width=1200, options=()):
    """What `script`, the body of a function, returns when it runs in the page; no error may have come up."""
    asked = f"<script>{TOOLS}\nconst found = (() => {{ {script} }})();\nconst out = document.createElement('pre');\n"
    asked += "out.id = 'found'; out.textContent = JSON.stringify({found, errors}); document.body.append(out);\n"
    asked += "if (parent !== window) parent.postMessage(out.textContent, '*');</script>"
    (tmp_path / "copy.html").write_text(page.replace("<head>", "<head>" + ERRORS).replace("</body>", asked + "</body>"))
    (tmp_path / "frame.html").write_text(FRAME.replace("{width}", str(width)))
    shown = tmp_path / ("frame.html" if width < 500 else "copy.html")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},740", "--virtual-time-budget=2000"),
        *(*options, "--dump-dom", shown.as_uri()),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', answer.stdout, re.S) or [answer.stderr]
    outcome = json.loads(html.unescape(found))
    assert outcome["errors"] == []
    return outcome["found"]


def test_a_click_on_a_header_sorts_by_numbers_and_a_second_one_turns_the_order(tmp_path):
    errors = [0.1, 0.02, 0.3, 0.0]  # as text, "10.00" comes before "2.00"; the last variant loses all its runs
    lost = [("d", seed) for seed in range(3)]
    results = make(tmp_path, ["a", "b", "c", "d"], error=lambda number, seed: errors[number], lost=lost)
    script = """
        const button = all("thead button")[2], head = button.closest("th"), found = [];
        for (let turn = 0; turn < 2; turn++) {
          button.click();
          found.push([head.getAttribute("aria-sort"), column(0).join("")]);
        }
        all("thead button")[0].click();
        return [...found, [head.getAttribute("aria-sort"), column(0).join("")], all("th[aria-sort]").length,
                all("thead button").every(each => each.tabIndex === 0 && each.type === "button")];
    """
    assert browse(tmp_path, write(tmp_path, results), script) == [
        ["ascending", "bacd"], ["descending", "cabd"], [None, "abcd"], 1, True,
    ]  # fmt: skip


def test_variants_are_switched_and_values_are_those_at_the_nearest_step(tmp_path):
    def curve(number, seed, step):
        return (number + 1) * step / 1000

    names = [f"v{number}" for number in range(10)]
    results = make(tmp_path, names, curve=curve, error=lambda number, seed: number / 100)
    script = """
        const before = [seen(all(".curve.line-0")[0]), seen(all(".curve.line-9")[0])];
        all("#line-0")[0].click();
        all("#line-9")[0].click();
        const after = [seen(all(".curve.line-0")[0]), seen(all(".curve.line-9")[0]), seen(all(".band.line-0")[0])];
        const values = [];
        const note = () => values.push([text(all("#step")[0]), text(all("#value-1")[0])]);
        point("pointermove", 0.55); note();
        point("pointerdown", 0.9); note();
        const chart = all(".chart")[0];
        press(chart, "ArrowLeft"); note();
        press(chart, "Home"); note();
        press(chart, "End"); note();
        return {before, after, values, slider: [chart.getAttribute("role"), chart.tabIndex,
                chart.getAttribute("aria-valuenow"), chart.getAttribute("aria-valuetext").slice(0, 26)]};
    """
    found = browse(tmp_path, write(tmp_path, results), script)
    assert found["before"] == [True, False] and found["after"] == [False, True, False]
    at = {step: [f"step {step}", f"{100 * curve(1, 0, step):.2f} ± 0.00"] for step in (10, 20, 30)}
    assert found["values"] == [at[20], at[30], at[20], at[10], at[30]]
    assert found["slider"] == ["slider", 0, "30", "step 30: v1 6.00 ± 0.00, v"]


@pytest.mark.parametrize("width", [320, 360, 1200])
def test_nothing_is_wider_than_the_window_but_what_scrolls_in_its_box(tmp_path, width):
    results = make(tmp_path, [*NASTY, *(f"v{number}" for number in range(10))])
    script = """
        for (const each of all("details")) each.open = true;
        const reach = Math.max(...all("main *").filter(each => !each.closest(".scroll"))
          .map(each => each.getBoundingClientRect().right));
        return [innerWidth, document.documentElement.scrollWidth, reach, getComputedStyle(all(".scroll")[0]).overflowX];
    """
    inner, scroll, reach, overflow = browse(tmp_path, write(tmp_path, results, FINDINGS), script, width=width)
    assert inner == width and scroll <= width and overflow == "auto"
    assert reach <= width


@pytest.mark.parametrize(("scheme", "paper"), [(0, "rgb(20, 22, 26)"), (1, "rgb(253, 253, 252)")])
def test_the_page_follows_the_colour_scheme(tmp_path, scheme, paper):
    options = [f"--blink-settings=preferredColorScheme={scheme}"]
    page = write(tmp_path, make(tmp_path, ["one"]))
    assert browse(tmp_path, page, "return getComputedStyle(document.body).backgroundColor", options=options) == paper


def test_pages_without_curves_claims_or_results_run_without_an_error(tmp_path):
    empty = make(tmp_path, ["one"], lost=[("one", seed) for seed in range(3)])
    found = browse(tmp_path, write(tmp_path, empty), "return all('.command button').map(text)")
    assert found == ["Copy"]
