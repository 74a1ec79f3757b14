"""Tests of whether a session has its channels in the same order as the sessions around it.

Electrodes drift, but from one session to the next most channels keep much of their firing rate, and a decoder fitted
on one session still predicts part of the movement in the next. There is one test of each kind of agreement:

- rate correlation: Spearman's correlation of the channels' mean rates. For unrelated orders it is about 0, with
  standard deviation 1 / sqrt(95) = .10.
- transfer: velocity R^2 of a Wiener filter of 5 bins, fitted on the other session. Square-root counts and velocities
  are z-scored within each session, so that drifting means and gains have no effect.

A session is compared with the four nearest sessions. A test uses the best of the four values, since a neighbour may
itself have another order. If both tests fail, the session's channels are in another order. This holds for 20160630_01
and 20170124_01 of the public release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.decoders import Wiener, fit_wiener
from raysweep.workloads.bci.recordings.recording import Recording

NEAREST = 4
LAGS = 5
UNRELATED = 0.3
"""Rate correlation below which the test fails.

Measured: -.12 to .25 for seven sessions with permuted channels (eight permutations each), and .44 to .98 for
the eight sessions that we have in the usual order.
"""
NO_TRANSFER = 0.15
"""R^2 below which the transfer test fails.

Measured on the same sessions as for `UNRELATED`: -.20 to .07 with permuted channels, .33 to .51 in the usual order.
"""


class Comparison(NamedTuple):
    """The best agreement of a session with its nearest sessions, in rates and in decoding."""

    rate_correlation: float
    transfer: float

    @property
    def another_order(self) -> bool:
        """Whether both tests fail, so that the channels are in another order."""
        return self.rate_correlation < UNRELATED and self.transfer < NO_TRANSFER


def neighbours(recordings: Sequence[Recording]) -> Mapping[str, Comparison]:
    """Compare each dated session with its nearest sessions. Return {} if fewer than two sessions have dates."""
    dated = [recording for recording in recordings if recording.day is not None]
    if len(dated) < 2:
        return {}
    fitted = {recording.session: _fit(recording) for recording in dated}
    rates = {recording.session: _ranks(recording.counts.mean(0)) for recording in dated}
    comparisons = {}
    for one in dated:
        others = sorted((other for other in dated if other is not one), key=lambda other: _apart(one, other))[:NEAREST]
        inputs, targets = scored(np.sqrt(one.counts)), scored(one.velocity_mm_s)
        comparisons[one.session] = Comparison(
            max(float(np.corrcoef(rates[one.session], rates[other.session])[0, 1]) for other in others),
            max(r2(fitted[other.session].predict(inputs), targets) for other in others),
        )
    return comparisons


def scored(columns: Array) -> Array:
    """Scale columns to mean 0 and standard deviation 1. A constant column becomes 0."""
    deviation = columns.std(0)
    result: Array = (columns - columns.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    return result


def r2(predictions: Array, targets: Array) -> float:
    """Compute R^2, 1 - squared error / variance, as the mean over columns."""
    return float(np.mean(1 - np.mean((predictions - targets) ** 2, axis=0) / targets.var(0)))


def _fit(recording: Recording) -> Wiener:
    return fit_wiener(scored(np.sqrt(recording.counts)), scored(recording.velocity_mm_s), LAGS)


def _apart(one: Recording, other: Recording) -> tuple[int, str]:
    """Return a key that sorts other sessions by their distance: the days between, then the name to break ties."""
    if one.day is None or other.day is None:
        raise ValueError("a session without a date has no neighbours")
    return abs((other.day - one.day).days), other.session


def _ranks(values: Array) -> Array:
    """Rank values. Equal values share their mean rank."""
    _, of, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[of]
    return ranks
