"""`query` and `export`: described columns, saved queries, the prompt and its completion, exported cells."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.cli import query as query_commands
from raysweep.orchestrator.cli.terminal import saved
from raysweep.orchestrator.cli.terminal.prompt import SqlCompleter, run
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.catalog import columns
from raysweep.orchestrator.query.hints import identifier
from tests.conftest import SWEEP as TINY_SWEEP
from tests.conftest import TINY

WORKLOAD = """
    def run(cell, context):
        context.array("curve", [1.0, 2.0])
        if cell.seed == 2:
            raise ValueError("unlucky")
        return {"loss": cell.seed * 2.0, "order": 1.0}
"""
SWEEP = """
    name = "small"
    workload = "small:run"
    seeds = "0..2"
    [resources]
    retries = 0
    [[grid]]
    method = ["a", "b"]
    rate = 0.5
"""


@pytest.fixture
def store(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Store:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    write("small.py", WORKLOAD)
    launch(Sweep.load(write("small.toml", SWEEP)), "results", inline=True)
    return Store("results")


def test_every_column_is_described_as_sql_takes_it(store: Store) -> None:
    described = columns(store)
    rows = {(t, c): (kind, what) for t, c, kind, what in described.iter_rows()}
    assert rows["cells", "loss"] == ("number", "metric")
    assert rows["cells", '"order"'] == ("number", "metric")
    assert rows["cells", "rate"] == ("number", "config")
    assert rows["cells", "seed"] == ("integer", "identity")
    assert rows["cells", "started_at"] == ("time", "time")
    assert rows["attempts", "traceback"] == ("text", "status")
    assert rows["arrays", "values"] == ("list", "array")
    for table, part in described.group_by("table"):
        sql = f"SELECT {', '.join(part['column'])} FROM {table[0]}"
        assert store.sql(sql).width == part.height
        assert part.height == store.sql(f"SELECT * FROM {table[0]}").width  # and none is left out
    first = described.filter(table="cells")["what"].unique(maintain_order=True).to_list()
    assert first == ["identity", "status", "metric", "config", "time", "machine", "code", "list", "launch"]
    assert identifier('odd "name"') == '"odd ""name"""'


def test_queries_are_saved_by_name(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    query_commands.query("SELECT method, max(loss) AS worst FROM cells GROUP BY ALL ORDER BY ALL", save="worst")
    capsys.readouterr()
    query_commands.query("worst", as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"method": "a", "worst": 2.0}, {"method": "b", "worst": 2.0}]
    query_commands.query(saved=True, as_json=True)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["worst"]
    with pytest.raises(InputError, match="did you mean 'worst'"):
        query_commands.query("wort")
    with pytest.raises(InputError, match="use 1 to 64 letters"):
        query_commands.query("SELECT 1", save="../evil")
    with pytest.raises(InputError, match="nonsense"):
        query_commands.query("SELECT nonsense FROM cells", save="bad")
    assert saved.listed()["name"].to_list() == ["worst"]  # SQL that fails is not saved


def test_without_a_terminal_the_prompt_is_refused(store: Store, cli: Callable[..., Any]) -> None:
    ended = cli("query")
    assert ended.returncode == 2
    assert 'raysweep query "SELECT * FROM cells LIMIT 5"' in ended.stderr
    assert '"order"' in cli("query", "--describe").stdout


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_cells_are_exported_as_one_wide_frame(store: Store, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    query_commands.export(output=f"out.{ending}", where="method = 'a' and rate = 0.5")
    assert "3 cells" in capsys.readouterr().out
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "ndjson": pl.read_ndjson}[ending]
    frame = read(f"out.{ending}").sort("seed")
    assert frame["loss"].to_list() == [0.0, 2.0, None]
    assert frame["status"].to_list() == ["done", "done", "failed"]
    assert frame["rate"].to_list() == [0.5] * 3
    if ending != "ndjson":  # DuckDB's JSON reader is an extension, which it would download
        assert duckdb.sql(f"SELECT count(*), sum(loss) FROM 'out.{ending}'").fetchall() == [(3, 2.0)]


def test_an_export_refuses_unknown_formats_and_folders(store: Store) -> None:
    with pytest.raises(InputError, match=r"out\.xlsx"):
        query_commands.export(output="out.xlsx")
    with pytest.raises(InputError, match="No such file"):
        query_commands.export(output="nowhere/out.csv")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Store, str], None]]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):

        def play(store: Store, text: str) -> None:
            pipe.send_text(text)
            run(store)

        yield play


