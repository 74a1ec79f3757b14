"""Experiment 1 on the paper's first seed, loosely: what fails, what learns. And a divergence without a clip."""

from __future__ import annotations

import math

import pytest

from tests.workloads.rnn.replay import run_cell


@pytest.mark.parametrize(
    ("method", "k", "config", "least", "most"),
    [
        ("traces", 0, {"decay": 0.95}, 0.05, math.inf),
        ("traces", 0, {"decay": 0.0}, 0.0, 0.005),
        # seed 123 is in every run (test_online_rnn); this one costs up to 30 s on two busy cores
        pytest.param("sparse_rtrl", 4, {}, 0.0, 0.01, marks=pytest.mark.slow),
    ],
)
def test_seed_42(method, k, config, least, most):
    metrics, _ = run_cell(method, k, seed=42, **config)
    assert metrics["diverged"] == 0.0
    assert least < metrics["mse_post_last_500"] < most


@pytest.mark.parametrize("method", ["rtrl", "traces"])
def test_a_learning_rate_of_50_without_a_clip_diverges(method):
    metrics, recorder = run_cell(method, hidden=8, learning_rate=50.0, clip=0.0, optimizer="sgd", steps=100, shift=50)
    assert metrics["diverged"] == 1.0
    assert metrics["diverged_at"] < 50
    assert not [name for name in metrics if name.startswith("mse_")]
    assert all(math.isfinite(value) for value in metrics.values())
    assert len(recorder.arrays["loss"]) == metrics["diverged_at"]
