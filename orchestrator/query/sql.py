"""Stage 8, queries: SQL over a store's tables (`SQL_TABLES`), with metrics and config keys as columns.

`cells` has one row per requested cell: the row of its done attempt, otherwise of its last attempt, otherwise a row of
status `pending`. The SQL is DuckDB's. Its in-memory database cannot access files or the network. Only the metric and
config columns that the SQL may reach are built, so that queries over a million cells stay fast.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import duckdb
import polars as pl
import pyarrow as pa

from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.query.hints import about_a_column, advice, missing_column
from raysweep.orchestrator.query.stream import ArrayStream
from raysweep.orchestrator.query.widen import reachable, widen
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS, CELLS
from raysweep.orchestrator.sweep.cells import LATER, CellTable
from raysweep.orchestrator.sweep.grammar.conditions import quoted_names
from raysweep.orchestrator.text import encodable, short_repr
from raysweep.workloads.registry import shortened

_SCHEMA = re.compile(r"\b(describe|desc|show|summarize|information_schema|duckdb_\w+)\b")
_MAX_REASON = 2000
_SYSTEM_TABLES = re.compile(r'\s*Did you mean "(pg_|duckdb_|sqlite_|information_schema)[^"]*"\?')
"""Pattern of a suggestion by DuckDB to use one of its system tables. It is removed from messages."""


_MAX_TRIES = 100
"""Maximum number of tries of a query. A try fails if a launch merges the segments that the query reads."""


def query(store: Store, sql: str) -> pl.DataFrame:
    """Execute one SQL query, and return its rows.

    Raises:
        InputError: the SQL is invalid. The message is DuckDB's, with advice.
        StoreDamaged: a file that the query reads is damaged, or all tries failed (`_MAX_TRIES`).
    """
    for _ in range(_MAX_TRIES):
        with contextlib.suppress(_Gone), _result(store, sql) as (result, _):
            return _fetched(result)
    raise StoreDamaged(f"{store.storage}: its files change faster than they can be read")


def first_rows(store: Store, sql: str, most: int, seconds: float) -> pl.DataFrame:
    """Execute one SQL query within a time limit, and return its first rows.

    Args:
        store: the store.
        sql: the query.
        most: maximum number of rows.
        seconds: time limit of the query itself, without the reading of its tables.

    Raises:
        InputError: the SQL is invalid, or takes too long.
        StoreDamaged: a file that the query reads is damaged.
    """
    for _ in range(_MAX_TRIES):
        with contextlib.suppress(_Gone), _result(store, sql, seconds) as (result, _):
            return _fetched(result.limit(most))
    raise StoreDamaged(f"{store.storage}: its files change faster than they can be read")


def in_parts(store: Store, sql: str) -> Iterator[pl.DataFrame]:
    """Execute one SQL query, and yield its rows. Rows with lists, such as those of `arrays`, come as several frames.

    Raises:
        InputError: the SQL is invalid, or a launch has merged files that the query was reading; run the query again.
        StoreDamaged: a file that the query reads is damaged.
    """
    try:
        with _result(store, sql) as (result, rows):
            kinds = [str(kind) for kind in result.types]
            is_long = any(kind.endswith("[]") for kind in kinds)
            if rows is not None and is_long and not any(re.search("DATE|TIME|INTERVAL|UNION", kind) for kind in kinds):
                empty = True
                for batch in result.to_arrow_reader(rows):
                    empty = False
                    yield _frame(pa.Table.from_batches([batch]))
                if not empty:
                    return
            yield _fetched(result)
    except _Gone:
        raise InputError("a running launch has merged files that this query was reading; run it again") from None


class _Gone(Exception):
    """A launch merged a file into another one before this query had read it."""


@contextlib.contextmanager
def _result(
    store: Store, sql: str, seconds: float | None = None
) -> Iterator[tuple[duckdb.DuckDBPyRelation, int | None]]:
    """Provide a query's result, whose rows are not computed yet, and how many rows of `arrays` to read at once.

    The number is None if the query does not use `arrays`. After `seconds`, if given, the query is interrupted.
    """
    if not sql.strip():
        raise InputError("the query is empty; try: SELECT * FROM cells LIMIT 5")
    if not encodable(sql):
        raise InputError("the query contains NUL or invalid Unicode")
    low = sql.lower()
    schema = _SCHEMA.search(low)
    arrays: ArrayStream | None = None
    connection = _sandbox()
    limit = threading.Timer(seconds or 0, connection.interrupt)
    dotted: set[str] = set()  # columns of nested settings
    try:
        for name, frame in SQL_TABLES.items():
            if schema or re.search(rf"\b{name}\b", low):
                rows = frame(store, sql)
                dotted.update(column for column in rows.columns if "." in column)
                connection.register(name, rows.to_arrow())
        if schema or re.search(r"\barrays\b", low):
            reaches = reachable(sql)
            arrays = ArrayStream(store, [name for name in ARRAYS.names if reaches is None or reaches(name)])
            connection.register("arrays", arrays)
        _lock(connection)
        sql = quoted_names(sql, dotted)
        _refuse_commands(connection, sql)
        if seconds is not None:
            limit.daemon = True
            limit.start()
        result = connection.sql(sql)
        if result is None:
            raise InputError("the statement returns no rows; only queries are answered: the store is never written")
        yield result, None if arrays is None else arrays.rows_at_once()
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if arrays is not None and arrays.problem is not None:
            raise (_Gone() if isinstance(arrays.problem, FileNotFoundError) else arrays.problem) from None
        if not isinstance(error, duckdb.Error):
            raise
        if isinstance(error, duckdb.InterruptException):
            raise InputError(f"SQL: stopped after {seconds:g} s") from None
        columns = cells_frame(store).columns
        error = about_a_column(sql, error, columns)
        reason = _SYSTEM_TABLES.sub("", str(error)).partition("\nCandidate bindings")[0]
        message = f"SQL: {reason[:_MAX_REASON]}{advice(sql, error, columns, connection.sql)}"
        if missing_column(error):
            message += f"\ncolumns of cells: {', '.join(columns)}"
        raise InputError(message) from None
    finally:
        limit.cancel()
        connection.close()


def _refuse_commands(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise InputError if the last statement is not a query.

    Statements such as `create` would succeed, but would not change the store.
    """
    statements = connection.extract_statements(sql)
    if statements and statements[-1].type.name not in _QUERIES:
        text = statements[-1].query.strip()
        word = text.split(maxsplit=1)[0].upper()
        remedy = "; to write a file, add --output FILE to a query" if word in {"COPY", "EXPORT"} else ""
        raise InputError(
            f"SQL: {shortened(text)}: {word} changes nothing: the store is never written, only queries are answered"
            f"{remedy}"
        )


