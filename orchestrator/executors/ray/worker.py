"""The Ray worker's side: runs a chunk and gives signs of life. Imported on workers; must stay light."""

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
from raysweep.orchestrator.run.messages import Chunk, ChunkResult
from raysweep.orchestrator.store.storage.scratch import remove_old, scratch

BEAT_S = 1.0
_SHIPPED = (str(Path(raysweep.__file__).parents[1]),)
"""Where our packages and the users' modules lie side by side."""


def work(chunk: Chunk, launch: str, folder: str) -> ChunkResult:
    """One Ray task.

    Args:
        chunk: what to run; a user's module that it searches for is looked for among what was shipped.
        launch: names the launch's signs of life.
        folder: the launch's current folder, which becomes the cell's where this machine has it.
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
            dataclasses.replace(chunk, search=_SHIPPED if chunk.search else ()),
            context.get_node_id(),
            fault_path(launch, chunk.number),
            heart.place,
        )
    finally:
        heart.ended.set()


@functools.cache
def _tidy() -> None:
    """Once a worker process."""
    remove_old()


class _Heart(threading.Thread):
    """Writes once a second where the worker is, and reads whether its machine is about to go."""

    def __init__(self, launch: str, number: int, node: str, worker: str) -> None:
        super().__init__(name="raysweep-beat", daemon=True)
        self.place, self.ended = WorkerPosition(), threading.Event()
        self._number, self._node = number, node
        self._key, self._leave = beat_key(launch, worker), leave_key(launch, node)

    def run(self) -> None:
        while not self.ended.wait(BEAT_S):
            self.beat()

    def beat(self) -> None:
        """One sign of life."""
        from ray.experimental import internal_kv

        place = self.place
        beat = {
            "chunk": self._number,
            "position": place.position,
            "seconds": time.monotonic() - place.started,
            "progress": place.context.fraction if place.context else None,
            "node": self._node,
            "pid": os.getpid(),
        }
        internal_kv._internal_kv_put(self._key, json.dumps(beat).encode(), overwrite=True)
        if not place.leaving and internal_kv._internal_kv_exists(self._leave):
            place.leave()


def state_of(pid: int) -> str:
    """What a process on this machine is at, in a letter (Linux): T is stopped; "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else "R"


def key_prefix(launch: str) -> bytes:
    """What all keys of a launch in the cluster's key-value store begin with."""
    return f"raysweep:{launch}:".encode()


def beat_key(launch: str, worker: str) -> bytes:
    """Where a worker's sign of life stands."""
    return key_prefix(launch) + f"beat:{worker}".encode()


def leave_key(launch: str, node: str) -> bytes:
    """What is there when a machine is about to go."""
    return key_prefix(launch) + f"leave:{node}".encode()


def fault_path(launch: str, number: int) -> Path:
    """Where a dying worker leaves its stack, on its own machine."""
    return fault_folder(launch) / f"{number}.fault"


def fault_folder(launch: str) -> Path:
    """Where workers of a launch leave their stacks; its driver removes the one on its machine."""
    return scratch() / f"faults-{launch}"
