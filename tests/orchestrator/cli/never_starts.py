"""raysweep, with workers on Ray that never start: as the driver sees it, workers that give no sign of life."""

from __future__ import annotations

import time

from raysweep.orchestrator.cli.app import main
from raysweep.orchestrator.executors.ray import executor


def never(*chunk: object) -> None:
    time.sleep(60)


if __name__ == "__main__":
    executor.START_S, executor.work = 2.0, never
    main()
