"""Runs chunks in this process, one after another: for pdb, notebooks and tests."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.run.cell import WorkerPosition, run_chunk
from raysweep.orchestrator.run.messages import Beat, Chunk, ChunkDone, Event


class InlineExecutor:
    """One slot: this process. A cell that hangs without reacting to its alarm can't be ended from here."""

    def __init__(self) -> None:
        self._queue: deque[Chunk] = deque()
        self._place = WorkerPosition()

    def slots(self, cpus: float, gpus: float, memory_gib: float | None) -> int:
        """One."""
        return 1

    def fits(self, cpus: float, gpus: float, memory_gib: float | None) -> str | None:
        """Why not: a GPU is asked for, and this machine has none. All else is tried."""
        return "--inline runs cells in this process, and this machine has no GPU" if gpus and not _has_gpu() else None

    def waiting(self) -> list[Waiting]:
        """None: this process is there."""
        return []

    def memory_gib(self) -> float | None:
        """Not reckoned: cells share this process."""
        return None

    def submit(self, chunk: Chunk) -> None:
        """Queue the chunk; `poll` runs it."""
        self._queue.append(chunk)

    def poll(self, timeout: float) -> list[Event]:
        """Run the oldest chunk."""
        return [ChunkDone(run_chunk(self._queue.popleft(), place=self._place))] if self._queue else []

    def beats(self) -> Iterable[Beat]:
        """None: between two polls nothing runs."""
        return ()

    def kill(self, number: int) -> None:
        """Forget a chunk that has not begun."""
        self._queue = deque(chunk for chunk in self._queue if chunk.number != number)

    def interrupt(self) -> None:
        """Raise in the cell; what has not begun is handed back."""
        self._place.stop = True
        if self._place.in_cell:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Forget what has not begun."""
        self._queue.clear()


def _has_gpu() -> bool:
    """Whether the system shows a device of NVIDIA's or AMD's driver; elsewhere than on Linux it is left to the cell."""
    devices = ("nvidia[0-9]*", "kfd", "dxg")  # the last is a GPU of Windows' under WSL
    return sys.platform != "linux" or any(True for pattern in devices for _ in Path("/dev").glob(pattern))
