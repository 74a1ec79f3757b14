"""What the tables of the vision transformer share: accuracies by seed, recovery from a floor, the paper's row below.

Recovery is that of Sec. 4.7 of arXiv 2603.15195, linear in the accuracy: 0 % with one head, 100 % dense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from raysweep.analysis.cells import notes as remarks
from raysweep.analysis.cells.cell_notes import origin_notes, say_missing
from raysweep.analysis.cells.launch_options import commands
from raysweep.analysis.cells.selection import Chosen, Row, choose
from raysweep.analysis.paper.values import paper_values
from raysweep.analysis.statistics.recovery import accuracy_recovery
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.tables.paper_columns import MARKS
from raysweep.analysis.tables.per_row import join, prefixed
from raysweep.analysis.tables.table import Column, Table

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source

CEILING = "dense_ref"
ON = ["experiment", "seed"]
NAIVE = {"ridge": "ridge on 8 x 8 pixels", "nearest_mean": "nearest class mean", "chance": "chance"}
"""Baselines that every cell records; the data's and not the method's."""
NAIVE_NOTE = (
    "Ridge: linear regression of the class on 8 x 8 pixels; nearest class mean: on all pixels. Both are sums over the "
    "same training images, so that the order of the tasks does not matter to them. Accuracy on the first classes falls "
    "with them too as more arrive, and counts as forgetting."
)


@dataclass(frozen=True)
class HeadsTable:
    """A table to be built.

    Args:
        name: its name in `TABLES`.
        title: one line.
        sweep: the sweep that has the cells.
        experiment: their experiment.
        rows: the methods.
        seeds: the paper's.
        floors: row of 0 % -> what its recovery is called in the frame.
        by_seed: what the seeds' columns show.
        metric: an accuracy.
        pinned: config values that the table is about.
        extra: name in the frame -> another metric.
        extra_columns: to show of them.
        floor_headings: of the recoveries' columns, in the order of `floors`.
        notes: what a reader must know.
        remarks: further notes that depend on the numbers: values and recoveries by floor.
    """

    name: str
    title: str
    sweep: str
    experiment: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    floors: Mapping[str, str]
    by_seed: Literal["accuracy", "recovery"]
    metric: str = "accuracy_average"
    pinned: Mapping[str, object] = field(default_factory=lambda: {"heads": 12, "head_dim": 16})
    extra: Mapping[str, str] = field(default_factory=dict)
    extra_columns: tuple[Column, ...] = ()
    floor_headings: tuple[str, ...] = ("recovery\n%",)
    notes: tuple[str, ...] = ()
    remarks: Callable[[pl.DataFrame, Mapping[str, pl.DataFrame]], Sequence[str]] | None = None


def recovery(values: pl.DataFrame, floor: str, ceiling: str = CEILING) -> pl.DataFrame:
    """Recovery of every row, on the seeds that have floor and ceiling with a value.

    Args:
        values: `row`, `experiment`, `seed`, `value`.
        floor: the row of 0 %.
        ceiling: the row of 100 %.
    """
    low, high = (values.filter((pl.col("row") == key) & pl.col("value").is_not_null()) for key in (floor, ceiling))
    rated = values
    for reference in (low, high):
        rated = rated.join(reference, on=ON, how="semi", maintain_order="left")
    return accuracy_recovery(rated, low, high, on=ON, value="value")


def build(spec: HeadsTable, source: Source) -> Table:
    """The table out of a store's cells.

    Raises:
        AmbiguousCells: cells of several settings fit; the message says how to choose by `--where`.
    """
    chosen = choose(source.cells, spec.rows, experiment=spec.experiment, pinned=spec.pinned, default_seeds=spec.seeds)
    values = _values(chosen, spec.metric)
    rated = {floor: recovery(values, floor) for floor in spec.floors}
    frame = _stacked(_ours(spec, chosen, values, rated), _theirs(spec))
    (command,) = commands([(spec.sweep, chosen.cells)], source.at)
    missing = say_missing(chosen, spec.rows, spec.sweep, source.at)
    return Table(
        name=spec.name,
        title=spec.title,
        columns=_columns(spec),
        frame=frame,
        notes=(
            f"Accuracy: {spec.metric}, mean ± sample sd over n seeds. Recovery: "
            "100 (accuracy - floor) / (dense_ref - floor) seed by seed, then mean ± sample sd; null where dense_ref is "
            "no better than the floor. " + remarks.standings([frame.select(mark="recovery_mark")]),
            *spec.notes,
            NAIVE_NOTE,
            *(spec.remarks(values, rated) if spec.remarks else ()),
            *_gaps(spec, rated),
            *origin_notes([(spec.sweep, chosen)]),
            *remarks.settings([("", chosen)]),
            *_other_seeds(spec, chosen, command),
            *([missing] if missing else []),
        ),
        sweeps=(spec.sweep,),
        command=command,
        missing=chosen.missing,
        cells=chosen.asked,
        settings=chosen.settings,
    )


def _values(chosen: Chosen, metric: str) -> pl.DataFrame:
    """Row, experiment, seed, value, methods and baselines; null where a run diverged."""
    parts = [chosen.values(metric).rename({metric: "value"})]
    for name in NAIVE:
        column = f"{name}_{metric}"
        if column in chosen.done.columns:
            known = pl.col(column).cast(pl.Float64).drop_nulls().first().alias("value")
            by_seed = chosen.done.group_by(ON, maintain_order=True).agg(known)
            parts.append(by_seed.select(pl.lit(name).alias("row"), *ON, "value"))
    return pl.concat(parts)


def _ours(spec: HeadsTable, chosen: Chosen, values: pl.DataFrame, rated: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    heads = int(str(spec.pinned["heads"]))
    rows = pl.DataFrame(
        [
            *((row.key, row.label, heads if row.k is None else row.k) for row in spec.rows),
            *((key, label, None) for key, label in NAIVE.items()),
        ],
        schema={"row": pl.String, "label": pl.String, "k": pl.Int64},
        orient="row",
    )
    body = join(rows, prefixed(spread(values, ["row"], "value"), "accuracy_", {"n": "n", "absent": "without_value"}))
    shown = values if spec.by_seed == "accuracy" else next(iter(rated.values())).rename({"recovery": "shown"})
    body = join(body, _at_seeds(shown, "value" if spec.by_seed == "accuracy" else "shown", spec.seeds))
    for floor, name in spec.floors.items():
        found = prefixed(spread(rated[floor], ["row"], "recovery"), f"{name}_")
        defined = pl.col("row").is_in([floor, CEILING])  # 0 and 100 on every seed: no spread to speak of
        body = join(body, found.with_columns(pl.when(~defined).then(f"{name}_sd").alias(f"{name}_sd")))
    for name, metric in spec.extra.items():
        other = _values(chosen, metric) if metric in chosen.done.columns else values.clear()
        body = join(body, prefixed(spread(other, ["row"], "value"), f"{name}_"))
    counts = [name for name in body.columns if name.endswith(("_n", "_absent"))]
    return body.with_columns(
        pl.col("n", "without_value", *counts).fill_null(0),
        pl.lit("ours").alias("whose"),
        pl.lit("").alias("recovery_mark"),
    )


def _theirs(spec: HeadsTable) -> pl.DataFrame:
    """The paper's rows, in the same columns."""
    known = paper_values(f"table{spec.name}").with_columns(
        mark=pl.col("standing").replace_strict(MARKS, return_dtype=pl.String)
    )
    rows = known.select("row").unique(maintain_order=True)
    by_seed = known.filter(pl.col("seed").is_not_null())
    over = known.filter(pl.col("seed").is_null())
    body = join(rows, _at_seeds(by_seed.filter(pl.col("quantity") == spec.by_seed), "value", spec.seeds))
    for quantity in ("accuracy", "recovery", "forgetting"):
        printed = over.filter(pl.col("quantity") == quantity)
        body = join(body, printed.select("row", pl.col("value").alias(f"{quantity}_mean")))
        if quantity == "recovery":
            body = join(body, printed.select("row", recovery_mark="mark"))
        seeds = spread(by_seed.filter(pl.col("quantity") == quantity), ["row"], "value")
        body = join(body, seeds.select("row", pl.col("sd").alias(f"{quantity}_sd")))
    counts = by_seed.filter(pl.col("quantity") == spec.by_seed).group_by("row").agg(n=pl.len().cast(pl.Int64))
    return join(body, counts).with_columns(
        pl.lit("paper").alias("whose"), pl.lit("  paper").alias("label"), recovery_n=pl.col("n")
    )


