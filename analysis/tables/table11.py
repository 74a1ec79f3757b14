"""Table 11: which six heads gradients go through in tasks 2 to 5 (arXiv 2603.15195, Sec. 4.8).

Differences from the paper: accuracies, and recovery from a second floor (0 %), are added. With a selection all heads
learn task 1, but the paper's floor uses one head throughout. The second floor uses one random head from task 2 on, so
that recovery from it measures the selection alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from raysweep.analysis.cells.methods import DENSE, RANDOM_HEADS, TRACE_LIKE, TRANSFORMER, Row, ranked_heads
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.tables.heads import HeadsTable
from raysweep.analysis.tables.spec import Panel
from raysweep.analysis.tables.table10 import FLOOR

RANDOM_1 = Row("random_k1", "random, k = 1", "random", 1)
ROWS = (
    DENSE,
    *map(ranked_heads, ("fisher_oracle", "entropy_oracle")),
    RANDOM_HEADS,
    *map(ranked_heads, ("entropy_anti", "fisher_anti")),
    RANDOM_1,
    TRACE_LIKE,
)
GAPS = (("fisher", "Fisher", "24.3"), ("entropy", "Entropy", "0.7"))


def _remarks(values: pl.DataFrame, rated: Mapping[str, pl.DataFrame]) -> list[str]:
    """Note the difference of each oracle and its opposite, in points of recovery and in accuracy."""
    notes = []
    for score, name, paper in GAPS:
        parts = []
        for frame, column, unit in ((rated[FLOOR], "recovery", "points"), (values, "value", "accuracy")):
            one, other = (
                frame.filter(pl.col("row") == f"{score}_{end}").select("seed", pl.col(column).alias(end))
                for end in ("oracle", "anti")
            )
            both = one.join(other, on="seed").with_columns(gap=pl.col("oracle") - pl.col("anti"))
            gaps = both.drop_nulls("gap")
            if gaps.is_empty():
                continue
            gap = spread(gaps, [], "gap").row(0, named=True)
            digits = 1 if unit == "points" else 3
            sd = "" if gap["sd"] is None else f" ± {gap['sd']:.{digits}f}"
            positive = gaps.filter(pl.col("gap") > 0).height
            parts.append(f"{gap['mean']:.{digits}f}{sd} {unit}, positive on {positive} of {gap['n']} seeds")
        if parts:
            notes.append(f"{name}, oracle less its opposite: {'; '.join(parts)}. Paper: {paper} points.")
    return notes


SPEC = HeadsTable(
    name="11",
    title="Vision transformer: recovery by the six heads of twelve that gradients go through in tasks 2 to 5",
    panel=Panel(
        sweep="paper/e8-selection",
        experiment="vit_selection",
        metric="accuracy_average",
        pinned=TRANSFORMER,
        rows=ROWS,
        seeds=(7, 42, 43, 44, 2024),
    ),
    floors={FLOOR: "recovery", RANDOM_1.key: "recovery_k1"},
    by_seed="recovery",
    floor_headings=("recovery\n%", "recovery from\nrandom k = 1, %"),
    notes=(
        "Heads are ranked within each block after task 1, by Fisher information of W_q, W_k, W_v, W_o, or by entropy "
        "of attention (oracle: the most peaked); all heads learn task 1. The seeds' columns and the first recovery: "
        "from trace_like, one random head throughout; the last: from one random head from task 2 on.",
    ),
    remarks=_remarks,
)
