"""Comparison tables: panels with methods in rows and one metric over seeds, beside the paper's numbers.

A table's module holds its specification, a `Comparison`, and its own notes. `build` does the rest:

- `measure` selects a panel's cells, and returns values and recoveries seed by seed.
- The frame consists of statistics over seeds (`analysis.statistics.summary`, `spread`) and of the paper's numbers
  (`tables.paper_columns`). The paper's numbers are in the same row as ours. In tables that show values by seed, they
  are in the row below.
- `tables.notes` adds notes on gaps and divergence, `tables.assembly` on settings and missing cells.

Recovery is Eq. 10 from two floors (0 %): traces with decay .95, the paper's floor, and decay 0, which keeps only the
immediate derivative (Eq. 5). The ceiling (100 %) is full RTRL, as in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.selection import Selected, select
from raysweep.analysis.paper.values import PAPER_SEEDS
from raysweep.analysis.statistics.recovery import drift_recovery, row_recovery
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.statistics.summary import averages
from raysweep.analysis.tables import notes, paper_columns
from raysweep.analysis.tables.assembly import assemble
from raysweep.analysis.tables.per_row import at_seeds, baseline, join, prefixed, rates, stacked
from raysweep.analysis.tables.spec import DRIFT, FLOOR, RECOVERIES, Comparison, Measured, Panel
from raysweep.analysis.tables.table import Column, Table, with_interval

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source


def build(spec: Comparison, source: Source) -> Table:
    """Build a comparison table from a store's cells.

    Raises:
        AmbiguousCells: a panel's cells differ in a setting that the panel leaves open. The message names the setting
            and a `--where` predicate that chooses one value.
    """
    measured = [measure(panel, source) for panel in spec.panels]
    paper = paper_columns.values(spec.paper)
    ours = pl.concat([_ours(part, spec.quantity) for part in measured], how="diagonal")
    papers = pl.concat([_papers(part.panel, paper, spec.quantity) for part in measured], how="diagonal")
    frame = _stacked(ours, papers) if spec.by_seed else _beside(ours, papers)
    own_notes = (
        notes.legend(spec, [papers]),
        *spec.notes,
        *(spec.remarks(measured) if spec.remarks else ()),
        *(note for part in measured for note in notes.of_panel(part, spec.panels)),
    )
    parts = [part.selected for part in measured]
    return assemble(spec.name, spec.title, _columns(spec, frame), frame, own_notes, parts)


def measure(panel: Panel, source: Source) -> Measured:
    """Compute a panel's values and recoveries. A seed without floor or ceiling has no recovery."""
    selected = select(source, panel)
    values = _values(selected, panel.metric)
    extra = {name: _values(selected, metric) for name, metric in panel.extra.items()}
    floors = [row.key for row in panel.rows if row.key in RECOVERIES] if panel.ceiling else []
    recovery = {floor: row_recovery(values, floor, panel.ceiling or "") for floor in floors}
    if panel.drift is not None:
        frozen, target = (extra[name] for name in panel.drift)
        keys = ("row", "experiment", "seed")
        both = values.join(frozen, on=keys, how="semi").join(target, on=keys, how="semi")
        recovery[DRIFT] = drift_recovery(both, frozen, target, on=keys, value="value")
    return Measured(selected=selected, values=values, recovery=recovery, extra=extra)


def _values(selected: Selected[Panel], metric: str) -> pl.DataFrame:
    panel, done = selected.selection, selected.done
    parts = [selected.values(metric)]
    for naive in panel.naive:
        name = naive.metric(metric)
        if not metric.startswith(f"{panel.quantity}_") or name not in done.columns:
            continue  # the metric has no baseline, or the cells are of a workload version without this baseline
        parts.append(baseline(done, naive.key, name))
    return pl.concat(parts)


def _ours(part: Measured, quantity: str) -> pl.DataFrame:
    """Compute one row per method or baseline: statistics over seeds, and values at the paper's seeds."""
    panel = part.panel
    hidden = panel.pinned.get("hidden")
    rows = pl.DataFrame(
        [
            *((row.key, row.label, hidden if row.method == "rtrl" else row.k) for row in panel.rows),
            *((naive.key, naive.label, None) for naive in panel.naive),
        ],
        schema={"row": pl.String, "label": pl.String, "k": pl.Int64},
        orient="row",
    ).with_columns(fraction_percent=100 * pl.col("k") / pl.lit(hidden, dtype=pl.Float64))
    names = {"n": "n", "absent": "without_value"}
    body = join(rows, prefixed(spread(part.values, ["row"], "value"), f"{quantity}_", names))
    body = join(body, prefixed(averages(part.values, geometric=panel.quantity == "mse"), f"{quantity}_"))
    body = join(body, at_seeds(part.values, "value", "seed_"))
    for floor, rated in part.recovery.items():
        body = join(body, rates(rated, (floor, panel.ceiling), RECOVERIES[floor]))
    for name, values in part.extra.items():
        body = join(body, prefixed(spread(values, ["row"], "value"), f"{name}_"))
    counts = [name for name in body.columns if name.endswith(("_n", "_absent"))]
    return body.with_columns(pl.col("n", "without_value", *counts).fill_null(0)).select(
        pl.lit(panel.label).alias("panel"),
        pl.col("row").map_elements(panel.name, return_dtype=pl.String),
        pl.exclude("row"),
    )


