"""A table: a frame of unrounded numbers, and the shown columns, which format columns of the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

Format = Literal["text", "count", "mse", "three", "percent", "exact"]


@dataclass(frozen=True)
class Column:
    """A shown column. All arguments but `heading` and `format` name columns of the table's frame.

    Args:
        heading: the heading; line breaks keep a column narrow in text.
        value: the number or text; null is shown as "–".
        format: the number format: "mse" with two significant digits, "three" with three, "exact" with four, "percent"
            without decimals.
        upper: the upper end of a range whose lower end is `value`.
        sd: the number after "±", unless null; for "mse" and "three" with as many decimals as the value.
        low: the lower end of an interval, shown as "[low, high]" unless null.
        high: its upper end.
        mark: text after the number, such as a footnote mark.
        count: number of seeds with a value; shown as "(count of total)" if below `total`.
        total: number of all seeds.
    """

    heading: str
    value: str
    format: Format = "text"
    upper: str | None = None
    sd: str | None = None
    low: str | None = None
    high: str | None = None
    mark: str | None = None
    count: str | None = None
    total: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the frame that this column shows."""
        parts = (self.value, self.upper, self.sd, self.low, self.high, self.mark, self.count, self.total)
        return tuple(part for part in parts if part is not None)


def with_interval(heading: str, name: str, form: Format = "percent") -> Column:
    """Build a column of an average over seeds with its 95 % interval."""
    return Column(heading, f"{name}_average", form, low=f"{name}_low", high=f"{name}_high")


@dataclass(frozen=True)
class Table:
    """A table of the paper with our numbers.

    Args:
        name: the table's name in `TABLES`.
        title: the title, one line.
        columns: the shown columns, in order.
        frame: the unrounded numbers, one row per row of the table; CSV and JSON contain all columns.
        notes: notes for readers, of one or two sentences.
        sweeps: the sweeps of the table's cells.
        command: the command that runs the missing cells.
        missing: expected cells that are not done: `row`, `seed`, `status` ("not launched" if not in the store).
        cells: the number of expected cells.
        settings: config values that all cells share.
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
        """The message for a table without any done cell; None if a cell is done."""
        if self.missing.height < self.cells:
            return None
        return f"table {self.name} is empty, as none of its {self.cells} cells is done; run: {self.command}"
