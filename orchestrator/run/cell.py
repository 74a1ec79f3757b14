"""Stage 5, on the worker: run the tasks of a chunk. Each task that is run has an outcome, even if its cell fails."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import IO

import raysweep
from raysweep.orchestrator.code.source import with_inputs
from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.run.collect import collect
from raysweep.orchestrator.run.context import Metrics, RunContext, RunningCell, checked_metrics
from raysweep.orchestrator.run.context import __file__ as context_file
from raysweep.orchestrator.run.environment import environment as here
from raysweep.orchestrator.run.folder import CellFolder
from raysweep.orchestrator.run.guard import VARIABLE, mark_of_worker
from raysweep.orchestrator.run.messages import (
    Artifact,
    CellState,
    Chunk,
    ChunkRefused,
    ChunkResult,
    Outcome,
    Task,
    Worker,
)
from raysweep.orchestrator.run.needed import provide, reached, with_needs
from raysweep.orchestrator.run.output import OutputFile, output_path
from raysweep.orchestrator.run.programs.program import run_program
from raysweep.orchestrator.run.publish import Publisher, publishing
from raysweep.orchestrator.run.threads import environment, threads
from raysweep.orchestrator.run.timeout import CellTimeout, deadline, fault_log
from raysweep.orchestrator.run.timeout import __file__ as timeout_file
from raysweep.orchestrator.store.checkpoints import Checkpoint, Preempted
from raysweep.orchestrator.store.storage.scratch import scratch
from raysweep.orchestrator.sweep.loading.workload import Workload, load_workload
from raysweep.orchestrator.sweep.programs.program_files import worker_side
from raysweep.orchestrator.text import message_of

MAX_TRACEBACK, MAX_MESSAGE = 16_384, 2_000  # characters; a longer text loses its middle
MAX_REPLY_BYTES = 16 * 2**20  # of arrays, after which a chunk ends: the driver holds whole replies in memory
NOT_SHARED = (
    "checkpoints are on the workers' own disks, since workers cannot reach the store: a cell whose node is lost starts "
    "again from the beginning; use a --store that all nodes can reach (a network disk, or s3://)"
)
NO_METRICS = (
    "cells are done without metrics: no line of their output is a JSON object; if they have metrics, name their source "
    "in [metrics]"
)
_AROUND_A_CELL = (__file__, context_file)


class WorkerPosition:
    """A worker's position in its chunk, with flags that another thread or a signal handler may set."""

    def __init__(self) -> None:
        self.index = 0
        self.started = time.monotonic()
        self.context: RunContext | None = None
        self.in_cell = False  # a KeyboardInterrupt raised now ends the cell and nothing else
        self.stop = False  # start no more cells
        self.draining = False  # the machine will go away soon
        self.live: CellState | None = None  # to be sent with the next heartbeat

    def send(self, state: CellState) -> None:
        """Send this state with the next heartbeat."""
        self.live = state

    def drain(self) -> None:
        """Start no more cells, and end the running cell at its next checkpoint, since the machine will go away soon."""
        self.draining = self.stop = True
        if self.context is not None:
            self.context.checkpoint.draining = True


