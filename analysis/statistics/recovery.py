"""Recovery: the share of the gap between a floor and a ceiling that a method closes, seed by seed, in percent.

With a score s (higher is better), every form is

    R = 100 (s - s_floor) / (s_ceiling - s_floor)                                            (*)

and the forms differ only in s:

| function | s | floor | ceiling | source |
|---|---|---|---|---|
| `log_gap_recovery` | -log MSE | traces (k = 0) | full RTRL | Eq. 10 |
| `drift_recovery` | -MSE | frozen decoder, late session B | frozen decoder, end of session A | Eq. 12 |
| `accuracy_recovery` | accuracy | one head (trace-like) | all heads (dense) | Sec. 4.7 |

The equations are those of arXiv 2603.15195. Like the paper, these functions compute one value per seed. The paper
averages these values. Our tables and claims divide the mean gain by the mean gap instead
(`analysis.statistics.summary`). Floor and ceiling are the caller's choice. Frames are matched by key columns, never
by position.

The paper leaves some cases open. (*) is meaningless if the ceiling is no better than the floor, as a method worse
than both would get over 100 %. The recovery is then null, and the column `gap` is not positive. It is also null if a
value is null (a diverged run has no MSE). A seed that is missing in floor or ceiling is an error, as dropping it
would change the set of seeds over which the methods are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from raysweep.analysis.errors import AmbiguousCells, MissingSeeds
from raysweep.orchestrator.errors import InputError

KEYS = ("experiment", "seed")
"""The default key columns. If a frame has several networks or tasks, the caller adds columns that identify these."""

_MAX_KEYS = 5
_ADDED = ("floor", "ceiling", "gain", "gap", "recovery")


def log_gap_recovery(
    frame: pl.DataFrame,
    floor: pl.DataFrame,
    ceiling: pl.DataFrame,
    *,
    on: Sequence[str] = KEYS,
    value: str = "mse_post_last_500",
) -> pl.DataFrame:
    """Compute the gap recovery on a log scale, Eq. 10: `100 (ln floor - ln mse) / (ln floor - ln ceiling)`.

    50 % is the geometric mean of floor and ceiling; above 100 % the method beats the ceiling.

    Args:
        frame: the rows to rate; may have several rows per key (for example one per method or k).
        floor: one row per key, 0 % by definition (in the paper: traces, k = 0).
        ceiling: one row per key, 100 % by definition (in the paper: full RTRL).
        on: key columns, present in all three frames.
        value: the MSE's column; positive, or null.

    Returns:
        `frame`, rows in the same order, with added columns `floor` and `ceiling` (MSE), `gain` (ln floor - ln mse),
            `gap` (ln floor - ln ceiling) and `recovery` (percent; null if a value is null or the gap is not positive).

    Raises:
        MissingSeeds: a key of `frame` is absent from `floor` or `ceiling`.
        AmbiguousCells: a key occurs twice in `floor` or `ceiling`.
    """
    for name, part in (("frame", frame), ("floor", floor), ("ceiling", ceiling)):
        _check(name, part, on, value)
        bad = part.filter(pl.col(value) <= 0)
        if bad.height:
            raise InputError(f"{name}: {value} must be positive to be put on a log scale: {_list(bad, on)}")
    return _recovery(frame, floor, ceiling, on, value, lambda mse: -mse.log())


def drift_recovery(
    frame: pl.DataFrame, frozen: pl.DataFrame, target: pl.DataFrame, *, on: Sequence[str] = KEYS, value: str = "mse"
) -> pl.DataFrame:
    """Compute the share of a drift's damage that is undone, Eq. 12 (BCI): `100 (frozen - mse) / (frozen - target)`.

    This recovery is linear in the MSE, so it is not comparable with Eq. 10. Arguments are as for `log_gap_recovery`.
    `frame` has the MSE of the adapting decoders and `frozen` that of the frozen decoders, both late in session B.
    `target` has the MSE at the end of session A.
    """
    return _recovery(frame, frozen, target, on, value, lambda mse: -mse)


def accuracy_recovery(
    frame: pl.DataFrame,
    floor: pl.DataFrame,
    ceiling: pl.DataFrame,
    *,
    on: Sequence[str] = KEYS,
    value: str = "accuracy",
) -> pl.DataFrame:
    """Compute the recovery of accuracy, Sec. 4.7 (ViT): `100 (acc - floor) / (ceiling - floor)`.

    Arguments are as for `log_gap_recovery`. The floor is the trace-like network (gradient through one head), the
    ceiling the dense reference. The paper, too, excludes seeds whose gap is not positive.
    """
    return _recovery(frame, floor, ceiling, on, value, lambda accuracy: accuracy)


def row_recovery(
    values: pl.DataFrame,
    floor: str,
    ceiling: str,
    by: Callable[..., pl.DataFrame] = log_gap_recovery,
    *,
    with_value: bool = False,
) -> pl.DataFrame:
    """Compute the recovery of every row of a table, with two of its rows as floor and ceiling.

    Seeds without floor or ceiling are left out.

    Args:
        values: frame with the columns `row`, `KEYS` and `value`.
        floor: the row of 0 %.
        ceiling: the row of 100 %.
        by: one of the recovery functions above.
        with_value: whether seeds with a null floor or ceiling are left out too; otherwise their recovery is null.
    """
    usable = pl.col("value").is_not_null() | pl.lit(not with_value)
    low, high = (values.filter((pl.col("row") == key) & usable) for key in (floor, ceiling))
    rated = values
    for reference in (low, high):
        rated = rated.join(reference, on=list(KEYS), how="semi", maintain_order="left")
    return by(rated, low, high, value="value")


def _recovery(
    frame: pl.DataFrame,
    floor: pl.DataFrame,
    ceiling: pl.DataFrame,
    on: Sequence[str],
    value: str,
    score: Callable[[pl.Expr], pl.Expr],
) -> pl.DataFrame:
    clashing = [name for name in _ADDED if name in frame.columns]
    if clashing:
        raise InputError(f"frame already has a column {', '.join(clashing)}; rename it, the recovery adds its own")
    _check("frame", frame, on, value)
    joined = frame
    for name, reference in {"floor": floor, "ceiling": ceiling}.items():
        joined = joined.join(
            _reference(name, reference, frame, on, value), on=list(on), how="left", maintain_order="left"
        )
    low, high, own = (score(pl.col(name).cast(pl.Float64)) for name in ("floor", "ceiling", value))
    return joined.with_columns(gain=own - low, gap=high - low).with_columns(
        recovery=pl.when(pl.col("gap") > 0).then(100 * (own - low) / pl.col("gap"))
    )


def _reference(name: str, reference: pl.DataFrame, frame: pl.DataFrame, on: Sequence[str], value: str) -> pl.DataFrame:
    """Return the keys and values of a reference, after a check that it has exactly one row for every key of `frame`."""
    _check(name, reference, on, value)
    repeated = reference.filter(reference.select(pl.struct(on).is_duplicated()).to_series())
    if repeated.height:
        raise AmbiguousCells(f"{name}: more than one row for {_list(repeated, on)}")
    absent = frame.join(reference, on=list(on), how="anti", maintain_order="left")
    if absent.height:
        raise MissingSeeds(
            f"{name}: no row for {_list(absent, on)}; run those cells, or remove these rows from the comparison"
        )
    return reference.select(*on, pl.col(value).alias(name))


def _check(name: str, frame: pl.DataFrame, on: Sequence[str], value: str) -> None:
    if not on:
        raise InputError("on: at least one key column is needed; rows are never matched by position")
    absent = [column for column in (*on, value) if column not in frame.columns]
    if absent:
        raise InputError(f"{name}: no column {', '.join(absent)}; it has {', '.join(frame.columns)}")
    unkeyed = frame.filter(pl.any_horizontal(pl.col(*on).is_null()))
    if unkeyed.height:
        raise InputError(f"{name}: {unkeyed.height} rows have no value in a key column ({', '.join(on)})")
    if not frame.schema[value].is_numeric() and frame.schema[value] != pl.Null:
        raise InputError(f"{name}: {value} must be a number, is {frame.schema[value]}")
    infinite = frame.filter(~pl.col(value).cast(pl.Float64).is_finite())
    if infinite.height:
        raise InputError(f"{name}: {value} is not finite (a diverged run has null): {_list(infinite, on)}")


def _list(frame: pl.DataFrame, on: Sequence[str]) -> str:
    """List the distinct keys of the rows, for messages: `experiment=sine seed=7; ...`."""
    keys = frame.select(*on).unique(maintain_order=True).to_dicts()
    first = "; ".join(" ".join(f"{key}={entry}" for key, entry in row.items()) for row in keys[:_MAX_KEYS])
    return first + (f"; and {len(keys) - _MAX_KEYS} more" if len(keys) > _MAX_KEYS else "")
