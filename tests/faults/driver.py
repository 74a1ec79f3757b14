"""`raysweep` with commits and merges made small and frequent, a clock that is wrong, and death in the middle of them.

    python -m tests.faults.driver SEED[:soon] launch ...

The seed decides by how much the clock is off, and at which commit or merge, between two of its steps, the process
kills itself; it writes why to `died` first. It may end before; with `:soon` the commit is among the first forty.

With `CHAOS_MACHINES` in the environment each process is as if on a machine of its own, known by its heartbeat alone.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Any

from raysweep.orchestrator import process
from raysweep.orchestrator.cli import app
from raysweep.orchestrator.launch import launch
from raysweep.orchestrator.schedule import driver
from raysweep.orchestrator.store import compaction, lease, writer
from raysweep.orchestrator.store.storage import object as object_storage

_true_time = time.time


def main() -> None:
    seed, _, soon = sys.argv[1].partition(":")
    chance = random.Random(int(seed))
    skew = chance.choice([0.0, 0.0, 1.0, -1.0]) * chance.uniform(60, 400 * 86_400)
    time.time = lambda: _true_time() + skew
    launch.FLUSH_OUTCOMES, launch.FLUSH_S, driver.CHUNK_CELLS = 10, 0.2, 5
    compaction.FAN = 4
    object_storage.TIMEOUT_S, object_storage.PATIENCE_S = 2.0, 6.0
    if "CHAOS_MACHINES" in os.environ:
        process.boot_id = lambda: f"machine {seed}"
        lease.DEAD_AFTER_S, lease.BEAT_S = 4.0, 0.5
    # Soon, or after a while: there are commits of a launch's beginning, and many small segments to merge later.
    last = {
        "commit": chance.choice(
            [chance.randrange(1, 40), chance.randrange(1, 40) if soon else chance.randrange(40, 400)]
        ),
        "merge": chance.choice([chance.randrange(1, 8), chance.randrange(8, 60)]),
    }
    commit, replace = writer.StoreWriter._commit, writer.StoreWriter._replace

    def die(why: str) -> None:
        with open("died", "a") as file:
            file.write(f"{why}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_commit(self: writer.StoreWriter, folder: str, table: Any, *more: Any) -> None:
        commit(self, folder, table, *more)
        last["commit"] -= bool(table.num_rows)
        if last["commit"] == 0:
            die(f"in a commit, after {folder}")

    def dying_replace(self: writer.StoreWriter, folder: str, merged: Any, batch: Any) -> None:
        last["merge"] -= 1
        if last["merge"] == 0:
            self._put(folder, merged)
            for segment in batch[: chance.randrange(len(batch))]:
                self.storage.delete(segment.path)
            die(f"in a merge of {folder}")
        replace(self, folder, merged, batch)

    writer.StoreWriter._commit, writer.StoreWriter._replace = dying_commit, dying_replace  # type: ignore[method-assign]
    sys.argv = ["raysweep", *sys.argv[2:]]
    app.main()


if __name__ == "__main__":
    main()
