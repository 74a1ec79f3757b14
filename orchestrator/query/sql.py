"""Stage 8: SQL -> frame. Tables `cells`, `attempts` and `arrays`, metrics and config keys as columns.

`cells` has one row a known cell: its done row, else its last attempt with its status, else `pending`.
The SQL is DuckDB's, in a database of its own that can reach no file and no network. Of the metric and
config columns only those that the SQL may reach are made, so that a million cells stay quick.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from dataclasses import replace

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.hints import advice, missing_column
from raysweep.orchestrator.query.widen import reachable, widen
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import CELLS
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.text import encodable

_SCHEMA = re.compile(r"\b(describe|desc|show|summarize|information_schema|duckdb_\w+)\b")


_SYSTEM_TABLES = re.compile(r'\s*Did you mean "(pg_|duckdb_|sqlite_|information_schema)[^"]*"\?')
"""What the database, which knows no better, takes for a table that was meant."""


def query(store: Store, sql: str) -> pl.DataFrame:
    """Answer one SQL statement.

    Raises:
        InputError: the SQL is wrong, with DuckDB's word on where.
        StoreDamaged: a file that it needs is.
    """
    if not sql.strip():
        raise InputError("the query is empty; try: SELECT * FROM cells LIMIT 5")
    if not encodable(sql):
        raise InputError("the query holds what is no Unicode text")
    low = sql.lower()
    schema = _SCHEMA.search(low)
    connection = _sandbox()
    try:
        if schema or "cells" in low:
            connection.register("cells", cells_frame(store, sql).to_arrow())
        if schema or "attempts" in low:
            attempts = store.collect(lambda: store.attempts)
            connection.register("attempts", widen(attempts, sql).to_arrow())
        if schema or "arrays" in low:
            connection.register("arrays", _arrays(store).to_arrow())
        _lock(connection)
        result = connection.sql(sql)
        if result is None:
            raise InputError("the statement returns no rows; only queries are answered: the store is never written")
        return _fetched(result)
    except duckdb.Error as error:
        known = cells_frame(store).columns
        told = _SYSTEM_TABLES.sub("", str(error)).partition("\nCandidate bindings")[0]
        said = f"SQL: {told}{advice(sql, error, known, connection.sql)}"
        if missing_column(error):
            said += f"\ncolumns of cells: {', '.join(known)}"
        raise InputError(said) from None
    finally:
        connection.close()


def _fetched(result: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """The rows; as text what a data frame can't hold: intervals, unions, times at or near infinity."""
    kinds = [str(kind) for kind in result.types]
    texts = [i for i, kind in enumerate(kinds) if re.search(r"\b(INTERVAL|UNION)\b", kind)]
    table = _cast(result, texts).to_arrow_table()
    infinite = [
        i for i, kind in enumerate(kinds) if re.match("DATE|TIMESTAMP", kind) and not kind.endswith("]")
        and _beyond(table.column(i))
    ]  # fmt: skip
    if infinite:
        table = _cast(result, [*texts, *infinite]).to_arrow_table()
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
    """Whether a date or time lies further from 1970 than calendars reckon."""
    per_day = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
    if pa.types.is_date32(column.type):
        limit, whole = 365 * _YEARS, pa.int32()
    elif pa.types.is_timestamp(column.type) and column.type.unit in per_day:
        limit, whole = 365 * _YEARS * per_day[column.type.unit], pa.int64()
    else:
        return False
    ends = pc.min_max(column.cast(whole)).as_py()
    return ends["max"] is not None and (ends["max"] > limit or ends["min"] < -limit)


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or with the first number that makes it another than those taken."""
    return next(n for n in itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1))) if n not in taken)


def cells_frame(store: Store, sql: str | None = None) -> pl.DataFrame:
    """The `cells` table: one row a known cell, wide.

    Args:
        store: where from.
        sql: make only the metric and config columns that it may reach; None makes all.
    """
    wanted = reachable(sql)
    kept = [name for name in CELLS.names if wanted is None or name in _ALWAYS or wanted(name)]
    done = store.collect(lambda: store.cells.select(kept)).unique("cell_id", keep="first", maintain_order=True)
    ids = done.select("cell_id")
    tried = store.collect(
        lambda: (
            store.attempts.filter(pl.col("status") != "done")  # of a half commit: pending, till it is mended
            .select(*kept, *_ERRORS)
            .join(ids.lazy(), on="cell_id", how="anti")
            .sort("attempt")
            .unique("cell_id", keep="last", maintain_order=True)
        )
    )
    frame = pl.concat(
        [
            done.with_columns(pl.lit(None, pl.String).alias(e) for e in _ERRORS),
            tried.select([*done.columns, *_ERRORS]),
        ]
    )
    known = store.known()
    known = replace(known, cells=known.cells.join(frame.select("cell_id"), on="cell_id", how="anti"))
    wide = known.wide()
    shared = [name for name in wide.columns if name in frame.columns and name != "source_digest"]
    pending = wide.select(shared).with_columns(status=pl.lit("pending"))
    made = widen(pl.concat([frame, pending], how="diagonal"), sql)
    return made if wanted is None else made.drop(name for name in ("metrics", "config") if not wanted(name))


_ALWAYS = frozenset({"cell_id", "attempt", "status", "metrics", "config"})  # what making the table takes
_ERRORS = ("error_type", "error_message")


_CHOICE = "SELECT cell_id, k IS NULL, ({}\n) FROM cells"


def matching(table: CellTable, summary: pl.DataFrame | None, where: str) -> tuple[pl.Series, str | None]:
    """Ids of the cells for which the predicate holds, and a warning where a null k dropped some.

    Raises:
        InputError: the predicate is wrong.
    """
    if not encodable(where):
        raise InputError(f"--where {where!r}: holds what is no Unicode text")
    wide = table.wide().drop("source_digest", "cost_hint")
    if summary is None:
        wide = wide.with_columns(status=pl.lit("pending"))
    else:
        wide = wide.join(summary.select("cell_id", "status"), on="cell_id", how="left", maintain_order="left")
        wide = wide.with_columns(pl.col("status").fill_null("pending"))
    connection = _sandbox()
    try:
        connection.register("cells", widen(wide, where).drop("config").to_arrow())
        _lock(connection)
        found = connection.sql(_CHOICE.format(where))
        parsed = found.fetchall() if found is not None and len(found.columns) == 3 else [("", False, "no condition")]
    except duckdb.Error as error:
        known = widen(wide).drop("config", "variant").columns
        first = str(error).splitlines()[0]
        hint = advice(where, error, known, lambda made: connection.sql(_CHOICE.format(made)))
        raise InputError(f"--where {where!r}: {first}{hint}; columns: {', '.join(known)}") from None
    finally:
        connection.close()
    if any(not isinstance(held, bool | None) for _, _, held in parsed):
        raise InputError(f'--where {where!r}: is no condition; write a comparison such as "k <= 8 and seed = 42"')
    kept = [cell_id for cell_id, _, held in parsed if held]
    dropped = sum(1 for _, no_k, held in parsed if no_k and held is None) if re.search(r"\bk\b", where.lower()) else 0
    warning = None
    if dropped:
        warning = f'--where: {dropped} cells without a k never match a condition on k; add "or k is null" to keep them'
    if not kept:
        raise InputError(f"--where {where!r}: none of the {len(table)} cells matches")
    return pl.Series("cell_id", kept, pl.String), warning


def _arrays(store: Store) -> pl.DataFrame:
    """Recorded arrays of done cells: those of the recorded attempt, and of no half-made commit."""
    return store.collect(
        lambda: store.arrays.join(
            store.cells.select("cell_id", "attempt"), on=["cell_id", "attempt"], how="semi", maintain_order="left"
        )
    )


def _sandbox() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"threads": "2"})


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on the SQL is the user's, or a stranger's: no files, no network, no loading of code."""
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
