"""Tables of metrics by variant, with intervals over seeds, for any sweep."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from raysweep.analysis.report.direction import is_outcome
from raysweep.analysis.statistics.distributions import t_quantile
from raysweep.analysis.statistics.inference import LEVEL, Array, estimate
from raysweep.analysis.statistics.shares import share_interval

BOOTSTRAP_UP_TO = 30
"""Maximum number of seeds for the bootstrap; with more seeds, the t interval is as good, and cheaper."""
_NORMAL = 1000
"""Degrees of freedom above which the t quantile is constant to three digits."""

SCHEMA = {
    "variant": pl.UInt32,
    "n": pl.Int64,
    "mean": pl.Float64,
    "sd": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "least": pl.Float64,
    "most": pl.Float64,
    "cells": pl.Int64,
}


class Metric(NamedTuple):
    """A metric of an experiment: one row per variant, columns as `SCHEMA`.

    `others` is the number of variants that are left out.
    """

    name: str
    rows: pl.DataFrame
    others: int


class Metrics(NamedTuple):
    """The metrics of an experiment: tables of some of them, and the names of the rest."""

    tables: tuple[Metric, ...]
    same: Mapping[str, float]
    """Metrics whose mean is the same in all variants, such as naive baselines; they have no table."""
    omitted: tuple[str, ...]


def tabulate(cells: pl.DataFrame, requested: Sequence[str], max_metrics: int, max_variants: int) -> Metrics:
    """Compute tables of an experiment's metrics by variant.

    If no metrics are requested, all metrics are ordered in three groups, and the first ones are chosen. The first
    group has the metrics of at least half of the variants, the outcomes first (see `direction.is_outcome`), the second
    those of fewer variants, the third times (`seconds...`). Within a group they are sorted by name. If there are too
    many variants, those with the lowest and the highest means are chosen, since either end may be the best.

    Args:
        cells: done cells of one experiment, with variant and metrics.
        requested: names of the metrics to show, in this order; empty: the first `max_metrics`.
        max_metrics: maximum number of metrics if none is requested.
        max_variants: maximum number of variants per metric.
    """
    long = (
        cells.select("variant", "metrics")
        .explode("metrics", empty_as_null=False)
        .drop_nulls("metrics")
        .unnest("metrics")
    )
    total = dict(cells.group_by("variant").agg(pl.len().cast(pl.Int64)).iter_rows())
    means = long.group_by("name", "variant").agg(pl.col("value").mean()).sort("name", "variant")
    ranges = means.group_by("name").agg(low=pl.col("value").min(), high=pl.col("value").max(), variants=pl.len())
    same = {
        name: low
        for name, low, high, variants in ranges.sort("name").iter_rows()
        if low == high and variants > 1 and name not in requested
    }
    common = dict(ranges.select("name", pl.col("variants") * 2 >= len(total)).iter_rows())
    names = sorted(
        set(common) - set(same), key=lambda n: (n.startswith("seconds"), not common[n], not is_outcome(n), n)
    )
    chosen = [name for name in requested if name in set(names)] if requested else names[:max_metrics]
    tables = []
    for name in chosen:
        order = means.filter(pl.col("name") == name).sort("value", "variant")["variant"].to_list()
        ends = _ends(order, max_variants)
        part = long.filter((pl.col("name") == name) & pl.col("variant").is_in(ends))
        rows = _rows(part, total).sort("mean", "variant", maintain_order=True)
        tables.append(Metric(name, rows, len(order) - len(ends)))
    return Metrics(tuple(tables), same, tuple(n for n in names if n not in chosen))


def interval(values: Array) -> tuple[float | None, float | None]:
    """Compute a 95 % interval of the mean; (None, None) if there is none, as for one value.

    Up to `BOOTSTRAP_UP_TO` values, it is the hull of the t, the percentile bootstrap and the BCa interval. For more
    values, it is the t interval alone.
    """
    n = values.size
    if n < 2:
        return None, None
    if n <= BOOTSTRAP_UP_TO:
        low, high = estimate(lambda columns: columns["x"].mean(axis=-1), {"x": values}).interval()
        return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)
    half = t_quantile(1 - LEVEL / 2, min(n - 1, _NORMAL)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def rows_of(values: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Compute one row per variant, columns as `SCHEMA`, from a metric's values (variant, value) and all cells."""
    done = cells.filter(pl.col("status") == "done")
    return _rows(values, dict(done.group_by("variant").agg(pl.len().cast(pl.Int64)).iter_rows()))


def _rows(part: pl.DataFrame, total: Mapping[int, int]) -> pl.DataFrame:
    rows = []
    is_share = bool(part["value"].is_in([0.0, 1.0]).all())  # truth values
    for variant, values in part.group_by("variant").agg("value").sort("variant").iter_rows():
        array = np.array(values, dtype=np.float64)
        low, high = share_interval(int(array.sum()), array.size) if is_share and array.size > 1 else interval(array)
        sd = float(array.std(ddof=1)) if array.size > 1 else None
        ends = float(array.min()), float(array.max())
        rows.append((variant, array.size, float(array.mean()), sd, low, high, *ends, total[variant]))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _ends(order: Sequence[int], most: int) -> Collection[int]:
    """Return the first and last entries of a list, half from each end, at most `most` in total."""
    if len(order) <= most:
        return list(order)
    return [*order[: (most + 1) // 2], *order[len(order) - most // 2 :]]
