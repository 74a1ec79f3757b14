"""Figure: cosine between each rule's gradient and exact RTRL's, against k, before and after the shift (Sec. 5.1).

Unlike the paper, the figure includes k = 0. It also shows the past part of the gradient separately, which is the
gradient without its immediate part. Every rule except the decaying trace computes the immediate part exactly, which
raises the cosine of the whole gradient. Each rule is measured on its own trajectory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.methods import sparse
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import DOUBLE, GREEN, MARKS, PURPLE, by_seed, drawn, legend, page, panel_label
from raysweep.analysis.figures.selected import DECAY_0, FULL, TRACES, Part, caption_of, one_part, ring, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN = 64
WINDOW = 500
RANDOM1 = replace(sparse(1, "random"), key="k1")
LEVELS = (DECAY_0, TRACES)
PART = Selection(
    "paper/alignment",
    "alignment",
    (*LEVELS, RANDOM1, *(ring(k) for k in (2, 4, 8, 16, 32)), FULL),
    {"hidden": HIDDEN},
    arrays=("cosine_all", "past_cosine_all"),
)
COLUMNS = {"k1": 1, "k2": 2, "k4": 4, "k8": 8, "k16": 16, "k32": 32, FULL.key: HIDDEN}
PANELS = dict(zip(PART.arrays, ("whole gradient", "its past part"), strict=True))
_PERIODS = {"before": (GREEN, "o", "solid", GREEN, 1.3), "after": (PURPLE, "^", (0, (4, 1.5)), "white", 0.7)}
_select = one_part("alignment", PART)


def data(source: Source) -> pl.DataFrame:
    """Compute the mean cosines over `WINDOW` steps before the shift, and over as many after it.

    Columns: row (the rule's key), k (null for traces), seed, name (`cosine_all` for the whole gradient,
    `past_cosine_all` for its past part), period ("before", "after"), cosine.
    """
    return _values(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw one panel for the whole gradient and one for its past part, with k = 0 as horizontal lines."""
    selected = _select(source)
    frame = _values(selected)
    offsets = by_seed(selected.seeds, 0.22)
    places = {k: i for i, k in enumerate(COLUMNS.values())}
    sheet, panels = page(DOUBLE, 2.8, 2)
    for axes, (name, label_text) in zip(panels, PANELS.items(), strict=True):
        for period, (colour, marker, dash, fill, width) in _PERIODS.items():
            here = frame.filter((pl.col("name") == name) & (pl.col("period") == period))
            for row in LEVELS:
                level = here.filter(pl.col("row") == row.key)["cosine"]
                if level.len():
                    mark = MARKS[row.key]
                    label = f"k = 0, {row.label}"
                    mean = float(level.to_numpy().mean())
                    axes.axhline(mean, color=mark.colour, linestyle=mark.dash, linewidth=width, label=label, zorder=1)
            part = here.filter(pl.col("k").is_not_null()).sort("k")
            x = [places[k] + offsets[seed] for k, seed in part.select("k", "seed").iter_rows()]
            axes.plot(x, part["cosine"].to_list(), marker, color=colour, mfc=fill, mew=0.5, ms=2.2, alpha=0.7, zorder=3)
            means = part.group_by("k", maintain_order=True).agg(pl.col("cosine").mean())
            axes.plot(
                [places[k] for k in means["k"].to_list()],
                means["cosine"].to_list(),
                color=colour,
                linestyle=dash,
                marker=marker,
                mfc=fill,
                ms=4.5,
                label=f"{WINDOW} steps {period} the shift",
                zorder=2,
            )
        axes.set_xticks(list(places.values()), [str(k) for k in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_ylim(-0.16, 1.06)
        axes.set_xlabel(f"propagated paths per unit, k ({HIDDEN}: full RTRL)")
        panel_label(axes, label_text)
    panels[0].set_ylabel("cosine with the exact gradient")
    legend(sheet, panels[0], 4)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = (
        f"Sine, n = {HIDDEN}: cosine with exact RTRL's gradient along each rule's own training, means over {WINDOW} "
        "steps; marks: seeds, lines: means over seeds (for k = 0, thin: after the shift); k = 1 uses a random path, "
        "larger k a ring"
    )
    return caption_of(what, [_select(source)], f"arrays {', '.join(PART.arrays)}")


def _values(selected: Part) -> pl.DataFrame:
    shift = int(str(selected.settings["shift"]))
    order = pl.Enum([row.key for row in PART.rows])
    step = pl.col("step")
    return (
        series(selected)
        .filter(step.is_between(shift - WINDOW, shift + WINDOW, closed="left") & pl.col("value").is_not_null())
        .with_columns(period=pl.when(step < shift).then(pl.lit("before")).otherwise(pl.lit("after")))
        .group_by("row", "seed", "name", "period")
        .agg(cosine=pl.col("value").mean())
        .select(
            "row",
            pl.col("row").replace_strict(COLUMNS, default=None, return_dtype=pl.Int64).alias("k"),
            "seed",
            "name",
            "period",
            "cosine",
        )
        .sort(pl.col("row").cast(order), "seed", "name", pl.col("period").cast(pl.Enum(["before", "after"])))
    )
