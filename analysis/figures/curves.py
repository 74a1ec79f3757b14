"""Figure: squared error over time around the sine's shift. It shows which rules follow the change, and how fast.

The running mean at a step covers only this step and earlier ones. So values before the shift contain no error from
after the shift.
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
    """Compute the running mean of squared errors, summarized over seeds.

    Columns: row (the rule's key), step (0: first after the shift), median, low and high (the range over seeds), n
    (the number of seeds). A seed counts at a step only if it has an error at each of the last `WINDOW` steps. So it
    does not count after it has diverged.
    """
    return _summary(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw the median over seeds as a line, and the range from the best seed to the worst as a band."""
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
    """Describe the figure on one line, including its missing cells."""
    what = (
        f"Sine, n = {HIDDEN}: squared error around the shift, running mean of the last {WINDOW} steps; "
        "lines: median over seeds, bands: their range"
    )
    return caption_of(what, [_select(source)], "array loss")


def _summary(selected: Part) -> pl.DataFrame:
    losses = series(selected)  # first, because it rejects cells without the array
    shift = int(str(selected.settings["shift"]))
    order = pl.Enum([row.key for row in PART.rows])
    return (
        running(losses, WINDOW, ["row"])
        .with_columns(step=pl.col("step") - shift)
        .filter(pl.col("step").is_between(-BEFORE, AFTER))
        .sort(pl.col("row").cast(order), "step")
    )
