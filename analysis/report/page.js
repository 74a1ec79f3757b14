"use strict";
// Draws the charts before they scroll into view, filters the claims, shows single cells. Values from cells are inserted
// as text, never as HTML.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const details = JSON.parse(document.getElementById("details").textContent);

  function rowsOf(columns) {
    const names = Object.keys(columns);
    return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  }

  function draw(place, spec, columns) {
    const whole = { ...spec, config: charts.config, datasets: { rows: rowsOf(columns) } };
    return vegaEmbed(place, whole, { renderer: "svg", actions: false, mode: "vega-lite" })
      .then(() => { place.dataset.drawn = "yes"; })
      .catch((error) => { place.textContent = `This chart could not be drawn: ${error.message}`; throw error; });
  }

  const drawOnce = (place) => {
    if (place.dataset.requested || !place.offsetParent) return;
    place.dataset.requested = "yes";
    place.textContent = "";
    const { spec, columns } = charts.charts[Number(place.dataset.chart)];
    draw(place, spec, columns);
  };
  const near = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawOnce(entry.target)),
    { rootMargin: "600px" },
  );
  const places = [...document.querySelectorAll("[data-chart]")];
  places.forEach((place) => near.observe(place));
  let closed = [];
  window.addEventListener("beforeprint", () => {
    const more = [...document.querySelectorAll("main details:not([open])")];
    more.forEach((details) => { details.open = true; });
    closed = closed.concat(more); // the event can fire twice before printing
    places.forEach(drawOnce);
  });
  window.addEventListener("afterprint", () => closed.splice(0).forEach((details) => { details.open = false; }));
  const later = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  const rest = places.slice();
  (function next() { // draws the remaining charts in idle time, so that the whole page can be printed
    const place = rest.find((p) => !p.dataset.requested && p.offsetParent);
    if (place) later(() => { drawOnce(place); next(); });
  })();

  function element(name, text, attributes = {}) {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    return node;
  }

  const form = document.getElementById("claim-filter");
  if (form) {
    const rows = [...document.querySelectorAll("#claim-table tbody tr")];
    const filter = () => {
      const [verdict, source] = [form.elements.verdict.value, form.elements.source.value];
      const text = form.elements.text.value.toLowerCase();
      rows.forEach((row) => {
        row.hidden = (verdict && row.dataset.verdict !== verdict) || (source && row.dataset.source !== source)
          || (text && !row.textContent.toLowerCase().includes(text));
      });
      form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} lines`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  const most = 100;
  const list = document.getElementById("cell-list");
  const view = document.getElementById("cell");
  const find = document.getElementById("cell-filter");
  const nameOf = (cell) => {
    const variant = details.variants[cell.variant];
    return `${variant.experiment}, ${variant.label}, seed ${cell.seed}`;
  };
  const words = details.cells.map((cell) => `${nameOf(cell)} ${cell.status}`.toLowerCase().split(/[\s,]+/));
  const matches = (i, query) => words[i].some((word) => word.startsWith(query))
    || (query.length >= 4 && details.cells[i].id.startsWith(query)); // a shorter query means a k or a seed

  function table(pairs) {
    const body = element("tbody");
    pairs.forEach(([key, value]) => {
      const row = element("tr");
      const text = value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
      row.append(element("th", key, { scope: "row" }), element("td", text));
      body.append(row);
    });
    const whole = element("table");
    whole.append(body);
    const scroll = element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Values" });
    scroll.append(whole);
    return scroll;
  }

  function show(cell) {
    const variant = details.variants[cell.variant];
    const shared = details.shared[variant.experiment];
    view.replaceChildren(element("h3", nameOf(cell)));
    const line = element("p", `${cell.id} · ${variant.workload} version ${variant.version} · `);
    line.append(element("span", cell.status, { class: `status ${cell.status.replace(/_/g, "-")}` }));
    view.append(line);
    if (cell.curve) {
      const place = element("div", undefined, { class: "chart" });
      view.append(place);
      const spec = structuredClone(charts.single);
      const { name } = cell.curve;
      spec.encoding.y.axis = { title: name in {} ? `${name} ` : name }; // as in charts.py
      spec.description = `${name} over steps`;
      draw(place, spec, { step: cell.curve.steps, value: cell.curve.values });
    }
    const names = details.metrics[variant.experiment] || [];
    const metrics = Object.entries(cell.metrics).map(([i, value]) => [names[i], value]);
    if (metrics.length) view.append(element("h4", "Metrics"), table(metrics));
    const config = Object.entries({ ...shared, ...variant.config }).sort(([a], [b]) => (a < b ? -1 : 1));
    view.append(element("h4", "Config"), table([["method", variant.method], ["k", variant.k ?? "–"], ["seed", cell.seed], ...config]));
    view.append(element("h4", "Attempts"));
    cell.attempts.forEach(({ traceback, printed, ...attempt }) => {
      view.append(table(Object.entries(attempt)));
      if (traceback) view.append(element("pre", traceback, { tabindex: "0" }));
      if (printed) view.append(element("p", "Log:"), element("pre", printed, { tabindex: "0" }));
    });
    if (cell.files) view.append(element("h4", "Files"), element("p", cell.files));
    (cell.images || []).forEach(({ path, src }) => view.append(element("p", path), element("img", undefined, { src, alt: path })));
  }

  function search() {
    const query = find.elements.text.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    const matching = details.cells.filter((_, i) => query.every((word) => matches(i, word)));
    list.replaceChildren(...matching.slice(0, most).map((cell) => {
      const button = element("button", nameOf(cell), { type: "button", "aria-pressed": "false" });
      if (cell.status !== "done") button.append(" ", element("span", cell.status, { class: `status ${cell.status.replace(/_/g, "-")}` }));
      button.addEventListener("click", () => {
        list.querySelectorAll("[aria-pressed=true]").forEach((b) => b.setAttribute("aria-pressed", "false"));
        button.setAttribute("aria-pressed", "true");
        show(cell);
      });
      const item = element("li");
      item.append(button);
      return item;
    }));
    find.querySelector("output").textContent = `${matching.length} found${matching.length > most ? `, the first ${most} listed` : ""}`;
  }
  find.addEventListener("input", search);
  find.addEventListener("submit", (event) => event.preventDefault());
  search();
})();
