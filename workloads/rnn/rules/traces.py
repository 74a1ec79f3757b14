r"""Eligibility traces without propagation: k = 0 (Eqs. 5-6 of the paper).

    B_t = decay B_{t-1} + gain I_t[h]    I_t[h] immediate influence on h; tanh RNN: alpha d_t ahat_t^T     (1)
    G_t = q_t * B_t                      B_t (Q, G, n, m), Q = 1 but for the LRU; q_t (Q, n)               (2)

The gradient is biased. decay = 0 is the immediate gradient, Eq. 5. It equals truncated BPTT with window 1 and,
without a leak (alpha = 1), RFLO with symmetric feedback. decay > 0 is Eq. 6. The paper's text does not state the
decay. The default 0.95, which the authors' follow-up calls the standard rate, reproduces the paper's row k = 0. Time
and memory are G n m a step.

The trace is not scaled. `gain` = 1 - decay gives the form that Marschall, Cho and Savin (2020) use for RFLO (Murray
2019). A constant factor cancels under Adam (up to epsilon), but not under SGD or a clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.influence import contract_local
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


def traces(decay: float, gain: float = 1.0) -> Rule:
    """Build decaying traces, sums of immediate influences.

    Args:
        decay: the share of a trace that remains after a step, 0 <= decay < 1.
        gain: weight of the new immediate influence.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Array:
        return np.zeros((shape.read, shape.gates, shape.n, shape.m), shape.dtype)

    def update(seen: Observation, trace: Array, rng: np.random.Generator) -> tuple[Array, Array, Info]:
        (stage,) = seen.step
        read = gain * stage.gain[-len(seen.signal) :]
        trace = decay * trace + read[:, :, :, None] * stage.inputs[None, :, None, :]  # (1)
        return contract_local(trace, seen.signal), trace, {}  # (2)

    return Rule(init, update)


def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Return 0 as the recorded k, as nothing is propagated. Report any other k."""
    if k in (None, 0):
        return 0, []
    return k, [f"k = {k} on method 'traces', which propagates nothing; leave k out (it is 0), or use 'sparse_rtrl'"]


TRACES = LearningRule(traces, {"decay": 0.95}, gradient="biased", settle_k=settle_k, needs=(ONE_STAGE,))
