"""Components of variance against numbers by hand, and against populations whose components are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raysweep.analysis.statistics.variance import components


def test_by_hand() -> None:
    """Seeds at 0, 3 and 6, each with runs one above and one below: within 2; means vary by 9, of which 1 is within."""
    found = components(np.array([[-1.0, 2.0, 5.0], [1.0, 4.0, 7.0]]))
    assert found.within == pytest.approx(math.sqrt(2))
    assert found.between == pytest.approx(math.sqrt(9 - 1))
    assert found.share.value == pytest.approx(2 / 10)


def test_roundings_that_change_nothing_have_no_share() -> None:
    found = components(np.tile(np.arange(10.0), (5, 1)))
    assert (found.within, found.share.value, found.interval()) == (0.0, 0.0, (0.0, 0.0))
    assert found.between == pytest.approx(np.arange(10.0).std(ddof=1))


def test_seeds_that_differ_by_rounding_alone_have_all_of_it() -> None:
    values = np.random.default_rng(0).standard_normal((5, 200))
    found = components(values)
    assert found.share.value > 0.9
    assert found.interval()[1] == 1.0


@pytest.mark.parametrize("share", [0.1, 0.43, 0.8])
def test_a_known_share_is_in_the_interval_of_most_draws(share: float) -> None:
    rng = np.random.default_rng(5)
    covered = []
    values = []
    for _ in range(40):
        seeds, runs = rng.standard_normal(20), rng.standard_normal((5, 20))
        found = components(math.sqrt(1 - share) * seeds + math.sqrt(share) * runs)
        low, high = found.interval()
        covered.append(low <= share <= high)
        values.append(found.share.value)
    assert np.mean(covered) >= 0.85
    assert np.mean(values) == pytest.approx(share, abs=0.1)


def test_one_run_of_each_seed_cannot_be_decomposed() -> None:
    with pytest.raises(ValueError, match="1 runs of 20 seeds; needed: two runs of three seeds"):
        components(np.zeros((1, 20)))
    with pytest.raises(ValueError, match="5 runs of 2 seeds"):
        components(np.zeros((5, 2)))
