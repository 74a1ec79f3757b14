"""The table of an experiment's best variants as the page shows it, and the sentences above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.report.formatting import number, whole, with_interval
from raysweep.analysis.report.results import MAX_TESTED, Result
from raysweep.orchestrator.text import printable

_LEAST_SEEDS = 5
"""Fewest seeds with which variants can be told apart at 5 %: the smallest p of n seeds is 2^-n."""
MAX_KEYS = 7
"""Maximum number of settings in a row."""
_MAX_COLUMNS = 4
"""Maximum number of settings that have a column of their own."""
_MARGIN = 4.0
"""Space at either end of the bars, in percent of their width."""


class Value(NamedTuple):
    """The value of a setting in a row. `place` is its place among all values of the setting, 0 to 1."""

    key: str
    text: str
    place: float | None


class Row(NamedTuple):
    """A row of the table; `low`, `mean` and `high` are percentages of the bar's width, None without an interval."""

    values: tuple[Value, ...]
    number: str
    interval: str
    seeds: str
    may_be_best: bool | None
    mean: float
    low: float | None
    high: float | None


class Board(NamedTuple):
    """The table, its axis (text at the left and right end), and what is said above it."""

    metric: str
    better: str
    reason: str
    keys: tuple[str, ...]
    """The settings whose values the rows have, the largest effect first."""
    spread: bool
    """Whether each setting has a column of its own; otherwise they share one."""
    same_seeds: str
    """The number of seeds of every row; empty if they differ."""
    headline: str
    verdict: str
    rows: tuple[Row, ...]
    axis: tuple[str, str]
    others: str
    versions: str
    """The workloads and versions that the rows are about; empty if there are no others."""
    shared: str


def board(result: Result, variants: pl.DataFrame) -> Board:
    """Lay out the best variants of a result.

    Args:
        result: the result.
        variants: columns variant and label.
    """
    rows = result.rows.to_dicts()
    ends = [end for row in rows for end in (row["low"], row["mean"], row["high"]) if end is not None]
    left, right = min(ends), max(ends)
    width = (right - left) or 1.0

    def at(value: float | None) -> float | None:
        return None if value is None else round(_MARGIN + (100 - 2 * _MARGIN) * (value - left) / width, 2)

    keys = result.keys[:MAX_KEYS]
    spread = 0 < len(keys) <= _MAX_COLUMNS
    order = {e.key: {text: i / max(1, len(e.values) - 1) for i, text in enumerate(e.values)} for e in result.effects}
    label = dict(variants.select("variant", "label").iter_rows())
    lines = []
    for row in rows:
        own = result.values[row["variant"]]
        values = tuple(
            Value(printable(key), printable(own[key] or ABSENT), order.get(key, {}).get(own[key] or "none"))
            for key in keys
            if spread or own[key] is not None
        )
        lines.append(
            Row(
                values or (Value("", printable(label[row["variant"]]), None),),
                number(row["mean"]),
                "" if row["low"] is None else f"[{number(row['low'])}, {number(row['high'])}]",
                str(row["n"]) if row["n"] == row["cells"] else f"{row['n']} of {row['cells']}",
                row["may_be_best"],
                at(row["mean"]) or 0.0,
                at(row["low"]),
                at(row["high"]),
            )
        )
    first, names = rows[0], result.values[rows[0]["variant"]]
    named = [f"{printable(key)} = {printable(names[key])}" for key in keys if names[key] is not None]
    name = ", ".join(named) or printable(label[first["variant"]])
    of = f", the best of {whole(result.variants)} variants" if result.variants > 1 else ""
    metric, better = printable(result.direction.metric), result.direction.better
    headline = f"{name}: {metric} {with_interval(first['mean'], first['low'], first['high'])}{of}"
    more = result.variants - len(lines)
    return Board(
        metric=metric,
        better=better,
        reason=result.direction.reason,
        keys=tuple(map(printable, keys)),
        spread=spread,
        same_seeds=lines[0].seeds if len({line.seeds for line in lines}) == 1 else "",
        headline=headline,
        verdict=_verdict(result, rows),
        rows=tuple(lines),
        axis=(number(left), number(right)),
        others=f"{whole(more)} more variants are not listed; the query lists all." if more else "",
        versions=", ".join(f"{printable(name)} version {printable(version)}" for name, version in result.newest),
        shared=", ".join(f"{printable(key)} = {printable(value)}" for key, value in result.shared.items()),
    )


def _verdict(result: Result, rows: Sequence[dict[str, object]]) -> str:
    """State what can be told apart, at 95 %."""
    if result.variants == 1:
        return ""
    if result.candidates is None:
        return f"More than {MAX_TESTED} variants: which of them may be the best is not tested; see raysweep best."
    seeds = max(int(str(row["n"])) for row in rows)
    few = (
        f" With {seeds} seeds hardly anything can be; {_LEAST_SEEDS} or more are needed."
        if seeds < _LEAST_SEEDS
        else ""
    )
    if result.candidates == 1:
        return "All others are worse (95 %)."
    if result.candidates >= result.variants:
        return f"None of the {whole(result.variants)} can be told apart from the best (95 %).{few}"
    return (
        f"{whole(result.candidates)} of {whole(result.variants)} may be the best (marked); "
        "these cannot be told apart (95 %), all others are worse."
    )
