"""Tables of the vision transformer: accuracies by seed and recovery from a floor, with the paper's row below ours.

Recovery is that of the paper's Sec. 4.7, linear in the accuracy: 0 % with one head, 100 % dense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import polars as pl

from raysweep.analysis.cells.methods import DENSE
from raysweep.analysis.cells.notes import command
from raysweep.analysis.cells.selection import Selected, select
from raysweep.analysis.statistics.recovery import accuracy_recovery, row_recovery
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.tables import paper_columns
from raysweep.analysis.tables.assembly import assemble
from raysweep.analysis.tables.notes import standings
from raysweep.analysis.tables.per_row import at_seeds, baseline, join, prefixed, rates, stacked
from raysweep.analysis.tables.spec import Panel
from raysweep.analysis.tables.table import Column, Table, with_interval

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source

CEILING = DENSE.key
NAIVE = {"ridge": "ridge on 8 x 8 pixels", "nearest_mean": "nearest class mean", "chance": "chance"}
"""Baseline that every cell records -> its label. The baselines depend only on the data."""
NAIVE_NOTE = (
    "Ridge: linear regression of the class on 8 x 8 pixels; nearest class mean: on all pixels. Both are sums over the "
    "same training images, so that the order of the tasks does not matter to them. Accuracy on the first classes falls "
    "with them too as more arrive, and counts as forgetting."
)


@dataclass(frozen=True)
class HeadsTable:
    """The specification of a vision transformer's table.

    Args:
        name: the table's name in `TABLES`.
        title: the title, one line.
        panel: the selection of cells; its metric is an accuracy.
        floors: row that defines 0 % -> column of the frame with the recovery from this row.
        by_seed: the quantity in the columns of seeds.
        extra_columns: columns of the panel's extra metrics.
        floor_headings: headings of the recovery columns, in the order of `floors`.
        notes: the table's own notes.
        remarks: makes further notes from the values, and from the recoveries by floor.
    """

    name: str
    title: str
    panel: Panel
    floors: Mapping[str, str]
    by_seed: Literal["accuracy", "recovery"]
    extra_columns: tuple[Column, ...] = ()
    floor_headings: tuple[str, ...] = ("recovery\n%",)
    notes: tuple[str, ...] = ()
    remarks: Callable[[pl.DataFrame, Mapping[str, pl.DataFrame]], Sequence[str]] | None = None


def recovery(values: pl.DataFrame, floor: str) -> pl.DataFrame:
    """Compute each row's recovery from `floor` (0 %) to the dense reference, on the seeds where both have a value."""
    return row_recovery(values, floor, CEILING, accuracy_recovery, with_value=True)


def build(spec: HeadsTable, source: Source) -> Table:
    """Build a table of vision transformer results from a store's cells.

    Raises:
        AmbiguousCells: cells of several settings match. The message says how to choose by `--where`.
    """
    selected = select(source, spec.panel)
    values = _values(selected, spec.panel.metric)
    rated = {floor: recovery(values, floor) for floor in spec.floors}
    frame = stacked(_ours(spec, selected, values, rated), _papers(spec))
    notes = (
        f"Accuracy: {spec.panel.metric}, mean ± sample sd over n seeds. Recovery: "
        "100 (accuracy - floor) / (dense_ref - floor) as a ratio of means over seeds, with its 95 % interval; empty if "
        "dense_ref is no better than the floor on average. Paper: mean ± sample sd of its seeds. "
        + standings([frame.select(mark="recovery_mark")]),
        *spec.notes,
        NAIVE_NOTE,
        *(spec.remarks(values, rated) if spec.remarks else ()),
        *_gaps(spec, rated),
    )
    return assemble(spec.name, spec.title, _columns(spec), frame, notes, [selected], _other_seeds(selected))


def _values(selected: Selected[Panel], metric: str) -> pl.DataFrame:
    """Return values of methods and baselines; null if the run diverged. Columns: row, experiment, seed, value."""
    parts = [selected.values(metric)]
    for name in NAIVE:
        column = f"{name}_{metric}"
        if column in selected.done.columns:
            parts.append(baseline(selected.done, name, column))
    return pl.concat(parts)


