r"""Real-time recurrent learning (Williams and Zipser 1989): the exact gradient, computed forwards in time.

    J_t = D_t J_{t-1} + I_t       D_t (C n, C n), J_t (C n, G n m), I_t the immediate influence     (1)
    G_t = q_t^T J_t[h]            q_t (n,) learning signal, G_t (G, n, m)                           (2)

The gradient is exact for constant weights: equal to backpropagation through all t steps. While weights are learned, J
still contains influence computed with older weights, as in every online implementation. Time is (C n)^2 G n m, memory
C G n^2 m a step. If units have no recurrent connections to one another (eLSTM, LRU), J is zero except for a unit's
own parameters. Only that part is then carried, and time and memory are C G n m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.influence import advance, advance_local, contract, contract_local, none_yet
from raysweep.workloads.rnn.rules.rule import Info, LearningRule, Observation, Rule, Shape


def rtrl() -> Rule:
    """Build real-time recurrent learning (RTRL)."""

    def init(shape: Shape, rng: np.random.Generator) -> Array:
        if not shape.recurrent:
            return np.zeros((shape.components, shape.gates, shape.n, shape.m), shape.dtype)
        return none_yet(shape.components, shape.gates, shape.n, shape.m, shape.dtype)

    def update(seen: Observation, influence: Array, rng: np.random.Generator) -> tuple[Array, Array, Info]:
        if influence.ndim == 4:  # within units
            influence = advance_local(influence, seen.step[0])  # (1)
            return contract_local(influence, seen.signal), influence, {}  # (2)
        influence = advance(influence, seen.step)  # (1)
        return contract(influence, seen.signal, seen.gates), influence, {}  # (2)

    return Rule(init, update, influence=carried)


def carried(state: Array) -> Array:
    """Return the full influence J (C n, G n m) of a rule's state.

    Args:
        state: J itself, or (C, G, n, m): the influence of each unit's own parameters on that unit, if J has no other.
    """
    if state.ndim == 2:
        return state
    components, gates, n, m = state.shape
    influence = np.zeros((components, n, gates, n, m), state.dtype)
    np.einsum("cigim->cgim", influence)[...] = state
    return influence.reshape(components * n, gates * n * m)


def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Return n as the recorded k, since all n sources are kept. Report any other k."""
    if k in (None, n):
        return n, []
    return k, [f"k = {k} on method 'rtrl', which keeps all hidden = {n} sources; leave k out, or use 'sparse_rtrl'"]


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: the product of (n, n) with (n, n m)."""
    return float(n) ** 3 * m


RTRL = LearningRule(rtrl, gradient="exact", settle_k=settle_k, cost=cost)
