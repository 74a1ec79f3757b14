"""Numbers, times and commands for readers, the same in the page and in Markdown."""

from __future__ import annotations

import re
import shlex
from datetime import datetime

from raysweep.analysis.rendering import ABSENT
from raysweep.orchestrator.query.hints import identifier
from raysweep.orchestrator.text import at_store


def number(value: float | None) -> str:
    """Four significant digits; a dash for an absent value."""
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


def query_of_metric(column: str, experiment: str, store: str, where: str | None = None) -> str:
    """The query that gives a metric's means by variant.

    Args:
        column: the metric's in SQL.
        experiment: its name.
        store: as the user names it.
        where: the report's predicate.
    """
    quoted = identifier(column)
    sql = (
        f"SELECT {_VARIANT}, count(*) AS seeds, avg({quoted}) AS mean, stddev({quoted}) AS sd, "  # noqa: S608 - to be typed
        f"min({quoted}) AS lowest, max({quoted}) AS highest FROM cells WHERE {_done(experiment, where)} "
        f"AND {quoted} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def query_of_array(name: str, experiment: str, store: str, where: str | None = None) -> str:
    """The query that gives an array of all cells of an experiment."""
    sql = (
        f"SELECT cell_id, {_VARIANT}, seed, step, stride, values FROM arrays JOIN cells USING (cell_id) "  # noqa: S608
        f"WHERE {_done(experiment, where)} AND name = {_literal(name)}"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def query_of_code(experiment: str, store: str, where: str | None = None) -> str:
    """The query that counts a variant's cells by the code that computed them."""
    sql = (
        f"SELECT {_VARIANT}, source_digest, count(*) AS cells, max(finished_at) AS last FROM cells "  # noqa: S608
        f"WHERE {_done(experiment, where)} GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def resume(store: str, where: str | None) -> str:
    """The command that runs the missing cells."""
    return f"raysweep resume{at_store(store)}" + (f" --where {_shell(where)}" if where else "")


_VARIANT = "workload, workload_version, method, k, config"
"""Columns that tell the rows of a table apart: `variants.KEYS` within an experiment."""


def _done(experiment: str, where: str | None) -> str:
    return f"experiment = {_literal(experiment)} AND status = 'done'" + (f" AND ({where})" if where else "")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shell(sql: str) -> str:
    """Text quoted for a shell: in double quotes, unless it has a `!`, which an interactive shell would expand."""
    return shlex.quote(sql) if "!" in sql else '"' + re.sub(r'(["$`\\])', r"\\\1", sql) + '"'
