"""Counts of failing seeds: ours and the paper's as two samples, and what becomes of them within a claim."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.analysis.claims.claim import Line, Share
from raysweep.analysis.claims.load import LineData
from raysweep.analysis.claims.verdict import judge, settle


def verdicts(failing: int, n: int, paper: float, others: int = 0, sample: int = 5) -> tuple[str, str]:
    """With and without the correction for so many other lines that nothing refutes."""
    line = Line("x", "x", "x", Share(lambda columns: columns["x"] > 0, paper, sample))
    columns = {"x": np.array([1.0] * failing + [0.0] * (n - failing))}
    judged = judge(line, LineData(columns, tuple(range(n)), n, None))
    settled = settle(judged, [1.0 if judged.p is None else judged.p, *[1.0] * others], 0)
    return settled.verdict, settled.alone


REPRODUCED, NOT, CANNOT, PAPER = "reproduced", "not reproduced", "cannot be separated", "the paper cannot tell"


@pytest.mark.parametrize(
    ("failing", "n", "paper", "others", "expected"),
    [
        (2, 5, 2 / 5, 0, (REPRODUCED, REPRODUCED)),  # the paper's own sample
        (1, 5, 2 / 5, 0, (CANNOT, CANNOT)),  # one of five may be next to none
        (5, 5, 2 / 5, 0, (NOT, NOT)),  # not "reproduced" by failing to reject
        (0, 5, 2 / 5, 0, (CANNOT, CANNOT)),
        (0, 40, 3 / 5, 0, (NOT, NOT)),
        (6, 120, 2 / 5, 60, (CANNOT, NOT)),  # but for the correction
        (6, 120, 2 / 5, 0, (NOT, NOT)),  # seen, yet less often
        (60, 200, 2 / 5, 16, (REPRODUCED, REPRODUCED)),
        (200, 200, 2 / 5, 0, (NOT, NOT)),  # more often
        (5, 5, 1.0, 0, (REPRODUCED, REPRODUCED)),  # five of five can be reached
        (190, 200, 1.0, 0, (REPRODUCED, REPRODUCED)),
        (60, 200, 1.0, 0, (NOT, NOT)),
    ],
)
def test_some_fail(failing: int, n: int, paper: float, others: int, expected: tuple[str, str]) -> None:
    assert verdicts(failing, n, paper, others) == expected


def test_one_of_two_says_nothing() -> None:
    """One failing seed of two is compatible with next to none."""
    assert [verdicts(failing, 2, 1 / 2, sample=2)[0] for failing in (0, 1, 2)] == [PAPER] * 3


def test_more_seeds_of_the_same_share_never_undo_a_verdict() -> None:
    decided = [verdicts(n * 3 // 10, n, 2 / 5)[0] for n in (10, 20, 50, 100, 200, 1000)]
    first = decided.index(REPRODUCED)
    assert set(decided[:first]) <= {CANNOT}
    assert set(decided[first:]) == {REPRODUCED}


def test_the_papers_count_is_of_its_own_sample() -> None:
    assert (Share(lambda c: c["x"] > 0, 3 / 5).count, Share(lambda c: c["x"] > 0, 1 / 2, sample=2).count) == (3, 1)
