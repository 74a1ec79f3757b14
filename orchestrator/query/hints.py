"""How a name is written in SQL, and what to do about SQL that was refused."""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Callable, Collection


def identifier(name: str) -> str:
    """A column as SQL takes it: in double quotes where it is no plain word, or one of SQL's own."""
    plain = re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in reserved()
    return name if plain else '"' + name.replace('"', '""') + '"'


@functools.cache
def reserved() -> frozenset[str]:
    """Words that SQL keeps for itself."""
    import duckdb

    words = duckdb.connect(":memory:").execute(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    )
    return frozenset(word for (word,) in words.fetchall())


def advice(sql: str, error: Exception, known: Collection[str], answers: Callable[[str], object]) -> str:
    """What to do about SQL that DuckDB refused, as the end of a message; "" where nothing is known.

    Args:
        sql: a query, or a predicate.
        error: how it was refused.
        known: the names of the columns.
        answers: raises a `duckdb.Error` for SQL that it can't answer.
    """
    if _WRITES.match(sql):
        return " (only queries are answered: the store is never written)"
    words = {word.lower() for word in re.findall(r"\w+", re.sub(r'"[^"]*"|\'[^\']*\'', " ", sql))} & reserved()
    if name := next((name for name in known if name.lower() in words), None):
        return f' (in SQL {name!r} is a word of its own: write the column as "{name}", in double quotes)'
    import duckdb

    quoted = _with_text_quoted(sql, {name.lower() for name in known})
    if quoted != sql:
        with contextlib.suppress(duckdb.Error):
            answers(quoted)
            return f" (text stands in single quotes: {quoted})"
    if table := re.search(r"Table with name (.+) does not exist!", str(error)):
        near = difflib.get_close_matches(table[1].lower(), _TABLES, n=1)
        return f" (there are {', '.join(_TABLES)}{f'; did you mean {near[0]}?' if near else ''})"
    missing = missing_column(error)
    near = _meant(missing.lower(), known) if missing else []
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def missing_column(error: Exception) -> str | None:
    """The name that a query has and no column, where that is what is wrong."""
    missing = re.search(r'Referenced column "([^"]+)" not found|does not have a column named "([^"]+)"', str(error))
    return missing[1] or missing[2] if missing else None


def _meant(name: str, known: Collection[str]) -> list[str]:
    """Columns that go on where the name ends, else the one that is spelt most alike."""
    longer = [column for column in known if column.lower().startswith(f"{name}_")]
    return longer[:_MEANT] or difflib.get_close_matches(name, known, n=1)


_MEANT = 3
_WRITES = re.compile(r"\s*(insert|update|delete|drop|create|alter|truncate)\b", re.IGNORECASE)
_TABLES = ("cells", "attempts", "arrays")
_COMPARED = re.compile(r"(=|<>|\blike\b)(\s*)(?:\"([^\"']*)\"|([A-Za-z_][\w./%-]*+))(?!\s*\()", re.IGNORECASE)
"""A comparison with a name on its right, in double quotes or none: text, where no column is called so."""


def _with_text_quoted(sql: str, known: Collection[str]) -> str:
    """The SQL with single quotes around what is compared with and is no column's name."""

    def text(found: re.Match[str]) -> str:
        word = found[4] if found[3] is None else found[3]
        is_name = word.lower() in {*known, "true", "false", "null"}
        return found[0] if is_name else f"{found[1]}{found[2]}'{word}'"

    return _COMPARED.sub(text, sql)
