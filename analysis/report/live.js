"use strict";
// What `raysweep serve` adds to the page: progress, running cells with their curves, failures with logs, and files.
// The state is asked for every two seconds while the page is visible. All text is inserted as text.
(() => {
  const PERIOD_MS = 2000;
  const RELOAD_MS = 15000;
  const root = document.getElementById("live");
  const [counts, update] = [root.querySelector(".counts"), root.querySelector(".update")];
  const [running, recent, looked] = [root.querySelector(".running"), root.querySelector(".recent"), root.querySelector(".looked")];
  const opened = performance.now();

  function node(name, text, attributes = {}) {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  }
  const duration = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);
  const short = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(4))));

  function spark(name, { steps, values }) {
    const known = steps.map((step, i) => [step, values[i]]).filter(([, value]) => value !== null);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 100 30");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${name} so far`);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const [xs, ys] = [known.map(([x]) => x), known.map(([, y]) => y)];
    const at = (v, all) => (v - Math.min(...all)) / ((Math.max(...all) - Math.min(...all)) || 1);
    line.setAttribute("points", known.map(([x, y]) => `${100 * at(x, xs)},${28 - 26 * at(y, ys)}`).join(" "));
    svg.append(line);
    return svg;
  }

  function logButton(id) {
    const button = node("button", "log", { type: "button", "aria-label": `log of cell ${id.slice(0, 8)}` });
    button.addEventListener("click", () => look(id));
    return button;
  }

  async function look(id) {
    looked.replaceChildren(node("p", "…"));
    try {
      const query = `cell=${encodeURIComponent(id)}`;
      const [log, files] = await Promise.all([fetch(`log?${query}`), fetch(`artifacts?${query}`)]);
      if (!log.ok) throw new Error((await log.json()).problem);
      const text = await log.text();
      const list = await files.json();
      looked.replaceChildren(node("h4", `Cell ${id.slice(0, 8)}`), text ? node("pre", text, { tabindex: "0" }) : node("p", "It has printed nothing."));
      const items = node("ul");
      list.forEach((file) => {
        const item = node("li");
        item.append(file.stored ? node("a", file.path, { href: `artifact?${query}&number=${file.number}`, download: "" }) : node("span", `${file.path} (${file.kind})`), node("small", ` ${file.bytes ?? "?"} bytes`));
        items.append(item);
      });
      looked.append(items);
    } catch (error) {
      looked.replaceChildren(node("p", error.message, { class: "bad" }));
    }
  }
  root.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    look(event.target.elements.cell.value);
  });
  update.addEventListener("click", () => location.reload());

  function show(state) {
    const bar = root.querySelector(".progress");
    const share = (n) => `${(100 * n) / Math.max(1, state.cells)}%`;
    [...bar.children].forEach((part, i) => { part.style.width = share([state.done, state.failed][i]); });
    bar.setAttribute("aria-valuemax", state.cells);
    bar.setAttribute("aria-valuenow", state.done);
    const parts = [`${state.done} of ${state.cells} cells done`, `${state.running} running`, `${state.failed} failed`];
    if (state.cells_a_minute) parts.push(`${short(state.cells_a_minute)} cells a minute`);
    if (state.seconds_left) parts.push(`about ${duration(state.seconds_left)} left`);
    if (!state.owner) parts.push(state.starting ? "a launch is starting" : "no launch is running");
    const line = parts.join(", ");
    if (counts.textContent !== line) counts.textContent = line;
    running.replaceChildren(...state.running_cells.map((cell) => {
      const item = node("li");
      const percent = cell.fraction === null ? "" : `, ${Math.round(100 * cell.fraction)}%`;
      item.append(node("span", `${cell.name}${percent} `), logButton(cell.id));
      Object.entries(cell.curves).forEach(([name, curve]) => {
        item.append(node("div", `${name} ${short(curve.values.at(-1))} at step ${curve.steps.at(-1) ?? "–"}`), spark(name, curve));
      });
      return item;
    }));
    recent.replaceChildren(...state.failures.map((failure) => {
      const item = node("li");
      item.append(node("span", `${failure.status} `, { class: "status failed" }), node("span", `${failure.name}: ${failure.error_type ?? ""}: ${(failure.error_message ?? "").split("\n")[0]} `), logButton(failure.cell_id));
      return item;
    }));
    const changed = state.version !== document.documentElement.dataset.served;
    update.hidden = !changed;
    const busy = document.activeElement !== document.body || document.querySelector("details.sql[open]") || looked.childElementCount;
    if (changed && !busy && performance.now() - opened > RELOAD_MS) location.reload();
  }

  async function poll() {
    if (!document.hidden) {
      try {
        const reply = await fetch("state", { cache: "no-store" });
        if (!reply.ok) throw new Error((await reply.json()).problem);
        show(await reply.json());
      } catch (error) {
        counts.textContent = `The server does not answer: ${error.message}`;
      }
    }
    setTimeout(poll, PERIOD_MS);
  }
  poll();
})();
