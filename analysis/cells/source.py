"""Input of the analysis: the cells of a store as one wide frame, and recorded arrays, which are read when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from raysweep.analysis.cells.launch_options import with_options
from raysweep.orchestrator.errors import InputError

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store

ARRAYS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "cell_id": pl.String,
    "name": pl.String,
    "step": pl.Int64,
    "stride": pl.Int64,
    "values": pl.List(pl.Float64),
}


MACHINE = (
    *("host", "node_id", "pid", "source_path", "git_dirty", "peak_rss_mib", "packages", "epoch"),
    *("started_at", "finished_at", "seconds", "cpu_seconds", "seconds_per_step", "error_type", "error_message"),
)
"""Columns about the machine, the launch and the duration of a cell, not its result."""


class Source(NamedTuple):
    """Cells, and a function that reads their arrays. Tests build a source without a store."""

    cells: pl.DataFrame
    """One row per cell. Columns: metrics, config keys, `config` as JSON text, `status`; also
    `launch_options.LAUNCHED_WITH` if the cells are from a store."""
    arrays: Callable[[Sequence[str]], pl.DataFrame]
    """Function that returns the done cells' arrays with the given names. Columns: `ARRAYS_SCHEMA`; entry i of `values`
    belongs to step `step + i * stride`."""
    at: str = ""
    """The command-line option for the store, such as ` --store runs`; empty for the default store or several stores."""


def from_store(store: Store, keep: pl.Series | None = None, at: str = "") -> Source:
    """Read the cells of a store. Arrays are read later, when they are needed.

    Args:
        store: the store.
        keep: ids of the cells to include; None: all.
        at: the `--store` option for commands in messages.
    """
    from raysweep.orchestrator.query.sql import cells_frame  # loads DuckDB

    cells = with_options(cells_frame(store), store.sweeps())
    if keep is not None:
        cells = cells.filter(pl.col("cell_id").is_in(keep.implode()))
    done = cells.filter(pl.col("status") == "done").select("cell_id", "attempt")

    def arrays(names: Sequence[str]) -> pl.DataFrame:
        return read_arrays(store, done.join(pl.DataFrame({"name": names}, {"name": pl.String}), how="cross"))

    return Source(cells, arrays, at)


def read_arrays(store: Store, wanted: pl.DataFrame) -> pl.DataFrame:
    """Read recorded arrays. Columns: `ARRAYS_SCHEMA`.

    Args:
        store: the store.
        wanted: cell_id, attempt and name of each array.
    """
    columns = [pl.col(name).cast(pl.Int64) for name in ("step", "stride")]
    values = pl.coalesce(pl.col("values_f64"), pl.col("values").cast(pl.List(pl.Float64)))
    return store.collect(
        lambda: store.arrays.filter(among(wanted))
        .join(wanted.lazy(), on=["cell_id", "attempt", "name"], how="semi")
        .select("cell_id", "name", *columns, values.alias("values"))
        .unique(["cell_id", "name", "step"], keep="first", maintain_order=True)
    )  # fmt: skip


def among(wanted: pl.DataFrame) -> pl.Expr:
    """Build a predicate on name and cell_id, by which a scan can skip files that have none of the wanted arrays.

    It tests the two columns separately, so it may match rows that are not wanted.
    """
    return pl.col("name").is_in(wanted["name"].unique().implode()) & pl.col("cell_id").is_in(
        wanted["cell_id"].unique().implode()
    )


def entries(arrays: pl.DataFrame) -> pl.DataFrame:
    """Convert arrays to one row per entry. Columns: cell_id, name, step, value."""
    return (
        arrays.with_columns(at=pl.int_ranges(pl.col("values").list.len()))
        .explode("at", "values")
        .filter(pl.col("at").is_not_null())  # an empty array explodes to one null
        .select("cell_id", "name", step=pl.col("step") + pl.col("at") * pl.col("stride"), value="values")
    )


def joined(sources: Sequence[Source]) -> Source:
    """Join several stores, such as those of machines without shared storage, into one source.

    If several stores have a cell, it is taken from the first store in which it is done. If it is done in none, it
    is taken from the first store that has it.

    Raises:
        InputError: a config key or metric named `n` has the column `n` in one store, but `config_n` or `metric_n` in
            another. (A column has such a prefix if the store has another column `n`.)
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
    ids = [cells.filter(pl.col("_store") == i)["cell_id"].implode() for i in range(len(sources))]

    def arrays(names: Sequence[str]) -> pl.DataFrame:
        return pl.concat(
            source.arrays(names).filter(pl.col("cell_id").is_in(own)) for source, own in zip(sources, ids, strict=True)
        )

    return Source(cells.drop("_store"), arrays)
