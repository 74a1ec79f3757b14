"""A table: numbers in full in a frame, and columns, each of which shows one or several of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

Format = Literal["text", "count", "mse", "three", "percent", "exact"]


@dataclass(frozen=True)
class Column:
    """One shown column; every name is a column of the table's frame.

    Args:
        heading: a line break keeps a column narrow in text.
        value: the number or text itself; shown as "–" where null.
        format: of numbers: "mse" to two digits, "three" to three, "exact" to four, "percent"
            to whole ones.
        upper: upper end, where the value is the lower end of a range.
        sd: shown after "±" where there is one; of "mse" and "three" to the last place of the value.
        mark: text behind the number, a footnote's sign.
        count: seeds that the number is over, shown as "(count of total)" where it is below `total`.
        total: seeds in all.
    """

    heading: str
    value: str
    format: Format = "text"
    upper: str | None = None
    sd: str | None = None
    mark: str | None = None
    count: str | None = None
    total: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The frame's columns that it shows."""
        parts = (self.value, self.upper, self.sd, self.mark, self.count, self.total)
        return tuple(part for part in parts if part is not None)


def over_seeds(heading: str, name: str, *, upper: str | None = None, mark: str | None = None) -> Column:
    """A mean over seeds in percent, ± its sd, with the number of seeds where some of the row's have no value."""
    return Column(heading, f"{name}_mean", "percent", upper, f"{name}_sd", mark, f"{name}_n", "n")


@dataclass(frozen=True)
class Table:
    """A table of the analysis.

    Args:
        name: its name in `TABLES`.
        title: one line.
        columns: the shown columns, in order.
        frame: the numbers in full, one row a row of the table; CSV and JSON give all of it.
        notes: what a reader must know, a sentence or two each.
        sweeps: the sweeps whose cells it is made of.
        command: the command that runs the missing cells.
        missing: cells that are expected and not done: `row`, `seed`, `status` ("not launched" where unknown).
        cells: how many cells are expected.
        settings: config values that all its cells share.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    frame: pl.DataFrame
    notes: tuple[str, ...]
    sweeps: tuple[str, ...]
    command: str
    missing: pl.DataFrame
    cells: int
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = {name for column in self.columns for name in column.names} - set(self.frame.columns)
        if unknown:
            raise ValueError(f"table {self.name}: its frame has no column {', '.join(sorted(unknown))}")
        if self.missing.columns != ["row", "seed", "status"]:
            raise ValueError(f"table {self.name}: missing must have the columns row, seed, status")

    @property
    def complete(self) -> bool:
        """Whether every expected cell is done."""
        return self.missing.is_empty()

    @property
    def lack(self) -> str | None:
        """The message where no cell is done, so that there is nothing to show; else None."""
        if self.missing.height < self.cells:
            return None
        return f"table {self.name} has nothing to show, as none of its {self.cells} cells is done; run: {self.command}"
