"""The columns that SQL over a store knows, with their types and what they are of."""

from __future__ import annotations

import polars as pl

from raysweep.orchestrator.query.hints import identifier
from raysweep.orchestrator.query.sql import cells_frame
from raysweep.orchestrator.query.widen import widen
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS, ATTEMPTS


def columns(store: Store) -> pl.DataFrame:
    """Every column of `cells`, `attempts` and `arrays`: table, column, type, what (what it is of).

    `column` is as SQL takes it. `what` is "identity", "status", "metric", "config", "time", "machine", "code", "list"
    (all metrics, the whole config) or "launch", in this order; of arrays, "array".
    """
    attempts = store.collect(lambda: store.attempts)
    arrays = pl.DataFrame(pl.from_arrow(ARRAYS.empty_table()))
    rows = [*_rows("cells", cells_frame(store)), *_rows("attempts", widen(attempts)), *_rows("arrays", arrays)]
    return pl.DataFrame(rows, schema=["table", "column", "type", "what"], orient="row")


def _rows(table: str, frame: pl.DataFrame) -> list[tuple[str, str, str, str]]:
    """Of a frame as `widen` makes it: its own columns, then config keys, then metrics."""
    own = set(ATTEMPTS.names)
    metrics = 0
    if "metrics" in frame.columns:
        metrics = frame["metrics"].list.explode().struct.field("name").drop_nulls().n_unique()
    made = [name for name in frame.columns if name not in own]
    what = {name: kind for kind, names in _OF.items() for name in names}
    what |= {name: "config" if i < len(made) - metrics else "metric" for i, name in enumerate(made)}
    if table == "arrays":
        what = dict.fromkeys(frame.columns, "array")
    rows = [(table, identifier(name), _type(kind), what[name]) for name, kind in frame.schema.items()]
    return sorted(rows, key=lambda row: _ORDER.index(row[3]))


_OF = {
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
