"""The figures: `FIGURES[name](source)` draws one, `CAPTIONS[name](source)` is its caption, `save` writes it.

One file a figure: `data`, a pure function from a `Source` to a frame; `figure`, the drawing of that frame;
`caption`. A figure draws the cells that are done, and its caption names the missing ones. Importing this package
loads no matplotlib; drawing does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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

__all__ = ["CAPTIONS", "FIGURES", "FORMATS", "destination", "save"]

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
"""Name -> function from a store's source to that figure."""

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
"""Name -> function from a store's source to that figure's caption, one line."""
