"""The report's tables as text: a head and rows, which page and Markdown write each in its way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from raysweep.analysis.report.formatting import ABSENT, number, time, whole, with_interval
from raysweep.orchestrator.text import printable

if TYPE_CHECKING:
    from raysweep.analysis.report.build import Report
    from raysweep.analysis.report.metrics import Metric
    from raysweep.analysis.tables.table import Table


class Head(NamedTuple):
    """Of a column; numbers stand at its right."""

    text: str
    number: bool


class Sheet(NamedTuple):
    """A table of text without control characters."""

    head: tuple[Head, ...]
    rows: tuple[tuple[str, ...], ...]


def completeness(report: Report) -> Sheet:
    """Cells by experiment."""
    return _sheet(
        ["experiment", "sweeps"],
        ["asked for", "done", "failed", "not run", "done, %"],
        (
            (row["experiment"], ", ".join(row["sweeps"]), whole(row["asked"]), whole(row["done"]), whole(row["failed"]),
             whole(row["pending"]), _percent(row["done"], row["asked"]))
            for row in report.completeness.to_dicts()
        ),
    )  # fmt: skip


def missing(report: Report) -> Sheet:
    """What lacks, by setting."""
    rows = report.missing.select("experiment", "label", "status", "seeds", "cells").rows()
    return _sheet(
        ["experiment", "setting", "status", "seeds"],
        ["cells"],
        ((experiment, label, status, seeds, whole(cells)) for experiment, label, status, seeds, cells in rows),
    )


def machines(report: Report) -> Sheet:
    """Hosts and devices."""
    return _sheet(
        ["host", "device", "first", "last"],
        ["Ray starts", "attempts", "cpu-hours", "gpu-hours"],
        (
            (row["host"], row["device"] or ABSENT, time(row["first"]), time(row["last"]), whole(row["starts"]),
             whole(row["attempts"]), number(row["cpu_hours"]), number(row["gpu_hours"]))
            for row in report.machines.to_dicts()
        ),
    )  # fmt: skip


def code(report: Report) -> Sheet:
    """Workloads, their versions and commits."""
    return _sheet(
        ["workload", "version", "commit", "uncommitted changes", "source"],
        ["cells"],
        (
            (row["workload"], row["workload_version"], (row["commit"] or ABSENT)[:12],
             "none" if row["changes"] is None and row["commit"] else (row["changes"] or ABSENT)[:12],
             row["source"] or ABSENT, whole(row["cells"]))
            for row in report.code.to_dicts()
        ),
    )  # fmt: skip


def packages(report: Report) -> Sheet:
    """Versions of Python and of packages that the cells ran with."""
    return _sheet(["package", "version"], ["cells"], ((n, v, whole(cells)) for n, v, cells in report.packages))


def metric(made: Metric, settings: pl.DataFrame, most: int) -> Sheet:
    """A metric by setting: mean, interval, sd, n."""
    frame = made.rows.head(most).join(settings.select("setting", "label"), on="setting", maintain_order="left")
    return _sheet(
        ["setting"],
        ["mean, 95 % interval", "sd", "lowest", "highest", "seeds"],
        (
            (row["label"], with_interval(row["mean"], row["low"], row["high"]), number(row["sd"]), number(row["least"]),
             number(row["most"]), str(row["n"]) if row["n"] == row["cells"] else f"{row['n']} of {row['cells']}")
            for row in frame.to_dicts()
        ),
    )  # fmt: skip


def of_analysis(table: Table) -> Sheet:
    """A table of the analysis."""
    from raysweep.analysis.tables.render import shown

    return Sheet(
        tuple(Head(printable(column.heading), column.format != "text") for column in table.columns),
        tuple(tuple(printable(shown(column, row)) for column in table.columns) for row in table.frame.to_dicts()),
    )


def _sheet(texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> Sheet:
    head = (*(Head(text, False) for text in texts), *(Head(text, True) for text in numbers))
    return Sheet(head, tuple(tuple(printable(cell) for cell in row) for row in rows))


def _percent(part: int, total: int) -> str:
    """Rounded down, so that only what is complete is 100."""
    return str(100 * part // total) if total else ABSENT
