"""What travels between the driver and a worker: plain frozen data, no Ray, no data frames.

A chunk is a few cells of one workload and one size, run one after another in one task; the cell stays
the unit of attempt, deadline and record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.orchestrator.store.checkpoints import CheckpointLocation


class Task(NamedTuple):
    """One attempt to make at one cell."""

    row: int  # of the plan
    cell_id: str
    method: str
    k: int | None
    seed: int
    config: str  # canonical JSON
    attempt: int  # counts from 1, over all launches
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A few tasks that run one after another on one worker."""

    number: int
    workload: str
    experiment: str
    tasks: tuple[Task, ...]
    cpus: float
    gpus: float
    memory_gib: float | None
    search: tuple[str, ...]  # where a user's module is looked for
    device: str  # "cpu" or "cuda"
    hand_back_after_s: float  # cells not begun by then go back to the driver
    home: CheckpointLocation | None = None  # where checkpoints are kept


class Array(NamedTuple):
    """A recorded array: entry i of `values` belongs to step `step + i * stride`."""

    name: str
    step: int
    stride: int
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64]


class Outcome(NamedTuple):
    """How one attempt ended. A tuple, since a hundred thousand of them travel: it is pickled four times as fast."""

    row: int
    attempt: int
    status: str  # done, failed, timed_out, crashed, lost, out_of_memory, cancelled
    started_at: float  # seconds since 1970, UTC
    finished_at: float
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_rss_mib: float | None = None
    metrics: Mapping[str, float] = {}
    arrays: tuple[Array, ...] = ()
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    log_tail: str | None = None
    checkpointed: bool = False  # there are checkpoints in the store, to be removed once this is committed


@dataclass(frozen=True, slots=True)
class Worker:
    """Where a chunk ran, and with what code."""

    host: str
    node_id: str | None
    pid: int
    device: str
    source_digest: str | None
    source_path: str | None
    packages: str  # JSON


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What a worker sends home: outcomes in the order they ended, and the rows it handed back."""

    number: int
    worker: Worker
    outcomes: tuple[Outcome, ...]
    handed_back: tuple[int, ...]
    notes: tuple[str, ...] = ()  # what the user should be warned of


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life: which task of which chunk it is in, and for how long."""

    chunk: int
    position: int
    seconds: float
    progress: float | None = None


class ChunkDone(NamedTuple):
    """Event: the chunk came home."""

    result: ChunkResult


class ChunkLost(NamedTuple):
    """Event: the chunk will not come home.

    `position` names the task that was running, where the worker left word of it.
    """

    number: int
    status: str  # crashed, lost, out_of_memory, failed, timed_out
    message: str
    position: int | None = None
    traceback: str | None = None


class ChunkReturned(NamedTuple):
    """Event: the chunk never began, and was taken back."""

    number: int


Event = ChunkDone | ChunkLost | ChunkReturned


def outcome_of_lost(task: Task, event: ChunkLost, seconds: float) -> Outcome:
    """The outcome of the task that a lost chunk was in, `seconds` after it began."""
    now = time.time()
    return Outcome(
        row=task.row,
        attempt=task.attempt,
        status=event.status,
        started_at=now - seconds,
        finished_at=now,
        seconds=seconds,
        error_type=_KINDS.get(event.status),
        error_message=event.message,
        traceback=event.traceback,
    )


_KINDS = {
    "crashed": "WorkerCrashed",
    "lost": "NodeLost",
    "out_of_memory": "OutOfMemory",
    "timed_out": "CellTimeout",
    "cancelled": "Interrupted",
    "failed": "ChunkFailed",
}


def cell_name(experiment: Any, method: Any, k: Any, seed: Any, cell_id: str) -> str:
    """How a cell is printed: `sine/sparse_rtrl/k=4/seed=42#3f5b12ab`."""
    middle = "" if k is None else f"/k={k}"
    return f"{experiment}/{method}{middle}/seed={seed}#{cell_id[:8]}"
