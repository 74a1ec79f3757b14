"""The SQL of the page's tables. It runs both in DuckDB (`raysweep query`) and in the page's own SQLite.

Both know `stddev`, which the page adds to SQLite. Rows are sorted explicitly, because the two place nulls differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysweep.orchestrator.query.hints import identifier, literal
from raysweep.orchestrator.text import at_store, shell_quoted


class Query(NamedTuple):
    """A query of the page's own rows, the same of the store, and the latter as a command for a shell.

    The store's has the report's predicate; the page needs none, because it holds only the selected cells.
    """

    sql: str
    in_store: str
    command: str


class Queries:
    """Builds the queries of a report.

    Args:
        store: the store's name in commands.
        where: the report's predicate, or None.
    """

    def __init__(self, store: str, where: str | None = None) -> None:
        self._store = store
        self._where = where

    def best(
        self, column: str, experiment: str, keys: Sequence[str], better: str, versions: Sequence[tuple[str, str]]
    ) -> Query:
        """Query the metric's mean, sd, range and seeds by variant, best first.

        Args:
            column: the metric's SQL column.
            experiment: the experiment's name.
            keys: the SQL columns that tell variants apart.
            better: "lower" or "higher".
            versions: pairs of workload and version to which the cells are limited; empty: no limit.
        """
        order = f"{len(keys) + 1}{'' if better == 'lower' else ' DESC'}"
        texts = [f"workload = {literal(name)} AND workload_version = {literal(version)}" for name, version in versions]
        return self._of_metric(column, experiment, keys, order, f" AND ({' OR '.join(texts)})" if texts else "")

    def metric(self, column: str, experiment: str, keys: Sequence[str]) -> Query:
        """Query the same, lowest mean first."""
        return self._of_metric(column, experiment, keys, str(len(keys) + 1))

    def _of_metric(self, column: str, experiment: str, keys: Sequence[str], order: str, more: str = "") -> Query:
        value = identifier(column)
        return self._grouped(
            keys,
            [f"avg({value}) AS mean", f"stddev({value}) AS sd", f"min({value}) AS lowest", f"max({value}) AS highest",
             f"count({value}) AS seeds"],
            f"experiment = {literal(experiment)} AND status = 'done' AND {value} IS NOT NULL{more}",
            order,
        )  # fmt: skip

    def text(self, column: str, experiment: str, keys: Sequence[str]) -> Query:
        """Count how often each value of a text metric occurs in each variant."""
        where = f"experiment = {literal(experiment)} AND status = 'done' AND {identifier(column)} IS NOT NULL"
        return self._grouped([*keys, column], ["count(*) AS seeds"], where)

    def code(self, experiment: str, keys: Sequence[str]) -> Query:
        """Count each variant's done cells by source digest."""
        where = f"experiment = {literal(experiment)} AND status = 'done'"
        return self._grouped([*keys, "source_digest"], ["count(*) AS cells"], where)

    def completeness(self) -> Query:
        """Count the cells of each experiment."""
        counts = [
            "count(*) AS requested",
            "count(CASE WHEN status = 'done' THEN 1 END) AS done",
            "count(CASE WHEN status NOT IN ('done', 'pending') THEN 1 END) AS failed",
            "count(CASE WHEN status = 'pending' THEN 1 END) AS not_run",
        ]
        return self._grouped(["experiment"], counts)

    def missing(self, keys: Sequence[str]) -> Query:
        """Count the missing cells by variant and status, most first."""
        columns = ["experiment", *keys, "status"]
        return self._grouped(columns, ["count(*) AS cells"], "status <> 'done'", f"{len(columns) + 1} DESC")

    def machines(self) -> Query:
        """Count attempts and hours by host and device, most first."""
        sums = [
            "count(DISTINCT node_id) AS ray_starts", "count(*) AS attempts", "sum(seconds * cpus) / 3600 AS cpu_hours",
            "sum(seconds * gpus) / 3600 AS gpu_hours",
        ]  # fmt: skip
        return self._grouped(["host", "device"], sums, "host IS NOT NULL", "4 DESC", table="attempts")

    def versions(self) -> Query:
        """Count the done cells by workload, version and code, most first."""
        columns = ["workload", "workload_version", "git_commit", "git_dirty", "source_digest"]
        return self._grouped(columns, ["count(*) AS cells"], "status = 'done'", f"{len(columns) + 1} DESC")

    def array(self, name: str, experiment: str) -> str:
        """Build the command that queries one array of an experiment's done cells. The page has no arrays."""
        sql = (
            "SELECT cell_id, method, k, config, seed, step, stride, values FROM arrays JOIN cells USING (cell_id) "  # noqa: S608
            f"WHERE experiment = {literal(experiment)} AND status = 'done' AND name = {literal(name)}{self._and()}"
        )
        return self._command(sql)

    def _grouped(
        self, keys: Sequence[str], sums: Sequence[str], where: str = "", order: str = "", table: str = "cells"
    ) -> Query:
        columns = ", ".join([*map(identifier, keys), *sums])
        numbers = [str(i + 1) for i in range(len(keys))]
        by = f"GROUP BY {', '.join(numbers)} ORDER BY " if numbers else ""
        rest = by + ", ".join([*([order] if order else []), *(f"{n} NULLS FIRST" for n in numbers)])
        select = f"SELECT {columns}"
        own = [f"WHERE {where}"] if where else []
        if self._where is None:
            whole = own
        elif table == "attempts":  # the predicate is about cells
            whole = [f"WHERE {where} AND cell_id IN (SELECT cell_id FROM cells WHERE {self._where})"]  # noqa: S608
        else:
            whole = [f"WHERE {where}{self._and()}" if where else f"WHERE ({self._where})"]
        return Query(
            "\n".join([select, f"FROM {table}", *own, rest]),
            "\n".join([select, f"FROM {table}", *whole, rest]),
            self._command(" ".join([select, f"FROM {table}", *whole, rest])),
        )

    def _and(self) -> str:
        return "" if self._where is None else f" AND ({self._where})"

    def _command(self, sql: str) -> str:
        return f"raysweep query{at_store(self._store)} {shell_quoted(sql)}"
