"""When a cell is tried again, and when a method in which many cells fail alike is stopped."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


MAX_ALIKE = 20
"""Cells of a method that fail alike before it is stopped."""


BACKOFF_S = (0.5, 30.0)
"""First and longest wait before a repeated attempt; doubled each time."""


def backoff(charged: int) -> float:
    """Seconds to wait before the attempt that follows so many charged ones."""
    return min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** max(0, min(charged, 60) - 1))


class Breaker:
    """Stops a method in which many cells fail alike, and nothing but it.

    Args:
        most: so many cells of one method with one signature, and no fewer than those of it that succeed, stop
            it; None: never.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._alike: dict[tuple[str, str, str], set[int]] = {}
        self._done: Counter[tuple[str, str]] = Counter()
        self.stopped: dict[tuple[str, str], str] = {}

    def done(self, workload: str, method: str) -> None:
        """A cell of this method succeeded."""
        self._done[workload, method] += 1

    def failed(self, workload: str, method: str, row: int, sign: str) -> str | None:
        """A cell's own error; what to tell the user if it stops the method."""
        key = (workload, method)
        if self._most is None or key in self.stopped:
            return None
        rows = self._alike.setdefault((*key, sign), set())
        rows.add(row)
        if len(rows) < max(self._most, self._done[key]):
            return None
        self.stopped[key] = sign
        return (
            f"method {method!r} of {workload} was stopped: {len(rows)} of its cells failed alike, with {sign}; "
            "its other cells are left (--max-alike sets how many it takes, 0: never)"
        )
