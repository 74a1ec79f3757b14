"""Per-step gradients of independent implementations, 1e-12 absolute in float64."""

from __future__ import annotations

import numpy as np
import pytest

from workloads.architectures.tanh_rnn import TanhRnn
from workloads.optimizers import OPTIMIZERS
from workloads.rules.bptt import bptt
from workloads.rules.rtrl import rtrl
from workloads.rules.sparse_rtrl import sparse_rtrl
from workloads.rules.traces import traces
from workloads.training import credit

TORCH = ["W", "U", "b", "V", "c"]
MARSCHALL = ["W_rec", "W_in", "b_rec", "W_out", "b_out"]


def flatten(W, U, b, V, c):
    return np.concatenate((np.column_stack((W, U, b)).ravel(), V.ravel(), c))


def in_golden_order(network, grad):
    weights = network.split(grad)
    n = network.n
    theta = weights.theta
    blocks = (theta[:, :n], theta[:, n:-1], theta[:, -1], weights.V, weights.c)
    return np.concatenate([block.ravel() for block in blocks])


def replay(arrays, names, h0, rule, alpha=1.0, learning_rate=0.0, scale=lambda network, grad: grad):
    """Gradients in golden order. The golden error signal is z - y, ours 2 (z - y) / o with o = 2: equal."""
    parts = [arrays[name] for name in names]
    n, n_in, n_out = parts[0].shape[0], parts[1].shape[1], parts[3].shape[0]
    assert n_out == 2
    network = TanhRnn(n, n_in, n_out, alpha)
    flat, h, state = flatten(*parts), arrays[h0], rule.init(n, network.m, np.float64)

    class Settings:
        pass

    Settings.learning_rate = learning_rate
    sgd = OPTIMIZERS["sgd"](Settings)
    grads, outputs, weights = [], [], []
    for x, y in zip(arrays["X"], arrays["Y"], strict=True):
        _, grad, h, z, state, _ = credit(network, rule, flat, h, x, y, state)
        grad = scale(network, grad)
        grads.append(in_golden_order(network, grad))
        flat, _ = sgd.update(flat, grad, None)
        outputs.append((h, z))
        weights.append(in_golden_order(network, flat))
    return np.array(grads), outputs, np.array(weights)


def case(archive, name):
    return {key.split("/")[1]: archive[key] for key in archive.files if key.startswith(name + "/")}


def scaled(network, grad):
    """The reference's trace is (1 - decay) times ours."""
    grad = grad.copy()
    network.split(grad).theta[:] *= 0.05
    return grad


@pytest.mark.parametrize(
    ("name", "rule", "scale"),
    [
        ("rtrl_sgd_n16", rtrl(), lambda network, grad: grad),
        ("rflo_sgd_n16", traces(decay=0.0), lambda network, grad: grad),
        ("rflo_decay095", traces(decay=0.95), scaled),
    ],
)
def test_marschall(golden, name, rule, scale):
    arrays = case(golden["marschall"], name)
    grads, outputs, weights = replay(arrays, MARSCHALL, "a0", rule, learning_rate=0.02, scale=scale)
    np.testing.assert_allclose(grads, arrays["grads"], rtol=0, atol=1e-12)
    np.testing.assert_allclose([h for h, _ in outputs], arrays["a"], rtol=0, atol=1e-12)
    np.testing.assert_allclose([z for _, z in outputs], arrays["z"], rtol=0, atol=1e-12)
    every = len(weights) // len(arrays["weights"])
    np.testing.assert_allclose(weights[every - 1 :: every], arrays["weights"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "alpha"), [("vanilla", 1.0), ("vanilla_leak03", 0.3)])
@pytest.mark.parametrize("rule", [rtrl(), bptt(window=40)], ids=["rtrl", "bptt"])
def test_torch_exact(golden, name, alpha, rule):
    arrays = case(golden["torch"], name)
    grads, outputs, _ = replay(arrays, TORCH, "s0_0", rule, alpha)
    np.testing.assert_allclose(grads, arrays["grads"], rtol=0, atol=1e-12)
    np.testing.assert_allclose([h for h, _ in outputs], arrays["h"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["vanilla_k0", "vanilla_ring4", "vanilla_rand3"])
def test_torch_masked(golden, name):
    arrays = case(golden["torch"], "vanilla") | case(golden["torch"], name)
    grads, _, _ = replay(arrays, TORCH, "s0_0", sparse_rtrl(arrays["mask"].astype(bool)))
    np.testing.assert_allclose(grads, arrays["grads"], rtol=0, atol=1e-12)