_QUERIES = frozenset({"SELECT", "EXPLAIN", "EXECUTE", "CALL", "PRAGMA", "RELATION", "MULTI"})  # the last: PIVOT
"""Kinds of statements that only return rows, by DuckDB's names."""


def _fetched(result: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Fetch a query's rows. Intervals, unions and extreme dates become text, since a data frame cannot hold them."""
    kinds = [str(kind) for kind in result.types]
    texts = [i for i, kind in enumerate(kinds) if re.search(r"\b(INTERVAL|UNION)\b", kind)]
    table = _cast(result, texts).to_arrow_table()
    infinite = [
        i for i, kind in enumerate(kinds) if re.match("DATE|TIMESTAMP", kind) and not kind.endswith("]")
        and _beyond(table.column(i))
    ]  # fmt: skip
    if infinite:
        table = _cast(result, [*texts, *infinite]).to_arrow_table()
    return _frame(table)


def _frame(table: pa.Table) -> pl.DataFrame:
    names: list[str] = []
    for name in table.column_names:
        names.append(_free(name, set(names)))
    answer = pl.from_arrow(table.rename_columns(names))
    return answer if isinstance(answer, pl.DataFrame) else answer.to_frame()


def _cast(result: duckdb.DuckDBPyRelation, texts: list[int]) -> duckdb.DuckDBPyRelation:
    if not texts:
        return result
    quoted = [name.replace('"', '""') for name in result.columns]
    return result.project(
        ", ".join(
            f'{f"CAST(#{i + 1} AS VARCHAR)" if i in texts else f"#{i + 1}"} AS "{n}"' for i, n in enumerate(quoted)
        )
    )


_YEARS = 250_000


def _beyond(column: pa.ChunkedArray) -> bool:
    """Tell whether a column has a date or time outside the calendars of Python and polars."""
    per_day = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
    if pa.types.is_date32(column.type):
        limit, whole = 365 * _YEARS, pa.int32()
    elif pa.types.is_timestamp(column.type) and column.type.unit in per_day:
        limit, whole = 365 * _YEARS * per_day[column.type.unit], pa.int64()
    else:
        return False
    import pyarrow.compute as pc  # takes 0.05 s

    ends = pc.min_max(column.cast(whole)).as_py()
    return ends["max"] is not None and (ends["max"] > limit or ends["min"] < -limit)


def _free(name: str, taken: Collection[str]) -> str:
    """Return the name; if it is taken, append the lowest number that makes it free."""
    return next(n for n in itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1))) if n not in taken)


