"""The CPU- and GPU-seconds that a launch has spent so far, and its limits on them, on time and on failed cells."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from raysweep.orchestrator.run.messages import Chunk
from raysweep.orchestrator.schedule.limits import Limits


class Spending:
    """Sums the CPU- and GPU-seconds of a launch's attempts, and compares them with the limits.

    Args:
        limits: the limits of the launch, which begins now.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._began = limits, time.monotonic()
        self._of_attempts = (limits.cpu_seconds, limits.gpu_seconds)
        self._spent = [0.0, 0.0]

    def add(self, cpus: float, gpus: float, seconds: float) -> None:
        """Count the cost of an attempt that has ended."""
        self._spent[0] += cpus * seconds
        self._spent[1] += gpus * seconds

    def reached(self, failed: int, running: Iterable[tuple[float, float, float]]) -> str | None:
        """Describe the limit that is reached; None if no limit is reached.

        Args:
            failed: the number of cells that have used up their attempts.
            running: CPUs, GPUs and seconds so far of each running cell.
        """
        failures, seconds = self._limits.failures, self._limits.seconds
        if failures is not None and failed >= failures:
            return f"--max-failures {failures} was reached"
        if seconds is not None and time.monotonic() - self._began > seconds:
            return f"--max-hours {seconds / 3600:g} was reached"
        if self._of_attempts == (None, None):
            return None
        cells = list(running)
        for i, (name, limit) in enumerate(zip(("cpu", "gpu"), self._of_attempts, strict=True)):
            if limit is not None and self._spent[i] + sum(cell[i] * cell[2] for cell in cells) >= limit:
                return f"--max-{name}-hours was reached"
        return None

    def room(
        self, cpus: float, gpus: float, in_flight: Iterable[Chunk], seconds_of: Callable[[int], tuple[float, bool]]
    ) -> float:
        """Return the seconds that a further cell of this size may take within the limits; infinite without limits.

        The expected seconds of all chunks in flight are subtracted. Cells of unknown duration, which run alone in
        their chunks, do not count.

        Args:
            cpus: CPUs of the cell.
            gpus: GPUs of the cell.
            in_flight: the chunks in flight.
            seconds_of: returns a row's expected seconds (`Attempts.estimate`).
        """
        if self._of_attempts == (None, None):
            return math.inf
        expected = [0.0, 0.0]
        for chunk in in_flight:
            seconds = sum(s for task in chunk.tasks if math.isfinite(s := seconds_of(task.row)[0]))
            expected[0] += chunk.cpus * seconds
            expected[1] += chunk.gpus * seconds
        return min(
            (
                (limit - self._spent[i] - expected[i]) / size
                for i, (limit, size) in enumerate(zip(self._of_attempts, (cpus, gpus), strict=True))
                if limit is not None and size
            ),
            default=math.inf,
        )
