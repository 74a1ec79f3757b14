"use strict";
// Answers the queries of the page: by SQLite in a worker, from the rows that the page carries; or by the store itself,
// if `raysweep serve` sends the page. Answers are inserted as text, never as HTML.
(() => {
  const MAX_SHOWN = 500;
  const text = (id) => document.getElementById(id)?.textContent ?? "";

  // Runs in the worker.
  function work() {
    let database;
    const bytes = (base64) => {
      if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
      return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    };
    const unpacked = async (base64) => {
      const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    };
    async function open(wasm, rows) {
      const [wasmBinary, content] = await Promise.all([unpacked(wasm), unpacked(rows)]);
      const sqlite = await initSqlJs({ wasmBinary, useOldExtensionFunctions: false });
      const opened = new sqlite.Database(content);
      opened.create_aggregate("stddev", { // Welford's, as in DuckDB
        init: () => [0, 0, 0],
        step: (state, value) => {
          if (value === null) return state;
          const apart = Number(value) - state[1];
          state[0] += 1;
          state[1] += apart / state[0];
          state[2] += apart * (Number(value) - state[1]);
          return state;
        },
        finalize: ([n, , sum]) => (n > 1 ? Math.sqrt(sum / (n - 1)) : null),
      });
      opened.run("PRAGMA query_only = ON");
      return opened;
    }
    function answer(sql, most) {
      let [columns, rows, total] = [[], [], 0];
      for (const statement of database.iterateStatements(sql)) {
        [columns, rows, total] = [statement.getColumnNames(), [], 0];
        for (; statement.step(); total += 1) {
          if (total < most) rows.push(statement.get(null, { useBigInt: true }).map((v) => (typeof v === "bigint" && Number.isSafeInteger(Number(v)) ? Number(v) : v)));
        }
        columns = statement.getColumnNames();
      }
      if (!columns.length) throw new Error("the statement returns no rows; only queries are answered");
      return { columns, rows, total };
    }
    onmessage = async ({ data: { id, sql, most, wasm, rows } }) => {
      try {
        database ??= open(wasm, rows);
        database = await database;
        postMessage({ id, ...answer(sql, most) });
      } catch (error) {
        postMessage({ id, problem: String(error.message ?? error) });
      }
    };
  }

  let worker;
  let waiting = new Map();
  let count = 0;
  function local(sql, most) {
    if (!text("rows")) return Promise.reject(new Error("this page does not carry its rows; run the command in a shell"));
    let sent = {};
    if (!worker) {
      const code = new Blob([text("sqlite"), `\n(${work})();`], { type: "text/javascript" });
      worker = new Worker(URL.createObjectURL(code));
      worker.onmessage = ({ data }) => { waiting.get(data.id)?.(data); waiting.delete(data.id); };
      worker.onerror = (event) => { waiting.forEach((done) => done({ problem: event.message })); stop(); };
      sent = { wasm: text("wasm"), rows: text("rows") };
    }
    count += 1;
    const id = count;
    return new Promise((resolve, reject) => {
      waiting.set(id, (data) => (data.problem ? reject(new Error(data.problem)) : resolve(data)));
      worker.postMessage({ id, sql, most, ...sent });
    });
  }
  function stop() {
    worker?.terminate();
    worker = undefined;
    waiting.forEach((done) => done({ problem: "stopped" }));
    waiting = new Map();
  }

  // Opens the rows and answers the first table's query while nobody waits: then the code is compiled, and the first
  // answer that somebody waits for comes quickly.
  const later = window.requestIdleCallback ?? ((act) => setTimeout(act, 200));
  window.addEventListener("load", () => later(() => {
    if (text("rows")) local(document.querySelector("form.ask textarea").value, 1).catch(() => {});
  }));

  let asked;
  async function remote(sql) {
    asked = new AbortController();
    const reply = await fetch(`sql?q=${encodeURIComponent(sql)}`, { signal: asked.signal, cache: "no-store" });
    const data = await reply.json();
    if (data.problem) throw new Error(data.problem);
    return data;
  }

  const served = document.documentElement.dataset.served !== undefined;
  window.raysweepAsk = (sql, most = MAX_SHOWN) => (served ? remote(sql) : local(sql, most));

  const shown = (value) => {
    if (value === null) return "–";
    if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
  function tableOf({ columns, rows }) {
    const node = (name, content, kind) => {
      const made = document.createElement(name);
      if (content !== undefined) made.textContent = content;
      if (kind) made.className = kind;
      return made;
    };
    const numbers = columns.map((_, i) => rows.some((row) => row[i] !== null) && rows.every((row) => row[i] === null || typeof row[i] === "number"));
    const [head, body, whole] = [node("tr"), node("tbody"), node("table")];
    columns.forEach((name, i) => { const cell = node("th", name, numbers[i] ? "n" : ""); cell.scope = "col"; head.append(cell); });
    rows.forEach((row) => {
      const line = node("tr");
      row.forEach((value, i) => {
        const cell = node("td", shown(value), numbers[i] ? "n" : "");
        if (typeof value === "number" && cell.textContent !== String(value)) cell.title = String(value);
        line.append(cell);
      });
      body.append(line);
    });
    const top = node("thead");
    top.append(head);
    whole.append(top, body);
    const scroll = node("div", undefined, "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Answer");
    scroll.append(whole);
    return scroll;
  }

  document.querySelectorAll("form.ask").forEach((form) => {
    const [area, run, output] = [form.querySelector("textarea"), form.querySelector("button"), form.querySelector("output")];
    const clear = () => { form.querySelector(".scroll")?.remove(); output.textContent = ""; output.className = ""; };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (run.textContent === "Stop") { if (served) asked?.abort(); else stop(); return; }
      clear();
      run.textContent = "Stop";
      const began = performance.now();
      try {
        const data = await window.raysweepAsk(area.value);
        const total = data.total ?? `more than ${data.rows.length}`;
        const cut = data.total === data.rows.length ? "" : `, the first ${data.rows.length} shown`;
        output.textContent = `${total} ${total === 1 ? "row" : "rows"}${cut}, ${((performance.now() - began) / 1000).toFixed(2)} s`;
        form.append(tableOf(data));
      } catch (error) {
        output.textContent = error.message;
        output.className = "bad";
      }
      run.textContent = "Run";
    });
    form.addEventListener("reset", clear);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
  });
})();
