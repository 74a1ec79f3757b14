r"""Efficient BPTT, E-BPTT(T) (Williams and Peng 1990, BPTT(h; h')): every T steps, a gradient over the last T steps.

    c = 0
    for s = t, t-1, ..., t-T+1:          at t = T, 2 T, ...; no gradient in between
        c <- c + q_s (at h)              c (C, n) adjoint                          (1)
        G_t += I_s^T c                   G (G, n, m)                               (2)
        c <- D_s^T c                                                               (3)

G_t is the gradient of the window's summed losses, with the state before the window taken as constant. The rule, whose
windows follow one another without overlap, is usually called truncated BPTT. G_t is a sum over T losses, not a mean,
and comes up to T-1 steps late. The readout learns at every step. T = 1 is the immediate gradient.

Each step is read back with its own linearisation. Within a window the recurrent weights do not change, except by an
optimiser's momentum. G_t is biased as a gradient of L_t. It is the exact gradient of the window's summed losses if
the window begins with the sequence. Time is G n (C n + m) a step on average, memory T (n + m).

At the end of a sequence an unfinished window is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Step, at_state, read_back
from raysweep.workloads.rnn.rules.future_bptt import no_gradient
from raysweep.workloads.rnn.rules.rule import Info, LearningRule, Observation, Rule, Shape

Window = tuple[tuple[Step, Array], ...]
"""The steps since the last gradient and their learning signals, newest first."""


def e_bptt(window: int) -> Rule:
    """Build backpropagation through time over windows that do not overlap.

    Args:
        window: T >= 1, number of steps per window.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Window:
        return ()

    def update(seen: Observation, kept: Window, rng: np.random.Generator) -> tuple[Array, Window, Info]:
        kept = ((seen.step, seen.signal), *kept)
        total = no_gradient(seen)
        if len(kept) < window:
            return total, kept, {}
        adjoint = np.zeros_like(at_state(seen.step, seen.signal))
        for step, signal in kept:
            adjoint = adjoint + at_state(step, signal)  # (1)
            gradient, adjoint = read_back(step, adjoint)  # (2), (3)
            total += gradient
        return total, (), {}

    return Rule(init, update)


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the average multiply-adds per step: each step is read back once."""
    return float(n) * (m + n)


E_BPTT = LearningRule(e_bptt, {"window": 10}, gradient="biased", cost=cost, immediate=False)