def _at_seeds(frame: pl.DataFrame, value: str, seeds: Sequence[int]) -> pl.DataFrame:
    return frame.group_by("row", maintain_order=True).agg(
        pl.col(value).filter(pl.col("seed") == seed).first().cast(pl.Float64).alias(f"seed_{seed}") for seed in seeds
    )


def _stacked(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """The paper's row below each of ours that it knows; `whose` tells them apart."""
    order = ours.select("row", _order=pl.int_range(pl.len()))
    both = pl.concat([ours, theirs], how="diagonal_relaxed").join(order, on="row", how="inner", maintain_order="left")
    return both.sort("_order", "whose", maintain_order=True).drop("_order")


def _columns(spec: HeadsTable) -> tuple[Column, ...]:
    shown: Literal["three", "percent"] = "three" if spec.by_seed == "accuracy" else "percent"
    return (
        Column("", "label"),
        Column("k", "k", "count"),
        *(Column(f"{spec.by_seed}\n{seed}", f"seed_{seed}", shown) for seed in spec.seeds),
        Column("accuracy\nmean ± sd", "accuracy_mean", "three", sd="accuracy_sd"),
        Column("n", "n", "count"),
        *(
            Column(
                heading, f"{name}_mean", "percent", sd=f"{name}_sd", count=f"{name}_n", total="n",
                mark="recovery_mark" if name == "recovery" else None,
            )
            for heading, name in zip(spec.floor_headings, spec.floors.values(), strict=True)
        ),
        *spec.extra_columns,
    )  # fmt: skip


def _gaps(spec: HeadsTable, rated: Mapping[str, pl.DataFrame]) -> list[str]:
    """Where the dense reference is no better than a floor, or not surely so, the recovery means nothing, or little."""
    labels = {row.key: row.label for row in spec.rows}
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
    """A note where the mean gap over seeds can't be told from none, as recoveries of hundreds of percent come of that.

    Args:
        floor: its label.
        gaps: accuracy of the dense reference less the floor's, a seed each.
    """
    from raysweep.analysis.statistics.inference import LEVEL, t_quantile

    mean, n = float(gaps.to_numpy().mean()), gaps.len()
    if n == 1:
        said = f"it is {mean:.3f} on the one seed"
    else:
        half = t_quantile(1 - LEVEL / 2, n - 1) * float(gaps.to_numpy().std(ddof=1)) / math.sqrt(n)
        if mean > half:
            return []
        said = f"{mean:.3f}, 95 % interval {mean - half:.3f} to {mean + half:.3f} over {n} seeds"
    return [
        f"Small gap: the accuracy of dense_ref less that of {floor} can't be told from 0 ({said}). Recovery divides by "
        "it seed by seed, so compare accuracies."
    ]


def _other_seeds(spec: HeadsTable, chosen: Chosen, command: str) -> list[str]:
    """Seeds with a column and without a cell, and seeds in the means without a column, which are the paper's."""
    if chosen.cells.is_empty():
        return []
    absent, more = (
        ", ".join(str(seed) for seed in seeds if seed not in others)
        for seeds, others in ((spec.seeds, chosen.seeds), (chosen.seeds, spec.seeds))
    )
    notes = [f"Of the paper's seeds, not launched here: {absent}. To run them: {command}"] if absent else []
    return [
        *notes,
        *([f"In the means, without a column of their own: seeds {more}."] if more else []),
    ]
