"""Rendering of a `Table` as text, Markdown, CSV or JSON. The functions return strings."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from raysweep.analysis.rendering import ABSENT, decimals, markdown_table, wrapped
from raysweep.analysis.rendering import to_json as as_json
from raysweep.analysis.tables.table import Column, Format, Table
from raysweep.workloads.registry import Registry

DIGITS: Mapping[Format, int] = {"mse": 2, "three": 3}
_MIN_NOTE = 72


def to_text(table: Table, width: int | None = None) -> str:
    """Render a table as text with aligned columns, and its notes below.

    Args:
        table: the table.
        width: the terminal's width, to which columns are wrapped; None: as wide as the table needs.
    """
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns:
        grid.add_column(Text(column.heading), justify="left" if column.format == "text" else "right")
    for row in table.frame.to_dicts():
        grid.add_row(*(Text(shown(column, row)) for column in table.columns))
    buffer = io.StringIO()
    console = Console(file=buffer, width=10_000, color_system=None, force_terminal=False, legacy_windows=False)
    natural = Measurement.get(console, console.options, grid).maximum
    console.width = natural if width is None else min(width, natural)
    console.print(grid)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    room = max(console.width, _MIN_NOTE) if width is None else width
    notes = [wrapped(note, room) for note in table.notes]
    return "\n".join([*textwrap.wrap(f"Table {table.name}. {table.title}", room), "", *lines, "", *notes]) + "\n"


def to_markdown(table: Table) -> str:
    """Render a table as Markdown: a heading, a pipe table, and the notes as a list."""
    cells = markdown_table(
        [column.heading for column in table.columns],
        [[shown(column, row) for column in table.columns] for row in table.frame.to_dicts()],
        [column.format != "text" for column in table.columns],
    )
    notes = [f"- {note}" for note in table.notes]
    sweeps = ", ".join(f"`{sweep}`" for sweep in table.sweeps)
    origin = f"Made by `raysweep table {table.name}` out of {sweeps}."
    return "\n".join([f"### Table {table.name}. {table.title}", "", cells, "", *notes, "", origin]) + "\n"


def to_csv(table: Table) -> str:
    """Render the whole frame of a table as CSV, unrounded and without the notes. Null is an empty field."""
    return table.frame.write_csv()


def to_json(table: Table) -> str:
    """Render a whole table as JSON, for programs: unrounded rows, notes, missing cells, settings."""
    document: dict[str, Any] = {
        "name": table.name,
        "title": table.title,
        "sweeps": list(table.sweeps),
        "command": table.command,
        "complete": table.complete,
        "cells": table.cells,
        "missing": table.missing.to_dicts(),
        "settings": dict(table.settings),
        "rows": table.frame.to_dicts(),
        "notes": list(table.notes),
    }
    return as_json(document)


RENDERERS: Registry[Callable[[Table], str]] = Registry(
    "table format", {"text": to_text, "markdown": to_markdown, "csv": to_csv, "json": to_json}
)
"""Format -> function that renders a `Table`."""


def shown(column: Column, row: Mapping[str, Any]) -> str:
    """Format one field of a table: `0.0018 ± 0.0006`, `78–84*`, `74 [70, 78]`, `138 ± 47 (3 of 5)`, or "–"."""
    number = row[column.value]
    if number is None:
        text = ABSENT
    else:
        sd = None if column.sd is None else row[column.sd]
        aligned = sd is not None and column.format in DIGITS and 1e-4 <= abs(number) < 100
        places = decimals(number, DIGITS[column.format]) if aligned else None  # otherwise scientific notation
        text = _number(number, column.format, places)
        if column.upper is not None and row[column.upper] is not None:
            text += f"–{_number(row[column.upper], column.format)}"
        if sd is not None:
            text += f" ± {_number(sd, column.format, places)}"
        if column.low is not None and column.high is not None and row[column.low] is not None:
            text += f" [{_number(row[column.low], column.format)}, {_number(row[column.high], column.format)}]"
        if column.mark is not None and row[column.mark]:
            text += row[column.mark]
    if number is not None and column.count is not None and column.total is not None:
        count, total = row[column.count], row[column.total]
        if count is not None and total is not None and count < total:
            text += f" ({count} of {total})"
    return text


def _number(value: Any, form: Format, places: int | None = None) -> str:
    if places is not None:
        return f"{value:.{places}f}" if value else "0"
    if form in DIGITS:
        return f"{value:.{DIGITS[form]}g}"
    if form == "percent":
        return f"{value:z.0f}"
    if form == "exact":
        return f"{value:.4g}"
    return str(value)
