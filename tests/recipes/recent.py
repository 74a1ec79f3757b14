r"""A window of immediate influences, each counted in full; what `traces` forgets by degrees goes at once.

    B_t = I_{t-horizon+1}[h] + ... + I_t[h]    I_t[h] immediate influence on h, none before the start        (1)
    G_t = q_t * B_t                            B_t (Q, G, n, m), q_t (Q, n)                                  (2)

Biased. horizon = 1 is the immediate gradient, `traces` with decay 0. Time G n m, memory horizon G n m a step.
Ours, after no source; a box where Eq. 6 of the paper has an exponential.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.influence import contract_local
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


def recent(horizon: int) -> Rule:
    """Sum of the last immediate influences.

    Args:
        horizon: how many.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Array:
        return np.zeros((horizon, shape.read, shape.gates, shape.n, shape.m), shape.dtype)

    def update(seen: Observation, last: Array, rng: np.random.Generator) -> tuple[Array, Array, Info]:
        (stage,) = seen.step
        read = stage.gain[-len(seen.signal) :]
        last = np.concatenate([(read[:, :, :, None] * stage.inputs[None, :, None, :])[None], last[:-1]])
        trace = last.sum(axis=0)  # (1)
        return contract_local(trace, seen.signal), last, {}  # (2)

    return Rule(init, update)


def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Nothing is propagated, so k is stored as 0."""
    return (0, []) if k in (None, 0) else (k, [f"k = {k} on method 'recent', which propagates nothing; leave k out"])


RECENT = LearningRule(recent, {"horizon": 5}, gradient="biased", settle_k=settle_k, needs=(ONE_STAGE,))
