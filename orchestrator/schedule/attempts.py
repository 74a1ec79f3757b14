"""What the driver knows of each cell: the attempts made and what they are charged to, its size, how long it takes.

Columns by row of the plan, of eight bytes an entry, as there may be a million.
"""

from __future__ import annotations

import array
import math
from typing import NamedTuple

import polars as pl

from raysweep.orchestrator.run.messages import Task
from raysweep.orchestrator.schedule.failures import CHARGES, Budget, used_up
from raysweep.orchestrator.schedule.plan import Plan

NEW_TIME = 0.2  # what the last time of a variant counts for in its estimate


class ChunkKey(NamedTuple):
    """Cells that may share a chunk."""

    workload: str
    experiment: str
    cpus: float
    gpus: float
    memory_gib: float | None


class Attempts:
    """Of one launch.

    Args:
        plan: its cells; rows are theirs.
    """

    def __init__(self, plan: Plan) -> None:
        frame, variants = plan.frame, plan.table.variants
        self.ids = frame["cell_id"]
        self._seeds = _integers(frame["seed"])
        self._variant = _integers(frame["variant"])
        self._made = _integers(frame["attempts"])
        self._charged = {budget: _integers(frame[budget]) for budget in CHARGES}
        self.weights = array.array("d", plan.weights().cast(pl.Float64).to_numpy().tobytes())
        self._asked = list(variants.select("method", "k", "config").iter_rows())
        self._sizes = [
            ChunkKey(*row)
            for row in variants.select("workload", "experiment", "cpus", "gpus", "memory_gib").iter_rows()
        ]
        self._retries = variants["retries"].to_list()
        self._timeouts = variants["timeout_s"].to_list()
        self._groups: list[tuple[str, str]] = list(variants.select("workload", "method").iter_rows())
        known = frame.select("variant", "variant_seconds").drop_nulls().unique("variant")
        self._seconds: dict[object, float] = dict(known.iter_rows())  # by variant, and by group
        self._memory: dict[int, float] = {}  # row -> GiB, of cells that have run out of it

    def size(self, row: int) -> ChunkKey:
        """What it shares a chunk with, and needs."""
        size = self._sizes[self._variant[row]]
        return size._replace(memory_gib=self._memory[row]) if row in self._memory else size

    def group(self, row: int) -> tuple[str, str]:
        """Workload and method."""
        return self._groups[self._variant[row]]

    # Attempts

    def begin(self, row: int) -> Task:
        """One more attempt."""
        self._made[row] += 1
        variant = self._variant[row]
        method, k, config = self._asked[variant]
        return Task(row, self.ids[row], method, k, self._seeds[row], config, self._made[row], self._timeouts[variant])

    def take_back(self, row: int) -> None:
        """Of an attempt that was none, as it never began."""
        self._made[row] -= 1

    def charge(self, row: int, budget: Budget) -> None:
        """An attempt that went wrong."""
        self._charged[budget][row] += 1

    def charges(self, row: int) -> int:
        """How many attempts were charged to anything."""
        return sum(charged[row] for charged in self._charged.values())

    def used_up(self, row: int) -> bool:
        """Whether it gets no more."""
        charged = {budget: self._charged[budget][row] for budget in CHARGES}
        return bool(used_up(charged, self._retries[self._variant[row]]))

    def ask_for_more_memory(self, row: int, largest: float) -> None:
        """Twice what it asked for; of one that asked for none, half of the largest machine's GiB."""
        asked = self._sizes[self._variant[row]].memory_gib
        self._memory[row] = min(largest, 2 * asked if asked else largest / 2)

    # Times

    def estimate(self, row: int) -> tuple[float, bool]:
        """Expected seconds, and whether this variant's own times say so; unknown means long: it goes alone."""
        own = self.usual(row)
        if own is not None:
            return own, True
        return self._seconds.get(self.group(row), math.inf), False

    def usual(self, row: int) -> float | None:
        """Seconds that others of its variant took; None where none has."""
        return self._seconds.get(self._variant[row])

    def took(self, row: int, seconds: float) -> None:
        """A time to estimate others by."""
        for key in (self._variant[row], self.group(row)):
            before = self._seconds.get(key)
            self._seconds[key] = seconds if before is None else (1 - NEW_TIME) * before + NEW_TIME * seconds


def _integers(column: pl.Series) -> array.array[int]:
    """A column whose items are Python's own integers and cheap to reach and to change."""
    return array.array("q", column.cast(pl.Int64).to_numpy().tobytes())
