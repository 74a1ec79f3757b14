"""Figure: accuracy on each task after training on each task, to show learning and forgetting (the paper's Sec. 4.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from raysweep.analysis.cells.methods import DENSE, NO_REPLAY, TRACE_LIKE, TRANSFORMER, sparse_heads
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import DOUBLE, drawn, page, panel_label
from raysweep.analysis.figures.heads import SEEDS
from raysweep.analysis.figures.selected import Part, caption_of, one_part, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = 5
NAMES = tuple(f"accuracy_after_{i}" for i in range(1, TASKS + 1))
ROWS = (DENSE, sparse_heads(6), sparse_heads(4), TRACE_LIKE, NO_REPLAY)
PART = Selection("paper/e7-heads", "vit_heads", ROWS, TRANSFORMER, arrays=NAMES, seeds=SEEDS)
_select = one_part("tasks", PART)


def data(source: Source) -> pl.DataFrame:
    """Compute mean accuracies over seeds.

    Columns: row (the method's key), after (the last task trained), task (the task tested; both from 1), accuracy, n
    (the number of seeds).
    """
    return _matrix(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw one matrix of accuracies per method, in percent: rows are the last task trained, columns the task tested.

    Darker is better.
    """
    frame = _matrix(_select(source))
    there = [row for row in ROWS if row.key in frame["row"].to_list()]
    sheet, panels = page(DOUBLE, 1.9, len(there))
    for axes, row in zip(panels, there, strict=True):
        image = np.full((TASKS, TASKS), np.nan)
        for after, task, value in (
            frame.filter(pl.col("row") == row.key).select("after", "task", "accuracy").iter_rows()
        ):
            image[after - 1, task - 1] = value
            axes.text(
                task - 1,
                after - 1,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=6,
                color="white" if value > 0.5 else "black",
            )
        axes.imshow(image, vmin=0, vmax=1, cmap="Greys", aspect="equal")
        axes.set_xticks(range(TASKS), [str(i) for i in range(1, TASKS + 1)])
        axes.set_yticks(range(TASKS), [str(i) for i in range(1, TASKS + 1)])
        axes.set_xlabel("task")
        panel_label(axes, row.label)
    panels[0].set_ylabel("after task")
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = "Accuracy in percent on each task (columns) after training on each (rows), mean over seeds, one ten-way head"
    return caption_of(what, [_select(source)], "arrays accuracy_after_1 to accuracy_after_5")


def _matrix(selected: Part) -> pl.DataFrame:
    return (
        series(selected)
        .filter(pl.col("value").is_not_null())
        .select(
            "row",
            "seed",
            pl.col("name").str.extract(r"(\d+)$").cast(pl.Int64).alias("after"),
            (pl.col("step") + 1).alias("task"),
            "value",
        )
        .group_by("row", "after", "task")
        .agg(accuracy=pl.col("value").mean(), n=pl.len().cast(pl.Int64))
        .with_columns(pl.col("row").cast(pl.Enum([row.key for row in ROWS])))
        .sort("row", "after", "task")
        .with_columns(pl.col("row").cast(pl.String))
    )
