"""Figure: post-shift MSE against k on the sine (the paper's Table 3).

Does the error drop between k = 0 and k = 4, or between two decays of k = 0? Unlike the paper, the figure shows k = 0
twice: with the decay .95, which reproduces the paper's level, and with decay 0. It also shows persistence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import GREY, MARKS, SINGLE, by_seed, drawn, legend, page
from raysweep.analysis.figures.selected import (
    DECAY_0,
    FULL,
    TRACES,
    Part,
    caption_of,
    geometric,
    mse,
    one_part,
    per_seed,
    ring,
)
from raysweep.analysis.paper.values import paper_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN = 64
METRIC = "mse_post_last_500"
PERSISTENCE = "persistence_post_last_500"
PART = Selection(
    "paper/e1-sine",
    "sine",
    (TRACES, DECAY_0, *(ring(k) for k in (4, 8, 16, 32)), FULL),
    {"hidden": HIDDEN},
    metric=METRIC,
)
COLUMNS = {TRACES.key: 0, DECAY_0.key: 0, "k4": 4, "k8": 8, "k16": 16, "k32": 32, FULL.key: HIDDEN}
_select = one_part("step", PART)


def data(source: Source) -> pl.DataFrame:
    """Read the errors of the done cells, and add those of persistence.

    Columns: row (the method's key, or "persistence"), k (null for persistence), seed, mse.
    """
    return _values(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw seeds as dots, geometric means as bars, k = 0 and persistence as lines, the paper's values as crosses."""
    selected = _select(source)
    frame = _values(selected)
    levels = dict(geometric(frame, ["row"]).select("row", "level").iter_rows())
    sheet, (axes,) = page(SINGLE, 3.1)
    places = {k: i for i, k in enumerate(sorted(set(COLUMNS.values())))}
    offsets = by_seed(selected.seeds, 0.4)

    lines = {TRACES.key: "k = 0, decay 0.95", DECAY_0.key: "k = 0, decay 0", "persistence": "persistence"}
    for key, label in lines.items():
        if key in levels:
            mark = MARKS[key]
            axes.axhline(levels[key], color=mark.colour, linestyle=mark.dash, linewidth=1, label=label, zorder=1)
    for key, k in COLUMNS.items():
        part = frame.filter((pl.col("row") == key) & (pl.col("mse") > 0))
        if part.is_empty():
            continue
        mark = MARKS.get(key, MARKS["k4"])
        x = [places[k] + offsets[seed] for seed in part["seed"].to_list()]
        label = {"k4": f"k of {HIDDEN} paths", FULL.key: FULL.label}.get(key, "")
        axes.plot(
            x, part["mse"].to_list(), mark.marker, color=mark.colour, alpha=0.75, mew=0, label=label or None, zorder=3
        )
        axes.hlines(levels[key], places[k] - 0.32, places[k] + 0.32, color=mark.colour, linewidth=1.8, zorder=4)
    paper = paper_values("table03").filter((pl.col("quantity") == "mse") & pl.col("row").is_in(list(COLUMNS)))
    axes.plot(
        [places[COLUMNS[row]] + 0.42 for row in paper["row"].to_list()],
        paper["value"].to_list(),
        "X",
        color="white",
        markeredgecolor=GREY,
        markersize=5.5,
        markeredgewidth=0.9,
        label="the paper",
        zorder=5,
    )
    axes.set_yscale("log")
    axes.set_xticks(list(places.values()), [str(k) for k in places])
    axes.set_xlabel("propagated paths per unit, k")
    axes.set_ylabel("MSE, last 500 steps")
    legend(sheet, axes, 2)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = (
        f"Sine, n = {HIDDEN}: error after the shift against k; dots: seeds, bars and lines: geometric means; "
        "the paper's full RTRL is implied by its Eq. 10"
    )
    return caption_of(what, [_select(source)], METRIC)


def _values(selected: Part) -> pl.DataFrame:
    persistence = per_seed(selected, PERSISTENCE).select(
        pl.lit("persistence").alias("row"), pl.lit(None, dtype=pl.Int64).alias("k"), "seed", "mse"
    )
    k = pl.col("row").replace_strict(COLUMNS, return_dtype=pl.Int64).alias("k")
    return pl.concat([mse(selected).select("row", k, "seed", "mse"), persistence])
