"""Mean and spread over seeds, per group; and when a spectrum has collapsed.

Two conventions meet in the paper (arXiv 2603.15195), both settled by its own per-seed tables: a "+-" is
the *sample* standard deviation (ddof 1), a coefficient of variation divides the *population* standard
deviation (ddof 0) by the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from raysweep.orchestrator.errors import InputError

COLLAPSED = 100.0
"""Condition number of the influence J (largest over smallest singular value) above which its spectrum has collapsed; on
a seed this holds once any recorded step is above it, or the run diverged. The paper's own bound is lost. Ten times the
10 from which, by its Sec. 5.1, random paths no longer do."""

_STATISTICS = ("mean", "sd", "cv_percent", "n", "absent")


def spread(frame: pl.DataFrame, by: Sequence[str], value: str) -> pl.DataFrame:
    """Mean, sample sd, coefficient of variation and n of `value` for each group.

    Args:
        frame: one row a seed.
        by: columns that name a group; empty for one group of all rows. Null is a group like any other.
        value: a numeric column; null where a seed has no value (it diverged, say).

    Returns:
        One row a group, in order of appearance: `by`, then

        - `mean` (null where no seed has a value),
        - `sd`, ddof 1, and `cv_percent`, 100 * sd with ddof 0 / mean: both null for n < 2, as one seed
          has no spread; the latter also where the mean is not positive,
        - `n`, seeds with a value, and `absent`, seeds without.
    """
    absent = [column for column in (*by, value) if column not in frame.columns]
    if absent:
        raise InputError(f"frame: no column {', '.join(absent)}; it has {', '.join(frame.columns)}")
    clash = [name for name in by if name in _STATISTICS]
    if clash:
        raise InputError(f"by: {', '.join(clash)} is the name of a statistic; rename the column")
    number = pl.col(value).cast(pl.Float64)
    if frame.filter(~number.is_finite()).height:
        raise InputError(f"frame: {value} is not finite in some rows (a diverged run has null)")
    statistics = [
        number.mean().alias("mean"),
        number.std(ddof=1).alias("sd"),
        number.std(ddof=0).alias("_population_sd"),
        number.count().cast(pl.Int64).alias("n"),
        number.null_count().cast(pl.Int64).alias("absent"),
    ]
    grouped = frame.group_by(list(by), maintain_order=True).agg(statistics) if by else frame.select(statistics)
    has_spread = (pl.col("n") >= 2) & (pl.col("mean") > 0)
    return grouped.select(
        *by,
        "mean",
        pl.when(pl.col("n") >= 2).then("sd").alias("sd"),
        pl.when(has_spread).then(100 * pl.col("_population_sd") / pl.col("mean")).alias("cv_percent"),
        "n",
        "absent",
    )
