r"""Naive predictions that a network has to beat, each at step t from what was seen before its target.

- Persistence: nothing changes. z_t = x_t where y_t = x_{t+1}; elsewhere the last target seen (`last_target`).
- RLS over two taps (`rls2`): each coordinate of a series as a linear function of its own last two values,

      z_t = w_t . phi_t,   phi_t = (x_t, x_{t-1})                                                     (1)
      w_t = argmin_w sum_{s=1}^{t-1} beta^{t-1-s} (x_{s+1} - w . phi_s)^2 + ridge |w - (1, 0)|^2      (2)

  by its normal equations, two by two. A sine obeys x_{t+1} = 2 cos(f) x_t - x_{t-1} and is predicted exactly
  once two of its steps were seen. What differs from the textbook's RLS: the ridge does not decay, so weights
  cannot wind up where a series comes to rest, and it pulls towards (1, 0), so the start is persistence.
  Time O(1) a step and coordinate.

The best constant of a window is known in hindsight only and is not a prediction in this sense
(`raysweep.workloads.rnn.windows.constant_means`).
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Mask

FORGETTING = 0.9
"""beta: a memory of 10 steps. With beta = 1 the steps before a shift would count for as much as those after it: on
the sine the mean after the shift is then .0022, here .0006; on Lorenz .000091 and .000083."""
RIDGE = 1e-10
"""Small against squares of data of order 1."""


def last_target(targets: Array, graded: Mask) -> Array:
    """The target of the last graded step before each, (T, n_out); before the first, zero."""
    steps = np.arange(len(targets))
    latest = np.maximum.accumulate(np.where(graded, steps, -1))
    before = np.concatenate([[-1], latest[:-1]])
    known: Array = np.where(before[:, None] >= 0, targets[before], 0.0)
    return known


def rls2(series: Array, forgetting: float = FORGETTING) -> Array:
    """Predictions (T, q) of series[1:] out of a series (T + 1, q)."""
    return np.stack([_rls2(column.tolist(), forgetting) for column in series.T], axis=1)


def _rls2(x: list[float], forgetting: float) -> Array:
    """One coordinate, in Python's numbers: at two taps NumPy's overhead would be most of the time."""
    predictions = x[:1]  # one value is known: persistence
    a = b = c = p = q = 0.0  # of (2): R = [[a, b], [b, c]] = sum phi phi^T, (p, q) = sum (x - phi_1) phi
    for t in range(1, len(x) - 1):
        last, older = x[t], x[t - 1]
        d = (a + RIDGE) * (c + RIDGE) - b * b
        change = (p * (c + RIDGE) - q * b) / d, (q * (a + RIDGE) - p * b) / d  # w - (1, 0)
        predictions.append(last + change[0] * last + change[1] * older)  # (1)
        missed = x[t + 1] - last
        a, b, c = forgetting * a + last * last, forgetting * b + last * older, forgetting * c + older * older
        p, q = forgetting * p + missed * last, forgetting * q + missed * older
    return np.array(predictions)
