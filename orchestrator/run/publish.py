"""The thread that publishes what the running cell of this process prints and logs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.run.context import RunContext
from raysweep.orchestrator.run.curves import MAX_POINTS
from raysweep.orchestrator.run.messages import CellState
from raysweep.orchestrator.run.output import OutputFile
from raysweep.orchestrator.store.checkpoints import CheckpointLocation, reachable
from raysweep.orchestrator.store.live import LiveState, encode, path_of

PUBLISH_S = 1.0
END_BYTES = 64 * 2**10
"""Bytes of output, from the end, that are published."""
MAX_SENT = 64 * 2**10
"""Bytes of a state that are sent to the driver at once if the worker cannot reach the store."""


class Publisher(threading.Thread):
    """Publishes the state of the running cell every second, if it has printed or logged something since.

    Args:
        output: the output file of the process's cells.
        location: the launch's store; None outside a launch.
        send: called with the state if this machine cannot reach the store.
    """

    def __init__(
        self, output: OutputFile, location: CheckpointLocation | None, send: Callable[[CellState], None]
    ) -> None:
        super().__init__(name="raysweep-publish", daemon=True)
        self._output, self._location, self._send = output, location, send
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._cell: tuple[str, int, RunContext] | None = None
        self._published: tuple[int, int] = (0, 0)  # bytes printed, points logged

    def begin(self, cell_id: str, attempt: int, context: RunContext) -> None:
        """Publish this attempt from now on."""
        with self._lock:
            self._cell, self._published = (cell_id, attempt, context), (0, 0)

    def finish(self) -> bool:
        """Publish the attempt no longer; return whether anything of it was published."""
        with self._lock:
            self._cell = None
            return self._published != (0, 0)

    def run(self) -> None:
        """Publish until `close` is called."""
        while not self._ended.wait(PUBLISH_S):
            with self._lock, contextlib.suppress(RaysweepError, OSError):  # a full disk: the next second tries again
                self.publish()

    def publish(self) -> None:
        """Publish the running cell's state if it has changed."""
        if self._cell is None:
            return
        self._output.flush()
        self._output.free_middle()
        cell_id, attempt, context = self._cell
        now = (self._output.size(), context.points)
        if now == self._published or self._location is None:
            return
        storage = reachable(self._location)[0]
        if storage is not None:
            storage.replace(path_of(cell_id, attempt), self._state(END_BYTES, MAX_POINTS))
        else:
            sizes = ((END_BYTES, MAX_POINTS), (END_BYTES // 8, MAX_POINTS // 10), (END_BYTES // 64, MAX_POINTS // 100))
            states = (self._state(*size) for size in sizes)
            if (state := next((s for s in states if len(s) <= MAX_SENT), None)) is not None:
                self._send(CellState(cell_id, attempt, state))
        self._published = now

    def _state(self, count: int, points: int) -> bytes:
        """The encoded state, with the last `count` bytes of output and about `points` points of each curve."""
        assert self._cell is not None  # noqa: S101 - for the type checker
        cell_id, attempt, context = self._cell
        size, end = self._output.end(count)
        curves = {name: curve.thinned(points) for name, curve in list(context.curves.items())}
        return encode(LiveState(cell_id, attempt, size, end, curves))

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
