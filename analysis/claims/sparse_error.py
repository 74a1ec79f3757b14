"""Experiment 4: errors at few steps only, copy and adding (Sec. 4.4, Table 7).

Memory is reset before each sequence, and BPTT's window covers the sequence, so BPTT and full RTRL are the same
algorithm. BPTT is therefore left out when the worst method is determined.
"""

from __future__ import annotations

import numpy as np

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row, sparse
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import OURS, Cells, Claim, Line, scored_cells
from raysweep.analysis.statistics.inference import Columns

FAMILY = "sparse_error"
BPTT = Row("bptt", "BPTT over the sequence", "bptt")
OTHERS = (TRACES, K4, sparse(16, "ring"))
NAMES = [row.key for row in OTHERS]
HIDDEN = {"hidden": 64}


def copy_cells(*rows: Row) -> tuple[Cells, ...]:
    """Select cells of Table 7's copy task."""
    naive = "chance_accuracy"
    return (scored_cells("paper/e4-copy", "copy", "all_last_500", rows, HIDDEN, naive, score="accuracy"),)


def adding_cells(*rows: Row) -> tuple[Cells, ...]:
    """Select cells of Table 7's adding task."""
    return (scored_cells("paper/e4-adding", "adding", "all_last_500", rows, HIDDEN, "constant"),)


def _same_as_bptt(columns: Columns) -> str:
    apart = float(np.abs(columns["full"] - columns["bptt"]).max())
    return f"BPTT over the sequence is the same algorithm; the largest difference is {apart:.1g}"


_TRIVIAL = Cells("paper/e4-adding", "adding", (FULL,), HIDDEN, metric="constant_all_last_500", prefix="trivial_")

copy = Claim(
    "E4-copy",
    FAMILY,
    "Sec. 4.4, Table 7",
    (
        Line("full worst", "full RTRL is the worst method on copy", "0.130, next 0.239 (0.109)",
             criteria.worst("full", NAMES, lower_is_worse=True, unit="accuracy, next worst - full"),
             copy_cells(FULL, *OTHERS), _same_as_bptt, copy_cells(FULL, BPTT)),
        Line("level, full", "accuracy of full RTRL, about chance (0.125)", "0.130",
             criteria.accuracy_level("full", 0.130), copy_cells(FULL)),
        Line("transport", "k = 4 keeps at least half of what full RTRL has over decay 0, which propagates nothing",
             "above 50 %", criteria.recovery_zone("k4", DECAY_0.key, "full", criteria.HALF, criteria.INF,
                                                  criteria.linear_gain), copy_cells(DECAY_0, K4, FULL), source=OURS),
    ),
)  # fmt: skip

adding = Claim(
    "E4-adding",
    FAMILY,
    "Sec. 4.4, Table 7",
    (
        Line("full worst", "full RTRL is the worst method on adding", "0.289, next 0.284 (0.005)",
             criteria.highest("full", NAMES),
             adding_cells(FULL, *OTHERS), _same_as_bptt, adding_cells(FULL, BPTT)),
        Line("level, full", "MSE of full RTRL, 1.73 times that of the mean", "0.289 against 0.167 (1.73)",
             criteria.level_above("full", "trivial_full", 0.289 / 0.167), (*adding_cells(FULL), _TRIVIAL)),
        Line("above trivial", "full RTRL is worse than predicting the mean", "0.289 against 0.167 (1.7)",
             criteria.higher("full", "trivial_full"), (*adding_cells(FULL), _TRIVIAL)),
    ),
)  # fmt: skip
