"""Notes on selected cells: their settings, missing cells and how to run them, and cells left out.

A *part* is the result of one selection. A table, figure or claim may have several parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from raysweep.analysis.cells.launch_options import commands, launched_by, other_settings
from raysweep.analysis.cells.selection import NOT_LAUNCHED, Selected, Selection
from raysweep.orchestrator.text import count_cells, join_first

Parts = Sequence[Selected[Selection]]
MOST_RANGES = 5
"""Largest number of ranges of seeds that are written out where their number is what matters."""


def missing_note(part: Selected[Selection]) -> str | None:
    """Describe the missing cells, their status and the command that runs them; None if no cell is missing."""
    missing, rows = part.missing, part.selection.rows
    if missing.is_empty():
        return None
    to_run = command([part])
    if missing["status"].unique().to_list() == [NOT_LAUNCHED] and missing.height == part.expected:
        return f"None of the {part.expected} cells has been launched: {to_run}"
    labels = {row.key: row.label for row in rows}
    groups = [
        f"{labels[str(key)]}: {seeds_of(part, group['seed'].to_list())} ({status})"
        for (key, status), group in missing.group_by("row", "status", maintain_order=True)
    ]
    return f"{missing.height} of {part.expected} cells missing: {'; '.join(groups)}. To run them: {to_run}"


def missing_notes(parts: Parts) -> list[str]:
    """Describe the missing cells of each part that has missing cells.

    If there are several parts, each note begins with its part's label.
    """
    return [
        f"{part.selection.label}: {note}" if len(parts) > 1 else note for part in parts if (note := missing_note(part))
    ]


def command(parts: Iterable[Selected[Selection]], between: str = " && ") -> str:
    """Return the commands that run the missing cells of each sweep, joined by the text `between`."""
    parts = list(parts)
    at = parts[0].source.at if parts else ""
    return between.join(commands(((part.selection.sweep, part.cells) for part in parts), at))


def origins(parts: Iterable[Selected[Selection]]) -> dict[str, list[str]]:
    """Return sweep -> notes on its cells whose settings differ from the sweep's file, and on cells left out.

    A cell that is in several parts counts once.
    """
    parts = list(parts)
    notes = {
        sweep: [note] for sweep, note in other_settings((part.selection.sweep, part.cells) for part in parts).items()
    }
    others: dict[str, dict[str, str]] = {}
    for part in parts:
        for cell_id, name, differs in part.left_out.iter_rows():
            others.setdefault(launched_by(part.selection.sweep, name), {}).setdefault(cell_id, differs)
    for sweep, left_out in others.items():
        notes.setdefault(sweep, []).append(_left_out_note(sweep, list(left_out.values())))
    return notes


def origin_notes(parts: Iterable[Selected[Selection]]) -> list[str]:
    """Format the notes of `origins` as sentences."""
    return [f"{note}." for notes in origins(parts).values() for note in notes]


def settings_note(parts: Parts) -> list[str]:
    """Describe the settings that all parts share, then the other settings of each part. Null settings are left out."""
    filled = [part for part in parts if part.cells.height]
    if not filled:
        return []
    common = shared_settings(filled)
    groups = [_listed(common)]
    for part in filled:
        own = _listed({name: value for name, value in part.settings.items() if name not in common})
        if own:
            groups.append(f"{part.selection.label}: {own}")
    return [f"Settings: {'; '.join(group for group in groups if group)}."]


def shared_settings(parts: Iterable[Selected[Selection]]) -> dict[str, object]:
    """Return the settings that are equal in all parts."""
    first, *others = [part.settings for part in parts if part.settings] or [{}]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def seeds_of(part: Selected[Selection], seeds: Sequence[int]) -> str:
    """Return `all seeds` if `seeds` are all seeds of the part, otherwise list them by `named_seeds`."""
    return "all seeds" if len(seeds) == len(part.seeds) else named_seeds(seeds)


def named_seeds(seeds: Sequence[int]) -> str:
    """List seeds in prose: `seed 7` or `seeds 7, 42, 100..199`; an empty text if there are none."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(_ranges(seeds)) if seeds else ""


def counted_seeds(seeds: Sequence[int]) -> str:
    """Count seeds in prose and show up to `MOST_RANGES` of their ranges: `200 seeds (1000..1199)`."""
    count = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
    return f"{count} ({join_first(_ranges(seeds), MOST_RANGES)})" if seeds else count


def _ranges(seeds: Sequence[int]) -> list[str]:
    """Format seeds; three or more successive ones become a range `first..last`."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return [text for run in runs for text in ([f"{run[0]}..{run[-1]}"] if len(run) > 2 else map(str, run))]


def _left_out_note(sweep: str, differences: Sequence[str]) -> str:
    counts = sorted(Counter(differences).items(), key=lambda pair: (-pair[1], pair[0]))
    texts = "; ".join(text if len(counts) == 1 else f"{text}: {count_cells(n)}" for text, n in counts)
    undone = "not done" if len(differences) == 1 else "none of them done"
    return f"Left out of {sweep}: {count_cells(len(differences))} of other settings, {undone} ({texts})"


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)
