"""Stage 5: a chunk's tasks become outcomes. The only code of ours around a workload on a worker."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import raysweep
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.run.messages import Array, Chunk, ChunkResult, Outcome, Task, Worker
from raysweep.orchestrator.run.threads import threads
from raysweep.orchestrator.run.timeout import CellTimeout, deadline, fault_log
from raysweep.orchestrator.run.timeout import __file__ as deadline_file
from raysweep.orchestrator.store.checkpoints import Checkpoint, Preempted
from raysweep.orchestrator.sweep.workload import Workload, load_workload
from raysweep.orchestrator.text import encodable, message_of

TRACEBACK_LIMIT = 16_384  # characters kept: the first and last halves
LOG_LIMIT = 4_096
MESSAGE_LIMIT = 2_000
_INT64 = 2**63
MAX_ENTRIES = 2**27  # of an array: half of what a segment may hold (`segments.MAX_VALUES`)
NOT_SHARED = (
    "checkpoints are kept on the workers' own disks, since they do not see the store: a cell whose node goes begins "
    "anew; give a --store that all nodes see (a network disk, or s3://)"
)
_PACKAGES = ("raysweep", "ray", "numpy", "torch", "polars", "pyarrow", "numba", "pydantic")


@dataclass(frozen=True, slots=True)
class RunningCell:
    """The cell as a workload sees it (`raysweep.workloads.interface.Cell`)."""

    cell_id: str
    experiment: str
    method: str
    k: int | None
    seed: int
    config: Any


class RunContext:
    """The context a workload gets (`raysweep.workloads.interface.Context`).

    Args:
        device: `cpu` or `cuda`.
        checkpoint: the cell's.
        tell: called with each progress, 0 to 1.
    """

    def __init__(self, device: str, checkpoint: Checkpoint, tell: Callable[[float], None] | None = None) -> None:
        self._tell = tell
        self.device = device
        self.checkpoint = checkpoint
        self.arrays: list[Array] = []
        self._parts: set[tuple[str, int]] = set()
        self.fraction: float | None = None

    def array(self, name: str, values: Any, step: int = 0, stride: int = 1) -> None:
        """Record a one-dimensional array: entry i belongs to step `step + i * stride`."""
        name = _name(name, "array")
        what = f"context.array({name!r})"
        try:
            array = np.asarray(values)
            if array.dtype != np.float64 or not isinstance(values, np.ndarray):
                array = _float32(array)
            step, stride = int(step), int(stride)
        except Exception as error:
            raise _named(what, error) from None
        if array.ndim != 1:
            raise ValueError(f"{what}: shape {array.shape} is not one-dimensional")
        if len(array) > MAX_ENTRIES:
            raise ValueError(
                f"{what}: {len(array):,} entries; {MAX_ENTRIES:,} at most: record every n-th, and stride=n"
            )
        if not -_INT64 <= step < _INT64:
            raise ValueError(f"{what}: the step does not fit 64 bits")
        if not 1 <= stride < _INT64:
            raise ValueError(f"{what}: stride {stride if stride < 1 else 'beyond 64 bits'} is not 1 or more")
        if (name, step) in self._parts:
            raise ValueError(f"{what}: recorded before from step {step} on; give each part a step of its own")
        self._parts.add((name, step))
        self.arrays.append(Array(name, step, stride, array.copy()))

    @property
    def should_stop(self) -> bool:
        """Whether the machine is about to go: save a checkpoint now, which hands the cell back."""
        return self.checkpoint.draining

    def progress(self, fraction: float) -> None:
        """Say how much of the cell is done (0 to 1)."""
        self.fraction = min(1.0, max(0.0, float(fraction)))
        if self._tell is not None:
            self._tell(self.fraction)


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype == np.float32:
        return array
    if np.iscomplexobj(array):
        raise TypeError("complex numbers; record two arrays, the real part and the imaginary one")
    wide = array.astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    if (np.isinf(narrow) & np.isfinite(wide)).any():
        raise ValueError("values beyond float32; give a NumPy array of float64, which is kept as it is")
    return narrow


class WorkerPosition:
    """Where in its chunk a worker is; read by the thread that sends signs of life, and by who interrupts."""

    def __init__(self) -> None:
        self.position = 0
        self.started = time.monotonic()
        self.context: RunContext | None = None
        self.in_cell = False  # a KeyboardInterrupt raised now ends the cell and nothing else
        self.stop = False  # begin no more cells
        self.leaving = False  # the machine is about to go

    def leave(self) -> None:
        """The machine is about to go: begin no more cells, and let the running one hand itself back."""
        self.leaving = self.stop = True
        if self.context is not None:
            self.context.checkpoint.draining = True


def run_chunk(
    chunk: Chunk, node_id: str | None = None, fault_file: Path | None = None, place: WorkerPosition | None = None
) -> ChunkResult:
    """Run the chunk's tasks in order; what was not begun after `hand_back_after_s` goes back.

    Args:
        chunk: the tasks.
        node_id: the cluster's name for this machine.
        fault_file: where a dying process leaves its stack; None for a process that must not die.
        place: kept up to date for signs of life.
    """
    place = place or WorkerPosition()
    process = os.getpid()
    folder: Path | None = None
    with contextlib.suppress(FileNotFoundError):  # the current folder was removed
        folder = Path.cwd()
    began = time.monotonic()
    outcomes: list[Outcome] = []
    handed_back: tuple[int, ...] = ()
    notes: dict[str, None] = {}
    with fault_log(fault_file) as faults, threads(chunk.cpus):
        workload, broken = _load(chunk)
        for position, task in enumerate(chunk.tasks):
            if place.stop or (position and time.monotonic() - began > chunk.hand_back_after_s):
                handed_back = tuple(t.row for t in chunk.tasks[position:])
                break
            place.position, place.started = position, time.monotonic()
            outcome = broken(task) if workload is None else _run(workload, task, chunk, place, faults, position)
            if place.context is not None and place.context.checkpoint.is_local:
                notes[NOT_SHARED] = None
            if os.getpid() != process:  # a child that the cell forked: the launch is its parent's to go on with
                os._exit(0 if outcome.status == "done" else 1)
            if folder is not None:  # one cell's current folder is not the next one's
                with contextlib.suppress(OSError):
                    os.chdir(folder)
            outcomes.append(outcome)
            if outcome.status in ("cancelled", "preempted"):
                handed_back = tuple(t.row for t in chunk.tasks[position + 1 :])
                break
    worker = Worker(
        host=socket.gethostname(),
        node_id=node_id,
        pid=os.getpid(),
        device=chunk.device,
        source_digest=workload.source_digest if workload else None,
        source_path=workload.source_path if workload else None,
        packages=_packages(),
    )
    return ChunkResult(chunk.number, worker, tuple(outcomes), handed_back, tuple(notes))


def _load(chunk: Chunk) -> tuple[Workload | None, Any]:
    """The workload, or what makes a failed outcome of each task where it can't be loaded here."""
    try:
        return load_workload(chunk.workload, chunk.search), None
    except InputError as error:
        text, trace = str(error), traceback.format_exc()

        def broken(task: Task) -> Outcome:
            now = time.time()
            return Outcome(
                task.row, task.attempt, "failed", now, now, 0.0,
                error_type="WorkloadNotLoaded", error_message=text, traceback=_bounded(trace, TRACEBACK_LIMIT),
            )  # fmt: skip

        return None, broken


