"""Experiment 5: an LSTM on the sine and on the Lorenz system (Sec. 4.5, Table 8)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import Cells, Claim, Interval, Line, Share, scored_cells
from raysweep.analysis.statistics.inference import Columns
from raysweep.analysis.tables.table08 import PRE, PRE_NAIVE

FAMILY = "lstm"
FAILING = 10.0
"""Traces fail on a seed if their MSE is at least this many times that of k = 4."""
PRE_SHIFT = (0.08, 0.90)
"""The paper's range of MSE on Lorenz before the shift, over methods and seeds."""


def sine(*rows: Row) -> tuple[Cells, ...]:
    """The cells of Table 8's sine panel."""
    return (scored_cells("paper/e5-lstm-sine", "lstm_sine", "post_all", rows, {"hidden": 64}),)


def traces_fail(columns: Columns) -> NDArray[np.bool_]:
    """Whether traces have `FAILING` times the MSE of k = 4, per seed; a diverged run (nan) counts as failing."""
    return ~(columns[TRACES.key] < FAILING * columns["k4"])


lstm = Claim(
    "E5-lstm",
    FAMILY,
    "Sec. 4.5, Table 8",
    (
        Line("traces fail", "traces fail on 4 of 5 seeds", "4 of 5", Share(traces_fail, 4 / 5, most=True),
             sine(TRACES, K4)),
        Line("level, k = 4", "MSE at k = 4", "0.002", criteria.mse_level("k4", 0.002), sine(K4)),
        Line("level, full", "MSE of full RTRL", "0.007", criteria.mse_level("full", 0.007), sine(FULL)),
        Line("no worse than full", "k = 4 is comparable to or better than full RTRL", "0.002 against 0.007",
             criteria.no_worse("k4", "full"), sine(K4, FULL)),
        Line("CV, k = 4", "CV 69 % at k = 4", "69", criteria.variation_level("k4", 69), sine(K4)),
        Line("CV, full", "CV 88 % with full RTRL", "88", criteria.variation_level("full", 88), sine(FULL)),
        Line("more stable", "k = 4 is more stable than full RTRL", "1.3", criteria.more_stable("k4", "full"),
             sine(K4, FULL)),
        Line("two orders, traces to k = 4", "traces are two orders of magnitude worse than k = 4", "2-220, median 127",
             criteria.orders(TRACES.key, "k4", 2), sine(TRACES, K4)),
        Line("recovery", "k = 4 recovers 100 % of full RTRL's gain over traces (Table 14)", "100",
             criteria.recovery_level("k4", TRACES.key, "full", 100), sine(TRACES, K4, FULL)),
    ),
)  # fmt: skip


ROWS = (TRACES, K4, FULL)
_BEFORE = {"hidden": 64}
_LORENZ = Cells("paper/e5-lstm-lorenz", "lstm_lorenz", ROWS, _BEFORE, metric=PRE, naive=PRE_NAIVE, decay_0=DECAY_0)
_PERSISTENCE = Cells("paper/e5-lstm-lorenz", "lstm_lorenz", (FULL,), _BEFORE, metric=PRE_NAIVE, prefix="naive_")


_BEST_TO_PERSISTENCE = criteria.smallest([criteria.ratio(row.key, "naive_full") for row in ROWS])
_BEST_LEVEL = criteria.smallest([criteria.level(row.key) for row in ROWS])
"""Ln of the smallest ratio of MSE to persistence (geometric mean) of any method; ln of the smallest mean MSE."""


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
