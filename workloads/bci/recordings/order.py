"""Whether a session has its channels in the order of its neighbours in time: by rates, and by decoding.

Electrodes drift, but from one session to the next most channels keep much of their firing rate, and a decoder that is
fitted on one still says something of the other's movement. Where both fail with all of the nearest sessions, the
channels are in another order: so are 20160630_01 and 20170124_01 in the public release.

- rate correlation: Spearman's, over channels, of mean rates. Of unrelated orders it is 0 +- 1 / sqrt(95) = .10.
- transfer: velocity R^2 of a Wiener filter of 5 bins, fitted on the other session. Each session's square-root counts
  and velocities are z-scored by itself, so that drifting means and gains do not count.

Of both the best of the four nearest sessions counts, as those may be the odd ones themselves.
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
"""A rate correlation below. Seven sessions with their channels permuted by us, eight ways each: -.12 to .25; the eight
at hand that are in the usual order: .44 to .98."""
NO_TRANSFER = 0.15
"""An R^2 below. The same permuted sessions: -.20 to .07; the eight: .33 to .51."""


class Compared(NamedTuple):
    """A session against its neighbours."""

    rate_correlation: float
    transfer: float

    @property
    def another_order(self) -> bool:
        """Whether both tests fail."""
        return self.rate_correlation < UNRELATED and self.transfer < NO_TRANSFER


def neighbours(recordings: Sequence[Recording]) -> Mapping[str, Compared]:
    """Each session with a date against the nearest of the others; none where there is only one."""
    dated = [recording for recording in recordings if recording.day is not None]
    if len(dated) < 2:
        return {}
    fitted = {recording.session: _fit(recording) for recording in dated}
    rates = {recording.session: _ranks(recording.counts.mean(0)) for recording in dated}
    found = {}
    for one in dated:
        others = sorted((other for other in dated if other is not one), key=lambda other: _apart(one, other))[:NEAREST]
        inputs, targets = scored(np.sqrt(one.counts)), scored(one.velocity_mm_s)
        found[one.session] = Compared(
            max(float(np.corrcoef(rates[one.session], rates[other.session])[0, 1]) for other in others),
            max(r2(fitted[other.session].predict(inputs), targets) for other in others),
        )
    return found


def scored(columns: Array) -> Array:
    """Mean 0 and deviation 1 by itself; a column that does not vary becomes 0."""
    deviation = columns.std(0)
    result: Array = (columns - columns.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    return result


def r2(predictions: Array, targets: Array) -> float:
    """Mean over columns of 1 - squared error / variance."""
    return float(np.mean(1 - np.mean((predictions - targets) ** 2, axis=0) / targets.var(0)))


def _fit(recording: Recording) -> Wiener:
    return fit_wiener(scored(np.sqrt(recording.counts)), scored(recording.velocity_mm_s), LAGS)


def _apart(one: Recording, other: Recording) -> tuple[int, str]:
    """Days between, then the name, so that the choice is always the same."""
    if one.day is None or other.day is None:
        raise ValueError("a session without a date has no neighbours")
    return abs((other.day - one.day).days), other.session


def _ranks(values: Array) -> Array:
    """Ranks, ties sharing their mean rank."""
    _, of, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[of]
    return ranks
