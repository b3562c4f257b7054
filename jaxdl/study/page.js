"use strict";
// Sort the table: each header gets a button. Rows without a value stay last.
for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0], sign = down ? -1 : 1, place = head.cellIndex;
    const key = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
    body.append(...[...body.rows].sort((a, b) => {
      const [one, other] = [key(a), key(b)];
      if (place === 0) return sign * one.localeCompare(other, "en", { numeric: true });
      return (one === "") - (other === "") || sign * (one - other);
    }));
  });
}

// Learning curves: the values at the step under the pointer, or chosen with the arrow keys, stand in the legend.
const chart = document.querySelector(".chart");
if (chart) {
  const { lines, low, high, digits } = JSON.parse(document.getElementById("curves").textContent);
  const cursor = document.getElementById("cursor"), said = document.getElementById("step");
  const boxes = lines.map((_, number) => document.getElementById(`line-${number}`));
  const names = boxes.map(box => box.parentNode.querySelector(".name").textContent);
  const on = () => lines.filter((_, number) => boxes[number].checked);
  const steps = () => [...new Set(on().flatMap(line => line.x))].sort((a, b) => a - b);
  const nearest = (values, to) => values.reduce(
    (best, value, place) => Math.abs(value - to) < Math.abs(values[best] - to) ? place : best, 0);
  let step = null;

  const show = wanted => {
    const known = steps();
    step = wanted === null || !known.length ? null : known[nearest(known, wanted)];
    const spoken = [];
    lines.forEach(({ x, y, h }, number) => {
      const place = step === null ? x.length - 1 : nearest(x, step);
      let text = y[place].toFixed(digits).replace("-", "−") + (h[place] === null ? "" : ` ± ${h[place].toFixed(digits)}`);
      if (step !== null && x[place] !== step) text += ` at ${x[place].toLocaleString("en")}`;
      document.getElementById(`value-${number}`).textContent = text;
      if (boxes[number].checked) spoken.push(`${names[number]} ${text}`);
    });
    said.textContent = step === null ? "the last step" : `step ${step.toLocaleString("en")}`;
    const at = step === null ? 0 : 100 * (step - low) / (high - low);
    cursor.setAttribute("x1", `${at}%`);
    cursor.setAttribute("x2", `${at}%`);
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    chart.setAttribute("aria-valuenow", step ?? high);
    chart.setAttribute("aria-valuetext", `${said.textContent}: ${spoken.join(", ")}`);
  };

  const follow = event => {
    const box = chart.getBoundingClientRect();
    show(low + (high - low) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10,
                 Home: -Infinity, End: Infinity };
  for (const [name, value] of Object.entries({ role: "slider", tabindex: 0, "aria-label": "Step",
                                               "aria-valuemin": low, "aria-valuemax": high })) {
    chart.setAttribute(name, value);
  }
  chart.addEventListener("pointermove", follow);
  chart.addEventListener("pointerdown", follow);
  chart.addEventListener("pointerleave", event => event.pointerType === "mouse" && show(null));
  chart.addEventListener("focus", () => chart.matches(":focus-visible") && step === null && show(high));
  chart.addEventListener("blur", () => show(null));
  chart.addEventListener("keydown", event => {
    if (!(event.key in move)) return;
    event.preventDefault();
    const known = steps(), last = known.length - 1;
    if (last < 0) return;
    show(known[Math.min(last, Math.max(0, nearest(known, step ?? high) + move[event.key]))]);
  });
  for (const box of boxes) box.addEventListener("change", () => show(step));
  show(null);
}

// The command: a button that copies it, or marks it where the browser does not let a page copy.
const command = document.getElementById("command"), copy = document.createElement("button");
copy.type = "button";
copy.textContent = "Copy";
copy.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(command.textContent);
    copy.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(command);
    copy.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { copy.textContent = "Copy"; }, 2000);
});
command.closest(".command").append(copy);
