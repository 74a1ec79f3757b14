"""Confidence intervals over seeds, p-values and Holm's correction, for the ledger's verdicts.

Rules and reasons: `docs/verdicts.md`. Columns are arrays whose last axis is seeds; a statistic is a function of the
columns that reduces this axis. So one call evaluates all resamples, and columns are resampled together (paired
seeds).

There are two kinds of estimate. `Estimate` is for any statistic; its interval is the hull of three: the t interval,
the percentile bootstrap, and the bias-corrected and accelerated bootstrap (BCa). `SpreadEstimate` is for a standard
deviation or a ratio of two. Shares of seeds are in `analysis.statistics.shares`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.statistics.distributions import NORMAL, bisect, chi2_cdf, f_cdf, t_cdf, t_quantile

Array = NDArray[np.float64]
Columns = Mapping[str, Array]
Statistic = Callable[[Columns], Array]

RESAMPLES = 10_000
SEED = 20261124
LEVEL = 0.05
_EQUAL = 1e-9
_TRIMMED = 0.05
"""Share of the values that a trimmed mean leaves out at either end. Kurtosis is measured about this mean."""
MAX_SEEDS = 10_000
"""Largest number of needed seeds that is reported."""
_LEAST_DEFINED = 0.95
"""Least share of the resamples on which the statistic must be finite; otherwise there is no interval."""


class Estimated(Protocol):
    """An estimate with an interval at any level, and the p-values that belong to it."""

    @property
    def value(self) -> float:
        """The statistic computed from all seeds."""

    @property
    def error(self) -> float:
        """The standard error of the statistic."""

    @property
    def n(self) -> int:
        """The number of seeds."""

    @property
    def has_interval(self) -> bool:
        """Whether a bounded interval can be computed."""

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval with confidence 1 - level; (-inf, inf) if none can be computed."""

    def p_beyond(self, end: float) -> float:
        """Return the two-sided p of the hypothesis that `end` lies between the estimate and the true value."""


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds and its error.

    Args:
        value: the statistic on all seeds.
        error: the jackknife's standard error; nan if it is undefined (one seed, or a subset without spread).
        resampled: the finite values of the statistic on the bootstrap resamples, sorted.
        n: the number of seeds.
        acceleration: the jackknife's measure of skewness, for the BCa interval.
    """

    value: float
    error: float
    resampled: Array
    n: int
    acceleration: float = 0.0

    @property
    def has_interval(self) -> bool:
        """Whether a bounded interval can be computed."""
        enough = self.resampled.size >= _LEAST_DEFINED * RESAMPLES
        return self.n > 1 and math.isfinite(self.value) and math.isfinite(self.error) and enough

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the hull of the t, the percentile bootstrap and the BCa interval; (-inf, inf) if there is none."""
        if not self.has_interval:
            return -math.inf, math.inf
        half = t_quantile(1 - level / 2, self.n - 1) * self.error
        shares = [level / 2, 1 - level / 2, *(self._bca_share(share) for share in (level / 2, 1 - level / 2))]
        ends = [float(end) for end in np.quantile(self.resampled, shares, method="nearest")]
        return min(*ends, self.value - half), max(*ends, self.value + half)

    def p_beyond(self, end: float) -> float:
        """Return the two-sided p of the hypothesis that `end` lies between the estimate and the true value.

        It is the largest of the p-values that belong to the three intervals. If no resample is beyond `end`, the two
        bootstrap intervals do not reach it at any level, and count with the least p that the resamples can show.
        """
        if not self.has_interval or self.value == end:
            return 1.0
        size = self.resampled.size
        beyond = int((self.resampled <= end if self.value > end else self.resampled >= end).sum())
        share = (1 + beyond) / (1 + size)
        p = 2 * (max(share, self._bca_tail(share, lower=self.value > end)) if beyond else share)
        if self.error > 0:
            p = max(p, 2 * (1 - t_cdf(abs(self.value - end) / self.error, self.n - 1)))
        return min(1.0, p)

    @functools.cached_property
    def _bias(self) -> float:
        """BCa's z0: the normal quantile of the share of resamples below the statistic.

        Resamples that are equal to the statistic count half.
        """
        size, slack = self.resampled.size, _EQUAL * max(1.0, abs(self.value))
        at_most = int((self.resampled <= self.value + slack).sum())
        below = (at_most + int((self.resampled < self.value - slack).sum())) / 2
        return NORMAL.inv_cdf((1 + below) / (2 + size))

    def _bca_share(self, share: float) -> float:
        """Return the share of the resamples that lie below an end of the BCa interval.

        `share` is the share of the resamples below the same end of the percentile interval.
        """
        z = self._bias + NORMAL.inv_cdf(share)
        stretch = 1 - self.acceleration * z
        return NORMAL.cdf(self._bias + z / stretch) if stretch > 0 else float(share > 0.5)

    def _bca_tail(self, share: float, *, lower: bool) -> float:
        """Return BCa's tail probability beyond an end. This is the inverse of `_bca_share`.

        `share` is the share of the resamples beyond the end. `lower` tells whether the tail is the lower one, so that
        "beyond" means below the end.
        """
        w = NORMAL.inv_cdf(share if lower else 1 - share) - self._bias
        squeeze = 1 + self.acceleration * w
        if squeeze <= 0:
            return 0.0
        z = w / squeeze - self._bias
        return NORMAL.cdf(z if lower else -z)


