"""The page of `raysweep serve` in a real Chromium, while a launch writes the store.

Skipped where there is no Chromium (Debian: `apt install chromium`).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysweep.orchestrator.cli.server import Server, Site, server
from raysweep.orchestrator.store.reader import Store
from tests.analysis.report.test_report_page import CHROMIUM, browser
from tests.conftest import environment

__all__ = ["browser"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

WORKLOAD = """
import time


def run(cell, context):
    print("printed <b>by</b> seed", cell.seed)
    (context.folder / "note.txt").write_text(f"note {cell.seed}")
    for step in range(60):
        time.sleep(0.1)
        context.log(step, loss=1 / (1 + step))
        context.progress((step + 1) / 60)
    if cell.seed == 1:
        raise ValueError("unlucky <img src=x onerror='document.title=1'>")
    return {"loss": cell.seed * 0.5 + cell.config["lr"]}
"""
SWEEP = """
name = "slow"
workload = "slowly:run"
seeds = "0..2"
[resources]
retries = 0
[[grid]]
method = "sgd"
lr = [0.1, 0.2]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that a launch in another process writes."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "slowly.py").write_text(WORKLOAD, encoding="utf-8")
    (folder / "slow.toml").write_text(SWEEP, encoding="utf-8")
    command = [sys.executable, "-m", "raysweep", "launch", "slow.toml"]
    with subprocess.Popen(command, env=environment(), cwd=folder, stdout=subprocess.DEVNULL) as launched:
        store = Store(folder / "results")
        while not (store.exists() and store.live()):
            assert launched.poll() is None
            time.sleep(0.2)
        yield store
        launched.terminate()


@pytest.fixture(scope="module")
def listening(running: Store) -> Iterator[Server]:
    with server(Site(running, named="results"), "127.0.0.1", 0, "secret") as started:
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def test_the_page_lives_while_the_store_is_written(browser: Any, listening: Server, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"http://127.0.0.1:{listening.server_address[1]}/secret/")
    live = page.locator("#live")
    live.locator(".running polyline").first.wait_for()
    assert "slow/sgd/seed=" in live.locator(".running li").first.inner_text()
    first = live.locator(".running li div").first.inner_text()  # loss ... at step ...
    assert first.startswith("loss ")
    page.wait_for_function("(before) => document.querySelector('.running li div')?.textContent !== before", arg=first)
    live.locator(".running button").first.click()
    live.locator(".looked pre").wait_for()
    assert "printed <b>by</b> seed" in live.locator(".looked pre").inner_text()
    page.get_by_role("button", name="Show the new results").wait_for(timeout=60_000)
    page.get_by_role("button", name="Show the new results").click()
    page.wait_for_selector(".experiment .board")
    page.wait_for_function(
        "document.querySelector('#live .counts').textContent.startsWith('4 of 6 cells done, 0 running, 2 failed')",
        timeout=120_000,
    )
    assert "unlucky <img src=x" in live.locator(".recent").inner_text()
    assert page.title() == "Sweep results: results"
    cell = page.evaluate('raysweepAsk("SELECT cell_id FROM cells WHERE seed = 2 AND lr = 0.1")')["rows"][0][0]
    live.locator("input").fill(cell[:10])
    live.get_by_role("button", name="Show", exact=True).click()
    with page.expect_download() as download:
        live.get_by_role("link", name="note.txt").click()
    download.value.save_as(tmp_path / "note.txt")
    assert (tmp_path / "note.txt").read_text() == "note 2"
    page.locator("#ask ~ form textarea").fill("SELECT name, count(*) FROM arrays GROUP BY 1")
    page.locator("#ask ~ form").get_by_role("button", name="Run").click()
    page.locator("#ask ~ form table").wait_for()
    assert page.locator("#ask ~ form tbody").inner_text().split() == ["loss", "4"]
    assert messages == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_fits_a_telephone(browser: Any, listening: Server, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(viewport={"width": 400, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{listening.server_address[1]}/secret/")
    page.wait_for_function("document.querySelector('#live .counts').textContent.includes('cells done')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    violations = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in violations if v["impact"] in {"serious", "critical"}] == []
    context.close()
