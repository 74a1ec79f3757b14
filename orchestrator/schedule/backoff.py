"""Delays before retries, and a circuit breaker that stops a method whose cells fail alike."""

from __future__ import annotations

from collections import Counter

BACKOFF_S = (0.5, 30.0)
"""Shortest and longest wait before a retry, in seconds. The wait doubles with each failed attempt."""


def backoff(charged: int) -> float:
    """Return the seconds to wait before the next attempt, after `charged` failed attempts."""
    return min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** max(0, min(charged, 60) - 1))


class Breaker:
    """Stops a method whose cells fail alike, without stopping other methods (a circuit breaker).

    Args:
        max_alike: number of cells that have to fail with the same signature before their method is stopped. If more
            cells of the method than this have succeeded, the number of successes counts instead. None: no method is
            stopped.
    """

    def __init__(self, max_alike: int | None) -> None:
        self._max_alike = max_alike
        self._alike: dict[tuple[str, str, str], set[int]] = {}
        self._done: Counter[tuple[str, str]] = Counter()
        self.stopped: dict[tuple[str, str], str] = {}

    def done(self, workload: str, method: str) -> None:
        """Count a cell of this method that succeeded."""
        self._done[workload, method] += 1

    def failed(self, workload: str, method: str, row: int, sign: str) -> str | None:
        """Count a failure with the signature `sign`. Returns a message for the user if this stops the method."""
        key = (workload, method)
        if self._max_alike is None or key in self.stopped:
            return None
        rows = self._alike.setdefault((*key, sign), set())
        rows.add(row)
        if len(rows) < max(self._max_alike, self._done[key]):
            return None
        self.stopped[key] = sign
        return (
            f"method {method!r} of {workload} was stopped: {len(rows)} of its cells failed alike, with {sign}; "
            "its other cells are not run (limit: --max-alike; 0: none)"
        )
