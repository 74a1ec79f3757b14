"""The Ray worker's side: runs a chunk and gives signs of life. Imported on workers; must stay light."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from orchestrator.chunk import Chunk, ChunkResult
from orchestrator.run import Place, run_chunk

BEAT_S = 1.0


def work(chunk: Chunk, launch: str, folder: str) -> ChunkResult:
    """One Ray task.

    Args:
        chunk: what to run; its user's module comes from the shipped package, so its `search` is dropped.
        launch: names the launch's signs of life.
        folder: the launch's current folder, which becomes the cell's where this machine has it.
    """
    import ray

    if not chunk.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray no longer hides GPUs from CPU tasks
    if Path(folder).is_dir():
        os.chdir(folder)
    context = ray.get_runtime_context()
    place = Place()
    ended = threading.Event()
    key = beat_key(launch, context.get_worker_id())
    heart = threading.Thread(target=_beat, args=(key, chunk.number, place, ended), daemon=True)
    heart.start()
    try:
        return run_chunk(
            dataclasses.replace(chunk, search=()),
            context.get_node_id(),
            fault_path(launch, chunk.number),
            place,
        )
    finally:
        ended.set()


def _beat(key: bytes, number: int, place: Place, ended: threading.Event) -> None:
    from ray.experimental import internal_kv

    while True:
        beat = {
            "chunk": number,
            "position": place.position,
            "seconds": time.monotonic() - place.started,
            "progress": place.context.fraction if place.context else None,
        }
        internal_kv._internal_kv_put(key, json.dumps(beat).encode(), overwrite=True)
        if ended.wait(BEAT_S):
            return


def beat_key(launch: str, worker: str) -> bytes:
    """Where a worker's sign of life stands in the cluster's key-value store."""
    return f"raysweep-beat:{launch}:{worker}".encode()


def fault_path(launch: str, number: int) -> Path:
    """Where a dying worker leaves its stack, on its own machine."""
    return Path(tempfile.gettempdir()) / f"raysweep-{os.getuid()}" / f"{launch}-{number}.fault"
