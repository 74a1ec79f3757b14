"""Confidence bands for the median difference after each seed, and the number of seeds of a fixed plan.

All bands are valid at once, so a sweep may end after any seed. A fixed plan chooses its number of seeds in advance.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.questions.sequential import LEVEL, log_evidence

PLAN_EFFECT, PLAN_POWER = 0.5, 0.8
"""The fixed plan's effect to detect, in standard deviations of the differences, and its power to detect it."""
_GRID = 81
_MAX_SEEDS = 400
"""Maximum number of seeds in the band; later seeds are left out. The computing time grows with its square."""


class Point(NamedTuple):
    """The median of a - b after `seeds` seeds, and the ends of its band; None where they are infinite."""

    seeds: int
    estimate: float | None
    low: float | None
    high: float | None


def band(differences: NDArray[np.float64], questions: int = 1, level: float = LEVEL) -> list[Point]:
    """Compute the median of a - b and its confidence band after each seed; an empty list if no difference is finite.

    The band contains the values of the true difference that neither one-sided e-value has rejected so far, at `level`
    over all questions. With a probability of at least 1 - `level`, the true difference is in every band, after any
    number of seeds. The ends of a band are taken from a grid of about 3 * `_GRID` values.

    Args:
        differences: shape (seeds,): a - b in order; infinite if one of the two failed.
        questions: the number of questions that are asked together.
        level: maximum probability that any band of any question is ever wrong.
    """
    values = differences[:_MAX_SEEDS]
    finite = values[np.isfinite(values)]
    if not finite.size:
        return []
    # Ranks of shifted differences change at the means of two differences: the grid is as dense as these are.
    means = (finite[:, None] + finite)[np.triu_indices(finite.size)] / 2
    span = float(np.ptp(finite)) or max(1.0, abs(float(finite[0])))
    inner = np.quantile(means, np.linspace(0, 1, _GRID))
    ends = [finite.min() - span, finite.max() + span, 0.0]
    shifts = np.unique([*inner, *(inner - span / 100), *(inner + span / 100), *ends])
    needed = math.log(2 * questions / level)
    moved = values - shifts[:, None]
    too_low, too_high = (np.maximum.accumulate(log_evidence(s * moved), axis=1) >= needed for s in (1, -1))
    points = []
    middle = np.clip(values, -1e300, 1e300)  # the median of two infinite values of opposite signs is 0
    for t in range(values.size):
        estimate = float(np.median(middle[: t + 1]))
        # All shifts up to the last rejected one are rejected: ranks may leave gaps of a grid step.
        low = np.nonzero(too_low[:, t])[0]
        high = np.nonzero(too_high[:, t])[0]
        points.append(
            Point(
                t + 1, estimate if abs(estimate) < 1e299 else None, float(shifts[low[-1]]) if low.size else None,
                float(shifts[high[0]]) if high.size else None,
            )
        )  # fmt: skip
    return points


def planned_seeds(questions: int = 1, level: float = LEVEL) -> int:
    """Return the number n of seeds of a fixed plan, which detects `PLAN_EFFECT` with the power `PLAN_POWER`.

    Its test is a two-sided t test at `level` / `questions`: n = ((z_level + z_power) / effect)^2 + z_level^2 / 2, where
    z_level and z_power are the quantiles of the standard normal distribution at 1 - `level` / `questions` / 2 and at
    the power.
    """
    z = NormalDist().inv_cdf
    of_level = z(1 - level / questions / 2)
    return math.ceil(((of_level + z(PLAN_POWER)) / PLAN_EFFECT) ** 2 + of_level**2 / 2)
