"""Intervals of shares against published numbers and against their own coverage."""

from __future__ import annotations

import math

import pytest

from raysweep.analysis.statistics.shares import difference_interval, difference_p, mid_p, share_interval, share_p


def test_the_interval_is_where_the_mid_p_touches() -> None:
    for count, n in ((2, 5), (4, 5), (17, 200)):
        low, high = share_interval(count, n)
        assert (mid_p(count, n, low), mid_p(n - count, n, 1 - high)) == pytest.approx((0.025, 0.025))
        assert share_p(count, n, high) == pytest.approx(0.05)
    assert share_interval(5, 5) == pytest.approx((0.05 ** (1 / 5), 1.0))  # excludes one half
    assert share_interval(0, 5) == pytest.approx((0.0, 1 - 0.05 ** (1 / 5)))


@pytest.mark.parametrize("n", [5, 20, 200])
def test_the_mid_p_interval_covers(n: int) -> None:
    ends = [share_interval(count, n) for count in range(n + 1)]

    def covered(share: float) -> float:
        return sum(
            math.comb(n, i) * share**i * (1 - share) ** (n - i) for i, (a, b) in enumerate(ends) if a <= share <= b
        )

    coverage = [covered(i / 50) for i in range(1, 50)]
    assert sum(coverage) / len(coverage) > 0.948
    assert min(coverage) > 0.92


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe (1998), Table II: 56/70 - 48/80, 9/10 - 3/10 and 10/10 - 0/10."""
    assert difference_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert difference_interval(10, 10, 0, 10) == pytest.approx((0.6075, 1.0), abs=1e-4)


def test_the_p_of_a_difference_is_the_level_at_which_its_interval_touches_zero() -> None:
    p = difference_p(6, 120, 2, 5)
    assert 0 < p < 0.05
    assert difference_interval(6, 120, 2, 5, p * 0.99)[1] > 0 > difference_interval(6, 120, 2, 5, p * 1.01)[1]
    assert difference_p(2, 5, 80, 200) == 1.0
