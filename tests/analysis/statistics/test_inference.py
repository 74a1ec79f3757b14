"""Intervals, p-values and their correction against known and simulated truths."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from raysweep.analysis.claims import criteria
from raysweep.analysis.statistics.distributions import beta_cdf, chi2_cdf, f_cdf, gamma_cdf, t_cdf, t_quantile
from raysweep.analysis.statistics.inference import (
    RESAMPLES,
    Estimate,
    estimate,
    holm,
    holm_level,
    seeds_needed,
    spread_estimate,
    zone_p,
)

MEAN = criteria.mean("x")


def of(*values: float) -> Estimate:
    return estimate(MEAN, {"x": np.array(values)})


@pytest.mark.parametrize(
    ("share", "df", "quantile"),
    [
        (0.975, 1, 12.7062047362),
        (0.975, 2, 4.3026527297),
        (0.975, 4, 2.7764451052),
        (0.95, 5, 2.0150483733),
        (0.995, 30, 2.7499956536),
    ],
)
def test_student_quantiles_of_the_tables(share: float, df: int, quantile: float) -> None:
    assert t_quantile(share, df) == pytest.approx(quantile, abs=1e-9)
    assert t_cdf(quantile, df) == pytest.approx(share, abs=1e-9)
    assert t_cdf(-quantile, df) == pytest.approx(1 - share, abs=1e-9)


def test_student_is_cauchy_for_one_degree_of_freedom() -> None:
    assert [t_cdf(t, 1) for t in (-1.0, 0.0, 1.0)] == pytest.approx([0.25, 0.5, 0.75])


def test_the_jackknife_error_of_a_mean_is_the_ordinary_one() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert of(*values).error == pytest.approx(values.std(ddof=1) / math.sqrt(5))


def test_the_bootstrap_distribution_of_three_seeds_is_the_enumerated_one() -> None:
    """27 ordered resamples, all of the same chance."""
    values = (0.0, 1.0, 5.0)
    means = np.array([np.mean(draw) for draw in product(values, repeat=3)])
    estimated = of(*values)
    for x in np.unique(means):
        assert (estimated.resampled <= x + 1e-9).mean() == pytest.approx((means <= x + 1e-9).mean(), abs=0.015)


def test_coverage_on_normal_data_of_five_seeds() -> None:
    """The bootstrap alone covers far less than 95 %, the hull at least that."""
    rng, trials = np.random.default_rng(1), 700
    hull = alone = 0
    for _ in range(trials):
        estimated = of(*rng.normal(size=5))
        low, high = estimated.interval()
        hull += low <= 0 <= high
        percentile = np.quantile(estimated.resampled, [0.025, 0.975])
        alone += percentile[0] <= 0 <= percentile[1]
    sd = math.sqrt(0.95 * 0.05 / trials)
    assert 0.95 - 3 * sd < hull / trials < 0.975
    assert 0.79 < alone / trials < 0.88


def test_p_is_the_level_at_which_the_interval_touches() -> None:
    estimated = of(1.0, 2.0, 2.5, 3.0, 4.5)
    for end in (0.5, 1.4, 4.2):
        p = estimated.p_beyond(end)
        low, high = estimated.interval(p * 1.01)
        assert not low <= end <= high
        low, high = estimated.interval(p * 0.97)
        assert low <= end <= high


def test_p_beyond_all_resamples_agrees_with_the_interval() -> None:
    """Resamples that lie almost all below the statistic, as those of a share of many parts may."""
    resampled = np.sort(np.random.default_rng(4).normal(0.60, 0.02, RESAMPLES))
    estimated = Estimate(0.646, 0.02, resampled, 60, acceleration=-0.02)
    assert estimated.interval()[1] < 0.9
    assert estimated.p_beyond(0.9) == pytest.approx(2 / 10_001)


def test_p_under_the_null_is_uniform_or_larger() -> None:
    rng = np.random.default_rng(2)
    p_values = np.array([of(*rng.normal(size=5)).p_beyond(0.0) for _ in range(400)])
    for level in (0.01, 0.05, 0.2):
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level / 400)
    assert (p_values <= 0.2).mean() > 0.15  # and not so large that nothing is ever found


def test_equivalence_does_not_hang_on_which_of_two_is_named_first() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.05, 0.2, 0.6):
        columns = {"a": np.exp(rng.normal(0.1, scale, 5)), "b": np.exp(rng.normal(0, scale, 5))}
        results = []
        for one, two in (("a", "b"), ("b", "a")):
            how = criteria.comparable(one, two)
            estimated = estimate(how.statistic, columns)
            results.append((zone_p(estimated, how.low, how.high), *sorted(map(abs, estimated.interval()))))
        assert results[0] == pytest.approx(results[1], rel=1e-12)


def test_equivalence_needs_both_ends_and_difference_only_one() -> None:
    estimated = of(0.0, 0.1, -0.1, 0.05, 0.02)
    assert zone_p(estimated, -1, 1) == max(estimated.p_beyond(-1), estimated.p_beyond(1))
    assert zone_p(estimated, 0.5, 1) == estimated.p_beyond(0.5)
    assert zone_p(estimated, -math.inf, 1) == estimated.p_beyond(1)


def test_one_seed_knows_nothing() -> None:
    estimated = of(3.0)
    assert (estimated.value, estimated.has_interval, estimated.interval()) == (3.0, False, (-math.inf, math.inf))
    assert (zone_p(estimated, 0, 1), seeds_needed(estimated, 0, 1, 0.05)) == (1.0, None)


def test_two_seeds_have_the_t_interval_of_one_degree_of_freedom() -> None:
    assert of(0.0, 2.0).interval() == pytest.approx((1 - 12.7062047362, 1 + 12.7062047362))


def test_seeds_of_no_spread_leave_the_bootstraps_smallest_p() -> None:
    estimated = of(2.0, 2.0, 2.0)
    assert estimated.interval() == (2.0, 2.0)
    assert estimated.p_beyond(1.0) == pytest.approx(2 / 10_001)
    assert estimated.p_beyond(2.0) == 1.0


def test_a_spread_of_three_seeds_has_no_interval() -> None:
    assert not spread_estimate(np.array([1.0, 2.0, 4.0])).has_interval
    assert not spread_estimate(np.ones(9)).has_interval


def test_a_spread_of_normal_numbers_has_the_textbooks_interval() -> None:
    """Five seeds: chi-squared with four degrees of freedom, .4844 and 11.143; F(4, 4) of 9.605 for a ratio."""
    values = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    estimated = spread_estimate(values)
    sd = values.std(ddof=1)
    expected = (math.log(sd * math.sqrt(4 / 11.1433)), math.log(sd * math.sqrt(4 / 0.48442)))
    assert estimated.interval() == pytest.approx(expected, abs=1e-5)
    ratio = spread_estimate(10 * values, values)
    half = math.log(9.6045) / 2
    assert ratio.interval() == pytest.approx((math.log(10) - half, math.log(10) + half), abs=1e-4)
    assert ratio.p_beyond(ratio.interval()[0]) == pytest.approx(0.05)


def test_heavy_tails_widen_the_interval_of_a_spread() -> None:
    rng = np.random.default_rng(5)
    normal, heavy = rng.normal(size=200), rng.standard_t(3, size=200)
    widths = [np.ptp(spread_estimate(values).interval()) for values in (normal, heavy)]
    assert widths[1] > 1.3 * widths[0]


def test_a_skewed_statistic_gets_a_skewed_interval() -> None:
    """BCa reaches further on the long side than t does."""
    values = np.random.default_rng(6).lognormal(sigma=1.5, size=50)
    estimated = of(*values)
    low, high = estimated.interval()
    assert high - estimated.value > 1.1 * (estimated.value - low)


def test_seeds_needed_by_hand() -> None:
    """t(n - 1) s / sqrt(n) must be at most the distance: s = 1.58, distance 1, so 13 (2.179 x 1.58 / 3.61 = .955)."""
    values = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    estimated = of(*values)
    assert seeds_needed(estimated, 0, math.inf, 0.05) == 13
    assert seeds_needed(estimated, 2, math.inf, 0.05) == 13  # outside by the same distance
    assert seeds_needed(estimated, 0, 1.5, 0.05) == 41  # inside: the nearer end counts
    assert seeds_needed(estimated, 1, math.inf, 0.05) is None


def test_holm_by_hand() -> None:
    """.005 x 4, .01 x 3, .03 x 2, .04 x 1, each no smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert [holm_level([0.01, 0.04, 0.03, 0.005], i) for i in range(4)] == pytest.approx(
        [0.05 / 3, 0.05 / 1, 0.05 / 2, 0.05 / 4]
    )


