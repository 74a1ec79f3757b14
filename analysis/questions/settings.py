"""Settings of a store, the cells that a predicate selects, and their outcomes in one metric.

A setting is a combination of experiment, workload, version, method, k and config. Its cells differ only in the seed.
An outcome is a number, lower being better. It is infinite for a cell that failed, and for a done cell without a value
of the metric, such as a diverged one. A cell that has not ended, or was lost with its node, has no outcome.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.settings import SettingTable, by_setting, matches
from raysweep.orchestrator.query.sql import cells_frame
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.grammar.question import Setting, label
from raysweep.workloads.registry import unknown_name

FAILED = ("failed", "timed_out", "out_of_memory", "crashed")
"""Statuses of cells that failed by their own fault. Such a failure counts as the cell's outcome."""
BETTER = ("lower", "higher")


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a setting in one metric.

    Args:
        values: seed -> outcome; lower is better.
        failed: seeds of the cells that failed.
        diverged: seeds of the done cells without a value of the metric.
        pending: seeds of the cells without an outcome.
        ended: seed -> when its cell ended, in seconds since 1970.
        request_places: seed -> the place of its cell in the order of requests (`order.in_request_order`), if known.
    """

    values: Mapping[int, float]
    failed: frozenset[int]
    diverged: frozenset[int]
    pending: frozenset[int]
    ended: Mapping[int, float]
    request_places: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cells:
    """Cells of a store, grouped by setting.

    `rows` maps the index of a setting to a frame with one row per cell, which has the cell's status and metrics.
    """

    by_setting: SettingTable
    rows: Mapping[int, pl.DataFrame]

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings of all cells."""
        return self.by_setting.settings

    @functools.cached_property
    def metrics(self) -> frozenset[str]:
        """The names of all metrics that done cells have."""
        return metrics_of(self.rows.values())

    def outcomes(self, setting: int, metric: str, better: str) -> Outcomes:
        """Return the outcomes of a setting in a metric; `setting` is its index.

        Raises:
            InputError: the metric does not exist (see `outcomes_of`).
        """
        shown = label(self.settings[setting], self.settings)
        return outcomes_of(self.rows[setting], metric, better, shown, self.metrics)


def metrics_of(frames: Iterable[pl.DataFrame]) -> frozenset[str]:
    """Return the names of all metrics that done cells have."""
    lists = [rows.filter(pl.col("status") == "done")["metrics"].to_list() for rows in frames]
    return frozenset(entry["name"] for metrics in lists for entries in metrics for entry in entries or ())


def outcomes_of(cells: pl.DataFrame, metric: str, better: str, name: str, existing: Collection[str]) -> Outcomes:
    """Return the outcomes of the cells of one setting.

    Args:
        cells: columns seed, status, metrics, finished_at; and request_places, if the order of requests is known.
        metric: the metric's name.
        better: "lower" or "higher".
        name: the setting's name in messages.
        existing: all metrics of the store.

    Raises:
        InputError: the store has metrics, but not this one; or the setting has a done cell that did not diverge, but
            no cell with this metric.
    """
    if existing and metric not in existing:
        raise InputError(unknown_name("metric", metric, sorted(existing)))
    values: dict[int, float] = {}
    failed: set[int] = set()
    diverged: set[int] = set()
    pending: set[int] = set()
    recorded: set[str] = set()
    unexplained = False  # whether a done cell has neither a value nor `diverged`
    ended: dict[int, float] = {}
    for seed, status, metrics, finished in cells.select("seed", "status", "metrics", "finished_at").iter_rows():
        named = {entry["name"]: entry["value"] for entry in metrics or ()}
        recorded |= named.keys()
        value = named.get(metric)
        if status == "done" and value is not None:
            values[seed] = value if better == "lower" else -value
        elif status == "done":
            values[seed] = np.inf
            diverged.add(seed)
            unexplained |= not named.get("diverged")
        elif status in FAILED:
            values[seed] = np.inf
            failed.add(seed)
        else:
            pending.add(seed)
            continue
        ended[seed] = finished.timestamp() if finished is not None else 0.0
    if unexplained and metric not in recorded:
        raise InputError(f"{name}: {unknown_name('metric', metric, sorted(recorded))}")
    request_places = (
        dict(cells.select("seed", "request_places").iter_rows()) if "request_places" in cells.columns else {}
    )
    return Outcomes(values, frozenset(failed), frozenset(diverged), frozenset(pending), ended, request_places)


def read(store: Store, where: str | None = None) -> Cells:
    """Read the cells of a store that match the SQL predicate; all cells without a predicate.

    Raises:
        InputError: there is no store, or no cell matches.
    """
    table = store.require().known()
    if where is not None:
        table = table.keep(matches(table, where, by_setting(table).existing()))
    if not len(table):
        raise InputError(f"store {store.storage}: no cells; launch a sweep first")
    return of_table(store, table)


def of_table(store: Store, table: CellTable) -> Cells:
    """Group the cells of a table by setting, and add their statuses and metrics from the store."""
    numbered = by_setting(table)
    recorded = cells_frame(store, _COLUMNS).select("cell_id", "status", "metrics", "finished_at")
    frame = numbered.cells.join(recorded, on="cell_id", how="left", maintain_order="left")
    groups = frame.partition_by("setting", as_dict=True, maintain_order=True)
    return Cells(numbered, {setting: rows for (setting,), rows in groups.items()})


_COLUMNS = "SELECT cell_id, status, metrics, finished_at FROM cells"


def paired(outcomes: Sequence[Outcomes]) -> list[int]:
    """List the seeds at which all settings have an outcome, in the order in which the last cell of each seed ended."""
    seeds = set.intersection(*(set(entry.values) for entry in outcomes)) if outcomes else set()
    return sorted(seeds, key=lambda seed: (max(entry.ended[seed] for entry in outcomes), seed))


def check_better(better: str) -> None:
    """Raise InputError unless `better` is "lower" or "higher"."""
    if better not in BETTER:
        raise InputError(f"better: {unknown_name('direction', better, BETTER)}")
