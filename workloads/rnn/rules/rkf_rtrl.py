r"""Reverse Kronecker-factored RTRL (R-KF; Marschall, Cho and Savin 2020): influence as a random Kronecker product.

    J_t[(c, k), (g, j, l)] ~ A_t[g, j] B_t[(c, k), l]            A (G n,), B (C n, m)                      (1)
    F   = D_t B_{t-1},   M[(c, k), l] = sum_g nu[g, k] gain[c, g, k] inputs[g, l]                          (2)
    A_t = rho0 A_{t-1} + rho1 nu                                 nu (G n,) +-1, new at every step          (3)
    B_t = F / rho0 + M / rho1                                                                              (4)
    rho0 = sqrt(||F|| / ||A_{t-1}||),   rho1 = sqrt(||M|| / ||nu||)                                        (5)
    G_t[g, j, l] = A_t[g, j] (q_t^T B_t)[l]                      q_t (Q, n), the last Q components         (6)

The factor A is indexed by gate and unit of a parameter, B by state and by input. (In KF-RTRL, A is indexed by input,
and B by the other three.) The estimate is unbiased for constant weights. The mean of nu M is the immediate influence,
since E[nu[g, j] nu[h, k]] is zero except for the same gate and unit. The cross products are odd in nu, so their mean
is zero. Gates may have inputs of their own, so the rule is defined if a step is one stage. Tanh RNN: M_kl = nu_k
alpha d_k ahat_l. Time is (C n)^2 m, memory C n m a step.

The rule is that of the source, except that A and B start at zero. If a factor of a product is zero, the product is
left out, without an epsilon. The source starts from N(0, 1) (pass such a state to `advance`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import transition
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape
from raysweep.workloads.rnn.rules.uoro import balance, mix, norm, signs


class ReverseKronecker(NamedTuple):
    """The two factors A and B of equation (1)."""

    A: Array  # (G n,)
    B: Array  # (C n, m)


def rkf_rtrl() -> Rule:
    """Build reverse Kronecker-factored RTRL."""

    def init(shape: Shape, rng: np.random.Generator) -> ReverseKronecker:
        return ReverseKronecker(
            np.zeros(shape.gates * shape.n, shape.dtype),
            np.zeros((shape.components * shape.n, shape.m), shape.dtype),
        )

    def update(
        seen: Observation, state: ReverseKronecker, rng: np.random.Generator
    ) -> tuple[Array, ReverseKronecker, Info]:
        state = advance(seen, state, signs(rng, state.A.shape, state.A.dtype))
        return contract(state, seen.signal), state, {}

    return Rule(init, update)


def advance(seen: Observation, state: ReverseKronecker, nu: Array) -> ReverseKronecker:
    """Advance the factors by one step, by equations (2) to (5), given the step's noise nu (G n,)."""
    A, B = state
    (stage,) = seen.step
    F = transition(seen.step) @ B  # (2)
    by_gate = nu.reshape(stage.gain.shape[1:])
    M = np.einsum("cgk,gl->ckl", by_gate * stage.gain, stage.inputs).reshape(B.shape)  # (2)
    rho0, rho1 = balance(norm(A), norm(F)), balance(norm(nu), norm(M))  # (5)
    return ReverseKronecker(*mix(rho0, (A, F), rho1, (nu, M)))  # (3), (4)


def contract(state: ReverseKronecker, signal: Array) -> Array:
    """Compute the gradient G_t (G, n, m) from the learning signal q_t (Q, n), by equation (6)."""
    per_input = signal.reshape(-1) @ state.B[-signal.size :]
    gradient: Array = np.multiply.outer(state.A, per_input).reshape(-1, signal.shape[1], len(per_input))
    return gradient


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: the product of (n, n) with (n, m)."""
    return float(n) ** 2 * m


RKF_RTRL = LearningRule(rkf_rtrl, gradient="unbiased", draws_noise=True, cost=cost, needs=(ONE_STAGE,))
