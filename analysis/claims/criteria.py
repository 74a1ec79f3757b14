"""Functions that build the criteria of `docs/verdicts.md`, with all margins that we chose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from raysweep.analysis.claims.claim import Interval
from raysweep.analysis.statistics.inference import Array, Columns, Statistic

_ROUNDING = 1e-12
COMPARABLE = 1.5
SAME_LEVEL = 2.0
NEAR = 3.0
"""Factor up to which the paper calls two errors near (Sec. 4.1). Beyond it, an error contradicts the claimed one."""
HALF = 50.0
"""Recovery in percent at which a claim changes into its opposite.

A recovery on one side of it contradicts a claimed recovery on the other side.
"""
POINTS = 10.0
ACCURACY = 0.05
INF = math.inf


def mean(key: str) -> Statistic:
    """Build the statistic: the mean of column `key` over seeds."""
    return lambda columns: columns[key].mean(-1)


def geometric(key: str) -> Statistic:
    """Build the statistic: ln of the geometric mean of column `key`."""
    return lambda columns: np.log(columns[key]).mean(-1)


def ratio(above: str, below: str) -> Statistic:
    """Build the statistic: the mean over seeds of ln(above / below)."""
    return lambda columns: (np.log(columns[above]) - np.log(columns[below])).mean(-1)


def ratio_to_all(above: str, below: Sequence[str]) -> Statistic:
    """Build the statistic: the mean over seeds of ln(above / geometric mean of the `below` columns)."""
    return lambda columns: (np.log(columns[above]) - np.stack([np.log(columns[key]) for key in below]).mean(0)).mean(-1)


def smallest(statistics: Sequence[Statistic]) -> Statistic:
    """Build the statistic: the smallest of several statistics."""
    return lambda columns: np.stack([statistic(columns) for statistic in statistics]).min(0)


def log_sd(key: str) -> Statistic:
    """Build the statistic: ln of the sample standard deviation of ln `key`.

    It is nan if the values do not vary, as in a resample that repeats a single seed.
    """

    def statistic(columns: Columns) -> Array:
        logs = np.log(columns[key])
        sd = logs.std(-1, ddof=1) if logs.shape[-1] > 1 else np.full(logs.shape[:-1], np.nan)
        result: Array = np.log(np.where(sd > _ROUNDING * np.abs(logs).max(-1), sd, np.nan))
        return result

    return statistic


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else INF  # the end of an unbounded interval


def mse_level(key: str, low: float, high: float | None = None) -> Interval:
    """Build the criterion that the geometric mean is within a factor `SAME_LEVEL` of the paper's number or range."""
    bottom, top = math.log(low), math.log(low if high is None else high)
    return Interval(
        geometric(key),
        bottom - math.log(SAME_LEVEL),
        top + math.log(SAME_LEVEL),
        "MSE",
        _exp,
        level=True,
        number=True,
        opposite=(bottom - math.log(NEAR), top + math.log(NEAR)),
    )


def level_above(key: str, trivial: str, paper: float) -> Interval:
    """Build the criterion that the ratio of `key` to a trivial predictor is above 1 and close to the paper's ratio.

    Close means within a factor `SAME_LEVEL`.
    """
    zone = (max(0.0, math.log(paper / SAME_LEVEL)), math.log(paper * SAME_LEVEL))
    return Interval(ratio(key, trivial), *zone, "MSE / trivial", _exp)


def _log(columns: Columns) -> Columns:
    return {key: np.log(values) for key, values in columns.items()}


def spread_level(key: str, paper: float) -> Interval:
    """Build the criterion that the standard deviation of ln MSE is within a factor `SAME_LEVEL` of the paper's.

    A standard deviation contradicts the claim if ln `SAME_LEVEL` lies between it and the paper's. At ln `SAME_LEVEL`,
    seeds typically differ by the factor `SAME_LEVEL`.
    """
    centre, wide, divide = math.log(paper), math.log(SAME_LEVEL), math.log(math.log(SAME_LEVEL))
    return Interval(
        None,
        centre - wide,
        centre + wide,
        "sd of ln MSE",
        _exp,
        _log,
        spread=(key,),
        number=True,
        opposite=(-INF, divide) if centre < divide else (divide, INF),
    )


