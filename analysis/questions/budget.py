"""The budget of `--until decided`: cells, CPU-hours and GPU-hours of all launches of a sweep together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from raysweep.orchestrator.launch.request import Options

HOUR_S = 3600


class Cost(NamedTuple):
    """The cost of cells: their number, seconds times CPUs, seconds times GPUs."""

    cells: int = 0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def times(self, number: int) -> Cost:
        """The cost of so many cells."""
        return Cost(number * self.cells, number * self.cpu_seconds, number * self.gpu_seconds)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    cells, cpu, gpu = zip(*costs, strict=True) if (costs := list(costs)) else ((), (), ())
    return Cost(sum(cells), sum(cpu), sum(gpu))


@dataclass(frozen=True)
class Budget:
    """What may be spent, and what is spent already.

    Args:
        limit: the options' limits; None: no limit.
        spent: of all attempts that the store has of the questions' cells.
    """

    limit: tuple[int | None, float | None, float | None]
    spent: Cost

    @classmethod
    def of(cls, options: Options, spent: Cost) -> Budget:
        """The budget that the options of a launch give."""
        hours = [h if h is None else HOUR_S * h for h in (options.max_cpu_hours, options.max_gpu_hours)]
        return cls((options.max_cells, hours[0], hours[1]), spent)

    def weight(self, cost: Cost) -> float:
        """A cost as one number: its time if time is limited, otherwise its cells."""
        return cost.cells if self.limit[1:] == (None, None) else cost.cpu_seconds + cost.gpu_seconds

    def allows(self, cost: Cost) -> bool:
        """Whether the limits allow this further cost. Hours that are used up allow none, even if none is expected."""
        after = total([self.spent, cost])
        used_up = any(limit is not None and s >= limit for limit, s in zip(self.limit[1:], self.spent[1:], strict=True))
        return not used_up and all(limit is None or c <= limit for limit, c in zip(self.limit, after, strict=True))

    @property
    def used(self) -> str:
        """The limits and what is spent of each, in words."""
        names = ("--max-cells", "--max-cpu-hours", "--max-gpu-hours")
        units = (1, HOUR_S, HOUR_S)
        return ", ".join(
            f"{name} {limit / unit:g} ({now / unit:.3g} spent)"
            for name, limit, now, unit in zip(names, self.limit, self.spent, units, strict=True)
            if limit is not None
        )
