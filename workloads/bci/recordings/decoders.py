r"""Classical decoders with which the networks are compared: the Wiener and the Kalman filter.

Wiener filter: ridge regression from the last L bins of inputs x (T, k) to targets y (T, 2), both z-scored,

    phi_t = [x_t; x_{t-1}; ...; x_{t-L+1}]             (k L,); inputs before the session are 0             (1)
    B = (Phi^T Phi + penalty T I)^-1 Phi^T (Y - mean Y)  with Phi centred; the intercept is not penalised   (2)

The penalty is one of `PENALTIES`. It is chosen so that B, fitted to the first four fifths of the data, best predicts
the last fifth. B is then fitted to all data.

Kalman filter (Wu et al. 2006): state s = [position; velocity] (4,), both z-scored,

    s_{t+1} = A s_t + w,  w ~ N(0, W);   x_t = H s_t + q,  q ~ N(0, Q)                                      (3)
    A, H by least squares, W, Q from their residuals                                                        (4)
    P- = A P A^T + W;   P = (P-^-1 + H^T Q^-1 H)^-1;   s- = A s;   s = s- + P H^T Q^-1 (x - H s-)           (5)

P- and s- are predicted from the step before. The filter starts at the mean state, with the states' covariance over
the fitted session. It never sees the movement that is decoded. W, Q and the start's covariance must be invertible. So
to the diagonal of each, `JITTER` times the mean of this diagonal is added.

Both filters are linear and cost milliseconds. Repeating the last movement (persistence) is not a baseline: it would
see the decoded target.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array

LAGS = 10
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties to choose from, in units of T.

Inputs have variance 1, so a penalty of 1 halves the weight of a single input.
"""
VALIDATED = 5
"""The last 1 / VALIDATED of the data is held out to choose the penalty."""
JITTER = 1e-6


class Wiener(NamedTuple):
    """A fitted Wiener filter."""

    weights: Array  # (k L, n_out)
    intercept: Array  # (n_out,)
    lags: int
    penalty: float

    def predict(self, inputs: Array) -> Array:
        """Predict targets (T, n_out) from inputs (T, k)."""
        predictions: Array = lagged(inputs, self.lags) @ self.weights + self.intercept
        return predictions


def lagged(inputs: Array, lags: int) -> Array:
    """Stack each step's last `lags` inputs (equation 1): (T, k L) from inputs (T, k)."""
    steps, width = inputs.shape
    padded = np.concatenate([np.zeros((lags - 1, width), inputs.dtype), inputs])
    return np.concatenate([padded[lags - 1 - lag : lags - 1 - lag + steps] for lag in range(lags)], axis=1)


def fit_wiener(inputs: Array, targets: Array, lags: int = LAGS) -> Wiener:
    """Fit a Wiener filter by equation (2), with a penalty chosen on the same data.

    Args:
        inputs: (T, k)
        targets: (T, n_out)
        lags: L, the number of bins that a prediction uses.

    Raises:
        ValueError: there are too few steps to hold out a part of them.
    """
    held_out = len(inputs) // VALIDATED
    if held_out == 0:
        raise ValueError(f"{len(inputs)} bins are too few to fit a decoder; needed: at least {VALIDATED}")
    features = lagged(inputs, lags)
    early = len(features) - held_out
    first, last = _moments(features[:early], targets[:early]), _moments(features[early:], targets[early:])
    errors = []
    for penalty in PENALTIES:
        weights, intercept = _ridge(first, penalty)
        errors.append(float(np.mean((features[early:] @ weights + intercept - targets[early:]) ** 2)))
    penalty = PENALTIES[int(np.argmin(errors))]
    weights, intercept = _ridge([one + other for one, other in zip(first, last, strict=True)], penalty)
    return Wiener(weights, intercept, lags, penalty)


def _moments(features: Array, targets: Array) -> list[Array]:
    """Sum 1, phi, y, phi phi^T and phi y^T over steps, for features phi and targets y.

    The sums of two parts of the data add up to the sums of both.
    """
    steps = np.array(float(len(features)))
    return [steps, features.sum(0), targets.sum(0), features.T @ features, features.T @ targets]


def _ridge(moments: list[Array], penalty: float) -> tuple[Array, Array]:
    """Solve equation (2) for the weights and the intercept, from the sums that `_moments` returns."""
    steps, total, target_total, square, cross = moments
    mean, target_mean = total / steps, target_total / steps
    centred = square - np.outer(mean, total) + penalty * steps * np.eye(len(square))
    weights = np.linalg.solve(centred, cross - np.outer(mean, target_total))
    return weights, target_mean - mean @ weights


class Kalman(NamedTuple):
    """A fitted Kalman filter."""

    dynamics: Array  # (s, s) A
    drive: Array  # (s, s) W
    observation: Array  # (k, s) H
    noise: Array  # (k, k) Q
    spread: Array  # (s, s) covariance of states over the fitted session
    mean: Array  # (s,)
    input_mean: Array  # (k,)

    def predict(self, inputs: Array) -> Array:
        """Estimate the states (T, s), each from the inputs (T, k) up to its step, by equation (5)."""
        gain = np.linalg.solve(self.noise, self.observation).T  # H^T Q^-1 (s, k)
        information = gain @ self.observation
        evidence = (inputs - self.input_mean) @ gain.T  # (T, s)
        state, covariance = np.zeros_like(self.mean), self.spread
        states = np.empty((len(inputs), len(state)))
        steady = False  # the covariance does not depend on the inputs: once it repeats, it is constant
        for t, observed in enumerate(evidence):
            if t:
                state = self.dynamics @ state
            if not steady:
                before = covariance
                predicted = self.dynamics @ before @ self.dynamics.T + self.drive if t else before
                covariance = np.linalg.inv(np.linalg.inv(predicted) + information)
                covariance = 0.5 * (covariance + covariance.T)
                steady = t > 0 and np.array_equal(covariance, before)
            state = state + covariance @ (observed - information @ state)  # (5)
            states[t] = state
        return states + self.mean


def fit_kalman(inputs: Array, states: Array) -> Kalman:
    """Fit a Kalman filter by equation (4).

    Args:
        inputs: (T, k)
        states: (T, s), position and velocity at each step.
    """
    mean, input_mean = states.mean(0), inputs.mean(0)
    centred, centred_inputs = states - mean, inputs - input_mean
    dynamics = np.linalg.lstsq(centred[:-1], centred[1:], rcond=None)[0].T
    observation = np.linalg.lstsq(centred, centred_inputs, rcond=None)[0].T
    drive = _covariance(centred[1:] - centred[:-1] @ dynamics.T)
    noise = _covariance(centred_inputs - centred @ observation.T)
    return Kalman(dynamics, drive, observation, noise, _covariance(centred), mean, input_mean)


def _covariance(residuals: Array) -> Array:
    square: Array = residuals.T @ residuals / len(residuals)
    return square + JITTER * np.eye(len(square)) * max(float(np.trace(square)) / len(square), JITTER)
