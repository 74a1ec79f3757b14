"""Counts of failing seeds: two samples compared, and what becomes of them within a family."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from raysweep.analysis.claims.claim import Line, Share
from raysweep.analysis.claims.load import LineData
from raysweep.analysis.claims.verdict import judge, settle
from raysweep.analysis.statistics.inference import fisher_p


def by_relabelling(count: int, n: int, other: int, m: int) -> float:
    """Every way to deal the failing seeds out to n + m places; a split counts if no more ways lead to it."""
    splits = [sum(place < n for place in places) for places in combinations(range(n + m), count + other)]
    ways = {split: splits.count(split) for split in set(splits)}
    return sum(w for w in ways.values() if w <= ways[count]) / len(splits)


@pytest.mark.parametrize(
    ("count", "n", "other", "m"), [(0, 5, 3, 5), (0, 5, 2, 5), (3, 4, 1, 4), (2, 6, 3, 5), (5, 5, 2, 5), (0, 2, 1, 2)]
)
def test_fishers_test_counts_relabellings(count: int, n: int, other: int, m: int) -> None:
    assert fisher_p(count, n, other, m) == pytest.approx(by_relabelling(count, n, other, m))
    assert fisher_p(count, n, other, m) == pytest.approx(fisher_p(other, m, count, n))


def test_fishers_test_of_the_lady_tasting_tea() -> None:
    """Three of four cups right: 1 and 16 of 70 ways on either side."""
    assert fisher_p(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher_p(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert fisher_p(0, 4, 0, 9) == 1.0


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_fishers_test_keeps_its_level(share: float) -> None:
    """Two samples of one share: the chance of p <= 5 %, summed over all outcomes, is at most that."""

    def chance(i: int, n: int) -> float:
        return math.comb(n, i) * share**i * (1 - share) ** (n - i)

    rejected = sum(chance(i, 20) * chance(j, 5) for i in range(21) for j in range(6) if fisher_p(i, 20, j, 5) <= 0.05)
    assert 0 < rejected <= 0.05


def verdicts(failing: int, n: int, paper: float, others: int = 0) -> tuple[str, str]:
    """With and without the correction for so many other lines whose p is 1."""
    line = Line("x", "x", "x", Share(lambda columns: columns["x"] > 0, paper))
    columns = {"x": np.array([1.0] * failing + [0.0] * (n - failing))}
    judged = judge(line, LineData(columns, tuple(range(n)), n, None))
    settled = settle(line, judged, [judged.p or 1.0, *[1.0] * others], 0)
    return settled.verdict, settled.alone


REPRODUCED, NOT, CANNOT = "reproduced", "not reproduced", "cannot be separated"


@pytest.mark.parametrize(
    ("failing", "n", "paper", "others", "expected"),
    [
        (2, 5, 2 / 5, 0, (REPRODUCED, REPRODUCED)),  # seen, and as often
        (0, 5, 3 / 5, 0, (CANNOT, CANNOT)),  # p = 1/6: none of five says nothing against three of five
        (0, 40, 3 / 5, 0, (NOT, NOT)),
        (0, 40, 3 / 5, 500, (CANNOT, NOT)),  # but for the correction
        (2, 20, 3 / 5, 0, (NOT, NOT)),  # seen, yet less often
        (2, 20, 3 / 5, 16, (CANNOT, NOT)),
        (2, 20, 2 / 5, 16, (REPRODUCED, REPRODUCED)),
        (20, 20, 2 / 5, 0, (NOT, NOT)),  # more often
    ],
)
def test_some_fail(failing: int, n: int, paper: float, others: int, expected: tuple[str, str]) -> None:
    assert verdicts(failing, n, paper, others) == expected


def test_one_seed_more_decides() -> None:
    """A changed seed's value changes the verdict: the first failing seed shows that some do."""
    assert [verdicts(failing, 5, 2 / 5)[0] for failing in (0, 1)] == [CANNOT, REPRODUCED]


def test_the_papers_count_is_of_its_own_sample() -> None:
    assert (Share(lambda c: c["x"] > 0, 3 / 5).count, Share(lambda c: c["x"] > 0, 1 / 2, sample=2).count) == (3, 1)
