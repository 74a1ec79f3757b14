"""Recorded curves by setting: median and range over seeds, in bins of steps, so that any length is drawn alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

POINTS = 80
"""Bins of a curve on the page."""

SCHEMA = {
    "setting": pl.UInt32,
    "step": pl.Float64,
    "median": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


SERIES = {"cell_id": pl.String, "step": pl.Int64, "value": pl.Float64}

Steps = NDArray[np.int64]
Values = NDArray[np.float64]


class Curve(NamedTuple):
    """One array of an experiment, columns as `SCHEMA`; a value is the mean within `width` steps."""

    name: str
    rows: pl.DataFrame
    width: int
    others: int
    """Settings that are left out."""


def series(arrays: pl.DataFrame, points: int = POINTS) -> tuple[pl.DataFrame, int]:
    """Curves in bins of steps.

    Args:
        arrays: one array name, columns as `analysis.source.ARRAYS_SCHEMA` and any others; entry i of `values` belongs
            to step `step + i * stride`, and several rows of a cell are one curve.
        points: bins at most.

    Returns:
        cell_id, step (where the bin begins), value (the mean of the finite ones within it); and the bins' width.
    """
    curves: dict[str, list[tuple[Steps, Values]]] = {}
    for cell_id, step, stride, values in arrays.select("cell_id", "step", "stride", "values").iter_rows():
        column = np.asarray(values, dtype=np.float64)
        if column.size:
            curves.setdefault(cell_id, []).append((step + stride * np.arange(column.size), column))
    ends = [(int(steps[0]), int(steps[-1])) for parts in curves.values() for steps, _ in parts]
    low, high = min((e[0] for e in ends), default=0), max((e[1] for e in ends), default=0)
    width = max(1, -(-(high - low + 1) // points))
    columns: dict[str, list[Any]] = {name: [] for name in SERIES}
    for cell_id in sorted(curves):
        steps, values = (np.concatenate(part) for part in zip(*curves[cell_id], strict=True))
        finite = np.isfinite(values)
        bins, at = np.unique((steps[finite] - low) // width, return_inverse=True)
        means = np.bincount(at, weights=values[finite]) / np.bincount(at) if bins.size else values[:0]
        columns["cell_id"] += [cell_id] * bins.size
        columns["step"] += (bins * width + low).tolist()
        columns["value"] += means.tolist()
    return pl.DataFrame(columns, schema=SERIES), width


def summary(curves: pl.DataFrame, setting_of: pl.DataFrame) -> pl.DataFrame:
    """Median and range over a setting's cells, bin by bin.

    Args:
        curves: from `series`.
        setting_of: cell_id and setting.
    """
    return (
        curves.join(setting_of, on="cell_id")
        .group_by("setting", pl.col("step").cast(pl.Float64))
        .agg(
            median=pl.col("value").median(),
            low=pl.col("value").min(),
            high=pl.col("value").max(),
            n=pl.len().cast(pl.Int64),
        )
        .sort("setting", "step")
        .select(list(SCHEMA))
    )