def accuracy_level(key: str, paper: float) -> Interval:
    """Build the criterion that the mean accuracy is within `ACCURACY` of the paper's."""
    return Interval(mean(key), paper - ACCURACY, paper + ACCURACY, "accuracy", level=True, number=True)


def comparable(key: str, other: str) -> Interval:
    """Build the criterion that the two errors are within a factor `COMPARABLE` of each other."""
    return Interval(ratio(key, other), -math.log(COMPARABLE), math.log(COMPARABLE), "ratio", _exp)


def no_worse(key: str, other: str) -> Interval:
    """Build the criterion that the error of `key` is at most `COMPARABLE` times that of `other`."""
    return Interval(ratio(key, other), -INF, math.log(COMPARABLE), "ratio", _exp)


def within(key: str, other: str, factor: float) -> Interval:
    """Build the criterion that the two errors are within the paper's `factor` of each other."""
    return Interval(ratio(key, other), -math.log(factor), math.log(factor), "ratio", _exp)


def lower(key: str, other: str) -> Interval:
    """Build the criterion that the error of `key` is below that of `other`."""
    return Interval(ratio(key, other), -INF, 0.0, "ratio", _exp)


def higher(key: str, other: str) -> Interval:
    """Build the criterion that the error of `key` is above that of `other`."""
    return Interval(ratio(key, other), 0.0, INF, "ratio", _exp)


def orders(key: str, other: str, count: int) -> Interval:
    """Build the criterion that the error of `key` is `count` or more orders of magnitude above that of `other`.

    The number of orders is rounded, so `count` - 0.5 orders are enough.
    """
    return Interval(ratio(key, other), (count - 0.5) * math.log(10), INF, "ratio", _exp)


def more_stable(key: str, other: str) -> Interval:
    """Build the criterion that ln MSE varies less over seeds for `key` than for `other`."""
    return Interval(None, 0.0, INF, "ratio of sds of ln MSE", _exp, _log, spread=(other, key))


def worst(key: str, others: Sequence[str], *, lower_is_worse: bool, unit: str) -> Interval:
    """Build the criterion that `key` has the worst mean: its distance to the next worst is above 0."""
    sign = -1.0 if lower_is_worse else 1.0

    def statistic(columns: Columns) -> Array:
        rivals = np.stack([sign * columns[other].mean(-1) for other in others])
        result: Array = sign * columns[key].mean(-1) - rivals.max(0)
        return result

    return Interval(statistic, 0.0, INF, unit, margin=ACCURACY)


def highest(key: str, others: Sequence[str]) -> Interval:
    """Build the criterion that `key` has the largest error.

    The ratio of its geometric mean to the next largest geometric mean must be above 1.
    """

    def statistic(columns: Columns) -> Array:
        rivals = np.stack([geometric(other)(columns) for other in others])
        result: Array = geometric(key)(columns) - rivals.max(0)
        return result

    return Interval(statistic, 0.0, INF, "ratio to the next worst", _exp)


def derived(
    values: Callable[[Columns], Array],
    low: float,
    high: float,
    unit: str,
    undefined: str = "no number",
    margin: float = POINTS,
) -> Interval:
    """Build the criterion that the mean of `values` over seeds is from `low` to `high`.

    `undefined` explains in messages why `values` gives nan for a seed.
    """
    return Interval(
        mean("derived"),
        low,
        high,
        unit,
        derive=lambda columns: {"derived": values(columns)},
        undefined=undefined,
        margin=margin,
    )


Gain = Callable[[Columns, str, str], Array]
"""Function of (columns, floor, key) that returns for each seed how much better `key` is than `floor`."""


def log_gain(columns: Columns, floor: str, key: str) -> Array:
    """Compute the gain of Eq. 10 for each seed: ln MSE of `floor` minus ln MSE of `key`."""
    result: Array = np.log(columns[floor]) - np.log(columns[key])
    return result


