"""Table 5: a sine of four regimes, at the first shift (arXiv 2603.15195, Sec. 4.2).

Differences from the paper: decay 0, UORO and the naive baselines are added to the paper's three methods.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, UORO, sparse
from raysweep.analysis.paper.values import PAPER_SEEDS
from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.tables.spec import FLOOR, Comparison, Measured, Panel, per_panel

PAPER_RECOVERY = "69, 85, 93, 65, 89"


def recovery_by_seed(part: Measured, paper: str) -> list[str]:
    """Note the recoveries of k = 4 by seed: ours, from traces of decay .95, and the paper's (given as text)."""
    rated = part.recovery[FLOOR].filter(pl.col("row") == "k4")
    by_seed = dict(rated.select("seed", "recovery").iter_rows())
    if not by_seed:
        return []
    lead = f"{part.panel.label}: " if part.panel.label else ""
    ours = ", ".join(ABSENT if by_seed.get(seed) is None else f"{by_seed[seed]:.0f}" for seed in PAPER_SEEDS)
    seeds = ", ".join(map(str, PAPER_SEEDS))
    return [f"{lead}Recovery of k = 4 from decay 0.95 at seeds {seeds}, %: ours {ours}; paper {paper}."]


SPEC = Comparison(
    name="5",
    title="Sine of four regimes, 64 hidden units: MSE after the first shift, seed by seed",
    panels=(
        Panel(
            sweep="paper/e2-multisine",
            experiment="multi_sine",
            metric="mse_seg2_last_200",
            pinned={"hidden": 64},
            rows=(TRACES, DECAY_0, sparse(4), FULL, UORO),
        ),
    ),
    paper="table05",
    by_seed=True,
    notes=(
        "The paper does not name its frequencies; ours are guessed (.1, .3, .05, .2). It says besides that UORO is an "
        "order of magnitude worse than k = 4; the number is lost.",
    ),
    remarks=per_panel(partial(recovery_by_seed, paper=PAPER_RECOVERY)),
)
