"""Optimizers against torch's and the reference's formulas; the clip by global norm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raysweep.workloads.rnn.optimizers import OPTIMIZERS, adam, adam_reference, clip_by_global_norm, rmsprop, sgd


def gradients(steps=2000, size=50, seed=0):
    rng = np.random.default_rng(seed)
    # of all sizes, so that epsilon matters for some
    return rng.standard_normal((steps, size)) * np.logspace(-10, 1, size)


def test_adam_is_torchs():
    ours = np.linspace(-1, 1, 50)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    reference = torch.optim.Adam([theirs], lr=1e-2, betas=(0.8, 0.95), eps=1e-8)
    optimizer = adam(1e-2, 0.8, 0.95, 1e-8)
    state = optimizer.init(ours)
    for gradient in gradients():
        theirs.grad = torch.tensor(gradient)
        reference.step()
        ours, state = optimizer.update(gradient, state, ours)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12)


def test_the_references_adam_has_epsilon_before_the_bias_correction():
    theta, m, v = np.linspace(-1, 1, 50), np.zeros(50), np.zeros(50)
    ours, optimizer = theta, adam_reference(1e-2, 0.9, 0.999, 1e-8)
    state = optimizer.init(theta)
    for t, g in enumerate(gradients(), start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        rate = 1e-2 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        theta = theta - rate * m / (np.sqrt(v) + 1e-8)
        ours, state = optimizer.update(g, state, ours)
        np.testing.assert_allclose(ours, theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("epsilon", "differ"), [(1e-8, True), (1e-30, False)])
def test_the_two_adams_differ_by_epsilon_only(epsilon, differ):
    ends = []
    for build in (adam, adam_reference):
        theta, optimizer = np.zeros(50), build(1e-3, 0.9, 0.999, epsilon)
        state = optimizer.init(theta)
        for gradient in gradients(60):
            theta, state = optimizer.update(gradient, state, theta)
        ends.append(theta)
    assert (np.abs(ends[0] - ends[1]).max() > 1e-6) == differ


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rmsprop_is_torchs(dtype):
    ours = np.linspace(-1, 1, 50).astype(dtype)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    reference = torch.optim.RMSprop([theirs], lr=1e-2, alpha=0.95, eps=1e-8)
    optimizer = rmsprop(1e-2, 0.95, 1e-8, "parameter")
    state = optimizer.init(ours)
    for gradient in gradients().astype(dtype):
        theirs.grad = torch.tensor(gradient)
        reference.step()
        ours, state = optimizer.update(gradient, state, ours)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12 if dtype is np.float64 else 1e-4)


def test_rmsprop_of_groups_by_hand():
    """Two groups, of two and of one parameter, over two updates."""
    optimizer = rmsprop(0.1, 0.5, 1.0, "group", (2, 1))
    theta, v = optimizer.update(np.array([1.0, 7.0, 2.0]), optimizer.init(np.zeros(3)), np.zeros(3))
    np.testing.assert_allclose(v, [12.5, 12.5, 2.0])  # half of (1 + 49) / 2, half of 4
    np.testing.assert_allclose(theta, [-0.1 / (12.5**0.5 + 1), -0.7 / (12.5**0.5 + 1), -0.2 / (2**0.5 + 1)])
    theta, v = optimizer.update(np.array([0.0, 3.0, 0.0]), v, theta)
    np.testing.assert_allclose(v, [8.5, 8.5, 1.0])  # 12.5 / 2 + 4.5 / 2, 2 / 2
    assert theta[1] == pytest.approx(-0.7 / (12.5**0.5 + 1) - 0.3 / (8.5**0.5 + 1))


def test_groups_of_one_parameter_are_rmsprop_of_parameters():
    alone, each = rmsprop(0.01, 0.9, 1e-8, "parameter"), rmsprop(0.01, 0.9, 1e-8, "group", (1,) * 50)
    ends = []
    for optimizer in (alone, each):
        theta = np.zeros(50)
        state = optimizer.init(theta)
        for gradient in gradients(60):
            theta, state = optimizer.update(gradient, state, theta)
        ends.append(theta)
    np.testing.assert_array_equal(*ends)


def test_sgd():
    theta, _ = sgd(0.5).update(np.array([1.0, -2.0]), None, np.array([3.0, 4.0]))
    assert theta.tolist() == [2.5, 5.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_optimizer_descends_and_keeps_dtype_and_arguments(name, dtype):
    entry = OPTIMIZERS[name]
    optimizer = entry.build(learning_rate=0.05, **entry.defaults)
    start = theta = np.array([2.0, -3.0], dtype)
    state = optimizer.init(theta)
    for _ in range(300):
        theta, state = optimizer.update(theta, state, theta)  # gradient of |theta|^2 / 2
    assert theta.dtype == dtype
    assert np.abs(theta).max() < (0.05 if name == "rmsprop" else 1e-2)  # RMSprop's steps keep the learning rate's size
    assert start.tolist() == [2.0, -3.0]


@pytest.mark.parametrize("limit", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 100.0])
def test_clip_is_torchs(limit, scale):
    gradient = scale * np.random.default_rng(1).standard_normal(40)
    leaf = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
    leaf.grad = torch.tensor(gradient)
    norm = float(torch.nn.utils.clip_grad_norm_([leaf], limit))
    ours, our_norm = clip_by_global_norm(gradient, limit)
    np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-14)
    assert our_norm == pytest.approx(norm, rel=1e-14)


def test_clip_0_is_no_clip():
    gradient = np.array([3.0, 4.0])
    clipped, norm = clip_by_global_norm(gradient, 0.0)
    assert clipped.tolist() == [3.0, 4.0]
    assert norm == 5.0