def cells_frame(store: Store, sql: str | None = None) -> pl.DataFrame:
    """Build the `cells` table: one row per requested cell, with metrics and config keys as columns.

    Args:
        store: the store.
        sql: a query. Only the metric and config columns that it may reach are built; None builds all.
    """
    reaches = reachable(sql)
    columns = [name for name in CELLS.names if reaches is None or name in _ALWAYS or reaches(name)]
    done = store.collect(lambda: store.cells.select(columns)).unique("cell_id", keep="first", maintain_order=True)
    ids = done.select("cell_id")
    tried = store.collect(
        lambda: (
            store.attempts.filter(pl.col("status") != "done")  # done, but not in `cells`: a half commit, still pending
            .select(*columns, *_ERRORS)
            .join(ids.lazy(), on="cell_id", how="anti")
            .sort("attempt")
            .unique("cell_id", keep="last", maintain_order=True)
        )
    )
    done = done.with_columns(pl.lit(None, pl.String).alias(e) for e in _ERRORS)
    frame = pl.concat([done, tried.select(done.columns)])
    known = store.known()
    known = replace(known, cells=known.cells.join(frame.select("cell_id"), on="cell_id", how="anti"))
    wide = known.wide()
    shared = [name for name in wide.columns if name in frame.columns and name != "source_digest"]
    pending = wide.select(shared).with_columns(status=pl.lit("pending"))
    texts = _texts(store)
    table = widen(pl.concat([frame, pending], how="diagonal"), sql, texts)
    return table if reaches is None else table.drop(name for name in ("metrics", "config") if not reaches(name))


_ALWAYS = frozenset({"cell_id", "attempt", "status", "metrics", "config"})  # required to build the table
_ERRORS = ("error_type", "error_message")


_CHOICE = "SELECT cell_id, k IS NULL, ({}\n) FROM cells"


