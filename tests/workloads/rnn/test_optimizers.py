"""Optimizers against torch's and the reference's formulas; the clip by global norm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raysweep.workloads.rnn.optimizers import OPTIMIZERS, adam, adam_reference, clip_by_global_norm, sgd


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
    assert np.abs(theta).max() < 1e-2
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
