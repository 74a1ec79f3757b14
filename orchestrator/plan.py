"""Stage 3: cells and what the store holds -> what to run, in which order, on what, at what cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from orchestrator.cells import CellTable
from orchestrator.failures import CHARGES, used_up

STATES = {
    "new": "never ran",
    "unfinished": "tried, neither done nor out of attempts",
    "failed": "has used up its attempts (resume grants new ones)",
    "changed": "done under other code (--rerun-changed runs it again)",
    "done": "done",
}


@dataclass(frozen=True)
class Plan:
    """What a launch would do.

    Args:
        table: the cells asked for.
        frame: one row a cell, in the table's order: cell_id, variant, seed, state (see `STATES`), status (the
            last one recorded), attempts (made so far), the charges so far (`failures.CHARGES`),
            expected_seconds (null where nothing is known), run.
    """

    table: CellTable
    frame: pl.DataFrame

    @property
    def order(self) -> list[int]:
        """Rows to run, longest first; of unknown length in the order of the file, before the known."""
        return (
            self.frame.with_row_index("row")
            .filter("run")
            .sort("expected_seconds", descending=True, nulls_last=False, maintain_order=True)["row"]
            .to_list()
        )

    def counts(self) -> dict[str, int]:
        """Cells by state."""
        found = dict(self.frame.group_by("state").len().iter_rows())
        return {state: found.get(state, 0) for state in STATES}

    def expected(self) -> pl.DataFrame:
        """What runs, by resource: cpus, gpus, cells, unknown (cells of unknown length), cpu_hours, gpu_hours."""
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


def plan(table: CellTable, summary: pl.DataFrame, *, resume: bool = False, rerun_changed: bool = False) -> Plan:
    """Decide for each cell.

    Args:
        table: the cells asked for.
        summary: what the store holds (`Store.summary`).
        resume: grant every unfinished cell a fresh budget.
        rerun_changed: run done cells again whose workload's source has changed.
    """
    shared = table.variants.select("variant", "retries", "workload", "cost_hint", current="source_digest")
    frame = table.cells.join(summary, on="cell_id", how="left", maintain_order="left").join(
        shared, on="variant", how="left", maintain_order="left"
    )
    frame = frame.with_columns(
        pl.col("attempts", *CHARGES).fill_null(0).cast(pl.Int64),
        expected_seconds=_expected(),
    )
    changed = pl.col("source_digest") != pl.col("current")
    state = (
        pl.when(pl.col("status").is_null()).then(pl.lit("new"))
        .when((pl.col("status") == "done") & changed).then(pl.lit("changed"))
        .when(pl.col("status") == "done").then(pl.lit("done"))
        .when(used_up({budget: pl.col(budget) for budget in CHARGES}, pl.col("retries"))).then(pl.lit("failed"))
        .otherwise(pl.lit("unfinished"))
    )  # fmt: skip
    frame = frame.with_columns(state=state)
    runs = ["new", "unfinished", *(["failed"] if resume else []), *(["changed"] if rerun_changed else [])]
    frame = frame.with_columns(run=pl.col("state").is_in(runs))
    if resume:
        frame = frame.with_columns(pl.lit(0, pl.Int64).alias(budget) for budget in CHARGES)
    return Plan(
        table,
        frame.select(
            "cell_id", "variant", "seed", "state", "status", "attempts", *CHARGES, "expected_seconds", "run",
        ),
    )  # fmt: skip


def _expected() -> pl.Expr:
    """Seconds: of the variant's other seeds, else the workload's cost hint scaled by what ran, else its mean."""
    per_hint = (pl.col("seconds") / pl.col("cost_hint")).median().over("workload")
    return pl.coalesce(
        pl.col("seconds").mean().over("variant"),
        pl.col("cost_hint") * per_hint,
        pl.col("seconds").mean().over("workload"),
    )


def no_longer_asked_for(table: CellTable, known: CellTable) -> pl.DataFrame:
    """Of the cells that earlier launches of these sweeps asked for, those that this one does not."""
    return known.wide().filter(~pl.col("cell_id").is_in(table.cells["cell_id"].implode()))
