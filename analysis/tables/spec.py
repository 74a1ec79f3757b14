"""The specification of a comparison table (baselines, panels, the table), and the measured values of a panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES
from raysweep.analysis.cells.selection import Selected, Selection
from raysweep.analysis.tables.table import Column, Format

FLOOR, FLOOR_DECAY0, CEILING = TRACES.key, DECAY_0.key, FULL.key
DRIFT = "drift"
RECOVERIES = {FLOOR: "recovery", FLOOR_DECAY0: "recovery_decay0", DRIFT: "recovery"}
"""Floor -> column name of the recovery from this floor. `DRIFT`: each rule's own frozen decoder, Eq. 12."""


@dataclass(frozen=True)
class Naive:
    """A naive baseline. The workload records it in every cell, but it depends only on the stream.

    Args:
        key: the baseline's row and the prefix of its metrics' names (`persistence_post_all`).
        label: the baseline's name for readers.
    """

    key: str
    label: str

    def metric(self, metric: str) -> str:
        """Return the name of the baseline's metric over the same steps as a method's metric."""
        return f"{self.key}_{metric.split('_', 1)[1]}"


NAIVE = (Naive("persistence", "persistence"), Naive("rls2", "RLS, 2 taps"))


@dataclass(frozen=True)
class Panel(Selection):
    """The cells of one experiment and setting, which a table compares with one another.

    Args:
        key: prefix of the panel's row names in frames; empty if the table has only one panel.
        naive: baselines, shown in rows below the methods.
        ceiling: the row of 100 % recovery; None: the panel has no recovery of Eq. 10.
        drift: the extra metrics that are the floor and the target of Eq. 12; None: the panel has no such recovery.
        extra: name in the frame -> further metric to summarise.
        paper: prefix of the row names in the paper's values; None: `key`.
    """

    key: str = ""
    naive: tuple[Naive, ...] = NAIVE
    ceiling: str | None = CEILING
    drift: tuple[str, str] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    paper: str | None = None

    def name(self, row: str) -> str:
        """Return a row's name in the table's frame."""
        return f"{self.key}/{row}" if self.key else row

    def paper_name(self, row: str) -> str:
        """Return a row's name in the paper's values."""
        prefix = self.key if self.paper is None else self.paper
        return f"{prefix}/{row}" if prefix else row

    @property
    def quantity(self) -> str:
        """The metric's name in the paper's values: `mse` or `accuracy`."""
        return self.metric.split("_", 1)[0]

    @property
    def labels(self) -> dict[str, str]:
        """The label of each row, baselines included."""
        return {row.key: row.label for row in self.rows} | {naive.key: naive.label for naive in self.naive}


@dataclass(frozen=True)
class Measured:
    """A panel's numbers, seed by seed.

    Args:
        selected: the panel's cells.
        values: `row`, `experiment`, `seed`, `value` of methods and baselines; `value` is null if the run diverged.
        recovery: floor -> frame like `values` with an added `recovery` in percent, on the seeds with floor and
            ceiling.
        extra: name of an extra metric -> its values, columns as `values`.
    """

    selected: Selected[Panel]
    values: pl.DataFrame
    recovery: Mapping[str, pl.DataFrame]
    extra: Mapping[str, pl.DataFrame]

    @property
    def panel(self) -> Panel:
        """The panel by which the cells were selected."""
        return self.selected.selection


@dataclass(frozen=True)
class Comparison:
    """The specification of a comparison table.

    Args:
        name: the table's name in `TABLES`.
        title: the title, one line.
        panels: the panels, from top to bottom.
        paper: name of the file with the paper's values (`"table04"`); None: the paper has no such table.
        notes: the table's own notes.
        remarks: makes further notes from the numbers.
        by_seed: True: there is one column per seed, and the paper's numbers are in a row below ours. False: the
            paper's numbers are in columns beside ours.
        fraction: whether to show k / n in percent.
        digits: the format of values: "mse" with two significant digits, "three" with three.
        extra: columns of the panels' extra metrics.
        quantity: the values' name in the frame and the heading.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    paper: str | None = None
    notes: tuple[str, ...] = ()
    remarks: Callable[[Sequence[Measured]], Sequence[str]] | None = None
    by_seed: bool = False
    fraction: bool = False
    digits: Format = "mse"
    extra: tuple[Column, ...] = ()
    quantity: str = "mse"

    @property
    def heading(self) -> str:
        """The name of the quantity in headings."""
        return self.quantity.upper() if self.quantity == "mse" else self.quantity


def per_panel(*remarks: Callable[[Measured], Sequence[str]]) -> Callable[[Sequence[Measured]], list[str]]:
    """Combine functions that make notes for one panel into one function for all panels, for use as `remarks`."""
    return lambda measured: [note for part in measured for remark in remarks for note in remark(part)]
