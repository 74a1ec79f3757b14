"""What is said of a table's cells: which are missing, whose settings they have, which others were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from raysweep.analysis.cells.launch_options import commands, launched_by, other_settings
from raysweep.analysis.cells.selection import NOT_LAUNCHED, Chosen, Row
from raysweep.orchestrator.cli.output import how_many


def say_missing(chosen: Chosen, rows: Sequence[Row], sweep: str, at: str = "") -> str | None:
    """One note: which cells are missing, why, and the command that runs them; None where none is."""
    missing = chosen.missing
    if missing.is_empty():
        return None
    (command,) = commands([(sweep, chosen.cells)], at)
    if missing["status"].unique().to_list() == [NOT_LAUNCHED] and missing.height == chosen.asked:
        return f"None of the {chosen.asked} cells has been launched: {command}"
    labels = {row.key: row.label for row in rows}
    said: list[str] = []
    for (key, status), part in missing.group_by("row", "status", maintain_order=True):
        seeds = part["seed"].to_list()
        which = "all seeds" if len(seeds) == len(chosen.seeds) else named_seeds(seeds)
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
    others: dict[str, dict[str, str]] = {}
    for sweep, chosen in pairs:
        for cell_id, name, differs in chosen.left_out.iter_rows():
            others.setdefault(launched_by(sweep, name), {}).setdefault(cell_id, differs)
    for sweep, left_out in others.items():
        notes.setdefault(sweep, []).append(_say_left_out(sweep, list(left_out.values())))
    return notes


def origin_notes(parts: Iterable[tuple[str, Chosen]]) -> list[str]:
    """`origins` as sentences."""
    return [f"{note}." for notes in origins(parts).values() for note in notes]


def _say_left_out(sweep: str, differences: Sequence[str]) -> str:
    """How many, and in what they differ."""
    counts = sorted(Counter(differences).items(), key=lambda pair: (-pair[1], pair[0]))
    said = "; ".join(text if len(counts) == 1 else f"{text}: {how_many(n)}" for text, n in counts)
    undone = "not done" if len(differences) == 1 else "none of them done"
    return f"Left out of {sweep}: {how_many(len(differences))} of other settings, {undone} ({said})"


def named_seeds(seeds: Sequence[int]) -> str:
    """`seed 7`, `seeds 7, 42`; empty where there is none."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds)) if seeds else ""
