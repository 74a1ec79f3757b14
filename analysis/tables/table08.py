"""Table 8: an LSTM on the sine, and on the Lorenz system (arXiv 2603.15195, Sec. 4.5).

Differences from the paper:

- The MSE before the shift is added. The paper insists that a network that has not converged says nothing about
  adaptation. It does not define convergence; here a run has converged if its MSE is below persistence on the same
  steps.
- Sparse RTRL with k = 0 is added. It has only the cell's own path, no paths through the gates (e-prop).
- The Lorenz panel is added. The paper prints only the range of its MSE before the shift.
"""

from __future__ import annotations

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, sparse
from raysweep.analysis.cells.notes import named_seeds
from raysweep.analysis.tables.spec import Comparison, Measured, Panel, per_panel
from raysweep.analysis.tables.table import Column

PRE, PRE_NAIVE = "mse_pre_last_500", "persistence_pre_last_500"
"""A method's MSE before the shift, and that of persistence.

A run has converged (here and in the ledger) if the first is below the second. A fixed bound on the MSE would depend
on the stream's scale, which the paper does not state.
"""
AT_REST = 1e-4
"""The stream is at rest if its variance after the shift is below this fraction of its variance before the shift."""

MOST_NAMED = 10
"""Largest number of seeds of a row that are named; more are counted."""


def _panel(stream: str, label: str) -> Panel:
    return Panel(
        sweep=f"paper/e5-lstm-{stream}",
        experiment=f"lstm_{stream}",
        metric="mse_post_all",
        pinned={"hidden": 64},
        rows=(TRACES, DECAY_0, sparse(0, label="k = 0, cell path"), sparse(4), FULL),
        key=stream,
        label=label,
        extra={"pre": PRE},
    )


def _converged(part: Measured) -> list[str]:
    """Note the runs that were worse than persistence before the shift."""
    pre = part.extra["pre"]
    naive = pre.filter(pl.col("row") == "persistence").select("seed", naive="value")
    methods = pre.filter(pl.col("row").is_in([row.key for row in part.panel.rows])).drop_nulls("value")
    both = methods.join(naive, on="seed", how="inner", maintain_order="left")
    if both.is_empty():
        return []
    late = both.filter(pl.col("value") > pl.col("naive"))
    span = " to ".join(f"{end:.2g}" for end in sorted(both["value"].to_list())[:: max(1, both.height - 1)])
    lead = f"{part.panel.label}: before the shift {span} over all runs; worse than persistence there in "
    if late.is_empty():
        return [f"{lead}none of {both.height}."]
    if late.height == both.height:
        return [f"{lead}all {both.height}: by that measure none had converged, and the rest says little of adaptation."]
    runs = "; ".join(
        f"{part.panel.labels[key]}: {named_seeds(seeds) if len(seeds) <= MOST_NAMED else f'{len(seeds)} seeds'}"
        for key, seeds in part.panel.seeds_by_row(late).items()
    )
    return [f"{lead}{late.height} of {both.height} ({runs}): by that measure these had not converged."]


def _at_rest(part: Measured) -> list[str]:
    """Note the seeds whose stream comes to rest after the shift, as the Lorenz system may if rho is below 24.7."""
    names = ("constant_pre_last_500", "constant_post_last_500")
    if not set(names) <= set(part.selected.done.columns):
        return []
    streams = part.selected.done.select("seed", *names).drop_nulls().unique("seed", keep="first", maintain_order=True)
    still = streams.filter(pl.col(names[1]) < AT_REST * pl.col(names[0]))
    if still.is_empty():
        return []
    return [
        f"{part.panel.label}: on {still.height} of {streams.height} seeds the stream itself comes to rest after the "
        f"shift (over its last 500 steps its variance is below {AT_REST:g} of that before), so a small MSE after it is "
        "no achievement."
    ]


SPEC = Comparison(
    name="8",
    title="An LSTM with 64 units: post-shift MSE seed by seed, on the sine and the Lorenz system",
    panels=(_panel("sine", "sine"), _panel("lorenz", "Lorenz")),
    paper="table08",
    by_seed=True,
    extra=(Column("pre-shift\nMSE", "pre_mean", "mse", sd="pre_sd"),),
    notes=(
        f"Pre-shift MSE: {PRE}. The cell path is always exact; k thins out the gates' recurrent connections.",
        "Paper: traces fail on 4 of 5 seeds; its own values give a recovery by Eq. 10 above 100 % where k = 4 beats "
        "full RTRL, and none at seed 123, where the gap is inverted. On Lorenz it gives MSE before the shift alone, "
        ".08 to .90 over all methods and seeds, not converged, against .01 to .05 for its vanilla RNN.",
    ),
    remarks=per_panel(_converged, _at_rest),
)
