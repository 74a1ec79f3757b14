"""The figures: `FIGURES[name](source)` draws one, `CAPTIONS[name](source)` returns its caption, `save` writes it.

Each figure has one file with three functions. `data` is pure and computes a frame from a `Source`. `figure` draws this
frame. `caption` describes it. A figure shows the done cells, and its caption lists the missing ones. Matplotlib is
imported only when a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures import (
    alignment,
    condition,
    curves,
    decay,
    decoding,
    gap,
    heads,
    importance,
    scale,
    spread,
    step,
    tasks,
)
from raysweep.analysis.figures.drawing import FORMATS, destination, save
from raysweep.workloads.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "FIGURES", "FORMATS", "READS", "destination", "save"]

FIGURES: Registry[Callable[[Source], Figure]] = Registry(
    "figure",
    {
        "step": step.figure,
        "curves": curves.figure,
        "spread": spread.figure,
        "scale": scale.figure,
        "condition": condition.figure,
        "alignment": alignment.figure,
        "decay": decay.figure,
        "decoding": decoding.figure,
        "gap": gap.figure,
        "heads": heads.figure,
        "tasks": tasks.figure,
        "importance": importance.figure,
    },
)
"""Name -> function that draws the figure from a store's source."""

CAPTIONS: Registry[Callable[[Source], str]] = Registry(
    "figure",
    {
        "step": step.caption,
        "curves": curves.caption,
        "spread": spread.caption,
        "scale": scale.caption,
        "condition": condition.caption,
        "alignment": alignment.caption,
        "decay": decay.caption,
        "decoding": decoding.caption,
        "gap": gap.caption,
        "heads": heads.caption,
        "tasks": tasks.caption,
        "importance": importance.caption,
    },
)
"""Name -> function that returns the figure's caption, one line, from a store's source."""

READS: Mapping[str, tuple[Selection, ...]] = {
    "curves": (curves.PART,),
    "condition": tuple(condition.PARTS.values()),
    "alignment": (alignment.PART,),
    "decoding": decoding.PARTS,
    "tasks": (tasks.PART,),
    "importance": (importance.PART,),
}
"""Name of each figure that reads recorded arrays -> its selections, which name the arrays."""
