"""The report's part on the paper: claims, tables and figures. A store without cells of the paper has none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from raysweep.analysis.errors import NothingDone
from raysweep.analysis.tables.table import Table
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from raysweep.analysis.cells.source import Source

SVG_BYTES = 200_000
"""Maximum size of an SVG figure; a larger figure is included as PNG."""
ALL_BYTES = 1_700_000
"""Maximum size of all figures together. For a figure that does not fit, the page gives the command that draws it."""


class FigureFile(NamedTuple):
    """A drawn figure, as the bytes of an image file."""

    name: str
    caption: str
    kind: str
    """Media type, such as `image/svg+xml`."""
    data: bytes


class Paper(NamedTuple):
    """The report's part on the paper.

    Args:
        claims: one row per line of the claims, columns as `analysis.claims.SCHEMA`.
        tables: the paper's tables that have a done cell.
        figures: the paper's figures that have a done cell.
        lacking: for each other table and figure, why it is not included.
    """

    claims: pl.DataFrame
    tables: tuple[Table, ...]
    figures: tuple[FigureFile, ...]
    lacking: tuple[str, ...]


def paper_of(store: Store, keep: pl.Series | None, at: str = "") -> Paper | None:
    """Build the claims, tables and figures from a store. None if the cells allow neither a table nor a figure.

    Args:
        store: the store.
        keep: ids of the cells to use; None: all cells.
        at: the `--store` option for commands in messages.
    """
    from raysweep.analysis.cells.source import from_store
    from raysweep.analysis.claims import ledger

    source = from_store(store, keep, at)
    lacking: list[str] = []
    tables = _tables(source, lacking)
    figures = _figures(source, lacking)
    if not tables and not figures:
        return None
    return Paper(ledger(source), tables, figures, tuple(lacking))


def _tables(source: Source, lacking: list[str]) -> tuple[Table, ...]:
    from raysweep.analysis.tables import TABLES

    tables = []
    for name, build in TABLES.items():
        try:
            table = build(source)
        except InputError as error:
            lacking.append(f"table {name}: {error}")
            continue
        if table.lack is None:
            tables.append(table)
        else:
            lacking.append(table.lack)
    return tuple(tables)


def _figures(source: Source, lacking: list[str]) -> tuple[FigureFile, ...]:
    from raysweep.analysis.figures import CAPTIONS, FIGURES

    figures: list[FigureFile] = []
    left = ALL_BYTES
    for name, draw in FIGURES.items():
        try:
            figure = _encoded(source, draw)
            caption = CAPTIONS[name](source)
        except (InputError, NothingDone) as error:
            lacking.append(f"figure {name}: {error}")
            continue
        if len(figure[1]) > left:
            lacking.append(f"figure {name}: left out to limit the page's size; run: raysweep figure {name}{source.at}")
            continue
        left -= len(figure[1])
        figures.append(FigureFile(name, caption, *figure))
    return tuple(figures)


def _encoded(source: Source, draw: Callable[[Source], Figure]) -> tuple[str, bytes]:
    from raysweep.analysis.figures import save

    figure = draw(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figure.svg")
        save(figure, path)
        if path.stat().st_size <= SVG_BYTES:
            return "image/svg+xml", path.read_bytes()
        path = path.with_suffix(".png")
        save(figure, path)
        return "image/png", path.read_bytes()
