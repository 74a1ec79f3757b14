"""Table 7: sparse errors, the copy task and the adding problem (arXiv 2603.15195, Sec. 4.4).

What differs from the paper: decay 0 besides decay .95, persistence on adding, spread over seeds. No recovery:
where full RTRL is no better than traces, as the paper has it on both tasks, there is no gap to recover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from analysis.spread import spread
from analysis.tables.comparison import FULL, TRACES, Comparison, Measured, Naive, Panel, build, sparse
from analysis.tables.selection import Row
from analysis.tables.table import Table

if TYPE_CHECKING:
    from analysis.source import Source


def _rows(window: int) -> tuple[Row, ...]:
    return (Row("bptt", "BPTT", "bptt", None, {"window": window}), *TRACES, sparse(4), sparse(16), FULL)


COPY = Panel(
    sweep="paper/e4-copy",
    experiment="copy",
    metric="accuracy_all_last_500",
    pinned={"hidden": 64},
    rows=_rows(10),
    key="copy",
    label="copy, accuracy",
    naive=(Naive("chance_accuracy", "chance"),),
    ceiling=None,
)
ADDING = Panel(
    sweep="paper/e4-adding",
    experiment="adding",
    metric="mse_all_last_500",
    pinned={"hidden": 64},
    rows=_rows(50),
    key="adding",
    label="adding, MSE",
    naive=(Naive("constant", "constant"), Naive("persistence", "persistence")),
    ceiling=None,
)


def _worst(measured: Sequence[Measured]) -> list[str]:
    """The method that does worst on average, which the paper says is full RTRL, and how far all are from trivial."""
    notes: list[str] = []
    for part in measured:
        methods = part.values.filter(pl.col("row").is_in([row.key for row in part.panel.rows]))
        means = spread(methods, ["row"], "value").drop_nulls("mean").sort("mean", maintain_order=True)
        if means.height < len(part.panel.rows):
            continue
        best, worst = (means["row"][0], means["row"][-1])
        if part.panel.quantity == "accuracy":
            best, worst = worst, best
        labels = part.panel.labels
        notes.append(f"{part.panel.label}: best on average {labels[best]}, worst {labels[worst]}.")
    return notes


SPEC = Comparison(
    name="7",
    title="Sparse errors, 64 hidden units: accuracy on the copy task (higher is better), MSE on adding",
    panels=(COPY, ADDING),
    paper="table07",
    quantity="value",
    digits="three",
    notes=(
        "The paper's two values of k are lost; they stand beside k = 4 and k = 16 in its order. It has full RTRL as "
        "the worst method on both tasks. Its trivial baselines: chance .125, and .167, the variance of the sum.",
        "State and influence begin anew with each sequence, and BPTT's window spans it, so full RTRL and BPTT differ "
        "only by the weights' changes within a sequence.",
    ),
    remarks=_worst,
)


def table(source: Source) -> Table:
    """Table 7 out of a store's cells."""
    return build(SPEC, source)
