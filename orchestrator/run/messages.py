"""Messages between the driver and a worker: plain frozen data, without Ray or data frames.

A chunk is a few cells of one workload that request the same resources. They run one after another in one Ray task.
Attempts, deadlines and records are per cell, not per chunk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.orchestrator.store.checkpoints import CheckpointLocation
from raysweep.orchestrator.sweep.grammar.outputs import DEFAULT, Outputs
from raysweep.orchestrator.sweep.programs.program import Program

MAX_TAIL = 4_096  # characters of an attempt's output in its row


class Artifact(NamedTuple):
    """A file that a cell left in its folder.

    Args:
        path: its path in the folder.
        size: in bytes.
        sha256: digest of its content; None if the content was not stored.
        kind: media type, or the reason why the content was not stored.
        content: the content if the worker could not write it to the store; otherwise None.
    """

    path: str
    size: int
    sha256: str | None
    kind: str
    content: bytes | None = None


class NeededCell(NamedTuple):
    """A cell whose artifacts another cell needs.

    Args:
        block: the name of its block.
        cell_id: its id.
        method: its method.
        k: its k.
        config: its config, as JSON.
        epoch: the generation of the launch in which an attempt wrote the artifacts.
        attempt: the number of this attempt.
        files: the artifacts, without content.
    """

    block: str
    cell_id: str
    method: str
    k: int | None
    config: str
    epoch: int
    attempt: int
    files: tuple[Artifact, ...]


class Task(NamedTuple):
    """One attempt at one cell."""

    row: int  # row of the plan
    cell_id: str
    method: str
    k: int | None
    seed: int
    config: str  # canonical JSON
    attempt: int  # counts from 1, over all launches
    timeout_s: float | None
    needs: tuple[NeededCell, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A few attempts at cells (tasks), which one worker runs in order."""

    number: int
    workload: str
    experiment: str
    tasks: tuple[Task, ...]
    cpus: float
    gpus: float
    memory_gib: float | None
    search: tuple[str, ...]  # folders of users' modules
    device: str  # "cpu" or "cuda"
    requeue_after_s: float  # cells not started by then go back to the driver
    checkpoints: CheckpointLocation | None = None
    source_digest: str | None = None  # of the code to run; None: any
    program: Program | None = None  # None: the workload is a function
    outputs: Outputs = DEFAULT
    sweep: str = ""
    custom: str | None = None  # JSON: custom resource -> amount
    inputs: str = ""  # digest of the files that the sweep names in `inputs`


class Printed(NamedTuple):
    """Recorded output of an attempt. `text` lacks `left_out` of the `size` bytes that were printed."""

    text: str
    size: int
    left_out: int

    @property
    def tail(self) -> str | None:
        """The last `MAX_TAIL` characters of the text, for the attempt's row; None if nothing was printed."""
        return self.text[-MAX_TAIL:] or None

    @property
    def beyond_tail(self) -> Printed | None:
        """The output itself if it is longer than `tail`; otherwise None."""
        return self if self.left_out or len(self.text) > MAX_TAIL else None


class Array(NamedTuple):
    """An array that a cell recorded. Entry i of `values` belongs to step `step + i * stride`."""

    name: str
    step: int
    stride: int
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64]


class Outcome(NamedTuple):
    """The outcome of one attempt.

    It is a tuple because a chunk has many outcomes, and tuples pickle four times as fast as other objects.
    """

    row: int
    attempt: int
    status: str  # `done`, or one of `status.POLICIES`
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
    checkpointed: bool = False  # the store holds checkpoints to remove once this outcome is committed
    printed: Printed | None = None  # if it is longer than `log_tail`
    texts: Mapping[str, str] = {}  # metrics that are text
    artifacts: tuple[Artifact, ...] = ()
    published: bool = False  # the store holds a live state to remove once this outcome is committed


@dataclass(frozen=True, slots=True)
class Worker:
    """The machine and process that ran a chunk, and the code they ran."""

    host: str
    node_id: str | None
    pid: int
    device: str
    source_digest: str | None
    source_path: str | None
    packages: str  # JSON
    environment: bytes = b""  # JSON (`environment.Environment.document`)


class CompletedAttempt(NamedTuple):
    """The outcome of an attempt, and the worker that ran it.

    `worker` is None if the worker was lost or killed, so that the driver had to build the outcome.
    """

    outcome: Outcome
    worker: Worker | None


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A worker's reply about a chunk: the outcomes of its attempts, and the rows of cells that did not run.

    The outcomes are in the order in which the attempts ended.
    """

    number: int
    worker: Worker
    outcomes: tuple[Outcome, ...]
    requeued: tuple[int, ...]
    notes: tuple[str, ...] = ()  # warnings for the user


class CellState(NamedTuple):
    """The state of a running cell (output and metrics, encoded by `live.encode`), sent to the driver.

    A worker sends it only if it cannot reach the store.
    """

    cell_id: str
    attempt: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's heartbeat: its chunk, the index of the running task, and for how many seconds the task has run."""

    chunk: int
    position: int
    seconds: float
    progress: float | None = None
    live: CellState | None = None


class ChunkDone(NamedTuple):
    """Event: the worker replied about the chunk. Each task has ended, or is to be requeued."""

    result: ChunkResult


class ChunkLost(NamedTuple):
    """Event: the chunk was lost with its worker. `position` is the index of the running task; None if unknown."""

    number: int
    status: str  # crashed, lost, out_of_memory, failed, timed_out
    message: str
    position: int | None = None
    traceback: str | None = None
    printed: Printed | None = None  # if the dead worker's file could be read


class ChunkReturned(NamedTuple):
    """Event: the chunk never began and was taken back. Its cells are queued again."""

    number: int


class ChunkRefused(NamedTuple):
    """Event: no cell began, because the worker could not load the workload or has other code than the driver."""

    number: int
    node_id: str | None
    place: str  # the worker's machine, for messages
    problem: str
    files: Mapping[str, str] = {}  # the worker's source files -> their digests; empty if the workload did not load


Event = ChunkDone | ChunkLost | ChunkReturned | ChunkRefused


def outcome_of_lost(task: Task, event: ChunkLost, seconds: float) -> Outcome:
    """Build the outcome of the task that was running when its chunk was lost. It had run for `seconds`."""
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
        log_tail=event.printed and event.printed.tail,
        printed=event.printed and event.printed.beyond_tail,
    )


_KINDS = {
    "crashed": "WorkerCrashed",
    "lost": "NodeLost",
    "out_of_memory": "OutOfMemory",
    "timed_out": "CellTimeout",
    "cancelled": "Interrupted",
    "failed": "ChunkFailed",
}
