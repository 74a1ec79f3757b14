"""The report of 100,000 cells: size of the page, and time until the page answers a query, with the CPU slowed fourfold.

    python benchmarks/page.py [--cells 100000] [--rounds 5]

Chromium can slow down only a page's main thread. So the page's worker is replaced by one that runs on the main thread;
the compilation of WebAssembly remains on other threads. Columns:

- at once: the query is asked as soon as the page is loaded, before it has opened its rows;
- first: the first query, once the page has opened its rows in idle time, as it does after loading;
- second: the same query again;
- not slowed: the first query with the CPU at its own speed;
- shell: the same query by `raysweep query`, in a process of its own, not slowed.

Needs Chromium (Debian: `apt install chromium`) and playwright.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from raysweep.orchestrator.launch.record import CompletedAttempt, record
from raysweep.orchestrator.run.messages import Array, Outcome, Worker
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.spec import Sweep

SWEEP = """
name = "many"
workload = "many:run"
seeds = "0..{last}"
[[grid]]
method = ["adam", "adafactor", "lion", "sgd"]
lr = [0.0001, 0.0003, 0.001, 0.003, 0.01]
width = [32, 64, 128, 256, 512]
dropout = [0.0, 0.1, 0.2, 0.3, 0.4]
depth = [2, 4]
"""
VARIANTS = 1_000
SLOWER = 4
ON_MAIN_THREAD = """
(() => {
  let blob;
  const make = URL.createObjectURL;
  URL.createObjectURL = (content) => { blob = content; return make.call(URL, content); };
  window.Worker = class {
    constructor() {
      const reply = (data) => this.onmessage({ data });
      const made = (code) => new Function("postMessage", `let onmessage; ${code}; return onmessage;`)(reply);
      this.handler = blob.text().then(made);
    }
    postMessage(data) { this.handler.then((handle) => handle({ data })); }
    terminate() {}
  };
  if (location.hash === "#at-once") window.requestIdleCallback = () => 0;
})();
"""


def make(folder: Path, cells: int) -> None:
    """Write a store of `cells` cells with four metrics and a curve each, as a launch would."""
    (folder / "many.py").write_text("def run(cell, context):\n    return {}\n", encoding="utf-8")
    (folder / "many.toml").write_text(SWEEP.format(last=cells // VARIANTS - 1), encoding="utf-8")
    sys.path.insert(0, str(folder))
    table = expand([Sweep.load(folder / "many.toml")])
    worker = Worker("host", None, 1, "cpu", "digest", "path", '{"numpy":"2"}')
    random = np.random.default_rng(0)
    curve = np.linspace(1, 0, 50, dtype=np.float32)
    with StoreWriter(Store(folder / "results")) as owner:
        for first in range(0, len(table), 10_000):
            ended = []
            for row in range(first, min(first + 10_000, len(table))):
                bad = row % 100 == 7
                a, b, c, d = map(float, random.random(4))
                error = (
                    ("ValueError", f"cell {row} is unlucky", "Traceback\n" + "  line\n" * 40) if bad else (None,) * 3
                )
                outcome = Outcome(
                    row, 1, "failed" if bad else "done", 1.8e9 + row / 3 + a, 1.8e9 + row / 3 + a + 9 * b, 9 * b,
                    metrics={} if bad else {"accuracy": a, "loss": b, "other": c, "train_s": d},
                    arrays=() if bad else (Array("loss", 0, 1, curve + np.float32(c)),),
                    error_type=error[0], error_message=error[1], traceback=error[2],
                )  # fmt: skip
                ended.append(CompletedAttempt(outcome, worker))
            owner.append(record(ended, table.cells, table.variants, owner.epoch, {}))


def answers(browser: Any, url: str, slower: float = SLOWER) -> tuple[float, float]:
    """Open the page, ask the query of its first table twice; seconds of the two."""
    page = browser.new_context().new_page()
    page.add_init_script(ON_MAIN_THREAD)
    session = page.context.new_cdp_session(page)
    at_once = url.endswith("#at-once")
    if at_once:
        session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    page.goto(url)
    if not at_once:
        page.wait_for_timeout(4_000)  # idle: charts are drawn, rows are opened
        session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    ask = (
        "async () => { const sql = document.querySelector('form.ask textarea').value; const began = performance.now();"
        " const { total } = await raysweepAsk(sql); return [(performance.now() - began) / 1000, total]; }"
    )
    (first, rows), (second, _) = page.evaluate(ask), page.evaluate(ask)
    assert rows == VARIANTS, rows
    page.context.close()
    return first, second


def main() -> None:
    """Print the size and the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on this machine; Debian: apt install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.cells)
        raysweep = [sys.executable, "-m", "raysweep"]
        subprocess.run([*raysweep, "report"], cwd=folder, check=True)
        page = folder / "report.html"
        text = page.read_text(encoding="utf-8")
        rows = re.search(r'id="rows">(.*?)</script>', text, re.S)
        assert rows is not None
        print(f"page {page.stat().st_size / 1e6:.1f} MB, its rows {len(rows[1]) / 1e6:.1f} MB")
        times: dict[str, list[float]] = {"at once": [], "first": [], "second": [], "not slowed": [], "shell": []}
        with sync_playwright() as tools:
            browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            opened = browser.new_page()
            opened.goto(page.as_uri())
            (command,) = opened.locator("details.sql .notes code").first.all_text_contents()
            opened.close()
            for _ in range(options.rounds):
                times["at once"].append(answers(browser, f"{page.as_uri()}#at-once")[0])
                first, second = answers(browser, page.as_uri())
                times["first"].append(first)
                times["second"].append(second)
                times["not slowed"].append(answers(browser, page.as_uri(), 1)[0])
                began = time.perf_counter()
                words = [*raysweep, *shlex.split(command)[1:]]
                subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
                times["shell"].append(time.perf_counter() - began)
            browser.close()
        for column, seconds in times.items():
            print(f"{column:10} {statistics.median(seconds):5.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
