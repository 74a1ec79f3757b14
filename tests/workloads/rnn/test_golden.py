"""Per-step gradients of independent implementations, replayed in float64 to 1e-12 (data outside the project)."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.workloads.rnn.optimizers import sgd
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.sparse_rtrl import sparse_rtrl
from raysweep.workloads.rnn.rules.traces import traces
from tests.workloads.rnn.replay import Problem, golden, masked


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        ("rtrl_sgd_n16", rtrl()),
        ("rtrl_sgd_n16", sparse_rtrl(k=16)),
        ("rtrl_sgd_n16", bptt(window=200)),
        ("rflo_sgd_n16", traces(decay=0.0)),
        ("rflo_sgd_n16", sparse_rtrl(k=0)),
        ("rflo_sgd_n16", bptt(window=1)),
        ("rflo_decay095", traces(decay=0.95, gain=0.05)),
    ],
)
def test_learning_with_sgd_follows_marschalls_framework(case, rule):
    stored = golden(case)
    got = Problem.stored(stored).replay(rule, sgd(learning_rate=0.02))
    np.testing.assert_allclose(got.grads, stored["grads"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.states[:, 0], stored["a"], rtol=0, atol=1e-12)
    # their reported loss is a mean, its gradient that of the sum
    np.testing.assert_allclose(got.losses / 2, stored["loss"], rtol=0, atol=1e-12)
    weights = stored["weights"]
    at = np.abs(got.thetas[:, None] - weights[None]).max(-1).argmin(0)
    assert set(np.diff(at)) == {10}  # stored every 10 steps
    np.testing.assert_allclose(got.thetas[at], weights, rtol=0, atol=1e-12)
    final = np.concatenate([stored[k].ravel() for k in ("W_rec", "W_in", "b_rec", "W_out", "b_out")])
    np.testing.assert_array_equal(Problem.stored(stored).theta, final)


@pytest.mark.parametrize("case", ["vanilla", "vanilla_leak03"])
@pytest.mark.parametrize("rule", [rtrl(), bptt(window=40)], ids=["rtrl", "bptt"])
def test_exact_gradients_are_those_of_autograd(case, rule):
    stored = golden(case) | (golden("vanilla_leak03") if case == "vanilla_leak03" else {})
    got = Problem.stored(stored, leak=0.3 if case == "vanilla_leak03" else 1.0).replay(rule)
    np.testing.assert_allclose(got.grads, stored["grads"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.losses, stored["loss"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.states[:, 0], stored["h"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["vanilla_k0", "vanilla_ring4", "vanilla_rand3"])
@pytest.mark.parametrize("gather", [False, True])
def test_masked_gradients_are_those_of_autograd_with_stopped_products(case, gather):
    stored = golden(case)
    got = Problem.stored(stored).replay(masked(stored["mask"], gather))
    np.testing.assert_allclose(got.grads, stored["grads"], rtol=0, atol=1e-12)


def test_the_ring_is_the_stored_ring():
    stored = golden("vanilla_ring4")
    got = Problem.stored(stored).replay(sparse_rtrl(k=4, selection="ring"))
    np.testing.assert_array_equal(got.rule_state.mask, stored["mask"])
    np.testing.assert_allclose(got.grads, stored["grads"], rtol=0, atol=1e-12)
