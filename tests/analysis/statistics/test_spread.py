from __future__ import annotations

import math

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from raysweep.analysis.statistics.spread import spread
from raysweep.orchestrator.errors import InputError

STATISTICS = {
    "mean": pl.Float64,
    "sd": pl.Float64,
    "cv_percent": pl.Float64,
    "n": pl.Int64,
    "absent": pl.Int64,
}


def expected(row: dict[str, list[object]]) -> pl.DataFrame:
    return pl.DataFrame(row, schema_overrides=STATISTICS)


def test_the_two_standard_deviations_one_seed_and_diverged_seeds_by_group() -> None:
    frame = pl.DataFrame(
        {
            "row": ["b", "a", "b", "a", "b", "one", "none"],
            "mse": [1.0, 4.0, 2.0, None, 3.0, 7.0, None],
        }
    )
    assert_frame_equal(
        spread(frame, ["row"], "mse"),
        expected(
            {
                "row": ["b", "a", "one", "none"],
                "mean": [2.0, 4.0, 7.0, None],
                "sd": [1.0, None, None, None],
                "cv_percent": [100 * math.sqrt(2 / 3) / 2, None, None, None],
                "n": [3, 1, 1, 0],
                "absent": [0, 1, 0, 1],
            }
        ),
    )


def test_no_grouping_is_one_group_and_integers_count_as_numbers() -> None:
    assert_frame_equal(
        spread(pl.DataFrame({"accuracy": [1, 3]}), [], "accuracy"),
        expected({"mean": [2.0], "sd": [math.sqrt(2)], "cv_percent": [50.0], "n": [2], "absent": [0]}),
    )


def test_a_null_key_is_a_group_like_any_other() -> None:
    frame = pl.DataFrame({"k": [4, None, None], "mse": [1.0, 2.0, 4.0]})
    assert_frame_equal(
        spread(frame, ["k"], "mse"),
        expected(
            {
                "k": [4, None],
                "mean": [1.0, 3.0],
                "sd": [None, math.sqrt(2)],
                "cv_percent": [None, 100 / 3],
                "n": [1, 2],
                "absent": [0, 0],
            }
        ),
    )


@pytest.mark.parametrize("values", [[-1.0, 1.0], [-3.0, -1.0]])
def test_no_coefficient_of_variation_about_a_mean_that_is_not_positive(values: list[float]) -> None:
    frame = spread(pl.DataFrame({"x": values}), [], "x")
    assert frame.select("mean", "sd", "cv_percent").row(0) == (sum(values) / 2, math.sqrt(2), None)


@pytest.mark.parametrize(
    ("frame", "by", "message"),
    [
        (pl.DataFrame({"a": [1]}), ["row"], "frame: no column row, mse; it has a"),
        (
            pl.DataFrame({"n": [1], "mse": [1.0]}),
            ["n"],
            "by: n is the name of a statistic; rename the column",
        ),
        (
            pl.DataFrame({"row": ["a"], "mse": [math.nan]}),
            ["row"],
            "frame: mse is not finite in some rows (a diverged run has null)",
        ),
    ],
)
def test_refusals(frame: pl.DataFrame, by: list[str], message: str) -> None:
    with pytest.raises(InputError) as raised:
        spread(frame, by, "mse")
    assert str(raised.value) == message
