"""Notes below comparison tables: the legend, diverged runs, and how often full RTRL is no better than a baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import polars as pl

from raysweep.analysis.cells.notes import named_seeds
from raysweep.analysis.paper.values import STANDINGS
from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.tables.paper_columns import MARKS
from raysweep.analysis.tables.spec import Comparison, Measured, Panel

_BASELINES = {
    "persistence": "Persistence predicts that nothing changes from one step to the next.",
    "rls2": "RLS, 2 taps: each coordinate by recursive least squares on its own last two values.",
    "constant": "The constant is the best one, known in hindsight only.",
}


def legend(spec: Comparison, papers: Sequence[pl.DataFrame]) -> str:
    """Build the legend: metric, statistics, recovery, baselines, and the certainty of the paper's numbers."""
    metrics = dict.fromkeys(panel.metric for panel in spec.panels)
    where = {metric: [panel.label for panel in spec.panels if panel.metric == metric] for metric in metrics}
    names = " and ".join(
        metric if len(metrics) == 1 else f"{metric} ({', '.join(labels)})" for metric, labels in where.items()
    )
    kinds = {panel.quantity for panel in spec.panels}
    average = "geometric mean" if kinds == {"mse"} else "mean" if "mse" not in kinds else "mean (MSE: geometric)"
    sentences = [f"{spec.heading}: {names}, {average} over n seeds with its 95 % interval."]
    if spec.by_seed:
        sentences.append("Mean ± sample sd and CV (population sd / mean): as the paper gives them.")
    if any(panel.ceiling for panel in spec.panels):
        sentences.append(
            "Recovery: Eq. 10 as a ratio of means over seeds, with its 95 % interval; 0 % is k = 0 with that decay, "
            "100 % full RTRL."
        )
    naive = dict.fromkeys(naive.key for panel in spec.panels for naive in panel.naive)
    sentences += [_BASELINES[key] for key in naive if key in _BASELINES]
    if spec.paper is not None:
        sentences.append(standings(papers))
    return " ".join(sentences)


def standings(frames: Iterable[pl.DataFrame]) -> str:
    """Build the legend of the marks after the paper's numbers, and of the dash for unknown numbers."""
    signs = {sign for frame in frames for name in frame.columns if name.endswith("mark") for sign in frame[name]}
    explained = [
        f"{MARKS[standing]} {STANDINGS[standing]}" for standing in STANDINGS if MARKS[standing] in signs - {""}
    ]
    return "Paper: " + "; ".join([f"{ABSENT}, not known to us", *explained]) + "."


def of_panel(part: Measured, panels: Sequence[Panel]) -> list[str]:
    """Note the seeds without a gap and the diverged runs. With several panels, the panel's label comes first."""
    lead = f"{part.panel.label}: " if len(panels) > 1 else ""
    return [f"{lead}{note}" for note in (*_gaps(part), *_diverged(part))]


def _gaps(part: Measured) -> list[str]:
    """Note the number of seeds on which full RTRL is no better than a floor, and whether recovery omits seeds."""
    notes: list[str] = []
    if part.panel.ceiling is None:
        return notes
    for floor, rated in part.recovery.items():
        gaps = rated.filter(pl.col("row") == part.panel.ceiling)["gap"].drop_nulls()
        closed = gaps.filter(gaps <= 0).len()
        if not closed:
            continue
        label = part.panel.labels[floor]
        ratio = math.exp(-float(gaps.to_numpy().mean()))
        where = (
            "over all of them there is nothing to recover from that floor"
            if ratio >= 1
            else "the recovery from that floor is over all of them"
        )
        notes.append(
            f"Eq. 10 needs a gap: full RTRL is no better than {label} on {closed} of {gaps.len()} seeds; {where}. "
            f"Full RTRL's MSE is {ratio:.2g} times that of {label} (geometric mean)."
        )
    heights = [rated.height for rated in part.recovery.values()]
    if any(heights) and min(heights) < part.values.height:
        notes.append("Recovery leaves out seeds whose floor or full RTRL is missing.")
    return notes


def _diverged(part: Measured) -> list[str]:
    """Note the done cells that diverged and therefore have no value. The means do not include them."""
    absent = part.values.filter(pl.col("value").is_null() & pl.col("row").is_in([row.key for row in part.panel.rows]))
    if absent.is_empty():
        return []
    rows = [f"{part.panel.labels[key]}: {named_seeds(seeds)}" for key, seeds in part.panel.seeds_by_row(absent).items()]
    return [f"Diverged, so not in the means: {'; '.join(rows)}."]