def _ours(
    spec: HeadsTable, selected: Selected[Panel], values: pl.DataFrame, rated: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    panel = spec.panel
    heads = int(str(panel.pinned["heads"]))
    rows = pl.DataFrame(
        [
            *((row.key, row.label, heads if row.k is None else row.k) for row in panel.rows),
            *((key, label, None) for key, label in NAIVE.items()),
        ],
        schema={"row": pl.String, "label": pl.String, "k": pl.Int64},
        orient="row",
    )
    body = join(rows, prefixed(spread(values, ["row"], "value"), "accuracy_", {"n": "n", "absent": "without_value"}))
    by_seed = (values, "value") if spec.by_seed == "accuracy" else (next(iter(rated.values())), "recovery")
    body = join(body, at_seeds(*by_seed, "seed_", panel.seeds))
    for floor, name in spec.floors.items():
        body = join(body, rates(rated[floor], (floor, CEILING), name))
    for name, metric in panel.extra.items():
        other = _values(selected, metric) if metric in selected.done.columns else values.clear()
        body = join(body, prefixed(spread(other, ["row"], "value"), f"{name}_"))
    counts = [name for name in body.columns if name.endswith(("_n", "_absent"))]
    return body.with_columns(
        pl.col("n", "without_value", *counts).fill_null(0),
        pl.lit("ours").alias("whose"),
        pl.lit("").alias("recovery_mark"),
        recovery_printed_sd=pl.lit(None, dtype=pl.Float64),
    )


def _papers(spec: HeadsTable) -> pl.DataFrame:
    """Return the paper's rows, with the same column names as ours."""
    paper = paper_columns.values(f"table{spec.name}")
    rows = paper.select("row").unique(maintain_order=True)
    by_seed = paper.filter(pl.col("seed").is_not_null())
    over = paper.filter(pl.col("seed").is_null())
    printed_seeds = by_seed.filter(pl.col("quantity") == spec.by_seed)
    body = join(rows, at_seeds(printed_seeds, "value", "seed_", spec.panel.seeds))
    for quantity in ("accuracy", "recovery", "forgetting"):
        printed = over.filter(pl.col("quantity") == quantity)
        body = join(body, printed.select("row", pl.col("value").alias(f"{quantity}_mean")))
        if quantity == "recovery":
            body = join(body, printed.select("row", recovery_mark="mark"))
        seeds = spread(by_seed.filter(pl.col("quantity") == quantity), ["row"], "value")
        body = join(body, seeds.select("row", pl.col("sd").alias(f"{quantity}_sd")))
    counts = printed_seeds.group_by("row").agg(n=pl.len().cast(pl.Int64))
    return join(body, counts).with_columns(
        pl.lit("paper").alias("whose"),
        pl.lit("  paper").alias("label"),
        recovery_n=pl.col("n"),
        recovery_average=pl.col("recovery_mean"),
        recovery_printed_sd=pl.col("recovery_sd"),
    )


def _columns(spec: HeadsTable) -> tuple[Column, ...]:
    seed_format: Literal["three", "percent"] = "three" if spec.by_seed == "accuracy" else "percent"
    return (
        Column("", "label"),
        Column("k", "k", "count"),
        *(Column(f"{spec.by_seed}\n{seed}", f"seed_{seed}", seed_format) for seed in spec.panel.seeds),
        Column("accuracy\nmean ± sd", "accuracy_mean", "three", sd="accuracy_sd"),
        Column("n", "n", "count"),
        *(
            replace(with_interval(heading, name), sd="recovery_printed_sd", mark="recovery_mark")
            if name == "recovery"
            else with_interval(heading, name)
            for heading, name in zip(spec.floor_headings, spec.floors.values(), strict=True)
        ),
        *spec.extra_columns,
    )


def _gaps(spec: HeadsTable, rated: Mapping[str, pl.DataFrame]) -> list[str]:
    """Return notes on floors that leave little or nothing to recover.

    A note names a floor that the dense reference does not beat on some seeds, or not significantly on average.
    """
    labels = {row.key: row.label for row in spec.panel.rows}
    notes = []
    for floor, frame in rated.items():
        gaps = frame.filter(pl.col("row") == CEILING)["gap"].drop_nulls()
        closed = gaps.filter(gaps <= 0).len()
        if closed:
            notes.append(
                f"No gap to recover: dense_ref is no better than {labels[floor]} on {closed} of {gaps.len()} seeds, "
                + ("so there is no recovery from it." if closed == gaps.len() else "so recovery is over the others.")
            )
        if closed < gaps.len():
            notes += _unsure(labels[floor], gaps)
    return notes


def _unsure(floor: str, gaps: pl.Series) -> list[str]:
    """Return a note if the mean gap is not significantly above 0.

    A small gap causes recoveries of hundreds of percent.

    Args:
        floor: the floor's label.
        gaps: accuracy of the dense reference minus that of the floor, one entry per seed.
    """
    from raysweep.analysis.statistics.distributions import t_quantile
    from raysweep.analysis.statistics.inference import LEVEL  # loads NumPy

    mean, n = float(gaps.to_numpy().mean()), gaps.len()
    if n == 1:
        size = f"it is {mean:.3f} on the one seed"
    else:
        half = t_quantile(1 - LEVEL / 2, n - 1) * float(gaps.to_numpy().std(ddof=1)) / math.sqrt(n)
        if mean > half:
            return []
        size = f"{mean:.3f}, 95 % interval {mean - half:.3f} to {mean + half:.3f} over {n} seeds"
    return [
        f"Small gap: the accuracy of dense_ref less that of {floor} can't be told from 0 ({size}). Recovery divides by "
        "it seed by seed, so compare accuracies."
    ]


def _other_seeds(selected: Selected[Panel]) -> list[str]:
    """Note which of the paper's seeds have no cell, and which other seeds are in the means but have no column."""
    if selected.cells.is_empty():
        return []
    papers, ours = selected.selection.seeds, selected.seeds
    absent = ", ".join(str(seed) for seed in papers if seed not in ours)
    more = ", ".join(str(seed) for seed in ours if seed not in papers)
    return [
        *([f"Of the paper's seeds, not launched here: {absent}. To run them: {command([selected])}"] if absent else []),
        *([f"Included in the means, but not shown in a column: seeds {more}."] if more else []),
    ]
