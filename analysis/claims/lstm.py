"""Experiment 5: an LSTM on the sine and on the Lorenz system (Sec. 4.5, Table 8)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from analysis.claims import measures
from analysis.claims.claim import Cells, Claim, Interval, Line, Share
from analysis.claims.rows import DECAY_0, FULL, K4, TRACES
from analysis.claims.statistics import Array, Columns
from analysis.tables.selection import Row

FAMILY = "lstm"
FAILING = 10.0
"""Traces fail where their MSE is so many times k = 4's on the same seed."""
CONVERGED = 0.063
"""Pre-shift MSE between the paper's vanilla network (.01-.05) and its LSTM (.08-.90)."""


def sine(*rows: Row) -> tuple[Cells, ...]:
    """Table 8's cells."""
    return (
        Cells("paper/e5-lstm-sine", "lstm_sine", "mse_post_all", rows, {"hidden": 64}, "persistence_post_all", DECAY_0),
    )


def traces_fail(columns: Columns) -> NDArray[np.bool_]:
    """Traces far above k = 4 on the same seed, or diverged (nan is not below)."""
    return ~(columns["traces"] < FAILING * columns["k4"])


lstm = Claim(
    "E5-lstm",
    FAMILY,
    "Sec. 4.5, Table 8",
    (
        Line("traces fail", "traces fail on 4 of 5 seeds", "4 of 5", Share(traces_fail, 4 / 5, most=True),
             sine(TRACES, K4)),
        Line("level, k = 4", "MSE at k = 4", "0.002", measures.mse_level("k4", 0.002), sine(K4)),
        Line("level, full", "MSE of full RTRL", "0.007", measures.mse_level("full", 0.007), sine(FULL)),
        Line("no worse than full", "k = 4 is comparable to or better than full RTRL", "0.002 against 0.007",
             measures.no_worse("k4", "full"), sine(K4, FULL)),
        Line("CV, k = 4", "CV 69 % at k = 4", "69", measures.variation_level("k4", 69), sine(K4)),
        Line("CV, full", "CV 88 % with full RTRL", "88", measures.variation_level("full", 88), sine(FULL)),
        Line("more stable", "k = 4 is more stable than full RTRL", "1.3", measures.more_stable("k4", "full"),
             sine(K4, FULL)),
    ),
)  # fmt: skip


def _best(columns: Columns) -> Array:
    """Ln of the geometric mean of the method that converged best."""
    result: Array = np.stack([measures.geometric(key)(columns) for key in ("traces", "k4", "full")]).min(0)
    return result


lorenz = Claim(
    "E5-lorenz",
    FAMILY,
    "Sec. 4.5",
    (
        Line(
            "not converged",
            "the LSTM does not converge on Lorenz: pre-shift MSE .08-.90 with every method",
            "0.08-0.90",
            Interval(_best, math.log(CONVERGED), math.inf, "MSE, best method", math.exp),
            (
                Cells(
                    "paper/e5-lstm-lorenz",
                    "lstm_lorenz",
                    "mse_pre_last_500",
                    (TRACES, K4, FULL),
                    {"hidden": 64},
                    "persistence_pre_last_500",
                    DECAY_0,
                ),
            ),
        ),
    ),
)
