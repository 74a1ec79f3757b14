"""Hostile names in a real Chromium: nothing in them runs, no request leaves the page, and they are shown as text.

Each of `NAMES` is a title, an experiment, a method, a config key and value, a metric, an array, printed text, a
traceback and a type of error. Skipped if Chromium is missing (Debian: `apt install chromium`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from raysweep import Sweep, launch
from raysweep.analysis.report import build
from raysweep.analysis.report.data import rows_of
from raysweep.analysis.report.html import to_html
from raysweep.analysis.report.markdown import to_markdown
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import printable
from tests.analysis.report.test_report_page import CHROMIUM, Opened, browser

__all__ = ["browser"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

TAGS = {"h1", "h2", "h3", "p", "ul", "li", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}
RUN = "window.owned=1"
NAMES = (
    f"</script><script>{RUN}</script>",
    f"</title></style></textarea><script>{RUN}</script>",
    f"\"><img src=x onerror='{RUN}'>",
    f"'><svg onload={RUN}>",
    "<img src=http://127.0.0.1:9/a><link rel=stylesheet href=//127.0.0.1:9/b>",
    f"<a href='javascript:{RUN}'>a</a><iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"--><!--<![CDATA[<script>{RUN}</script>",
    f"&lt;script&gt;{RUN}&lt;/script&gt; &#60;b&#62;",
    "{{ 7 * 7 }}{% raw %}${7 * 7}#{7 * 7}<%= 7 * 7 %>",
    f"'];{RUN};['",
    f'"+(function(){{{RUN}}})()+"',
    "a.b[c]\\'d\\\"`e`",
    f"[a](javascript:{RUN}) ![b](http://127.0.0.1:9/c) | **bold** `code`",
    "\u202egnp.exe\u2066 \u200b\u2028\u2029",
    "__proto__",
    "constructor",
    "toString",
)

WORKLOAD = """
NAMES = {names!r}


def run(cell, context):
    name = NAMES[cell.config["number"]]
    print(name)
    if cell.seed == 2:
        raise type(name, (Exception,), {{}})(name)
    context.array(name, [cell.seed + 1 / (1 + step) for step in range(20)])
    return {{name: 1.0 + cell.seed, "loss": 2.0 - cell.seed}}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose folder has a hostile name as well."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.py").write_text(WORKLOAD.format(names=NAMES), encoding="utf-8")
    sys.modules.pop("names", None)
    path = folder / f"<img src=x onerror={RUN}>"
    sweeps = []
    for number, name in enumerate(NAMES):
        text = json.dumps(name)
        (folder / f"{number}.toml").write_text(
            f'title = {text}\nexperiment = {text}\nworkload = "names:run"\nseeds = "0..2"\n[resources]\nretries = 0\n'
            f"[config]\nnumber = {number}\n"
            f"[[grid]]\nk = [1, 2]\nmethod = [{text}, 'plain']\n{text} = [{text}, 'plain']\n",
            encoding="utf-8",
        )
        sweeps.append(Sweep.load(folder / f"{number}.toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ended = launch(sweeps, path, inline=True)
    cells = len(NAMES) * 2 * 2 * 2 * 3
    assert (ended.asked, ended.done, ended.failed) == (cells, cells * 2 // 3, cells // 3)
    return path


@pytest.fixture(scope="module")
def opened(store: Path, browser: object) -> Iterator[Opened]:
    report = build.build(
        Store(store), named=str(store), title=NAMES[0], where=f"method <> '{NAMES[2].replace(chr(39), chr(39) * 2)}x'"
    )
    path = store.parent / "report.html"
    path.write_text(to_html(report, rows_of(Store(store), report.selected)), encoding="utf-8")
    page = Opened(browser, path, viewport={"width": 1200, "height": 900})
    page.page.on("dialog", lambda dialog: page.messages.append(f"dialog: {dialog.message}"))
    page.page.on("framenavigated", lambda frame: page.messages.append(f"navigated: {frame.url}"))
    yield page
    page.context.close()


def test_nothing_runs_and_no_request_leaves(opened: Opened) -> None:
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for query in ("", "</script>", "img src", "__proto__"):
        page.fill("#cell-filter input", query)
        buttons = page.locator("#cell-list button")
        for number in range(min(6, buttons.count())):
            buttons.nth(number).click()
            page.wait_for_function("document.querySelector('#cell').textContent.length > 0")
    page.wait_for_timeout(500)
    assert page.evaluate("typeof window.owned") == "undefined"
    assert page.evaluate("({}).number === undefined && ({}).plain === undefined")  # no prototype was changed
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [page.url]
    strange = "script[src], iframe, object, embed, link, base, form[action], a[href^='javascript'], [onerror], [onload]"
    assert page.locator(strange).count() == 0
    assert page.locator("main img:not([src^='data:'])").count() == 0


def test_names_are_shown_as_text(opened: Opened) -> None:
    shown = opened.page.evaluate("document.body.textContent")
    assert opened.page.title() == printable(NAMES[0])
    for name in NAMES:
        assert printable(name) in shown, name
    for character in "\u202e\u2066\u200b":
        assert character not in shown
    assert "49" not in opened.page.evaluate("document.querySelector('h1').textContent")


def test_a_cell_is_shown_with_all_its_names(opened: Opened) -> None:
    page = opened.page
    for name in NAMES:
        page.fill("#cell-filter input", f"{printable(name)} seed 2")
        assert page.locator("#cell-list button").count() > 0, name
        page.locator("#cell-list button").first.click()
        assert printable(name) in page.locator("#cell").inner_text().replace("\xa0", " "), name


def test_markdown_has_no_markup_of_theirs(store: Path) -> None:
    text = to_markdown(build.build(Store(store), named=str(store)))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert set(re.findall(r"<(\w+)", html)) <= TAGS
