"""Table 4: the Lorenz system at n = 64 and 128 (arXiv 2603.15195, Sec. 4.2).

Differences from the paper: its table has only k = 4 and full RTRL. Ours also has traces (decay .95 and 0), the naive
baselines, and UORO, which the paper mentions in the text.
"""

from __future__ import annotations

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, UORO, sparse
from raysweep.analysis.tables.spec import CEILING, FLOOR, Comparison, Measured, Panel, per_panel


def _panel(hidden: int) -> Panel:
    return Panel(
        sweep="paper/e2-lorenz",
        experiment="lorenz",
        metric="mse_post_all",
        pinned={"hidden": hidden},
        rows=(TRACES, DECAY_0, sparse(4), FULL, UORO),
        key=f"n{hidden}",
        label=f"n = {hidden}",
    )


def _below_persistence(part: Measured) -> list[str]:
    """Note the number of runs that beat persistence. If few do, a comparison of the methods says little."""
    naive = part.values.filter(pl.col("row") == "persistence").select("seed", naive="value")
    methods = part.values.filter(pl.col("row").is_in([row.key for row in part.panel.rows]))
    both = methods.join(naive, on="seed", how="inner").drop_nulls("value")
    beaten = both.filter(pl.col("value") < pl.col("naive")).height
    return [f"{part.panel.label}: {beaten} of {both.height} runs beat persistence."] if both.height else []


def _failed(part: Measured) -> list[str]:
    """Note the seeds on which full RTRL fails: worse than traces, or more than twice the MSE of k = 4.

    The first criterion is the paper's. Our traces are worse than the paper's, so by this criterion fewer seeds fail
    here. With the paper's values, 2 of 5 seeds (n = 64) and 3 of 5 (n = 128) fail by the second criterion, as the
    paper states.
    """
    full = part.values.filter(pl.col("row") == CEILING).select("seed", full="value")
    comparisons: list[str] = []
    for key, factor, than in (
        (FLOOR, 1, "worse than traces with decay 0.95"),
        ("k4", 2, "over twice as bad as k = 4"),
    ):
        other = part.values.filter(pl.col("row") == key).select("seed", other="value").drop_nulls()
        both = full.join(other, on="seed", how="inner").sort("seed")
        worse = both.filter(pl.col("full").is_null() | (pl.col("full") > factor * pl.col("other")))["seed"].to_list()
        named = f" ({', '.join(map(str, worse))})" if worse else ""
        if both.height:
            comparisons.append(f"{than} on {len(worse)} of {both.height} seeds{named}")
    return [f"{part.panel.label}: full RTRL is {'; '.join(comparisons)}."] if comparisons else []


SPEC = Comparison(
    name="4",
    title="Lorenz system, 64 and 128 hidden units: post-shift MSE seed by seed",
    panels=(_panel(64), _panel(128)),
    paper="table04",
    by_seed=True,
    notes=(
        "The paper says besides that full RTRL is worse than traces on 2 of 5 seeds at n = 64 (7 and 31337) and fails "
        "on 3 of 5 at n = 128, and that UORO is the best method of all; its numbers for traces and UORO are lost.",
        "Where full RTRL fails, a recovery far above 100 % says how bad that ceiling is, not how good the method.",
    ),
    remarks=lambda measured: [*per_panel(_failed)(measured), *per_panel(_below_persistence)(measured)],
)
