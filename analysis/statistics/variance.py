"""Components of variance: how much of what a result varies by is between seeds, and how much within a seed.

Each seed has the same number of runs that differ in nothing but rounding (one-way random effects, balanced):

    y[s, r] = mean + a[s] + e[s, r],   Var a = between^2,   Var e = within^2

within^2 is the mean over seeds of the sample variance over runs; between^2 is what the variance of the seeds' means has
beyond within^2 / (runs), 0 at least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raysweep.analysis.statistics.inference import LEVEL, Array, Columns, Estimate, estimate


@dataclass(frozen=True)
class Components:
    """The components of variance of a result over seeds and runs.

    Args:
        between: standard deviation between seeds.
        within: standard deviation within a seed.
        share: the share of the variance that is within seeds, with its interval over seeds.
    """

    between: float
    within: float
    share: Estimate

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval of the share, within 0 and 1."""
        low, high = self.share.interval(level)
        return max(0.0, low), min(1.0, high)


def components(values: Array) -> Components:
    """Compute the components of variance of values (runs, seeds): two runs of three seeds at least.

    Raises:
        ValueError: there are fewer runs or seeds.
    """
    runs, seeds = values.shape
    if runs < 2 or seeds < 3:
        raise ValueError(f"{runs} runs of {seeds} seeds; needed: two runs of three seeds at least")
    between, within = _variances(values)
    columns: Columns = {str(run): row for run, row in enumerate(values)}
    return Components(math.sqrt(between), math.sqrt(within), estimate(_share, columns))


def _variances(values: Array) -> tuple[Array, Array]:
    """Compute the variances between and within seeds of values (runs, ..., seeds)."""
    within = values.var(0, ddof=1).mean(-1)
    between = np.maximum(values.mean(0).var(-1, ddof=1) - within / len(values), 0.0)
    return between, within


def _share(columns: Columns) -> Array:
    """Compute the share of the variance that is within seeds; nan if nothing varies."""
    between, within = _variances(np.stack(list(columns.values())))
    total = between + within
    share: Array = within / np.where(total > 0, total, np.nan)
    return share
