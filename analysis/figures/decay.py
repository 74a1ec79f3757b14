"""Figure: post-shift MSE of traces against their decay, with the level of k = 4. The paper has only one decay.

If propagation caused the improvement from k = 0 to k = 4, no decay would reach the level of k = 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.methods import Row
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import BLUE, ORANGE, SINGLE, by_seed, drawn, legend, page
from raysweep.analysis.figures.selected import Part, caption_of, geometric, mse, parts_of, ring

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC = "mse_post_last_500"
DECAYS = (0.0, 0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99)
ROWS = (*(Row(f"decay{decay:g}", f"decay {decay:g}", "traces", 0, {"decay": decay}) for decay in DECAYS), ring(4))
PARTS = {n: Selection("paper/decay", "decay", ROWS, {"hidden": n}, label=f"n = {n}", metric=METRIC) for n in (64, 256)}
_LOOKS = {64: (BLUE, "o", "solid", (0, (5, 1.5)), -0.12), 256: (ORANGE, "^", (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), 0.12)}
_select = parts_of("decay", PARTS.values())


def data(source: Source) -> pl.DataFrame:
    """Read the errors of the done cells.

    Columns: hidden (the number of units), row (the rule's key), decay (null for k = 4), seed, mse.
    """
    return _values(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw seeds as marks, geometric means as a line, and the geometric mean of k = 4 as a horizontal line."""
    parts = _select(source)
    frame = _values(parts)
    levels = geometric(frame, ["hidden", "row", "decay"]).sort("hidden", "decay")
    sheet, (axes,) = page(SINGLE, 3.0)
    for each in parts:
        n = int(str(each.selection.pinned["hidden"]))
        colour, marker, dash, level_dash, shift = _LOOKS[n]
        offsets = by_seed(each.seeds, 0.2)
        means = levels.filter(pl.col("hidden") == n)
        dots = frame.filter((pl.col("hidden") == n) & pl.col("decay").is_not_null() & (pl.col("mse") > 0))
        x = [DECAYS.index(decay) + shift + offsets[seed] for decay, seed in dots.select("decay", "seed").iter_rows()]
        axes.plot(x, dots["mse"].to_list(), marker, color=colour, mew=0, ms=3, alpha=0.6, zorder=3)
        joined = means.filter(pl.col("decay").is_not_null())
        if joined.height:
            places = [DECAYS.index(decay) + shift for decay in joined["decay"].to_list()]
            axes.plot(
                places,
                joined["level"].to_list(),
                color=colour,
                linestyle=dash,
                marker=marker,
                ms=5,
                mfc="white",
                label=f"k = 0, n = {n}",
                zorder=2,
            )
        for level in means.filter(pl.col("decay").is_null())["level"].to_list():
            axes.axhline(level, color=colour, linestyle=level_dash, linewidth=1, label=f"k = 4, n = {n}", zorder=1)
    axes.set_yscale("log")
    axes.set_xticks(range(len(DECAYS)), [f"{decay:g}" for decay in DECAYS])
    axes.set_xlabel("decay of the trace per step")
    axes.set_ylabel("MSE, last 500 steps")
    legend(sheet, axes, 2)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = "Sine: error after the shift against the trace's decay; marks: seeds, lines: geometric means"
    return caption_of(what, _select(source), METRIC)


def _values(parts: list[Part]) -> pl.DataFrame:
    decays = {row.key: row.config.get("decay") for row in ROWS}
    return pl.concat(
        [
            mse(each).select(
                pl.lit(each.selection.pinned["hidden"], dtype=pl.Int64).alias("hidden"),
                "row",
                pl.col("row").replace_strict(decays, return_dtype=pl.Float64).alias("decay"),
                "seed",
                "mse",
            )
            for each in parts
        ]
    )
