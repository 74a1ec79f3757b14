"""The paper's columns of a table: printed values, and statistics computed from the paper's values by seed.

Our copy of the paper lacks some means, sds, CVs and recoveries. Where the paper's values by seed are known, these
statistics are computed from them and marked as implied. The functions are those that compute our own statistics. A
printed value takes precedence. `tests/analysis/paper/test_paper_numbers.py` checks that the functions reproduce the
printed values.
"""

from __future__ import annotations

import polars as pl

from raysweep.analysis.paper.values import paper_values
from raysweep.analysis.statistics.recovery import row_recovery
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.statistics.summary import averages, mean_recoveries
from raysweep.analysis.tables.per_row import at_seeds, join, prefixed

MARKS = {"table": "", "text": "", "restored": "*", "implied": "†"}
"""Standing -> the mark after the number."""


def values(name: str | None) -> pl.DataFrame:
    """Read the paper's values of one table; without a name, none.

    The added column `mark` is the text after a value that tells how certain the value is.
    """
    frame = paper_values("table03").clear() if name is None else paper_values(name)
    return frame.with_columns(mark=pl.col("standing").replace_strict(MARKS, return_dtype=pl.String))


def summary(paper: pl.DataFrame, quantity: str, name: str, floor: str, ceiling: str | None) -> pl.DataFrame:
    """Summarize the paper's values: one row for each row of a panel for which the paper has a number.

    Args:
        paper: the rows of one panel, columns as `values` returns them.
        quantity: the metric's name in the column `quantity`.
        name: the metric's name in the result.
        floor: the row of 0 % recovery.
        ceiling: the row of 100 %; None: no recovery.

    Returns:
        Columns, where NAME is `name` or `recovery`:

        - `row`,
        - `NAME_mean`, `NAME_upper`, `NAME_sd`, `NAME_mark`, `NAME_standing`: the printed summary; without one, it is
          computed from the values by seed and marked as implied,
        - `NAME_average`, `NAME_low`, `NAME_high`: the average of the values by seed (geometric for `mse`, a ratio of
          means for `recovery`), with its interval; a printed recovery replaces the average and has no interval,
        - `n`, `recovery_n`: the number of values by seed,
        - `seed_...`, `recovery_seed_...`: the values by seed,
        - `{name}_cv_percent`, `cv_mark`: the coefficient of variation and its mark,
        - `recovery_printed_sd`: the sd of a printed recovery.
    """
    rows = paper.select("row").unique(maintain_order=True)
    by_seed = _by_seed(paper, quantity)
    rated = _rated(by_seed, _by_seed(paper, "recovery"), floor, ceiling)
    parts = [
        prefixed(_one(paper, quantity, by_seed, "value", ()), f"{name}_", {"n": "n"}),
        _coefficients(paper, by_seed, name),
        prefixed(averages(by_seed, geometric=quantity == "mse"), f"{name}_"),
        at_seeds(by_seed, "value", "seed_"),
        prefixed(_one(paper, "recovery", rated, "recovery", (floor, ceiling)), "recovery_"),
        prefixed(mean_recoveries(rated, (floor, ceiling)), "recovery_"),
        at_seeds(rated, "recovery", "recovery_seed_"),
    ]
    for part in parts:
        rows = join(rows, part)
    printed = pl.col("recovery_standing").is_not_null() & (pl.col("recovery_standing") != "implied")
    return rows.with_columns(
        recovery_average=pl.when(printed).then("recovery_mean").otherwise("recovery_average"),
        recovery_printed_sd=pl.when(printed).then("recovery_sd"),
        recovery_low=pl.when(~printed).then("recovery_low"),
        recovery_high=pl.when(~printed).then("recovery_high"),
    )


def _by_seed(paper: pl.DataFrame, quantity: str) -> pl.DataFrame:
    by_seed = paper.filter((pl.col("quantity") == quantity) & pl.col("seed").is_not_null())
    return by_seed.select("row", pl.lit("paper").alias("experiment"), "seed", "value")


def _rated(values: pl.DataFrame, printed: pl.DataFrame, floor: str, ceiling: str | None) -> pl.DataFrame:
    """Return the recoveries by seed: the printed ones or, for rows without them, Eq. 10 of the printed values."""
    printed = printed.rename({"value": "recovery"})
    if ceiling is None:
        return printed.with_columns(gain=pl.lit(None, dtype=pl.Float64), gap=pl.lit(None, dtype=pl.Float64))
    computed = row_recovery(values, floor, ceiling).select(*printed.columns, "gain", "gap")
    return pl.concat(
        [printed, computed.join(printed, on="row", how="anti", maintain_order="left")], how="diagonal_relaxed"
    )


def _one(
    paper: pl.DataFrame, quantity: str, by_seed: pl.DataFrame, value: str, by_definition: tuple[str | None, ...]
) -> pl.DataFrame:
    """Summarize one quantity: as printed or, for rows without a printed summary, computed from the values by seed."""
    printed = paper.filter((pl.col("quantity") == quantity) & pl.col("seed").is_null()).select(
        "row", pl.col("value").alias("mean"), "upper", "sd", "mark", "standing"
    )
    defined = pl.col("row").is_in([key for key in by_definition if key is not None])
    computed = spread(by_seed, ["row"], value).select(
        "row",
        "mean",
        pl.lit(None, dtype=pl.Float64).alias("upper"),
        pl.when(~defined).then("sd").alias("sd"),
        pl.when(~defined & pl.col("mean").is_not_null()).then(pl.lit(MARKS["implied"])).alias("mark"),
        pl.when(pl.col("mean").is_not_null()).then(pl.lit("implied")).alias("standing"),
        "n",
    )
    implied = computed.drop("n").join(printed, on="row", how="anti", maintain_order="left")
    return pl.concat([printed, implied]).join(computed.select("row", "n"), on="row", how="left", maintain_order="left")


def _coefficients(paper: pl.DataFrame, by_seed: pl.DataFrame, name: str) -> pl.DataFrame:
    printed = paper.filter(pl.col("quantity") == "cv_percent").select(
        "row", pl.col("value").alias(f"{name}_cv_percent"), pl.col("mark").alias("cv_mark")
    )
    computed = spread(by_seed, ["row"], "value").select(
        "row",
        pl.col("cv_percent").alias(f"{name}_cv_percent"),
        pl.when(pl.col("cv_percent").is_not_null()).then(pl.lit(MARKS["implied"])).alias("cv_mark"),
    )
    return pl.concat([printed, computed.join(printed, on="row", how="anti", maintain_order="left")])
