"""Figure: recovery (Eq. 12), and error relative to a refitted ridge, against the days between two sessions.

The paper has one pair of sessions and asks for more pairs. This figure has every ordered pair of the available
sessions, forwards and backwards in time. The mark of a pair is hollow if the channels of one of its sessions are in
another order than in the recordings before and after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl

from raysweep.analysis.cells.notes import command, origin_notes
from raysweep.analysis.cells.selection import Selection, select
from raysweep.analysis.cells.source import Source
from raysweep.analysis.errors import NothingDone
from raysweep.analysis.figures.drawing import DOUBLE, GREY, MARKS, drawn, legend, page, panel_label
from raysweep.analysis.figures.selected import DECAY_0, TRACES, Part, ring
from raysweep.workloads.bci.recordings.sessions import ANOTHER_ORDER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SWEEP, EXPERIMENT, HIDDEN = "paper/e9-pairs", "bci_pairs", 64
ROWS = (TRACES, DECAY_0, ring(4))
METRICS = ("mse_b_late", "frozen_b_late", "mse_a_end", "ridge_refit_b_late", "gap_days")
LOWEST, HIGHEST = -50.0, 250.0
"""Axis range in percent; recoveries beyond it are drawn at the edge.

Such recoveries occur where the denominator of Eq. 12 (the frozen decoder's rise in MSE) is near 0.
"""
REFIT = "ridge_refit_b_late"
BEFORE = 0.5
"""Position of a gap of 0 days on the logarithmic axis."""
BESIDE = (0.9, 1.0, 1.1)
"""Factors on the x axis that keep the rules' marks apart."""


def data(source: Source) -> pl.DataFrame:
    """Compute one row per pair of sessions and rule, with means over seeds.

    Columns: session_a, session_b, row (the rule's key), days (between the sessions, not negative), relabelled, n (the
    number of seeds), the means of the errors in `METRICS`, and recovery. `relabelled` tells whether two different
    sessions are paired of which at least one is in `ANOTHER_ORDER`. Recovery is Eq. 12 of the means, in percent. It
    is null if the frozen decoder's error did not rise.
    """
    names = [name for name in METRICS if name != "gap_days"]
    frames = []
    for (a, b), part in _pairs(source):
        done = part.done
        if done.is_empty():
            continue
        metrics = [
            pl.col(name).cast(pl.Float64) if name in done.columns else pl.lit(None, pl.Float64) for name in METRICS
        ]
        frames.append(
            done.select("row", *(column.alias(name) for column, name in zip(metrics, METRICS, strict=True)))
            .group_by("row", maintain_order=True)
            .agg(
                pl.col("gap_days").abs().max().alias("days"),
                pl.len().cast(pl.Int64).alias("n"),
                *(pl.col(name).mean() for name in names),
            )
            .select(
                pl.lit(a).alias("session_a"),
                pl.lit(b).alias("session_b"),
                "row",
                "days",
                pl.lit(a != b and bool({a, b} & ANOTHER_ORDER)).alias("relabelled"),
                "n",
                *names,
            )
        )
    if not frames:
        raise NothingDone(
            f"figure 'gap' has nothing to draw, as none of its cells is done; run: raysweep launch {SWEEP}{source.at}"
        )
    drift = pl.col("frozen_b_late") - pl.col("mse_a_end")
    return pl.concat(frames).with_columns(
        recovery=pl.when(drift > 0).then(100 * (pl.col("frozen_b_late") - pl.col("mse_b_late")) / drift)
    )


@drawn
def figure(source: Source) -> Figure:
    """Draw recovery (left) and error relative to a refitted ridge (right), one mark per pair and rule.

    A mark is hollow if the pair is `relabelled` (see `data`).
    """
    frame = data(source).filter(pl.col("days").is_not_null())
    sheet, (left, right) = page(DOUBLE, 3.0, 2, share=False)
    for row, aside in zip(ROWS, BESIDE, strict=True):
        mark = MARKS[row.key]
        for relabelled in (False, True):
            part = frame.filter((pl.col("row") == row.key) & (pl.col("relabelled") == relabelled))
            days = [aside * max(day, BEFORE) for day in part["days"].to_list()]
            style: dict[str, Any] = {"color": mark.colour, "mew": 0.6, "markersize": 2.5, "linestyle": "none"}
            style |= {"mfc": "none"} if relabelled else {}
            label = None if relabelled else f"k = 0, {row.label}" if row.method == "traces" else row.label
            left.plot(days, part["recovery"].clip(LOWEST, HIGHEST).to_list(), mark.marker, label=label, **style)
            right.plot(days, (part["mse_b_late"] / part[REFIT]).to_list(), mark.marker, **style)
    for level in (0, 100):
        left.axhline(level, color=GREY, linewidth=0.6)
    right.axhline(1, color=GREY, linewidth=0.6)
    left.set_ylabel("recovery, Eq. 12, %")
    right.set_ylabel("MSE late in B / ridge refitted in B")
    right.set_yscale("log")
    right.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    right.yaxis.set_minor_formatter("")
    for axes, name in ((left, "recovery"), (right, "remaining error")):
        axes.set_xscale("log")
        axes.set_xticks([BEFORE, 1, 10, 100], ["0", "1", "10", "100"])
        axes.set_xlabel("days between the sessions")
        panel_label(axes, name)
    legend(sheet, left, 3)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    frame = data(source)
    pairs = frame.select("session_a", "session_b").unique().height
    fewest, most = (int(of) for of in frame.select(pl.col("n").min(), pl.col("n").max().alias("most")).row(0))
    seeds = f"{most} seed{'' if most == 1 else 's'}" if fewest == most else f"{fewest} to {most} seeds"
    beyond = frame.filter((pl.col("recovery") < LOWEST) | (pl.col("recovery") > HIGHEST)).height
    without = frame["recovery"].null_count()
    sentences = [
        f"Decoding over {pairs} ordered pairs of sessions, n = {HIDDEN}: one mark per pair, mean over seeds; hollow: "
        "channels of one session in another order. Left: recovery; right: MSE divided by that of ridge fitted on B's "
        "first three minutes.",
        f"Metric: Eq. 12 of mse_b_late, frozen_b_late, mse_a_end; sweep: {SWEEP}; n = {seeds}.",
        f"Of {frame.height} recoveries, {beyond} lie beyond the axis; {without} are undefined, as nothing was lost.",
        _trend(frame),
    ]
    parts = [part for _, part in _pairs(source)]
    sentences += origin_notes(parts)
    missing = pl.concat([part.missing for part in parts])
    if missing.height:
        statuses = ", ".join(
            f"{n} {status}" for status, n in missing.group_by("status").len().sort("status").iter_rows()
        )
        expected = sum(part.expected for part in parts)
        sentences.append(f"Missing: {missing.height} of {expected} cells ({statuses}). To run them: {command(parts)}.")
    return " ".join(sentences)


def _trend(frame: pl.DataFrame) -> str:
    """Describe the rank correlation of gap and recovery over the clean pairs, one number per rule.

    In a clean pair, the sessions differ, and neither of them is in `ANOTHER_ORDER`.
    """
    clean = frame.filter(~pl.col("relabelled") & (pl.col("session_a") != pl.col("session_b")))
    correlations = []
    for row in ROWS:
        part = clean.filter(pl.col("row") == row.key).drop_nulls(["days", "recovery"])
        if part.height > 2:
            r = part.select(pl.corr("days", "recovery", method="spearman")).item()
            correlations.append(f"{row.label} {r:.2f}")
    pairs = clean.select("session_a", "session_b").unique().height
    return f"Rank correlation of gap and recovery over the {pairs} clean pairs: {', '.join(correlations) or 'none'}."


def _pairs(source: Source) -> Iterator[tuple[tuple[str, str], Part]]:
    """Yield each pair of sessions in the store with its cells."""
    cells = source.cells.filter(pl.col("experiment") == EXPERIMENT)
    if cells.is_empty():
        return
    selection = Selection(SWEEP, EXPERIMENT, ROWS, {"hidden": HIDDEN})
    for (a, b), pair in sorted(cells.group_by("session_a", "session_b")):
        yield (str(a), str(b)), select(source._replace(cells=pair), selection)