def test_holm_keeps_the_familywise_error() -> None:
    rng = np.random.default_rng(4)
    uniform = rng.random((4000, 6))
    any_found = np.mean([min(holm(list(row))) <= 0.05 for row in uniform])
    assert any_found == pytest.approx(0.05, abs=0.011)


def test_distributions_are_scipys() -> None:
    from scipy import special, stats

    for a in (0.5, 2.3, 40.0, 300.0):
        for x in (0.01, 0.7, 3.0, 50.0, 310.0):
            assert gamma_cdf(x, a) == pytest.approx(special.gammainc(a, x), abs=1e-12)
        for b in (0.5, 4.4, 80.0):
            for x in (0.001, 0.2, 0.5, 0.999):
                assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-12)
    assert chi2_cdf(7.7, 3.3) == pytest.approx(stats.chi2.cdf(7.7, 3.3))
    assert f_cdf(2.2, 3.3, 17.5) == pytest.approx(stats.f.cdf(2.2, 3.3, 17.5))


def test_tuned_scores_no_seed_by_a_rate_that_it_chose() -> None:
    """Seed 3 alone likes rate b; the other seeds choose a for it, and it takes b away from nobody."""
    columns = {"a": np.array([1.0, 1.0, 9.0]), "b": np.array([2.0, 2.0, 1.0])}
    derived = criteria.tuned({"m": ["a", "b"]})(columns)["m"]
    # Without seed 1: a 9, b 2 -> b. Without seed 2: the same. Without seed 3: a 1, b 4 -> a.
    assert derived.tolist() == [2.0, 2.0, 9.0]
