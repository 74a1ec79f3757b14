"""The executor of worker processes on this machine: what a launch needs of Ray there, without starting Ray.

A worker runs one chunk at a time and is used again. As many run as the machine's CPUs and memory allow for what
their cells request. Workers run the same code as Ray's (`executors.worker`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import MappingProxyType

from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.executors.cleanup import STAGE
from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.executors.lost import DIED, FROZEN_S, NO_MEMORY, Autopsy, last_line
from raysweep.orchestrator.executors.machine import this_machine
from raysweep.orchestrator.executors.memory import MIN_FREE, is_low, resident_bytes
from raysweep.orchestrator.executors.packaging import launch_folder
from raysweep.orchestrator.executors.processes.worker import Order, Reply
from raysweep.orchestrator.executors.resources import Demand, largest, missing_customs, slots_of
from raysweep.orchestrator.executors.worker import BEAT_S, state_of
from raysweep.orchestrator.run.messages import Beat, Chunk, ChunkDone, ChunkLost, ChunkResult, ChunkReturned, Event
from raysweep.orchestrator.run.threads import VARIABLES
from raysweep.orchestrator.sweep.loading.workload import Workload

MAX_FAILED_STARTS = 3
"""Number of workers in a row that may end before their first heartbeat; then the launch ends."""
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from raysweep.orchestrator.executors.processes.worker import serve; serve(*sys.argv[2:])"
)


class _Worker:
    """A worker process with our end of its pipe, and the chunk that it runs, if any."""

    def __init__(self, stage: Path, launch: str, folder: str, threads: int) -> None:
        self.threads = threads
        self.chunk: Chunk | None = None
        self.has_started = self.has_begun = False  # heard from it at all; about its present chunk
        self.heard = time.monotonic()
        self.connection: Connection
        self.connection, theirs = Pipe()
        self.log = stage.with_name(f"worker-{uuid.uuid4().hex[:8]}.log")
        words = [str(stage), launch, folder, str(theirs.fileno()), str(os.getpid())]
        with theirs, self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own code
                [sys.executable, "-P", "-c", _START, *words],
                env={**os.environ, **dict.fromkeys(VARIABLES, str(threads))},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for the driver alone
            )  # fmt: skip

    def send(self, chunk: Chunk, by_value: bytes | None) -> None:
        """Give the worker, which is idle, a chunk to run."""
        self.chunk, self.has_begun, self.heard = chunk, False, time.monotonic()
        with contextlib.suppress(OSError):  # it has just died: `poll` reports it
            self.connection.send(Order(chunk.number, pickle.dumps(chunk), by_value))

    def replies(self) -> list[Reply]:
        """Read what the worker has sent. A worker that has closed its pipe is ended."""
        replies: list[Reply] = []
        try:
            while self.connection.poll():
                replies.append(self.connection.recv())
                self.has_started = self.has_begun = True
                self.heard = time.monotonic()
        except (EOFError, OSError):
            self.end()
        return replies

    def end(self) -> None:
        """Kill the worker, unless it is dead, and its session. Its guard ends processes of its cells elsewhere."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class ProcessExecutor:
    """Runs chunks in worker processes on this machine.

    Args:
        modules: folder of users' modules -> path of a workload's file in it -> content. Workers import the Python
            files of these folders (see `stage_code`).
        by_value: name -> workload that workers cannot import, since it is defined in this process's `__main__`.

    Raises:
        InputError: a workload cannot be sent by value.
        RaysweepError: the code cannot be copied for the workers. `poll` raises it if workers do not start.
    """

    def __init__(
        self,
        modules: Mapping[str, Mapping[Path, bytes | None]] = MappingProxyType({}),
        by_value: Mapping[str, Workload] = MappingProxyType({}),
    ) -> None:
        self._by_value = {name: _pickled(workload) for name, workload in by_value.items()}
        self._launch, self._folder = uuid.uuid4().hex[:12], str(Path.cwd())
        self._launch_folder = launch_folder(self._launch, modules, is_here=True)
        self._offers = this_machine()
        self._autopsy = Autopsy(self._launch, here=True)
        self._queue: deque[Chunk] = deque()
        self._workers: list[_Worker] = []
        self._beats: list[Beat] = []
        self._failed_starts = 0
        self._looked_at = time.monotonic()

    def slots(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> int:
        """Return how many chunks of this demand this machine runs at once."""
        return slots_of(self._offers, Demand(cpus, gpus, memory_gib, custom))

    def fits(self, cpus: float, gpus: float, memory_gib: float | None, custom: str | None = None) -> str | None:
        """Return the reason why this machine cannot run a cell of this demand; None if it can."""
        demand = Demand(cpus, gpus, memory_gib, custom)
        if slots_of(self._offers, demand):
            return None
        missing = missing_customs([self._offers], demand)
        return f"this machine has no {missing}" if missing else f"this machine offers {largest([self._offers])}"

    def waiting(self) -> list[Waiting]:
        """Return an empty list: no chunk ever waits for another machine."""
        return []

    def memory_gib(self) -> float | None:
        """Return this machine's memory in GiB."""
        return self._offers["memory"] / 2**30

    def submit(self, chunk: Chunk) -> None:
        """Queue the chunk. It begins at once if the machine has room for it."""
        self._queue.append(chunk)
        self._assign()

    def poll(self, timeout: float) -> list[Event]:
        """Return the events of chunks that completed or were lost. Workers that are free get their next chunk first."""
        if not self._queue and all(worker.chunk is None for worker in self._workers):
            return []
        wait([worker.connection for worker in self._workers], timeout)
        events: list[Event] = []
        for worker in list(self._workers):
            is_dead = worker.process.poll() is not None  # before its last replies are read
            for reply in worker.replies():
                if isinstance(reply, Beat):
                    self._beats.append(reply)
                else:
                    worker.chunk = None
                    events.append(ChunkDone(reply) if isinstance(reply, ChunkResult) else reply)
            if worker.has_started:
                self._failed_starts = 0
            if is_dead or worker.process.returncode is not None:
                events += self._buried(worker)
        if time.monotonic() - self._looked_at > BEAT_S:
            self._looked_at = time.monotonic()
            events += self._frozen()
            events += self._without_memory()
        self._assign()
        return events

    def _assign(self) -> None:
        """Give queued chunks to workers, in order, as far as the machine has room for them."""
        room = dict(self._offers)
        for worker in self._workers:
            if worker.chunk is not None:
                _take(room, worker.chunk)
        for chunk in list(self._queue):
            if room["CPU"] <= 0:
                return
            if slots_of(room, _demand(chunk)):
                _take(room, chunk)
                self._queue.remove(chunk)
                self._idle(max(1, int(chunk.cpus))).send(chunk, self._by_value.get(chunk.workload))

    def _idle(self, threads: int) -> _Worker:
        """Return an idle worker whose libraries use so many threads. One is started if none is there.

        Of idle workers with other numbers of threads one is ended, so that no more processes are kept than are used.
        """
        idle = [worker for worker in self._workers if worker.chunk is None]
        for worker in idle:
            if worker.threads == threads:
                return worker
        if idle:
            idle[0].end()
            self._forget(idle[0])
        try:
            worker = _Worker(self._launch_folder.path / STAGE, self._launch, self._folder, threads)
        except OSError as error:
            raise RaysweepError(f"no worker process can be started: {error.strerror}") from None
        self._workers.append(worker)
        return worker

    def _buried(self, worker: _Worker) -> list[Event]:
        """Forget a dead worker; return the event of the chunk that it ran, if any."""
        chunk, code, log = worker.chunk, worker.process.returncode, worker.log
        if not worker.has_started:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                lines = log.read_text(errors="replace").strip().splitlines() or [f"exit code {code}"]
                raise RaysweepError(f"worker processes end before their first cell: {lines[-1]}")
        self._forget(worker)
        if chunk is None:
            return []
        if not worker.has_begun:
            return [ChunkReturned(chunk.number)]
        how = f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.Signals(-code).name}"
        return [self._autopsy.crashed(chunk.number, f"{DIED}: {how}")]

    def _frozen(self) -> list[Event]:
        """End workers that are silent because their process is stopped. Native code may be silent for other reasons."""
        now, events = time.monotonic(), list[Event]()
        for worker in list(self._workers):
            silent = now - worker.heard
            if worker.chunk is not None and silent > FROZEN_S and state_of(worker.process.pid) in {"T", "t"}:
                reason = f"silent for {silent:.0f} s, and its worker process is stopped"
                events.append(ChunkLost(worker.chunk.number, "lost", reason))
                self.kill(worker.chunk.number)
        return events

    def _without_memory(self) -> list[Event]:
        """If the machine's memory runs out, end the largest worker before the kernel picks a process.

        Workers that use little of it stay: others are the cause, and to end them would not help.
        """
        if not is_low():
            return []
        sizes = {w.chunk.number: resident_bytes(w.process.pid) for w in self._workers if w.chunk is not None}
        number = max(sizes, key=lambda number: sizes[number], default=None)
        if number is None or sizes[number] < MIN_FREE * self._offers["memory"]:
            return []
        self.kill(number)
        return [ChunkLost(number, "out_of_memory", NO_MEMORY, self._autopsy.crashed(number).position)]

    def avoid(self, node_id: str) -> bool:
        """Return False: there is no other machine."""
        return False

    def beats(self) -> Iterable[Beat]:
        """Return the heartbeats since the last call."""
        beats, self._beats = self._beats, []
        return beats

    def in_this_process(self) -> None:
        """Return None: cells run in other processes."""

    def kill(self, number: int) -> None:
        """Forget a chunk; if it runs, end its worker."""
        self._queue = deque(chunk for chunk in self._queue if chunk.number != number)
        for worker in list(self._workers):
            if worker.chunk is not None and worker.chunk.number == number:
                worker.end()
                self._forget(worker)

    def interrupt(self) -> None:
        """Do nothing: cells run in other processes, and the driver cancels them."""

    def close(self) -> None:
        """End all workers, and remove the launch's files."""
        self._queue.clear()
        for worker in list(self._workers):
            worker.end()
            self._forget(worker)
        self._launch_folder.remove()

    def _forget(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.log.unlink(missing_ok=True)


def _demand(chunk: Chunk) -> Demand:
    return Demand(chunk.cpus, chunk.gpus, chunk.memory_gib, chunk.custom)


def _take(room: dict[str, float], chunk: Chunk) -> None:
    """Subtract from `room` what the cells of a chunk request."""
    room["CPU"] -= chunk.cpus
    room["memory"] -= (chunk.memory_gib or 0.0) * 2**30


def _pickled(workload: Workload) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(workload)
    except Exception as error:
        raise InputError(f"workload {workload.name!r} cannot be sent to workers: {last_line(error)}") from None
    return data
