"""Artifacts of cells that other cells need, located in the store or among the committed outcomes of this launch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from raysweep.orchestrator.run.messages import Artifact, CompletedAttempt, NeededCell
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.grammar.needs import Edge

Files = tuple[int, int, tuple[Artifact, ...]]
"""A cell's artifacts: the generation of the launch that wrote them, the number of the attempt, and the artifacts.

The artifacts are without their content, which stays in the store.
"""


class NeededFiles:
    """Locates the artifacts of needed cells.

    Args:
        store: the store.
        epoch: the launch's generation.
        needed: number of a cell's row in the plan -> the cells that this cell needs.
    """

    def __init__(self, store: Store, epoch: int, needed: Mapping[int, Sequence[Edge]]) -> None:
        self._store, self._epoch = store, epoch
        self._ids: set[str] = set()
        self._files: dict[str, Files] = {}
        self.expect(needed)

    def expect(self, needed: Mapping[int, Sequence[Edge]]) -> None:
        """Add more needed cells; the artifacts of those that are done are looked up in the store."""
        new = {edge.cell_id for edges in needed.values() for edge in edges} - self._ids
        if new:
            self._ids |= new
            self._files |= files_in_store(self._store, new)

    def add(self, completed: Iterable[CompletedAttempt], ids: pl.Series) -> None:
        """Add the artifacts of attempts that have been committed. `ids` holds the cell id of each row of the plan."""
        for outcome in (attempt.outcome for attempt in completed) if self._ids else ():
            if outcome.status == "done" and ids[outcome.row] in self._ids:
                files = tuple(artifact._replace(content=None) for artifact in outcome.artifacts)
                self._files[ids[outcome.row]] = self._epoch, outcome.attempt, files

    def of(self, edges: Sequence[Edge]) -> tuple[NeededCell, ...]:
        """Return the needed cells of these edges, each with its artifacts."""
        return needed_cells(edges, self._files)


def needed_cells(edges: Sequence[Edge], files: Mapping[str, Files]) -> tuple[NeededCell, ...]:
    """Return the needed cells of these edges, each with its artifacts. Cells without artifacts are not in `files`."""
    return tuple(
        NeededCell(e.block, e.cell_id, e.method, e.k, json.dumps(e.config), *files.get(e.cell_id, (0, 0, ())))
        for e in edges
    )


def files_in_store(store: Store, ids: Iterable[str]) -> dict[str, Files]:
    """Return the artifacts of the done cells among `ids`, by cell id."""
    rows = store.artifacts().filter((pl.col("status") == "done") & pl.col("cell_id").is_in(list(ids)))
    files: dict[str, Files] = {}
    columns = ("cell_id", "epoch", "attempt", "path", "bytes", "sha256", "kind")
    for cell_id, epoch, attempt, path, size, digest, kind in rows.select(columns).iter_rows():
        of_cell = files.get(cell_id, (epoch, attempt, ()))[2]
        files[cell_id] = epoch, attempt, (*of_cell, Artifact(path, size, digest, kind))
    return files
