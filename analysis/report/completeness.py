"""Counts of requested and done cells by experiment, and of missing cells by variant."""

from __future__ import annotations

import polars as pl

from raysweep.orchestrator.text import join_first

PENDING = "pending"
MAX_SEEDS = 8
"""Maximum number of seeds that are listed."""


def by_experiment(cells: pl.DataFrame) -> pl.DataFrame:
    """Count the cells of each experiment, in order of appearance.

    Columns: experiment, requested, done, failed (the last attempt was unsuccessful), pending (no attempt), sweeps.

    Args:
        cells: one row per known cell, with experiment, sweep and status.
    """
    done, pending = pl.col("status") == "done", pl.col("status") == PENDING
    return cells.group_by("experiment", maintain_order=True).agg(
        requested=pl.len().cast(pl.Int64),
        done=done.sum().cast(pl.Int64),
        failed=(~done & ~pending).sum().cast(pl.Int64),
        pending=pending.sum().cast(pl.Int64),
        sweeps=pl.col("sweep").drop_nulls().unique(maintain_order=True),
    )


def missing(cells: pl.DataFrame, most: int) -> tuple[pl.DataFrame, int]:
    """Count the missing cells by variant and status. The rows with the most cells come first.

    Columns: experiment, label, status, cells, seeds (as text).

    Args:
        cells: columns experiment, label, status and seed.
        most: maximum number of rows.

    Returns:
        The first rows, and the number of rows that are left out.
    """
    missing_cells = (
        cells.filter(pl.col("status") != "done")
        .group_by("experiment", "label", "status", maintain_order=True)
        .agg(cells=pl.len().cast(pl.Int64), seeds=pl.col("seed").sort())
        .sort("cells", "label", "status", descending=[True, False, False], maintain_order=True)
    )
    first = missing_cells.head(most)
    seeds = pl.Series("seeds", [join_first(s, MAX_SEEDS) for s in first["seeds"]], pl.String)
    return first.with_columns(seeds), max(0, missing_cells.height - most)
