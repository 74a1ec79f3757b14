"""The part of the Ray executor that runs in a worker: it runs a chunk and sends heartbeats. Its imports stay light."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import threading
import time
from pathlib import Path

import raysweep
from raysweep.orchestrator.run.cell import WorkerPosition, run_chunk
from raysweep.orchestrator.run.messages import Chunk, ChunkRefused, ChunkResult
from raysweep.orchestrator.store.storage.scratch import remove_old, scratch
from raysweep.orchestrator.sweep.loading.workload import Workload

BEAT_S = 1.0
_STAGE = (str(Path(raysweep.__file__).parents[1]),)
"""The staged folder, with our package and the users' modules."""


def work(chunk: Chunk, launch: str, folder: str, workload: Workload | None = None) -> ChunkResult | ChunkRefused:
    """Run a chunk as one Ray task, and return the worker's reply.

    Args:
        chunk: the cells to run. Users' modules are imported from the staged folder.
        launch: id of the launch, which is part of its keys in the cluster's key-value store.
        folder: the launch's current folder; the cells run in it if it exists on this machine.
        workload: the chunk's workload if it cannot be imported here.
    """
    import ray

    if not chunk.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray no longer hides GPUs from CPU tasks
    if Path(folder).is_dir():
        os.chdir(folder)
    _tidy()
    context = ray.get_runtime_context()
    heart = _Heart(launch, chunk.number, context.get_node_id(), context.get_worker_id())
    heart.beat()  # before the cell may hold the interpreter for minutes
    heart.start()
    try:
        return run_chunk(
            dataclasses.replace(chunk, search=_STAGE if chunk.search else ()),
            context.get_node_id(),
            fault_path(launch, chunk.number),
            heart.position,
            workload,
        )
    finally:
        heart.ended.set()


@functools.cache
def _tidy() -> None:
    """Remove old scratch files. The function is cached, so it does this once per worker process."""
    remove_old()


class _Heart(threading.Thread):
    """Writes the worker's heartbeat every second, and reads whether its node is being drained."""

    def __init__(self, launch: str, number: int, node: str, worker: str) -> None:
        super().__init__(name="raysweep-beat", daemon=True)
        self.position, self.ended = WorkerPosition(), threading.Event()
        self._number, self._node = number, node
        self._beat_key, self._drain_key = beat_key(launch, worker), drain_key(launch, node)
        self._live_key = live_key(self._beat_key)
        self._sent: tuple[str, int, bytes] | None = None  # the last state of a cell
        self._states = 0  # number of states sent for this chunk

    def run(self) -> None:
        while not self.ended.wait(BEAT_S):
            self.beat()

    def beat(self) -> None:
        """Write one heartbeat."""
        from ray.experimental import internal_kv

        position = self.position
        beat = {
            "chunk": self._number,
            "position": position.index,
            "seconds": time.monotonic() - position.started,
            "progress": position.context.fraction if position.context else None,
            "node": self._node,
            "pid": os.getpid(),
            "live": self._states,
        }
        if position.live is not None and position.live is not self._sent:
            self._sent, self._states = position.live, self._states + 1
            beat["live"] = self._states
            cell_id, attempt, state = position.live
            internal_kv._internal_kv_put(self._live_key, f"{cell_id} {attempt} ".encode() + state, overwrite=True)
        internal_kv._internal_kv_put(self._beat_key, json.dumps(beat).encode(), overwrite=True)
        if not position.draining and internal_kv._internal_kv_exists(self._drain_key):
            position.drain()


def state_of(pid: int) -> str:
    """Return a process's state as Linux's letter, such as T for stopped; "" if the process does not exist.

    On systems without `/proc` the state is always R (running).
    """
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else "R"


def key_prefix(launch: str) -> bytes:
    """Return the prefix of a launch's keys in the cluster's key-value store."""
    return f"raysweep:{launch}:".encode()


def beat_key(launch: str, worker: str) -> bytes:
    """Return the key of a worker's heartbeat in the cluster's key-value store."""
    return key_prefix(launch) + f"beat:{worker}".encode()


def live_key(beat: bytes) -> bytes:
    """Return the key of the state of a worker's running cell. `beat` is the key of the worker's heartbeat."""
    return beat.replace(b":beat:", b":live:")


def drain_key(launch: str, node: str) -> bytes:
    """Return the key that exists in the cluster's key-value store once a node is being drained."""
    return key_prefix(launch) + f"drain:{node}".encode()


def fault_path(launch: str, number: int) -> Path:
    """Return the file, on the worker's machine, to which a dying worker of chunk `number` writes its stack."""
    return fault_folder(launch) / f"{number}.fault"


def fault_folder(launch: str) -> Path:
    """Return the folder of a launch's fault files on this machine. The driver removes the one on its own machine."""
    return scratch() / f"faults-{launch}"
