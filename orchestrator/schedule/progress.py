"""Progress of a running launch: counts of cells, the rate and the time left."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_HISTORY = 512
"""Maximum number of entries in a launch's history of counts. Beyond it, every second entry is dropped."""
MANY_CELLS = 400
"""When n cells are done, the pace ignores the first n / MANY_CELLS of the run time, but at most half of it.

With few cells, a longer window is needed.
"""


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
    """An attempt that did not end with the status `done`."""

    cell_id: str
    status: str
    reason: str


@dataclass
class Progress:
    """Counts of a running launch."""

    total: int
    done: int = 0
    uncommitted: int = 0  # of the done cells, those that are not yet in the store
    failed: int = 0
    running: int = 0  # cells, by the workers' last heartbeats
    work_done: float = 0.0  # by `Plan.weights`, of cells that are done or have used up their attempts
    work_begun: float = 0.0  # the part of running cells that is done, by the same weights
    work_left: float = 0.0  # of cells that are neither done nor out of attempts, running ones in full
    to_retry: int = 0  # cells that failed and will be tried again
    bad_attempts: int = 0
    bad: deque[FailedAttempt] = field(default_factory=lambda: deque(maxlen=64))  # the last ones
    slow: list[tuple[str, float, float]] = field(default_factory=list)  # id, seconds so far, usual seconds
    stopped: str | None = None  # why no more cells are started
    cancelled: int = 0  # cells that were cancelled by name
    paused: bool = False  # no cells are started for now
    waiting: tuple[str, ...] = ()  # nodes that cells wait for
    notes: dict[str, None] = field(default_factory=dict)  # warnings, in order
    began: float | None = None  # when the first cell of the launch began, on the monotonic clock
    history: list[tuple[float, int, float]] = field(default_factory=list)  # when, done, work done

    @property
    def left(self) -> int:
        """Number of cells that have neither succeeded, nor used up their attempts, nor been cancelled by name."""
        return self.total - self.done - self.failed - self.cancelled

    def add(self, cells: int, work: float, now: float) -> None:
        """Add the cells of a further round, and measure the pace anew, since their work may be in another unit.

        Args:
            cells: the number of cells.
            work: their work, by `Plan.weights`.
            now: the time in seconds on the monotonic clock.
        """
        self.total += cells
        self.work_left = work
        if self.began is not None:
            self.began, self.work_done, self.history = now, 0.0, [(now, self.done, 0.0)]

    def note_start(self, began: float) -> None:
        """Note the time at which a cell began, on the monotonic clock. The earliest one counts."""
        self.began = began if self.began is None else min(self.began, began)

    def note_batch(self, now: float) -> None:
        """Add the current counts to the history, after a batch of cells has completed."""
        self.history.append((now, self.done, self.work_done))
        if len(self.history) > MAX_HISTORY:
            del self.history[::2]

    def pace(self, now: float) -> Pace:
        """Return the pace in the last part of the run, which is at least half of the time since the first cell began.

        The more cells are done, the later this part begins. The start of Ray does not count. A running cell counts by
        the fraction that is done.
        """
        if self.began is None:
            return Pace(0.0, None)
        since, done, work = self.began, 0, 0.0
        cut = self.began + (now - self.began) * min(0.5, self.done / MANY_CELLS)
        for moment in self.history[:-1]:  # the later part has at least one batch
            if moment[0] > cut:
                break
            since, done, work = moment
        work_done = self.work_done - work
        begun = self.work_begun if work_done > 0 else 0.0  # of cells that run for the first time nothing is known
        return pace(self.done - done, work_done + begun, self.work_left - self.work_begun, now - since)
