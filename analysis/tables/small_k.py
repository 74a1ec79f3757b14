"""Fewer than four random sources on the sine. Not in the paper, whose smallest k is 4."""

from __future__ import annotations

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, sparse
from raysweep.analysis.tables.spec import Comparison, Panel

PANEL = Panel(
    sweep="paper/small-k",
    experiment="small_k",
    metric="mse_post_last_500",
    pinned={"hidden": 64},
    rows=(TRACES, DECAY_0, *map(sparse, (1, 2, 3, 4, 8)), FULL),
)

SPEC = Comparison(
    name="small-k",
    title="Sine, 64 hidden units: post-shift MSE with one to eight random sources per unit (not in the paper)",
    panels=(PANEL,),
    fraction=True,
)
