"""Dependencies between cells (`needs`): their effect on the states in a plan, and on the order in which cells run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import polars as pl

from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.grammar.needs import Edge, edges


def has_needs(table: CellTable) -> bool:
    """Return whether any cell needs others."""
    return table.variants["needs"].null_count() < table.variants.height


def edges_of(table: CellTable) -> dict[int, tuple[Edge, ...]]:
    """Return row -> needed cells, for each cell that needs others."""
    needs = dict(table.variants.select("variant", "needs").drop_nulls().iter_rows())
    rows = table.cells.with_row_index("row").filter(pl.col("variant").is_in(list(needs)))
    return {row: tuple(edges(needs[v], seed)) for row, v, seed in rows.select("row", "variant", "seed").iter_rows()}


def along_edges(
    frame: pl.DataFrame,
    needed: Mapping[int, Sequence[Edge]],
    summary: pl.DataFrame,
    runs: Sequence[str],
    stale: Collection[str] = (),
) -> tuple[list[str], set[int]]:
    """Adjust the states of all rows to the states of the cells that they need.

    A cell in state `done` becomes `changed` if a cell that it needs is `changed`, or was run again by a later launch.
    A cell to run becomes `blocked` if a cell that it needs is not done and will not run.

    Args:
        frame: the plan's rows: cell_id, state.
        needed: row -> the cells that it needs.
        summary: the store's cells.
        runs: the states of cells that this launch runs.
        stale: ids of changed cells that are not in the plan.

    Returns:
        The states of all rows; and the held rows. A held row has become `changed` although its own code is the same:
        it needs a cell in `stale`, directly or through another held row.
    """
    own = frame["state"].to_list()
    states = list(own)
    ids = frame["cell_id"].to_list()
    row_of = {cell_id: row for row, cell_id in enumerate(ids)}
    epoch_of = dict(summary.filter(pl.col("status") == "done").select("cell_id", "epoch").iter_rows())
    settled: set[int] = set()
    held: set[int] = set()

    def settle(row: int) -> None:
        if row in settled or row not in needed:
            return
        settled.add(row)
        for edge in needed[row]:
            other = row_of.get(edge.cell_id)
            if other is not None:
                settle(other)
            state = None if other is None else states[other]
            if own[row] == "done" and (edge.cell_id in stale or other in held):
                held.add(row)
            if states[row] == "done":
                later = epoch_of.get(edge.cell_id, -1) > epoch_of[ids[row]]
                states[row] = "changed" if state == "changed" or later or row in held else "done"
        missing = [row_of.get(edge.cell_id) for edge in needed[row] if edge.cell_id not in epoch_of]
        if states[row] in runs and any(other is None or states[other] not in runs for other in missing):
            states[row] = "blocked"

    for row in needed:
        settle(row)
    return states, held


class Dependents:
    """The cells of a launch that wait for other cells of the same launch.

    Args:
        running: id of each cell that the launch runs -> its row.
        needed: row -> the cells that it needs.
    """

    def __init__(self, running: Mapping[str, int], needed: Mapping[int, Sequence[Edge]]) -> None:
        waits_for = {
            row: {running[edge.cell_id] for edge in needed.get(row, ()) if edge.cell_id in running}
            for row in running.values()
        }
        self.blocked = {row: others for row, others in waits_for.items() if others}  # row -> rows that it waits for
        self.uncommitted: set[int] = set()  # done rows that others wait for, and that are not in the store yet
        self._dependents: dict[int, list[int]] = {}
        for row, others in self.blocked.items():
            for other in others:
                self._dependents.setdefault(other, []).append(row)

    def done(self, row: int) -> None:
        """Note that a cell is done; its outcome may not be in the store yet."""
        if row in self._dependents:
            self.uncommitted.add(row)

    def committed(self, rows: Iterable[int]) -> list[int]:
        """Note that done cells are in the store. Return the waiting rows whose needed cells are all there now."""
        ready = []
        for row in self.uncommitted.intersection(rows):
            self.uncommitted.discard(row)
            for dependent in self._dependents.pop(row, ()):
                if dependent not in self.blocked:
                    continue
                self.blocked[dependent].discard(row)
                if not self.blocked[dependent]:
                    del self.blocked[dependent]
                    ready.append(dependent)
        return sorted(ready)

    def cancel(self, rows: Collection[int]) -> None:
        """Stop tracking waiting cells that will not run."""
        self.blocked = {row: others for row, others in self.blocked.items() if row not in rows}
