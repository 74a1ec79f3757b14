"""Recorded curves by variant: median and range over seeds. Steps are binned to limit the number of points."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

POINTS = 80
"""Maximum number of bins per curve."""

SCHEMA = {
    "variant": pl.UInt32,
    "step": pl.Float64,
    "median": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


SERIES = {"cell_id": pl.String, "step": pl.Int64, "value": pl.Float64}

Values = NDArray[np.float64]


class Curve(NamedTuple):
    """A recorded array of an experiment, by variant. `rows` has the columns `SCHEMA`; each bin covers `width` steps."""

    name: str
    rows: pl.DataFrame
    width: int
    others: int
    """Number of variants that have no curve here."""


def series(arrays: pl.DataFrame, points: int = POINTS) -> tuple[pl.DataFrame, int]:
    """Average each cell's curve in bins of steps.

    Args:
        arrays: rows of one array name, columns as `cells.source.ARRAYS_SCHEMA`. Entry i of `values` belongs to step
            `step + i * stride`. Several rows of a cell form one curve.
        points: maximum number of bins.

    Returns:
        A frame and the bin width in steps. Columns: cell_id, step (the bin's first), value (mean of its finite
            entries).
    """
    some = arrays.filter(pl.col("values").list.len() > 0).sort("cell_id")
    lengths = some["values"].list.len().cast(pl.Int64).to_numpy()
    flat = some["values"].explode().cast(pl.Float64).to_numpy()
    first, stride = some["step"].to_numpy(), some["stride"].to_numpy()
    low, high = (int(first.min()), int((first + stride * (lengths - 1)).max())) if len(some) else (0, 0)
    width = max(1, -(-(high - low + 1) // points))
    sums: dict[str, list[Values]] = {}  # cell -> sums and counts, one entry per bin
    end = 0
    for cell_id, step, by, length in zip(some["cell_id"], first, stride, lengths, strict=True):
        values, end = flat[end : end + length], end + length
        finite = np.isfinite(values)
        at = (step + by * np.arange(length)[finite] - low) // width
        sums_here = [np.bincount(at, weights, minlength=points) for weights in (values[finite], None)]
        before = sums.setdefault(cell_id, [np.zeros(points), np.zeros(points)])
        sums[cell_id] = [old + new for old, new in zip(before, sums_here, strict=True)]
    columns: dict[str, list[Any]] = {name: [] for name in SERIES}
    for cell_id, (total, count) in sums.items():
        bins = np.flatnonzero(count)
        columns["cell_id"] += [cell_id] * bins.size
        columns["step"] += (bins * width + low).tolist()
        columns["value"] += (total[bins] / count[bins]).tolist()
    return pl.DataFrame(columns, schema=SERIES), width


def summary(curves: pl.DataFrame, variant_of: pl.DataFrame) -> pl.DataFrame:
    """Compute the median and range over a variant's cells in each bin.

    Args:
        curves: the frame that `series` returns.
        variant_of: columns cell_id and variant.
    """
    return (
        curves.join(variant_of, on="cell_id")
        .group_by("variant", pl.col("step").cast(pl.Float64))
        .agg(
            median=pl.col("value").median(),
            low=pl.col("value").min(),
            high=pl.col("value").max(),
            n=pl.len().cast(pl.Int64),
        )
        .sort("variant", "step")
        .select(list(SCHEMA))
    )
