"""Table 12: a decoder seven months later without recalibration (arXiv 2603.15195, Sec. 4.9).

Differences from the paper:

- There are two pairs of sessions instead of one. 20160630_01 is nearest to the paper's dates, but its channels are in
  another order than those of the recordings before and after it. So its pair combines relabelling and drift.
  20160624_03 gives the clean pair.
- The paper has one frozen decoder per seed. Here each rule's own weights are frozen, for both terms of Eq. 12.
- Baselines are added: decay 0, and the usual decoders without a network. These are ridge and a Kalman filter fitted
  on A, ridge refitted on B's first three minutes, and the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, bptt, sparse
from raysweep.analysis.paper.values import PAPER_SEEDS, paper_values
from raysweep.analysis.tables.spec import FLOOR_DECAY0, Comparison, Measured, Naive, Panel
from raysweep.analysis.tables.table import Column, with_interval

SESSION_B = "20170131_02"
METRIC = "mse_b_late"
REFIT = "ridge_refit"
BPTT = (bptt(1), bptt(20, "bptt20"))
NAIVE = (
    Naive("ridge_frozen", "ridge, fitted on A"),
    Naive("kalman_frozen", "Kalman, fitted on A"),
    Naive(REFIT, "ridge, refitted in B"),
    Naive("mean", "A's mean"),
)


def _panel(session_a: str, label: str) -> Panel:
    return Panel(
        sweep="paper/e9-bci",
        experiment="bci",
        metric=METRIC,
        pinned={"hidden": 64, "session_a": session_a, "session_b": SESSION_B},
        rows=(TRACES, DECAY_0, sparse(4), FULL, *BPTT),
        key=session_a,
        label=label,
        naive=NAIVE,
        ceiling=None,
        drift=("frozen", "end"),
        extra={"frozen": "frozen_b_late", "end": "mse_a_end"},
        paper="",
    )


def _remarks(measured: Sequence[Measured]) -> list[str]:
    return [_frozen_of_the_paper(), *(note for part in measured for note in (*_against_refit(part), *_rounding(part)))]


def _frozen_of_the_paper() -> str:
    by_seed = dict(paper_values("table12").filter(pl.col("row") == "frozen").select("seed", "value").iter_rows())
    listed = ", ".join(f"{by_seed[seed]:g}" for seed in PAPER_SEEDS)
    return f"Paper: its frozen decoder at these seeds {listed}; the ends of session A are not given."


def _against_refit(part: Measured) -> list[str]:
    """Note the rules that are better on every seed than ridge refitted in session B."""
    naive = part.values.filter(pl.col("row") == REFIT).select("seed", naive="value")
    rows = [row.key for row in part.panel.rows]
    both = part.values.filter(pl.col("row").is_in(rows)).drop_nulls("value").join(naive, on="seed", how="inner")
    if both.is_empty():
        return []
    better = both.group_by("row").agg((pl.col("value") < pl.col("naive")).all().alias("all"))
    winners = dict(better.iter_rows())
    named = ", ".join(part.panel.labels[key] for key in rows if winners.get(key))
    verdict = f"better on every seed: {named}" if named else "no rule is better on every seed"
    return [f"{part.panel.label}: beside ridge refitted in B, {verdict}."]


def _rounding(part: Measured) -> list[str]:
    """Note the largest difference in MSE between decay 0 and BPTT over one step.

    Both are the same rule, so the difference is due to rounding.
    """
    pair = [
        part.values.filter(pl.col("row") == key).select("seed", "value").drop_nulls() for key in (FLOOR_DECAY0, "bptt")
    ]
    both = pair[0].join(pair[1], on="seed", suffix="_other")
    if both.is_empty():
        return []
    apart = float((both["value"] - both["value_other"]).abs().max())  # type: ignore[arg-type]
    return [
        f"{part.panel.label}: decay 0 and BPTT over one step are one rule, rounded otherwise; their MSE differ by up "
        f"to {apart:.1g} on a seed, and differences between rules below that mean nothing there."
    ]


SPEC = Comparison(
    name="12",
    title="Decoding velocity seven months later, 64 hidden units: MSE late in session B, seed by seed",
    panels=(
        _panel("20160630_01", "20160630_01, relabelled"),
        _panel("20160624_03", "20160624_03, clean"),
    ),
    paper="table12",
    by_seed=True,
    digits="three",
    extra=(
        Column("frozen", "frozen_mean", "three", sd="frozen_sd"),
        Column("end of A", "end_mean", "three", sd="end_sd"),
        replace(with_interval("recovery,\nEq. 12, %", "recovery"), sd="recovery_printed_sd", mark="recovery_mark"),
    ),
    notes=(
        f"Session B: {SESSION_B}. Late: its last third; end of A: its last tenth. MSE of z-scored velocity, so 1 is "
        "what A's mean gets on A. Frozen: the same weights as at A's end, late in B.",
        "Recovery: 100 (frozen - MSE) / (frozen - end of A) as a ratio of means over seeds with its 95 % interval. Its "
        "floor and its target are each rule's own: a rule that is bad at the end of A has less to recover, and above "
        "100 % the decoder is better in B than it was in A. Compare the MSE first.",
        "The paper does not name its sessions, nor its BPTT's window; in its Experiment 1 that is 1.",
        "Ridge: ten bins of history; refitted: on B's first three minutes, a recalibration that networks do not get.",
    ),
    remarks=_remarks,
)