def run_chunk(
    chunk: Chunk,
    node_id: str | None = None,
    fault_file: Path | None = None,
    position: WorkerPosition | None = None,
    workload: Workload | None = None,
) -> ChunkResult | ChunkRefused:
    """Run a chunk's tasks in order, and return their outcomes and the rows to requeue.

    The tasks that have not started are requeued when `requeue_after_s` seconds have passed, when the arrays recorded
    so far exceed `MAX_REPLY_BYTES`, or when the worker has to stop. The chunk is refused if its workload cannot be
    loaded here, or if the workload's code differs from the driver's.

    Args:
        chunk: the tasks.
        node_id: the cluster's id of this machine.
        fault_file: file for the stack of a dying process; None for a process that must not be ended.
        position: updated here, and read by the thread that sends heartbeats.
        workload: the chunk's workload; None: it is imported here.
    """
    try:
        workload = workload or _load(chunk)
    except InputError as error:
        return ChunkRefused(chunk.number, node_id, socket.gethostname(), str(error))
    digest = _digest(workload, chunk)
    if chunk.source_digest not in (None, digest):
        problem = "" if workload.program is None else "it has other files of the program than this launch sent"
        return ChunkRefused(chunk.number, node_id, socket.gethostname(), problem, workload.code.file_digests())
    position = position or WorkerPosition()
    folder: Path | None = None
    with contextlib.suppress(FileNotFoundError):  # the current folder was removed
        folder = Path.cwd()
    began = time.monotonic()
    outcomes: list[Outcome] = []
    size = 0  # bytes of their arrays
    requeued: tuple[int, ...] = ()
    notes: dict[str, None] = {}
    place = fault_file or scratch() / f"faults-{secrets.token_hex(6)}" / f"{chunk.number}.fault"
    with (
        fault_log(fault_file) as faults,
        threads(chunk.cpus),
        workload.code.active(),
        environment({VARIABLE: mark_of_worker()}),
        contextlib.closing(OutputFile(output_path(place))) as output,
        output.captured(),
        publishing(output, chunk.checkpoints, position.send) as publisher,
    ):
        for index, task in enumerate(chunk.tasks):
            late = time.monotonic() - began > chunk.requeue_after_s or size > MAX_REPLY_BYTES
            if position.stop or (index and late):
                requeued = tuple(t.row for t in chunk.tasks[index:])
                break
            position.index, position.started = index, time.monotonic()
            files = CellFolder(place.parent, f"{chunk.number}-{index}")
            outcome = _run(workload, task, chunk, position, faults, output, publisher, files)
            files.remove()
            if position.context is not None and position.context.checkpoint.is_local:
                notes[NOT_SHARED] = None
            if workload.program is not None and outcome.status == "done" and not (outcome.metrics or outcome.texts):
                notes[f"{workload.name}: {NO_METRICS}"] = None
            if folder is not None:  # the cell may have changed the current folder
                with contextlib.suppress(OSError):
                    os.chdir(folder)
            outcomes.append(outcome)
            size += sum(array.values.nbytes for array in outcome.arrays)
            if outcome.status in ("cancelled", "preempted"):
                requeued = tuple(t.row for t in chunk.tasks[index + 1 :])
                break
    if fault_file is None:
        with contextlib.suppress(OSError):  # a child of a cell may have left a file there
            place.parent.rmdir()
    now = here()
    worker = Worker(
        host=socket.gethostname(),
        node_id=node_id,
        pid=os.getpid(),
        device=chunk.device,
        source_digest=digest,
        source_path=workload.source_path,
        packages=now.packages,
        environment=now.document,
    )
    return ChunkResult(chunk.number, worker, tuple(outcomes), requeued, tuple(notes))


_loaded: dict[tuple[str, tuple[str, ...]], Workload] = {}


def _load(chunk: Chunk) -> Workload:
    """Return the chunk's workload. It is reused if an earlier chunk of this process loaded the same code."""
    key = (chunk.workload, chunk.search)
    workload = _loaded.get(key)
    if workload is None or _digest(workload, chunk) != chunk.source_digest:
        if chunk.program is not None:
            workload = worker_side(chunk.program, chunk.search[0] if chunk.search else None)
        else:
            workload = load_workload(*key)
        _loaded[key] = workload
    return workload


def _digest(workload: Workload, chunk: Chunk) -> str:
    """Return the source digest that is recorded for the chunk's cells. It also covers the files in `inputs`.

    The sweep names these files. A workload that was loaded in the worker does not know them, so their digest is taken
    from the chunk.
    """
    return workload.source_digest if workload.inputs else with_inputs(workload.source_digest, chunk.inputs)


