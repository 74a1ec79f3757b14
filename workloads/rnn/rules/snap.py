r"""Sparse n-step approximation, SnAp (Menick et al. 2021): influence is kept if it arrives within `order` steps.

    J_t = P * (D_t J_{t-1} + I_t)             J (C n, G n m), P zeros and ones                        (1)
    P   = [ sum_{s < order} D^s I nonzero ]   where a parameter reaches, its own step counted         (2)
    G_t = q_t^T J_t[h]                        q_t (n,), G_t (G, n, m)                                 (3)

P is fixed at the first step, from the nonzeros of the recurrent weights. The nonzeros of the weights count, not those
of the Jacobians, since a gate that happens to be shut does not disconnect its unit. P has one entry for all
components of unit i and all of gate g's parameters of unit j: P[i, g, j] says whether unit i keeps the influence of
these parameters.

Order 1 keeps only the influence of each unit's own parameters on the unit. J then has C G n m entries, and D has only
the units' own paths and self-weights:

    S_t[c] = sum_c' (own_t[c, c'] + self-weight) S_{t-1}[c'] + gain_t[c] inputs_t                     (4)

Time and memory are C G n m. A higher order is carried densely at RTRL's cost, (C n)^2 G n m time and C G n^2 m
memory. It shows what lower orders lose, and is no faster than RTRL. If a step has several stages (the GRU that resets
before its product), parameters of a stage act within the step on further units, through the weights of later stages.
P is widened to these units, for all gates of the stage alike, and the dense form is used from order 1 on.

The gradient is biased. It is exact from order 1 + d on, where d is the longest of the shortest paths between two
units: P then leaves nothing out. So SnAp of order 2 on dense weights is full RTRL. SnAp of order 1 on one stage is
sparse RTRL at k = 1 with `include_self`. In general, sparse RTRL masks the connections in D, and SnAp masks the
entries of J. On units without recurrent connections, SnAp would be RTRL at any order, so it is not offered there.

Differences from the source: the pattern is by unit, and J has no sparse storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Mask
from raysweep.workloads.rnn.influence import advance, advance_local, contract, contract_local, none_yet
from raysweep.workloads.rnn.linearization import Step
from raysweep.workloads.rnn.rules.rule import RECURRENT, Info, LearningRule, Observation, Rule, Shape


class Kept(NamedTuple):
    """The influence, and the pattern P of the entries that are kept."""

    influence: Array  # (C n, G n m), or within units (C, G, n, m)
    pattern: Array | None  # (n, G, n), zeros and ones; None within units


def snap(order: int) -> Rule:
    """Build SnAp of an order.

    Args:
        order: number of steps >= 1 within which influence has to arrive to be kept.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Kept | None:
        return None  # the first step's weights say what is to be kept

    def update(seen: Observation, kept: Kept | None, rng: np.random.Generator) -> tuple[Array, Kept, Info]:
        kept = kept or _begin(seen.step, order)
        if kept.pattern is None:
            influence = advance_local(kept.influence, seen.step[0], self_weights=True)  # (4)
            return contract_local(influence, seen.signal), kept._replace(influence=influence), {}  # (3)
        influence = advance(kept.influence, seen.step)  # (1), a new array
        n, gates, _ = kept.pattern.shape
        blocks = influence.reshape(-1, n, gates, n, seen.step[0].inputs.shape[1])
        blocks *= kept.pattern[None, :, :, :, None]  # (1)
        return contract(influence, seen.signal, gates), kept._replace(influence=influence), {}  # (3)

    def reset(kept: Kept | None, begun: Kept | None) -> Kept | None:
        return kept and kept._replace(influence=np.zeros_like(kept.influence))

    return Rule(init, update, reset)


def _begin(step: Step, order: int) -> Kept:
    components, gates, n = step[0].gain.shape
    m, dtype = step[0].inputs.shape[1], step[0].gain.dtype
    if order == 1 and len(step) == 1:
        return Kept(np.zeros((components, gates, n, m), dtype), None)
    pattern = reach(step, order)
    return Kept(none_yet(components, pattern.shape[1], n, m, dtype), pattern.astype(dtype))


def reach(step: Step, order: int) -> Mask:
    """Compute the pattern P: entry [i, g, j] tells whether gate g's parameters of unit j reach unit i.

    Args:
        step: a linearised step, whose nonzero weights determine which units read which.
        order: number of steps >= 1 within which the parameters have to reach the unit.
    """
    n = step[0].own.shape[2]
    itself = np.eye(n, dtype=np.bool_)
    within: list[Mask] = []
    across = itself  # of the stages that come later, then of a whole step
    for stage in reversed(step):
        within.append(np.repeat(across[:, None, :], len(stage.inputs), axis=1))
        across = across @ (itself | (stage.weights != 0).any(0))
    reached: Mask = np.concatenate(within[::-1], axis=1)
    for _ in range(min(order, n) - 1):  # after n - 1 hops nothing new is met
        reached = (across @ reached.reshape(n, -1)).reshape(reached.shape)  # (2), "and" and "or"
    return reached


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: n m at order 1, otherwise those of RTRL."""
    return float(n) * m if settings["order"] == 1 else float(n) ** 3 * m


SNAP = LearningRule(
    snap,
    {"order": 1},
    gradient="biased",
    cost=cost,
    needs=(RECURRENT,),
)
