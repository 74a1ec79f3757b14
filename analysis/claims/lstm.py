"""Experiment 5: an LSTM on the sine and on the Lorenz system (Sec. 4.5, Table 8)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.chaos import spread_line
from raysweep.analysis.claims.claim import Cells, Claim, Interval, Line, Share, scored_cells
from raysweep.analysis.paper.samples import per_seed
from raysweep.analysis.statistics.inference import Array, Columns
from raysweep.analysis.tables.table08 import PRE, PRE_NAIVE

FAMILY = "lstm"
FAILING = 10.0
"""Traces fail on a seed if their MSE is at least this many times that of k = 4."""
PRE_SHIFT = (0.08, 0.90)
"""The paper's range of MSE on Lorenz before the shift, over methods and seeds."""


def sine(*rows: Row) -> tuple[Cells, ...]:
    """Select the cells of Table 8's sine panel."""
    return (scored_cells("paper/e5-lstm-sine", "lstm_sine", "post_all", rows, {"hidden": 64}),)


SEEDS = per_seed("table08", {TRACES.key: f"sine/{TRACES.key}", "k4": "sine/k4", "full": "sine/full"})
"""The paper's five seeds in Table 8's sine panel, as columns."""


def geometric_mean(values: Array) -> float:
    """Compute the geometric mean."""
    return math.exp(float(np.log(values).mean()))


def traces_fail(columns: Columns) -> NDArray[np.bool_]:
    """Return for each seed whether traces have `FAILING` times the MSE of k = 4 or more; a diverged run (nan) fails."""
    return ~(columns[TRACES.key] < FAILING * columns["k4"])


lstm = Claim(
    "E5-lstm",
    FAMILY,
    "Sec. 4.5, Table 8",
    (
        Line("traces fail", "traces fail on 4 of 5 seeds", "4 of 5", Share(traces_fail, 4 / 5),
             sine(TRACES, K4)),
        Line("level, k = 4", "MSE at k = 4", "0.002 (geometric mean 0.0016)",
             criteria.mse_level("k4", geometric_mean(SEEDS["k4"])), sine(K4), sample=SEEDS),
        Line("level, full", "MSE of full RTRL", "0.007 (geometric mean 0.0032)",
             criteria.mse_level("full", geometric_mean(SEEDS["full"])), sine(FULL), sample=SEEDS),
        Line("no worse than full", "k = 4 is comparable to or better than full RTRL", "0.002 against 0.007",
             criteria.no_worse("k4", "full"), sine(K4, FULL), sample=SEEDS),
        spread_line("spread, k = 4", "k = 4 varies over seeds", "69", "k4", SEEDS, sine(K4)),
        spread_line("spread, full", "full RTRL varies over seeds", "88", "full", SEEDS, sine(FULL)),
        Line("more stable", "k = 4 is more stable than full RTRL", "1.3", criteria.more_stable("k4", "full"),
             sine(K4, FULL), sample=SEEDS),
        Line("two orders, traces to k = 4", "traces are two orders of magnitude worse than k = 4", "2-220, median 127",
             criteria.orders(TRACES.key, "k4", 2), sine(TRACES, K4), sample=SEEDS),
        Line("recovery", "k = 4 recovers 100 % of full RTRL's gain over traces (Table 14)", "100",
             criteria.recovery_level("k4", TRACES.key, "full", 100), sine(TRACES, K4, FULL), sample=SEEDS),
    ),
)  # fmt: skip


ROWS = (TRACES, K4, FULL)
_BEFORE = {"hidden": 64}
_LORENZ = Cells("paper/e5-lstm-lorenz", "lstm_lorenz", ROWS, _BEFORE, metric=PRE, naive=PRE_NAIVE, decay_0=DECAY_0)
_PERSISTENCE = Cells("paper/e5-lstm-lorenz", "lstm_lorenz", (FULL,), _BEFORE, metric=PRE_NAIVE, prefix="naive_")


_BEST_TO_PERSISTENCE = criteria.smallest([criteria.ratio(row.key, "naive_full") for row in ROWS])
_BEST_LEVEL = criteria.smallest([criteria.geometric(row.key) for row in ROWS])
"""Statistics: ln of the smallest geometric mean over the methods.

The mean is over seeds: of the MSE in `_BEST_LEVEL`, of MSE / persistence in `_BEST_TO_PERSISTENCE`.
"""


def _runs_converged(columns: Columns) -> str:
    below = sum(int((columns[row.key] < columns["naive_full"]).sum()) for row in ROWS)
    return f"below persistence in {below} of {len(ROWS) * columns['naive_full'].size} runs"


lorenz = Claim(
    "E5-lorenz",
    FAMILY,
    "Sec. 4.5",
    (
        Line("not converged", "the LSTM does not converge on Lorenz, with no method: before the shift it is worse than "
             "persistence", "no method",
             Interval(_BEST_TO_PERSISTENCE, 0.0, math.inf, "MSE / persistence, best method", math.exp),
             (_LORENZ, _PERSISTENCE), _runs_converged, (_LORENZ, _PERSISTENCE)),
        Line("level", "its pre-shift MSE is .08-.90 with every method", "0.08-0.90",
             Interval(_BEST_LEVEL, math.log(PRE_SHIFT[0] / criteria.SAME_LEVEL),
                      math.log(PRE_SHIFT[1] * criteria.SAME_LEVEL), "MSE, best method", math.exp, level=True),
             (_LORENZ,)),
    ),
)  # fmt: skip
