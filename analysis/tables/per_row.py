"""Statistics as frames with one row per row of a table, and functions that join these frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from raysweep.analysis.paper.values import PAPER_SEEDS
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.statistics.summary import mean_recoveries


def rates(rated: pl.DataFrame, by_definition: Sequence[str | None], name: str) -> pl.DataFrame:
    """Summarize recoveries: as a ratio of means with its interval, and seed by seed.

    The rows in `by_definition` (floor and ceiling) get neither an interval nor a spread.

    Returns:
        The column `row`, and these columns, whose names begin with `name`:

        - `_average`, `_low`, `_high`: the ratio of means and the ends of its interval,
        - `_mean`, `_sd`: mean and sample standard deviation of the recoveries of the seeds,
        - `_n`, `_absent`: the numbers of seeds with and without a recovery,
        - `_seed_...`: the recovery of each seed.
    """
    ratios = prefixed(mean_recoveries(rated, by_definition), f"{name}_")
    seeds = prefixed(spread(rated, ["row"], "recovery"), f"{name}_").drop(f"{name}_cv_percent")
    defined = pl.col("row").is_in([key for key in by_definition if key is not None])
    summary = join(seeds, ratios).with_columns(pl.when(~defined).then(f"{name}_sd").alias(f"{name}_sd"))
    return join(summary, at_seeds(rated, "recovery", f"{name}_seed_"))


def at_seeds(frame: pl.DataFrame, value: str, prefix: str, seeds: Sequence[int] = PAPER_SEEDS) -> pl.DataFrame:
    """Return one column per seed with the value at that seed, named `{prefix}{seed}`."""
    return frame.group_by("row", maintain_order=True).agg(
        pl.col(value).filter(pl.col("seed") == seed).first().cast(pl.Float64).alias(f"{prefix}{seed}") for seed in seeds
    )


def baseline(done: pl.DataFrame, row: str, metric: str) -> pl.DataFrame:
    """Return a baseline's values by seed, from a metric that all methods share.

    Columns: row, experiment, seed, value.
    """
    value = pl.col(metric).cast(pl.Float64).drop_nulls().first().alias("value")
    by_seed = done.group_by("experiment", "seed", maintain_order=True).agg(value)
    return by_seed.select(pl.lit(row).alias("row"), "experiment", "seed", "value")


def stacked(ours: pl.DataFrame, papers: pl.DataFrame) -> pl.DataFrame:
    """Insert the paper's row after each of our rows. The column `whose` distinguishes them."""
    order = ours.select("row", _order=pl.int_range(pl.len()))
    both = pl.concat([ours, papers], how="diagonal_relaxed").join(order, on="row", how="inner", maintain_order="left")
    return both.sort("_order", "whose", maintain_order=True).drop("_order")


def prefixed(frame: pl.DataFrame, prefix: str, names: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Rename columns by `names`, and prefix the others. The column `row` keeps its name."""
    new_names = {"row": "row", **(names or {})}
    return frame.rename({name: new_names.get(name, prefix + name) for name in frame.columns})


def join(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """Join two frames by the column `row`, keeping all rows of the left one."""
    return left.join(right, on="row", how="left", maintain_order="left")
