"""The part of every worker process that runs a chunk, whatever started the process. Its imports stay light."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import raysweep
from raysweep.orchestrator.run.cell import WorkerPosition, run_chunk
from raysweep.orchestrator.run.messages import Chunk, ChunkRefused, ChunkResult
from raysweep.orchestrator.store.storage.scratch import remove_old, scratch
from raysweep.orchestrator.sweep.loading.workload import Workload

BEAT_S = 1.0
"""Seconds between two heartbeats of a worker."""
_STAGE = (str(Path(raysweep.__file__).parents[1]),)
"""The staged folder, with our package and the users' modules."""


def work_on(
    chunk: Chunk, launch: str, folder: str, position: WorkerPosition, node: str | None, workload: Workload | None
) -> ChunkResult | ChunkRefused:
    """Run a chunk in this worker process, and return the worker's reply.

    Args:
        chunk: the cells to run. Users' modules are imported from the staged folder.
        launch: id of the launch.
        folder: the launch's current folder; the cells run in it if it exists on this machine.
        position: updated here, and read by the thread that sends heartbeats.
        node: the cluster's id of this machine; None without a cluster.
        workload: the chunk's workload if it cannot be imported here.
    """
    if not chunk.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray no longer hides GPUs from CPU tasks
    if Path(folder).is_dir():
        os.chdir(folder)
    _tidy()
    chunk = dataclasses.replace(chunk, search=_STAGE if chunk.search else ())
    return run_chunk(chunk, node, fault_path(launch, chunk.number), position, workload)


@functools.cache
def _tidy() -> None:
    """Remove old scratch files. The function is cached, so it does this once per worker process."""
    remove_old()


class Heart(threading.Thread):
    """Calls `beat` every second until `ended` is set. The first call, before the thread starts, is the caller's."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__(name="raysweep-beat", daemon=True)
        self.ended = threading.Event()
        self._beat = beat

    def run(self) -> None:
        """Send heartbeats."""
        while not self.ended.wait(BEAT_S):
            self._beat()


def state_of(pid: int) -> str:
    """Return a process's state as Linux's letter, such as T for stopped; "" if the process does not exist.

    On systems without `/proc` the state is always R (running).
    """
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else "R"


def fault_path(launch: str, number: int) -> Path:
    """Return the file, on the worker's machine, to which a dying worker of chunk `number` writes its stack."""
    return fault_folder(launch) / f"{number}.fault"


def fault_folder(launch: str) -> Path:
    """Return the folder of a launch's fault files on this machine. The driver removes the one on its own machine."""
    return scratch() / f"faults-{launch}"
