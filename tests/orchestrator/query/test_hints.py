"""Advice on SQL that DuckDB rejects names the cause, not another word of the query."""

from __future__ import annotations

import duckdb
import pytest

from raysweep.orchestrator.query.hints import RESERVED, about_a_column, advice

COLUMNS = ["method", "config_loss", "metric_loss", "order", "k"]


def fails(sql: str) -> object:
    raise duckdb.Error(sql)


@pytest.mark.parametrize(
    ("sql", "error", "advised"),
    [
        (
            "SELECT avg(loss) FROM cells ORDER BY ALL",  # `order` is a column as well, but not the missing one
            'Binder Error: Referenced column "loss" not found in FROM clause!',
            "'config_loss' or 'metric_loss'",
        ),
        (
            "SELECT avg(loss) AS loss FROM cells",
            'Binder Error: Column "loss" referenced that exists in the SELECT clause - but',
            "'config_loss' or 'metric_loss'",
        ),
        ("SELECT order FROM cells", 'Parser Error: syntax error at or near "FROM"', 'write the column as "order"'),
    ],
)
def test_the_advice_is_about_the_column_that_is_missing(sql: str, error: str, advised: str) -> None:
    assert advised in advice(sql, duckdb.Error(error), COLUMNS, fails)


@pytest.mark.parametrize(
    ("sql", "table", "message"),
    [
        ("opt.nam = 'opt.na'", "opt", 'Referenced column "opt.nam" not found'),
        ("SELECT 'opt.x', opt.lar FROM cells", "opt", 'Referenced column "opt.lar" not found'),
        ("otp.name = 'sgd'", "otp", 'Referenced column "otp.name" not found'),
        ("SELECT c.k FROM cells AS d", "c", 'Referenced table "c" not found!'),
    ],
)
def test_a_misspelt_nested_setting_is_no_table(sql: str, table: str, message: str) -> None:
    columns = [*COLUMNS, "opt.name", "opt.lr"]
    error = about_a_column(sql, duckdb.Error(f'Binder Error: Referenced table "{table}" not found!'), columns)
    assert message in str(error)
    near = {"opt.nam": "opt.name", "otp.name": "opt.name", "opt.lar": "opt.lr"}
    assert advice(sql, error, columns, fails) == next(
        (f" (did you mean {name!r}?)" for wrong, name in near.items() if wrong in sql), ""
    )


def test_the_reserved_words_are_duckdbs() -> None:
    query = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    assert {word for (word,) in duckdb.connect(":memory:").execute(query).fetchall()} <= RESERVED
