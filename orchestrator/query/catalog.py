"""A list of the columns of the SQL tables, with their types and categories."""

from __future__ import annotations

import json

import polars as pl

from raysweep.orchestrator.query.hints import identifier
from raysweep.orchestrator.query.sql import SQL_TABLES, live_frame
from raysweep.orchestrator.store.columns import empty
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS, ATTEMPTS, LOGS
from raysweep.orchestrator.sweep.grammar.settings import flattened


def columns(store: Store) -> pl.DataFrame:
    """Return one row per column of the SQL tables. Columns: table, column, type, what (the category).

    `column` is quoted for SQL if necessary. The rows of a table are sorted by category.

    In the tables `cells` and `attempts`, the categories are, in this order: "identity", "status", "metric", "config",
    "time", "machine", "code", "list" (all metrics, the whole config) and "launch". In any other table, all columns
    have the same one: "array", "live", "log" or "artifact".
    """
    tables = {name: frame(store, None) for name, frame in SQL_TABLES.items() if name in ("cells", "attempts")}
    tables["arrays"] = pl.DataFrame(pl.from_arrow(empty(ARRAYS)))
    tables["attempt_arrays"] = tables["arrays"].with_columns(status=pl.lit(""))
    tables["live"] = live_frame(store)
    tables["logs"] = pl.DataFrame(pl.from_arrow(empty(LOGS))).with_columns(status=pl.lit(""))
    tables["artifacts"] = store.artifacts().clear()
    rows = [row for table, frame in tables.items() for row in _rows(table, frame)]
    return pl.DataFrame(rows, schema=["table", "column", "type", "what"], orient="row")


def _rows(table: str, frame: pl.DataFrame) -> list[tuple[str, str, str, str]]:
    """Return one row per column of a table's frame: (table, column, type, category), sorted by category.

    A frame that `widen` built must have the columns of the store's schema first, then config keys, then metrics: only
    their order tells config keys from metrics.
    """
    configs = 0
    if "config" in frame.columns:
        parsed = (flattened(json.loads(text)) for text in frame["config"].drop_nulls().unique())
        configs = len({key for config in parsed for key in config})
    widened = [name for name in frame.columns if name not in ATTEMPTS.names]
    categories = {name: category for category, names in _CATEGORIES.items() for name in names}
    categories |= {name: "config" if i < configs else "metric" for i, name in enumerate(widened)}
    if table in _WHOLE:
        categories = dict.fromkeys(frame.columns, _WHOLE[table])
    rows = [(table, identifier(name), _type(kind), categories[name]) for name, kind in frame.schema.items()]
    return sorted(rows, key=lambda row: _ORDER.index(row[3]))


_CATEGORIES = {
    "identity": ("cell_id", "sweep", "experiment", "workload", "workload_version", "method", "k", "seed"),
    "status": ("status", "attempt", "error_type", "error_message", "traceback", "log_tail"),
    "time": ("started_at", "finished_at", "seconds", "cpu_seconds"),
    "machine": ("peak_rss_mib", "host", "node_id", "pid", "device", "cpus", "gpus"),
    "code": ("git_commit", "git_dirty", "source_digest", "source_path", "packages"),
    "list": ("metrics", "config"),
    "launch": ("epoch", "schema_version"),
}
_ORDER = (
    "identity",
    "status",
    "metric",
    "config",
    "time",
    "machine",
    "code",
    "list",
    "launch",
    "array",
    "live",
    "log",
    "artifact",
)
_WHOLE = {"arrays": "array", "attempt_arrays": "array", "live": "live", "logs": "log", "artifacts": "artifact"}
"""Table whose columns all have the same category -> this category."""


def _type(kind: pl.DataType) -> str:
    if kind == pl.String:
        return "text"
    if kind == pl.Boolean:
        return "boolean"
    if kind.is_integer():
        return "integer"
    if kind.is_float():
        return "number"
    return "time" if kind.is_temporal() else "list"
