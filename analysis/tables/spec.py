"""The specification of a comparison table (baselines, panels, the whole), and what is measured for a panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES
from raysweep.analysis.cells.selection import Selected, Selection
from raysweep.analysis.tables.table import Column, Format

FLOOR, FLOOR_DECAY0, CEILING = TRACES.key, DECAY_0.key, FULL.key
RECOVERIES = {FLOOR: "recovery", FLOOR_DECAY0: "recovery_decay0"}
"""Floor -> its recovery's name in frames."""


@dataclass(frozen=True)
class Naive:
    """A baseline that the workload records in every cell; a property of the stream and not of the method.

    Args:
        key: its row, and the prefix of its metrics' names (`persistence_post_all`).
        label: its name for readers.
    """

    key: str
    label: str

    def metric(self, metric: str) -> str:
        """The baseline's counterpart of a method's metric, over the same steps."""
        return f"{self.key}_{metric.split('_', 1)[1]}"


NAIVE = (Naive("persistence", "persistence"), Naive("rls2", "RLS, 2 taps"))


@dataclass(frozen=True)
class Panel(Selection):
    """One experiment at one setting: the cells that are compared with one another.

    Args:
        key: prefix of its rows' names in frames; empty in a table of one panel.
        naive: baselines below the methods.
        ceiling: the row of 100 % recovery; None: recovery means nothing here.
        extra: more metrics to summarise, name in the frame -> metric.
        paper: prefix of the paper's rows' names, where several panels face the same numbers; None: `key`.
    """

    key: str = ""
    naive: tuple[Naive, ...] = NAIVE
    ceiling: str | None = CEILING
    extra: Mapping[str, str] = field(default_factory=dict)
    paper: str | None = None

    def name(self, row: str) -> str:
        """A row's name in the table's frame."""
        return f"{self.key}/{row}" if self.key else row

    def paper_name(self, row: str) -> str:
        """A row's name among the paper's values."""
        prefix = self.key if self.paper is None else self.paper
        return f"{prefix}/{row}" if prefix else row

    @property
    def quantity(self) -> str:
        """The metric's name among the paper's values: `mse`, `accuracy`."""
        return self.metric.split("_", 1)[0]

    @property
    def labels(self) -> dict[str, str]:
        """Row -> label, baselines included."""
        return {row.key: row.label for row in self.rows} | {naive.key: naive.label for naive in self.naive}


@dataclass(frozen=True)
class Measured:
    """A panel's numbers, seed by seed.

    Args:
        selected: its cells.
        values: `row`, `experiment`, `seed`, `value`, methods and baselines; null where a run diverged.
        recovery: floor -> the values with `recovery` in percent, on the seeds that have floor and ceiling.
        extra: name -> as `values`, of another metric.
    """

    selected: Selected[Panel]
    values: pl.DataFrame
    recovery: Mapping[str, pl.DataFrame]
    extra: Mapping[str, pl.DataFrame]

    @property
    def panel(self) -> Panel:
        """The query of its cells."""
        return self.selected.selection


@dataclass(frozen=True)
class Comparison:
    """A table to be built.

    Args:
        name: its name in `TABLES`.
        title: one line.
        panels: one below the other.
        paper: the file of the paper's values (`"table04"`).
        notes: facts about the paper's numbers and the choice of metric.
        remarks: makes further notes from the numbers.
        by_seed: show the paper's seeds, with the paper's row below ours, instead of the paper's columns beside.
        fraction: show k / n.
        digits: the format of values: "mse" to two digits, "three" to three.
        extra: columns of the panels' extra metrics.
        quantity: the values' name in the frame and the heading.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    paper: str
    notes: tuple[str, ...] = ()
    remarks: Callable[[Sequence[Measured]], Sequence[str]] | None = None
    by_seed: bool = False
    fraction: bool = False
    digits: Format = "mse"
    extra: tuple[Column, ...] = ()
    quantity: str = "mse"

    @property
    def heading(self) -> str:
        """The quantity as a heading has it."""
        return self.quantity.upper() if self.quantity == "mse" else self.quantity


def per_panel(*remarks: Callable[[Measured], Sequence[str]]) -> Callable[[Sequence[Measured]], list[str]]:
    """The `remarks` of a table that are made panel by panel."""
    return lambda measured: [note for part in measured for remark in remarks for note in remark(part)]
