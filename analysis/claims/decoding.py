"""Experiment 9: decoding across sessions (Sec. 4.9, Table 12), on two pairs of sessions.

The paper's session A is of June 2016, session B of January 2017. The paper does not say which recording session A is,
so each line is judged on both recordings that its dates allow. In 20160630_01, the channels are in another order than
in the recordings before and after it. So, with this session A, the decoder has to undo a relabelling of the channels
besides the drift. With 20160624_03 it has to undo the drift only (the clean pair).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import OURS, Cells, Claim, Interval, Line, Share
from raysweep.analysis.paper.samples import decoding
from raysweep.analysis.statistics.inference import Array, Columns, Statistic
from raysweep.analysis.statistics.recovery import drift_recovery

FAMILY = "decoding"
SESSION_B = "20170131_02"
PAIRS = {"20160630_01": "relabelled pair", "20160624_03": "clean pair"}
"""Session A -> the ledger's name for the pair of this session and session B."""
THRESHOLD = 60.0
"""Recovery in percent above which the paper calls decoding a success."""
NO_DRIFT = "Eq. 12 has no drift to undo (the frozen decoder late in B is no worse than at the end of A)"
FROZEN, END = "frozen_", "end_"
SEEDS = decoding()
"""The paper's five seeds in Table 12, as columns."""


def cells(session_a: str, *rows: Row) -> tuple[Cells, ...]:
    """Select cells with `session_a` as session A, for the three MSEs of Eq. 12.

    These are the adapting decoder's MSE late in B, the frozen decoder's MSE late in B, and the MSE at the end of A.
    """
    pinned = {"hidden": 64, "session_a": session_a, "session_b": SESSION_B}
    return (
        Cells("paper/e9-bci", "bci", rows, pinned, metric="mse_b_late", naive="ridge_refit_b_late", decay_0=DECAY_0),
        Cells("paper/e9-bci", "bci", rows, pinned, metric="frozen_b_late", prefix=FROZEN),
        Cells("paper/e9-bci", "bci", rows, pinned, metric="mse_a_end", prefix=END),
    )


def recovered(columns: Columns, key: str) -> Array:
    """Compute the recovery of Eq. 12 for each seed, in percent; nan if the decoder diverged or there is no drift."""
    frames = [
        pl.DataFrame({"seed": range(column.size), "mse": column}).with_columns(pl.col("mse").fill_nan(None))
        for column in (columns[key], columns[FROZEN + key], columns[END + key])
    ]
    rated: Array = drift_recovery(*frames, on=["seed"])["recovery"].cast(pl.Float64).to_numpy()
    return rated


def _recovery(key: str) -> Statistic:
    """Build the statistic: Eq. 12 as a ratio of means, in percent; nan if there is no drift to undo."""

    def statistic(columns: Columns) -> Array:
        drifted = _drift(key)(columns)
        undone = (columns[FROZEN + key] - columns[key]).mean(-1)
        result: Array = 100 * undone / np.where(drifted > 0, drifted, np.nan)
        return result

    return statistic


def _drift(key: str) -> Statistic:
    """Build the statistic: the mean rise of the frozen decoder's MSE from the end of A to late in B."""

    def statistic(columns: Columns) -> Array:
        result: Array = (columns[FROZEN + key] - columns[END + key]).mean(-1)
        return result

    return statistic


def level(key: str, paper: float) -> Interval:
    """Build the criterion that the recovery is within `POINTS` of the paper's."""
    return Interval(
        _recovery(key),
        paper - criteria.POINTS,
        paper + criteria.POINTS,
        "recovery %",
        undefined=NO_DRIFT,
        number=True,
        opposite=(criteria.HALF, criteria.INF),
        premise=_drift(key),
    )


def above(key: str, other: str) -> Interval:
    """Build the criterion that the recovery of `key` is above that of `other`."""

    def statistic(columns: Columns) -> Array:
        return _recovery(key)(columns) - _recovery(other)(columns)

    return Interval(statistic, 0.0, criteria.INF, "points", undefined=NO_DRIFT, margin=criteria.POINTS,
                    premise=_drift(key))  # fmt: skip


def drift(key: str, low: float, high: float) -> Interval:
    """Build the criterion that the frozen decoder's mean rise in MSE is near the paper's range.

    Near means within a factor `SAME_LEVEL`.
    """
    low, high = low / criteria.SAME_LEVEL, high * criteria.SAME_LEVEL
    unit = "MSE, frozen late in B - end of A"
    return Interval(_drift(key), low, high, unit, margin=0.1)


def succeeds(columns: Columns) -> NDArray[np.bool_]:
    """Return for each seed whether the recovery of k = 4 is above the threshold."""
    return recovered(columns, K4.key) > THRESHOLD


def full_fails(columns: Columns) -> NDArray[np.bool_]:
    """Return for each seed whether full RTRL diverged or its recovery is not above the threshold."""
    return ~(recovered(columns, FULL.key) > THRESHOLD)


def _lines(session_a: str, name: str) -> tuple[Line, ...]:
    def line(part: str, says: str, paper: str, judge: Interval | Share, *rows: Row, source: str | None = None) -> Line:
        own = None if source == OURS or isinstance(judge, Share) else SEEDS
        return Line(f"{part}, {name}", says, paper, judge, cells(session_a, *rows), source=source, sample=own)

    return (
        line("level, k = 4", "k = 4 recovers 80 +- 11 % of the drift", "80 +- 11", level("k4", 80), K4),
        line("every seed", "all five seeds are above 60 %", "5 of 5", Share(succeeds, 1.0), K4),
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
