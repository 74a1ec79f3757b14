"""What the analysis reads: the store's cells as one wide frame, and recorded arrays by name when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from raysweep.analysis.cells.launch_options import with_options
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.sql import cells_frame
from raysweep.orchestrator.store.reader import Store

ARRAYS_SCHEMA = {
    "cell_id": pl.String,
    "name": pl.String,
    "step": pl.Int64,
    "stride": pl.Int64,
    "values": pl.List(pl.Float64),
}


class Source(NamedTuple):
    """Cells and arrays, from a store or made by hand for a test."""

    cells: pl.DataFrame
    """One row a known cell, metrics and config keys as columns, `config` as JSON text, `status`; of a store with
    `launching.LAUNCHED_WITH`."""
    arrays: Callable[[Sequence[str]], pl.DataFrame]
    """Names -> the done cells' arrays of those names, columns as `ARRAYS_SCHEMA`; entry i of `values` belongs to
    step `step + i * stride`."""
    at: str = ""
    """What commands need to find the store, as ` --store runs`; empty for the default one, and for several."""


def from_store(store: Store, keep: pl.Series | None = None, at: str = "") -> Source:
    """A store's cells.

    Args:
        store: where from.
        keep: ids of the cells to see; None: all.
        at: see `Source`.
    """
    cells = with_options(cells_frame(store), store.sweeps())
    if keep is not None:
        cells = cells.filter(pl.col("cell_id").is_in(keep.implode()))

    def arrays(names: Sequence[str]) -> pl.DataFrame:
        found = store.collect(
            lambda: (
                store.arrays.filter(pl.col("name").is_in(list(names)))
                .join(store.cells.select("cell_id", kept="attempt"), on="cell_id")
                .filter(pl.col("kept") == pl.col("attempt"))
                .select(
                    "cell_id",
                    "name",
                    pl.col("step", "stride").cast(pl.Int64),
                    pl.coalesce(pl.col("values_f64"), pl.col("values").cast(pl.List(pl.Float64))).alias("values"),
                )
                .unique(["cell_id", "name", "step"], keep="first", maintain_order=True)
            )
        )
        return found.filter(pl.col("cell_id").is_in(cells["cell_id"].implode()))

    return Source(cells, arrays, at)


def joined(sources: Sequence[Source]) -> Source:
    """Several stores, such as those of machines that share no disk, as one.

    A cell that several know is that of the first in which it is done.

    Raises:
        InputError: a setting is another column in one store than in another, as a metric there has its name.
    """
    columns = set().union(*(source.cells.columns for source in sources))
    for source in sources:
        for prefix in ("config_", "metric_"):
            twice = sorted(
                n for n in columns if f"{prefix}{n}" in columns and f"{prefix}{n}" not in source.cells.columns
            )
            if set(twice) & set(source.cells.columns):
                raise InputError(
                    f"these stores can't be joined: {twice[0]!r} in one is {prefix + twice[0]!r} in another"
                )
    cells = (
        pl.concat((s.cells.with_columns(_store=pl.lit(i)) for i, s in enumerate(sources)), how="diagonal_relaxed")
        .sort(pl.col("status") != "done", maintain_order=True)
        .unique("cell_id", keep="first", maintain_order=True)
    )
    whose = [cells.filter(pl.col("_store") == i)["cell_id"].implode() for i in range(len(sources))]

    def arrays(names: Sequence[str]) -> pl.DataFrame:
        found = zip(sources, whose, strict=True)
        return pl.concat([source.arrays(names).filter(pl.col("cell_id").is_in(ids)) for source, ids in found])

    return Source(cells.drop("_store"), arrays)