def _run(
    workload: Workload, task: Task, chunk: Chunk, place: WorkerPosition, faults: IO[str] | None, position: int
) -> Outcome:
    checkpoint = Checkpoint(chunk.home, task.cell_id, task.attempt, workload.source_digest)
    context = RunContext(chunk.device, checkpoint)
    checkpoint.draining = place.leaving
    place.context = context
    log = _Tail()
    _reset_peak_memory()
    started_at, cpu = time.time(), time.process_time()
    started = time.perf_counter()
    status = "done"
    metrics: dict[str, float] = {}
    error: BaseException | None = None
    try:
        try:
            place.in_cell = True
            if place.stop and not place.leaving:
                raise KeyboardInterrupt
            with (
                contextlib.redirect_stdout(log),
                contextlib.redirect_stderr(log),
                deadline(task.timeout_s, faults, position),
            ):
                metrics = call(workload, chunk.experiment, task, context)
        finally:
            place.in_cell = False
        if task.timeout_s is not None and time.perf_counter() - started > task.timeout_s:
            raise CellTimeout(f"ran longer than its timeout of {task.timeout_s:g} s, and ignored its alarm")
    except CellTimeout as caught:
        status, error = "timed_out", caught
    except Preempted as caught:
        status, error = "preempted", caught
    except KeyboardInterrupt as caught:
        status, error = "cancelled", caught
    except MemoryError as caught:
        status, error = "out_of_memory", caught
    except BaseException as caught:  # SystemExit too: a cell's failure is a row, never the worker's end
        status, error = "failed", caught
    seconds = time.perf_counter() - started
    text = log.text()
    if status == "done":
        checkpoint.forget()
    return Outcome(
        row=task.row,
        attempt=task.attempt,
        status=status,
        started_at=started_at,
        finished_at=started_at + seconds,
        seconds=seconds,
        cpu_seconds=time.process_time() - cpu,
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS,
        metrics=metrics if status == "done" else {},
        arrays=tuple(context.arrays) if status == "done" else (),
        error_type=None if error is None else type(error).__name__,
        error_message=None if error is None else _bounded(message_of(error) + _advice(error), MESSAGE_LIMIT),
        traceback=None if error is None else _bounded(formatted(error), TRACEBACK_LIMIT),
        log_tail=text or None,
        checkpointed=checkpoint.used and not checkpoint.is_local,
    )


