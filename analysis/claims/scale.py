"""Experiment 6: 256 and 512 units (Sec. 4.6, Table 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import FULL, K4, TRACES, Row
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.chaos import spread_of
from raysweep.analysis.claims.claim import Cells, Claim, Line, Share, scored_cells
from raysweep.analysis.claims.listing import MOST_LISTED, listed
from raysweep.analysis.paper.samples import of_values, per_seed
from raysweep.analysis.statistics.inference import Columns

FAMILY = "scale"
DECIDES = 1e-3
BESIDE = (5e-4, 3e-4)
SEEDS_512 = (42, 123)
SEEDS = per_seed("table09", {"k4": "k4", "full": "full"})
"""The paper's MSE of k = 4 and of full RTRL (Table 9), one entry per seed."""


def n256(*rows: Row, rate: float = DECIDES, prefix: str = "") -> tuple[Cells, ...]:
    """Select Table 9's cells at one learning rate."""
    return (
        scored_cells(
            "paper/e6-n256", "sine_n256", "post_last_500", rows, {"hidden": 256, "learning_rate": rate}, prefix=prefix
        ),
    )


def _at_other_rates(row: Row) -> tuple[Cells, ...]:
    return tuple(cells for rate in BESIDE for cells in n256(row, rate=rate, prefix=f"{rate:g} "))


def _levels(columns: Columns) -> str:
    labels = {row.key: row.label for row in (TRACES, K4, FULL)}
    groups = []
    for name, values in columns.items():
        rate, key = name.split(" ")
        groups.append(f"{labels[key]} at {rate}: {listed(values)}")
    return "other learning rates, " + "; ".join(groups)


n256_claim = Claim(
    "E6-n256",
    FAMILY,
    "Sec. 4.6, Table 9",
    (
        Line("level, k = 4", "MSE at k = 4", "0.0038", criteria.mse_level("k4", 0.0038), n256(K4), _levels,
             _at_other_rates(K4), sample=SEEDS),
        Line("recovery", "k = 4 recovers 78 % (66, 62, 80, 68, 116)", "78",
             criteria.recovery_level("k4", TRACES.key, "full", 78), n256(TRACES, K4, FULL),
             sample=of_values(per_seed("table09", {"k4": "k4"}, "recovery")["k4"])),
        Line("full varies", "full RTRL varies 22-fold over seeds", "sd of ln MSE 1.35 (22x)",
             criteria.spread_level("full", spread_of(SEEDS, "full")), n256(FULL), _levels, _at_other_rates(FULL),
             sample=SEEDS),
        Line("level, traces", "traces stay at about .45-.60", "0.45-0.60 (implied)",
             criteria.mse_level(TRACES.key, 0.45, 0.60), n256(TRACES), _levels, _at_other_rates(TRACES)),
        Line("two orders, traces to k = 4", "traces are two orders of magnitude worse than k = 4", "118-160",
             criteria.orders(TRACES.key, "k4", 2), n256(TRACES, K4)),
    ),
)  # fmt: skip

_SINE_512 = scored_cells(
    "paper/e6-n512", "sine_n512", "post_last_500", (TRACES, FULL), {"hidden": 512}, seeds=SEEDS_512
)
_DIVERGED = Cells(
    "paper/e6-n512", "sine_n512", (FULL,), {"hidden": 512}, metric="diverged", prefix="diverged_", seeds=SEEDS_512
)
_LORENZ_512 = (
    scored_cells("paper/e6-n512-lorenz", "lorenz_n512", "post_all", (TRACES, K4), {"hidden": 512}, seeds=SEEDS_512),
)


def diverged(columns: Columns) -> NDArray[np.bool_]:
    """Return for each seed whether full RTRL's run ended early because its loss exceeded 1e6 or was not finite.

    A seed for which this was not recorded (nan) counts as ended early.
    """
    ended_early: NDArray[np.bool_] = columns["diverged_full"] != 0  # nan (not recorded) counts as diverged
    return ended_early


def _against_traces(columns: Columns) -> str:
    full, traces = columns["full"], columns[TRACES.key]
    if full.size <= MOST_LISTED:
        pairs = zip(full, traces, strict=True)
        numbers = "seed by seed: " + ", ".join(f"{own:.2g} against traces' {other:.2g}" for own, other in pairs)
    else:
        numbers = f"{listed(full)} against traces' {listed(traces)}"
    return f"MSE, {numbers}; the run that the paper calls diverged was at 1.8"


n512 = Claim(
    "E6-n512",
    FAMILY,
    "Sec. 4.6",
    (
        Line("full diverges, sine", "full RTRL diverges on 1 of 2 seeds", "1 of 2",
             Share(diverged, 1 / 2, sample=len(SEEDS_512)), (_SINE_512, _DIVERGED), _against_traces,
             (_SINE_512, _DIVERGED)),
        Line("traces suffice, Lorenz", "on Lorenz traces are no worse than k = 4", "suffice",
             criteria.no_worse(TRACES.key, "k4"), _LORENZ_512),
        Line("propagation hurts, Lorenz", "on Lorenz k = 4 is worse than traces", "hurts",
             criteria.higher("k4", TRACES.key), _LORENZ_512),
    ),
)  # fmt: skip
