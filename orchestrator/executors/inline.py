"""The inline executor, which runs chunks in this process one after another: for pdb, notebooks and tests."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.run.cell import WorkerPosition, run_chunk
from raysweep.orchestrator.run.messages import Beat, Chunk, ChunkDone, ChunkResult, Event
from raysweep.orchestrator.sweep.loading.workload import Workload


class InlineExecutor:
    """Runs chunks in this process, one at a time. A cell that ignores its timeout cannot be ended.

    Args:
        workloads: name -> workload. Any other workload is imported when a chunk needs it.
    """

    def __init__(self, workloads: Mapping[str, Workload] = MappingProxyType({})) -> None:
        self._workloads = workloads
        self._queue: deque[Chunk] = deque()
        self._position = WorkerPosition()
        self._running: int | None = None  # the number of a chunk

    def slots(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> int:
        """Return 1: this process runs one chunk at a time, whatever it demands."""
        return 1

    def fits(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> str | None:
        """Return a reason if the cell needs a GPU and this machine has none. Any other demand fits."""
        return "--inline runs cells in this process, and this machine has no GPU" if gpus and not _has_gpu() else None

    def waiting(self) -> list[Waiting]:
        """Return an empty list: no chunk ever waits for a node."""
        return []

    def memory_gib(self) -> float | None:
        """Return None: memory is not scheduled, since cells share this process."""
        return None

    def submit(self, chunk: Chunk) -> None:
        """Queue the chunk; `poll` runs it."""
        self._queue.append(chunk)

    def poll(self, timeout: float) -> list[Event]:
        """Run the oldest queued chunk, and return its result as the only event; no event if no chunk is queued."""
        if not self._queue:
            return []
        chunk = self._queue.popleft()
        self._running = chunk.number
        try:
            reply = run_chunk(chunk, position=self._position, workload=self._workloads.get(chunk.workload))
        finally:
            self._running = None
        return [ChunkDone(reply) if isinstance(reply, ChunkResult) else reply]

    def avoid(self, node_id: str) -> bool:
        """Return False: there is no other node."""
        return False

    def beats(self) -> Iterable[Beat]:
        """Return no heartbeats: no cell runs between two polls."""
        return ()

    def in_this_process(self) -> Beat | None:
        """Return the state of the running cell; None if no cell runs."""
        number, position = self._running, self._position
        if number is None or not position.in_cell:
            return None
        fraction = position.context.fraction if position.context else None
        return Beat(number, position.index, time.monotonic() - position.started, fraction)

    def kill(self, number: int) -> None:
        """Forget a chunk that has not begun."""
        self._queue = deque(chunk for chunk in self._queue if chunk.number != number)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running cell.

        The cells of its chunk that have not begun are returned to be requeued.
        """
        self._position.stop = True
        if self._position.in_cell:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Forget the chunks that have not begun."""
        self._queue.clear()


def _has_gpu() -> bool:
    """Tell whether a device file of NVIDIA's or AMD's driver exists. Always True on systems other than Linux."""
    devices = ("nvidia[0-9]*", "kfd", "dxg")  # the last: Windows' GPU under WSL
    return sys.platform != "linux" or any(True for pattern in devices for _ in Path("/dev").glob(pattern))
