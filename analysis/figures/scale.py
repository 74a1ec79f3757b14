"""Figure: recovery against network size. Is k = 4 enough at any n?

The paper's Sec. 4.6 asks this. Recovery is Eq. 10 for each seed, from traces of decay .95 (0 %) to full RTRL (100 %).
There are three differences from the paper. Recovery is also shown for decay 0. n = 256 has one column per learning
rate, since the paper states none. Bars are medians, since a single seed with a small gap dominates a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import DOUBLE, GREY, MARKS, by_seed, drawn, legend, page, spread_out
from raysweep.analysis.figures.selected import DECAY_0, FULL, TRACES, Part, caption_of, parts_of, ring
from raysweep.analysis.paper.values import paper_values
from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.statistics.recovery import row_recovery

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = (TRACES, DECAY_0, ring(4), FULL)
RATED = (ring(4), DECAY_0)
LAST, ALL = "mse_post_last_500", "mse_post_all"
PARTS = (
    Selection("paper/e1-sine", "sine", ROWS, {"hidden": 64}, "n = 64\nsine", LAST),
    Selection("paper/e2-lorenz", "lorenz", ROWS, {"hidden": 128}, "n = 128\nLorenz", ALL),
    *(
        Selection(
            "paper/e6-n256",
            "sine_n256",
            ROWS,
            {"hidden": 256, "learning_rate": rate},
            f"n = 256\nsine, lr {text}",
            LAST,
        )
        for rate, text in ((3e-4, "3e-4"), (5e-4, "5e-4"), (1e-3, "1e-3"))
    ),
)
MAX_NAMED = 10
"""Maximum number of recoveries beyond the axis that the caption lists."""
SHOWN = (-50.0, 350.0)
"""Axis range in percent; values beyond it are hollow marks at the edge, and the caption lists them."""
_select = parts_of("scale", PARTS)


def data(source: Source) -> pl.DataFrame:
    """Compute the recoveries.

    Columns: place (index into `PARTS`), row (the key of k = 4 or of decay 0), seed, gap (ln MSE of the traces - ln
    MSE of full RTRL), recovery (percent; null if the gap is not positive). A seed without traces or without full RTRL
    is left out.
    """
    return _rated(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw one column per entry of `PARTS`: seeds as marks, medians as bars.

    The label of a column gives the number of seeds on which full RTRL is better than the traces. Only these have a
    recovery.
    """
    parts = _select(source)
    frame = _rated(parts)
    low, high = SHOWN
    sheet, (axes,) = page(DOUBLE, 2.9)
    for level, label in ((0.0, "traces, decay 0.95"), (100.0, "full RTRL")):
        mark = MARKS[TRACES.key if level == 0 else FULL.key]
        axes.axhline(level, color=mark.colour, linestyle=mark.dash, linewidth=0.9, label=label, zorder=1)
    ticks: list[str] = []
    for place, each in enumerate(parts):
        here = frame.filter(pl.col("place") == place)
        for side, row in zip((-0.2, 0.12), RATED, strict=True):
            mark = MARKS[row.key]
            part = here.filter((pl.col("row") == row.key) & pl.col("recovery").is_not_null())
            offsets = by_seed(each.seeds, 0.2)
            for seed, value in part.select("seed", "recovery").iter_rows():
                axes.plot(
                    [place + side + offsets[seed]],
                    [min(max(value, low), high)],
                    mark.marker,
                    color=mark.colour,
                    mfc=mark.colour if low <= value <= high else "white",
                    mew=0.8,
                    ms=3,
                    zorder=3,
                    clip_on=False,
                )
            if part.height:
                median = min(max(float(np.median(part["recovery"].to_numpy())), low), high)
                axes.hlines(median, place + side - 0.14, place + side + 0.14, color=mark.colour, linewidth=1.8)
        gap = here.filter(pl.col("row") == RATED[0].key)["gap"].drop_nulls()
        ticks.append(
            f"{each.selection.label}\n"
            + (f"gap on {gap.filter(gap > 0).len()} of {gap.len()}" if gap.len() else ABSENT)
        )
    for row in RATED:
        axes.plot([], [], MARKS[row.key].marker, color=MARKS[row.key].colour, label=row.label)
    mean, sd = _printed("table03").filter(pl.col("seed").is_null()).select("value", "sd").row(0)
    label = f"{RATED[0].label}, the paper's"
    axes.errorbar([0.38], [mean], [sd], fmt="o", color=GREY, mfc="none", elinewidth=0.8, ms=3.5, mew=0.8, label=label)
    ticks.append("n = 256\nsine, the paper's\nlr not stated")
    seeds = _printed("table09").filter(pl.col("seed").is_not_null())["value"].to_list()
    axes.plot(
        [len(parts) + x for x in spread_out(len(seeds), 0.3)], seeds, "o", color=GREY, mfc="none", ms=3.5, mew=0.8
    )
    axes.set_ylim(low, high)
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_ylabel("recovery, % of the log gap")
    legend(sheet, axes, 5)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    parts = _select(source)
    frame = _rated(parts)
    outside = frame.filter(~pl.col("recovery").is_between(*SHOWN))
    what = (
        "Recovery (Eq. 10, 0 %: traces of decay 0.95, 100 %: full RTRL) of k = 4 and of decay 0; marks: seeds, bars: "
        "medians; below: number of seeds with a gap, where full RTRL is better than the traces; others have no "
        "recovery; the paper's: mean and sd at n = 64, seeds at n = 256"
    )
    if outside.height:
        values = [f"{value:.0f}" for value in sorted(outside["recovery"].to_list())]
        if len(values) > MAX_NAMED:
            values = [f"{len(values)} from {values[0]} to {values[-1]}"]
        what += f"; beyond the axis, hollow at its edge: {', '.join(values)} %"
    return caption_of(what, parts, f"{LAST}, on Lorenz {ALL}")


def _rated(parts: Sequence[Part]) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    rated_keys = [row.key for row in RATED]
    for place, each in enumerate(parts):
        rated = row_recovery(each.values(), TRACES.key, FULL.key).filter(pl.col("row").is_in(rated_keys))
        frames.append(rated.select(pl.lit(place, dtype=pl.Int64).alias("place"), "row", "seed", "gap", "recovery"))
    return pl.concat(frames)


def _printed(table: str) -> pl.DataFrame:
    """Read the paper's recoveries of k = 4 from one of its tables."""
    return paper_values(table).filter((pl.col("quantity") == "recovery") & (pl.col("row") == RATED[0].key))
