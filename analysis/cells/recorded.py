"""Check that done cells have their recorded arrays, which saved cells and joined stores may lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from raysweep.analysis.cells.notes import named_seeds
from raysweep.analysis.cells.selection import Selected, Selection, in_order
from raysweep.analysis.errors import NoArrays


def lack_of_arrays(part: Selected[Selection], names: Sequence[str], cell_ids: Iterable[str]) -> str | None:
    """Count the done cells that have no array, although they did not diverge, and list their seeds; None if all have.

    A run that diverges early may have ended before the first entry.

    Args:
        part: the cells.
        names: the arrays' names, for the message.
        cell_ids: the cells that have one of the arrays.
    """
    done = part.done
    diverged = pl.col("diverged").cast(pl.Float64) > 0 if "diverged" in done.columns else pl.lit(False)
    recorded = pl.col("cell_id").is_in(pl.Series(list(cell_ids), dtype=pl.String).implode())
    lacking = done.filter(~recorded & ~diverged.fill_null(False))
    if lacking.is_empty():
        return None
    seeds = in_order(lacking["seed"], part.selection.seeds)
    return (
        f"{lacking.height} of {done.height} done cells of experiment {part.selection.experiment!r} have no array "
        f"{', '.join(names)} ({named_seeds(seeds)}); the sweep that records it: "
        f"raysweep launch {part.selection.sweep}{part.source.at}"
    )


def require_arrays(part: Selected[Selection], names: Sequence[str], cell_ids: Iterable[str]) -> None:
    """Check that the done cells have one of the arrays. Arguments as those of `lack_of_arrays`.

    Raises:
        NoArrays: a done cell has none of them, although it did not diverge.
    """
    if lack := lack_of_arrays(part, names, cell_ids):
        raise NoArrays(lack)
