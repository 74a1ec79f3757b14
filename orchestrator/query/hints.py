"""Quoting of names and text for SQL, and advice on SQL that DuckDB rejects."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from raysweep.orchestrator.sweep.grammar.conditions import dotted_name
from raysweep.workloads.registry import shortened

if TYPE_CHECKING:
    import duckdb

RESERVED = frozenset({
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "both", "case", "cast", "check",
    "collate", "column", "constraint", "create", "default", "deferrable", "desc", "describe", "distinct", "do",
    "else", "end", "except", "false", "fetch", "for", "foreign", "from", "group", "having", "in", "initially",
    "intersect", "into", "lambda", "lateral", "leading", "limit", "not", "null", "offset", "on", "only", "or",
    "order", "pivot", "pivot_longer", "pivot_wider", "placing", "primary", "qualify", "references", "returning",
    "select", "show", "some", "summarize", "symmetric", "table", "then", "to", "trailing", "true", "union",
    "unique", "unpivot", "using", "variadic", "when", "where", "window", "with",
})  # fmt: skip
"""DuckDB's reserved words. A literal, since to ask DuckDB for them takes a launch 0.1 s; a test compares the two."""


def identifier(name: str) -> str:
    """Quote a column's name for SQL if it is a reserved word or not a plain word."""
    plain = re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def advice(sql: str, error: Exception, columns: Collection[str], answer: Callable[[str], object]) -> str:
    """Return advice on how to correct SQL that DuckDB rejected, to append to a message; "" if there is no advice.

    Args:
        sql: the query or predicate.
        error: DuckDB's error.
        columns: the existing columns.
        answer: executes SQL, and raises `duckdb.Error` if it is invalid. It is used to test a corrected query.
    """
    if _WRITES.match(sql):
        return " (only queries are answered: the store is never written)"
    words = {word.lower() for word in re.findall(r"\w+", re.sub(r'"[^"]*"|\'[^\']*\'', " ", sql))} & RESERVED
    missing = missing_column(error)
    name = next((name for name in columns if name.lower() in words), None)
    if name and (missing is None or missing.lower() in words):
        return f' (in SQL {name!r} is a reserved word: write the column as "{name}", in double quotes)'
    import duckdb

    quoted = with_text_quoted(sql, {name.lower() for name in columns})
    if quoted != sql:
        with contextlib.suppress(duckdb.Error):
            answer(quoted)
            return f" (put text in single quotes: {shortened(quoted)})"
    if table := re.search(r"Table with name (.+) does not exist!", str(error)):
        near = difflib.get_close_matches(table[1].lower(), _TABLES, n=1)
        return f" (the tables are {', '.join(_TABLES)}{f'; did you mean {near[0]}?' if near else ''})"
    near = _similar(missing.lower(), columns) if missing else []
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def about_a_column(sql: str, error: duckdb.Error, columns: Collection[str]) -> duckdb.Error:
    """Return DuckDB's error, or a clearer one if the SQL misspells a nested setting.

    For `optimizer.lrr`, DuckDB reports a missing table `optimizer`; the clearer error reports a missing column.
    """
    import duckdb

    table = _MISSING_TABLE.search(str(error))
    if table is None:
        return error
    name = dotted_name(sql, table[1])
    settings = [column for column in columns if "." in column]
    is_setting = any(column.startswith(f"{table[1]}.") for column in settings) or bool(_similar(name, settings))
    missing = duckdb.BinderException(f'Binder Error: Referenced column "{name}" not found in FROM clause!')
    return missing if is_setting else error


def missing_column(error: Exception) -> str | None:
    """Return the column that DuckDB's error reports as missing; None for any other error."""
    missing = _MISSING.search(str(error))
    return next(filter(None, missing.groups())) if missing else None


def _similar(name: str, columns: Collection[str]) -> list[str]:
    """Return columns that may be meant by `name`.

    These are `NAME_...`, `config_NAME` and `metric_NAME`. If there are none of them, it is the most similar column,
    if any.
    """
    prefixed = {f"config_{name}", f"metric_{name}"}
    longer = [column for column in columns if column.lower().startswith(f"{name}_") or column.lower() in prefixed]
    return longer[:_MAX_SIMILAR] or difflib.get_close_matches(name, columns, n=1)


_MAX_SIMILAR = 3
_MISSING = re.compile(
    r'Referenced column "([^"]+)" not found|does not have a column named "([^"]+)"'
    r'|Column "([^"]+)" referenced that exists in the SELECT clause'
)
_MISSING_TABLE = re.compile(r'Referenced table "([^"]+)" not found!')
_WRITES = re.compile(r"\s*(insert|update|delete|drop|create|alter|truncate)\b", re.IGNORECASE)
_TABLES = ("cells", "attempts", "arrays", "attempt_arrays", "live", "logs", "artifacts")
_COMPARED = re.compile(r"(=|<>|\blike\b)(\s*)(?:\"([^\"']*)\"|([A-Za-z_][\w./%-]*+))(?!\s*\()", re.IGNORECASE)
"""Pattern of a comparison with a word or double-quoted text on its right.

Users mean the word or double-quoted text as text, unless a column has this name.
"""


def with_text_quoted(sql: str, columns: Collection[str]) -> str:
    """Quote the right-hand side of each comparison as text unless it is a column's name."""

    def quoted(match: re.Match[str]) -> str:
        word = match[4] if match[3] is None else match[3]
        is_name = word.lower() in {*columns, "true", "false", "null"}
        return match[0] if is_name else f"{match[1]}{match[2]}'{word}'"

    return _COMPARED.sub(quoted, sql)