def matching(table: CellTable, summary: pl.DataFrame, where: str) -> tuple[pl.Series, str | None]:
    """Return the ids of the cells for which an SQL predicate is true, and a warning or None.

    The warning counts the cells without k that a condition on k excluded.

    Raises:
        InputError: the predicate is invalid, or true for no cell.
    """
    shown = short_repr(where)
    if not encodable(where):
        raise InputError(f"--where {shown}: contains NUL or invalid Unicode")
    wide = table.wide().drop("source_digest", "cost_hint", *LATER)  # LATER: names that settings may have
    wide = wide.join(summary.select("cell_id", "status"), on="cell_id", how="left", maintain_order="left")
    wide = wide.with_columns(pl.col("status").fill_null("pending"))
    connection = _sandbox()
    try:
        frame = widen(wide, where).drop("config")
        connection.register("cells", frame.to_arrow())
        _lock(connection)
        result = connection.sql(_CHOICE.format(quoted_names(where, frame.columns)))
        rows = result.fetchall() if result is not None and len(result.columns) == 3 else [("", False, "no condition")]
    except duckdb.Error as error:
        columns = widen(wide).drop("config", "variant").columns
        error = about_a_column(where, error, columns)
        line = shortened(str(error).splitlines()[0])
        first = line.replace('at or near ")"', "at its end").rstrip("!")  # the bracket is ours
        hint = advice(where, error, columns, lambda predicate: connection.sql(_CHOICE.format(predicate)))
        raise InputError(f"--where {shown}: {first}{hint}; columns: {', '.join(columns)}") from None
    finally:
        connection.close()
    if any(not isinstance(value, bool | None) for _, _, value in rows):
        raise InputError(f'--where {shown}: is not a condition; write a comparison such as "k <= 8 and seed = 42"')
    matches = [cell_id for cell_id, _, value in rows if value]
    without_k = sum(1 for _, no_k, value in rows if no_k and value is None) if re.search(r"\bk\b", where.lower()) else 0
    warning = None
    if without_k:
        warning = f'--where: {without_k} cells without k never match a condition on k; add "or k is null" to keep them'
    if not matches:
        raise InputError(f"--where {shown}: none of the {len(table):,} cells matches")
    return pl.Series("cell_id", matches, pl.String), warning


def attempts_frame(store: Store, sql: str | None = None) -> pl.DataFrame:
    """Build the `attempts` table: one row per attempt that has ended, with metrics and config keys as columns."""
    return widen(store.collect(lambda: store.attempts), sql, _texts(store))


def _texts(store: Store) -> pl.DataFrame:
    return store.collect(lambda: store.scan("texts"))


def _attempt_arrays(store: Store, sql: str | None = None) -> pl.DataFrame:
    """Build the `attempt_arrays` table: the arrays of every attempt that has ended, with the attempt's status."""
    return store.collect(lambda: _of_attempts(store, store.arrays))


def _logs(store: Store, sql: str | None = None) -> pl.DataFrame:
    return store.collect(lambda: _of_attempts(store, store.logs))


def _of_attempts(store: Store, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the rows whose attempt has ended, and add the attempt's status."""
    status = store.attempts.select("cell_id", "attempt", "status")
    return rows.join(status, on=["cell_id", "attempt"], how="inner", maintain_order="left")


def live_frame(store: Store, sql: str | None = None) -> pl.DataFrame:
    """Build the `live` table: one row per value that running cells have logged so far.

    Columns: cell_id, attempt, step, name, value, logged_at (UTC).
    """
    rows = [
        (state.cell_id, state.attempt, step, name, value, at)
        for state in store.live()
        for name, curve in state.curves.items()
        for step, value, at in zip(curve.steps, curve.values, curve.times, strict=True)
    ]
    schema = {
        "cell_id": pl.String, "attempt": pl.Int32, "step": pl.Int64, "name": pl.String, "value": pl.Float64,
        "logged_at": pl.Float64,
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns((pl.col("logged_at") * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC")))


SQL_TABLES: dict[str, Callable[[Store, str | None], pl.DataFrame]] = {
    "cells": cells_frame,
    "attempts": attempts_frame,
    "attempt_arrays": _attempt_arrays,
    "live": live_frame,
    "logs": _logs,
    "artifacts": lambda store, sql: store.artifacts(),
}
"""Name of a table in SQL -> function that builds it for a query; `arrays` is read as a stream instead."""


def _sandbox() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"threads": "2"})


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Forbid queries to access files, the network and Python variables, since their SQL may come from a stranger."""
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
