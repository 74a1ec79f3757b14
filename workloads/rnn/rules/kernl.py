r"""Kernel RNN learning, KeRNL (Roth, Kanitscheider and Fiete 2019): influence as a learned kernel times a trace.

    J_t[k, g, j, l] ~ A[k, j] B_t[g, j, l]           A (n, n) sensitivity, B (G, n, m) trace              (1)
    kap   = max(0, 1 - gam)                          gam (n,) learned rate of each unit's kernel          (2)
    B_t   = kap B_{t-1} + gain_t inputs_t            tanh RNN: gain = alpha d_t, inputs = ahat_t          (3)

A and gam are learned by gradient descent. They have to predict the effect of noise on a copy of the network:

    hN_t  = f(hN_{t-1} + zeta_{t-1}, x_t)            hN (n,) perturbed copy, zeta ~ N(0, sigma^2)         (4)
    Gam_t = kap Gam_{t-1} - Om_{t-1}                 Gam (n,) = dOm / dgam                                (5)
    Om_t  = kap Om_{t-1} + zeta_t                    Om (n,) the noise seen through the kernel            (6)
    err   = A Om_t - (hN_t - h_t)                                                                         (7)
    gam  <- gam - eta (err^T A) * Gam_t              eta `kernel_rate`, sigma `perturbation`              (8)
    A    <- A - eta err Om_t^T                                                                            (9)
    G_t   = (q_t^T A) * B_t                          with the new A                                      (10)

A_0 = I, gam_0 = `kernel_leak`. The gradient is biased. Once A has changed, it is not exact at a first step either.
Time is 2 G n m + 3 n^2, which includes the copy's step; memory is G n m + n^2. With A = I, eta = 0 and gam = alpha it
is RFLO with symmetric feedback.

A and gam move by about eta sigma^2 a step, since noise enters twice. At the defaults, sigma = 1e-5 and eta = 0.5,
they stay at their initial values within any run. In measurements with n = 5 and alpha = 0.3, eta sigma^2 = 1e-3 is
enough to learn A and gam within a thousand steps. With 3e-3, gam falls below 0, so kap > 1 and everything grows. In
float32 hN - h has a rounding error of about 1e-7, so sigma should be well above that.

Differences from the source: the rule has the form of Marschall, Cho and Savin (2020), whose runs are reproduced here.
It learns online, with one learning rate for A and gam. A flaw of that form is kept. (6) adds zeta_t to Om_t at once,
but zeta_t moves the copy only at step t + 1. So (7) compares Om_t with an effect that lags one step, and a learned A
becomes smaller than the identity. For the immediate influence, the identity would be right. (In a network without
leak, alpha = 1, the diagonal of A goes to about 0.) At a sequence's end A, gam and the drawn zeta are kept; the rest
is reset. The copy starts at the network's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.rules.rule import (
    ONE_COMPONENT,
    ONE_STAGE,
    RECURRENT,
    Info,
    LearningRule,
    Observation,
    Rule,
    Shape,
)


class Kernel(NamedTuple):
    """The state that KeRNL carries from step to step. Fields are named as in the equations."""

    A: Array  # (n, n)
    gam: Array  # (n,)
    B: Array  # (G, n, m)
    Om: Array  # (n,)
    Gam: Array  # (n,)
    zeta: Array  # (n,) noise that moves the copy at the next step
    copy: Array | None  # (n,) hN; None: where the network is


def kernl(kernel_rate: float = 0.5, perturbation: float = 1e-5, kernel_leak: float = 0.8) -> Rule:
    """Build KeRNL, which learns the kernels of influence.

    Args:
        kernel_rate: eta, learning rate of A and gam.
        perturbation: sigma, standard deviation of the noise.
        kernel_leak: gam_0, the initial gam.
    """

    def noise(n: int, dtype: np.dtype[np.floating[Any]], rng: np.random.Generator) -> Array:
        return (perturbation * rng.standard_normal(n)).astype(dtype)

    def init(shape: Shape, rng: np.random.Generator) -> Kernel:
        n, dtype = shape.n, shape.dtype
        return Kernel(
            A=np.eye(n, dtype=dtype),
            gam=np.full(n, kernel_leak, dtype),
            B=np.zeros((shape.gates, n, shape.m), dtype),
            Om=np.zeros(n, dtype),
            Gam=np.zeros(n, dtype),
            zeta=noise(n, dtype, rng),
            copy=None,
        )

    def update(seen: Observation, was: Kernel, rng: np.random.Generator) -> tuple[Array, Kernel, Info]:
        (stage,) = seen.step
        A, gam = was.A, was.gam
        here = seen.before[0] if was.copy is None else was.copy
        copy = seen.move((here + was.zeta)[None])[0]  # (4)
        zeta = noise(len(gam), gam.dtype, rng)
        kap = np.maximum(0, 1 - gam)  # (2)
        B = kap[:, None] * was.B + stage.gain[0][:, :, None] * stage.inputs[:, None, :]  # (3)
        Gam = kap * was.Gam - was.Om  # (5)
        Om = kap * was.Om + zeta  # (6)
        err = A @ Om - (copy - seen.after[0])  # (7)
        gam = gam - kernel_rate * (err @ A) * Gam  # (8)
        A = A - kernel_rate * np.outer(err, Om)  # (9)
        gradient = (seen.signal[0] @ A)[:, None] * B  # (10)
        return gradient, Kernel(A, gam, B, Om, Gam, zeta, copy), {}

    def reset(state: Kernel, begun: Kernel) -> Kernel:
        return begun._replace(A=state.A, gam=state.gam, zeta=state.zeta)

    return Rule(init, update, reset)


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: trace, perturbed copy, and products with A."""
    return float(n) * (2 * m + 3 * n)


KERNL = LearningRule(
    kernl,
    {"kernel_rate": 0.5, "perturbation": 1e-5, "kernel_leak": 0.8},
    gradient="biased",
    draws_noise=True,
    cost=cost,
    needs=(ONE_COMPONENT, ONE_STAGE, RECURRENT),
    immediate=False,
)
