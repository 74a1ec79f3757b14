"""Shares of seeds with a property: intervals of one share, and of the difference of two shares."""

from __future__ import annotations

import functools
import math

from raysweep.analysis.statistics.distributions import NORMAL, beta_cdf, bisect
from raysweep.analysis.statistics.inference import LEVEL


@functools.cache
def share_interval(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Compute the mid-p interval of a binomial share `count / n`.

    In its tail probabilities, the observed count has half its weight. In those of Clopper and Pearson's interval, it
    has its full weight. Their interval contains the true share more often than its level says, and with five of five
    seeds it cannot exclude one half.
    """
    low = bisect(lambda p: mid_p(count, n, p) - level / 2, 0.0, 1.0) if count else 0.0
    high = bisect(lambda p: level / 2 - mid_p(n - count, n, 1 - p), 0.0, 1.0) if count < n else 1.0
    return low, high


def mid_p(count: int, n: int, p: float) -> float:
    """Compute P(X > count) + P(X = count) / 2, where X is binomial with n trials of probability p."""
    at_least = beta_cdf(p, count, n - count + 1) if count else 1.0
    more = beta_cdf(p, count + 1, n - count) if count < n else 0.0
    return (at_least + more) / 2


def share_p(count: int, n: int, end: float) -> float:
    """Compute the two-sided mid-p of the hypothesis that `end` lies between `count / n` and the true share."""
    tail = mid_p(count, n, end) if count / n > end else mid_p(n - count, n, 1 - end)
    return min(1.0, 2 * tail)


def difference_interval(count: int, n: int, other: int, m: int, level: float = LEVEL) -> tuple[float, float]:
    """Compute Newcombe's interval (1998, method 10) of the difference of two shares, `count / n - other / m`."""
    one, two = count / n, other / m
    low, high = _wilson(count, n, level)
    other_low, other_high = _wilson(other, m, level)
    down = math.hypot(one - low, other_high - two)
    up = math.hypot(high - one, two - other_low)
    return one - two - down, one - two + up


def difference_p(count: int, n: int, other: int, m: int) -> float:
    """Compute the two-sided p of equal shares: the smallest level at which `difference_interval` contains 0."""
    if count * m == other * n:
        return 1.0

    def excludes(level: float) -> float:
        low, high = difference_interval(count, n, other, m, level)
        return 1.0 if low > 0 or high < 0 else -1.0

    return bisect(excludes, 1e-12, 1 - 1e-12)


def _wilson(count: int, n: int, level: float) -> tuple[float, float]:
    """Compute Wilson's score interval of a share."""
    z = NORMAL.inv_cdf(1 - level / 2)
    p = count / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
