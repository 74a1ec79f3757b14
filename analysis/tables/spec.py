"""What a table of one shape is specified by, and what is measured for it: rows, panels, the whole comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from raysweep.analysis.cells.selection import Chosen, Row
from raysweep.analysis.tables.table import Column, Format

FLOOR, FLOOR_DECAY0, CEILING = "traces_decay095", "traces_decay0", "full"
RECOVERIES = {FLOOR: "recovery", FLOOR_DECAY0: "recovery_decay0"}
"""Floor -> how its recovery is called in frames."""

TRACES = (
    Row(FLOOR, "k = 0, decay 0.95", "traces", 0, {"decay": 0.95}),
    Row(FLOOR_DECAY0, "k = 0, decay 0", "traces", 0, {"decay": 0.0}),
)
FULL = Row(CEILING, "full RTRL", "rtrl")
UORO = Row("uoro", "UORO", "uoro")


def sparse(k: int, label: str | None = None) -> Row:
    """Sparse RTRL with k sources a unit."""
    return Row(f"k{k}", label or f"k = {k}", "sparse_rtrl", k)


@dataclass(frozen=True)
class Naive:
    """A baseline that the workload records in every cell; the stream's and not the method's.

    Args:
        key: its row, and what its metrics' names begin with (`persistence_post_all`).
        label: as shown.
    """

    key: str
    label: str

    def metric(self, metric: str) -> str:
        """Its counterpart of a method's metric, over the same steps."""
        return f"{self.key}_{metric.split('_', 1)[1]}"


NAIVE = (Naive("persistence", "persistence"), Naive("rls2", "RLS, 2 taps"))


@dataclass(frozen=True)
class Panel:
    """One experiment at one setting: the cells that are compared with one another.

    Args:
        sweep: the sweep that has the cells.
        experiment: their experiment.
        metric: what is compared, `mse_post_all` for example.
        rows: the methods.
        pinned: config values that tell the panel's cells from others of the experiment.
        key: what its rows' names begin with in frames; empty in a table of one panel.
        label: as shown.
        naive: baselines shown below the methods.
        ceiling: the row of 100 % recovery; None: recovery means nothing here.
        extra: more metrics to summarise, name in the frame -> metric.
        paper: what the paper's rows' names begin with, where several panels face the same numbers.
    """

    sweep: str
    experiment: str
    metric: str
    rows: tuple[Row, ...]
    pinned: Mapping[str, object] = field(default_factory=dict)
    key: str = ""
    label: str = ""
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
        """What the paper's values call the metric: `mse`, `accuracy`."""
        return self.metric.split("_", 1)[0]

    @property
    def labels(self) -> dict[str, str]:
        """Row -> label, baselines included."""
        return {row.key: row.label for row in self.rows} | {naive.key: naive.label for naive in self.naive}


@dataclass(frozen=True)
class Measured:
    """A panel's numbers, seed by seed.

    Args:
        panel: what was asked for.
        chosen: its cells.
        values: `row`, `experiment`, `seed`, `value`, methods and baselines; null where a run diverged.
        recovery: floor -> those with `recovery` in percent, on the seeds that have floor and ceiling.
        extra: name -> as `values`, of another metric.
    """

    panel: Panel
    chosen: Chosen
    values: pl.DataFrame
    recovery: Mapping[str, pl.DataFrame]
    extra: Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Comparison:
    """A table to be built.

    Args:
        name: its name in `TABLES`.
        title: one line.
        panels: one below the other.
        paper: the file of the paper's values (`"table04"`).
        notes: what the table's reader must know about the paper's side and the choice of metric.
        remarks: further notes that depend on the numbers.
        by_seed: show the paper's seeds, with the paper's row below ours, instead of the paper's columns beside.
        fraction: show k / n.
        digits: how values are written: "mse" to two digits, "three" to three.
        extra: columns of the panels' extra metrics.
        quantity: what the values are called in the frame and the heading.
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
