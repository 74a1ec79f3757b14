r"""E-prop (Bellec et al. 2020): each unit's eligibility along its own state, whatever units tell one another.

    S_t[c] = sum_c' own_t[c, c'] S_{t-1}[c'] + gain_t[c] inputs_t    S (C, G, n, m) eligibility         (1)
    G_t    = q_t * S_t[read]                                          G_t (G, n, m)                     (2)
    q_t    = V^T e_t          `feedback` "symmetric": the learning signal of the readout, q (Q, n)       (3)
    q_t    = B e_t            `feedback` "random": B (Q, n, n_out) drawn once, N(0, 1 / n_out)           (4)

`own` is a unit's path to itself: the leak of the tanh RNN, the forget gate of the LSTM, which with the step
from c to h gives e-prop for LSTM; recurrent products are constants (stop-gradient), those of a unit with
itself too. Time and memory C G n m a step.

Biased. With symmetric feedback it is sparse RTRL at k = 0, and exact where units have no recurrent
connections (there it is `rtrl`); with random feedback the readout has to align with B first (feedback
alignment), and the gradient is not the exact one even at a first step. On the leaky tanh RNN it is RFLO. The
self-weight W_jj, which some implementations keep, makes it SnAp-1: `snap`.

What differs from the source: rate units instead of spiking ones, no low-pass filter of S at the readout (the
readout here has no leak), and no regularisation of firing rates. The scale of B is ours: B e_t has the size
of e_t whatever n_out, while V starts at `output_scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.influence import advance_local, contract_local
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


class Eligibility(NamedTuple):
    """S, and B where feedback is random."""

    influence: Array  # (C, G, n, m)
    feedback: Array | None  # (Q, n, n_out)


def eprop(feedback: str = "symmetric") -> Rule:
    """Eligibility along each unit's own state.

    Args:
        feedback: "symmetric" or "random", how errors reach the units.
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
    """`settle_k` of a rule that propagates nothing between units: k is stored as 0."""

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
