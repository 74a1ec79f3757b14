"""Figure: each head's Fisher information against its entropy after the first task. Do both rank heads alike?

The paper (Sec. 4.8) ranks heads by either measure, and concludes that only one of the two rankings matters. This figure
shows both for every head of the dense network, from the same images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from raysweep.analysis.cells.methods import DENSE, TRANSFORMER
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import BLUE, GREEN, ORANGE, SINGLE, VERMILLION, drawn, legend, page
from raysweep.analysis.figures.heads import HEADS, SEEDS
from raysweep.analysis.figures.selected import Part, caption_of, one_part, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = 4
"""Number of weight matrices (W_q, W_k, W_v, W_o) whose values add up to a head's Fisher information."""
FISHER, ENTROPY = "fisher_after_1", "entropy_after_1"
PART = Selection("paper/e7-heads", "vit_heads", (DENSE,), TRANSFORMER, arrays=(FISHER, ENTROPY), seeds=SEEDS)
COLOURS, MARKERS = (BLUE, GREEN, ORANGE, VERMILLION), ("o", "s", "^", "D")
_select = one_part("importance", PART)


def data(source: Source) -> pl.DataFrame:
    """Read the scores of each head. Columns: seed, block, head (from 0), fisher, entropy (nats)."""
    return _heads(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw one mark per head and seed, with one colour per block."""
    frame = _heads(_select(source))
    sheet, (axes,) = page(SINGLE, 3.0)
    for block in sorted(set(frame["block"].to_list())):
        part = frame.filter(pl.col("block") == block)
        axes.plot(
            part["entropy"].to_list(),
            part["fisher"].to_list(),
            MARKERS[block % len(MARKERS)],
            color=COLOURS[block % len(COLOURS)],
            alpha=0.7,
            mew=0,
            label=f"block {block + 1}",
        )
    axes.set_yscale("log")
    axes.set_xlabel("entropy of attention, nats")
    axes.set_ylabel("Fisher information")
    legend(sheet, axes, 4)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    selected = _select(source)
    frame = _heads(selected)
    what = (
        "Fisher information of each head's weights against the entropy of its attention, dense network after task 1; "
        f"largest over smallest Fisher information within a block: {_spread(frame):.2g} (median); rank correlation "
        f"with entropy within blocks: {_correlation(frame):.2f} (mean)"
    )
    return caption_of(what, [selected], f"arrays {FISHER}, {ENTROPY}")


def _heads(selected: Part) -> pl.DataFrame:
    recorded = series(selected)
    entropy = recorded.filter(pl.col("name") == ENTROPY).select("seed", at="step", entropy="value")
    count = int(entropy["at"].to_numpy().max()) + 1 if entropy.height else 1
    fisher = (
        recorded.filter(pl.col("name") == FISHER)
        .group_by("seed", (pl.col("step") % count).alias("at"), maintain_order=True)
        .agg(fisher=pl.col("value").sum())
    )
    return (
        entropy.join(fisher, on=["seed", "at"])
        .select("seed", block=pl.col("at") // HEADS, head=pl.col("at") % HEADS, fisher="fisher", entropy="entropy")
        .sort("seed", "block", "head")
    )


def _spread(frame: pl.DataFrame) -> float:
    ratios = frame.group_by("seed", "block").agg(r=pl.col("fisher").max() / pl.col("fisher").min())["r"]
    return float(np.median(ratios.to_numpy()))


def _correlation(frame: pl.DataFrame) -> float:
    by_block = frame.group_by("seed", "block").agg(r=pl.corr("fisher", "entropy", method="spearman"))["r"]
    return float(np.mean(by_block.fill_nan(None).drop_nulls().to_numpy()))
