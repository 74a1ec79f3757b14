"""Standard errors over pairs of sessions: closed forms, and coverage where sessions have effects of several kinds."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from raysweep.analysis.statistics.clusters import FIRST, SECOND, ClusterEstimate, over_pairs
from raysweep.analysis.statistics.distributions import t_quantile
from raysweep.analysis.statistics.inference import Array, Columns, zone_p

SESSIONS = 8
PAIRS = np.array([(s, t) for s in range(SESSIONS) for t in range(SESSIONS) if s != t])
A, B = PAIRS.T


def mean(columns: Columns) -> Array:
    return columns["x"].mean(-1)


def ratio(columns: Columns) -> Array:
    return columns["y"].mean(-1) / columns["x"].mean(-1)


def columns_of(**values: Array) -> dict[str, Array]:
    return {**values, FIRST: A.astype(float), SECOND: B.astype(float)}


def test_the_two_way_variance_of_a_mean_is_that_of_cameron_gelbach_and_miller() -> None:
    x = np.random.default_rng(0).normal(size=56)
    centred = x - x.mean()
    parts = [
        sum(centred[clusters == c].sum() ** 2 for c in np.unique(clusters)) / 56**2 * count / (count - 1)
        for clusters, count in ((A, 8), (B, 8), (np.arange(56), 56))
    ]
    result = over_pairs(mean, columns_of(x=x))
    assert (result.n, result.df) == (56, 7)
    assert result.value == pytest.approx(x.mean())
    assert result.two_way == pytest.approx(math.sqrt(parts[0] + parts[1] - parts[2]))


def test_effects_of_first_sessions_alone_have_the_error_of_eight_values() -> None:
    effects = np.random.default_rng(1).normal(size=8)
    result = over_pairs(mean, columns_of(x=effects[A]))
    assert result.jackknife == pytest.approx(effects.std(ddof=1) / math.sqrt(8))


def test_effects_of_a_session_in_both_roles_have_twice_the_error() -> None:
    effects = np.random.default_rng(2).normal(size=8)
    result = over_pairs(mean, columns_of(x=effects[A] + effects[B]))
    assert result.jackknife == pytest.approx(2 * effects.std(ddof=1) / math.sqrt(8))
    assert result.error == result.jackknife > result.two_way


def test_a_ratio_of_means_is_linearised() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(5, 0.1, 56), rng.normal(3, 0.1, 56) + rng.normal(size=8)[A]
    value = y.mean() / x.mean()
    result = over_pairs(ratio, columns_of(x=x, y=y))
    assert result.value == pytest.approx(value)
    assert result.two_way == pytest.approx(over_pairs(mean, columns_of(x=(y - value * x) / x.mean())).two_way, rel=0.01)


def test_interval_and_p_are_of_students_t() -> None:
    result = ClusterEstimate(value=1.0, two_way=0.2, jackknife=0.1, n=56, df=7)
    assert result.interval() == pytest.approx((1 - 2.3646 * 0.2, 1 + 2.3646 * 0.2), abs=1e-4)
    assert result.p_beyond(1 - t_quantile(0.975, 7) * 0.2) == pytest.approx(0.05)
    assert zone_p(result, -math.inf, 1 + t_quantile(0.995, 7) * 0.2) == pytest.approx(0.01)


def test_few_sessions_have_no_interval() -> None:
    none = over_pairs(mean, {"x": np.array([]), FIRST: np.array([]), SECOND: np.array([])})
    one = over_pairs(mean, {"x": np.arange(3.0), FIRST: np.zeros(3), SECOND: np.arange(1.0, 4.0)})
    two = over_pairs(mean, {"x": np.arange(2.0), FIRST: np.array([0.0, 1.0]), SECOND: np.array([1.0, 0.0])})
    for result in (none, one, two):
        assert not result.has_interval
        assert result.interval() == (-math.inf, math.inf)
        assert result.p_beyond(0.0) == 1.0


KINDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "of each role": lambda rng: rng.normal(size=8)[A] + rng.normal(size=8)[B] + 0.5 * rng.normal(size=56),
    "of both roles": lambda rng: (effects := rng.normal(size=8))[A] + effects[B] + 0.5 * rng.normal(size=56),
    "of the first alone": lambda rng: rng.normal(size=8)[A] + 0.5 * rng.normal(size=56),
    "of heavy tails": lambda rng: rng.standard_t(4, 8)[A] + rng.standard_t(4, 8)[B] + 0.5 * rng.normal(size=56),
    "of none": lambda rng: rng.normal(size=56),
}


def coverage(kind: str, replicates: int) -> float:
    rng = np.random.default_rng(20261129)
    inside = 0
    for _ in range(replicates):
        low, high = over_pairs(mean, columns_of(x=KINDS[kind](rng))).interval()
        inside += low <= 0 <= high
    return inside / replicates


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_effects(kind: str) -> None:
    assert coverage(kind, 400) >= 0.92


def test_the_two_way_error_alone_covers_too_little() -> None:
    """The shares that the module's docstring states."""
    rng = np.random.default_rng(5)
    half = t_quantile(0.975, 7)
    for kind, share in (("of both roles", 0.78), ("of none", 0.89)):
        results = [over_pairs(mean, columns_of(x=KINDS[kind](rng))) for _ in range(1000)]
        covered = np.mean([abs(result.value) <= half * result.two_way for result in results])
        assert covered == pytest.approx(share, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_effects_in_many_replicates(kind: str) -> None:
    assert coverage(kind, 5000) >= 0.94


def test_intervals_of_a_ratio_cover_it() -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        gap, kept = rng.normal(size=(2, 8))
        x = 3 + 0.5 * gap[A] + 0.5 * gap[B] + 0.3 * rng.normal(size=56)
        y = 0.6 * x + 0.4 * kept[A] + 0.4 * kept[B] + 0.3 * rng.normal(size=56)
        low, high = over_pairs(ratio, columns_of(x=x, y=y)).interval()
        inside += low <= 0.6 <= high
    assert inside / 400 >= 0.92