def linear_gain(columns: Columns, floor: str, key: str) -> Array:
    """Compute the gain of Sec. 4.7 for each seed: the accuracy of `key` minus that of `floor`."""
    result: Array = columns[key] - columns[floor]
    return result


def mean_gain(floor: str, key: str, gain: Gain = log_gain) -> Statistic:
    """Build the statistic: the mean gain of `key` over `floor`."""

    def statistic(columns: Columns) -> Array:
        result: Array = gain(columns, floor, key).mean(-1)
        return result

    return statistic


def recovery(key: str, floor: str, ceiling: str, gain: Gain = log_gain, less: str | None = None) -> Statistic:
    """Build the statistic: 100 x mean gain of `key` / mean gain of the ceiling; nan if the ceiling has no gain.

    Args:
        key: the column whose recovery is computed.
        floor: the column that defines 0 %.
        ceiling: the column that defines 100 %.
        gain: computes how much better one column is than another.
        less: a column whose recovery is subtracted; None: nothing is subtracted.
    """

    def statistic(columns: Columns) -> Array:
        gap = mean_gain(floor, ceiling, gain)(columns)
        gained = mean_gain(floor, key, gain)(columns)
        if less is not None:
            gained = gained - mean_gain(floor, less, gain)(columns)
        result: Array = 100 * gained / np.where(gap > 0, gap, np.nan)
        return result

    return statistic


def recovery_level(
    key: str, floor: str, ceiling: str, low: float, high: float | None = None, gain: Gain = log_gain
) -> Interval:
    """Build the criterion that the recovery is within `POINTS` of the paper's number or range."""
    top = low if high is None else high
    return Interval(
        recovery(key, floor, ceiling, gain),
        low - POINTS,
        top + POINTS,
        "recovery %",
        undefined=NO_GAP,
        number=True,
        opposite=(HALF, INF) if low > HALF else (-INF, HALF),
        premise=mean_gain(floor, ceiling, gain),
    )


def recovery_zone(
    key: str, floor: str, ceiling: str, low: float, high: float, gain: Gain = log_gain, less: str | None = None
) -> Interval:
    """Build the criterion that the recovery of `key` is from `low` to `high` percent.

    If `less` is given, its recovery is subtracted.
    """
    unit = "recovery %" if less is None else "points"
    statistic = recovery(key, floor, ceiling, gain, less)
    premise = mean_gain(floor, ceiling, gain)
    return Interval(statistic, low, high, unit, undefined=NO_GAP, margin=POINTS, premise=premise)


def recovery_difference(key: str, other: str, floor: str, ceiling: str) -> Interval:
    """Build the criterion that the two recoveries differ by at most `POINTS`."""
    return recovery_zone(key, floor, ceiling, -POINTS, POINTS, less=other)


NO_GAP = "the ceiling is no better than the floor, so that there is nothing to recover"


def tuned(groups: Mapping[str, Sequence[str]]) -> Callable[[Columns], Columns]:
    """Build a function that tunes the learning rate of each group by leave-one-out over seeds.

    A group lists one column per learning rate. For each seed, the function takes the column with the lowest error
    on the other seeds. With only one seed the result is nan.
    """

    def derive(columns: Columns) -> Columns:
        tuned_columns: dict[str, Array] = {}
        for name, keys in groups.items():
            values = np.stack([columns[key] for key in keys])
            n = values.shape[-1]
            logs = np.log(values)
            others = logs.sum(-1, keepdims=True) - logs
            best = others.argmin(0)
            tuned_columns[name] = values[best, np.arange(n)] if n > 1 else np.full(1, np.nan)
        return tuned_columns

    return derive


def rates_tuned(judge: Interval, groups: Mapping[str, Sequence[str]]) -> Interval:
    """Return the criterion `judge` with each seed's learning rate chosen on the other seeds (see `tuned`)."""
    return replace(judge, derive=tuned(groups), undefined="one seed")
