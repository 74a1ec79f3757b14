"""Permutation tests and anytime-valid verdicts: known answers, and the promised error rates by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from raysweep.analysis.questions.band import band, planned_seeds
from raysweep.analysis.questions.permutation import SAMPLES, max_p, two_sided_p
from raysweep.analysis.questions.sequential import (
    A_BETTER,
    B_BETTER,
    EQUAL,
    LEVEL,
    OPEN,
    decide,
    difference,
    fewest,
    in_order,
    log_evidence,
    race,
)

INF = math.inf


def test_the_exact_p_counts_sign_assignments() -> None:
    """For 1, 2, 3 only +++ and --- reach the sum of 6; for 1, 2, -3 half of all reach 0."""
    assert two_sided_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert two_sided_p(np.array([1.0, 2.0, -3.0])) == 1.0
    assert two_sided_p(np.array([])) == 1.0
    assert two_sided_p(np.zeros(5)) == 1.0


def test_a_failed_cell_is_the_largest_difference_and_needs_no_size() -> None:
    failed = np.array([-INF, -1.0, -2.0, -3.0, -4.0, -5.0])
    assert two_sided_p(failed) == 2 / 64
    assert two_sided_p(np.array([INF, -1.0, -2.0])) == two_sided_p(np.array([3.0, -1.0, -2.0])) == 1.0
    assert difference(np.array([INF, INF, 1.0]), np.array([INF, 0.0, INF])).tolist() == [0.0, INF, -INF]


def test_many_pairs_are_sampled_and_the_p_is_never_zero() -> None:
    p = two_sided_p(np.arange(1.0, 31.0))
    assert p == 1 / (SAMPLES + 1)
    assert two_sided_p(np.arange(1.0, 31.0)) == p  # the same draws in every call


def test_the_max_test_is_one_sided_and_joint() -> None:
    better = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [5.0, 5.0]])
    assert max_p(better) == 1 / 32  # two equal competitors cost no more than one
    assert max_p(-better) == 1.0
    assert max_p(np.full((4, 2), np.nan)) == 1.0


def test_the_best_of_several_settings_is_seldom_excluded() -> None:
    """The first of five settings is as good as any other; over 400 replicates it is excluded in about 5 % at most."""
    rng = np.random.default_rng(3)
    ps = []
    for _ in range(400):
        outcomes = rng.normal(size=(5, 7)) + np.array([[0.0], [0.0], [0.0], [0.5], [1.0]]) + rng.normal(size=(1, 7))
        ps.append(max_p(difference(outcomes[0], outcomes[1:]).T))
        if len(ps) == 1:
            assert max_p(difference(outcomes[4] + 9, outcomes[:4]).T) == 1 / 128
    assert (np.array(ps) <= LEVEL).mean() <= 0.05


def test_evidence_is_a_martingale_if_signs_are_fair() -> None:
    """The mean of E over all signs of given sizes is 1, exactly, at every time."""
    sizes = np.array([0.3, 2.0, INF, 0.0, 1.0, 1.0])
    signed = np.array([np.where(sizes == 0, 0.0, sizes * s) for s in itertools.product([1.0, -1.0], repeat=6)])
    assert np.exp(log_evidence(signed)).mean(axis=0) == pytest.approx(np.ones(6))


def test_verdicts() -> None:
    assert decide(np.full(12, -1.0) + 0.01 * np.arange(12)).verdict == A_BETTER
    assert decide(np.full(12, -INF)).verdict == A_BETTER
    decision = decide(np.ones(30))
    assert (decision.verdict, decision.further) == (B_BETTER, None)
    assert decide(np.ones(decision.pairs)) == decision  # what comes after a verdict does not change it
    assert decide(np.ones(decision.pairs - 1)).verdict == OPEN
    assert decide(np.tile([0.1, -0.1], 10), margin=1.0).verdict == EQUAL
    assert decide(np.zeros(20), margin=1.0).verdict == EQUAL
    assert decide(np.tile([0.1, -0.1], 10)).verdict == OPEN
    assert decide(np.array([])).verdict == OPEN
    one, five = (decide(np.ones(30), questions=n) for n in (1, 5))
    assert (five.needed, five.pairs > one.pairs) == (5 * one.needed, True)


def test_further_pairs_do() -> None:
    """Evidence that goes on at its pace reaches the verdict after about the stated number of pairs."""
    decision = decide(np.ones(5))
    assert decision.verdict == OPEN
    assert decision.further is not None
    assert abs(decide(np.ones(30)).pairs - (5 + decision.further)) <= 2


@pytest.mark.parametrize("law", ["normal", "t3", "lognormal", "failures", "ties"])
def test_looking_after_every_seed_is_wrong_in_at_most_5_percent(law: str) -> None:
    rng, size = np.random.default_rng(1), (600, 40)
    differences = {
        "normal": lambda: rng.normal(size=size),
        "t3": lambda: rng.standard_t(3, size=size),
        "lognormal": lambda: np.subtract(*np.exp(rng.normal(size=(2, *size)))),
        "failures": lambda: np.where(rng.random(size) < 0.2, INF * rng.choice([-1, 1], size), rng.normal(size=size)),
        "ties": lambda: np.round(rng.normal(size=size)),
    }[law]()
    both = np.maximum(log_evidence(differences), log_evidence(-differences))
    assert (both.max(axis=1) >= math.log(2 / LEVEL)).mean() <= 0.05
    assert (log_evidence(differences[:300] + 1.5).max(axis=1) >= math.log(2 / LEVEL)).mean() > 0.9


def test_a_pair_counts_at_the_place_of_its_later_request() -> None:
    """Evidence ends before the first pair that was requested and has not ended, however many later ones have."""
    outcomes = np.array([[1.0, 2.0, 3.0, np.nan, 5.0], [2.0, 4.0, 6.0, 8.0, 9.0]])
    asked = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    assert in_order(outcomes, asked).tolist() == [-1, -2, -3]
    asked = np.array([[5, 6, 9, 10, 1], [-1, 8, 7, 11, 0]])  # the first is no pair
    assert in_order(outcomes, asked).tolist() == [-4, -2, -3]


def test_what_a_dropped_setting_would_have_had_later_does_not_matter() -> None:
    """So a launch that was killed in the middle of a round ends as one that was not."""
    rng = np.random.default_rng(4)
    outcomes = rng.normal(size=(3, 30)) + np.array([[0.0], [0.4], [3.0]])
    asked = np.tile(np.arange(30), (3, 1))
    whole = race(outcomes, asked)
    assert 0 < whole.dropped[2] < 30
    for missing in (np.nan, 1e9, -1e9):
        changed = outcomes.copy()
        changed[2, whole.dropped[2] :] = missing
        other = race(changed, asked)
        assert (other.dropped == whole.dropped).all()
        assert (other.log_e == whole.log_e).all()


def test_the_band_holds_at_all_times_at_once() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(200):
        points = band(rng.normal(size=30) + 0.7)
        missed += any((p.low is not None and p.low > 0.7) or (p.high is not None and p.high < 0.7) for p in points)
    assert missed <= 0.05 * 200
    assert band(np.array([])) == band(np.array([INF, INF])) == []
    assert band(np.array([INF, -INF, 1.0]))[1].estimate == 0
    (low, high) = band(rng.normal(size=200) + 0.7)[-1][2:]
    assert 0 < low < 0.7 < high
    assert [planned_seeds(count) for count in (1, 10)] == [34, 58]


def test_no_verdict_is_possible_with_fewer_seeds() -> None:
    for count in (1, 5, 50):
        n = fewest(count)
        growing = np.arange(1.0, n + 1)
        assert decide(growing[:-1], questions=count).verdict == OPEN


def test_the_best_setting_stays_and_the_others_are_dropped() -> None:
    rng = np.random.default_rng(2)
    outcomes = rng.normal(size=(4, 40)) + np.array([[0.0], [0.0], [2.0], [0.0]])
    outcomes[3, :30] = INF
    asked = np.tile(np.arange(40), (4, 1))
    asked[1, 20:] = -1  # no more seeds of it
    gone = race(outcomes, asked).dropped
    assert (gone[0], gone[1]) == (0, 0)
    assert 0 < gone[2] < 20
    assert 0 < gone[3] < 20
    assert race(outcomes[:1], asked[:1]).dropped.tolist() == [0]
