"""Figure: error over session B, with and without learning, on both pairs of sessions of Experiment 9.

It shows which rules follow the drift, and how fast. The paper has no such figure. Two baselines are added: traces of
decay 0, and ridge regression refitted on B's first three minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import BLACK, DOUBLE, GREY, draw_band, drawn, legend, page, panel_label
from raysweep.analysis.figures.selected import (
    DECAY_0,
    FULL,
    TRACES,
    Part,
    caption_of,
    parts_of,
    per_seed,
    ring,
    running,
    series,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW = 20
"""Length of the running mean: 20 points of 50 bins each, which is 64 s."""
SESSION_B = "20170131_02"
ROWS = (TRACES, DECAY_0, ring(4), FULL)
REFIT = "ridge_refit_b_late"
ADAPTING, FROZEN = "mse_b", "frozen_b"
PARTS = tuple(
    Selection(
        "paper/e9-bci",
        "bci",
        ROWS,
        {"hidden": 64, "session_a": session_a, "session_b": SESSION_B},
        label=label,
        arrays=(ADAPTING, FROZEN),
    )
    for session_a, label in (("20160630_01", "20160630_01, relabelled"), ("20160624_03", "20160624_03, clean"))
)
_select = parts_of("decoding", PARTS)


def data(source: Source) -> pl.DataFrame:
    """Compute the running mean of errors over session B, summarized over seeds.

    Columns: label (of the pair of sessions), name (`mse_b` with learning, `frozen_b` without), row (the rule's key),
    minutes, median, low and high (the range over seeds). A seed counts at a time only if it has all of the last
    `WINDOW` points. So it does not count after it has diverged.
    """
    return pl.concat([_summary(part) for part in _select(source)])


@drawn
def figure(source: Source) -> Figure:
    """Draw one panel per pair of sessions: medians over seeds as lines, ranges from best to worst seed as bands."""
    parts = _select(source)
    sheet, panels = page(DOUBLE, 2.8, len(parts))
    for axes, each in zip(panels, parts, strict=True):
        frame = _summary(each)
        for row in ROWS:
            part = frame.filter((pl.col("row") == row.key) & (pl.col("name") == ADAPTING))
            if part.height:
                draw_band(axes, part, "minutes", row)
        frozen = frame.filter((pl.col("row") == FULL.key) & (pl.col("name") == FROZEN))
        axes.plot(
            frozen["minutes"].to_list(),
            frozen["median"].to_list(),
            color=BLACK,
            linewidth=0.6,
            label="full RTRL, frozen",
        )
        level = per_seed(each, REFIT)["mse"].drop_nulls() if REFIT in each.done.columns else pl.Series([])
        if level.len():
            axes.axhline(
                float(level.to_numpy().mean()), color=GREY, linestyle=(0, (1, 1.2)), label="ridge refitted in B, late"
            )
        axes.set_xlabel("minutes into session B")
        panel_label(axes, each.selection.label)
    panels[0].set_ylabel("squared error, mean of 64 s")
    legend(sheet, panels[0] if parts[0].done.height else panels[-1], 3)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = (
        f"Decoding velocity in session B = {SESSION_B} after training on A: squared error of z-scored velocity, mean "
        "of the last 64 s; lines: median over seeds, bands: their range"
    )
    return caption_of(what, _select(source), f"arrays {ADAPTING}, {FROZEN}")


def _summary(part: Part) -> pl.DataFrame:
    order = pl.Enum([row.key for row in ROWS])
    bin_ms = float(str(part.settings.get("bin_ms", 64)))
    return (
        running(series(part), WINDOW, ["name", "row"])
        .select(
            pl.lit(part.selection.label).alias("label"),
            "name",
            pl.col("row").cast(order),
            (pl.col("step") * bin_ms / 60_000).alias("minutes"),
            "median",
            "low",
            "high",
        )
        .sort("name", "row", "minutes")
        .with_columns(pl.col("row").cast(pl.String))
    )
