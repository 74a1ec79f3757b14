"""The rows that the page carries: the tables' queries give the same in SQLite as in DuckDB, and the size is bounded.

`test_report_page.py` runs the same queries in a browser.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
import sqlite3
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.analysis.report import build
from raysweep.analysis.report.data import rows_of
from raysweep.analysis.report.html import to_html
from raysweep.orchestrator.store.reader import Store

SQLITE = {
    "sql-wasm.js": "d6a9cc234ef1104c49d5c3756bc5c85e312213e9d072fdcdb4523089a51d0fcd",
    "sql-wasm.wasm": "6918fd54c1192011b85af0365a819411285bb5579b9ae6a7308778a1750a2765",
}
"""SHA-256 digests of the files of sql.js 1.17.0 as published."""


class Deviation:
    """`stddev` for Python's SQLite, as the page adds it to its own."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step(self, value: float | None) -> None:
        if value is not None:
            self.values.append(value)

    def finalize(self) -> float | None:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


def opened(text: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(gzip.decompress(base64.b64decode(text)))
    connection.create_aggregate("stddev", 1, Deviation)
    return connection


def queries(page: str) -> list[str]:
    """The SQL of all tables of a page."""
    return [html.unescape(sql) for sql in re.findall(r'<textarea aria-label="SQL: [^>]*>(.*?)</textarea>', page, re.S)]


def comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}"
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


@pytest.mark.parametrize("where", [None, "rate < 0.15"])
def test_each_tables_query_gives_the_same_in_sqlite_and_in_duckdb(store: Store, where: str | None) -> None:
    report = build.build(store, named="results", where=where)
    rows = rows_of(store, report.selected, report.keys)
    connection = opened(rows.text)
    asked = queries(to_html(report, rows))
    assert len(asked) == 7  # the best, two metrics, completeness, missing, machines, code; not that of a nasty name
    commands = re.findall(r"In a shell: <code>raysweep query (.*?)</code>", to_html(report, rows), re.S)
    for sql, command in zip(asked, commands, strict=True):
        answer = connection.execute(sql)
        (in_shell,) = re.fullmatch(r'"(.*)"', html.unescape(command), re.S).groups()  # type: ignore[union-attr]
        theirs = store.sql(re.sub(r'\\(["$`\\])', r"\1", in_shell))
        assert [name for name, *_ in answer.description] == theirs.columns
        assert answer.fetchall() == [tuple(map(comparable, row)) for row in theirs.rows()], sql


def test_the_page_has_all_columns_and_rows_of_cells_and_attempts(store: Store) -> None:
    rows = rows_of(store)
    connection = opened(rows.text)
    for table in ("cells", "attempts"):
        theirs = store.sql(f"SELECT * EXCLUDE (metrics) FROM {table} ORDER BY cell_id")
        ours = connection.execute(f"SELECT * FROM {table} ORDER BY cell_id")
        names = [name for name, *_ in ours.description]
        shared = [name for name in names if name in theirs.columns]
        assert set(theirs.columns) - set(names) <= {"traceback", "log_tail"}
        expected = theirs.select(shared).rows()
        places = [names.index(name) for name in shared]
        assert [tuple(row[i] for i in places) for row in ours] == [tuple(map(comparable, row)) for row in expected]
    assert connection.execute("SELECT count(*) FROM cells").fetchone() == (30,)


def test_rows_too_large_lose_columns_first_and_then_all(store: Store) -> None:
    whole = rows_of(store)
    fewer = rows_of(store, max_bytes=len(whole.text) - 1)
    assert set(whole.columns) - set(fewer.columns) == set(fewer.omitted)
    assert "finished_at" in fewer.omitted
    assert rows_of(store, max_bytes=100).text == ""
    report = build.build(store, named="results")
    assert "Left out, because the page would be too large: error_message" in to_html(report, fewer)
    assert "The rows are too many for a page" in to_html(report)


def test_sql_js_is_as_published() -> None:
    folder = files("raysweep.analysis.report").joinpath("sqlite")
    assert {name: hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in SQLITE} == SQLITE
    assert Path(str(folder), "LICENSE").is_file()
