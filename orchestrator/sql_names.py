"""The names that SQL over a store knows: its tables' columns, and how a name is written."""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from orchestrator.store import Store


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
    missing = re.search(r'Referenced column "([^"]+)" not found', str(error))
    near = difflib.get_close_matches(missing[1].lower(), known, n=1) if missing else []
    return f" (did you mean {near[0]!r}?)" if near else ""


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


def columns(store: Store) -> pl.DataFrame:
    """Every column of `cells`, `attempts` and `arrays`: table, column, type, what (what it is of).

    `column` is as SQL takes it. `what` is "identity", "status", "metric", "config", "time", "machine", "code", "list"
    (all metrics, the whole config) or "launch", in this order; of arrays, "array".
    """
    from orchestrator.query import cells_frame
    from orchestrator.schema import ARRAYS
    from orchestrator.widen import widen

    attempts = store.collect(lambda: store.attempts)
    arrays = pl.DataFrame(pl.from_arrow(ARRAYS.empty_table()))
    rows = [*_rows("cells", cells_frame(store)), *_rows("attempts", widen(attempts)), *_rows("arrays", arrays)]
    return pl.DataFrame(rows, schema=["table", "column", "type", "what"], orient="row")


def _rows(table: str, frame: pl.DataFrame) -> list[tuple[str, str, str, str]]:
    """Of a frame as `widen` makes it: its own columns, then config keys, then metrics."""
    from orchestrator.schema import ATTEMPTS

    own = set(ATTEMPTS.names)
    metrics = 0
    if "metrics" in frame.columns:
        metrics = frame["metrics"].list.explode().struct.field("name").drop_nulls().n_unique()
    made = [name for name in frame.columns if name not in own]
    what = {name: kind for kind, names in _OF.items() for name in names}
    what |= {name: "config" if i < len(made) - metrics else "metric" for i, name in enumerate(made)}
    if table == "arrays":
        what = dict.fromkeys(frame.columns, "array")
    rows = [(table, identifier(name), _type(kind), what[name]) for name, kind in frame.schema.items()]
    return sorted(rows, key=lambda row: _ORDER.index(row[3]))


_OF = {
    "identity": ("cell_id", "sweep", "experiment", "workload", "workload_version", "method", "k", "seed"),
    "status": ("status", "attempt", "error_type", "error_message", "traceback", "log_tail"),
    "time": ("started_at", "finished_at", "seconds", "cpu_seconds"),
    "machine": ("peak_rss_mib", "host", "node_id", "pid", "device", "cpus", "gpus"),
    "code": ("git_commit", "git_dirty", "source_digest", "source_path", "packages"),
    "list": ("metrics", "config"),
    "launch": ("epoch", "schema_version"),
}
_ORDER = ("identity", "status", "metric", "config", "time", "machine", "code", "list", "launch", "array")


def _type(kind: pl.DataType) -> str:
    if kind == pl.String:
        return "text"
    if kind == pl.Boolean:
        return "boolean"
    if kind.is_integer():
        return "integer"
    if kind.is_float():
        return "number"
    return "time" if kind.is_temporal() else "list"
