"""Formatting of numbers, times and commands, shared by the HTML page and Markdown."""

from __future__ import annotations

from datetime import datetime

from raysweep.analysis.rendering import ABSENT
from raysweep.orchestrator.query.hints import identifier, literal
from raysweep.orchestrator.text import at_store, shell_quoted


def number(value: float | None) -> str:
    """Format a number with four significant digits; a dash if it is absent."""
    return ABSENT if value is None else f"{value:.4g}"


def whole(value: int) -> str:
    """Format an integer with thousands separators, such as `12,345`."""
    return f"{value:,}"


def time(value: datetime) -> str:
    """Format a time to the minute, such as `2026-11-24 09:09 UTC`."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def with_interval(mean: float, low: float | None, high: float | None) -> str:
    """Format a mean with its interval, such as `0.12 [0.1, 0.14]`; the mean alone if an end is absent."""
    return number(mean) if low is None or high is None else f"{number(mean)} [{number(low)}, {number(high)}]"


def query_of_metric(column: str, experiment: str, store: str, where: str | None = None) -> str:
    """Build the command that queries a metric's mean, sd and range by variant.

    Args:
        column: the metric's SQL column.
        experiment: the experiment's name.
        store: the store's name in commands.
        where: the report's predicate, or None.
    """
    quoted = identifier(column)
    sql = (
        f"SELECT {_VARIANT}, count(*) AS seeds, avg({quoted}) AS mean, stddev({quoted}) AS sd, "  # noqa: S608 - printed only
        f"min({quoted}) AS lowest, max({quoted}) AS highest FROM cells WHERE {_done(experiment, where)} "
        f"AND {quoted} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {shell_quoted(sql)}"


def query_of_text(column: str, experiment: str, store: str, where: str | None = None) -> str:
    """Build the `raysweep query` command that counts how often each value of a text metric occurs in each variant."""
    quoted = identifier(column)
    sql = (
        f"SELECT {_VARIANT}, {quoted}, count(*) AS seeds FROM cells WHERE {_done(experiment, where)} "  # noqa: S608 - printed only
        f"AND {quoted} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {shell_quoted(sql)}"


def query_of_array(name: str, experiment: str, store: str, where: str | None = None) -> str:
    """Build the command that queries one array of an experiment's done cells."""
    sql = (
        f"SELECT cell_id, {_VARIANT}, seed, step, stride, values FROM arrays JOIN cells USING (cell_id) "  # noqa: S608
        f"WHERE {_done(experiment, where)} AND name = {literal(name)}"
    )
    return f"raysweep query{at_store(store)} {shell_quoted(sql)}"


def query_of_code(experiment: str, store: str, where: str | None = None) -> str:
    """Build the command that counts each variant's done cells by source digest."""
    sql = (
        f"SELECT {_VARIANT}, source_digest, count(*) AS cells, max(finished_at) AS last FROM cells "  # noqa: S608
        f"WHERE {_done(experiment, where)} GROUP BY ALL ORDER BY ALL"
    )
    return f"raysweep query{at_store(store)} {shell_quoted(sql)}"


def resume(store: str, where: str | None) -> str:
    """Build the command that runs the store's missing cells."""
    return f"raysweep resume{at_store(store)}" + (f" --where {shell_quoted(where)}" if where else "")


_VARIANT = "workload, workload_version, method, k, config"
"""Columns that identify a variant within an experiment: `variants.KEYS` without the experiment."""


def _done(experiment: str, where: str | None) -> str:
    return f"experiment = {literal(experiment)} AND status = 'done'" + (f" AND ({where})" if where else "")
