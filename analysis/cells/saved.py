"""Saved cells: a file of done cells, and beside it a file of those recorded arrays that the analysis reads.

Large arrays, such as loss curves of many seeds, are left out, so that both files can be kept with the results.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from raysweep.analysis.cells.source import ARRAYS_SCHEMA, MACHINE, Source
from raysweep.orchestrator.errors import InputError

ARRAYS_FILE = "arrays.parquet"
"""Name of the file of arrays; it lies in the folder of the file of cells."""
MOST_VALUES = 1_000_000
"""Largest number of values in the file of arrays, about 4 MB if they were recorded in float32."""


def to_file(source: Source, path: Path, reads: Iterable[tuple[str, str]] = (), most: int = MOST_VALUES) -> list[str]:
    """Write the done cells, without what names a machine, and `ARRAYS_FILE` beside them.

    The same cells give the same bytes. Values are those recorded: a float32 becomes the float64 of the same value.

    Args:
        source: the cells.
        path: the file of cells.
        reads: pairs of an experiment and the name of an array that is wanted of its cells.
        most: the largest number of values in the file of arrays. The arrays of an experiment are written together or
            not at all, those with the fewest values first.

    Returns:
        One line for each experiment whose arrays were left out, with their names and number of values.

    Raises:
        InputError: the path is that of the file of arrays.
    """
    if path.name == ARRAYS_FILE:
        raise InputError(f"{path}: this name is that of the arrays beside saved cells; choose another for the cells")
    done = source.cells.filter(pl.col("status") == "done")
    arrays, left_out = _smallest(_wanted(source, done, reads), most)
    kept = done.drop(MACHINE, "metrics", strict=False)
    empty = [name for name in kept.columns if kept[name].null_count() == kept.height]
    partial = path.with_name(f"{path.name}.partial")
    kept.drop(empty).sort("cell_id").write_parquet(partial, compression="zstd", compression_level=15)
    os.replace(partial, path)  # at once, since the source may read the file that it replaces
    partial = path.with_name(f"{ARRAYS_FILE}.partial")
    pq.write_table(
        arrays.to_arrow(),
        partial,
        compression="zstd",
        compression_level=15,
        use_dictionary=["cell_id", "name"],
        column_encoding={"values.list.element": "BYTE_STREAM_SPLIT"},  # the idle bytes of a float32 take no space
    )
    os.replace(partial, path.with_name(ARRAYS_FILE))
    return left_out


def from_file(path: Path) -> Source:
    """Read cells that `to_file` wrote, and their arrays, if the file of arrays is beside them.

    Raises:
        InputError: the file of cells is missing, or one of the two is not such a file.
    """
    cells = _read(path, ("cell_id", "experiment", "seed", "config", "status"), "cells")
    beside = path.with_name(ARRAYS_FILE)
    if beside.exists():
        arrays = (
            _read(beside, tuple(ARRAYS_SCHEMA), "arrays").select(ARRAYS_SCHEMA.keys()).cast(pl.Schema(ARRAYS_SCHEMA))
        )
        arrays = arrays.join(cells.select("cell_id"), on="cell_id", how="semi", maintain_order="left")
    else:
        arrays = pl.DataFrame(schema=ARRAYS_SCHEMA)

    def named(names: Sequence[str]) -> pl.DataFrame:
        return arrays.filter(pl.col("name").is_in(list(names)))

    return Source(cells, named)


def _read(path: Path, needed: Sequence[str], what: str) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path, memory_map=False)  # the file may be replaced later
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot read {what}: {error}") from None
    if absent := sorted(set(needed) - set(frame.columns)):
        raise InputError(f"{path}: no file of {what}: it has no column {', '.join(absent)}")
    return frame


def _wanted(source: Source, done: pl.DataFrame, reads: Iterable[tuple[str, str]]) -> pl.DataFrame:
    """Read the wanted arrays of the done cells, in order. Columns: `ARRAYS_SCHEMA`, and experiment."""
    pairs = pl.DataFrame(sorted(set(reads)), {"experiment": pl.String, "name": pl.String}, orient="row")
    return (
        source.arrays(pairs["name"].unique(maintain_order=True).to_list())
        .join(done.select("cell_id", "experiment"), on="cell_id")
        .join(pairs, on=["experiment", "name"], how="semi")
        .sort("cell_id", "name", "step")
    )


def _smallest(arrays: pl.DataFrame, most: int) -> tuple[pl.DataFrame, list[str]]:
    """Return the arrays of the experiments with the fewest values, `most` in total, and a line for each other one."""
    sizes = (
        arrays.group_by("experiment")
        .agg(values=pl.col("values").list.len().cast(pl.Int64).sum(), names=pl.col("name").unique().sort())
        .sort("values", "experiment")
        .with_columns(total=pl.col("values").cum_sum())
    )
    kept = arrays.join(sizes.filter(pl.col("total") <= most), on="experiment", how="semi", maintain_order="left")
    lines = [
        f"arrays of experiment {experiment} are not saved: {', '.join(names)}, {values} values; the file holds {most}"
        for experiment, values, names, _ in sizes.filter(pl.col("total") > most).iter_rows()
    ]
    return kept.select(ARRAYS_SCHEMA.keys()), lines
