"""Progress of a running launch: counts of cells, the rate and the time left."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


class Pace(NamedTuple):
    """Rate in cells per second, and seconds left (None while unknown)."""

    cells_per_s: float
    seconds_left: float | None


def pace(cells: int, work: float, work_left: float, seconds: float) -> Pace:
    """Compute rate and time left from a window of `seconds`: seconds_left = work_left * seconds / work.

    Args:
        cells: number of cells done in the window.
        work: work done in the window, by any cost model, such as `Plan.weights`.
        work_left: work still to be done, in the same unit.
        seconds: length of the window.
    """
    seconds = max(seconds, 1e-9)
    return Pace(cells / seconds, work_left * seconds / work if work > 0 else None)


class FailedAttempt(NamedTuple):
    """An attempt that did not succeed."""

    cell_id: str
    status: str
    reason: str


@dataclass
class Progress:
    """Counts of a running launch."""

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0  # cells, by the workers' last heartbeats
    work_done: float = 0.0  # by `Plan.weights`, of cells that are done or have used up their attempts
    work_left: float = 0.0  # the same of the other cells
    to_retry: int = 0  # cells that failed and will be tried again
    bad_attempts: int = 0
    bad: deque[FailedAttempt] = field(default_factory=lambda: deque(maxlen=64))  # the last ones
    slow: list[tuple[str, float, float]] = field(default_factory=list)  # id, seconds so far, usual seconds
    stopped: str | None = None  # why no more cells are started
    waiting: tuple[str, ...] = ()  # nodes that cells wait for
    notes: dict[str, None] = field(default_factory=dict)  # warnings, in order
    recent: deque[tuple[float, int, float]] = field(default_factory=lambda: deque(maxlen=64))  # when, done, work done

    @property
    def left(self) -> int:
        """Number of cells that have neither succeeded nor used up their attempts."""
        return self.total - self.done - self.failed

    def pace(self, began: float, now: float) -> Pace:
        """Compute rate and time left over the last batches. `began` (the launch's start) and `now`: monotonic seconds.

        The launch's beginning is not typical: Ray starts then, and the longest cells run.
        """
        since, done, work = self.recent[0] if self.recent else (began, 0, 0.0)
        if done in (0, self.done):  # too few batches for a window
            since, done, work = began, 0, 0.0
        return pace(self.done - done, self.work_done - work, self.work_left, now - since)
