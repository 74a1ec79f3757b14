r"""Kronecker-factored RTRL (Mujika, Meier and Steger 2018): the influence as one random Kronecker product.

    J_t[(c, i), (g, j, l)] ~ A_t[l] B_t[(c, i), (g, j)]          A (m,), B (C n, G n)                      (1)
    F   = D_t B_{t-1},   Delta[(c, i), (g, j)] = gain[c, g, i] delta_ij                                    (2)
    A_t = c1 rho0 A_{t-1} + c2 rho1 ahat_t                       c1, c2 = +-1, new at every step           (3)
    B_t = c1 F / rho0 + c2 Delta / rho1                                                                    (4)
    rho0 = sqrt(||F|| / ||A_{t-1}||),   rho1 = sqrt(||Delta|| / ||ahat_t||)                                (5)
    G_t[g, j, l] = (q_t^T B_t)[g, j] A_t[l]                      q_t (Q, n), the last Q components         (6)

If all gates share their inputs, the immediate influence is exactly the Kronecker product of Delta and ahat. So only
the error of merging two products into one is random: A_t B_t = F A + Delta ahat + c1 c2 (...). The estimate is
unbiased for constant weights, and exact at the first step. The rule is defined if all gates see the same inputs and a
step is one stage. Tanh RNN: Delta = diag(alpha d). Time is (C n)^2 G n and memory C G n^2 a step: n times UORO's
time. The source shows the noise to be n times smaller.

The rule is as published, except that A and B start at zero. If a factor of a product is zero, the product is left
out, without an epsilon. Marschall, Cho and Savin (2020) start from N(0, 1) (pass such a state to `advance`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Stage, transition
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, SHARED_INPUTS, Info, LearningRule, Observation, Rule, Shape
from raysweep.workloads.rnn.rules.uoro import balance, mix, norm, signs


class Kronecker(NamedTuple):
    """The two factors A and B of equation (1)."""

    A: Array  # (m,)
    B: Array  # (C n, G n)


def kf_rtrl() -> Rule:
    """Build Kronecker-factored RTRL."""

    def init(shape: Shape, rng: np.random.Generator) -> Kronecker:
        return Kronecker(
            np.zeros(shape.m, shape.dtype),
            np.zeros((shape.components * shape.n, shape.gates * shape.n), shape.dtype),
        )

    def update(seen: Observation, state: Kronecker, rng: np.random.Generator) -> tuple[Array, Kronecker, Info]:
        state = advance(seen, state, signs(rng, (2,), state.A.dtype))
        return contract(state, seen.signal), state, {}

    return Rule(init, update)


def advance(seen: Observation, state: Kronecker, c: Array) -> Kronecker:
    """Advance the factors by one step, by equations (2) to (5), given the step's signs c1, c2."""
    A, B = state
    (stage,) = seen.step
    ahat = stage.inputs[0]
    F, Delta = transition(seen.step) @ B, spread(stage)  # (2)
    rho0, rho1 = balance(norm(A), norm(F)), balance(norm(ahat), norm(Delta))  # (5)
    return Kronecker(*mix(rho0, (c[0] * A, c[0] * F), rho1, (c[1] * ahat, c[1] * Delta)))  # (3), (4)


def spread(stage: Stage) -> Array:
    """Compute Delta (C n, G n) of equation (2), the influence of pre-activations on states."""
    components, gates, n = stage.gain.shape
    Delta = np.zeros((components, n, gates, n), stage.gain.dtype)
    np.einsum("cigi->cgi", Delta)[...] = stage.gain  # einsum gives a writable view of the diagonals
    flat: Array = Delta.reshape(components * n, gates * n)
    return flat


def contract(state: Kronecker, signal: Array) -> Array:
    """Compute the gradient G_t (G, n, m) from the learning signal q_t (Q, n), by equation (6)."""
    per_row = signal.reshape(-1) @ state.B[-signal.size :]
    gradient: Array = np.multiply.outer(per_row, state.A).reshape(-1, signal.shape[1], len(state.A))
    return gradient


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: the product of (n, n) with (n, n)."""
    return float(n) ** 3


KF_RTRL = LearningRule(kf_rtrl, gradient="unbiased", draws_noise=True, cost=cost, needs=(ONE_STAGE, SHARED_INPUTS))