def _run(
    workload: Workload,
    task: Task,
    chunk: Chunk,
    position: WorkerPosition,
    faults: IO[str] | None,
    output: OutputFile,
    publisher: Publisher,
    folder: CellFolder,
) -> Outcome:
    process = os.getpid()
    needs = folder.beside("needs")
    source = with_needs(_digest(workload, chunk), task.needs)
    checkpoint = Checkpoint(chunk.checkpoints, task.cell_id, task.attempt, source)
    context = RunContext(chunk.device, checkpoint, folder)
    checkpoint.draining = position.draining
    position.context, position.live = context, None
    _reset_peak_memory()
    started_at, cpu = time.time(), time.process_time()
    started = time.perf_counter()
    status = "done"
    metrics = Metrics({}, {})
    error: BaseException | None = None
    try:
        output.begin()
        publisher.begin(task.cell_id, task.attempt, context)
        try:
            position.in_cell = True
            if position.stop and not position.draining:
                raise KeyboardInterrupt
            with deadline(task.timeout_s, faults, position.index):
                if task.needs:
                    context.needs = provide(task.needs, reached(chunk.checkpoints), needs.path)
                metrics = call(workload, chunk.experiment, task, context, chunk.outputs.keep_nan)
        finally:
            position.in_cell = False
        if task.timeout_s is not None and time.perf_counter() - started > task.timeout_s:
            raise CellTimeout(f"ran longer than its timeout of {task.timeout_s:g} s, and ignored the alarm")
    except CellTimeout as caught:
        status, error = "timed_out", caught
    except Preempted as caught:
        status, error = "preempted", caught
    except KeyboardInterrupt as caught:  # the cell's own, unless the launch was interrupted
        status, error = "cancelled" if position.stop else "failed", caught
    except MemoryError as caught:
        status, error = "out_of_memory", caught
    except BaseException as caught:  # SystemExit too: a failed cell never ends the worker
        status, error = "failed", caught
    if os.getpid() != process:  # a child that the cell forked: only the parent may continue
        output.flush()
        os._exit(0 if status == "done" else 1)
    needs.remove()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    published = publisher.finish()
    artifacts: tuple[Artifact, ...] = ()
    if folder.is_used and status in _KEEPS_FILES:
        try:
            artifacts = collect(folder.path, chunk.outputs, chunk.checkpoints, task.cell_id, task.attempt)
        except (RaysweepError, OSError, MemoryError) as caught:
            if status == "done":  # a row without its files would be half of the result
                status, error = "failed", caught
    if status == "done":
        checkpoint.forget()
    printed = output.printed()
    return Outcome(
        row=task.row,
        attempt=task.attempt,
        status=status,
        started_at=started_at,
        finished_at=started_at + seconds,
        seconds=seconds,
        cpu_seconds=cpu + context.children.cpu_seconds,
        peak_rss_mib=(context.children.peak_rss or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / _RSS_UNITS,
        metrics=metrics.numbers if status == "done" else {},
        texts=metrics.texts if status == "done" else {},
        arrays=context.recorded,
        error_type=None if error is None else type(error).__name__,
        error_message=None if error is None else _bounded(message_of(error) + _advice(error), MAX_MESSAGE),
        traceback=None if error is None else _bounded(formatted(error), MAX_TRACEBACK),
        log_tail=printed.tail,
        printed=printed.beyond_tail,
        artifacts=artifacts,
        checkpointed=checkpoint.used and not checkpoint.is_local,
        published=published,
    )


_KEEPS_FILES = frozenset({"done", "failed", "timed_out", "out_of_memory"})
"""Statuses of attempts whose files become artifacts.

An attempt with another status was interrupted, and its cell will run again.
"""


def call(
    workload: Workload,
    experiment: str,
    task: Task,
    context: RunContext,
    keep_nan: bool = False,
    foreground: bool = False,
) -> Metrics:
    """Run one cell and return its metrics. Exceptions of the workload pass through.

    Args:
        workload: the cell's workload: a function or a program.
        experiment: the cell's experiment.
        task: the attempt.
        context: the context that the workload receives.
        keep_nan: whether metrics may be NaN or infinite.
        foreground: whether a program gets this terminal's standard input.
    """
    config = workload.revive(task.config)
    cell = RunningCell(task.cell_id, experiment, task.method, task.k, task.seed, config)
    if workload.program is not None:
        returned = run_program(workload.program, workload.folder, cell, context, foreground=foreground)
        return checked_metrics(returned, keep_nan)
    return checked_metrics(workload.run(cell, context), keep_nan)


def _advice(error: BaseException) -> str:
    if not isinstance(error, MemoryError) or "GPU" in message_of(error):  # for a GPU, the message has its own advice
        return ""
    return "; request more in [resources]: memory_gib = ..."


_ROOT = f"{Path(raysweep.__file__).parents[1]}{os.sep}"
"""The folder that contains the package `raysweep` and, on a Ray worker, copies of users' modules."""


def formatted(error: BaseException) -> str:
    """Return the traceback of an error, without the frames before the workload's first one.

    Paths below `_ROOT` are made relative, unless `_ROOT` is a folder of installed packages. For a failed program,
    return the last lines of its output instead.
    """
    if isinstance(output := getattr(error, "program_output", None), str):
        return output
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _AROUND_A_CELL:
        trace = trace.tb_next
    try:
        exception = traceback.TracebackException(type(error), error, trace)
        if exception.stack and exception.stack[-1].filename == timeout_file:
            del exception.stack[-1]  # our signal handler; the alarm interrupted the frame before it
        text = "".join(exception.format())
        return text if _ROOT.endswith(f"-packages{os.sep}") else text.replace(_ROOT, "")
    except BaseException as broken:  # an exception that cannot be printed
        return f"{type(error).__name__}, and its traceback can't be formatted: {type(broken).__name__}"


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


_RSS_UNITS = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB on Linux


def _reset_peak_memory() -> None:
    """Reset the process's peak memory before a cell, if the system can (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
