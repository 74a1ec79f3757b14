"""The budget of `--until decided`: limits on cells, CPU-hours and GPU-hours over all launches of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from raysweep.orchestrator.launch.request import Options

HOUR_S = 3600


class Cost(NamedTuple):
    """The cost of cells: their number, CPU-seconds and GPU-seconds."""

    cells: int = 0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def times(self, number: int) -> Cost:
        """Return the cost multiplied by `number`."""
        return Cost(number * self.cells, number * self.cpu_seconds, number * self.gpu_seconds)


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of the costs."""
    cells, cpu, gpu = zip(*costs, strict=True) if (costs := list(costs)) else ((), (), ())
    return Cost(sum(cells), sum(cpu), sum(gpu))


@dataclass(frozen=True)
class Budget:
    """The limits on the cost of the questions' cells, and their cost so far.

    Args:
        limit: limits on (cells, CPU-seconds, GPU-seconds); None: no limit.
        spent: the cost of all recorded attempts of the questions' cells.
    """

    limit: tuple[int | None, float | None, float | None]
    spent: Cost

    @classmethod
    def of(cls, options: Options, spent: Cost) -> Budget:
        """Build the budget from the options of a launch and the cost so far."""
        hours = [h if h is None else HOUR_S * h for h in (options.max_cpu_hours, options.max_gpu_hours)]
        return cls((options.max_cells, hours[0], hours[1]), spent)

    def weight(self, cost: Cost) -> float:
        """Return a cost as one number, for comparisons.

        It is CPU-seconds plus GPU-seconds if either is limited, otherwise the number of cells.
        """
        return cost.cells if self.limit[1:] == (None, None) else cost.cpu_seconds + cost.gpu_seconds

    def allows(self, cost: Cost) -> bool:
        """Return whether the limits allow a further cost. Used-up hours allow no cost, not even 0."""
        after = total([self.spent, cost])
        used_up = any(limit is not None and s >= limit for limit, s in zip(self.limit[1:], self.spent[1:], strict=True))
        return not used_up and all(limit is None or c <= limit for limit, c in zip(self.limit, after, strict=True))

    @property
    def used(self) -> str:
        """The limits and the amount spent of each, as text."""
        names = ("--max-cells", "--max-cpu-hours", "--max-gpu-hours")
        units = (1, HOUR_S, HOUR_S)
        return ", ".join(
            f"{name} {limit / unit:g} ({now / unit:.3g} spent)"
            for name, limit, now, unit in zip(names, self.limit, self.spent, units, strict=True)
            if limit is not None
        )
