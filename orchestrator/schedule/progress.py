"""How a running launch stands, for whoever shows it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class Progress:
    """Counts of a running launch, for whoever shows them."""

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0  # cells that a worker has been heard to be in
    work_done: float = 0.0  # by `Plan.weights`, of cells that are done or have used up their attempts
    work_left: float = 0.0  # of the others
    to_retry: int = 0  # cells whose last attempt went wrong, and that will get another
    bad_attempts: int = 0
    bad: deque[Bad] = field(default_factory=lambda: deque(maxlen=64))  # the last of these
    slow: list[tuple[str, float, float]] = field(default_factory=list)  # id, seconds so far, what its like took
    stopped: str | None = None  # why no more cells are begun
    waiting: tuple[str, ...] = ()  # for what cells that could begin wait
    notes: dict[str, None] = field(default_factory=dict)  # warnings, in the order they came
    recent: deque[tuple[float, int, float]] = field(default_factory=lambda: deque(maxlen=64))  # when, done, work done

    @property
    def left(self) -> int:
        """Cells that have neither succeeded nor used up their attempts."""
        return self.total - self.done - self.failed


class Bad(NamedTuple):
    """An attempt that was no success."""

    cell_id: str
    status: str
    reason: str
