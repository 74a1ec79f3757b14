"""Numbers, times and commands as a reader sees them, in the page and in Markdown alike."""

from __future__ import annotations

import re
import shlex
from datetime import datetime

from raysweep.orchestrator.cli.output import at_store
from raysweep.orchestrator.query.hints import identifier

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


def query_of_metric(column: str, experiment: str, store: str, where: str | None = None) -> str:
    """The query that gives a metric's means by setting.

    Args:
        column: of the metric in SQL.
        experiment: its name.
        store: as the user names it.
        where: the predicate that the report was made with.
    """
    quoted = identifier(column)
    sql = (
        f"SELECT {_SETTING}, count(*) AS seeds, avg({quoted}) AS mean, stddev({quoted}) AS sd, "  # noqa: S608 - to be typed
        f"min({quoted}) AS lowest, max({quoted}) AS highest FROM cells WHERE {_done(experiment, where)} "
        f"AND {quoted} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def query_of_array(name: str, experiment: str, store: str, where: str | None = None) -> str:
    """The query that gives an array of all cells of an experiment."""
    sql = (
        f"SELECT cell_id, {_SETTING}, seed, step, stride, values FROM arrays JOIN cells USING (cell_id) "  # noqa: S608
        f"WHERE {_done(experiment, where)} AND name = {_literal(name)}"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def query_of_code(experiment: str, store: str, where: str | None = None) -> str:
    """The query that counts a setting's cells by the code that computed them."""
    sql = (
        f"SELECT {_SETTING}, source_digest, count(*) AS cells, max(finished_at) AS last FROM cells "  # noqa: S608
        f"WHERE {_done(experiment, where)} GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {_shell(sql)}"


def resume(store: str, where: str | None) -> str:
    """The command that runs what is missing."""
    return f"raysweep resume{at_store(store)}" + (f" --where {_shell(where)}" if where else "")


_SETTING = "workload, workload_version, method, k, config"
"""What tells the rows of a table apart (`settings.KEYS`, within an experiment)."""


def _done(experiment: str, where: str | None) -> str:
    return f"experiment = {_literal(experiment)} AND status = 'done'" + (f" AND ({where})" if where else "")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shell(sql: str) -> str:
    """Quoted for a shell: in double quotes, but where an interactive one would read a `!`."""
    return shlex.quote(sql) if "!" in sql else '"' + re.sub(r'(["$`\\])', r"\\\1", sql) + '"'
