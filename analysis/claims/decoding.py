"""Experiment 9: decoding across sessions (Sec. 4.9, Table 12), on both pairs that the paper's dates allow.

The paper's session A is of June 2016, B of January 2017. It does not say which session A it used, so each line is
judged on two: 20160630_01 has its channels in another order than its neighbours, so its pair combines relabelling
and drift; 20160624_03 is the clean pair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import OURS, Cells, Claim, Interval, Line, Share
from raysweep.analysis.statistics.inference import Array, Columns
from raysweep.analysis.statistics.recovery import drift_recovery

FAMILY = "decoding"
SESSION_B = "20170131_02"
PAIRS = {"20160630_01": "relabelled pair", "20160624_03": "clean pair"}
"""Session A -> the ledger's name of its pair with B."""
THRESHOLD = 60.0
"""The paper's bound of success, percent recovered."""
NO_DRIFT = "Eq. 12 has no drift to undo (the frozen decoder late in B is no worse than at the end of A)"
FROZEN, END = "frozen_", "end_"


def cells(session_a: str, *rows: Row) -> tuple[Cells, ...]:
    """Cells with the three MSEs of Eq. 12: late in B adapting, late in B frozen, and at the end of A."""
    pinned = {"hidden": 64, "session_a": session_a, "session_b": SESSION_B}
    return (
        Cells("paper/e9-bci", "bci", rows, pinned, metric="mse_b_late", naive="ridge_refit_b_late", decay_0=DECAY_0),
        Cells("paper/e9-bci", "bci", rows, pinned, metric="frozen_b_late", prefix=FROZEN),
        Cells("paper/e9-bci", "bci", rows, pinned, metric="mse_a_end", prefix=END),
    )


def recovered(columns: Columns, key: str) -> Array:
    """Eq. 12 seed by seed, percent; nan if the decoder diverged or there is no drift to undo."""
    return criteria.recovered(drift_recovery, columns[key], columns[FROZEN + key], columns[END + key])


def level(key: str, paper: float) -> Interval:
    """The mean recovery is within `POINTS` of the paper's."""
    low, high = paper - criteria.POINTS, paper + criteria.POINTS
    return criteria.derived(lambda columns: recovered(columns, key), low, high, "recovery %", NO_DRIFT)


def above(key: str, other: str) -> Interval:
    """The recovery of `key` is above that of `other`."""
    return criteria.derived(
        lambda columns: recovered(columns, key) - recovered(columns, other), 0.0, criteria.INF, "points", NO_DRIFT
    )


def drift(key: str, low: float, high: float) -> Interval:
    """The frozen decoder's rise in MSE, mean over seeds, is within a factor `SAME_LEVEL` of the paper's range."""
    low, high = low / criteria.SAME_LEVEL, high * criteria.SAME_LEVEL
    unit = "MSE, frozen late in B - end of A"
    return criteria.derived(lambda columns: columns[FROZEN + key] - columns[END + key], low, high, unit)


def succeeds(columns: Columns) -> NDArray[np.bool_]:
    """Whether the recovery of k = 4 is above the threshold, per seed."""
    return recovered(columns, K4.key) > THRESHOLD


def full_fails(columns: Columns) -> NDArray[np.bool_]:
    """Whether full RTRL diverged or its recovery is not above the threshold, per seed."""
    return ~(recovered(columns, FULL.key) > THRESHOLD)


def _lines(session_a: str, name: str) -> tuple[Line, ...]:
    def line(part: str, says: str, paper: str, judge: Interval | Share, *rows: Row, source: str | None = None) -> Line:
        return Line(f"{part}, {name}", says, paper, judge, cells(session_a, *rows), source=source)

    return (
        line("level, k = 4", "k = 4 recovers 80 +- 11 % of the drift", "80 +- 11", level("k4", 80), K4),
        line("every seed", "all five seeds are above 60 %", "5 of 5", Share(succeeds, 1.0, most=True), K4),
        line("full fails", "full RTRL fails on two seeds (49, 38 %)", "2 of 5", Share(full_fails, 2 / 5), FULL),
        line("level, traces", "traces recover 58.5 %", "58.5", level(TRACES.key, 58.5), TRACES),
        line("better than traces", "k = 4 recovers 22 points more than traces", "22", above("k4", TRACES.key),
             K4, TRACES),
        line("more stable", "k = 4's MSE late in B varies less than full RTRL's", "sd 0.037 against 0.060",
             criteria.more_stable("k4", "full"), K4, FULL),
        line("drift", "the frozen decoder degrades by 0.29 to 0.47", "0.29-0.47", drift("k4", 0.29, 0.47), K4),
        line("propagation", "k = 4 is better than propagating nothing (the paper compares with traces)", "below 1",
             criteria.lower("k4", DECAY_0.key), K4, DECAY_0, source=OURS),
    )  # fmt: skip


bci = Claim(
    "E9-bci",
    FAMILY,
    "Sec. 4.9, Table 12",
    tuple(line for session_a, name in PAIRS.items() for line in _lines(session_a, name)),
)
