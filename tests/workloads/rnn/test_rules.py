"""Learning rules as mathematics: finite differences, autograd, and the cases in which two rules must agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.workloads.rnn.optimizers import adam, sgd
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.rules.bptt import bptt
from raysweep.workloads.rnn.rules.rtrl import rtrl
from raysweep.workloads.rnn.rules.sparse_rtrl import sparse_rtrl
from raysweep.workloads.rnn.rules.traces import traces
from tests.workloads.rnn.replay import Problem, every_pair, every_pair_without_noise, example_rule

sizes = st.fixed_dictionaries(
    {
        "n": st.integers(1, 7),
        "n_in": st.integers(1, 3),
        "n_out": st.integers(1, 3),
        "leak": st.sampled_from([1.0, 0.3]),
        "seed": st.integers(0, 1000),
    }
)
few = settings(max_examples=25, deadline=None, derandomize=True)


def close(got, expected, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def autograd(problem: Problem, leak: float, mask: np.ndarray | None = None) -> np.ndarray:
    """dL_t/dtheta of every step by backpropagation through all time, W h split into M * W h + (1 - M) * W sg(h)."""
    mask_ = torch.ones(problem.n, problem.n, dtype=torch.float64) if mask is None else torch.tensor(mask)
    mask_ = mask_.to(torch.float64)
    leaves = {k: torch.tensor(v, requires_grad=True) for k, v in problem.layout.split(problem.theta).items()}
    W, U, b, V, c = leaves.values()
    h = torch.tensor(problem.state[0])
    rows = []
    for x, y in zip(torch.tensor(problem.inputs), torch.tensor(problem.targets), strict=True):
        kept = (mask_ * W) @ h + ((1 - mask_) * W) @ h.detach()
        h = (1 - leak) * h + leak * torch.tanh(kept + U @ x + b)
        loss = 0.5 * ((V @ h + c - y) ** 2).sum()
        rows.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)])
        )
    return torch.stack(rows).numpy()


@few
@given(sizes)
def test_rtrl_is_full_bptt_at_every_step(size):
    problem = Problem(steps=8, **size)
    expected = autograd(problem, size["leak"])
    close(problem.replay(rtrl()).grads, expected)
    close(problem.replay(bptt(window=8)).grads, expected)


@few
@given(sizes, st.data())
def test_sparse_rtrl_is_bptt_with_stopped_products(size, data):
    n = size["n"]
    include_self = data.draw(st.booleans())
    k = data.draw(st.integers(int(include_self), n))
    problem = Problem(steps=8, **size)
    for gather in (False, True):
        rule = sparse_rtrl(k, "random", include_self, gather)
        got = problem.replay(rule)
        mask = got.rule_state.mask
        assert mask.sum(1).tolist() == [k] * n
        close(got.grads, autograd(problem, size["leak"], mask))


def test_rtrl_is_the_finite_difference_of_the_last_loss():
    problem = Problem(n=4, n_in=2, n_out=2, leak=0.7, steps=6)
    gradient = problem.replay(rtrl()).grads[-1]
    theta, h = problem.theta, 1e-5
    for i in range(len(theta)):
        losses = []
        for sign in (1, -1):
            problem.theta = theta.copy()
            problem.theta[i] += sign * h
            losses.append(problem.replay(traces(decay=0.0)).losses[-1])
        assert gradient[i] == pytest.approx((losses[0] - losses[1]) / (2 * h), abs=1e-9)


@few
@given(sizes)
def test_k_of_n_is_full_rtrl_while_learning(size):
    problem = Problem(steps=30, **size)
    expected = problem.replay(rtrl(), adam(1e-2, 0.9, 0.999, 1e-8))
    for selection in ("ring", "random"):
        for include_self in (False, True):
            rule = sparse_rtrl(size["n"], selection, include_self, gather=False)
            got = problem.replay(rule, adam(1e-2, 0.9, 0.999, 1e-8))
            np.testing.assert_array_equal(got.grads, expected.grads)
            np.testing.assert_array_equal(got.thetas, expected.thetas)


@few
@given(sizes)
def test_without_a_leak_nothing_propagated_is_no_decay_is_window_1(size):
    size = size | {"leak": 1.0}
    problem = Problem(steps=20, **size)
    expected = problem.replay(traces(decay=0.0), sgd(0.05)).grads
    np.testing.assert_array_equal(problem.replay(bptt(window=1), sgd(0.05)).grads, expected)
    np.testing.assert_array_equal(problem.replay(sparse_rtrl(k=0), sgd(0.05)).grads, expected)
    assert np.abs(expected).max() > 1e-3


def test_with_a_leak_nothing_propagated_keeps_the_leak():
    problem = Problem(n=5, leak=0.3, steps=10)
    # RFLO: P_t = (1 - alpha) P_{t-1} + alpha d_t ahat_t^T
    close(problem.replay(sparse_rtrl(k=0)).grads, problem.replay(traces(decay=0.7)).grads, 1e-14)
    assert np.abs(problem.replay(bptt(window=1)).grads - problem.replay(traces(decay=0.7)).grads).max() > 1e-3


@few
@given(sizes)
def test_a_window_over_everything_is_rtrl_also_while_learning(size):
    problem = Problem(steps=25, **size)
    close(problem.replay(bptt(window=25), sgd(0.05)).grads, problem.replay(rtrl(), sgd(0.05)).grads, 1e-11)


def test_each_window_reaches_one_step_further_back():
    problem = Problem(n=4, steps=9)
    parameters = problem.layout.split(problem.theta)
    W, V = parameters["W"], parameters["V"]
    h, d, ahat = problem.state[0], [], []
    for x in problem.inputs:
        ahat.append(np.concatenate([h, x, [1.0]]))
        h = np.tanh(W @ h + parameters["U"] @ x + parameters["b"])
        d.append(1 - h * h)
    signal = V.T @ (V @ h + parameters["c"] - problem.targets[-1])
    expected = np.zeros((4, 4 + 2 + 1))
    for window in (1, 2, 3, 4):
        expected += np.outer(signal * d[-window], ahat[-window])
        signal = W.T @ (signal * d[-window])
        got = problem.layout.split(problem.replay(bptt(window)).grads[-1])
        close(np.column_stack([got["W"], got["U"], got["b"]]), expected, 1e-14)


def test_self_alone_is_a_recursion_for_each_unit():
    # SnAp-1 of a dense network: J[j, l] <- W_jj d_j J[j, l] + d_j ahat_l
    problem = Problem(n=5, n_in=1, n_out=1, steps=15)
    parameters = problem.layout.split(problem.theta)
    W, U, b, V, c = parameters.values()
    h, trace = problem.state[0], np.zeros((5, 7))
    for selection in ("ring", "random"):
        got = problem.replay(sparse_rtrl(1, selection, include_self=True))
        np.testing.assert_array_equal(got.rule_state.mask, np.eye(5))
    for t, x in enumerate(problem.inputs):
        ahat = np.concatenate([h, x, [1.0]])
        h = np.tanh(W @ h + U @ x + b)
        d = 1 - h * h
        trace = (np.diagonal(W) * d)[:, None] * trace + np.outer(d, ahat)
        signal = V.T @ (V @ h + c - problem.targets[t])
        rows = signal[:, None] * trace
        close(got.grads[t, : 5 * 7], np.concatenate([rows[:, :5].ravel(), rows[:, 5], rows[:, 6]]), 1e-14)


def test_a_trace_is_the_decaying_sum_of_immediate_influences():
    problem = Problem(n=4, n_in=1, n_out=1, steps=3)
    parameters = problem.layout.split(problem.theta)
    W, U, b, V, c = parameters.values()
    h, immediate = problem.state[0], []
    for x in problem.inputs:
        before = h
        h = np.tanh(W @ h + U @ x + b)
        immediate.append(np.outer(1 - h * h, before))
    signal = V.T @ (V @ h + c - problem.targets[-1])
    expected = signal[:, None] * (0.81 * immediate[0] + 0.9 * immediate[1] + immediate[2])
    close(problem.layout.split(problem.replay(traces(decay=0.9)).grads[-1])["W"], expected, 1e-15)


@pytest.mark.parametrize("loss", ["mse", "half_sse"])
def test_readout_gradients_and_losses(loss):
    problem = Problem(n=4, n_out=3, steps=4)
    got = problem.replay(rtrl(), loss=loss)
    parameters = problem.layout.split(problem.theta)
    for t, state in enumerate(got.states):
        e = parameters["V"] @ state[0] + parameters["c"] - problem.targets[t]
        weight, value = (2 / 3, np.mean(e**2)) if loss == "mse" else (1.0, 0.5 * np.sum(e**2))
        grads = problem.layout.split(got.grads[t])
        close(grads["c"], weight * e, 1e-15)
        close(grads["V"], np.outer(weight * e, state[0]), 1e-15)
        assert got.losses[t] == pytest.approx(value, rel=1e-14)


# The contract, over the registries.


@every_pair
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (8, 3, 2)])
def test_every_rule_keeps_shapes_and_dtype_and_stays_finite(rule, architecture, dtype, shape):
    n, n_in, n_out = shape
    problem = Problem(n, n_in, n_out, steps=20, dtype=dtype, architecture=architecture)
    got = problem.replay(example_rule(rule, n), adam(1e-3, 0.9, 0.999, 1e-8))
    for array in (got.grads, got.thetas):
        assert array.shape == (20, problem.layout.size)
        assert array.dtype == dtype
        assert np.isfinite(array).all()
    assert got.states.dtype == dtype
    assert all(math.isfinite(value) for info in got.infos for value in info.values())
    assert np.abs(got.thetas[-1] - problem.theta).max() > 1e-4


@every_pair
def test_same_seed_same_bits(rule, architecture):
    problem = Problem(n=8, steps=20, architecture=architecture)
    first, second = (problem.replay(example_rule(rule, 8), adam(1e-3, 0.9, 0.999, 1e-8), seed=3) for _ in range(2))
    assert first.grads.tobytes() == second.grads.tobytes()


@every_pair_without_noise  # the others are exact on average: test_stochastic_rules
def test_every_rule_has_the_exact_gradient_at_the_first_step(rule, architecture):
    # no past, nothing to approximate
    problem = Problem(n=8, steps=1, architecture=architecture)
    got, expected = (problem.replay(r).grads[0] for r in (example_rule(rule, 8), bptt(window=1)))
    if RULES[rule].takes_k and problem.architecture.stages > 1:
        # a mask stands between the stages of one step too: only the last one's own gates are exact
        got, expected = (problem.architecture.pack(problem.layout.split(g))[-1] for g in (got, expected))
    if RULES[rule].immediate:
        close(got, expected, 1e-14)
    else:
        assert np.abs(got - expected).max() > 1e-6


@every_pair
def test_a_rule_is_what_it_says_of_its_gradient(rule, architecture):
    problem = Problem(n=8, steps=10, architecture=architecture)
    got, exact = (problem.replay(r).grads for r in (example_rule(rule, 8), bptt(window=10)))
    distance = np.abs(got - exact).max()
    says = RULES[rule].gradient == "exact" or RULES[rule].exact_on(problem.architecture)
    assert (distance < 1e-12) == says


@every_pair
def test_float32_follows_float64(rule, architecture):
    def grads(dtype):
        return Problem(n=8, steps=20, dtype=dtype, architecture=architecture).replay(example_rule(rule, 8)).grads

    expected = grads("float64")
    np.testing.assert_allclose(grads("float32"), expected, rtol=0, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


@every_pair
def test_update_leaves_its_arguments_alone(rule, architecture):
    problem = Problem(n=8, steps=6, architecture=architecture)
    theta, state = problem.theta.copy(), problem.state.copy()
    problem.replay(example_rule(rule, 8), adam(1e-3, 0.9, 0.999, 1e-8))
    np.testing.assert_array_equal(problem.theta, theta)
    np.testing.assert_array_equal(problem.state, state)
