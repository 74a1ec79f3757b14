"""Requested cells against done ones by experiment, and missing cells by variant."""

from __future__ import annotations

import polars as pl

from raysweep.orchestrator.text import listed

PENDING = "pending"
MAX_SEEDS = 8
"""Seeds that are named."""


def by_experiment(cells: pl.DataFrame) -> pl.DataFrame:
    """One row an experiment, in order of appearance: experiment, requested, done, failed, pending, sweeps.

    `failed` counts every cell whose last attempt ended badly; `pending` those without any.

    Args:
        cells: one row a known cell, with experiment, sweep and status.
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
    """Variants with missing cells, those with most first: experiment, label, status, cells, seeds (as text).

    Args:
        cells: with experiment, label, status and seed.
        most: rows of the result.

    Returns:
        The rows, and how many more there are.
    """
    missing_cells = (
        cells.filter(pl.col("status") != "done")
        .group_by("experiment", "label", "status", maintain_order=True)
        .agg(cells=pl.len().cast(pl.Int64), seeds=pl.col("seed").sort())
        .sort("cells", "label", "status", descending=[True, False, False], maintain_order=True)
    )
    first = missing_cells.head(most)
    seeds = pl.Series("seeds", [listed(s, MAX_SEEDS) for s in first["seeds"]], pl.String)
    return first.with_columns(seeds), max(0, missing_cells.height - most)
