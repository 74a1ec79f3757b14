"""Frames with one row a row of a table, put beside one another; and Eq. 10 between rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from raysweep.analysis.statistics.recovery import log_gap_recovery
from raysweep.analysis.statistics.spread import spread

PAPER_SEEDS = (42, 123, 7, 2024, 31337)
_ON = ["experiment", "seed"]


def recovery(values: pl.DataFrame, floor: str, ceiling: str) -> pl.DataFrame:
    """Eq. 10 from one row to another, on the seeds that have both (a table says which have not).

    Args:
        values: `row`, `experiment`, `seed`, `value`.
        floor: the row of 0 %.
        ceiling: the row of 100 %.
    """
    low, high = (values.filter(pl.col("row") == key) for key in (floor, ceiling))
    rated = values
    for reference in (low, high):
        rated = rated.join(reference, on=_ON, how="semi", maintain_order="left")
    return log_gap_recovery(rated, low, high, on=_ON, value="value")


def rates(rated: pl.DataFrame, by_definition: Sequence[str | None], name: str) -> pl.DataFrame:
    """Recoveries summarised and by seed; floor and ceiling are 0 and 100 on every seed: no spread to speak of."""
    summary = prefixed(spread(rated, ["row"], "recovery"), f"{name}_").drop(f"{name}_cv_percent")
    defined = pl.col("row").is_in([key for key in by_definition if key is not None])
    summary = summary.with_columns(pl.when(~defined).then(f"{name}_sd").alias(f"{name}_sd"))
    return join(summary, at_seeds(rated, "recovery", f"{name}_seed_"))


def at_seeds(frame: pl.DataFrame, value: str, prefix: str) -> pl.DataFrame:
    """The value at each of the paper's seeds as a column of its own."""
    return frame.group_by("row", maintain_order=True).agg(
        pl.col(value).filter(pl.col("seed") == seed).first().cast(pl.Float64).alias(f"{prefix}{seed}")
        for seed in PAPER_SEEDS
    )


def prefixed(frame: pl.DataFrame, prefix: str, names: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Statistics renamed for a place beside others, `row` kept."""
    kept = {"row": "row", **(names or {})}
    return frame.rename({name: kept.get(name, prefix + name) for name in frame.columns})


def join(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """Columns of the same row added; null where it is not there."""
    return left.join(right, on="row", how="left", maintain_order="left")
