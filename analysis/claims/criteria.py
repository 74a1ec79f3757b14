"""The criteria of `docs/verdicts.md`, with all margins that we chose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from raysweep.analysis.claims.claim import Interval
from raysweep.analysis.statistics.inference import Array, Columns, Statistic
from raysweep.analysis.statistics.recovery import log_gap_recovery

COMPARABLE = 1.5
SAME_LEVEL = 2.0
POINTS = 10.0
ACCURACY = 0.05
INF = math.inf
_ROUNDING = 1e-12


def mean(key: str) -> Statistic:
    """Statistic: arithmetic mean over seeds."""
    return lambda columns: columns[key].mean(-1)


def level(key: str) -> Statistic:
    """Statistic: ln of the arithmetic mean."""
    return lambda columns: np.log(columns[key].mean(-1))


def geometric(key: str) -> Statistic:
    """Statistic: mean of ln, the log of the geometric mean."""
    return lambda columns: np.log(columns[key]).mean(-1)


def ratio(above: str, below: str) -> Statistic:
    """Statistic: mean of ln(above / below), paired by seed."""
    return lambda columns: (np.log(columns[above]) - np.log(columns[below])).mean(-1)


def ratio_to_all(above: str, below: Sequence[str]) -> Statistic:
    """Statistic: mean of ln(above / geometric mean of the `below` columns), paired by seed."""
    return lambda columns: (np.log(columns[above]) - np.stack([np.log(columns[key]) for key in below]).mean(0)).mean(-1)


def smallest(statistics: Sequence[Statistic]) -> Statistic:
    """Statistic: the smallest of several statistics."""
    return lambda columns: np.stack([statistic(columns) for statistic in statistics]).min(0)


def variation(key: str) -> Statistic:
    """Statistic: ln of the coefficient of variation (population sd / mean)."""
    return lambda columns: np.log(columns[key].std(-1) / columns[key].mean(-1))


def _spread(values: Array, ddof: int) -> Array:
    """Standard deviation; exactly 0 (no rounding error) if a resample repeats one seed."""
    sd = values.std(-1, ddof=ddof)
    result: Array = np.where(sd > _ROUNDING * np.abs(values).max(-1), sd, 0.0)
    return result


def log_sample_sd(key: str) -> Statistic:
    """Statistic: ln of the sample standard deviation."""

    def statistic(columns: Columns) -> Array:
        values = columns[key]
        if values.shape[-1] < 2:
            return np.full(values.shape[:-1], np.nan)
        result: Array = np.log(_spread(values, 1))
        return result

    return statistic


def percent(x: float) -> float:
    """100 exp(x): a log ratio as a percentage."""
    return 100 * _exp(x)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else INF  # the end of an unbounded interval


def mse_level(key: str, low: float, high: float | None = None) -> Interval:
    """The arithmetic mean is within a factor `SAME_LEVEL` of the paper's number or range."""
    top = low if high is None else high
    zone = (math.log(low / SAME_LEVEL), math.log(top * SAME_LEVEL))
    return Interval(level(key), *zone, "MSE", _exp, level=True)


def level_above(key: str, trivial: str, paper: float) -> Interval:
    """The ratio of means to the trivial predictor is within a factor `SAME_LEVEL` of the paper's, and above 1."""

    def statistic(columns: Columns) -> Array:
        result: Array = level(key)(columns) - level(trivial)(columns)
        return result

    zone = (max(0.0, math.log(paper / SAME_LEVEL)), math.log(paper * SAME_LEVEL))
    return Interval(statistic, *zone, "MSE / trivial", _exp)


def variation_level(key: str, paper: float) -> Interval:
    """The CV is within a factor `SAME_LEVEL` of the paper's (percent)."""
    centre = math.log(paper / 100)
    wide = math.log(SAME_LEVEL)
    return Interval(variation(key), centre - wide, centre + wide, "CV %", percent)


def accuracy_level(key: str, paper: float) -> Interval:
    """The mean is within `ACCURACY` of the paper's."""
    return Interval(mean(key), paper - ACCURACY, paper + ACCURACY, "accuracy", level=True)


def comparable(key: str, other: str) -> Interval:
    """The two errors are within a factor `COMPARABLE` of each other."""
    return Interval(ratio(key, other), -math.log(COMPARABLE), math.log(COMPARABLE), "ratio", _exp)


