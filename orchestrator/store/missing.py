"""A description of what results lack if damaged files were skipped: the files, their rows, and the affected cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import count_cells


class Missing(NamedTuple):
    """Damaged files of a store that were skipped, and what is known about their rows.

    A count of cells is None if no skipped file can affect it.

    Args:
        files: path of each file -> what is wrong with it.
        rows: path of each file whose footer can be read -> the number of its rows.
        unreadable_done: number of cells with a done attempt, but without a readable row in `cells`.
        unreadable_attempts: number of done cells without a readable row in `attempts`.
        without_arrays: number of done cells without a readable array; some of them may never have had one.
        unknown: number of requested cells without any readable row: pending, or in a skipped file.
    """

    files: Mapping[str, str]
    rows: Mapping[str, int]
    unreadable_done: int | None = None
    unreadable_attempts: int | None = None
    without_arrays: int | None = None
    unknown: int | None = None

    def lines(self) -> list[str]:
        """Describe what is missing in sentences: one line per file, then the counts."""
        lines = []
        for path, problem in self.files.items():
            rows = f" ({self.rows[path]:,} rows)" if path in self.rows else ""
            lines.append(f"skipped a damaged file{rows}: {problem}")
        if self.unreadable_done:
            lines.append(f"{count_cells(self.unreadable_done)} done, but without a row in the files that were read")
        if self.unreadable_attempts:
            lines.append(f"{count_cells(self.unreadable_attempts)} done, but without their attempts")
        if self.without_arrays:
            lines.append(f"{count_cells(self.without_arrays)} done, but without arrays (some may never have had any)")
        if self.unknown:
            lines.append(f"{count_cells(self.unknown)} without any row: pending, or in a skipped file")
        if any(path.startswith("_sweeps/") for path in self.files):
            lines.append("cells that only a skipped file of _sweeps requested are not listed as pending")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the description as a JSON document. A count is null if no skipped file can affect it."""
        files = [{"path": path, "problem": text, "rows": self.rows.get(path)} for path, text in self.files.items()]
        return {**self._asdict(), "files": files, "rows": sum(self.rows.values())}


def missing(store: Store) -> Missing:
    """Describe the damaged files that reads of this store have skipped so far, and what their results lack."""
    if not store.skipped:
        return Missing({}, {})
    cells = store.collect(lambda: store.cells.select("cell_id", "attempt"))
    attempts = store.collect(lambda: store.attempts.select("cell_id", "attempt", "status"))
    folders = {path.partition("/")[0] for path in store.skipped}  # these reads may have met more
    counts: dict[str, int] = {}
    if "cells" in folders:
        done = attempts.filter(pl.col("status") == "done").unique("cell_id")
        counts["unreadable_done"] = done.join(cells, on="cell_id", how="anti").height
    if "attempts" in folders:
        counts["unreadable_attempts"] = cells.join(attempts, on=["cell_id", "attempt"], how="anti").height
    if "arrays" in folders:
        arrays = store.collect(lambda: store.arrays.select("cell_id", "attempt").unique())
        counts["without_arrays"] = cells.join(arrays, on=["cell_id", "attempt"], how="anti").height
    if folders & {"cells", "attempts"}:
        known = store.known().cells
        counts["unknown"] = known.join(cells, on="cell_id", how="anti").join(attempts, on="cell_id", how="anti").height
    return Missing(dict(sorted(store.skipped.items())), store.skipped_rows(), **counts)