@dataclass(frozen=True)
class SpreadEstimate:
    """Ln of a sample standard deviation, or of a ratio of two.

    The interval is that of chi-squared (of F for a ratio) with degrees of freedom adjusted for heavy tails (Hummel,
    Banga and Hettmansperger 2005; kurtosis about a trimmed mean as in Bonett 2006). Without heavy tails the degrees
    of freedom are n - 1.

    Args:
        value: ln of the standard deviation, or of the ratio.
        df: adjusted degrees of freedom of the numerator; nan if there is no interval.
        other: adjusted degrees of freedom of the denominator; inf for a single standard deviation.
        n: the number of seeds.
    """

    value: float
    df: float
    other: float
    n: int

    @property
    def error(self) -> float:
        """The standard error of `value`, in the approximation for many seeds."""
        return math.sqrt(0.5 / self.df + 0.5 / self.other) if self.df else math.nan

    @property
    def has_interval(self) -> bool:
        """Whether a bounded interval can be computed."""
        return self.n > 3 and math.isfinite(self.value) and self.df > 0 and self.other > 0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval with confidence 1 - level; (-inf, inf) if none can be computed."""
        if not self.has_interval:
            return -math.inf, math.inf
        above, below = (self._quantile(share) for share in (1 - level / 2, level / 2))
        return self.value - above, self.value - below

    def p_beyond(self, end: float) -> float:
        """Return the two-sided p of the hypothesis that `end` lies between the estimate and the true value."""
        if not self.has_interval or self.value == end:
            return 1.0
        below = self._cdf(self.value - end)
        return min(1.0, 2 * min(below, 1 - below))

    def _quantile(self, share: float) -> float:
        return bisect(lambda excess: self._cdf(excess) - share, -50.0, 50.0)

    def _cdf(self, excess: float) -> float:
        """Return the probability that the estimate exceeds the true value by at most `excess`."""
        ratio = math.exp(2 * excess)
        return chi2_cdf(self.df * ratio, self.df) if math.isinf(self.other) else f_cdf(ratio, self.df, self.other)


def estimate(statistic: Statistic, columns: Columns) -> Estimate:
    """Compute a statistic with its jackknife error and bootstrap distribution. Seeds are paired across columns."""
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
        lower = without.mean() - without
        squares = float((lower**2).sum())
        error = math.sqrt((n - 1) / n * squares)
        skewed = float((lower**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    return Estimate(value, error, np.sort(resampled[np.isfinite(resampled)]), n, skewed)


def spread_estimate(values: Array, other: Array | None = None) -> SpreadEstimate:
    """Estimate ln of the sample standard deviation of `values` or, with `other`, ln of the ratio to that of `other`."""
    n = values.size
    if n < 2:
        return SpreadEstimate(math.nan, math.nan, math.nan, n)
    with np.errstate(divide="ignore"):
        value = float(np.log(values.std(ddof=1)))
        if other is None:
            return SpreadEstimate(value, _degrees(values), math.inf, n)
        return SpreadEstimate(value - float(np.log(other.std(ddof=1))), _degrees(values), _degrees(other), n)


def _degrees(values: Array) -> float:
    """Compute the degrees of freedom of a sample's variance: below n - 1 if its tails are heavier than normal."""
    n = values.size
    squares = float(((values - values.mean()) ** 2).sum())
    if n < 4 or squares == 0:
        return math.nan
    ordered = np.sort(values)
    cut = int(_TRIMMED * n)
    middle = ordered[cut : n - cut].mean()
    excess = n * float(((values - middle) ** 4).sum()) / squares**2 - 3 * (n - 1) / (n + 1)
    return 2 * n / (max(0.0, excess) + 2 * n / (n - 1))


