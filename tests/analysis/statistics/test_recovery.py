from __future__ import annotations

import math
from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from raysweep.analysis.errors import AmbiguousCells, MissingSeeds
from raysweep.analysis.statistics.recovery import accuracy_recovery, drift_recovery, log_gap_recovery
from raysweep.orchestrator.errors import InputError

Recovery = Callable[..., pl.DataFrame]
FORMS: list[Recovery] = [log_gap_recovery, drift_recovery, accuracy_recovery]

every_form = pytest.mark.parametrize("recovery", FORMS, ids=lambda form: form.__name__)


def rows(values: dict[int, float | None], experiment: str = "sine") -> pl.DataFrame:
    return pl.DataFrame(
        {"experiment": [experiment] * len(values), "seed": list(values), "y": list(values.values())},
        schema={"experiment": pl.String, "seed": pl.Int64, "y": pl.Float64},
    )


def added(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.select("seed", "floor", "ceiling", "gap", "recovery").rows()


def test_log_gap_by_powers_of_ten() -> None:
    """Floor 1, ceiling .01: a tenth is half way; beyond the ceiling > 100, worse than the floor < 0."""
    frame = rows({1: 0.1, 2: 1.0, 3: 0.01, 4: 0.001, 5: 10.0})
    seeds = frame["seed"].to_list()
    result = log_gap_recovery(frame, rows(dict.fromkeys(seeds, 1.0)), rows(dict.fromkeys(seeds, 0.01)), value="y")
    gap = math.log(100)
    assert_frame_equal(
        result,
        frame.with_columns(
            floor=pl.lit(1.0),
            ceiling=pl.lit(0.01),
            gain=pl.Series([gap / 2, 0.0, gap, 1.5 * gap, -gap / 2]),
            gap=pl.lit(gap),
            recovery=pl.Series([50.0, 0.0, 100.0, 150.0, -50.0]),
        ),
    )


def test_drift_is_linear_in_the_mse() -> None:
    result = drift_recovery(rows({7: 0.4, 8: 0.1}), rows({8: 0.5, 7: 0.5}), rows({7: 0.3, 8: 0.1}), value="y")
    assert_frame_equal(
        result.select("floor", "ceiling", "gap", "recovery"),
        pl.DataFrame({"floor": [0.5, 0.5], "ceiling": [0.3, 0.1], "gap": [0.2, 0.4], "recovery": [50.0, 100.0]}),
    )


def test_accuracy_is_better_when_higher() -> None:
    result = accuracy_recovery(rows({42: 0.35, 43: 0.5}), rows({42: 0.3, 43: 0.3}), rows({42: 0.4, 43: 0.4}), value="y")
    assert_frame_equal(result.select("gap", "recovery"), pl.DataFrame({"gap": [0.1, 0.1], "recovery": [50.0, 200.0]}))


def test_default_columns() -> None:
    for recovery, column in zip(FORMS, ("mse_post_last_500", "mse", "accuracy"), strict=True):
        middle, low, high = (rows({1: y}).rename({"y": column}) for y in (2.0, 2.0, 2.0))
        assert recovery(middle, low, high)["gap"].to_list() == [0.0]


@every_form
def test_matched_by_key_never_by_position_and_several_rows_a_key(recovery: Recovery) -> None:
    frame = pl.concat([rows({3: 1.0, 1: 2.0}), rows({1: 4.0})])
    low, high = rows({1: 8.0, 9: 5.0, 3: 6.0}), rows({3: 7.0, 1: 9.0})
    result = recovery(frame, low, high, value="y")
    assert result.select("seed", "y", "floor", "ceiling").rows() == [
        (3, 1.0, 6.0, 7.0),
        (1, 2.0, 8.0, 9.0),
        (1, 4.0, 8.0, 9.0),
    ]


def test_further_keys_are_the_callers() -> None:
    frame = rows({1: 0.1}).with_columns(hidden=pl.Series([128]))
    low = pl.concat([rows({1: 1.0}), rows({1: 5.0})]).with_columns(hidden=pl.Series([128, 64]))
    high = rows({1: 0.01}).with_columns(hidden=pl.Series([128]))
    result = log_gap_recovery(frame, low, high, on=["experiment", "seed", "hidden"], value="y")
    assert added(result) == [(1, 1.0, 0.01, pytest.approx(math.log(100)), pytest.approx(50.0))]


@every_form
def test_no_recovery_where_the_gap_is_not_positive_and_the_gap_says_so(recovery: Recovery) -> None:
    equal = recovery(rows({1: 2.0}), rows({1: 2.0}), rows({1: 2.0}), value="y")
    assert added(equal) == [(1, 2.0, 2.0, 0.0, None)]
    worse, better = rows({1: math.e}), rows({1: 1.0})
    if recovery is accuracy_recovery:
        worse, better = better, worse
    inverted = recovery(better, better, worse, value="y")
    assert inverted["gap"].item() < 0
    assert inverted["recovery"].to_list() == [None]


@every_form
def test_a_diverged_run_has_no_recovery_nor_has_what_is_compared_with_one(recovery: Recovery) -> None:
    good = rows({1: 2.0, 2: 3.0, 3: 4.0})
    low, high = rows({1: 5.0, 2: 5.0, 3: None}), rows({1: 1.0, 2: None, 3: 1.0})
    result = recovery(good.with_columns(y=pl.when(pl.col("seed") != 1).then("y")), low, high, value="y")
    assert result["recovery"].to_list() == [None, None, None]
    assert result["gap"].is_null().to_list() == [False, True, True]


@every_form
def test_all_diverged_is_a_column_of_nulls(recovery: Recovery) -> None:
    nothing = pl.DataFrame({"experiment": ["sine"], "seed": [1], "y": [None]})
    assert added(recovery(nothing, nothing, nothing, value="y")) == [(1, None, None, None, None)]


@every_form
def test_a_seed_that_a_reference_lacks_is_named(recovery: Recovery) -> None:
    frame = rows({7: 1.0, 42: 1.0, 2024: 1.0})
    with pytest.raises(MissingSeeds) as raised:
        recovery(frame, frame, rows({42: 1.0}), value="y")
    assert str(raised.value) == (
        "ceiling: no row for experiment=sine seed=7; experiment=sine seed=2024; "
        "run those cells, or remove these rows from the comparison"
    )
    with pytest.raises(MissingSeeds, match=r"^floor: no row for experiment=sine seed=7; "):
        recovery(frame, rows({42: 1.0, 2024: 1.0}), frame, value="y")


def test_a_long_list_of_missing_seeds_is_cut() -> None:
    with pytest.raises(MissingSeeds, match=r"seed=4; and 2 more; run those cells"):
        drift_recovery(rows(dict.fromkeys(range(7), 1.0)), rows({}), rows({}), value="y")


@every_form
def test_a_reference_with_two_rows_for_a_seed_is_refused(recovery: Recovery) -> None:
    frame = rows({1: 1.0, 2: 1.0})
    twice = pl.concat([frame, rows({2: 3.0})])
    with pytest.raises(AmbiguousCells) as raised:
        recovery(frame, twice, frame, value="y")
    assert str(raised.value) == "floor: more than one row for experiment=sine seed=2"
    with pytest.raises(AmbiguousCells, match=r"^ceiling: more than one row for experiment=sine seed=2$"):
        recovery(frame, frame, twice, value="y")


GOOD = rows({1: 1.0})


@every_form
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (GOOD.drop("seed", "y"), "frame: no column seed, y; it has experiment"),
        (
            GOOD.with_columns(seed=pl.lit(None, pl.Int64)),
            "frame: 1 rows have no value in a key column (experiment, seed)",
        ),
        (GOOD.with_columns(y=pl.lit("1")), "frame: y must be a number, is String"),
        (rows({1: math.inf}), "frame: y is not finite (a diverged run has null): experiment=sine seed=1"),
        (rows({1: math.nan}), "frame: y is not finite (a diverged run has null): experiment=sine seed=1"),
        (
            GOOD.with_columns(gap=1.0, floor=2.0),
            "frame already has a column floor, gap; rename it, the recovery adds its own",
        ),
    ],
)
def test_refusals(recovery: Recovery, frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError) as raised:
        recovery(frame, GOOD, GOOD, value="y")
    assert str(raised.value) == message


@every_form
def test_matching_without_a_key_is_refused(recovery: Recovery) -> None:
    with pytest.raises(InputError, match=r"^on: at least one key column is needed"):
        recovery(GOOD, GOOD, GOOD, on=[], value="y")


def test_a_log_scale_needs_positive_numbers() -> None:
    with pytest.raises(InputError) as raised:
        log_gap_recovery(GOOD, rows({1: 0.0}), GOOD, value="y")
    assert str(raised.value) == "floor: y must be positive to be put on a log scale: experiment=sine seed=1"
