"""What is said of a table's cells: which are missing, whose settings they have, which others were left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from analysis.launching import commands, other_settings
from analysis.tables.selection import NOT_LAUNCHED, Chosen, Row
from orchestrator.console import how_many


def say_missing(chosen: Chosen, rows: Sequence[Row], sweep: str) -> str | None:
    """One note: which cells are missing, why, and the command that runs them; None where none is."""
    missing = chosen.missing
    if missing.is_empty():
        return None
    (command,) = commands([(sweep, chosen.cells)])
    if missing["status"].unique().to_list() == [NOT_LAUNCHED] and missing.height == chosen.asked:
        return f"None of the {chosen.asked} cells has been launched: {command}"
    labels = {row.key: row.label for row in rows}
    said: list[str] = []
    for (key, status), part in missing.group_by("row", "status", maintain_order=True):
        seeds = part["seed"].to_list()
        which = "all seeds" if len(seeds) == len(chosen.seeds) else _seeds(seeds)
        said.append(f"{labels[str(key)]}: {which} ({status})")
    share = f"{missing.height} of {chosen.asked} cells missing"
    return f"{share}: {'; '.join(said)}. To run them: {command}"


def origins(parts: Iterable[tuple[str, Chosen]]) -> dict[str, list[str]]:
    """Sweep -> notes: launched with other settings than its file has; cells of other settings that are left out.

    Args:
        parts: sweeps, and the cells chosen of each; a cell counts once.
    """
    pairs = list(parts)
    notes = {sweep: [note] for sweep, note in other_settings((name, chosen.cells) for name, chosen in pairs).items()}
    seen: set[str] = set()
    for sweep in dict.fromkeys(name for name, _ in pairs):
        left_out = pl.concat([chosen.left_out for name, chosen in pairs if name == sweep]).unique(
            "cell_id", maintain_order=True
        )
        left_out = left_out.filter(~pl.col("cell_id").is_in(seen))
        seen.update(left_out["cell_id"])
        if left_out.height:
            notes.setdefault(sweep, []).append(_say_left_out(sweep, left_out))
    return notes


def origin_notes(parts: Iterable[tuple[str, Chosen]]) -> list[str]:
    """`origins` as sentences."""
    return [f"{note}." for notes in origins(parts).values() for note in notes]


def _say_left_out(sweep: str, left_out: pl.DataFrame) -> str:
    """How many, and in what they differ."""
    counts = left_out["differs"].value_counts().sort("count", "differs", descending=[True, False]).rows()
    said = "; ".join(text if len(counts) == 1 else f"{text}: {how_many(n)}" for text, n in counts)
    undone = "not done" if left_out.height == 1 else "none of them done"
    return f"Left out of {sweep}: {how_many(left_out.height)} of other settings, {undone} ({said})"


def _seeds(seeds: Iterable[int]) -> str:
    listed = list(seeds)
    return ("seed " if len(listed) == 1 else "seeds ") + ", ".join(map(str, listed))
