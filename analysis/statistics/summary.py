"""Averages over seeds with 95 % intervals, per row of a table. The intervals are those of the claims' verdicts.

Errors are averaged by the geometric mean, because with some rules a few seeds with large errors make up most of an
arithmetic mean. A recovery is a ratio of means, because the recovery of a single seed has no meaning if that seed has
nothing to recover. Rules and reasons: `docs/verdicts.md`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from raysweep.analysis.statistics.inference import Array, Columns, Statistic

_ROUNDING = 1e-12
"""Relative size of a standard error that is rounding only: all seeds have the same value."""
_NUMBERS = ("average", "low", "high")


def geometric_mean(name: str) -> pl.Expr:
    """Build the geometric mean of a column, which keeps its name."""
    return pl.col(name).cast(pl.Float64).log().mean().exp()


def averages(values: pl.DataFrame, *, geometric: bool) -> pl.DataFrame:
    """Average the values of each row over seeds. Seeds without a value, such as diverged runs, are left out.

    Args:
        values: columns `row`, `seed` and `value`, one row per seed.
        geometric: whether to take the geometric mean; then all values must be positive.

    Returns:
        Columns `row`, `average`, and `low` and `high`, the ends of the 95 % interval. The ends are null if there are
            fewer than two seeds, or if all values are equal.
    """
    scaled = values.drop_nulls("value").with_columns(pl.col("value").cast(pl.Float64))
    if geometric:
        scaled = scaled.with_columns(pl.col("value").log())
    summary = _estimated(scaled, ("value",), _mean)
    return summary.with_columns(pl.col(*_NUMBERS).exp()) if geometric else summary


def _mean(columns: Columns) -> Array:
    result: Array = columns["value"].mean(-1)
    return result


def mean_recoveries(rated: pl.DataFrame, by_definition: Collection[str | None] = ()) -> pl.DataFrame:
    """Compute the recovery of each row as a ratio of means, 100 x mean gain / mean gap, in percent.

    Args:
        rated: a frame that a function of `analysis.statistics.recovery` returns. It needs the columns `row`, `seed`,
            `gain` and `gap`, with one row per seed.
        by_definition: the rows of 0 % and 100 %, which get no interval.

    Returns:
        Columns `row`, `average`, and `low` and `high`, the ends of the 95 % interval. All are null if the mean gap is
            not positive, because there is nothing to recover then. The ends are also null with fewer than two seeds,
            without any variation over seeds, or if the mean gap is not positive in more than 5 % of the bootstrap
            resamples.
    """
    summary = _estimated(rated.drop_nulls(["gain", "gap"]), ("gain", "gap"), _recovery)
    estimated = ~pl.col("row").is_in([key for key in by_definition if key is not None])
    return summary.with_columns(pl.when(estimated).then(end).alias(end) for end in ("low", "high"))


def _recovery(columns: Columns) -> Array:
    import numpy as np

    gap = columns["gap"].mean(-1)
    result: Array = 100 * columns["gain"].mean(-1) / np.where(gap > 0, gap, np.nan)
    return result


def _estimated(frame: pl.DataFrame, names: tuple[str, ...], statistic: Statistic) -> pl.DataFrame:
    from raysweep.analysis.statistics.inference import estimate  # loads NumPy

    rows = []
    # Resampled intervals depend on the order of seeds: it must not be the order in which a store lists its cells.
    for (row,), part in frame.sort("seed", maintain_order=True).group_by("row", maintain_order=True):
        columns = {name: part[name].cast(pl.Float64).to_numpy() for name in names}
        estimated = estimate(statistic, columns)
        varies = estimated.error > _ROUNDING * max(1.0, abs(estimated.value))
        low, high = estimated.interval() if estimated.has_interval and varies else (None, None)
        rows.append((row, estimated.value if math.isfinite(estimated.value) else None, low, high))
    schema = {"row": pl.String, **dict.fromkeys(_NUMBERS, pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row")