def call(workload: Workload, experiment: str, task: Task, context: RunContext) -> dict[str, float]:
    """Run one cell to its metrics, whatever it raises; what surrounds it is the caller's."""
    config = workload.revive(task.config)
    cell = RunningCell(task.cell_id, experiment, task.method, task.k, task.seed, config)
    return _checked(workload.run(cell, context))


def _advice(error: BaseException) -> str:
    if not isinstance(error, MemoryError) or "GPU" in message_of(
        error
    ):  # of a GPU's memory its workload says what to do
        return ""
    return "; ask for what it needs in [resources]: memory_gib = ..."


def _checked(returned: Any) -> dict[str, float]:
    """Metrics as finite floats by name.

    Raises:
        TypeError, ValueError: anything else; a missing number is left out, never NaN.
    """
    if not isinstance(returned, Mapping):
        raise TypeError(f"the workload returned {type(returned).__name__}; return a dict of metric name to number")
    metrics = {}
    for name, value in returned.items():
        name = _name(name, "metric")
        if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
            raise TypeError(f"metric {name!r} is {type(value).__name__} {value!r}, not a number")
        try:
            number = float(value)
        except Exception as error:
            raise _named(f"metric {name!r} ({type(value).__name__})", error) from None
        if not math.isfinite(number):
            raise ValueError(
                f"metric {name!r} is {number}; leave a metric that does not exist out "
                "(a diverged run returns diverged = 1 and no error figure)"
            )
        metrics[name] = number
    return metrics


def _named(what: str, error: Exception) -> Exception:
    """What a conversion raised (a tensor's may raise anything), with the name of what was converted."""
    kind = next((kind for kind in (TypeError, MemoryError) if isinstance(error, kind)), ValueError)
    return kind(f"{what}: {message_of(error)}")


def _name(name: Any, what: str) -> str:
    """The name of a metric or array, as one that the store can hold and queries can name.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"{what} name {name!r} is not text")
    if not encodable(name):
        raise ValueError(f"{what} name {name!r} holds what is no Unicode text, or a NUL")
    return "".join([name])


SHIPPED = f"{Path(raysweep.__file__).resolve().parents[1]}{os.sep}"
"""Where our package lies; on a worker of Ray's, copies of the users' modules beside them."""


def formatted(error: BaseException) -> str:
    """The traceback from the workload's own first frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        made = traceback.TracebackException(type(error), error, trace)
        if made.stack and made.stack[-1].filename == deadline_file:
            del made.stack[-1]  # the alarm rang in the frame before
        text = "".join(made.format())
        # Where modules were shipped to says nothing to whoever wrote them.
        return text if SHIPPED.endswith(f"-packages{os.sep}") else text.replace(SHIPPED, "")
    except BaseException as broken:  # an exception that can't be printed
        return f"{type(error).__name__}, and its traceback can't be formatted: {type(broken).__name__}"


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


class _Tail(io.TextIOBase):
    """Keeps the last few KiB of what a cell prints."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._parts.append(text[-LOG_LIMIT:])
        self._length += len(text)
        if self._length > 4 * LOG_LIMIT:
            self._parts = ["".join(self._parts)[-LOG_LIMIT:]]
            self._length = len(self._parts[0])
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)[-LOG_LIMIT:]


_RSS_UNITS = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, KiB here


def _reset_peak_memory() -> None:
    """Make the process's peak the cell's own, where the system can (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


_seen_packages: dict[frozenset[str], str] = {}


def _packages() -> str:
    """JSON of the versions of the packages that matter and are loaded here."""
    loaded = frozenset(name for name in _PACKAGES if name in sys.modules or name == "raysweep")
    if loaded not in _seen_packages:
        versions = {}
        for name in sorted(loaded):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        versions["python"] = ".".join(str(part) for part in sys.version_info[:3])
        _seen_packages[loaded] = json.dumps(versions, sort_keys=True, separators=(",", ":"))
    return _seen_packages[loaded]
