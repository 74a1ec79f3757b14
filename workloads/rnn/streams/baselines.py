r"""Naive predictions that a network has to beat. A step's prediction uses only data from before its target.

- Persistence predicts no change: z_t = x_t if y_t = x_{t+1}, otherwise the last target seen (`last_target`).
- Recursive least squares (RLS, `rls2`) predicts each coordinate of a series by a linear function of its last two
  values:

      z_t = w_t . phi_t,   phi_t = (x_t, x_{t-1})                                                     (1)
      w_t = argmin_w sum_{s=1}^{t-1} beta^{t-1-s} (x_{s+1} - w . phi_s)^2 + ridge |w - (1, 0)|^2      (2)

  (2) is solved by its 2 x 2 normal equations. A sine obeys x_{t+1} = 2 cos(f) x_t - x_{t-1}. After two steps that
  obey this equation, the prediction is exact. In contrast to textbook RLS, the ridge does not decay, so weights
  cannot grow without bound when a series comes to rest. The ridge pulls towards (1, 0), so the first predictions are
  persistence. Time is O(1) per step and coordinate.

The best constant of a window is known in hindsight only, so it is not one of these predictions
(`raysweep.workloads.rnn.windows.constant_means`).
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Mask

FORGETTING = 0.9
"""beta in equation (2): a memory of 10 steps.

With beta = 1 the steps before a shift would count as much as those after it. The mean squared error after the
shift would be .0022 instead of .0006 on the sine, and .000091 instead of .000083 on Lorenz.
"""
RIDGE = 1e-10
"""ridge in equation (2), small compared with squares of data of order 1."""


def last_target(targets: Array, graded: Mask) -> Array:
    """Return for each step the target of the last graded step before it, (T, n_out); zero before the first."""
    steps = np.arange(len(targets))
    latest = np.maximum.accumulate(np.where(graded, steps, -1))
    before = np.concatenate([[-1], latest[:-1]])
    known: Array = np.where(before[:, None] >= 0, targets[before], 0.0)
    return known


def rls2(series: Array, forgetting: float = FORGETTING) -> Array:
    """Predict series[1:], (T, q), from a series (T + 1, q) by the recursive least squares of equation (2)."""
    return np.stack([_rls2(column.tolist(), forgetting) for column in series.T], axis=1)


def _rls2(x: list[float], forgetting: float) -> Array:
    """Compute `rls2` for one coordinate, in Python floats, since NumPy's overhead would take most of the time."""
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
