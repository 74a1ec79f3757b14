"""Stage 6, recording: outcomes become tables of the store's schema, and requested sweeps become records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from raysweep.orchestrator.launch.provenance import Commit
from raysweep.orchestrator.run.messages import CompletedAttempt, Outcome, Worker
from raysweep.orchestrator.store.artifacts import content_path
from raysweep.orchestrator.store.columns import column, lists
from raysweep.orchestrator.store.schema import (
    ARRAYS,
    ARTIFACTS,
    ATTEMPTS,
    CELLS,
    LOGS,
    SCHEMA_VERSION,
    TEXTS,
    Records,
)
from raysweep.orchestrator.sweep.cells import CellTable, without_empty
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import message_of, storable


def record(
    completed: Sequence[CompletedAttempt],
    plan: pl.DataFrame,
    variants: pl.DataFrame,
    epoch: int,
    commits: Mapping[str, Commit],
    paths: Mapping[str, str] = MappingProxyType({}),
) -> Records:
    """Convert outcomes to tables. An outcome that cannot be stored becomes a failed attempt.

    Args:
        completed: the outcomes; `row` of each is the number of its cell's row in `plan`.
        plan: one row per cell: cell_id, variant (a row number of `variants`), seed.
        variants: one row per variant, with the columns of `cells.VARIANTS_SCHEMA`. The column `variant` counts the
            rows from 0.
        epoch: the launch's generation.
        commits: source digest -> git commit of this source.
        paths: source digest -> path of the source on the driver. For any other digest, the path on the worker is
            recorded.
    """
    try:
        return _tables(completed, plan, variants, epoch, commits, paths)
    except Exception:  # one bad outcome must not cost the whole batch
        recordable, refused = [], 0
        for attempt in completed:
            try:
                _tables([attempt], plan, variants, epoch, commits, paths)
                recordable.append(attempt)
            except Exception as error:
                refused += attempt.outcome.status == "done"
                recordable.append(CompletedAttempt(_unrecordable(attempt.outcome, error), None))
        return replace(_tables(recordable, plan, variants, epoch, commits, paths), refused=refused)


def sweep_record(sweep: Sweep, table: CellTable, where: str | None) -> tuple[dict[str, Any], CellTable, str] | None:
    """Build the store's record of a requested sweep. Equal requests have equal records.

    Args:
        sweep: the sweep.
        table: the cells of the launch.
        where: the predicate that selected the cells.

    Returns:
        Metadata, cells and digest; None if no cell of the launch belongs to the sweep.
    """
    of_sweep = (pl.col("sweep") == sweep.name) & pl.col("workload").is_in(sweep.workloads)
    variants = table.variants.filter(of_sweep)
    cells = table.cells.filter(pl.col("variant").is_in(variants["variant"].implode()))
    if cells.is_empty():
        return None
    metadata = {
        "name": sweep.name, "title": sweep.title, "path": sweep.path, "text": sweep.text,
        "search": list(sweep.search), "overrides": dict(sweep.overrides), "where": where, "cells": cells.height,
    }  # fmt: skip
    # Variants are renumbered from 0, so that equal requests give equal files.
    numbers = variants.select("variant").with_row_index("new")
    part = CellTable(
        variants.with_columns(variant=pl.int_range(pl.len(), dtype=pl.UInt32)),
        cells.join(numbers, on="variant", maintain_order="left").select(
            "cell_id", pl.col("new").alias("variant"), "seed"
        ),
    )
    digest = hashlib.sha256(repr((sweep.name, sweep.path, sweep.text_digest)).encode())
    digest.update(part.cells["cell_id"].sort().to_arrow(compat_level=pl.CompatLevel.oldest()).buffers()[2])  # the texts
    digest.update(without_empty(part.variants).drop("source_digest").write_csv().encode())
    return metadata, part, digest.hexdigest()[:16]


def _unrecordable(outcome: Outcome, error: Exception) -> Outcome:
    now = datetime.now(UTC).timestamp()
    return Outcome(
        outcome.row, outcome.attempt, "failed", now, now,
        error_type="NotRecordable",
        error_message=f"the cell ended as {outcome.status}, but its outcome cannot be recorded: "
        f"{message_of(error)}"[:2000],
    )  # fmt: skip


def _tables(
    completed: Sequence[CompletedAttempt],
    plan: pl.DataFrame,
    variants: pl.DataFrame,
    epoch: int,
    commits: Mapping[str, Commit],
    paths: Mapping[str, str],
) -> Records:
    outcomes = [attempt.outcome for attempt in completed]
    keys = plan.select("cell_id", "variant", "seed")[[o.row for o in outcomes]]
    ids = keys["cell_id"].to_list()
    of_variant = variants.select(_OF_VARIANT)[keys["variant"].to_list()]
    # Many outcomes share a worker: its values are converted once. The values of a lost worker are null.
    workers: list[Worker | None] = []
    positions: dict[int, int] = {}
    indices = []
    for attempt in completed:
        position = positions.setdefault(id(attempt.worker), len(workers))
        if position == len(workers):
            workers.append(attempt.worker)
        indices.append(position)
    commit = [commits.get(w.source_digest or "") if w else None for w in workers]
    rows_of_workers = column(indices, pa.int64())

    columns: dict[str, Any] = {
        "cell_id": keys["cell_id"],
        "seed": keys["seed"],
        "metrics": _metrics([sorted(o.metrics.items()) for o in outcomes]),
        "started_at": _utc([o.started_at for o in outcomes]),
        "finished_at": _utc([o.finished_at for o in outcomes]),
        "epoch": [epoch] * len(outcomes),
        "schema_version": [SCHEMA_VERSION] * len(outcomes),
    }
    for name in _OF_VARIANT:
        columns[name] = of_variant[name]
    by_worker: dict[str, list[Any]] = {
        "git_commit": [None if c is None else c.commit for c in commit],
        "git_dirty": [None if c is None else c.dirty for c in commit],
    }
    for name in ("host", "node_id", "pid", "device", "source_digest", "packages"):
        by_worker[name] = [None if w is None else getattr(w, name) for w in workers]
    by_worker["source_path"] = [w and paths.get(w.source_digest or "", w.source_path) for w in workers]
    for name in (
        "status", "attempt", "seconds", "cpu_seconds", "peak_rss_mib", "error_type", "error_message", "traceback",
        "log_tail",
    ):  # fmt: skip
        columns[name] = [getattr(o, name) for o in outcomes]
    arrays = {n: _arrow(values, ATTEMPTS.field(n).type).take(rows_of_workers) for n, values in by_worker.items()}
    arrays |= {n: _arrow(values, ATTEMPTS.field(n).type) for n, values in columns.items()}
    attempts = pa.table([arrays[f.name] for f in ATTEMPTS], schema=ATTEMPTS)
    done = column([o.status == "done" for o in outcomes], pa.bool_())
    return Records(
        cells=attempts.select(CELLS.names).filter(done).cast(CELLS),
        attempts=attempts,
        arrays=_arrays(outcomes, ids),
        texts=_details(
            TEXTS,
            [
                (i, o.attempt, storable(name), value)
                for i, o in zip(ids, outcomes, strict=True)
                for name, value in sorted(o.texts.items())
            ],
        ),
        logs=_details(
            LOGS,
            [
                (i, o.attempt, storable(o.printed.text), o.printed.size, o.printed.left_out)
                for i, o in zip(ids, outcomes, strict=True)
                if o.printed is not None
            ],
        ),
        artifacts=_details(
            ARTIFACTS,
            [
                (i, o.attempt, epoch, a.path, a.size, a.sha256, a.kind)
                for i, o in zip(ids, outcomes, strict=True)
                for a in o.artifacts
            ],
        ),
        contents={
            content_path(epoch, i, o.attempt, a.sha256): a.content
            for i, o in zip(ids, outcomes, strict=True)
            for a in o.artifacts
            if a.sha256 is not None and a.content is not None
        },
        checkpointed=tuple(i for i, o in zip(ids, outcomes, strict=True) if o.status == "done" and o.checkpointed),
        live=tuple((i, o.attempt) for i, o in zip(ids, outcomes, strict=True) if o.published),
    )


_OF_VARIANT = ("sweep", "experiment", "workload", "workload_version", "method", "k", "config", "cpus", "gpus")
"""Columns of a row whose values are those of its variant."""


def _metrics(metrics: Sequence[Sequence[tuple[str, float]]]) -> pa.Array:
    names = column([storable(name) for cell in metrics for name, _ in cell], pa.string())
    values = column([value for cell in metrics for _, value in cell], pa.float64())
    pairs = pa.StructArray.from_arrays([names, values], fields=list(ATTEMPTS.field("metrics").type.value_type))
    return lists([len(cell) for cell in metrics], pairs).cast(ATTEMPTS.field("metrics").type)


def _details(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([column(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pl.Series):
        values = values.to_arrow()
        return values.cast(kind)
    if isinstance(values, pa.Array):
        return values
    if kind == pa.string():  # a cell may have printed or raised anything
        values = [None if v is None else storable(v) for v in values]
    return column(values, kind)


def _utc(seconds: Sequence[float]) -> pa.Array:
    micros = np.rint(np.asarray(seconds, np.float64) * 1e6).astype(np.int64)
    return column(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def _arrays(outcomes: Sequence[Outcome], ids: Sequence[str]) -> pa.Table:
    rows = [(i, o.attempt, a) for i, o in zip(ids, outcomes, strict=True) for a in o.arrays]
    return pa.table(
        [
            column([i for i, _, _ in rows], pa.string()),
            column([attempt for _, attempt, _ in rows], pa.int32()),
            column([storable(a.name) for _, _, a in rows], pa.string()),
            column([a.step for _, _, a in rows], pa.int64()),
            column([a.stride for _, _, a in rows], pa.int64()),
            _lists([a.values for _, _, a in rows], np.float32),
            _lists([a.values for _, _, a in rows], np.float64),
        ],
        schema=ARRAYS,
    )


def _lists(values: Sequence[Any], dtype: type) -> pa.Array:
    """Build a list column from the arrays of this dtype, without converting elements.

    Arrays of any other dtype become null.
    """
    chosen = [v if v.dtype == dtype else None for v in values]
    lengths = [0 if v is None else len(v) for v in chosen]
    present = [v for v in chosen if v is not None]
    flat = np.concatenate(present) if present else np.empty(0, dtype)
    kind = pa.float32() if dtype is np.float32 else pa.float64()
    return lists(lengths, column(flat, kind), column([v is None for v in chosen], pa.bool_()))
