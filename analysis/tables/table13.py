"""Table 13: singular values of the influence J, n x P, through training (arXiv 2603.15195, Sec. 5.1).

Condition number: sigma_1 / sigma_n. Effective rank: the smallest r for which the r largest sigma^2 sum to at least
95 % of the total.

Differences from the paper:

- The immediate influence I_t is added. Its rows are orthogonal, so it is near-isotropic by construction. The
  difference between J and I_t is the effect of the recurrence.
- The J of sparse RTRL itself is added for k = 0, 4 and 16. For k = 0, it is I_t. Networks of 256 units are trained
  with two learning rates. There are always five seeds.
- Collapsed seeds are listed. As in the paper they are not in the means. A note says that this selects seeds by their
  outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.methods import FULL, Row, sparse
from raysweep.analysis.cells.recorded import require_arrays
from raysweep.analysis.cells.selection import Selected, select
from raysweep.analysis.cells.source import entries
from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.statistics.spread import COLLAPSED, spread
from raysweep.analysis.tables import paper_columns
from raysweep.analysis.tables.assembly import assemble
from raysweep.analysis.tables.notes import standings
from raysweep.analysis.tables.per_row import join, prefixed, stacked
from raysweep.analysis.tables.spec import Panel
from raysweep.analysis.tables.table import Column, Table

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source

CONDITION, RANK = "condition", "effective_rank"
IMMEDIATE_CONDITION, IMMEDIATE_RANK = "immediate_condition", "immediate_effective_rank"
ARRAYS = (CONDITION, RANK, IMMEDIATE_CONDITION, IMMEDIATE_RANK)

_STATISTICS = {
    "condition_at_shift": (CONDITION, "shift"),
    "condition_at_end": (CONDITION, "end"),
    "immediate_at_shift": (IMMEDIATE_CONDITION, "shift"),
    "immediate_at_end": (IMMEDIATE_CONDITION, "end"),
    "rank_at_shift": (RANK, "shift"),
    "rank_at_end": (RANK, "end"),
    "immediate_rank_at_shift": (IMMEDIATE_RANK, "shift"),
}
"""Statistic -> array and the step at which it is read."""


def _panel(stream: str, hidden: int, rate: str | None, rows: tuple[Row, ...], metric: str) -> Panel:
    return Panel(
        sweep=f"paper/spectra-{stream}",
        experiment=f"spectra_{stream}",
        metric=metric,
        arrays=ARRAYS,
        rows=rows,
        pinned={"hidden": hidden} | ({} if rate is None else {"learning_rate": float(rate)}),
        key=f"{stream}{hidden}" + (f"_lr{rate}" if rate else ""),
        label=f"{'Lorenz' if stream == 'lorenz' else stream}, n = {hidden}" + (f", rate {rate}" if rate else ""),
        naive=(),
        ceiling=None,
    )


PANELS = (
    _panel("sine", 64, None, (FULL, sparse(0), sparse(4), sparse(16)), "mse_post_last_500"),
    _panel("sine", 128, None, (FULL,), "mse_post_last_500"),
    _panel("sine", 256, "3e-4", (FULL,), "mse_post_last_500"),
    _panel("sine", 256, "1e-3", (FULL,), "mse_post_last_500"),
    _panel("lorenz", 64, None, (FULL, sparse(4)), "mse_post_all"),
)


def _statistic(heading: str, name: str) -> Column:
    return Column(heading, f"{name}_mean", "three", sd=f"{name}_sd", count="kept", total="n")


COLUMNS = (
    Column("", "panel"),
    Column("", "label"),
    _statistic("condition\nat the shift", "condition_at_shift"),
    _statistic("condition\nat the end", "condition_at_end"),
    Column("condition\nthrough training", "condition_lowest", "three", upper="condition_highest"),
    Column("rank 95 %\nat the shift", "rank_at_shift_mean", "percent"),
    _statistic("immediate alone:\ncondition at the shift", "immediate_at_shift"),
    Column("its\nrank", "immediate_rank_at_shift_mean", "percent"),
    Column("n", "n", "count"),
    Column("collapsed\nseeds", "collapsed"),
)


@dataclass(frozen=True)
class Spectra:
    """A panel's cells, and statistics of the singular values of each cell's influence.

    Args:
        selected: the panel's cells.
        cells: one row per cell: `row`, `seed`, `value` (the panel's metric), `collapsed`, `highest` and `lowest` (the
            extreme condition numbers of the run), and the statistics of `_STATISTICS`.
    """

    selected: Selected[Panel]
    cells: pl.DataFrame

    @property
    def panel(self) -> Panel:
        """The panel by which the cells were selected."""
        return self.selected.selection


def table(source: Source) -> Table:
    """Build Table 13 from a store's cells and their arrays `ARRAYS`.

    Raises:
        NoArrays: a done cell has no condition numbers, although it did not diverge.
    """
    arrays = entries(source.arrays(ARRAYS)).drop_nulls("value")
    parts = [_spectra(panel, source, arrays) for panel in PANELS]
    ours = pl.concat([_ours(part) for part in parts])
    papers = _papers(paper_columns.values("table13"))
    beside = join(papers, ours.select("row", "panel"))
    frame = stacked(
        ours.with_columns(pl.lit("ours").alias("whose")),
        beside.with_columns(pl.lit("  paper").alias("label"), pl.lit("paper").alias("whose")),
    )
    notes = (
        "Condition: largest over smallest singular value of J (n x P), mean ± sample sd over the seeds that did "
        f"not collapse (condition above {COLLAPSED:g} at a recorded step, or diverged), as in the paper: a "
        "selection by outcome. Through training: least to greatest over these seeds and all recorded steps. Rank: "
        "least number of singular values that hold 95 % of their squares' sum. Immediate: of the immediate "
        "influence alone, which k = 0 is. " + standings([papers]),
        "The paper's table lost its cells. It says besides: 2.6–6.5 across all tasks and seeds, never above 10; "
        "effective rank close to n; on Lorenz 3 of 5 seeds, the other two being those where full RTRL failed; n = "
        "256 (3 seeds) better conditioned than n = 64.",
        *_collapsed_notes(parts),
    )
    title = "Singular values of the influence J through training"
    return assemble("13", title, COLUMNS, frame, notes, [part.selected for part in parts])


def _spectra(panel: Panel, source: Source, arrays: pl.DataFrame) -> Spectra:
    selected = select(source, panel)
    steps = _steps(selected.settings)
    diverged = pl.col("diverged") > 0 if "diverged" in selected.done.columns else pl.lit(False)
    done = selected.done.select("cell_id", diverged.fill_null(False).alias("diverged"))
    frame = pl.concat([done, selected.values().drop("experiment")], how="horizontal")
    own = arrays.filter(pl.col("cell_id").is_in(done["cell_id"].implode()))
    require_arrays(selected, [CONDITION], own.filter(pl.col("name") == CONDITION)["cell_id"].unique())
    whole = (
        own.filter(pl.col("name") == CONDITION)
        .group_by("cell_id")
        .agg(pl.col("value").min().alias("lowest"), pl.col("value").max().alias("highest"))
    )
    frame = frame.join(whole, on="cell_id", how="left", maintain_order="left")
    for statistic, (name, when) in _STATISTICS.items():
        at = own.filter((pl.col("name") == name) & (pl.col("step") == steps[when]))
        frame = frame.join(
            at.select("cell_id", pl.col("value").alias(statistic)), on="cell_id", how="left", maintain_order="left"
        )
    collapsed = pl.col("diverged") | (pl.col("highest") > COLLAPSED).fill_null(False)
    return Spectra(selected, frame.with_columns(collapsed.alias("collapsed")))


def _steps(settings: Mapping[str, object]) -> dict[str, int]:
    """Return the last step before the shift ("shift") and the last step of the run ("end"); -1 if unknown."""

    def before(name: str) -> int:
        value = settings.get(name)
        return value - 1 if isinstance(value, int) else -1

    return {"shift": before("shift"), "end": before("steps")}


def _ours(part: Spectra) -> pl.DataFrame:
    panel = part.panel
    healthy = part.cells.filter(~pl.col("collapsed"))
    body = pl.DataFrame(
        [(row.key, row.label) for row in panel.rows], schema={"row": pl.String, "label": pl.String}, orient="row"
    )
    body = join(
        body,
        part.cells.group_by("row", maintain_order=True).agg(
            pl.len().cast(pl.Int64).alias("n"),
            (~pl.col("collapsed")).sum().cast(pl.Int64).alias("kept"),
            pl.col("seed").filter("collapsed").sort().cast(pl.String).str.join(", ").alias("collapsed"),
        ),
    )
    body = body.with_columns(
        pl.col("n", "kept").fill_null(0),
        pl.when(pl.col("collapsed") == "").then(pl.lit("none")).otherwise("collapsed").alias("collapsed"),
    )
    body = join(
        body,
        healthy.group_by("row", maintain_order=True).agg(
            pl.col("lowest").min().alias("condition_lowest"), pl.col("highest").max().alias("condition_highest")
        ),
    )
    for statistic in _STATISTICS:
        summary = spread(healthy, ["row"], statistic).select("row", "mean", "sd")
        body = join(body, prefixed(summary, f"{statistic}_"))
    return body.select(
        pl.lit(panel.label).alias("panel"),
        pl.col("row").map_elements(panel.name, return_dtype=pl.String),
        pl.exclude("row"),
    )


def _papers(paper: pl.DataFrame) -> pl.DataFrame:
    rows = paper.select("row").unique(maintain_order=True)
    for statistic in ("condition_at_shift", "condition_at_end"):
        printed = paper.filter(pl.col("quantity") == statistic)
        rows = join(rows, printed.select("row", pl.col("value").alias(f"{statistic}_mean")))
    ranges = paper.filter(pl.col("quantity") == "condition")
    rows = join(rows, ranges.select("row", condition_lowest="value", condition_highest="upper"))
    lost = paper.filter(pl.col("quantity") == "collapsed").group_by("row", maintain_order=True)
    return join(rows, lost.agg(pl.col("seed").cast(pl.String).str.join(", ").alias("collapsed")))


def _collapsed_notes(parts: Sequence[Spectra]) -> list[str]:
    """Note the MSE of the runs whose spectrum collapsed, and the MSE of the other runs."""
    notes: list[str] = []
    for part in parts:
        labels = {row.key: row.label for row in part.panel.rows}
        for key, seeds in part.panel.seeds_by_row(part.cells).items():
            rows = part.cells.filter(pl.col("row") == key)
            order = {seed: i for i, seed in enumerate(seeds)}
            lost = rows.filter("collapsed").sort(pl.col("seed").replace_strict(order, return_dtype=pl.Int64))
            others = sorted(rows.filter(~pl.col("collapsed"))["value"].drop_nulls().to_list())
            if lost.is_empty():
                continue
            runs = "; ".join(
                f"seed {seed}: condition up to {ABSENT if highest is None else f'{highest:.2g}'}, "
                + ("diverged" if value is None else f"MSE {value:.2g}")
                for seed, highest, value in lost.select("seed", "highest", "value").iter_rows()
            )
            rest = f"; the other {len(others)}: MSE {others[0]:.2g} to {others[-1]:.2g}" if others else ""
            notes.append(f"Collapsed, {part.panel.label}, {labels[key]}: {runs}{rest} ({part.panel.metric}).")
    return notes
