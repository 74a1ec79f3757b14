"""Adaptive decoders: recursive least squares is ridge refitted in every bin, forgetting follows drift, no peeking."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.workloads.bci.recordings.adaptive import (
    FORGETTING,
    adaptive_baselines,
    adaptive_kalman,
    after,
    anew,
    recursive_least_squares,
    sums_of,
)
from raysweep.workloads.bci.recordings.decoders import LAGS, fit_kalman, fit_wiener, lagged
from raysweep.workloads.bci.recordings.pair import Pair

RNG = np.random.default_rng


def stream(bins: int, width: int, rng: np.random.Generator, weights=None, noise: float = 0.3):
    """Inputs (bins, width), and targets (bins, 2) that are linear in the inputs of this bin."""
    inputs = rng.standard_normal((bins, width))
    weights = rng.standard_normal((width, 2)) if weights is None else weights
    return inputs, inputs @ weights + 0.5 + noise * rng.standard_normal((bins, 2))


def walk(bins: int, rng: np.random.Generator, observation):
    """States (bins, 4) of a stable linear system, and inputs (bins, k) that observe them."""
    states = np.zeros((bins, 4))
    for t in range(1, bins):
        states[t] = 0.9 * states[t - 1] + 0.4 * rng.standard_normal(4)
    return states, states @ observation + 0.5 * rng.standard_normal((bins, observation.shape[1]))


def augmented(inputs):
    return np.concatenate([lagged(inputs, LAGS), np.ones((len(inputs), 1))], axis=1)


def test_without_forgetting_it_is_ridge_refitted_in_every_bin():
    rng = RNG(0)
    a, y_a = stream(300, 3, rng)
    b, y_b = stream(60, 3, rng)
    penalty = fit_wiener(a, y_a).penalty
    kept = np.eye(3 * LAGS + 1) * penalty * len(a)
    kept[-1, -1] = 0
    predictions = recursive_least_squares(after(a, y_a), b, y_b, 1.0)
    phi_a, phi_b = augmented(a), augmented(b)
    for t in range(len(b)):
        phi, y = np.concatenate([phi_a, phi_b[:t]]), np.concatenate([y_a, y_b[:t]])
        weights = np.linalg.solve(phi.T @ phi + kept, phi.T @ y)
        np.testing.assert_allclose(predictions[t], phi_b[t] @ weights, atol=1e-8)
    np.testing.assert_allclose(predictions[0], fit_wiener(a, y_a).predict(b)[0], atol=1e-8)


def test_with_forgetting_it_is_the_weighted_least_squares_solution():
    rng = RNG(1)
    a, y_a = stream(300, 3, rng)
    b, y_b = stream(60, 3, rng)
    lam, penalty = 0.97, fit_wiener(a, y_a).penalty
    kept = np.eye(3 * LAGS + 1) * penalty * len(a)
    kept[-1, -1] = 0
    predictions = recursive_least_squares(after(a, y_a), b, y_b, lam)
    phi_a, phi_b = augmented(a), augmented(b)
    for t in (1, 20, 59):
        old, ages = lam**t, lam ** np.arange(t - 1, -1, -1.0)
        square = old * (phi_a.T @ phi_a + kept) + (phi_b[:t] * ages[:, None]).T @ phi_b[:t]
        cross = old * phi_a.T @ y_a + (phi_b[:t] * ages[:, None]).T @ y_b[:t]
        np.testing.assert_allclose(predictions[t], phi_b[t] @ np.linalg.solve(square, cross), atol=1e-8)


def test_a_ridge_anew_is_the_prior_and_what_it_saw_of_b():
    rng = RNG(2)
    a, y_a = stream(300, 3, rng)
    b, y_b = stream(60, 3, rng)
    fitted = fit_wiener(a, y_a)
    prior = np.eye(3 * LAGS + 1) * 40 * fitted.penalty
    prior[-1, -1] = 40
    first = np.concatenate([fitted.weights, fitted.intercept[None]])
    predictions = recursive_least_squares(anew(a, y_a, 40), b, y_b, 1.0)
    phi = augmented(b)
    for t in range(len(b)):
        weights = np.linalg.solve(phi[:t].T @ phi[:t] + prior, phi[:t].T @ y_b[:t] + prior @ first)
        np.testing.assert_allclose(predictions[t], phi[t] @ weights, atol=1e-8)


def test_forgetting_follows_weights_that_change_and_costs_little_where_they_stay():
    rng = RNG(3)
    width = 2
    weights = [rng.standard_normal((width, 2)) for _ in range(3)]
    a, y_a = stream(2000, width, rng, weights[0])
    moving = [stream(2000, width, rng, one) for one in weights]
    b, y_b = (np.concatenate(part) for part in zip(*moving, strict=True))
    start = after(a, y_a)
    changed = {lam: np.mean((recursive_least_squares(start, b, y_b, lam) - y_b) ** 2) for lam in FORGETTING}
    assert changed[0.999] < changed[0.9995] < changed[0.9998] < changed[1.0]
    still, y_still = stream(2000, width, rng, weights[0])
    same = {lam: np.mean((recursive_least_squares(start, still, y_still, lam) - y_still) ** 2) for lam in FORGETTING}
    assert same[1.0] < same[0.999] < 1.1 * same[1.0]


def test_sums_of_a_session_give_its_kalman_filter():
    states, inputs = walk(900, RNG(4), RNG(5).standard_normal((4, 7)))
    for ours, fitted in zip(sums_of(inputs, states + 3).kalman(4), fit_kalman(inputs, states + 3), strict=True):
        np.testing.assert_allclose(ours, fitted, atol=1e-9)


def test_without_drift_the_adaptive_kalman_filter_is_the_frozen_one():
    observation = RNG(5).standard_normal((4, 7))
    states_a, inputs_a = walk(20_000, RNG(6), observation)
    states_b, inputs_b = walk(2000, RNG(7), observation)
    adaptive = adaptive_kalman(sums_of(inputs_a, states_a), inputs_b, states_b, 1.0)
    frozen = fit_kalman(inputs_a, states_a).predict(inputs_b)
    np.testing.assert_allclose(adaptive[:10], frozen[:10], atol=1e-9)  # before it is computed anew for the first time
    assert np.abs(adaptive - frozen).max() < 0.02 * states_b.std()


def test_the_adaptive_kalman_filter_follows_a_change_of_tuning():
    observation, changed = RNG(8).standard_normal((2, 4, 7))
    states_a, inputs_a = walk(2000, RNG(9), observation)
    states_b, inputs_b = walk(4000, RNG(10), changed)
    errors = {
        lam: np.mean((adaptive_kalman(sums_of(inputs_a, states_a), inputs_b, states_b, lam) - states_b)[2000:] ** 2)
        for lam in FORGETTING
    }
    frozen = np.mean((fit_kalman(inputs_a, states_a).predict(inputs_b) - states_b)[2000:] ** 2)
    assert errors[0.999] < errors[1.0] < frozen


@pytest.mark.parametrize("bin_", [0, 11, 20])
def test_no_decoder_sees_the_movement_of_its_bin(bin_):
    rng = RNG(11)
    a, y_a = stream(300, 3, rng)
    b, y_b = stream(40, 3, rng)
    states_a, seen_a = walk(300, rng, RNG(12).standard_normal((4, 3)))
    states_b, seen_b = walk(40, rng, RNG(12).standard_normal((4, 3)))
    decoders = (
        (lambda targets: recursive_least_squares(after(a, y_a), b, targets, 0.999), y_b),
        (lambda targets: recursive_least_squares(anew(a, y_a, 40), b, targets, 1.0), y_b),
        (lambda targets: adaptive_kalman(sums_of(seen_a, states_a), seen_b, targets, 0.999), states_b),
    )
    for decode, targets in decoders:
        other = targets.copy()
        other[bin_] += 5
        one, two = decode(targets), decode(other)
        np.testing.assert_array_equal(one[: bin_ + 1], two[: bin_ + 1])
        assert not np.allclose(one[bin_ + 1 :], two[bin_ + 1 :])


def test_the_factor_is_chosen_on_a_alone():
    rng = RNG(13)
    observation = rng.standard_normal((4, 3))
    states_a, inputs_a = walk(1200, rng, observation)
    states_b, inputs_b = walk(900, rng, observation)
    _, inputs_other = walk(900, rng, -observation)
    metrics = []
    for inputs in (inputs_b, inputs_other):
        pair = Pair(inputs_a, states_a[:, 2:], inputs, states_b[:, 2:], states_a, states_b, 100, None)
        metrics.append(adaptive_baselines(pair, "velocity"))
    for name in ("rls_forgetting", "kalman_forgetting"):
        assert metrics[0][name] == metrics[1][name]
        assert metrics[0][name] in FORGETTING
    for one in metrics:
        assert one["rls_hindsight_b_late"] <= min(one["rls_b_late"], one["online_ridge_b_late"])
        assert one["kalman_hindsight_b_late"] <= one["kalman_adaptive_b_late"]
        for name in ("rls", "online_ridge", "anew", "kalman_adaptive"):
            assert {f"{name}_b_{third}" for third in ("early", "middle", "late")} <= one.keys()
