"""Conversion of metrics and config keys into columns: all of them, or those that a query may use."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import polars as pl

from raysweep.orchestrator.sweep.grammar.conditions import typed_column
from raysweep.orchestrator.sweep.grammar.settings import flattened

# Constructs that reach columns without naming them. `FROM cells` is a query even without SELECT.
_ALL = re.compile(
    r"\*|\b(columns|describe|desc|show|summarize|pivot|unpivot|table|natural|information_schema|duckdb_\w+)\b"
    r"|(^|[(;]|\b(as|union|all|by|name|except|intersect)\b)\s*from\b"
)
_NOISE = re.compile(r"--[^\n]*|/\*.*?\*/|\bcount\s*\(\s*\*\s*\)", re.DOTALL)


def widen(frame: pl.DataFrame, sql: str | None = None, texts: pl.DataFrame | None = None) -> pl.DataFrame:
    """Add metrics and config keys as columns.

    A column has the name X of its metric or key. If another column has this name, too, the new one is called
    `metric_X`, `config_X` or `text_X`. If that name is also taken, a number is appended. Names that differ only in
    case are the same name, as in SQL.

    Args:
        frame: the rows.
        sql: a query; only the columns that it may use are added. None adds all.
        texts: the metrics that are text, with columns cell_id, attempt, name, value.
    """
    new = [("config", name, series) for name, series in _config_columns(frame).items()]
    new += [("metric", name, series) for name, series in _metric_columns(frame).items()]
    new += [("text", name, series) for name, series in _text_columns(frame, texts).items()]
    existing = [name.lower() for name in frame.columns]
    names = Counter(existing + [name.lower() for _, name, _ in new])
    labels = [f"{kind}_{name}" if names[name.lower()] > 1 else name for kind, name, _ in new]
    label_counts = Counter(existing + [label.lower() for label in labels])
    taken = {label for label, count in label_counts.items() if count == 1} | set(existing)
    reaches = reachable(sql)
    columns = []
    for label, (_, name, series) in zip(labels, new, strict=True):
        if label_counts[label.lower()] > 1:
            label = next(n for i in itertools.count(1) if (n := f"{label}_{i}").lower() not in taken)
            taken.add(label.lower())
        if reaches is None or reaches(label) or reaches(name):
            columns.append(series.alias(label))
    return frame.with_columns(columns)


def reachable(sql: str | None) -> Callable[[str], bool] | None:
    """Return a function that tells whether the SQL may use the column of a given name; None if it may use all."""
    if sql is None:
        return None
    text = sql.lower().replace('""', '"')  # a quote within a quoted name is doubled
    if _ALL.search(_NOISE.sub(" ", sql.lower()).strip()) or any(_row_of(t, text) for t in ("cells", "attempts")):
        return None
    return lambda name: name.lower() in text


def _row_of(table: str, text: str) -> bool:
    """Tell whether a query may use whole rows of a table as values, as in `SELECT cells FROM cells`.

    The same is possible by an alias: `SELECT c FROM cells AS c`. True is returned if the table's name or an alias
    occurs twice without a dot after it. A needless True only costs time.

    Args:
        table: the table's name.
        text: the query in lower case.
    """
    names = [table, *re.findall(rf"\b{table}\b\"?\s+(?:as\s+)?\"?(\w+)", text)]
    return any(len(re.findall(rf"\b{name}\b\"?(?!\s*\.)", text)) > 1 for name in names)


def _metric_columns(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """Build one float column per metric, null for cells without this metric."""
    if "metrics" not in frame.columns:
        return {}
    metrics = frame["metrics"]
    counts = metrics.list.len().fill_null(0).to_numpy()
    flat = metrics.drop_nulls().list.explode(empty_as_null=False) if counts.sum() else None
    if flat is None:
        return {}
    rows = np.repeat(np.arange(len(metrics)), counts)
    names, values = flat.struct.field("name").cast(pl.Categorical), flat.struct.field("value").to_numpy()
    codes = names.to_physical().to_numpy()
    columns = {}
    for name in sorted(names.unique().cast(pl.String).to_list()):
        mask = codes == codes[(names == name).arg_true()[0]]
        column = np.full(len(metrics), np.nan)
        column[rows[mask]] = values[mask]
        series = pl.Series(name, column)
        if np.isnan(values[mask]).any():  # recorded as NaN, which is not the same as not recorded
            present = np.zeros(len(metrics), bool)
            present[rows[mask]] = True
            columns[name] = series.set(pl.Series(~present), None)
        else:
            columns[name] = series.fill_nan(None)
    return columns


def _text_columns(frame: pl.DataFrame, texts: pl.DataFrame | None) -> dict[str, pl.Series]:
    """Build one text column per metric that is text, null for attempts without this metric."""
    key = ["cell_id", "attempt"]
    if texts is None or texts.is_empty() or not set(key) <= set(frame.columns):
        return {}
    wide = frame.select(key).join(
        texts.unique([*key, "name"], keep="last").pivot("name", index=key, values="value"), on=key, how="left",
        maintain_order="left",
    )  # fmt: skip
    return {name: wide[name] for name in sorted(wide.columns) if name not in key and wide[name].count()}


def _config_columns(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """Build one column per config key. Values of mixed types become text. Each distinct config is parsed once."""
    if "config" not in frame.columns:
        return {}
    config = frame["config"]
    distinct = config.unique(maintain_order=True)
    parsed = [flattened(json.loads(text)) if text else {} for text in distinct]
    index = pl.DataFrame({"config": config}).join(
        pl.DataFrame({"config": distinct}).with_row_index("at"), on="config", how="left", nulls_equal=True,
        maintain_order="left",
    )["at"]  # fmt: skip
    names = sorted({name for settings in parsed for name in settings})
    return {name: typed_column(name, [settings.get(name) for settings in parsed])[index] for name in names}
