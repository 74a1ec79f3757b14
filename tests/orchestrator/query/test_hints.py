"""Advice on SQL that DuckDB rejects names the cause, not another word of the query."""

from __future__ import annotations

import duckdb
import pytest

from raysweep.orchestrator.query.hints import advice

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
