r"""Sparse RTRL (Eqs. 8-9 of the paper): influence is propagated along only k recurrent connections per unit.

    D_t^M = own paths + gains (M * W)    M (n, n) zeros and ones, k ones a row; W (n, n)     (1)
    J_t   = D_t^M J_{t-1} + I_t          J (C n, G n m)                                      (2)
    G_t   = q_t^T J_t[h]                 q_t (n,), G_t (G, n, m)                             (3)

The forward pass uses all of W. The gradient is that of a network in which all other recurrent products are constants
(stop-gradient). So it is biased. At k = n it equals RTRL's gradient. The leak or forget path of a unit to itself is
not a recurrent connection, and is kept whole. One mask serves all gates and all columns of theta. The paper's ring
has no self-connection. With `include_self` a unit is one of its own k sources, and k = 1 is then SnAp-1 (Menick et
al. 2021).

Time is k C G n^2 m by gathering, or RTRL's if the dense product is faster (`raysweep.workloads.rnn.influence`).
Memory is C G n^2 m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Indices
from raysweep.workloads.rnn.influence import advance, advance_gathered, contract, gather_pays, none_yet
from raysweep.workloads.rnn.masks import (
    SELECTIONS,
    Selection,
    by_fisher,
    by_influence,
    by_weights,
    choose,
    draw_mask,
    mask_problem,
    sources_of,
)
from raysweep.workloads.rnn.rules.rule import RECURRENT, Info, LearningRule, Observation, Rule, Shape


class Exact(NamedTuple):
    """The state of a Fisher selection during its window: RTRL's exact influence, and the Fisher information."""

    influence: Array  # (C n, G n m) of full RTRL
    fisher: Array  # (n,) float64, sum over steps of a unit's squared gradient


class SparseState(NamedTuple):
    """The influence and its mask. If rows are gathered, each unit's sources are also listed."""

    influence: Array  # (C n, G n m)
    mask: Array  # (n, n) zeros and ones
    sources: Indices | None  # (n, k) where rows are gathered
    t: int = 0  # steps made
    exact: Exact | None = None


def sparse_rtrl(
    k: int,
    selection: str = "ring",
    include_self: bool = False,
    gather: bool | None = None,
    fisher_window: int | None = None,
) -> Rule:
    """Build sparse RTRL, which propagates influence under a mask.

    Args:
        k: number of sources per unit.
        selection: a name in `SELECTIONS`.
        include_self: whether a unit is one of its own k sources.
        gather: True gathers the sources' rows, False uses a dense product, None uses the faster of the two.
        fisher_window: window of the Fisher selections, in steps.
    """
    chosen = SELECTIONS[selection]

    def init(shape: Shape, rng: np.random.Generator) -> SparseState:
        mask = draw_mask(selection, shape.n, k, include_self, rng)
        gathered = gather_pays(shape.n, k) if gather is None else gather

        def nothing() -> Array:
            return none_yet(shape.components, shape.gates, shape.n, shape.m, shape.dtype)

        exact = Exact(nothing(), np.zeros(shape.n)) if chosen.score == "fisher" and 0 < k < shape.n else None
        return SparseState(nothing(), mask.astype(shape.dtype), sources_of(mask) if gathered else None, exact=exact)

    def update(seen: Observation, state: SparseState, rng: np.random.Generator) -> tuple[Array, SparseState, Info]:
        if chosen.due(state.t, fisher_window) and 0 < k < len(state.mask):
            mask = choose(_score(chosen, seen, state), k, include_self, chosen.largest)
            state = state._replace(
                mask=mask.astype(state.mask.dtype),
                sources=None if state.sources is None else sources_of(mask),
                exact=None,
            )
        if state.sources is None:
            influence = advance(state.influence, seen.step, state.mask)  # (2)
        else:
            influence = advance_gathered(state.influence, seen.step, state.sources)  # (2)
        gradient = contract(influence, seen.signal, seen.gates)  # (3)
        exact = state.exact and _gather_fisher(seen, state.exact)
        return gradient, state._replace(influence=influence, t=state.t + 1, exact=exact), {}

    def reset(state: SparseState, begun: SparseState) -> SparseState:
        exact = state.exact and state.exact._replace(influence=np.zeros_like(state.influence))
        return state._replace(influence=np.zeros_like(state.influence), exact=exact)

    return Rule(init, update, reset, influence=lambda state: state.influence)


def _score(chosen: Selection, seen: Observation, state: SparseState) -> Array:
    weights = np.concatenate([stage.weights for stage in seen.step])
    if chosen.score == "weights":
        return by_weights(weights)
    if chosen.score == "influence":
        return by_influence(weights, state.influence)
    if state.exact is None:
        raise ValueError("a Fisher selection is due once, at the end of its window")
    return by_fisher(state.exact.fisher)


def _gather_fisher(seen: Observation, exact: Exact) -> Exact:
    influence = advance(exact.influence, seen.step)
    gradient = contract(influence, seen.signal, seen.gates).astype(np.float64)
    return Exact(influence, exact.fisher + np.einsum("gjl,gjl->j", gradient, gradient))


def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Report a problem if k is missing, or if no mask has k sources per row. The k is recorded unchanged."""
    if k is None:
        return k, [f"method 'sparse_rtrl' needs k: the number of sources a unit keeps, 0 to hidden = {n}"]
    problem = mask_problem(settings["selection"], n, k, settings["include_self"])
    return k, [problem] if problem else []


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step. A multiply-add on gathered rows counts as about 20 of a dense product."""
    return float(n) ** 2 * m * min(n, 20 * (k or 0) + 1)


SPARSE_RTRL = LearningRule(
    sparse_rtrl,
    {"selection": "ring", "include_self": False},
    gradient="biased",
    takes_k=True,
    settle_k=settle_k,
    cost=cost,
    needs=(RECURRENT,),
)
