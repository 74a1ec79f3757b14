"""How attempts that did not end well are told apart: whose fault, how often again, which of them are alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from raysweep.orchestrator.text import storable

if TYPE_CHECKING:
    import polars as pl

Budget = Literal["own_errors", "losses", "memory"]
CHARGES: tuple[Budget, ...] = ("own_errors", "losses", "memory")
"""What attempts are charged to, each with a limit of its own."""


class Policy(NamedTuple):
    """What follows an attempt that ended in a status.

    Args:
        budget: what it is charged to; None: nobody's fault, tried again for free.
        again: whether it is tried again at all.
        wait: whether a back-off is due first.
    """

    budget: Budget | None
    again: bool = True
    wait: bool = True


POLICIES: dict[str, Policy] = {
    "failed": Policy("own_errors"),
    "timed_out": Policy("own_errors"),
    "crashed": Policy("losses"),
    "lost": Policy("losses"),
    "out_of_memory": Policy("memory"),
    "preempted": Policy(None, wait=False),
    "cancelled": Policy(None, again=False),
}
"""Status -> policy; the only other status is `done`."""

LOSS_BUDGET = 5
"""Infrastructure losses that a cell may suffer in one launch's budget."""

MEMORY_BUDGET = 1
"""Times that a cell may run out of memory: it is tried again with more, once."""

MAX_ALIKE = 20
"""Cells of a method that fail alike before it is stopped."""

BACKOFF_S = (0.5, 30.0)
"""First and longest wait before a repeated attempt; doubled each time."""


def statuses_of(budget: Budget) -> list[str]:
    """The statuses that are charged to it."""
    return [status for status, policy in POLICIES.items() if policy.budget == budget]


def used_up(charged: Mapping[Budget, Any], retries: Any) -> Any:
    """Whether a cell has no more attempts: of numbers, or of data frame expressions."""
    return (charged["own_errors"] > retries) | (charged["losses"] > LOSS_BUDGET) | (charged["memory"] > MEMORY_BUDGET)


def backoff(charged: int) -> float:
    """Seconds to wait before the attempt that follows so many charged ones."""
    return min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** max(0, min(charged, 60) - 1))


# Alike

_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_PATH = re.compile(r"(?:/[\w.+-]+){2,}")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FRAME = re.compile(r'^\s*File "([^"\n]*)", line (\d+),? in (.+)$', re.MULTILINE)
_NOT_OWN = re.compile(
    r"(^|/)(site|dist)-packages/|/lib/python3[^/]*/|^<|(^|/)raysweep/orchestrator/(run/\w+|store/checkpoints|executors/.+)\.py$"
)
"""Files that are not the workload's: libraries, Python's own, and what is around a cell."""
_TIMEOUT = "CellTimeout"


def place(traceback: str | None) -> str | None:
    """Where it was raised: the innermost frame of the workload's own code, or of any where it has none."""
    frames = _FRAME.findall(traceback or "")
    if "(most recent call first)" in (traceback or ""):  # of a process that was ended
        frames = frames[::-1]
    own = [frame for frame in frames if not _NOT_OWN.search(frame[0])] or frames
    return f"{own[-1][0].rpartition('/')[2]}:{own[-1][1]} in {own[-1][2]}" if own else None


def signature(error_type: str | None, message: str | None, traceback: str | None, *, whole: bool = False) -> str:
    """One text for failures that are alike: the error, its message without what varies, where it was raised.

    Not of timeouts: what takes too long is interrupted in any place.

    Args:
        error_type: its name.
        message: of which the first line counts.
        traceback: as recorded.
        whole: with what varies.
    """
    said = storable(next((line for line in (message or "").splitlines() if line.strip()), ""))[:1000]
    plain = (said if whole else _NUMBER.sub("#", _PATH.sub("PATH", _QUOTED.sub("'…'", said))))[:160].strip()
    at = None if error_type == _TIMEOUT else place(traceback)
    return f"{error_type or 'error'}{': ' if plain else ''}{plain}{'' if at is None else f' ({at})'}"


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


def grouped(attempts: pl.DataFrame) -> pl.DataFrame:
    """Failed attempts by likeness, most cells first.

    Args:
        attempts: workload, method, status, cell_id, seed, error_type, error_message, traceback.

    Returns:
        workload, method, status, failure (the signature, or the whole where all say the same; of timeouts also where
        most of them were), cells, attempts, example (a cell's id), seeds (a list).
    """
    import polars as pl

    failed = attempts.filter(pl.col("status") != "done")
    what = ["error_type", "error_message", "traceback"]
    distinct = failed.select(what).unique(maintain_order=True)
    rows = list(distinct.iter_rows())
    distinct = distinct.with_columns(
        failure=pl.Series([signature(*row) for row in rows], dtype=pl.String),
        whole=pl.Series([signature(*row, whole=True) for row in rows], dtype=pl.String),
        place=pl.Series([place(row[2]) if row[0] == _TIMEOUT else None for row in rows], dtype=pl.String),
    )
    often = pl.col("place").drop_nulls().mode(maintain_order=True).first()
    return (
        failed.join(distinct, on=what, how="left", nulls_equal=True)
        .group_by("workload", "method", "status", "failure")
        .agg(
            pl.col("cell_id").n_unique().alias("cells"),
            pl.len().alias("attempts"),
            pl.col("cell_id").min().alias("example"),
            pl.col("seed").unique().sort().alias("seeds"),
            pl.when(pl.col("whole").n_unique() == 1).then(pl.col("whole").first()).alias("whole"),
            pl.format(
                " ({}{})", pl.when(pl.col("place").n_unique() > 1).then(pl.lit("mostly ")).otherwise(pl.lit("")), often
            )
            .fill_null("")
            .alias("at"),
        )
        .sort("cells", "failure", "method", descending=[True, False, False])
        .with_columns(pl.coalesce("whole", "failure").alias("failure") + pl.col("at"))
        .drop("at", "whole")
    )
