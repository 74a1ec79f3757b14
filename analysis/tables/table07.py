"""Table 7: sparse errors, the copy task and the adding problem (arXiv 2603.15195, Sec. 4.4).

Differences from the paper: decay 0, persistence on adding, and spread over seeds are added. There is no recovery,
because in the paper full RTRL is no better than traces on both tasks, which leaves no gap to recover. BPTT over a whole
sequence is the same algorithm as full RTRL; the table has a row for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, Row, sparse
from raysweep.analysis.statistics.spread import spread
from raysweep.analysis.tables.spec import Comparison, Measured, Naive, Panel, per_panel

WINDOWS: Mapping[str, Callable[[int, int], int]] = {
    "copy": lambda length, delay: 2 * length + delay,
    "adding": lambda length, _: length,
}
"""Task -> function from `length` and `delay` to the number of steps of a sequence."""


def _panel(task: str, metric: str, label: str, window: int, *naive: Naive) -> Panel:
    return Panel(
        sweep=f"paper/e4-{task}",
        experiment=task,
        metric=metric,
        pinned={"hidden": 64},
        rows=(Row("bptt", "BPTT", "bptt", None, {"window": window}), TRACES, DECAY_0, sparse(4), sparse(16), FULL),
        key=task,
        label=label,
        naive=naive,
        ceiling=None,
    )


CHANCE = Naive("chance_accuracy", "chance")
CONSTANT, PERSISTENCE = Naive("constant", "constant"), Naive("persistence", "persistence")


def _worst(part: Measured) -> list[str]:
    """Note the best and the worst method on average. In the paper, full RTRL is the worst.

    If BPTT's window spans a sequence, BPTT equals full RTRL: a first note says so, and the two are ranked as one.
    """
    one = _spans(part.panel, part.selected.settings)
    notes = [_one_algorithm(part)] if one else []
    compared = [row.key for row in part.panel.rows if not (one and row.key == "bptt")]
    methods = part.values.filter(pl.col("row").is_in(compared))
    means = spread(methods, ["row"], "value").drop_nulls("mean").sort("mean", maintain_order=True)
    if means.height < len(compared):
        return notes
    best, worst = (means["row"][0], means["row"][-1])
    if part.panel.quantity == "accuracy":
        best, worst = worst, best
    labels = part.panel.labels | ({FULL.key: f"{FULL.label} (which BPTT is here)"} if one else {})
    return [*notes, f"{part.panel.label}: best on average {labels[best]}, worst {labels[worst]}."]


def _spans(panel: Panel, settings: Mapping[str, object]) -> bool:
    """Tell whether BPTT's window is as long as a sequence."""
    length, delay = settings.get("length"), settings.get("delay") or 0
    if not isinstance(length, int) or not isinstance(delay, int):
        return False  # unknown without cells
    window = next(row.config["window"] for row in panel.rows if row.key == "bptt")
    return window == WINDOWS[panel.key](length, delay)


def _one_algorithm(part: Measured) -> str:
    """Explain that BPTT is full RTRL here, with the largest difference between the two rows."""
    pair = [part.values.filter(pl.col("row") == key).select("seed", "value").drop_nulls() for key in ("bptt", FULL.key)]
    apart = pair[0].join(pair[1], on="seed").select((pl.col("value") - pl.col("value_right")).abs().max()).item()
    lead = (
        f"{part.panel.label}: state and influence begin anew with each sequence, BPTT's window spans it, and its steps "
        "are read back as they were linearised then, so BPTT is full RTRL, one algorithm"
    )
    return lead + ("." if apart is None else f"; the two rows are apart by {apart:.1g} at most, seed by seed.")


SPEC = Comparison(
    name="7",
    title="Sparse errors, 64 hidden units: accuracy on the copy task (higher is better), MSE on adding",
    panels=(
        _panel("copy", "accuracy_all_last_500", "copy, accuracy", 10, CHANCE),
        _panel("adding", "mse_all_last_500", "adding, MSE", 50, CONSTANT, PERSISTENCE),
    ),
    paper="table07",
    quantity="value",
    digits="three",
    notes=(
        "The paper's two values of k are lost; they stand beside k = 4 and k = 16 in its order. It has full RTRL as "
        "the worst method on both tasks. Its trivial baselines: chance .125, and .167, the variance of the sum.",
    ),
    remarks=per_panel(_worst),
)
