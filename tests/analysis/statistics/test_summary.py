"""Averages over seeds and recoveries as ratios of means, by hand."""

from __future__ import annotations

import math

import polars as pl
import pytest

from raysweep.analysis.statistics.recovery import log_gap_recovery
from raysweep.analysis.statistics.summary import averages, mean_recoveries

approx = pytest.approx


def test_errors_are_averaged_geometrically_and_accuracies_arithmetically() -> None:
    frame = pl.DataFrame({"row": ["a", "b", "a", "a"], "seed": [1, 1, 2, 3], "value": [1.0, 5.0, 100.0, None]})
    geometric = averages(frame, geometric=True)
    assert geometric.select("row", "average").rows() == [("a", approx(10.0)), ("b", approx(5.0))]
    assert averages(frame, geometric=False)["average"].to_list() == [approx(50.5), approx(5.0)]
    assert geometric.row(1)[2:] == (None, None)  # one seed has no interval


def test_the_interval_contains_students() -> None:
    """Values e^(-1), 1, e: mean of ln 0, standard error 1 / sqrt(3), t(.975, 2 degrees of freedom) 4.3027."""
    frame = pl.DataFrame({"row": ["a"] * 3, "seed": [1, 2, 3], "value": [math.exp(x) for x in (-1, 0, 1)]})
    (_, average, low, high) = averages(frame, geometric=True).row(0)
    half = 4.3027 / math.sqrt(3)
    assert (average, low, high) == (approx(1), approx(math.exp(-half), rel=1e-3), approx(math.exp(half), rel=1e-3))


def test_equal_values_have_no_interval() -> None:
    assert averages(pl.DataFrame({"row": ["a"] * 3, "seed": [1, 2, 3], "value": [0.5] * 3}), geometric=True).row(0) == (
        "a", approx(0.5), None, None,
    )  # fmt: skip


def test_a_recovery_is_the_mean_gain_over_the_mean_gap() -> None:
    """Seed 2 has no gap: the mean of ratios leaves it out; the ratio of means does not."""
    keys = {"experiment": ["e"] * 3, "seed": [1, 2, 3]}
    own, low, high = (
        pl.DataFrame({**keys, "mse": values}) for values in ([0.1, 0.1, 0.01], [1.0, 0.1, 1.0], [0.01, 0.2, 0.01])
    )
    rated = log_gap_recovery(own, low, high, value="mse").with_columns(row=pl.lit("a"))
    gain = math.log(10) + 0 + math.log(100)
    gap = math.log(100) - math.log(2) + math.log(100)
    assert mean_recoveries(rated).row(0)[:2] == ("a", approx(100 * gain / gap))
    assert rated["recovery"].mean() == approx((50 + 100) / 2)


def test_without_a_mean_gap_there_is_nothing_to_recover() -> None:
    rated = pl.DataFrame({"row": ["a", "a"], "seed": [1, 2], "gain": [1.0, 1.0], "gap": [1.0, -1.0]})
    assert mean_recoveries(rated).row(0) == ("a", None, None, None)
    many = pl.DataFrame(
        {"row": ["a"] * 4, "seed": [1, 2, 3, 4], "gain": [1.0, 2.0, 3.0, 4.0], "gap": [-1.0, -1.0, -1.0, 4.0]}
    )
    assert mean_recoveries(many).row(0) == ("a", approx(1000.0), None, None)  # most resamples have no gap
