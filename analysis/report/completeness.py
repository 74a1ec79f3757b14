"""What was asked for against what is done: counts by experiment, and what is missing by setting."""

from __future__ import annotations

import polars as pl

from raysweep.orchestrator.text import join_first

PENDING = "pending"
MAX_SEEDS = 8
"""That are named."""


def by_experiment(cells: pl.DataFrame) -> pl.DataFrame:
    """One row an experiment, in order of appearance: experiment, asked, done, failed, pending, sweeps.

    `failed` counts every cell whose last attempt ended badly; `pending` those without any.

    Args:
        cells: one row a known cell, with experiment, sweep and status.
    """
    done, pending = pl.col("status") == "done", pl.col("status") == PENDING
    return cells.group_by("experiment", maintain_order=True).agg(
        asked=pl.len().cast(pl.Int64),
        done=done.sum().cast(pl.Int64),
        failed=(~done & ~pending).sum().cast(pl.Int64),
        pending=pending.sum().cast(pl.Int64),
        sweeps=pl.col("sweep").drop_nulls().unique(maintain_order=True),
    )


def missing(cells: pl.DataFrame, most: int) -> tuple[pl.DataFrame, int]:
    """Settings of which cells lack, the emptiest first: experiment, label, status, cells, seeds (as text).

    Args:
        cells: with experiment, label, status and seed.
        most: rows to give.

    Returns:
        The rows, and how many more there are.
    """
    lacking = (
        cells.filter(pl.col("status") != "done")
        .group_by("experiment", "label", "status", maintain_order=True)
        .agg(cells=pl.len().cast(pl.Int64), seeds=pl.col("seed").sort())
        .sort("cells", "label", "status", descending=[True, False, False], maintain_order=True)
    )
    shown = lacking.head(most)
    seeds = pl.Series("seeds", [join_first(s, MAX_SEEDS) for s in shown["seeds"]], pl.String)
    return shown.with_columns(seeds), max(0, lacking.height - most)
