"""The fixed schema of the store's tables (documented in `docs/store.md`).

Readers refuse to scan files whose columns differ in type, so the schema is fixed. Hence metrics are a list of
(name, value) pairs, and a config is JSON text; queries turn them into columns. For the same reason a new kind
of data is a new table, not a new column. Earlier versions of raysweep ignore folders that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from raysweep.orchestrator.store.columns import empty

SCHEMA_VERSION = 1

_METRICS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.float64())]))
_TIME = pa.timestamp("us", tz="UTC")

_KEYS = [
    pa.field("cell_id", pa.string()),
    pa.field("sweep", pa.string()),
    pa.field("experiment", pa.string()),
    pa.field("workload", pa.string()),
    pa.field("workload_version", pa.string()),
    pa.field("method", pa.string()),
    pa.field("k", pa.int64()),
    pa.field("seed", pa.int64()),
    pa.field("config", pa.string()),  # canonical JSON
    pa.field("status", pa.string()),
    pa.field("attempt", pa.int32()),  # counts from 1
    pa.field("metrics", _METRICS),  # sorted by name
    pa.field("started_at", _TIME),
    pa.field("finished_at", _TIME),
    pa.field("seconds", pa.float64()),
    pa.field("cpu_seconds", pa.float64()),
    pa.field("peak_rss_mib", pa.float64()),
    pa.field("host", pa.string()),
    pa.field("node_id", pa.string()),
    pa.field("pid", pa.int64()),
    pa.field("device", pa.string()),
    pa.field("cpus", pa.float64()),
    pa.field("gpus", pa.float64()),
    pa.field("git_commit", pa.string()),
    pa.field("git_dirty", pa.string()),  # digest of the uncommitted diff; null if clean
    pa.field("source_digest", pa.string()),  # of the imported source of the workload
    pa.field("source_path", pa.string()),
    pa.field("packages", pa.string()),  # JSON: package -> version
    pa.field("epoch", pa.int64()),  # the launch that recorded it
    pa.field("schema_version", pa.int32()),
]

CELLS = pa.schema(_KEYS)
ATTEMPTS = pa.schema(
    [
        *_KEYS,
        pa.field("error_type", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("traceback", pa.string()),
        pa.field("log_tail", pa.string()),
    ]
)
ARRAYS = pa.schema(
    [
        pa.field("cell_id", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("name", pa.string()),
        pa.field("step", pa.int64()),
        pa.field("stride", pa.int64()),
        pa.field("values", pa.list_(pa.float32())),
        pa.field("values_f64", pa.list_(pa.float64())),  # instead of `values` if float64 was recorded
    ]
)

_ATTEMPT = [pa.field("cell_id", pa.string()), pa.field("attempt", pa.int32())]
TEXTS = pa.schema([*_ATTEMPT, pa.field("name", pa.string()), pa.field("value", pa.string())])
LOGS = pa.schema(
    [
        *_ATTEMPT,
        pa.field("text", pa.string()),
        pa.field("bytes", pa.int64()),  # that were printed
        pa.field("left_out", pa.int64()),  # of them, from the middle
    ]
)
ARTIFACTS = pa.schema(
    [
        *_ATTEMPT,
        pa.field("epoch", pa.int64()),
        pa.field("path", pa.string()),  # in the cell's folder, with /
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),  # null: the content was not kept
        pa.field("kind", pa.string()),  # media type, or the reason why the content was not kept
    ]
)

DETAILS: dict[str, pa.Schema] = {"arrays": ARRAYS, "texts": TEXTS, "logs": LOGS, "artifacts": ARTIFACTS}
"""Folder -> schema of tables with any number of rows per attempt.

If an attempt was never recorded in `attempts` or `cells`, the next owner of the store removes its rows in these
tables.
"""
COUNTED = ("arrays", "texts", "artifacts")
"""Tables with results of cells. Each attempt records how many rows it has in these tables together."""
TABLES: dict[str, pa.Schema] = {**DETAILS, "attempts": ATTEMPTS, "cells": CELLS}
"""Folder -> schema, in the order in which a commit writes them. A cell is done when its row in `cells` exists."""


@dataclass(frozen=True)
class Records:
    """The rows of one commit."""

    cells: pa.Table
    attempts: pa.Table
    arrays: pa.Table
    texts: pa.Table = field(default_factory=lambda: empty(TEXTS))
    logs: pa.Table = field(default_factory=lambda: empty(LOGS))
    artifacts: pa.Table = field(default_factory=lambda: empty(ARTIFACTS))
    contents: Mapping[str, bytes] = field(default_factory=dict)  # file -> content that no worker could write
    checkpointed: tuple[str, ...] = ()  # done cells that have checkpoints in the store
    live: tuple[tuple[str, int], ...] = ()  # (cell, attempt) pairs that were published while they ran
    refused: int = 0  # done outcomes that are recorded as failed, since no table can hold them
