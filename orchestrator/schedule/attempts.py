"""The driver's state of each cell: attempts, charges to retry budgets, resources, expected seconds.

It is stored in arrays with eight bytes per entry, indexed by the row of the plan, since a plan may have a
million cells.
"""

from __future__ import annotations

import array
import math
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from raysweep.orchestrator.run.messages import Chunk, Task
from raysweep.orchestrator.schedule.limits import SLOW_FACTOR, SLOW_S
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.status import CHARGES, Budget, used_up

NEW_TIME = 0.2  # weight of the newest time in a moving average


class ChunkKey(NamedTuple):
    """The properties that all cells of one chunk have in common."""

    workload: str
    experiment: str
    cpus: float
    gpus: float
    memory_gib: float | None
    source_digest: str | None
    sweep: str = ""
    custom: str | None = None

    @classmethod
    def of(cls, chunk: Chunk) -> ChunkKey:
        """Return the key of a chunk: the properties that all its cells share."""
        return cls(*(getattr(chunk, name) for name in cls._fields))


class Attempts:
    """Attempts, charges and times of a launch's cells. Methods identify a cell by its row in the plan."""

    def __init__(self, plan: Plan) -> None:
        frame, variants = plan.frame, plan.table.variants
        self.ids = frame["cell_id"]
        self._seeds = _integers(frame["seed"])
        self._variant = _integers(frame["variant"])
        self._attempts = _integers(frame["attempts"])
        self._charged = {budget: _integers(frame[budget]) for budget in CHARGES}
        self.weights = array.array("d", plan.weights().cast(pl.Float64).to_numpy().tobytes())
        self._parameters = list(variants.select("method", "k", "config").iter_rows())
        self._keys = [ChunkKey(*row) for row in variants.select(ChunkKey._fields).iter_rows()]
        self._retries = variants["retries"].to_list()
        self._timeouts = variants["timeout_s"].to_list()
        self._groups: list[tuple[str, str]] = list(variants.select("workload", "method").iter_rows())
        times = frame.select("variant", "variant_seconds").drop_nulls().unique("variant")
        self._seconds: dict[object, float] = dict(times.iter_rows())  # key: a variant or a group
        self._memory: dict[int, float] = {}  # row -> GiB, of cells that ran out of memory

    def key(self, row: int) -> ChunkKey:
        """Return the properties of the chunks that may contain the cell."""
        key = self._keys[self._variant[row]]
        return key._replace(memory_gib=self._memory[row]) if row in self._memory else key

    def group(self, row: int) -> tuple[str, str]:
        """Return the cell's workload and method."""
        return self._groups[self._variant[row]]

    # Attempts

    def begin(self, row: int) -> Task:
        """Count another attempt at the cell, and return its task."""
        self._attempts[row] += 1
        variant = self._variant[row]
        method, k, config = self._parameters[variant]
        return Task(
            row, self.ids[row], method, k, self._seeds[row], config, self._attempts[row], self._timeouts[variant]
        )

    def take_back(self, row: int) -> None:
        """Undo `begin` for an attempt that never started."""
        self._attempts[row] -= 1

    def charge(self, row: int, budget: Budget) -> None:
        """Charge one of the cell's failed attempts to a retry budget."""
        self._charged[budget][row] += 1

    def charges(self, row: int) -> int:
        """Return how many of the cell's attempts were charged to any budget."""
        return sum(charged[row] for charged in self._charged.values())

    def used_up(self, row: int) -> bool:
        """Tell whether the cell gets no more attempts."""
        charged = {budget: self._charged[budget][row] for budget in CHARGES}
        return bool(used_up(charged, self._retries[self._variant[row]]))

    def raise_memory(self, row: int, largest: float) -> None:
        """Double the memory that the cell requests, up to `largest` GiB.

        A cell without a request gets half of `largest`.
        """
        requested = self._keys[self._variant[row]].memory_gib
        self._memory[row] = min(largest, 2 * requested if requested else largest / 2)

    # Times

    def estimate(self, row: int) -> tuple[float, bool]:
        """Return the cell's expected seconds (infinite if unknown), and whether a cell of its variant was measured."""
        seconds = self.usual(row)
        if seconds is not None:
            return seconds, True
        return self._seconds.get(self.group(row), math.inf), False

    def usual(self, row: int) -> float | None:
        """Return the average seconds of the cell's variant; None before a cell of the variant has completed."""
        return self._seconds.get(self._variant[row])

    def slow(self, running: Iterable[tuple[int, float]]) -> list[tuple[str, float, float]]:
        """List the running cells that take far longer than their variant's average.

        Args:
            running: row and seconds so far of each running cell.

        Returns:
            (cell id, seconds so far, average seconds) of each slow cell, the longest-running first.
        """
        cells = ((self.ids[row], seconds, self.usual(row)) for row, seconds in running)
        slow = [(i, s, usual) for i, s, usual in cells if usual is not None and s > max(SLOW_FACTOR * usual, SLOW_S)]
        return sorted(slow, key=lambda cell: -cell[1])

    def took(self, row: int, seconds: float) -> None:
        """Record how long a completed cell took, for later estimates."""
        for key in (self._variant[row], self.group(row)):
            before = self._seconds.get(key)
            self._seconds[key] = seconds if before is None else (1 - NEW_TIME) * before + NEW_TIME * seconds


def _integers(column: pl.Series) -> array.array[int]:
    """Convert a column to an array of integers, which can be changed and is cheap to index."""
    return array.array("q", column.cast(pl.Int64).to_numpy().tobytes())