@functools.cache
def _draws(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the seeds in every bootstrap resample and in every jackknife resample of n seeds.

    They depend only on n, so all statistics over n seeds have the same resamples.
    """
    drawn = np.random.default_rng(SEED).integers(0, n, size=(RESAMPLES, n))
    return drawn, np.array([[j for j in range(n) if j != i] for i in range(n)])


def zone_p(estimated: Estimated, low: float, high: float) -> float:
    """Return the p of a verdict.

    If the estimate is outside the zone, it is the p of the nearer end. If the estimate is inside, it is the larger p
    of the two ends (two one-sided tests, TOST).
    """
    if low <= estimated.value <= high:
        return max((estimated.p_beyond(end) for end in (low, high) if math.isfinite(end)), default=1.0)
    return estimated.p_beyond(low if estimated.value < low else high)


def seeds_needed(estimated: Estimated, low: float, high: float, level: float) -> int | None:
    """Return the least number n of seeds at which the interval excludes the zone's ends.

    The value and the spread over seeds are taken to stay as they are. If the value is outside the zone, only the
    nearer end has to be excluded.

    Returns:
        The number; None if it exceeds `MAX_SEEDS`, or if the estimate has no interval. The interval's half-width at n
            is the t quantile with n - 1 degrees of freedom times the standard error, which shrinks as 1 / sqrt(n).
    """
    if not estimated.has_interval:
        return None
    inside = low <= estimated.value <= high
    ends = [low, high] if inside else [low if estimated.value < low else high]
    distance = min(abs(estimated.value - end) for end in ends if math.isfinite(end))

    def decided(n: int) -> bool:
        error = estimated.error * math.sqrt(estimated.n / n)
        return t_quantile(1 - level / 2, n - 1) * error <= distance

    if not decided(MAX_SEEDS):
        return None
    below, n = 1, MAX_SEEDS
    while n - below > 1:
        middle = (below + n) // 2
        below, n = (below, middle) if decided(middle) else (middle, n)
    return n


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order of `p_values`. Compare them with the uncorrected level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def holm_level(p_values: Sequence[float], i: int, level: float = LEVEL) -> float:
    """Return the level at which Holm's procedure tests p-value i.

    It is `level` divided by the number of p-values that are not smaller than p-value i, which itself is counted. If
    two p-values are equal, the earlier one counts as smaller.
    """
    rank = sum(p < p_values[i] or (p == p_values[i] and j < i) for j, p in enumerate(p_values))
    return level / (len(p_values) - rank)
