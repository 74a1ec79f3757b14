"""Figure: condition number of the influence matrix J through training, on the sine and on Lorenz (Sec. 5.1).

Unlike the paper, the figure also shows the immediate influence alone. Its condition number depends only on how unequal
the units' slopes are, not on propagation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import BLACK, DOUBLE, GREY, ORANGE, drawn, legend, page, panel_label
from raysweep.analysis.figures.selected import FULL, Part, caption_of, parts_of, series
from raysweep.analysis.statistics.spread import COLLAPSED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN = 64
WHOLE, IMMEDIATE = ARRAYS = ("condition", "immediate_condition")
PARTS = {
    "sine": Selection("paper/spectra-sine", "spectra_sine", (FULL,), {"hidden": HIDDEN}, "sine", arrays=ARRAYS),
    "Lorenz": Selection("paper/spectra-lorenz", "spectra_lorenz", (FULL,), {"hidden": HIDDEN}, "Lorenz", arrays=ARRAYS),
}
_LINES = {
    WHOLE: ("J, one line per seed", BLACK, "solid"),
    IMMEDIATE: ("its immediate block", ORANGE, (0, (4, 1.5))),
}
_select = parts_of("condition", PARTS.values())


def data(source: Source) -> pl.DataFrame:
    """Read the condition numbers. Columns: task, seed, name ("condition", "immediate_condition"), step, value."""
    return _values(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw one panel per task, with one thin line per seed."""
    parts = _select(source)
    frame = _values(parts)
    sheet, panels = page(DOUBLE, 2.6, len(PARTS))
    for axes, (task, each) in zip(panels, zip(PARTS, parts, strict=True), strict=True):
        here = frame.filter(pl.col("task") == task)
        for name, (label, colour, dash) in _LINES.items():
            of_name = here.filter(pl.col("name") == name)
            for (seed,), part in of_name.group_by("seed", maintain_order=True):
                step, value = part["step"].to_list(), part["value"].to_list()
                axes.plot(step, value, color=colour, linestyle=dash, linewidth=0.7, label=label)
                top = max(range(len(value)), key=lambda at: value[at])
                if name == WHOLE and value[top] > COLLAPSED:
                    axes.annotate(
                        f"seed {seed}", (step[top], value[top]), xytext=(3, 2), textcoords="offset points", color=colour
                    )
        if "shift" in each.settings:
            shift = int(str(each.settings["shift"]))
            axes.axvline(shift, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)), label="shift")
        axes.set_yscale("log")
        axes.locator_params(axis="x", nbins=5)
        axes.set_ylim(bottom=0.9)
        axes.set_xlabel("training step")
        panel_label(axes, task)
    panels[0].set_ylabel("condition number")
    legend(sheet, panels[0] if panels[0].lines[1:] else panels[1], 3)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = (
        f"Condition number of full RTRL's influence matrix J (largest over smallest singular value) through training, "
        f"n = {HIDDEN}, one thin line per seed; dashed: its immediate block alone; labelled: seeds that collapse "
        f"(above {COLLAPSED:g})"
    )
    return caption_of(what, _select(source), f"arrays {', '.join(ARRAYS)}")


def _values(parts: list[Part]) -> pl.DataFrame:
    return pl.concat(
        [
            series(each)
            .filter(pl.col("value").is_not_null())
            .select(pl.lit(task).alias("task"), "seed", "name", "step", "value")
            for task, each in zip(PARTS, parts, strict=True)
        ]
    )
