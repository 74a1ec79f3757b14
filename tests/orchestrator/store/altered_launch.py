"""`raysweep` with small commits and frequent merges, which dies at a chosen point or poses as another machine.

    python -m tests.orchestrator.store.altered_launch MODE launch ...

Modes: `die-in-commit` (before attempts are written), `die-in-merge` (the merged segment of `cells` is there, nothing is
deleted yet), `die-deleting` (half of a merge's segments are deleted), `machine:NAME` (impatient, with a fast heartbeat;
NAME, if not empty, is what other processes take for its machine).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from raysweep.orchestrator import process
from raysweep.orchestrator.cli import app
from raysweep.orchestrator.launch import launch
from raysweep.orchestrator.schedule import driver
from raysweep.orchestrator.store import compaction, lease
from raysweep.orchestrator.store.storage import object as object_storage
from raysweep.orchestrator.store.storage.local import LocalStorage
from raysweep.orchestrator.store.writer import StoreWriter

ALTERED = [sys.executable, "-m", "tests.orchestrator.store.altered_launch"]
FAN = 4


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_commit() -> None:
    commit = StoreWriter._commit

    def dying(self: StoreWriter, folder: str, *rest: Any) -> None:
        if folder == "attempts":
            die()
        commit(self, folder, *rest)

    StoreWriter._commit = dying  # type: ignore[method-assign, assignment]


def die_in_merge() -> None:
    launch.FLUSH_OUTCOMES = driver.CHUNK_CELLS = 1
    replace = StoreWriter._replace

    def dying(self: StoreWriter, folder: str, merged: bytes, batch: Any) -> None:
        if folder == "cells":
            self._put(folder, merged)
            die()
        replace(self, folder, merged, batch)

    StoreWriter._replace = dying  # type: ignore[method-assign]


def die_deleting() -> None:
    launch.FLUSH_OUTCOMES = driver.CHUNK_CELLS = 1
    delete, deleted = LocalStorage.delete, []

    def dying(self: LocalStorage, name: str) -> None:
        deleted.append(name)
        delete(self, name)
        if len(deleted) == FAN + FAN // 2:  # in the second merge
            die()

    LocalStorage.delete = dying  # type: ignore[method-assign]


def pose_as(machine: str) -> None:
    launch.FLUSH_S, driver.CHUNK_CELLS, launch.FLUSH_OUTCOMES = 0.2, 5, 10
    object_storage.TIMEOUT_S, object_storage.PATIENCE_S = 1.0, 5.0
    lease.DEAD_AFTER_S, lease.BEAT_S = 2.0, 0.3
    boot = machine or process.boot_id()
    process.boot_id = lambda: boot


def main() -> None:
    mode, _, machine = sys.argv[1].partition(":")
    compaction.FAN = FAN
    os.fsync = lambda fd: None  # here processes die, and machines do not
    if mode == "machine":
        pose_as(machine)
    else:
        {"die-in-commit": die_in_commit, "die-in-merge": die_in_merge, "die-deleting": die_deleting}[mode]()
    sys.argv = ["raysweep", *sys.argv[2:]]
    app.main()


if __name__ == "__main__":
    main()
