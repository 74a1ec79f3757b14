"""Mean and spread over seeds, per group, and the bound for a collapsed spectrum.

The paper (arXiv 2603.15195) uses two conventions, as its per-seed tables show: a "+-" is the *sample* standard
deviation (ddof 1); a coefficient of variation is the *population* standard deviation (ddof 0) over the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from raysweep.orchestrator.errors import InputError

COLLAPSED = 100.0
"""Bound on the condition number of the influence J, above which its spectrum counts as collapsed.

The condition number is the largest over the smallest singular value. A run has collapsed if this number is above
the bound at any recorded step, or if the run diverged. Our copy of the paper has lost the paper's bound. Our bound
is 10 x 10: by Sec. 5.1, random paths no longer suffice above a condition number of 10.
"""

_STATISTICS = ("mean", "sd", "cv_percent", "n", "absent")


def spread(frame: pl.DataFrame, by: Sequence[str], value: str) -> pl.DataFrame:
    """Compute mean, sample sd, coefficient of variation and n of `value` for each group.

    Args:
        frame: one row per seed of each group.
        by: the columns that define a group; empty: all rows are one group. Null is a group like any other.
        value: a numeric column; null if a seed has no value (for example because it diverged).

    Returns:
        One row per group, in order of appearance. Columns: `by`, then

        - `mean`: null if no seed has a value,
        - `sd`: ddof 1; null if n < 2,
        - `cv_percent`: 100 * sd with ddof 0 / mean; null if n < 2 or the mean is not positive,
        - `n`, the number of seeds with a value, and `absent`, the number of seeds without.
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
