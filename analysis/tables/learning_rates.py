"""Rules on the sine, each at four learning rates. Not in the paper, which states no rate.

It tells whether the order of rules at the one rate of Experiment 1 also holds when each rule has its own best rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, UORO, Row, sparse
from raysweep.analysis.statistics.summary import geometric_mean
from raysweep.analysis.tables.spec import Comparison, Measured, Panel

RATES = {1e-4: "1e-4", 3e-4: "3e-4", 1e-3: "1e-3", 3e-3: "3e-3"}
ROWS = (TRACES, DECAY_0, sparse(4), FULL, UORO, Row("kf_rtrl", "KF-RTRL", "kf_rtrl"), Row("snap", "SnAp-1", "snap"))


def _panel(rate: float, text: str) -> Panel:
    return Panel(
        sweep="paper/learning-rate",
        experiment="learning_rate",
        metric="mse_post_last_500",
        pinned={"hidden": 64, "learning_rate": rate},
        rows=ROWS,
        key=f"lr{text}",
        label=f"rate {text}",
    )


def _best_rates(measured: Sequence[Measured]) -> list[str]:
    """Note each rule's best rate. It is chosen on the seeds that are averaged, so its error is a little optimistic."""
    labels = {row.key: row.label for row in ROWS}
    best: dict[str, tuple[float, str]] = {}
    for part in measured:
        values = part.values.filter(pl.col("row").is_in([*labels])).drop_nulls("value")
        for key, average in values.group_by("row").agg(geometric_mean("value")).iter_rows():
            best[key] = min(best.get(key, (average, part.panel.label)), (average, part.panel.label))
    ranked = sorted(((key, best[key]) for key in labels if key in best), key=lambda entry: entry[1])
    named = "; ".join(f"{labels[key]} {average:.2g} at {rate}" for key, (average, rate) in ranked)
    return [f"Each at its best rate, chosen on the same seeds: {named}."] if named else []


SPEC = Comparison(
    name="learning-rate",
    title="Sine, 64 hidden units: post-shift MSE of each rule at four learning rates (not in the paper)",
    panels=tuple(_panel(rate, text) for rate, text in RATES.items()),
    notes=("Experiment 1 has the rate 1e-3.",),
    remarks=_best_rates,
)
