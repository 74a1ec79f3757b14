"""A worker process: runs chunks that it receives from the driver through a pipe, and sends heartbeats and replies.

It never outlives its driver: on Linux the kernel kills it when the driver dies; elsewhere its next heartbeat fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import NamedTuple

from raysweep.orchestrator.executors.lost import last_line
from raysweep.orchestrator.executors.worker import Heart, work_on
from raysweep.orchestrator.run.cell import WorkerPosition
from raysweep.orchestrator.run.messages import Beat, CellState, Chunk, ChunkLost, ChunkRefused, ChunkResult
from raysweep.orchestrator.sweep.loading.workload import Workload

Reply = Beat | ChunkResult | ChunkRefused | ChunkLost
PR_SET_PDEATHSIG = 1


class Order(NamedTuple):
    """A chunk to run, from the driver.

    Args:
        number: the chunk's number.
        chunk: the chunk, pickled.
        workload: the chunk's workload, pickled by value, if it cannot be imported.
    """

    number: int
    chunk: bytes
    workload: bytes | None = None


def serve(launch: str, folder: str, descriptor: str, driver: str) -> None:
    """Run chunks until the driver closes the pipe.

    Args:
        launch: id of the launch.
        folder: the launch's current folder.
        descriptor: the descriptor of this end of the pipe.
        driver: the PID of the driver.
    """
    _die_with(int(driver))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if memory runs out, the kernel kills a worker and not the driver
    line = _Line(Connection(int(descriptor)))
    Heart(line.beat).start()
    while (order := line.next()) is not None:
        line.send(_reply(order, launch, folder, line))


def _reply(order: Order, launch: str, folder: str, line: _Line) -> Reply:
    try:
        chunk: Chunk = pickle.loads(order.chunk)  # noqa: S301 - from our own driver
        workload: Workload | None = pickle.loads(order.workload) if order.workload else None  # noqa: S301
    except Exception as error:
        return ChunkRefused(order.number, None, socket.gethostname(), last_line(error))
    position = line.begin(chunk.number)
    try:
        return work_on(chunk, launch, folder, position, None, workload)
    except Exception as error:  # our own code failed
        return ChunkLost(chunk.number, "failed", last_line(error), traceback=traceback.format_exc()[-16_384:])
    finally:
        line.end()


class _Line:
    """This worker's end of the pipe, which two threads use: the main one, and the one of the heartbeats."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._running: tuple[int, WorkerPosition] | None = None
        self._sent: CellState | None = None

    def next(self) -> Order | None:
        """Wait for the next order; None once the driver has closed the pipe."""
        try:
            order: Order = self._connection.recv()
        except (EOFError, OSError):
            return None
        return order

    def begin(self, number: int) -> WorkerPosition:
        """Send the first heartbeat of a chunk: later the cell may hold the interpreter for minutes."""
        position = WorkerPosition()
        self._running = number, position
        self.beat()
        return position

    def end(self) -> None:
        """Send no more heartbeats until the next chunk."""
        self._running = None

    def beat(self) -> None:
        """Send a heartbeat if a chunk runs."""
        if (running := self._running) is None:
            return
        number, position = running
        live = None if position.live is self._sent else position.live
        self._sent = position.live
        fraction = position.context.fraction if position.context else None
        self.send(Beat(number, position.index, time.monotonic() - position.started, fraction, live))

    def send(self, reply: Reply) -> None:
        """Send a reply. If the driver is dead, so is this worker."""
        with self._lock:
            try:
                self._connection.send(reply)
            except OSError:
                os.kill(os.getpid(), signal.SIGKILL)


def _die_with(driver: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, which it does only with its process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != driver:  # it died before
            os._exit(1)
