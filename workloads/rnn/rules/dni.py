r"""Decoupled neural interfaces, DNI (Jaderberg et al. 2017): a learned estimate of the gradient of all future losses.

    at_t  = [h_t; y_t; 1]                       features (n + n_out + 1,), y_t the target                    (1)
    s_t   = A at_t                              synthetic gradient (n,) ~ d (L_t + L_{t+1} + ...) / dh_t      (2)
    r     = A at_{t-1} - (q_{t-1} + D_t^T A_old at_t)    bootstrap: of a step back, by the present A      (3)
    A    <- A - eta r at_{t-1}^T                A (n, n + n_out + 1), eta `dni_rate`                          (4)
    G_t   = (s_t * alpha d_t) ahat_t^T          with the new A; in general I_t^T s_t, G_t (G, n, m)           (5)
    A_old <- A after every `dni_interval` steps                                                              (6)

D_t is the exact state Jacobian. The other rules look back from a loss; this rule looks ahead from a state. G_t
estimates the effect of the parameters, as applied at step t, on all future losses, without a horizon. It is biased,
since A is linear and lags behind, and it is not exact at a first step. Time is n (n + n_out) + G n (n + m); memory is
twice that of A.

Where the source leaves a choice, this rule follows Marschall, Cho and Savin (2020). A is linear and gets the target
as input. The state before the first step is paired with the first target, and has no learning signal of its own (q =
0). The entries of A start as draws from N(0, 1 / (n + n_out + 1)). In contrast to Marschall et al., no Jacobian is
learned. A is kept at a sequence's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import local_gradient, pull_back
from raysweep.workloads.rnn.rules.rule import ONE_COMPONENT, ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


class Interface(NamedTuple):
    """The predictor A of future gradients, the older A_old, and the previous step's features and learning signal."""

    A: Array  # (n, n + n_out + 1)
    old: Array  # A_old
    t: int  # steps made
    features: Array | None  # at_{t-1}; None before the first step of a sequence
    signal: Array | None  # q_{t-1} (n,)


def dni(dni_rate: float, dni_interval: int = 5) -> Rule:
    """Build DNI, which learns by synthetic gradients.

    Args:
        dni_rate: eta, learning rate of A.
        dni_interval: number of steps after which A_old is replaced by A.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Interface:
        width = shape.n + shape.n_out + 1
        A = (rng.standard_normal((shape.n, width)) / np.sqrt(width)).astype(shape.dtype)
        return Interface(A, A, 0, None, None)

    def update(seen: Observation, was: Interface, rng: np.random.Generator) -> tuple[Array, Interface, Info]:
        one = np.ones(1, seen.after.dtype)
        features = np.concatenate([seen.after[0], seen.target, one])  # (1)
        earlier = np.concatenate([seen.before[0], seen.target, one]) if was.features is None else was.features
        wanted = pull_back(seen.step, (was.old @ features)[None])[0]
        if was.signal is not None:
            wanted = wanted + was.signal
        A = was.A - dni_rate * np.outer(was.A @ earlier - wanted, earlier)  # (3), (4)
        gradient = local_gradient(seen.step, (A @ features)[None])  # (2), (5)
        t = was.t + 1
        old = A if t % dni_interval == 0 else was.old  # (6)
        return gradient, Interface(A, old, t, features, seen.signal[0]), {}

    def reset(state: Interface, begun: Interface) -> Interface:
        return state._replace(features=None, signal=None)

    return Rule(init, update, reset)


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: four products with A or D, the update of A, and the gradient."""
    return float(n) * (m + 5 * n)


DNI = LearningRule(
    dni,
    {"dni_rate": 0.02, "dni_interval": 5},
    gradient="biased",
    cost=cost,
    needs=(ONE_COMPONENT, ONE_STAGE),
    immediate=False,
)
