r"""Classical decoders that adapt to session B online: recursive least squares and a Kalman filter, with forgetting.

Each starts from its fit on session A. In every bin it predicts the movement first and uses it afterwards, as the
networks do. With lam the forgetting factor, a bin that is s bins old has weight lam^s.

Recursive least squares (Haykin, "Adaptive Filter Theory", chapter on RLS) on the features phi_t of the Wiener filter,
extended by a 1 for the intercept, (k L + 1,):

    e_t = y_t - W_{t-1}^T phi_t                                                 prediction, then error (n_out,)   (1)
    u_t = P_{t-1} phi_t,   W_t = W_{t-1} + u_t e_t^T / (lam + phi_t^T u_t)      W (k L + 1, n_out)                (2)
    P_t = (P_{t-1} - u_t u_t^T / (lam + phi_t^T u_t)) / lam                     P symmetric                       (3)
    W_0 the Wiener filter of A,   P_0^-1 = sum_A phi phi^T + penalty T_A diag(1, .., 1, 0)                        (4)
    anew: W_0 the same,           P_0^-1 = N (penalty diag(1, .., 1, 0) + diag(0, .., 0, 1)),   lam = 1           (5)

With lam = 1 and (4), W_t is the ridge regression on A and B up to bin t, refitted at every bin (`online_ridge`). With
(5) it is that on B alone, drawn towards A's filter by a prior that is worth N bins, those of three minutes (`anew`).

Kalman filter: (3) to (5) of `workloads.bci.recordings.decoders`, whose means, A, H, W and Q follow from sums

    M = sum z_t z_t^T,  z_t = [s_t; x_t; 1]        K = sum v_t v_t^T,  v_t = [s_{t+1}; s_t; 1]                    (6)
    M <- lam M + z_t z_t^T,   K <- lam K + v_{t-1} v_{t-1}^T    after the estimate of bin t                      (7)

and are computed from them anew after every `EVERY` bins. The filter's own state is never set to the movement. That
moments of labelled data are averaged with forgetting is the adaptation of Dangi et al. (2014, "Continuous closed-loop
decoder adaptation with a recursive maximum likelihood algorithm"), here with the recorded movement.

The factor lam is one of `FORGETTING`, chosen on session A alone: the decoder is fitted on A's first half, and the
factor with the least error of predictions on A's second half is taken. How much this choice loses can be seen from
`hindsight`, the least error late in B over the factors, which no decoder could have attained knowingly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.decoders import JITTER, LAGS, Kalman, Wiener, fit_wiener, lagged
from raysweep.workloads.bci.recordings.pair import LATE, Pair, coordinates, windows_b
from raysweep.workloads.bci.recordings.preprocess import Target
from raysweep.workloads.rnn.windows import squared_errors

FORGETTING = (0.999, 0.9995, 0.9998, 1.0)
"""Factors to choose from: memories of 1,000, 2,000 and 5,000 bins (64 s, 2 and 5 minutes at 64 ms), and of all bins."""
EVERY = 10
"""Number of bins after which the Kalman filter is computed anew from its sums."""


class Recursion(NamedTuple):
    """What recursive least squares starts from."""

    weights: Array  # (k L + 1, n_out) W_0; the last row is the intercept
    covariance: Array  # (k L + 1, k L + 1) P_0
    lags: int


def after(inputs: Array, targets: Array) -> Recursion:
    """Fit a Wiener filter, and keep what (4) needs to continue it. inputs (T, k), targets (T, n_out)."""
    fitted = fit_wiener(inputs, targets)
    features = _features(inputs, fitted.lags)
    information = features.T @ features + np.diag(_penalised(features.shape[1]) * fitted.penalty * len(inputs))
    return Recursion(_stacked(fitted), np.linalg.inv(information), fitted.lags)


def anew(inputs: Array, targets: Array, worth: int) -> Recursion:
    """Fit a Wiener filter, and keep it as a prior that is worth `worth` bins (5). inputs (T, k), targets (T, n_out)."""
    fitted = fit_wiener(inputs, targets)
    weights = _stacked(fitted)
    penalised = _penalised(len(weights))
    return Recursion(weights, np.diag(1 / (worth * np.where(penalised > 0, fitted.penalty, 1.0))), fitted.lags)


def recursive_least_squares(start: Recursion, inputs: Array, targets: Array, forgetting: float) -> Array:
    """Predict targets (T, n_out), each from inputs (T, k) up to its bin and targets before it, by (1) to (3)."""
    weights, covariance = start.weights.copy(), start.covariance.copy()
    update = np.empty_like(covariance)
    predictions = np.empty_like(targets)
    for t, phi in enumerate(_features(inputs, start.lags)):
        predictions[t] = phi @ weights
        u = covariance @ phi
        gain = u / (forgetting + phi @ u)
        weights += np.outer(gain, targets[t] - predictions[t])
        np.multiply(u[:, None], u / (forgetting + phi @ u), out=update)
        covariance -= update
        if forgetting != 1:
            covariance /= forgetting
    return predictions


class Sums(NamedTuple):
    """The sums of (6)."""

    now: Array  # (s + k + 1, s + k + 1) M
    steps: Array  # (2 s + 1, 2 s + 1) K

    def kalman(self, size: int) -> Kalman:
        """Compute the Kalman filter of these sums, for states of `size` numbers.

        Of the sums of one session without forgetting it is that of `fit_kalman`.
        """
        count, means = self.now[-1, -1], self.now[-1, :-1] / self.now[-1, -1]
        mean = means[:size]
        square = self.now[:-1, :-1] / count - np.outer(means, means)
        spread, cross, inputs = square[:size, :size], square[size:, :size], square[size:, size:]
        observation = np.linalg.solve(spread, cross.T).T
        centre = np.eye(2 * size, 2 * size + 1)
        centre[:, -1] = -np.concatenate([mean, mean])
        steps = centre @ self.steps @ centre.T / self.steps[-1, -1]
        after, across, before = steps[:size, :size], steps[:size, size:], steps[size:, size:]
        dynamics = np.linalg.solve(before, across.T).T
        drive = after - dynamics @ across.T
        noise = inputs - observation @ cross.T
        return Kalman(
            dynamics, _invertible(drive), observation, _invertible(noise), _invertible(spread), mean, means[size:]
        )


def sums_of(inputs: Array, states: Array) -> Sums:
    """Compute the sums of (6) over a session: inputs (T, k), states (T, s)."""
    ones = np.ones((len(states), 1))
    now = np.concatenate([states, inputs, ones], axis=1)
    steps = np.concatenate([states[1:], states[:-1], ones[1:]], axis=1)
    return Sums(now.T @ now, steps.T @ steps)


def adaptive_kalman(start: Sums, inputs: Array, states: Array, forgetting: float) -> Array:
    """Estimate states (T, s), each from inputs (T, k) up to its bin and from states before it, which only fit (7)."""
    size = states.shape[1]
    moments, steps = start.now.copy(), start.steps.copy()
    filtered = Sums(moments, steps).kalman(size)
    estimate, covariance = filtered.mean, filtered.spread
    estimates = np.empty_like(states)
    for t in range(len(inputs)):
        if t and t % EVERY == 0:
            filtered = Sums(moments, steps).kalman(size)
        if t % EVERY == 0:
            gain = np.linalg.solve(filtered.noise, filtered.observation).T  # H^T Q^-1 (s, k)
            information = gain @ filtered.observation
        state = estimate - filtered.mean
        if t:
            state = filtered.dynamics @ state
            covariance = filtered.dynamics @ covariance @ filtered.dynamics.T + filtered.drive
        covariance = np.linalg.inv(np.linalg.inv(covariance) + information)
        covariance = 0.5 * (covariance + covariance.T)
        state = state + covariance @ (gain @ (inputs[t] - filtered.input_mean) - information @ state)
        estimates[t] = estimate = state + filtered.mean
        seen = np.concatenate([states[t], inputs[t], [1.0]])
        moments *= forgetting
        moments += np.outer(seen, seen)
        if t:
            moved = np.concatenate([states[t], states[t - 1], [1.0]])
            steps *= forgetting
            steps += np.outer(moved, moved)
    return estimates


def adaptive_baselines(pair: Pair, target: Target) -> dict[str, float]:
    """Compute the errors of the adaptive decoders in the thirds of session B.

    Args:
        pair: the sessions, preprocessed.
        target: the decoded quantity.

    Returns:
        `NAME_b_early`, `NAME_b_middle`, `NAME_b_late` -> mean squared error of z-scored targets, for `rls` and
            `kalman_adaptive` with the factor chosen on A, `online_ridge`, and `anew`; `rls_hindsight_b_late` and
            `kalman_hindsight_b_late`; the chosen factors `rls_forgetting` and `kalman_forgetting`.
    """
    columns = coordinates(target)
    half = len(pair.inputs_a) // 2
    first, second = slice(0, half), slice(half, None)
    inputs, states = pair.inputs_a, pair.states_a
    early, whole = after(inputs[first], pair.targets_a[first]), after(inputs, pair.targets_a)
    chosen = _chosen(
        lambda lam: recursive_least_squares(early, inputs[second], pair.targets_a[second], lam), pair.targets_a[second]
    )
    by_factor = {lam: recursive_least_squares(whole, pair.inputs_b, pair.targets_b, lam) for lam in FORGETTING}
    early_sums, sums = sums_of(inputs[first], states[first]), sums_of(inputs, states)
    chosen_kalman = _chosen(
        lambda lam: adaptive_kalman(early_sums, inputs[second], states[second], lam)[:, columns],
        states[second][:, columns],
    )
    kalmans = {lam: adaptive_kalman(sums, pair.inputs_b, pair.states_b, lam)[:, columns] for lam in FORGETTING}
    prior = anew(inputs, pair.targets_a, pair.refit)
    guesses = {
        "rls": by_factor[chosen],
        "online_ridge": by_factor[1.0],
        "anew": recursive_least_squares(prior, pair.inputs_b, pair.targets_b, 1.0),
        "kalman_adaptive": kalmans[chosen_kalman],
    }
    thirds = windows_b(len(pair.inputs_b))
    metrics = {"rls_forgetting": chosen, "kalman_forgetting": chosen_kalman}
    for name, predictions in guesses.items():
        errors = squared_errors(predictions, pair.targets_b)
        metrics |= {f"{name}_{third}": float(errors[start:stop].mean()) for third, start, stop in thirds}
    late = slice(*thirds[-1][1:])
    for name, all_predictions in (("rls", by_factor), ("kalman", kalmans)):
        errors_late = [squared_errors(p, pair.targets_b)[late].mean() for p in all_predictions.values()]
        metrics[f"{name}_hindsight_{LATE}"] = float(min(errors_late))
    return metrics


def _chosen(predict: Callable[[float], Array], targets: Array) -> float:
    """Return the factor whose predictions have the least error; of equal ones the shorter memory."""
    errors = [float(np.mean((predict(lam) - targets) ** 2)) for lam in FORGETTING]
    return FORGETTING[int(np.argmin(errors))]


def _invertible(covariance: Array) -> Array:
    size = len(covariance)
    symmetric: Array = 0.5 * (covariance + covariance.T)
    return symmetric + JITTER * np.eye(size) * max(float(np.trace(symmetric)) / size, JITTER)


def _features(inputs: Array, lags: int = LAGS) -> Array:
    return np.concatenate([lagged(inputs, lags), np.ones((len(inputs), 1), inputs.dtype)], axis=1)


def _stacked(fitted: Wiener) -> Array:
    return np.concatenate([fitted.weights, fitted.intercept[None]])


def _penalised(size: int) -> Array:
    """Return diag(1, .., 1, 0) of (4) as a vector: the intercept is not penalised."""
    flags = np.ones(size)
    flags[-1] = 0.0
    return flags
