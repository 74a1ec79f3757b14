"""The rows that the page carries, as an SQLite file: tables `cells` and `attempts`, as in `raysweep query`.

Text that many cells share lies in two tables of its own, so that the file is small; `cells` and `attempts` are views.
"""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from raysweep.orchestrator.query.sql import attempts_frame, cells_frame
from raysweep.orchestrator.store.reader import Store

MAX_BYTES = 19 * 2**19
"""Maximum size of the rows in the page, compressed and as base64."""
MAX_COLUMNS = 1_900
"""Maximum number of columns; SQLite has no more than 2,000."""
_SETTINGS = ("sweep", "workload", "workload_version", "config")
"""Columns that the cells of a variant share."""
_RUNS = (
    "host", "node_id", "pid", "device", "cpus", "gpus", "git_commit", "git_dirty", "source_digest", "source_path",
    "packages", "epoch", "schema_version",
)  # fmt: skip
"""Columns that the cells of a worker share."""
_MAX_INDEX = 8
"""Maximum number of columns of the index."""
_LAST = ("_runs", "attempt", "seconds", "cpu_seconds", "peak_rss_mib", "started_at", "finished_at", "error_type",
         "error_message", "cell_id")  # fmt: skip
"""Columns at the end of a row, as few queries use them."""
_LARGE = ("error_message", "started_at", "finished_at", "cpu_seconds", "peak_rss_mib")
"""Columns that are left out if the rows are too large with them."""


class Rows(NamedTuple):
    """The rows of the page.

    Args:
        text: the SQLite file, compressed by gzip, as base64; empty if it would be too large.
        columns: the columns of `cells`, in order.
        omitted: columns that are left out because the file would be too large with them.
    """

    text: str
    columns: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()


def rows_of(
    store: Store, selected: pl.Series | None = None, keys: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> Rows:
    """Write the cells and attempts of a store into an SQLite file.

    Args:
        store: the store.
        selected: ids of the cells; None: all.
        keys: columns by which queries group; they get an index.
        max_bytes: maximum size of the result's text.
    """
    cells, attempts = cells_frame(store), attempts_frame(store)
    if selected is not None:
        cells, attempts = (frame.filter(pl.col("cell_id").is_in(selected.implode())) for frame in (cells, attempts))
    earlier = attempts.join(cells.select("cell_id", "attempt"), on=["cell_id", "attempt"], how="anti")
    cells = cells.drop("metrics")
    if len(cells.columns) > MAX_COLUMNS:
        return Rows("")
    rows = pl.concat(
        [cells.with_columns(is_cell=pl.lit(1)), earlier.select(
            *(pl.col(name) if name in earlier.columns else pl.lit(None, kind).alias(name)
              for name, kind in cells.schema.items()),
            is_cell=pl.lit(0),
        )],
        how="vertical_relaxed",
    )  # fmt: skip
    omitted: tuple[str, ...] = ()
    while True:
        kept = rows.drop(name for name in omitted if name in rows.columns)
        text = base64.b64encode(gzip.compress(database(kept, keys), 6)).decode()
        if len(text) <= max_bytes:
            return Rows(text, tuple(name for name in kept.columns if name != "is_cell"), omitted)
        if omitted:
            return Rows("")
        omitted = tuple(name for name in _LARGE if name in rows.columns)


def database(rows: pl.DataFrame, keys: Sequence[str] = ()) -> bytes:
    """Write rows into an SQLite file. `is_cell` is 1 in the rows of `cells`, and 0 in further rows of `attempts`."""
    columns = [name for name in rows.columns if name != "is_cell"]
    rows = rows.select(*(_storable(rows[name]) for name in rows.columns))
    shared: dict[str, list[str]] = {}
    frames: dict[str, pl.DataFrame] = {}
    for table, names in (("_settings", _SETTINGS), ("_runs", _RUNS)):
        shared[table] = [name for name in names if name in columns]
        if not shared[table]:
            continue
        frames[table] = rows.select(shared[table]).unique(maintain_order=True).with_row_index(table)
        rows = rows.join(
            frames[table], on=shared[table], how="left", nulls_equal=True, maintain_order="left"
        ).drop(shared[table])  # fmt: skip
    last = [name for name in _LAST if name in rows.columns]  # SQLite reads a row from its beginning
    index = [name for name in ("experiment", "status", *keys) if name in rows.columns][:_MAX_INDEX]
    rows = rows.sort(index, maintain_order=True)  # as the index, so that reading by it is reading in order
    frames["_rows"] = rows.select(*(name for name in rows.columns if name not in last), *last)
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA page_size = 8192")
    for table, frame in frames.items():
        key = {table: " INTEGER PRIMARY KEY"}
        connection.execute(
            f"CREATE TABLE {table} ({', '.join(_quoted(n) + key.get(n, _kind(t)) for n, t in frame.schema.items())})"
        )
        places = ", ".join("?" * frame.width)
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", frame.iter_rows())  # noqa: S608 - our name
    if index:
        connection.execute(f"CREATE INDEX _by_key ON _rows ({', '.join(map(_quoted, index))})")
    # Subqueries and no joins: SQLite computes only those of the columns that a query uses.
    home = {name: table for table, names in shared.items() for name in names}
    values = {name: f"SELECT s.{_quoted(name)} FROM {at} AS s WHERE s.{at} = _rows.{at}" for name, at in home.items()}  # noqa: S608
    texts = [f"({values[name]}) AS {_quoted(name)}" if name in values else _quoted(name) for name in columns]
    for view, condition in (("cells", "is_cell"), ("attempts", "attempt IS NOT NULL")):
        connection.execute(f"CREATE VIEW {view} AS SELECT {', '.join(texts)} FROM _rows WHERE {condition}")  # noqa: S608
    connection.commit()
    content = connection.serialize()
    connection.close()
    return content


def _storable(column: pl.Series) -> pl.Series:
    """Convert a column to a type of SQLite's: times and lists to text, truth values to 0 and 1."""
    kind = column.dtype
    if kind.is_float() or kind.is_integer() or kind == pl.String:
        return column
    if kind == pl.Boolean:
        return column.cast(pl.Int8)
    if kind == pl.Null:
        return column.cast(pl.String)
    if isinstance(kind, pl.Datetime):
        return column.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    texts = [None if value is None else json.dumps(value, default=str) for value in column.to_list()]
    return pl.Series(column.name, texts, pl.String)


def _kind(kind: pl.DataType) -> str:
    return " REAL" if kind.is_float() else " INTEGER" if kind.is_integer() else " TEXT"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
