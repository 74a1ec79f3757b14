"""The part of the Ray executor that runs in a worker: it runs a chunk and sends heartbeats. Its imports stay light."""

from __future__ import annotations

import json
import os
import time

from raysweep.orchestrator.executors.worker import Heart, work_on
from raysweep.orchestrator.run.cell import WorkerPosition
from raysweep.orchestrator.run.messages import Chunk, ChunkRefused, ChunkResult
from raysweep.orchestrator.sweep.loading.workload import Workload


def work(chunk: Chunk, launch: str, folder: str, workload: Workload | None = None) -> ChunkResult | ChunkRefused:
    """Run a chunk as one Ray task, and return the worker's reply. For the arguments see `work_on`."""
    import ray

    context = ray.get_runtime_context()
    beat = _Beat(launch, chunk.number, context.get_node_id(), context.get_worker_id())
    beat()  # before the cell may hold the interpreter for minutes
    heart = Heart(beat)
    heart.start()
    try:
        return work_on(chunk, launch, folder, beat.position, context.get_node_id(), workload)
    finally:
        heart.ended.set()


class _Beat:
    """Writes one heartbeat of the worker, and reads whether its node is being drained."""

    def __init__(self, launch: str, number: int, node: str, worker: str) -> None:
        self.position = WorkerPosition()
        self._number, self._node = number, node
        self._beat_key, self._drain_key = beat_key(launch, worker), drain_key(launch, node)
        self._live_key = live_key(self._beat_key)
        self._sent: tuple[str, int, bytes] | None = None  # the last state of a cell
        self._states = 0  # number of states sent for this chunk

    def __call__(self) -> None:
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
