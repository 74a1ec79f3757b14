"""Squared error around the sine's shift, over time: who follows the change, and how fast?

A running mean over the steps up to each one, so that no step before the shift knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import GREY, SINGLE, draw_band, drawn, legend, page
from raysweep.analysis.figures.selected import DECAY_0, FULL, TRACES, Part, caption_of, one_part, ring, running, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW = 25
BEFORE, AFTER = 200, 1000
HIDDEN = 64
PART = Selection("paper/e1-sine", "sine", (TRACES, DECAY_0, ring(4), FULL), {"hidden": HIDDEN}, arrays=("loss",))
_select = one_part("curves", PART)


def data(source: Source) -> pl.DataFrame:
    """Columns row, step (0 is the first after the shift), median, low, high, n over seeds of the running mean.

    A step counts only for seeds that have all `WINDOW` errors up to it: not those that diverged before.
    """
    return _summary(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """A line for the median over seeds, a band from the best seed to the worst."""
    selected = _select(source)
    frame = _summary(selected)
    sheet, (axes,) = page(SINGLE, 2.8)
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
    for row in PART.rows:
        part = frame.filter(pl.col("row") == row.key)
        if part.is_empty():
            continue
        draw_band(axes, part, "step", row)
    axes.set_yscale("log")
    axes.set_xlim(-BEFORE, AFTER)
    axes.set_xlabel("steps after the shift")
    axes.set_ylabel(f"squared error, mean of {WINDOW} steps")
    legend(sheet, axes, 2)
    return sheet


def caption(source: Source) -> str:
    """The caption, one line."""
    what = (
        f"Sine, n = {HIDDEN}: squared error around the shift, running mean of the last {WINDOW} steps; "
        "lines: median over seeds, bands: their range"
    )
    return caption_of(what, [_select(source)], "array loss")


def _summary(selected: Part) -> pl.DataFrame:
    losses = series(selected)  # first, since it refuses cells without the array
    shift = int(str(selected.settings["shift"]))
    order = pl.Enum([row.key for row in PART.rows])
    return (
        running(losses, WINDOW, ["row"])
        .with_columns(step=pl.col("step") - shift)
        .filter(pl.col("step").is_between(-BEFORE, AFTER))
        .sort(pl.col("row").cast(order), "step")
    )
