"""The metrics that a cell logs step by step with `context.log`. They are published live, and recorded as arrays."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from raysweep.orchestrator.run.messages import Array
from raysweep.orchestrator.store.live import Curve

MAX_POINTS = 2000
"""Maximum points of a published curve. A longer curve keeps every 2nd (or every 4th, ...) point, and the last."""


class LoggedCurve:
    """The steps, values and times logged under one name, in the order in which they were logged."""

    def __init__(self) -> None:
        self.steps, self.values, self.times = array("q"), array("d"), array("d")

    def add(self, step: int, value: float) -> None:
        """Add a point."""
        self.times.append(time.time())
        self.values.append(value)
        self.steps.append(step)  # last: `thinned`, on another thread, counts the steps

    def thinned(self, points: int) -> Curve:
        """Return at most `points` + 1 points: all, or every 2nd (or every 4th, ...) one, and the last."""
        count = len(self.steps)
        stride = 1
        while count > stride * points:
            stride *= 2
        chosen = [*range(0, count - 1, stride), *([count - 1] if count else [])]
        return Curve(*([column[i] for i in chosen] for column in (self.steps, self.values, self.times)))


def as_arrays(curves: Mapping[str, LoggedCurve | Curve]) -> list[Array]:
    """Convert each curve to arrays, one per run of equidistant steps. A repeated step has the value logged last."""
    return [part for name, curve in curves.items() for part in _parts(name, curve.steps, curve.values)]


def _parts(name: str, steps: Iterable[int], values: Iterable[float]) -> Iterator[Array]:
    by_step = dict(zip(steps, values, strict=False))
    at = np.array(sorted(by_step), np.int64)
    numbers = np.array([by_step[step] for step in at.tolist()], np.float64)
    first = 0
    while first < len(at):
        stride = int(at[first + 1] - at[first]) if first + 1 < len(at) else 1
        breaks = np.flatnonzero(np.diff(at[first:]) != stride)
        end = first + 1 + (int(breaks[0]) if len(breaks) else len(at) - first - 1)
        yield Array(name, int(at[first]), stride, numbers[first:end].copy())
        first = end
