"""Metrics that are text: tables of how often each value occurs in each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

MAX_VALUES, MAX_LETTERS = 5, 60
"""Maximum number of values that are listed per variant, and of characters of a value."""
SCHEMA = {"variant": pl.UInt32, "n": pl.Int64, "values": pl.String, "cells": pl.Int64}


class TextMetric(NamedTuple):
    """A text metric of an experiment: one row per variant, with the columns `SCHEMA`.

    `others` is the number of variants that are left out.
    """

    name: str
    rows: pl.DataFrame
    others: int


class TextMetrics(NamedTuple):
    """The text metrics of an experiment: tables of the selected metrics, and the names of the other metrics."""

    tables: tuple[TextMetric, ...]
    same: Mapping[str, str]
    """Text metrics with the same value in all cells: name -> value. They have no table."""
    omitted: tuple[str, ...]


def tabulate(
    cells: pl.DataFrame, texts: pl.DataFrame, requested: Sequence[str], max_metrics: int, max_variants: int
) -> TextMetrics:
    """Count the values of an experiment's text metrics by variant.

    Args:
        cells: done cells of one experiment, with cell_id, attempt and variant.
        texts: text metrics: cell_id, attempt, name, value.
        requested: names of the metrics to show; empty: the first `max_metrics` by name.
        max_metrics: maximum number of metrics if none is requested.
        max_variants: maximum number of variants per metric; the first in the order of variants.
    """
    keyed = cells.select("cell_id", "attempt", "variant")
    long = keyed.join(texts, on=["cell_id", "attempt"], how="inner").unique(["cell_id", "name"], keep="last")
    total = dict(cells.group_by("variant").agg(pl.len().cast(pl.Int64)).iter_rows())
    distinct = long.group_by("name").agg(pl.col("value").n_unique(), first=pl.col("value").first()).sort("name")
    is_single = pl.col("value") == 1
    same = {n: _cut(text) for n, _, text in distinct.filter(is_single).iter_rows() if n not in requested}
    names = [name for name in distinct["name"] if name not in same]
    chosen = [name for name in requested if name in names] if requested else names[:max_metrics]
    tables = []
    for name in chosen:
        part = long.filter(pl.col("name") == name)
        variants = part["variant"].unique().sort()
        rows = [
            (variant, values.height, _counts(values["value"]), total[variant])
            for (variant,), values in part.filter(pl.col("variant").is_in(variants.head(max_variants).implode()))
            .sort("variant")
            .group_by("variant", maintain_order=True)
        ]
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        tables.append(TextMetric(name, frame, len(variants) - frame.height))
    return TextMetrics(tuple(tables), same, tuple(name for name in names if name not in chosen))


def _counts(values: pl.Series) -> str:
    """Format the values and how often each occurs, the most frequent first: `converged 3, diverged 1`."""
    counts = values.value_counts().sort([pl.col("count"), pl.col("value")], descending=[True, False])
    shown = [f"{_cut(value)} {count:,}" for value, count in counts.head(MAX_VALUES).iter_rows()]
    rest = counts.height - MAX_VALUES
    return ", ".join([*shown, *([f"{rest:,} other values"] if rest > 0 else [])])


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_LETTERS else f"{line[:MAX_LETTERS]}…"
