"""Stage 6: outcomes become Arrow tables of the store's fixed schema, with where and by what code they ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from raysweep.orchestrator.launch.provenance import Commit
from raysweep.orchestrator.run.messages import CompletedAttempt, Outcome, Worker
from raysweep.orchestrator.store.schema import ARRAYS, ATTEMPTS, CELLS, SCHEMA_VERSION
from raysweep.orchestrator.text import message_of, storable


@dataclass(frozen=True)
class Records:
    """One commit's tables."""

    cells: pa.Table
    attempts: pa.Table
    arrays: pa.Table
    checkpointed: tuple[str, ...] = ()  # done cells that have checkpoints in the store
    refused: int = 0  # outcomes that came as done and are recorded as failed: no table can hold them


def record(
    finished: Sequence[CompletedAttempt],
    plan: pl.DataFrame,
    variants: pl.DataFrame,
    epoch: int,
    commits: Mapping[str, Commit],
    paths: Mapping[str, str] = MappingProxyType({}),
) -> Records:
    """Tables for these outcomes; one that no table can hold becomes a failed attempt, and harms no other.

    Args:
        finished: outcomes, whose `row` indexes `plan`.
        plan: one row a cell: cell_id, variant, seed.
        variants: one row a variant, in order of its number (`cells.VARIANTS_SCHEMA`).
        epoch: the launch.
        commits: source digest -> commit that has this source.
        paths: source digest -> the file that was launched; of others the worker's copy is recorded.
    """
    try:
        return _tables(finished, plan, variants, epoch, commits, paths)
    except Exception:  # whatever it is, it must not take the batch along
        kept, refused = [], 0
        for one in finished:
            try:
                _tables([one], plan, variants, epoch, commits, paths)
                kept.append(one)
            except Exception as error:
                refused += one.outcome.status == "done"
                kept.append(CompletedAttempt(_unrecordable(one.outcome, error), None))
        return replace(_tables(kept, plan, variants, epoch, commits, paths), refused=refused)


def _unrecordable(outcome: Outcome, error: Exception) -> Outcome:
    now = datetime.now(UTC).timestamp()
    return Outcome(
        outcome.row, outcome.attempt, "failed", now, now,
        error_type="NotRecordable",
        error_message=f"the cell ended as {outcome.status}, but: {message_of(error)}"[:2000],
    )  # fmt: skip


def _tables(
    finished: Sequence[CompletedAttempt],
    plan: pl.DataFrame,
    variants: pl.DataFrame,
    epoch: int,
    commits: Mapping[str, Commit],
    paths: Mapping[str, str],
) -> Records:
    outcomes = [f.outcome for f in finished]
    keys = plan[[o.row for o in outcomes]].select("cell_id", "variant", "seed")
    ids = keys["cell_id"].to_list()
    shared = variants[keys["variant"].to_list()]
    # Of a lost worker nothing is known: its columns are null.
    workers: list[Worker | None] = []
    places: dict[int, int] = {}  # many outcomes share a worker: its columns are made once
    at = []
    for one in finished:
        place = places.setdefault(id(one.worker), len(workers))
        if place == len(workers):
            workers.append(one.worker)
        at.append(place)
    commit = [commits.get(w.source_digest or "") if w else None for w in workers]
    taken = pa.array(at, pa.int64())

    def of_worker(name: str) -> list[Any]:
        return [None if w is None else getattr(w, name) for w in workers]

    def column(name: str) -> list[Any]:
        return [getattr(o, name) for o in outcomes]

    columns: dict[str, Any] = {
        "cell_id": keys["cell_id"],
        "seed": keys["seed"],
        "status": column("status"),
        "attempt": column("attempt"),
        "metrics": [[{"name": storable(n), "value": v} for n, v in sorted(o.metrics.items())] for o in outcomes],
        "started_at": _utc(column("started_at")),
        "finished_at": _utc(column("finished_at")),
        "epoch": [epoch] * len(outcomes),
        "schema_version": [SCHEMA_VERSION] * len(outcomes),
    }
    for name in (
        "sweep",
        "experiment",
        "workload",
        "workload_version",
        "method",
        "k",
        "config",
        "cpus",
        "gpus",
    ):
        columns[name] = shared[name]
    shared_by: dict[str, list[Any]] = {
        "git_commit": [None if c is None else c.commit for c in commit],
        "git_dirty": [None if c is None else c.dirty for c in commit],
    }
    for name in ("host", "node_id", "pid", "device", "source_digest", "packages"):
        shared_by[name] = of_worker(name)
    shared_by["source_path"] = [w and paths.get(w.source_digest or "", w.source_path) for w in workers]
    for name in (
        "seconds", "cpu_seconds", "peak_rss_mib", "error_type", "error_message", "traceback", "log_tail",
    ):  # fmt: skip
        columns[name] = column(name)
    made = {name: _arrow(values, ATTEMPTS.field(name).type).take(taken) for name, values in shared_by.items()}
    made |= {name: _arrow(values, ATTEMPTS.field(name).type) for name, values in columns.items()}
    attempts = pa.table([made[f.name] for f in ATTEMPTS], schema=ATTEMPTS)
    done = pa.array([o.status == "done" for o in outcomes])
    return Records(
        cells=attempts.select(CELLS.names).filter(done).cast(CELLS),
        attempts=attempts,
        arrays=_arrays(outcomes, ids),
        checkpointed=tuple(i for i, o in zip(ids, outcomes, strict=True) if o.status == "done" and o.checkpointed),
    )


def _arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pl.Series):
        values = values.to_arrow()
        return values.cast(kind)
    if isinstance(values, pa.Array):
        return values
    if kind == pa.string():  # a cell may have printed or raised anything
        values = [None if v is None else storable(v) for v in values]
    return pa.array(values, kind)


def _utc(seconds: Sequence[float]) -> pa.Array:
    micros = np.rint(np.asarray(seconds, np.float64) * 1e6).astype(np.int64)
    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))


def _arrays(outcomes: Sequence[Outcome], ids: Sequence[str]) -> pa.Table:
    rows = [(i, o.attempt, a) for i, o in zip(ids, outcomes, strict=True) for a in o.arrays]
    return pa.table(
        [
            pa.array([i for i, _, _ in rows], pa.string()),
            pa.array([attempt for _, attempt, _ in rows], pa.int32()),
            pa.array([storable(a.name) for _, _, a in rows], pa.string()),
            pa.array([a.step for _, _, a in rows], pa.int64()),
            pa.array([a.stride for _, _, a in rows], pa.int64()),
            _lists([a.values for _, _, a in rows], np.float32),
            _lists([a.values for _, _, a in rows], np.float64),
        ],
        schema=ARRAYS,
    )


def _lists(values: Sequence[Any], dtype: type) -> pa.Array:
    """A list column of the arrays of this dtype, null for the others; built without a Python float each."""
    chosen = [v if v.dtype == dtype else None for v in values]
    lengths = [0 if v is None else len(v) for v in chosen]
    kept = [v for v in chosen if v is not None]
    flat = np.concatenate(kept) if kept else np.empty(0, dtype)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))
    mask = pa.array([v is None for v in chosen], pa.bool_())
    return pa.ListArray.from_arrays(offsets, pa.array(flat), mask=mask)
