"""Metrics by setting, with intervals over seeds: the tables that any sweep has, whatever it is about."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from raysweep.analysis.statistics.inference import LEVEL, Array, estimate, t_quantile

BOOTSTRAP_UP_TO = 30
"""Seeds; with more, t's interval alone says the same and costs nothing."""
_NORMAL = 1000
"""Degrees of freedom from which t's quantile no longer changes in the third digit."""

SCHEMA = {
    "setting": pl.UInt32,
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
    """One metric of an experiment: a row a setting, columns as `SCHEMA`; `others` settings are left out."""

    name: str
    rows: pl.DataFrame
    others: int


class Metrics(NamedTuple):
    """An experiment's metrics: tables of some, the rest by name."""

    shown: tuple[Metric, ...]
    same: Mapping[str, float]
    """Metrics with one mean in all settings, as naive baselines have; not shown apart."""
    unshown: tuple[str, ...]


def tabulate(cells: pl.DataFrame, asked: Sequence[str], most_metrics: int, most_settings: int) -> Metrics:
    """Tables of an experiment's metrics.

    Metrics that most settings have come first, times (`seconds...`) last; each group by name. Of very many
    settings, those with the lowest and the highest means are kept, as which of them is better is not known here.

    Args:
        cells: done cells of one experiment, with setting and metrics.
        asked: names of metrics to show, in this order; empty: `most_metrics` of all.
        most_metrics: metrics to show.
        most_settings: settings to show in each.
    """
    long = (
        cells.select("setting", "metrics")
        .explode("metrics", empty_as_null=False)
        .drop_nulls("metrics")
        .unnest("metrics")
    )
    total = dict(cells.group_by("setting").agg(pl.len().cast(pl.Int64)).iter_rows())
    means = long.group_by("name", "setting").agg(pl.col("value").mean()).sort("name", "setting")
    about = means.group_by("name").agg(low=pl.col("value").min(), high=pl.col("value").max(), settings=pl.len())
    same = {
        name: low
        for name, low, high, settings in about.sort("name").iter_rows()
        if low == high and settings > 1 and name not in asked
    }
    common = dict(about.select("name", pl.col("settings") * 2 >= len(total)).iter_rows())
    names = sorted(set(common) - set(same), key=lambda n: (n.startswith("seconds"), not common[n], n))
    chosen = [name for name in asked if name in set(names)] if asked else names[:most_metrics]
    shown = []
    for name in chosen:
        order = means.filter(pl.col("name") == name).sort("value", "setting")["setting"].to_list()
        kept = _ends(order, most_settings)
        part = long.filter((pl.col("name") == name) & pl.col("setting").is_in(kept))
        shown.append(Metric(name, _rows(part, total), len(order) - len(kept)))
    return Metrics(tuple(shown), same, tuple(n for n in names if n not in chosen))


def interval(values: Array) -> tuple[float | None, float | None]:
    """95 % interval of the mean of some seeds: the hull of t's and the percentile bootstrap's; none for one seed."""
    n = values.size
    if n < 2:
        return None, None
    if n <= BOOTSTRAP_UP_TO:
        low, high = estimate(lambda columns: columns["x"].mean(axis=-1), {"x": values}).interval()
        return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)
    half = t_quantile(1 - LEVEL / 2, min(n - 1, _NORMAL)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def _rows(part: pl.DataFrame, total: Mapping[int, int]) -> pl.DataFrame:
    rows = []
    for setting, values in part.group_by("setting").agg("value").sort("setting").iter_rows():
        array = np.array(values, dtype=np.float64)
        low, high = interval(array)
        sd = float(array.std(ddof=1)) if array.size > 1 else None
        ends = float(array.min()), float(array.max())
        rows.append((setting, array.size, float(array.mean()), sd, low, high, *ends, total[setting]))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _ends(order: Sequence[int], most: int) -> Collection[int]:
    """The first and the last of a list, `most` in all."""
    if len(order) <= most:
        return list(order)
    return [*order[: (most + 1) // 2], *order[len(order) - most // 2 :]]
