"""Stage 3, planning: which requested cells run, in which order, and their expected cost. No side effects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import polars as pl

from raysweep.orchestrator.schedule.edges import along_edges, edges_of, has_needs
from raysweep.orchestrator.status import CHARGES, used_up
from raysweep.orchestrator.sweep.cells import VARIANT, CellTable
from raysweep.orchestrator.sweep.grammar.needs import Edge

STATES = {
    "new": "no attempt has ended",
    "unfinished": "tried, neither done nor out of attempts",
    "failed": "out of attempts (resume grants new ones)",
    "changed": "done by code that has changed since (to run them again: --rerun-changed)",
    "done": "results are in the store",
    "blocked": "needs cells that are not done and do not run",
}


@dataclass(frozen=True)
class Plan:
    """The requested cells, and which of them a launch would run.

    Args:
        table: the requested cells.
        frame: one row per cell, in the table's order: cell_id, variant, seed, state (see `STATES`), status (of the
            last recorded attempt), attempts (their number), attempts charged to each budget (`status.CHARGES`),
            variant_seconds (mean over the variant's completed seeds), expected_seconds (null if unknown), run
            (whether to run it).
        needed: row of each cell that needs others -> the cells that it needs.
        held: number of cells that do not run although their state is `changed`. Their own code is the same, but they
            need changed cells that are not requested. If they ran, they would get the same files as before.
    """

    table: CellTable
    frame: pl.DataFrame
    needed: Mapping[int, tuple[Edge, ...]] = field(default_factory=dict)
    held: int = 0

    @property
    def to_run(self) -> int:
        """The number of cells to run."""
        return int(self.frame["run"].sum())

    @property
    def order(self) -> list[int]:
        """Rows of the cells to run: first cells of unknown duration, in the file's order; then the longest first."""
        return (
            self.frame.with_row_index("row")
            .filter("run")
            .sort("expected_seconds", descending=True, nulls_last=False, maintain_order=True)["row"]
            .to_list()
        )

    def sources(self, cells: Collection[str]) -> dict[str, str]:
        """Return cell id -> source digest of the cell's code, for those of `cells` that will run."""
        variants = self.table.variants.select("variant", "source_digest")
        some = self.frame.filter(pl.col("run") & pl.col("cell_id").is_in(list(cells)))
        return dict(some.join(variants, on="variant").select("cell_id", "source_digest").iter_rows())

    def weights(self) -> pl.Series:
        """Return the relative cost of each row: its expected seconds, or its cost hint, or 1.

        All rows use the first of these that is known for all cells to run.
        """
        hints = self.table.variants.select("variant", "cost_hint")
        frame = self.frame.join(hints, on="variant", how="left", maintain_order="left")
        for name in ("expected_seconds", "cost_hint"):
            if not frame.filter("run")[name].null_count():
                return frame[name].fill_null(0.0)
        return pl.ones(len(frame), pl.Float64, eager=True)

    def counts(self) -> dict[str, int]:
        """Return the number of cells in each state."""
        counts = dict(self.frame.group_by("state").len().iter_rows())
        return {state: counts.get(state, 0) for state in STATES}

    def expected(self) -> pl.DataFrame:
        """Sum up the expected cost of the cells to run, in one row per combination of CPUs and GPUs.

        Columns: cpus, gpus, cells, unknown (cells of unknown duration), cpu_hours, gpu_hours.
        """
        hours = pl.col("expected_seconds") / 3600
        return (
            self.frame.filter("run")
            .join(self.table.variants.select("variant", "cpus", "gpus"), on="variant")
            .group_by("cpus", "gpus")
            .agg(
                pl.len().alias("cells"),
                pl.col("expected_seconds").is_null().sum().alias("unknown"),
                (hours * pl.col("cpus")).sum().alias("cpu_hours"),
                (hours * pl.col("gpus")).sum().alias("gpu_hours"),
            )
            .sort("cpus", "gpus")
        )

    def wall_seconds(self, slots: Callable[[float, float, float | None, str | None], int]) -> float | None:
        """Forecast the wall-clock seconds T; None if no duration is known, or some cells have no slot.

        T = max(sum over demands d without GPUs of W_d / slots_d, the same sum with GPUs, the longest cell). W_d is the
        expected work of demand d in seconds. Cells of unknown duration are left out.

        Args:
            slots: demand (cpus, gpus, memory_gib, custom) -> number of such cells that run at once.
        """
        demands = (
            self.frame.filter(pl.col("run") & pl.col("expected_seconds").is_not_null())
            .join(self.table.variants.select("variant", "cpus", "gpus", "memory_gib", "custom"), on="variant")
            .group_by("cpus", "gpus", "memory_gib", "custom")
            .agg(pl.col("expected_seconds").sum(), pl.col("expected_seconds").max().alias("longest"))
        )
        seconds, longest = {False: 0.0, True: 0.0}, 0.0
        for cpus, gpus, memory_gib, custom, work, longest_of_demand in demands.iter_rows():
            at_once = slots(cpus, gpus, memory_gib, custom)
            if not at_once:
                return None
            seconds[gpus > 0] += work / at_once
            longest = max(longest, longest_of_demand)
        return max(*seconds.values(), longest) if demands.height else None


def plan(
    table: CellTable,
    summary: pl.DataFrame,
    times: Callable[[], pl.DataFrame] | None = None,
    *,
    resume: bool = False,
    rerun_changed: bool = False,
    same: Collection[tuple[str, str]] = (),
    stale: Collection[str] = (),
) -> Plan:
    """Decide which of the requested cells a launch runs.

    Args:
        table: the requested cells.
        summary: the store's cells (`Store.summary`).
        times: returns mean seconds by variant (`Store.times`); called only if the store has done cells that are not
            requested.
        resume: reset the retry budgets, so that failed cells run, too.
        rerun_changed: also run done cells whose workload's source has changed.
        same: pairs (recorded source digest, present source digest) that count as equal.
        stale: ids of changed cells that are not requested. Requested cells may need them.
    """
    shared = table.variants.select(
        "variant", "retries", "workload", "experiment", "method", "cost_hint", current="source_digest"
    )
    frame = table.cells.join(summary, on="cell_id", how="left", maintain_order="left").join(
        shared, on="variant", how="left", maintain_order="left"
    )
    frame = frame.with_columns(pl.col("attempts", *CHARGES).fill_null(0).cast(pl.Int64))
    both = pl.concat_str("source_digest", "current", separator=" ")
    changed = (pl.col("source_digest") != pl.col("current")) & ~both.is_in([" ".join(pair) for pair in same])
    state = (
        pl.when(pl.col("status").is_null()).then(pl.lit("new"))
        .when((pl.col("status") == "done") & changed).then(pl.lit("changed"))
        .when(pl.col("status") == "done").then(pl.lit("done"))
        .when(used_up({budget: pl.col(budget) for budget in CHARGES}, pl.col("retries"))).then(pl.lit("failed"))
        .otherwise(pl.lit("unfinished"))
    )  # fmt: skip
    frame = frame.with_columns(state=state)
    runs = ["new", "unfinished", *(["failed"] if resume else []), *(["changed"] if rerun_changed else [])]
    needed: dict[int, tuple[Edge, ...]] = {}
    held: set[int] = set()
    if has_needs(table):
        needed = edges_of(table)
        states, held = along_edges(frame, needed, summary, runs, stale)
        frame = frame.with_columns(pl.Series("state", states, pl.String))
    is_held = pl.int_range(pl.len()).is_in(sorted(held))
    frame = frame.with_columns(run=pl.col("state").is_in(runs) & ~is_held)
    frame = frame.with_columns(variant_seconds=pl.col("seconds").mean().over("variant"))
    if times is not None and frame["run"].any() and _done(summary) > _done(frame):
        other = table.variants.join(times(), on=VARIANT, nulls_equal=True).select("variant", other="seconds")
        frame = frame.join(other, on="variant", how="left", maintain_order="left").with_columns(
            variant_seconds=pl.coalesce("variant_seconds", "other")
        )
    frame = frame.with_columns(expected_seconds=_expected())
    if resume:
        frame = frame.with_columns(pl.lit(0, pl.Int64).alias(budget) for budget in CHARGES)
    return Plan(
        table,
        frame.select(
            "cell_id", "variant", "seed", "state", "status", "attempts", *CHARGES, "variant_seconds",
            "expected_seconds", "run",
        ),
        needed,
        len(held),
    )  # fmt: skip


def _done(frame: pl.DataFrame) -> int:
    return int((frame["status"] == "done").sum())


def _expected() -> pl.Expr:
    """Build the expression for expected seconds.

    It is the first known one of:

    1. the mean over the variant's completed seeds;
    2. the cell's cost hint times a factor;
    3. the mean over the workload's completed cells.

    The factor is the median of seconds / hint over the completed cells of the same workload, experiment and method.
    If there are none, all methods of the experiment count. If there are still none, all experiments of the workload
    count. The factor differs more between methods than between the variants of one method.
    """
    hint = pl.when(pl.col("cost_hint") > 0).then("cost_hint")
    alike = (["workload", "experiment", "method"], ["workload", "experiment"], ["workload"])
    return pl.coalesce(
        "variant_seconds",
        *(hint * (pl.col("seconds") / hint).median().over(keys) for keys in alike),
        pl.col("seconds").mean().over("workload"),
    )
