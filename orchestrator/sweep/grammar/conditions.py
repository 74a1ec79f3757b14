"""SQL predicates over the settings of a block: `where`, `exclude` and `when`. Polars evaluates them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import polars as pl

from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

_PART = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
"""Pattern of the parts of SQL in which `quoted_names` changes nothing: strings, quoted names and comments."""


def quoted_names(sql: str, names: Collection[str]) -> str:
    """Put names with a dot in double quotes in SQL: `optimizer.lr < 1` becomes `"optimizer.lr" < 1`."""
    dotted = sorted((name for name in names if "." in name), key=len, reverse=True)
    if not dotted:
        return sql
    pattern = re.compile(rf"(?<![\w$])(?:{'|'.join(map(re.escape, dotted))})(?![\w.$(])")
    parts, at = [], 0
    for match in [*_PART.finditer(sql), None]:
        end = len(sql) if match is None else match.start()
        parts.append(pattern.sub(lambda m: f'"{m[0]}"', sql[at:end]))
        if match is not None:
            parts.append(match[0])
            at = match.end()
    return "".join(parts)


def dotted_name(sql: str, first: str) -> str:
    """Return the first name in SQL that begins with `first` and a dot, such as `optimizer.lr`; if none, `first`."""
    match = re.search(rf"(?<![\w$.]){re.escape(first)}(?:\.\w+)+", _PART.sub(" ", sql), re.IGNORECASE)
    return match[0] if match else first


def typed_column(name: str, values: Sequence[Any]) -> pl.Series:
    """Build a column of a setting's values. Lists, and values of mixed types, become text."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {int}:
        return pl.Series(name, values, pl.Int64)
    if kinds and kinds <= {int, float}:
        return pl.Series(name, values, pl.Float64, strict=False)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pl.Series(name, texts, pl.String)


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    """Build a column of a setting's values. A column of only nulls has the type Null, which compares with any type."""
    return pl.Series(name, values, pl.Null) if all(v is None for v in values) else typed_column(name, values)


def _result(
    expression: pl.Expr,
    rows: Sequence[Mapping[str, Any]],
    names: Collection[str],
    column: Callable[[str, Sequence[Any]], pl.Series],
) -> pl.Series:
    frame = pl.DataFrame([column(name, [row.get(name) for row in rows]) for name in sorted(names)])
    return frame.select(expression.alias("matches"))["matches"]


def used_names(predicate: str, names: Collection[str]) -> set[str]:
    """Return which of these names a predicate uses; none if it is not SQL."""
    try:
        return set(pl.sql_expr(quoted_names(predicate, names)).meta.root_names()) & set(names)
    except pl.exceptions.PolarsError:
        return set()


class PredicateError(ValueError):
    """A predicate is invalid; the message gives the reason."""


def matching_rows(
    predicate: str, rows: Sequence[Mapping[str, Any]], names: Collection[str], own: str | None = None
) -> list[bool]:
    """Return for each row whether it matches the predicate. A comparison with a missing setting is never true.

    Args:
        predicate: SQL.
        rows: settings by name.
        names: all names that the predicate may use.
        own: the setting that has the predicate as its condition `when`; None for `where` and `exclude`.

    Raises:
        PredicateError: the text is not a predicate over these names.
    """
    shown = short_repr(predicate)
    try:
        expression = pl.sql_expr(quoted_names(predicate, names))
        used = set(expression.meta.root_names())
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise PredicateError(f"{shown} is not an SQL predicate: {reason}") from None
    if unknown := sorted(used - set(names)):
        name = dotted_name(predicate, unknown[0])
        text = f"; text stands in single quotes: '{name}'" if f'"{name}"' in predicate else ""
        why = "a predicate holds for all seeds" if name in ("seed", "seeds") else ""
        why = f"{own} cannot be its own condition" if name == own else why
        raise PredicateError(f"{shown}: {why or unknown_name('setting', name, names)}{text}")
    if not used:
        raise PredicateError(f'{shown} names no setting; write a comparison such as "lr < 0.1"')
    try:
        try:
            result = _result(expression, rows, used, _column)
        except pl.exceptions.PolarsError:  # a function of text, over a setting that no row has
            result = _result(expression, rows, used, typed_column)
    except pl.exceptions.PolarsError as error:
        raise PredicateError(f"{shown}: {str(error).splitlines()[0]}") from None
    if result.dtype != pl.Boolean or len(result) != len(rows):
        if result.dtype == pl.Null:
            return [False] * len(rows)
        raise PredicateError(f'{shown} is not a condition on each cell; write a comparison such as "lr < 0.1"')
    return [value is True for value in result]
