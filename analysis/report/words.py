"""Numbers, times and commands as a reader sees them, in the page and in Markdown alike."""

from __future__ import annotations

import re
import shlex
from datetime import datetime

from orchestrator.sql_names import identifier

ABSENT = "–"


def number(value: float | None) -> str:
    """Four digits; a dash where there is none."""
    return ABSENT if value is None else f"{value:.4g}"


def whole(value: int) -> str:
    """`12,345`."""
    return f"{value:,}"


def time(value: datetime) -> str:
    """`2026-11-24 09:09 UTC`."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def with_interval(mean: float, low: float | None, high: float | None) -> str:
    """`0.12 [0.1, 0.14]`, or the mean alone."""
    return number(mean) if low is None or high is None else f"{number(mean)} [{number(low)}, {number(high)}]"


def at_store(store: str) -> str:
    """What a command needs to find the store; nothing for the default."""
    return "" if store == "results" else f" --store {shlex.quote(store)}"


def query_of_metric(column: str, experiment: str, store: str) -> str:
    """The query that gives a metric's means by setting.

    Args:
        column: of the metric in SQL.
        experiment: its name.
        store: as the user names it.
    """
    quoted = identifier(column)
    sql = (
        f"SELECT method, k, config, count({quoted}) AS seeds, avg({quoted}) AS mean, stddev({quoted}) AS sd "  # noqa: S608 - to be typed
        f"FROM cells WHERE experiment = {_literal(experiment)} AND status = 'done' GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def query_of_array(name: str, experiment: str, store: str) -> str:
    """The query that gives an array of all cells of an experiment."""
    sql = (
        "SELECT cell_id, method, k, seed, step, stride, values FROM arrays JOIN cells USING (cell_id) "  # noqa: S608
        f"WHERE experiment = {_literal(experiment)} AND name = {_literal(name)}"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shell(sql: str) -> str:
    """Quoted for a shell: in double quotes, but where an interactive one would read a `!`."""
    return shlex.quote(sql) if "!" in sql else '"' + re.sub(r'(["$`\\])', r"\\\1", sql) + '"'
