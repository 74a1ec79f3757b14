"""Construction of a `Table` from its numbers and cells, with the notes that all tables have."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from raysweep.analysis.cells import notes as cell_notes
from raysweep.analysis.cells.selection import MISSING_SCHEMA, Selected
from raysweep.analysis.tables.spec import Panel
from raysweep.analysis.tables.table import Column, Table


def assemble(
    name: str,
    title: str,
    columns: tuple[Column, ...],
    frame: pl.DataFrame,
    notes: Sequence[str],
    parts: Sequence[Selected[Panel]],
    seed_notes: Sequence[str] = (),
) -> Table:
    """Build a table, and add notes on the cells' settings, on cells left out and on missing cells.

    Args:
        name: the table's name in `TABLES`.
        title: the title, one line.
        columns: the shown columns.
        frame: the unrounded numbers.
        notes: the table's own notes.
        parts: the selected cells of each panel.
        seed_notes: notes on seeds, placed before the note on missing cells.
    """
    missing = [
        part.missing.with_columns(pl.col("row").map_elements(part.selection.name, return_dtype=pl.String))
        for part in parts
    ]
    return Table(
        name=name,
        title=title,
        columns=columns,
        frame=frame,
        notes=(
            *notes,
            *cell_notes.origin_notes(parts),
            *cell_notes.settings_note(parts),
            *seed_notes,
            *cell_notes.missing_notes(parts),
        ),
        sweeps=tuple(dict.fromkeys(part.selection.sweep for part in parts)),
        command=cell_notes.command(parts),
        missing=pl.concat([pl.DataFrame(schema=MISSING_SCHEMA), *missing]),
        cells=sum(part.expected for part in parts),
        settings=cell_notes.shared_settings(parts),
    )
