"""Stage 8: SQL -> frame. Tables `cells`, `attempts` and `arrays`, metrics and config keys as columns.

`cells` has one row a known cell: its done row, else its last attempt with its status, else `pending`.
The SQL is DuckDB's, in a database of its own that can reach no file and no network. Only the metric and
config columns that the SQL mentions are made, so that a million cells stay quick.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import duckdb
import numpy as np
import polars as pl

from orchestrator.cells import CellTable
from orchestrator.errors import InputError
from orchestrator.store import Store

ASKS_FOR_SCHEMA = {"describe", "desc", "show", "summarize", "information_schema", "duckdb_columns", "duckdb_tables"}


def query(store: Store, sql: str) -> pl.DataFrame:
    """Answer one SQL statement.

    Raises:
        InputError: the SQL is wrong, with DuckDB's word on where.
    """
    if not sql.strip():
        raise InputError("the query is empty; try: SELECT * FROM cells LIMIT 5")
    words = _words(sql)
    if words & ASKS_FOR_SCHEMA:
        words |= {"*", "cells", "attempts", "arrays"}
    connection = _sandbox()
    try:
        if "cells" in words:
            connection.register("cells", cells_frame(store, words).to_arrow())
        if "attempts" in words:
            connection.register("attempts", widen(store.attempts.collect(), words).to_arrow())
        if "arrays" in words:
            connection.register("arrays", _arrays(store).to_arrow())
        _lock(connection)
        result = connection.sql(sql)
        if result is None:
            raise InputError("the statement returns no rows; only queries are answered: the store is never written")
        answer = pl.from_arrow(result.to_arrow_table())
        return answer if isinstance(answer, pl.DataFrame) else answer.to_frame()
    except duckdb.BinderException as error:
        raise InputError(f"SQL: {error}\ncolumns of cells: {', '.join(cells_frame(store).columns)}") from None
    except duckdb.Error as error:
        raise InputError(f"SQL: {error}") from None
    finally:
        connection.close()


def cells_frame(store: Store, words: Iterable[str] | None = None) -> pl.DataFrame:
    """The `cells` table: one row a known cell, wide.

    Args:
        store: where from.
        words: make only the metric and config columns named here; None makes all.
    """
    done = store.cells.collect().unique("cell_id", keep="first", maintain_order=True)
    tried = (
        store.attempts.join(done.lazy().select("cell_id"), on="cell_id", how="anti")
        .sort("attempt")
        .unique("cell_id", keep="last", maintain_order=True)
        .collect()
    )
    errors = ["error_type", "error_message"]
    frame = pl.concat(
        [
            done.with_columns(pl.lit(None, pl.String).alias(e) for e in errors),
            tried.select([*done.columns, *errors]),
        ]
    )
    known = store.known().wide().join(frame.select("cell_id"), on="cell_id", how="anti")
    shared = [name for name in known.columns if name in frame.columns and name != "source_digest"]
    pending = known.select(shared).with_columns(status=pl.lit("pending"))
    return widen(pl.concat([frame, pending], how="diagonal"), words)


def matching(table: CellTable, summary: pl.DataFrame | None, where: str) -> tuple[pl.Series, str | None]:
    """Ids of the cells for which the predicate holds, and a warning where a null k dropped some.

    Raises:
        InputError: the predicate is wrong.
    """
    words = _words(where)
    wide = table.wide().drop("source_digest", "cost_hint")
    if summary is None:
        wide = wide.with_columns(status=pl.lit("pending"))
    else:
        wide = wide.join(summary.select("cell_id", "status"), on="cell_id", how="left", maintain_order="left")
        wide = wide.with_columns(pl.col("status").fill_null("pending"))
    connection = _sandbox()
    try:
        connection.register("cells", widen(wide, words).drop("config").to_arrow())
        _lock(connection)
        parsed = connection.execute(f"SELECT cell_id, k IS NULL, ({where}\n) FROM cells").fetchall()  # noqa: S608 - sandboxed
    except duckdb.Error as error:
        columns = ", ".join(widen(wide).drop("config").columns)
        raise InputError(f"--where {where!r}: {str(error).splitlines()[0]}; columns: {columns}") from None
    finally:
        connection.close()
    if any(not isinstance(held, bool | None) for _, _, held in parsed):
        raise InputError(f'--where {where!r}: is no condition; write a comparison such as "k <= 8 and seed = 42"')
    kept = [cell_id for cell_id, _, held in parsed if held]
    dropped = sum(1 for _, no_k, held in parsed if no_k and held is None) if "k" in words else 0
    warning = None
    if dropped:
        warning = f'--where: {dropped} cells without a k never match a condition on k; add "or k is null" to keep them'
    if not kept:
        raise InputError(f"--where {where!r}: none of the {len(table)} cells matches")
    return pl.Series("cell_id", kept, pl.String), warning


def widen(frame: pl.DataFrame, words: Iterable[str] | None = None) -> pl.DataFrame:
    """Metrics and config keys as columns; on a clash `metric_X`, `config_X`. The lists themselves stay."""
    wanted = None if words is None or "*" in set(words) else set(words)
    metrics = _metric_columns(frame["metrics"]) if "metrics" in frame.columns else {}
    configs = _config_columns(frame["config"]) if "config" in frame.columns else {}
    columns = []
    for prefix, made, others in (("config", configs, metrics), ("metric", metrics, configs)):
        for name, series in made.items():
            clash = name.lower() in {c.lower() for c in frame.columns} | {o.lower() for o in others}
            label = f"{prefix}_{name}" if clash else name
            if wanted is None or {label.lower(), name.lower()} & wanted:
                columns.append(series.alias(label))
    return frame.with_columns(columns)


def _metric_columns(metrics: pl.Series) -> dict[str, pl.Series]:
    """One float column a metric, null where a cell has none; by one pass over the flat list."""
    counts = metrics.list.len().fill_null(0).to_numpy()
    flat = metrics.drop_nulls().list.explode(empty_as_null=False) if counts.sum() else None
    if flat is None:
        return {}
    rows = np.repeat(np.arange(len(metrics)), counts)
    names, values = flat.struct.field("name").cast(pl.Categorical), flat.struct.field("value").to_numpy()
    codes = names.to_physical().to_numpy()
    made = {}
    for name in sorted(names.unique().cast(pl.String).to_list()):
        mask = codes == codes[(names == name).arg_true()[0]]
        column = np.full(len(metrics), np.nan)
        column[rows[mask]] = values[mask]
        made[name] = pl.Series(name, column).fill_nan(None)  # recorded metrics are finite
    return made


def _config_columns(config: pl.Series) -> dict[str, pl.Series]:
    """One column a config key, parsed once a distinct config; mixed types widen to text."""
    distinct = config.unique(maintain_order=True)
    parsed = [json.loads(text) if text else {} for text in distinct]
    index = pl.DataFrame({"config": config}).join(
        pl.DataFrame({"config": distinct}).with_row_index("at"), on="config", how="left", nulls_equal=True,
        maintain_order="left",
    )["at"]  # fmt: skip
    return {key: _typed(key, [p.get(key) for p in parsed])[index] for key in sorted({k for p in parsed for k in p})}


def _typed(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(v) for v in values if v is not None}
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {int}:
        return pl.Series(name, values, pl.Int64)
    if kinds and kinds <= {int, float}:
        return pl.Series(name, values, pl.Float64, strict=False)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pl.Series(name, texts, pl.String)


def _arrays(store: Store) -> pl.DataFrame:
    """Recorded arrays: of a done cell those of its recorded attempt alone."""
    arrays = store.arrays.collect()
    done = store.cells.select("cell_id", kept="attempt").collect()
    joined = arrays.join(done, on="cell_id", how="left", maintain_order="left")
    return joined.filter(pl.col("kept").is_null() | (pl.col("kept") == pl.col("attempt"))).drop("kept")


def _words(sql: str) -> set[str]:
    return {word.lower() for word in re.findall(r"\w+", sql)} | ({"*"} if "*" in sql else set())


def _sandbox() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"threads": "2"})


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on the SQL is the user's, or a stranger's: no files, no network, no loading of code."""
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
