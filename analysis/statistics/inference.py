"""Confidence intervals over a few seeds, p-values and Holm's correction, for the ledger's verdicts.

Rules and reasons: `docs/verdicts.md`. Columns are arrays whose last axis is seeds; a statistic is a function of the
columns that reduces this axis. So one call evaluates all resamples, and columns are resampled together (paired seeds).

An interval is the hull of the percentile bootstrap's interval, which alone is too narrow for five seeds, and the t
interval with the jackknife's standard error.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = Mapping[str, Array]
Statistic = Callable[[Columns], Array]

RESAMPLES = 10_000
SEED = 20261124
LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds and its error.

    Args:
        value: the statistic on all seeds.
        error: the jackknife's standard error; nan if it is undefined (one seed, or a subset without spread).
        resampled: the finite values of the statistic on the bootstrap resamples, sorted.
        n: the number of seeds.
    """

    value: float
    error: float
    resampled: Array
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether a bounded interval can be computed."""
        return self.n > 1 and math.isfinite(self.value) and math.isfinite(self.error) and self.resampled.size > 0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Hull of percentile and t interval at 1 - level; (-inf, inf) if neither can be computed."""
        if not self.has_interval:
            return -math.inf, math.inf
        low, high = np.quantile(self.resampled, [level / 2, 1 - level / 2], method="nearest")
        half = t_quantile(1 - level / 2, self.n - 1) * self.error
        return min(float(low), self.value - half), max(float(high), self.value + half)

    def p_beyond(self, end: float) -> float:
        """Two-sided p of the true value lying on the other side of `end`: the larger of t's and the bootstrap's."""
        if not self.has_interval or self.value == end:
            return 1.0
        beyond = self.resampled <= end if self.value > end else self.resampled >= end
        boot = 2 * (1 + int(beyond.sum())) / (1 + beyond.size)
        if self.error == 0:
            return min(1.0, boot)
        return min(1.0, max(boot, 2 * (1 - t_cdf(abs(self.value - end) / self.error, self.n - 1))))


def estimate(statistic: Statistic, columns: Columns) -> Estimate:
    """A statistic with its jackknife error and bootstrap distribution, seeds paired across columns."""
    n = next(iter(columns.values())).shape[-1]
    if n == 0:
        return Estimate(math.nan, math.nan, np.array([math.nan]), n)
    with np.errstate(divide="ignore", invalid="ignore"):  # ln 0 if all seeds have the same value
        value = float(statistic(columns))
        if n < 2:
            return Estimate(value, math.nan, np.array([value]), n)
        drawn, others = _draws(n)
        resampled = statistic({name: column[drawn] for name, column in columns.items()})
        without = statistic({name: column[others] for name, column in columns.items()})
        error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    # Left out: resamples that repeat one seed, 1 in n^(n-1), where the log of a spread is undefined.
    return Estimate(value, error, np.sort(resampled[np.isfinite(resampled)]), n)


@functools.cache
def _draws(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the seeds in every bootstrap and every jackknife resample, the same for every line."""
    drawn = np.random.default_rng(SEED).integers(0, n, size=(RESAMPLES, n))
    return drawn, np.array([[j for j in range(n) if j != i] for i in range(n)])


def zone_p(estimated: Estimate, low: float, high: float) -> float:
    """The p of a verdict: the larger p of both ends (TOST) inside the zone, outside it that of the nearer end."""
    if low <= estimated.value <= high:
        return max((estimated.p_beyond(end) for end in (low, high) if math.isfinite(end)), default=1.0)
    return estimated.p_beyond(low if estimated.value < low else high)


def seeds_needed(estimated: Estimate, low: float, high: float, level: float) -> int | None:
    """The smallest n at which the interval, its width scaled as 1 / sqrt(n), excludes the zone's ends; None if none."""
    if not estimated.has_interval:
        return None
    bottom, top = estimated.interval(level)
    inside = low <= estimated.value <= high
    ends = [low, high] if inside else [low if estimated.value < low else high]
    needed = 2
    for end in (end for end in ends if math.isfinite(end)):
        distance = abs(estimated.value - end)
        half = estimated.value - bottom if end < estimated.value else top - estimated.value
        if distance == 0 or not math.isfinite(half):
            return None
        needed = max(needed, math.ceil(estimated.n * (half / distance) ** 2))
    return needed


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order of `p_values`, to be compared with the uncorrected level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def holm_level(p_values: Sequence[float], i: int, level: float = LEVEL) -> float:
    """The level that Holm's procedure leaves to test i: level / (number of tests with no smaller p)."""
    rank = sum(p < p_values[i] or (p == p_values[i] and j < i) for j, p in enumerate(p_values))
    return level / (len(p_values) - rank)


def t_cdf(t: float, df: int) -> float:
    """Student's distribution function for integer degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    theta = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    term, total = (cosine, 0.0) if df % 2 else (1.0, 0.0)
    for k in range(1 if df % 2 else 0, df - 1, 2):  # powers of the cosine up to df - 2
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    area = 2 / math.pi * (theta + sine * total) if df % 2 else sine * total
    return (1 + area) / 2


def t_quantile(share: float, df: int) -> float:
    """Inverse of `t_cdf` by bisection, for shares of at least one half."""
    high = 1.0
    while t_cdf(high, df) < share:
        high *= 2
    return bisect(lambda t: t_cdf(t, df) - share, 0.0, high)


def share_interval(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's exact interval for a binomial share."""
    low = bisect(lambda p: _at_least(count, n, p) - level / 2, 0.0, 1.0) if count else 0.0
    high = bisect(lambda p: level / 2 - _at_least(n - count, n, 1 - p), 0.0, 1.0) if count < n else 1.0
    return low, high


def share_p(count: int, n: int, end: float) -> float:
    """Two-sided exact p of the true share lying on the other side of `end`."""
    tail = _at_least(count, n, end) if count / n > end else _at_least(n - count, n, 1 - end)
    return min(1.0, 2 * tail)


def fisher_p(count: int, n: int, other: int, m: int) -> float:
    """Two-sided p of Fisher's exact test of two shares, `count` of `n` against `other` of `m`.

    The p is the total probability of all tables with the same margins that are at most as likely as the observed one.
    """
    total = count + other
    tables = range(max(0, total - m), min(n, total) + 1)
    ways = [math.comb(n, i) * math.comb(m, total - i) for i in tables]
    seen = ways[count - tables.start]
    return sum(way for way in ways if way <= seen) / sum(ways)


def _at_least(count: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(count, n + 1))


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """The zero of an increasing function between low and high."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
