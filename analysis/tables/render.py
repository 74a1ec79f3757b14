"""A `Table` as text, Markdown, CSV or JSON: strings only, printing them is the caller's business."""

from __future__ import annotations

import io
import json
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from raysweep.analysis.tables.table import Column, Format, Table
from raysweep.workloads.registry import Registry

ABSENT = "–"
DIGITS: Mapping[Format, int] = {"mse": 2, "three": 3}
_NARROWEST_NOTE = 72


def to_text(table: Table, width: int | None = None) -> str:
    """Aligned columns, the notes below.

    Args:
        table: what to show.
        width: of the terminal; columns wrap to fit. None: as wide as the table needs.
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
    room = max(console.width, _NARROWEST_NOTE) if width is None else width
    notes = [textwrap.fill(note, room, break_long_words=False, break_on_hyphens=False) for note in table.notes]
    return "\n".join([*textwrap.wrap(f"Table {table.name}. {table.title}", room), "", *lines, "", *notes]) + "\n"


def to_markdown(table: Table) -> str:
    """A heading, a pipe table and the notes as a list."""
    head = [_cell(column.heading.replace("\n", " ")) for column in table.columns]
    rule = ["---" if column.format == "text" else "---:" for column in table.columns]
    body = [[_cell(shown(column, row)) for column in table.columns] for row in table.frame.to_dicts()]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]
    notes = [f"- {note}" for note in table.notes]
    sweeps = ", ".join(f"`{sweep}`" for sweep in table.sweeps)
    made = f"Made by `raysweep table {table.name}` out of {sweeps}."
    return "\n".join([f"### Table {table.name}. {table.title}", "", *lines, "", *notes, "", made]) + "\n"


def to_csv(table: Table) -> str:
    """The frame in full: unrounded, empty where unknown, without the notes."""
    return table.frame.write_csv()


def to_json(table: Table) -> str:
    """Everything, for programs: rows in full, notes, missing cells, settings."""
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
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


RENDERERS: Registry[Callable[[Table], str]] = Registry(
    "table format", {"text": to_text, "markdown": to_markdown, "csv": to_csv, "json": to_json}
)
"""Format -> `Table` to string."""


def shown(column: Column, row: Mapping[str, Any]) -> str:
    """One entry as a reader sees it: `0.0018 ± 0.0006`, `78–84*`, `138 ± 47 (3 of 5)`, or "–"."""
    number = row[column.value]
    if number is None:
        text = ABSENT
    else:
        sd = None if column.sd is None else row[column.sd]
        places = None if sd is None or column.format not in DIGITS else _places(number, DIGITS[column.format])
        text = _number(number, column.format, places)
        if column.upper is not None and row[column.upper] is not None:
            text += f"–{_number(row[column.upper], column.format)}"
        if sd is not None:
            text += f" ± {_number(sd, column.format, places)}"
        if column.mark is not None and row[column.mark]:
            text += row[column.mark]
    if number is not None and column.count is not None and column.total is not None:
        count, total = row[column.count], row[column.total]
        if count is not None and total is not None and count < total:
            text += f" ({count} of {total})"
    return text


def _places(value: float, digits: int) -> int | None:
    """Decimal places of so many digits, for a number and its sd alike; None where a power of ten reads better."""
    if not 1e-4 <= abs(value) < 100:
        return None
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
