"""The report's tables as text (headings and rows), shared by the HTML page and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.report.formatting import number, time, whole, with_interval
from raysweep.orchestrator.text import printable

if TYPE_CHECKING:
    from raysweep.analysis.report.build import Report
    from raysweep.analysis.report.metrics import Metric
    from raysweep.analysis.report.text_metrics import TextMetric
    from raysweep.analysis.tables.table import Table


class Heading(NamedTuple):
    """The heading of a column. Columns of numbers are aligned right."""

    text: str
    number: bool


class TextTable(NamedTuple):
    """A table whose fields are text without control characters."""

    head: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]


def completeness(report: Report) -> TextTable:
    """Build the table of cell counts by experiment."""
    return _text_table(
        ["experiment", "sweeps"],
        ["requested", "done", "failed", "not run", "done, %"],
        (
            (row["experiment"], ", ".join(row["sweeps"]), whole(row["requested"]), whole(row["done"]),
             whole(row["failed"]), whole(row["pending"]), _percent(row["done"], row["requested"]))
            for row in report.completeness.to_dicts()
        ),
    )  # fmt: skip


def missing(report: Report) -> TextTable:
    """Build the table of missing cells by variant."""
    rows = report.missing.select("experiment", "label", "status", "seeds", "cells").rows()
    return _text_table(
        ["experiment", "variant", "status", "seeds"],
        ["cells"],
        ((experiment, label, status, seeds, whole(cells)) for experiment, label, status, seeds, cells in rows),
    )


def machines(report: Report) -> TextTable:
    """Build the table of hosts and devices."""
    return _text_table(
        ["host", "device", "first", "last"],
        ["Ray starts", "attempts", "cpu-hours", "gpu-hours"],
        (
            (row["host"], row["device"] or ABSENT, time(row["first"]), time(row["last"]), whole(row["starts"]),
             whole(row["attempts"]), number(row["cpu_hours"]), number(row["gpu_hours"]))
            for row in report.machines.to_dicts()
        ),
    )  # fmt: skip


def code(report: Report) -> TextTable:
    """Build the table of workloads with their versions and commits."""
    return _text_table(
        ["workload", "version", "commit", "uncommitted changes", "source"],
        ["cells"],
        (
            (row["workload"], row["workload_version"], (row["commit"] or ABSENT)[:12],
             "none" if row["changes"] is None and row["commit"] else (row["changes"] or ABSENT)[:12],
             row["source"] or ABSENT, whole(row["cells"]))
            for row in report.code.to_dicts()
        ),
    )  # fmt: skip


def packages(report: Report) -> TextTable:
    """Build the table of Python and package versions that the cells used."""
    return _text_table(["package", "version"], ["cells"], ((n, v, whole(cells)) for n, v, cells in report.packages))


def metric(metric: Metric, variants: pl.DataFrame, most: int) -> TextTable:
    """Build the table of a metric by variant: mean, interval, sd, range and number of seeds."""
    frame = metric.rows.head(most).join(variants.select("variant", "label"), on="variant", maintain_order="left")
    return _text_table(
        ["variant"],
        ["mean, 95 % interval", "sd", "lowest", "highest", "seeds"],
        (
            (row["label"], with_interval(row["mean"], row["low"], row["high"]), number(row["sd"]), number(row["least"]),
             number(row["most"]), str(row["n"]) if row["n"] == row["cells"] else f"{row['n']} of {row['cells']}")
            for row in frame.to_dicts()
        ),
    )  # fmt: skip


def text_metric(metric: TextMetric, variants: pl.DataFrame, most: int) -> TextTable:
    """Build the table of a text metric by variant: the values with how often each occurs, and the number of seeds."""
    frame = metric.rows.head(most).join(variants.select("variant", "label"), on="variant", maintain_order="left")
    return _text_table(
        ["variant", "values, with numbers of seeds"],
        ["seeds"],
        (
            (label, values, str(n) if n == cells else f"{n} of {cells}")
            for label, values, n, cells in frame.select("label", "values", "n", "cells").iter_rows()
        ),
    )


def of_table(table: Table) -> TextTable:
    """Convert a table of the paper to text."""
    from raysweep.analysis.tables.render import shown

    return TextTable(
        tuple(Heading(printable(column.heading), column.format != "text") for column in table.columns),
        tuple(tuple(printable(shown(column, row)) for column in table.columns) for row in table.frame.to_dicts()),
    )


def _text_table(texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> TextTable:
    head = (*(Heading(text, False) for text in texts), *(Heading(text, True) for text in numbers))
    return TextTable(head, tuple(tuple(printable(cell) for cell in row) for row in rows))


def _percent(part: int, total: int) -> str:
    """Format a percentage, rounded down so that only a complete experiment has 100."""
    return str(100 * part // total) if total else ABSENT
