"""The notes below a table: what a number is, what it hides, what is missing and how to get it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from raysweep.analysis.cells.cell_notes import say_missing
from raysweep.analysis.cells.launch_options import commands
from raysweep.analysis.cells.selection import MISSING_SCHEMA, Chosen
from raysweep.analysis.paper.values import STANDINGS
from raysweep.analysis.tables.paper_columns import MARKS
from raysweep.analysis.tables.spec import Comparison, Measured, Panel

_BASELINES = {
    "persistence": "Persistence predicts that nothing changes from one step to the next.",
    "rls2": "RLS, 2 taps: each coordinate by recursive least squares on its own last two values.",
    "constant": "The constant is the best one, known in hindsight only.",
}


def legend(spec: Comparison, theirs: Sequence[pl.DataFrame]) -> str:
    """What the numbers are: metric, statistics, recovery, baselines, and how sure the paper's are."""
    metrics = dict.fromkeys(panel.metric for panel in spec.panels)
    where = {metric: [panel.label for panel in spec.panels if panel.metric == metric] for metric in metrics}
    said = " and ".join(
        metric if len(metrics) == 1 else f"{metric} ({', '.join(labels)})" for metric, labels in where.items()
    )
    sentences = [f"{spec.heading}: {said}, mean ± sample sd over n seeds; CV: population sd / mean."]
    if any(panel.ceiling for panel in spec.panels):
        sentences.append(
            "Recovery: Eq. 10 seed by seed, then mean ± sample sd; 0 % is k = 0 with that decay, 100 % full RTRL."
        )
    naive = dict.fromkeys(naive.key for panel in spec.panels for naive in panel.naive)
    sentences += [_BASELINES[key] for key in naive if key in _BASELINES]
    return " ".join([*sentences, standings(theirs)]).strip()


def standings(frames: Iterable[pl.DataFrame]) -> str:
    """The signs behind the paper's numbers and what – means."""
    signs = {sign for frame in frames for name in frame.columns if name.endswith("mark") for sign in frame[name]}
    explained = [
        f"{MARKS[standing]} {STANDINGS[standing]}" for standing in STANDINGS if MARKS[standing] in signs - {""}
    ]
    return "Paper: " + "; ".join(["–, not known to us", *explained]) + "."


def of_panel(part: Measured, panels: Sequence[Panel]) -> list[str]:
    """Gaps that are none, and runs that diverged."""
    lead = f"{part.panel.label}: " if len(panels) > 1 else ""
    return [f"{lead}{note}" for note in (*_gaps(part), *_diverged(part))]


def _gaps(part: Measured) -> list[str]:
    """Where a floor leaves no gap to recover, how often, and what stands there instead."""
    notes: list[str] = []
    for floor, rated in part.recovery.items():
        gaps = rated.filter(pl.col("row") == part.panel.ceiling)["gap"].drop_nulls()
        closed = gaps.filter(gaps <= 0).len()
        if not closed:
            continue
        said = part.panel.labels[floor]
        ratio = math.exp(-float(gaps.to_numpy().mean()))
        where = (
            "recovery from that floor is null throughout"
            if closed == gaps.len()
            else "recovery from that floor is over the other seeds, a selection in favour of full RTRL"
        )
        notes.append(
            f"Eq. 10 needs a gap: full RTRL is no better than {said} on {closed} of {gaps.len()} seeds; {where}. "
            f"Over all {gaps.len()}, full RTRL's MSE is {ratio:.2g} times that of {said} (geometric mean)."
        )
    heights = [rated.height for rated in part.recovery.values()]
    if any(heights) and min(heights) < part.values.height:
        notes.append("Recovery leaves out seeds whose floor or full RTRL is missing.")
    return notes


def _diverged(part: Measured) -> list[str]:
    """Which done cells have no value, as means are then over the other seeds."""
    absent = part.values.filter(pl.col("value").is_null() & pl.col("row").is_in([row.key for row in part.panel.rows]))
    if absent.is_empty():
        return []
    said = [
        f"{part.panel.labels[str(key)]}: seed {', '.join(map(str, rows['seed'].to_list()))}"
        for (key,), rows in absent.group_by("row", maintain_order=True)
    ]
    return [f"Diverged, so without a value and not in the means: {'; '.join(said)}."]


def shared(settings: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Settings that are the same in all panels that have cells."""
    first, *others = [part for part in settings if part] or [{}]
    return {name: value for name, value in first.items() if all(part.get(name) == value for part in others)}


def settings(parts: Sequence[tuple[str, Chosen]]) -> list[str]:
    """One note: what all cells share, then what is a panel's own; settings that no method has are left out."""
    filled = [(label, chosen.settings) for label, chosen in parts if chosen.cells.height]
    if not filled:
        return []
    common = shared([own for _, own in filled])
    groups = [_listed(common)]
    for label, own in filled:
        rest = _listed({name: value for name, value in own.items() if name not in common})
        if rest:
            groups.append(f"{label}: {rest}")
    return [f"Settings: {'; '.join(group for group in groups if group)}."]


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)


def missing(parts: Sequence[tuple[Panel, Chosen]], at: str) -> list[str]:
    """Per panel: which cells are missing, why, and the command that runs them."""
    notes: list[str] = []
    for panel, chosen in parts:
        said = say_missing(chosen, panel.rows, panel.sweep, at)
        if said:
            notes.append(f"{panel.label}: {said}" if len(parts) > 1 else said)
    return notes


def missing_frame(parts: Sequence[tuple[Panel, Chosen]]) -> pl.DataFrame:
    """All panels' missing cells, rows by their names in the table."""
    return pl.concat(
        [
            pl.DataFrame(schema=MISSING_SCHEMA),
            *(
                chosen.missing.with_columns(pl.col("row").map_elements(panel.name, return_dtype=pl.String))
                for panel, chosen in parts
            ),
        ]
    )


def command(parts: Sequence[tuple[Panel, Chosen]], at: str) -> str:
    """What runs the cells that are missing, or all of them where none was launched."""
    return " && ".join(commands(((panel.sweep, chosen.cells) for panel, chosen in parts), at))