def _papers(panel: Panel, paper: pl.DataFrame, quantity: str) -> pl.DataFrame:
    """Return the paper's numbers for a panel, under our row names. Methods that the paper lacks have no row."""
    names = {panel.paper_name(row): (panel.name(row), row) for row in panel.labels}
    own = paper.filter(pl.col("row").is_in(list(names))).with_columns(
        pl.col("row").replace_strict({paper: row for paper, (_, row) in names.items()}, return_dtype=pl.String)
    )
    frame = paper_columns.summary(own, panel.quantity, quantity, FLOOR, panel.ceiling)
    return frame.with_columns(
        pl.lit(panel.label).alias("panel"), pl.col("row").map_elements(panel.name, return_dtype=pl.String)
    )


def _beside(ours: pl.DataFrame, papers: pl.DataFrame) -> pl.DataFrame:
    """Add the paper's numbers to our rows, as columns `paper_...`."""
    return join(ours, papers.drop("panel").rename(lambda name: name if name == "row" else f"paper_{name}"))


def _stacked(ours: pl.DataFrame, papers: pl.DataFrame) -> pl.DataFrame:
    """Insert the paper's row after each of our rows, with the k and `fraction_percent` of our row."""
    paper = join(papers, ours.select("row", "k", "fraction_percent")).with_columns(
        pl.lit("paper").alias("whose"), pl.lit("  paper").alias("label")
    )
    ours = ours.with_columns(pl.lit("ours").alias("whose"), recovery_printed_sd=pl.lit(None, dtype=pl.Float64))
    return stacked(ours, paper)


def _columns(spec: Comparison, frame: pl.DataFrame) -> tuple[Column, ...]:
    q, head = spec.quantity, spec.heading
    columns = [Column("", "label")]
    if len(spec.panels) > 1:
        columns.insert(0, Column("", "panel"))
    if spec.fraction:
        columns.append(Column("k / n\n%", "fraction_percent", "exact"))
    rated = any(panel.ceiling for panel in spec.panels)
    average = "geometric mean" if {panel.quantity for panel in spec.panels} == {"mse"} else "mean"
    if spec.by_seed:
        columns += [Column(str(seed), f"seed_{seed}", "three") for seed in PAPER_SEEDS]
        columns += [
            Column(f"{head}\nmean ± sd", f"{q}_mean", spec.digits, f"{q}_upper", f"{q}_sd", mark=f"{q}_mark"),
            Column("CV %", f"{q}_cv_percent", "percent", mark="cv_mark"),
        ]
        own = with_interval(f"{average}\nwith 95 %", q, spec.digits)
        recoveries = [
            replace(
                with_interval("recovery from\ndecay 0.95, %", "recovery"),
                upper="recovery_upper", sd="recovery_printed_sd", mark="recovery_mark",
            ),
            with_interval("recovery from\ndecay 0, %", "recovery_decay0"),
        ]  # fmt: skip
    else:
        if frame[f"paper_{q}_mean"].count():
            paper = Column(f"paper\n{head}", f"paper_{q}_mean", spec.digits, f"paper_{q}_upper", mark=f"paper_{q}_mark")
            columns.append(paper)
        own = with_interval(f"ours, {average}\nwith 95 %", q, spec.digits)
        printed = ("paper_recovery_upper", "paper_recovery_sd", "paper_recovery_mark")
        known = frame["paper_recovery_mean"].count() > 0
        recoveries = [
            *([Column("paper\nrecovery %", "paper_recovery_mean", "percent", *printed)] if known else []),
            with_interval("ours, from\ndecay 0.95, %", "recovery"),
            with_interval("ours, from\ndecay 0, %", "recovery_decay0"),
        ]
    return (*columns, own, Column("n", "n", "count"), *spec.extra, *(recoveries if rated else ()))
