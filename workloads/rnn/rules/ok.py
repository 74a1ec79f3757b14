r"""Optimal Kronecker-sum approximation, r-OK (Benzing, Gauy, Mujika, Martinsson and Steger 2019).

    J_t[(c, i), (g, j, l)] ~ sum_s u_s[l] A_s[(c, i), (g, j)]    s = 1 .. r; u_s (m,), A_s (C n, G n)      (1)
    exact next: sum_s u_s (x) (D_t A_s) + ahat_t (x) Delta_t     of r + 1 terms; Delta as in KF-RTRL       (2)
    [u_1 .. u_r, ahat] = Q_L L,   vec [D A_1 .. D A_r, Delta] = Q_R R                thin QR               (3)
    L R^T = P diag(s) Q^T        s_1 >= .. >= s_{r+1}                                SVD                   (4)
    b = max { j : j s_(j) <= sum_{i <= j} s_(i) }                s_(0) <= .. <= s_(r) the same, ascending  (5)
    z_i = sqrt(1 - b s_i / S)    of the b + 1 smallest, S their sum; z (b + 1,) is a unit vector           (6)
    Z Z^T = I - z z^T            Z (b + 1, b)                                                              (7)
    X = blockdiag(diag(sqrt(s_1 .. s_{r-b})), sqrt(S / b) diag(signs) Z)             signs +-1             (8)
    u = columns of Q_L P X,   A = columns of Q_R Q X                                                       (9)
    G_t[g, j, l] = sum_s (q_t^T A_s)[g, j] u_s[l]                q_t (Q, n), the last Q components        (10)

The r - b largest terms are kept exactly; the b + 1 smallest are mixed into b. The estimate is unbiased for constant
weights: X X^T has s on its diagonal. Off the diagonal it has, for mixed terms, -(S / b) signs_i signs_j z_i z_j. A
step adds the variance S^2 / b - sum of the mixed s^2, which is minimal for rank r. r = 1 is KF-RTRL with the best
mixing. If r is at least the number of steps (or m, or C G n^2), the rule is RTRL. It is defined if all gates see the
same inputs and a step is one stage. Time is r (C n)^2 G n, and r^2 C G n^2 for (3); memory is r C G n^2 a step.

Additions to the source: if S = 0, the mixed terms are zero. Singular values below (r + 1) machine epsilons times the
largest are rounding errors, and count as zero: mixing such an s with s_1 would add noise of sqrt(s s_1), far above
rounding. Singular vectors are given a fixed sign, so that the same drawn signs (8) give the same result with every
LAPACK. Z is a Householder reflection without its first column; (1) does not depend on the choice of Z. The source's
last step gives u_s and A_s equal norms. It is not needed, since (9) does so already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import transition
from raysweep.workloads.rnn.rules.kf_rtrl import spread
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, SHARED_INPUTS, Info, LearningRule, Observation, Rule, Shape
from raysweep.workloads.rnn.rules.uoro import signs


class KroneckerSum(NamedTuple):
    """The r terms of equation (1)."""

    u: Array  # (r, m)
    A: Array  # (r, C n, G n)


def ok(rank: int = 4) -> Rule:
    """Build the optimal Kronecker-sum approximation.

    Args:
        rank: r >= 1, number of terms kept.
    """

    def init(shape: Shape, rng: np.random.Generator) -> KroneckerSum:
        return KroneckerSum(
            np.zeros((rank, shape.m), shape.dtype),
            np.zeros((rank, shape.components * shape.n, shape.gates * shape.n), shape.dtype),
        )

    def update(seen: Observation, state: KroneckerSum, rng: np.random.Generator) -> tuple[Array, KroneckerSum, Info]:
        state = advance(seen, state, signs(rng, (rank + 1,), state.u.dtype))
        return contract(state, seen.signal), state, {}

    return Rule(init, update)


def advance(seen: Observation, state: KroneckerSum, drawn: Array) -> KroneckerSum:
    """Advance the terms by one step, by equations (2) to (9), given the step's signs (r + 1,)."""
    (stage,) = seen.step
    moved = transition(seen.step) @ state.A
    u = np.concatenate([state.u, stage.inputs[:1]])  # (2)
    A = np.concatenate([moved, spread(stage)[None]]).reshape(len(u), -1)  # (2)
    u, A = reduce(u, A, drawn)
    return KroneckerSum(u, A.reshape(state.A.shape))


def reduce(u: Array, A: Array, drawn: Array) -> tuple[Array, Array]:
    """Reduce r + 1 terms to r, by equations (3) to (9). Their sum stays the same in expectation.

    Args:
        u: (r + 1, m).
        A: (r + 1, N), N = C G n^2.
        drawn: signs (r + 1,), one per singular value, the largest value first. Signs of kept terms are unused.

    Returns:
        The new u (r, m) and A (r, N).
    """
    rank = len(u) - 1
    left, L = np.linalg.qr(u.T)  # (3)
    right, R = np.linalg.qr(A.T)  # (3)
    core = L @ R.T
    if not np.isfinite(core).all():  # LAPACK would raise; an influence that blew up is for the learner to see
        return np.full_like(u[:rank], np.nan), np.full_like(A[:rank], np.nan)
    P, s, Q = np.linalg.svd(core, full_matrices=False)  # (4)
    s = np.where(s > len(u) * np.finfo(s.dtype).eps * s[0], s, 0)
    left, right = left @ P, right @ Q.T
    peaks = np.take_along_axis(left, np.abs(left).argmax(0)[None], axis=0)[0]
    X = np.where(peaks < 0, -1, 1)[:, None].astype(s.dtype) * mixing(s, drawn, rank)
    return (left @ X).T, (right @ X).T  # (9)


def mixing(s: Array, drawn: Array, rank: int) -> Array:
    """Compute the mixing matrix X (p, r) of equations (5) to (8) from p <= r + 1 singular values, largest first."""
    X = np.zeros((len(s), rank), s.dtype)
    if len(s) <= rank:  # nothing to give up
        np.fill_diagonal(X, np.sqrt(s))
        return X
    ascending = s[::-1]
    j = np.arange(1, rank + 1)
    b = int(j[j * ascending[1:] <= np.cumsum(ascending)[1:]].max())  # (5); true of j = 1 always
    kept = rank - b
    X[:kept, :kept] = np.diag(np.sqrt(s[:kept]))  # (8)
    total = s[kept:].sum()
    if total > 0:
        z = np.sqrt(np.maximum(1 - b * s[kept:] / total, 0))  # (6)
        v = z.copy()
        v[0] += 1
        Z = (np.eye(b + 1, dtype=s.dtype) - np.outer(v, v) / v[0])[:, 1:]  # (7): maps the first axis to -z
        X[kept:, kept:] = np.sqrt(total / b) * drawn[kept:, None] * Z  # (8)
    return X


def contract(state: KroneckerSum, signal: Array) -> Array:
    """Compute the gradient G_t (G, n, m) from the learning signal q_t (Q, n), by equation (10)."""
    per_row = signal.reshape(-1) @ state.A[:, -signal.size :]  # (r, G n)
    gradient: Array = (per_row.T @ state.u).reshape(-1, signal.shape[1], state.u.shape[1])
    return gradient


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: r products of (n, n) with (n, n), and the SVD of (n^2, r + 1)."""
    terms: int = settings["rank"] + 1
    return float(n) ** 3 * (terms - 1) + 4.0 * terms**2 * n**2


OK = LearningRule(ok, {"rank": 4}, gradient="unbiased", draws_noise=True, cost=cost, needs=(ONE_STAGE, SHARED_INPUTS))
