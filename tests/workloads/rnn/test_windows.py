"""Windows of a stream's segments, and the scores of each step."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.workloads.rnn.streams.stream import Segment
from raysweep.workloads.rnn.windows import (
    accuracies,
    constant_means,
    cross_entropies,
    scores,
    squared_errors,
    window_means,
    windows,
)


def test_windows_that_fit():
    segments = (Segment("pre", 0, 500), Segment("post", 500, 800))
    values = np.arange(800.0)
    assert window_means("mse", values, segments) == {
        "mse_pre_all": 249.5,
        "mse_pre_last_500": 249.5,
        "mse_pre_last_200": 399.5,
        "mse_post_all": 649.5,
        "mse_post_last_200": 699.5,
    }
    assert window_means("mse", values[:799], segments).keys() == {
        "mse_pre_all",
        "mse_pre_last_500",
        "mse_pre_last_200",
    }
    assert window_means("mse", values[:499], segments) == {}


def test_squared_errors_are_means_over_outputs():
    errors = squared_errors(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert errors.tolist() == [2.5]


def test_windows_count_graded_steps_only():
    graded = np.arange(3000) % 3 == 2
    segments = (Segment("all", 0, 3000),)
    values = np.where(graded, np.arange(3000.0), 1e9)
    means = window_means("mse", values, segments, graded)
    assert means == {
        "mse_all_all": np.mean(np.arange(2.0, 3000, 3)),
        "mse_all_last_500": np.mean(np.arange(2.0, 3000, 3)[-500:]),
        "mse_all_last_200": np.mean(np.arange(2.0, 3000, 3)[-200:]),
    }
    assert window_means("mse", values[:2999], segments, graded) == {}
    assert window_means("mse", values[:1200], (Segment("pre", 0, 1200),), graded).keys() == {
        "mse_pre_all",
        "mse_pre_last_200",
    }
    assert window_means("mse", values, segments, np.zeros(3000, np.bool_)) == {}


def test_no_constant_beats_the_windows_own_mean():
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((600, 2)) + np.array([1.0, -2.0])
    graded = rng.random(600) < 0.9
    segments = (Segment("pre", 0, 300), Segment("post", 300, 600))
    means = constant_means(targets, segments, graded)
    steps_of = windows(graded, segments, 600)
    assert means.keys() == {f"constant_{name}" for name in steps_of}
    for name, steps in steps_of.items():
        own = targets[steps].mean(axis=0)
        best = squared_errors(np.tile(own, (600, 1)), targets)[steps].mean()
        assert means[f"constant_{name}"] == pytest.approx(best, rel=1e-12)
        for nudge in ([0.01, 0.0], [0.0, -0.01]):
            assert squared_errors(np.tile(own + nudge, (600, 1)), targets)[steps].mean() > best


def test_scores_of_classes():
    targets = np.eye(3)[[0, 1, 2, 2]]
    predictions = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 5.0, 5.0]])
    assert accuracies(predictions, targets).tolist() == [1.0, 0.0, 1 / 3, 1 / 2]
    p = np.exp(predictions) / np.exp(predictions).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cross_entropies(predictions, targets), -np.log((p * targets).sum(axis=1)), rtol=1e-13)
    assert cross_entropies(np.array([[1e300, 0.0, 0.0]]), targets)[0] == 0.0
    assert scores(predictions[:2], targets, classes=True).keys() == {"accuracy", "cross_entropy"}
    assert scores(predictions[:2], targets, classes=False)["mse"].shape == (2,)
