r"""E-prop (Bellec et al. 2020): each unit's eligibility follows its own state, and ignores paths through other units.

    S_t[c] = sum_c' own_t[c, c'] S_{t-1}[c'] + gain_t[c] inputs_t    S (C, G, n, m) eligibility         (1)
    G_t    = q_t * S_t[read]                                          G_t (G, n, m)                     (2)
    q_t    = V^T e_t          `feedback` "symmetric": the learning signal of the readout, q (Q, n)       (3)
    q_t    = B e_t            `feedback` "random": B (Q, n, n_out) drawn once, N(0, 1 / n_out)           (4)

`own` is a unit's path to itself. In the tanh RNN it is the leak. In the LSTM it is the forget gate and the path from
c to h; with this path the rule is e-prop for LSTM. Recurrent products are taken as constants (stop-gradient),
including a unit's own. Time and memory are C G n m a step.

The gradient is biased. With symmetric feedback it equals the gradient of sparse RTRL at k = 0. If, in addition, units
have no recurrent connections, it equals the gradient of `rtrl`, and is exact. With random feedback the readout has to
align with B first (feedback alignment), and the gradient is not exact even at a first step. On the leaky tanh RNN the
rule is RFLO. Some implementations keep the self-weight W_jj. With it, the rule is SnAp-1 (see `snap`).

Differences from the source: rate units instead of spiking ones, no low-pass filter of S at the readout (the readout
here has no leak), and no regularisation of firing rates. The scale of B is ours: B e_t has the size of e_t for any
n_out, while V starts at `output_scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.influence import advance_local, contract_local
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


class Eligibility(NamedTuple):
    """The eligibility S of each unit, and the random feedback B if there is any."""

    influence: Array  # (C, G, n, m)
    feedback: Array | None  # (Q, n, n_out)


def eprop(feedback: str = "symmetric") -> Rule:
    """Build e-prop, which keeps an eligibility along each unit's own state.

    Args:
        feedback: how errors reach the units: "symmetric" or "random".
    """

    def init(shape: Shape, rng: np.random.Generator) -> Eligibility:
        drawn = None
        if feedback == "random":
            size = (shape.read, shape.n, shape.n_out)
            drawn = (rng.standard_normal(size) / np.sqrt(shape.n_out)).astype(shape.dtype)
        return Eligibility(np.zeros((shape.components, shape.gates, shape.n, shape.m), shape.dtype), drawn)

    def update(seen: Observation, state: Eligibility, rng: np.random.Generator) -> tuple[Array, Eligibility, Info]:
        (stage,) = seen.step
        influence = advance_local(state.influence, stage)  # (1)
        signal = seen.signal if state.feedback is None else state.feedback @ seen.error  # (3), (4)
        return contract_local(influence, signal), state._replace(influence=influence), {}  # (2)

    return Rule(init, update)


def nothing_propagated(method: str) -> Callable[[int | None, int, Mapping[str, Any]], tuple[int | None, list[str]]]:
    """Build the `settle_k` of a rule that propagates nothing between units.

    It records k = 0, and reports any other k as a problem.
    """

    def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
        if k in (None, 0):
            return 0, []
        return k, [
            f"k = {k} on method {method!r}, which propagates nothing between units; "
            "leave k out (it is 0), or use 'sparse_rtrl'"
        ]

    return settle_k


EPROP = LearningRule(
    eprop,
    {"feedback": "symmetric"},
    gradient="biased",
    settle_k=nothing_propagated("eprop"),
    needs=(ONE_STAGE,),
    exact_on=lambda architecture: not architecture.recurrent,
)