def no_worse(key: str, other: str) -> Interval:
    """The error of `key` is at most `COMPARABLE` times that of `other`."""
    return Interval(ratio(key, other), -INF, math.log(COMPARABLE), "ratio", _exp)


def within(key: str, other: str, factor: float) -> Interval:
    """The two errors are within the paper's `factor` of each other."""
    return Interval(ratio(key, other), -math.log(factor), math.log(factor), "ratio", _exp)


def lower(key: str, other: str) -> Interval:
    """The error of `key` is below that of `other`."""
    return Interval(ratio(key, other), -INF, 0.0, "ratio", _exp)


def higher(key: str, other: str) -> Interval:
    """The error of `key` is above that of `other`."""
    return Interval(ratio(key, other), 0.0, INF, "ratio", _exp)


def orders(key: str, other: str, count: int) -> Interval:
    """The error of `key` is larger by at least `count` orders of magnitude, after rounding."""
    return Interval(ratio(key, other), (count - 0.5) * math.log(10), INF, "ratio", _exp)


def more_stable(key: str, other: str) -> Interval:
    """The CV of `other` is larger than that of `key`."""
    steady, shaky = variation(key), variation(other)
    return Interval(lambda columns: shaky(columns) - steady(columns), 0.0, INF, "ratio of CVs", _exp)


def worst(key: str, others: Sequence[str], *, lower_is_worse: bool, unit: str) -> Interval:
    """`key` has the worst mean: its distance to the next worst is above 0."""
    sign = -1.0 if lower_is_worse else 1.0

    def statistic(columns: Columns) -> Array:
        rivals = np.stack([sign * columns[other].mean(-1) for other in others])
        result: Array = sign * columns[key].mean(-1) - rivals.max(0)
        return result

    return Interval(statistic, 0.0, INF, unit)


def derived(
    values: Callable[[Columns], Array], low: float, high: float, unit: str, undefined: str = "no number"
) -> Interval:
    """The mean of `values`, one number per seed, is from `low` to `high`; `undefined` is the reason for a nan."""
    return Interval(
        mean("derived"), low, high, unit, derive=lambda columns: {"derived": values(columns)}, undefined=undefined
    )


NO_GAP = "Eq. 10 has no gap (full RTRL no better than the floor)"


def recovered(recovery: Callable[..., pl.DataFrame], values: Array, floor: Array, ceiling: Array) -> Array:
    """Recovery seed by seed, percent, by a function of `statistics.recovery`; nan if a number or the gap is missing."""
    frames = [
        pl.DataFrame({"seed": range(column.size), "value": column}).with_columns(pl.col("value").fill_nan(None))
        for column in (values, floor, ceiling)
    ]
    rated: Array = recovery(*frames, on=["seed"], value="value")["recovery"].cast(pl.Float64).to_numpy()
    return rated


def recoveries(key: str, floor: str, ceiling: str) -> Callable[[Columns], Columns]:
    """Function that adds the column `recovery`: Eq. 10 seed by seed, nan without a gap."""
    return lambda columns: {
        **columns, "recovery": recovered(log_gap_recovery, columns[key], columns[floor], columns[ceiling])
    }  # fmt: skip


def recovery_level(key: str, floor: str, ceiling: str, low: float, high: float | None = None) -> Interval:
    """The mean recovery is within `POINTS` of the paper's number or range."""
    top = low if high is None else high
    zone = (low - POINTS, top + POINTS)
    return Interval(mean("recovery"), *zone, "recovery %", derive=recoveries(key, floor, ceiling), undefined=NO_GAP)


def recovery_difference(key: str, other: str, floor: str, ceiling: str) -> Interval:
    """The two recoveries differ by at most `POINTS`."""

    def difference(columns: Columns) -> Array:
        one, two = (recoveries(name, floor, ceiling)(columns)["recovery"] for name in (key, other))
        return one - two

    return derived(difference, -POINTS, POINTS, "points", NO_GAP)


def tuned(groups: Mapping[str, Sequence[str]]) -> Callable[[Columns], Columns]:
    """Function that picks a column from each group (learning rates), for each seed the one best on the other seeds.

    The result is nan if there is only one seed.
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
    """The criterion `judge`, with each seed's learning rate chosen on the other seeds."""
    return Interval(judge.statistic, judge.low, judge.high, judge.unit, judge.to_reader, tuned(groups), "one seed")
