"""The thread that publishes what the running cell of this process prints and logs."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.run.context import RunContext
from raysweep.orchestrator.run.curves import MAX_POINTS
from raysweep.orchestrator.run.messages import CellState
from raysweep.orchestrator.run.output import OutputFile
from raysweep.orchestrator.store.checkpoints import CheckpointLocation, reachable
from raysweep.orchestrator.store.live import LiveState, encode, path_of

PUBLISH_S = 1.0
END_BYTES = 64 * 2**10
"""Bytes at the end of the output that are published."""
MAX_SENT = 64 * 2**10
"""Maximum bytes of one state that a worker sends to the driver if it cannot reach the store."""


class Publisher(threading.Thread):
    """Publishes the state of the running cell every second if the cell has printed or logged something new.

    One thread serves all chunks of a process, since starting a thread per chunk would cost milliseconds.
    """

    def __init__(self) -> None:
        super().__init__(name="raysweep-publish", daemon=True)
        self._lock, self._active = threading.Lock(), threading.Event()
        self._chunk: tuple[OutputFile, CheckpointLocation | None, Callable[[CellState], None]] | None = None
        self._cell: tuple[str, int, RunContext] | None = None
        self._published: tuple[int, int] = (0, 0)  # bytes printed, points logged

    def use(self, output: OutputFile, location: CheckpointLocation | None, send: Callable[[CellState], None]) -> None:
        """Publish the states of a chunk's cells from now on. The arguments are those of `publishing`."""
        with self._lock:
            self._chunk = output, location, send
        self._active.set()

    def rest(self) -> None:
        """Publish nothing until the next chunk."""
        self._active.clear()
        with self._lock:
            self._chunk = self._cell = None

    def begin(self, cell_id: str, attempt: int, context: RunContext) -> None:
        """Publish this attempt from now on."""
        with self._lock:
            self._cell, self._published = (cell_id, attempt, context), (0, 0)

    def finish(self) -> bool:
        """Stop publishing the attempt. Return whether any of its output or points was published."""
        with self._lock:
            self._cell = None
            return self._published != (0, 0)

    def run(self) -> None:
        """Publish until the process ends."""
        while self._active.wait():
            time.sleep(PUBLISH_S)
            with self._lock, contextlib.suppress(RaysweepError, OSError):  # a full disk: the next second tries again
                self._publish()

    def _publish(self) -> None:
        if self._cell is None or self._chunk is None:
            return
        output, location, send = self._chunk
        output.flush()
        output.free_middle()
        cell_id, attempt, context = self._cell
        now = (output.size(), context.points)
        if now == self._published or location is None:
            return

        def encoded(part: int) -> bytes:
            size, end = output.end(END_BYTES // part)
            curves = {name: curve.thinned(MAX_POINTS // part) for name, curve in list(context.curves.items())}
            return encode(LiveState(cell_id, attempt, size, end, curves))

        storage = reachable(location)[0]
        if storage is not None:
            storage.replace(path_of(cell_id, attempt), encoded(1))
        elif (state := next((s for s in map(encoded, (1, 8, 64, 512)) if len(s) <= MAX_SENT), None)) is not None:
            send(CellState(cell_id, attempt, state))
        self._published = now


@contextlib.contextmanager
def publishing(
    output: OutputFile, location: CheckpointLocation | None, send: Callable[[CellState], None]
) -> Iterator[Publisher]:
    """Publish the output and logged metrics of the cells that run inside the block.

    Args:
        output: the output file of these cells.
        location: the launch's store; None outside a launch.
        send: called with a cell's state if this machine cannot reach the store.
    """
    publisher = _publisher(os.getpid())
    publisher.use(output, location, send)
    try:
        yield publisher
    finally:
        publisher.rest()


@functools.cache
def _publisher(process: int) -> Publisher:
    """Return the publisher of this process. It is cached by `process`, the PID: a forked child needs a new thread."""
    publisher = Publisher()
    publisher.start()
    return publisher
