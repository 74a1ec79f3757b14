"""Distribution functions for intervals and p-values, and their inverses by bisection.

The incomplete beta function (continued fraction) and the incomplete gamma function (series, continued fraction) are
those of Numerical Recipes, sec. 6.2 and 6.4. SciPy isn't needed to judge a store; the tests compare with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from statistics import NormalDist

NORMAL = NormalDist()
_TINY = 1e-300
_EPSILON = 1e-15
_MAX_TERMS = 10_000


def t_cdf(t: float, df: float) -> float:
    """Compute Student's cumulative distribution function at t, with `df` degrees of freedom."""
    tail = beta_cdf(df / (df + t * t), df / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


@functools.cache
@functools.cache
def t_quantile(share: float, df: float) -> float:
    """Compute the inverse of `t_cdf`, for `share` of at least one half."""
    high = 1.0
    while t_cdf(high, df) < share:
        high *= 2
    return bisect(lambda t: t_cdf(t, df) - share, 0.0, high)


def f_cdf(x: float, df: float, other: float) -> float:
    """Compute the F distribution function at x.

    `df` is the number of degrees of freedom of the numerator, and `other` that of the denominator.
    """
    return 0.0 if x <= 0 else beta_cdf(df * x / (df * x + other), df / 2, other / 2)


def chi2_cdf(x: float, df: float) -> float:
    """Compute the chi-squared distribution function at x, with `df` degrees of freedom."""
    return 0.0 if x <= 0 else gamma_cdf(x / 2, df / 2)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Compute the regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _beta_fraction(1 - x, b, a) / b
    return front * _beta_fraction(x, a, b) / a


def gamma_cdf(x: float, a: float) -> float:
    """Compute the regularised lower incomplete gamma function P(a, x)."""
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, _MAX_TERMS):
            term *= x / (a + n)
            total += term
            if term < total * _EPSILON:
                break
        return front * total
    return 1 - front * _gamma_fraction(x, a)


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Find the zero of an increasing function between low and high."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _beta_fraction(x: float, a: float, b: float) -> float:
    def coefficient(i: int) -> float:
        m = i // 2
        if i % 2:
            return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))

    return _fraction(coefficient, lambda i: 1.0, 1.0)


def _gamma_fraction(x: float, a: float) -> float:
    return _fraction(lambda i: -i * (i - a), lambda i: x + 1 - a + 2 * i, x + 1 - a)


def _fraction(numerator: Callable[[int], float], denominator: Callable[[int], float], first: float) -> float:
    """Evaluate 1 / (first + numerator(1) / (denominator(1) + numerator(2) / ...)) by Lentz's method."""
    d = value = 1 / (first or _TINY)
    c = 1 / _TINY
    for i in range(1, _MAX_TERMS):
        top, bottom = numerator(i), denominator(i)
        d = 1 / ((bottom + top * d) or _TINY)
        c = (bottom + top / c) or _TINY
        value *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return value