def test_the_prompt_answers_and_saves_and_survives_errors(
    store: Store, typed: Callable[[Store, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "SELECT nonsense FROM cells;", "save early", "SELECT count(*) AS many FROM cells;", "save many", "many",
        "describe arrays", "", "quit",
    ]  # fmt: skip
    typed(store, "".join(f"{line}\r" for line in lines))
    printed = capsys.readouterr()
    assert "nonsense" in printed.err
    assert "save: no query" in printed.err
    assert printed.out.count("many") >= 3
    assert "values_f64" in printed.out
    assert saved.listed().rows() == [("many", "SELECT count(*) AS many FROM cells")]


def test_ctrl_d_ends_the_prompt(store: Store, typed: Callable[[Store, str], None]) -> None:
    typed(store, "\x04")


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("SELECT lo", ["loss"]),
        ("SELECT c.lo", ["loss"]),
        ("SELECT or", ['"order"', "OR", "ORDER BY"]),
        ("SELECT 1 FROM ", ["cells", "arrays"]),
        ("SELECT 1 FROM c", ["cells"]),
        ("SELECT ", []),
        ("sel", ["SELECT"]),
    ],
)
def test_completion(before: str, offered: list[str]) -> None:
    completer = SqlCompleter({"cells": ["loss", '"order"', "method"], "arrays": ["name", "values"]})
    completions = list(completer.get_completions(Document(before), CompleteEvent()))
    assert sorted(c.text for c in completions) == sorted(offered)
    for completion in completions:
        completed = before[: len(before) + completion.start_position] + completion.text
        assert completed.startswith(before[: before.rfind(" ") + 1])


def test_texts_are_cut_only_as_far_as_rows_stay_distinct(capsys: pytest.CaptureFixture[str]) -> None:
    from raysweep.orchestrator.cli.terminal.output import print_frame

    long = "x" * 150
    print_frame(pl.DataFrame({"config": [long + "1", long + "2"], "n": [1, 1]}))
    letters = "".join(re.sub(r"[^x12…]", "", capsys.readouterr().out))
    assert "…" not in letters
    assert letters.count("x") == 300
    print_frame(pl.DataFrame({"config": [long + "1", long + "2"], "n": [1, 2]}))  # told apart by the other column
    assert capsys.readouterr().out.count("…") == 2


def test_text_in_csv_is_no_formula_for_a_spreadsheet(cli, write) -> None:
    sql = (
        "SELECT 1 AS n, '=cmd|''/C calc''!A0' AS \"=a\", '+1+1' AS b, '-2' AS c, -2 AS d, '@SUM(1)' AS e, "
        "chr(9) || '=1' AS f, chr(13) || '=1' AS g, 'a=b' AS h, NULL::VARCHAR AS i"
    )
    write("tiny.py", TINY)
    write("tiny.toml", TINY_SWEEP)
    cli("launch", "tiny.toml", "--inline")
    head, *rows = csv.reader(io.StringIO(cli("query", sql, "--format", "csv").stdout))
    assert head == ["n", "'=a", "b", "c", "d", "e", "f", "g", "h", "i"]
    assert rows == [["1", "'=cmd|'/C calc'!A0", "'+1+1", "-2", "-2", "'@SUM(1)", "'\t=1", "'\r=1", "a=b", ""]]
    raw, *_ = list(csv.DictReader(io.StringIO(cli("query", sql, "--format", "csv", "--raw").stdout)))
    assert (raw["=a"], raw["b"]) == ("=cmd|'/C calc'!A0", "+1+1")
    cli("export", "-o", "cells.csv")
    cli("query", "SELECT '=1' AS a", "--output", "a.csv")
    assert Path("a.csv").read_text() == "a\n'=1\n"
    assert cli("query", "SELECT '=1' AS a", "--format", "json").stdout.strip() == '[{"a":"=1"}]'


@pytest.mark.parametrize(
    "sql",
    [
        "PIVOT cells ON seed USING sum(1)",
        "SHOW TABLES",
        "VALUES (1)",
        "FROM cells",
        "EXPLAIN SELECT 1",
        "CREATE TEMP TABLE t AS SELECT 1; SELECT * FROM t",
    ],
)
def test_whatever_returns_rows_is_a_query(cli, write, sql: str) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", TINY_SWEEP)
    cli("launch", "tiny.toml", "--inline")
    assert cli("query", sql).returncode == 0
