"""A list of the columns of the SQL tables, with their types and categories."""

from __future__ import annotations

import polars as pl

from raysweep.orchestrator.query.hints import identifier
from raysweep.orchestrator.query.sql import cells_frame
from raysweep.orchestrator.query.widen import widen
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS, ATTEMPTS


def columns(store: Store) -> pl.DataFrame:
    """List the columns of `cells`, `attempts` and `arrays`. Columns of the list: table, column, type, what.

    `column` is quoted for SQL if necessary. `what` is the category: "identity", "status", "metric", "config", "time",
    "machine", "code", "list" (all metrics, the whole config) or "launch", in this order; for arrays it is "array".
    """
    tables = {
        "cells": cells_frame(store),
        "attempts": widen(store.collect(lambda: store.attempts)),
        "arrays": pl.DataFrame(pl.from_arrow(ARRAYS.empty_table())),
    }
    rows = [row for table, frame in tables.items() for row in _rows(table, frame)]
    return pl.DataFrame(rows, schema=["table", "column", "type", "what"], orient="row")


def _rows(table: str, frame: pl.DataFrame) -> list[tuple[str, str, str, str]]:
    """List a table's columns by category. `frame` has config keys, then metrics, as its last columns."""
    metrics = 0
    if "metrics" in frame.columns:
        metrics = frame["metrics"].list.explode().struct.field("name").drop_nulls().n_unique()
    widened = [name for name in frame.columns if name not in ATTEMPTS.names]
    categories = {name: category for category, names in _CATEGORIES.items() for name in names}
    categories |= {name: "config" if i < len(widened) - metrics else "metric" for i, name in enumerate(widened)}
    if table == "arrays":
        categories = dict.fromkeys(frame.columns, "array")
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
_ORDER = ("identity", "status", "metric", "config", "time", "machine", "code", "list", "launch", "array")


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
