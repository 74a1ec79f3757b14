r"""Truncated backpropagation through time with a sliding window of w steps (Williams and Peng 1990: BPTT(w)).

    c = q_t (at h)                            c (C, n) adjoint                                     (1)
    for s = t, t-1, ..., t-w+1:               (fewer at the start)
        G += I_s^T c                          G (G, n, m)                                          (2)
        c <- D_s^T c                                                                               (3)

G is the gradient of L_t alone, with s_{t-w} taken as constant: it is biased, but exact as long as w >= t. Each step
is read back with its own linearisation and the weights of that step. So w >= t gives RTRL's gradient even while
weights change, and no forward pass is repeated. (Reading the window back with the present weights would be another
rule.)

Window 1 gives the immediate gradient, which is also that of `traces` with decay 0, with or without a leak. This
gradient is never called RTRL here. Time is w (C G n^2 + G n m); memory is w (n + m) and the last w weight matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Step, at_state, local_gradient, pull_back
from raysweep.workloads.rnn.rules.rule import Info, LearningRule, Observation, Rule, Shape

Window = tuple[Step, ...]
"""The last steps, newest first."""


def bptt(window: int) -> Rule:
    """Build backpropagation through time over a sliding window.

    Args:
        window: w >= 1, number of steps that the learning signal is carried back over, including the present one.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Window:
        return ()

    def update(seen: Observation, kept: Window, rng: np.random.Generator) -> tuple[Array, Window, Info]:
        kept = (seen.step, *kept[: window - 1])
        adjoint = at_state(seen.step, seen.signal)  # (1)
        gradient = local_gradient(seen.step, adjoint)  # (2)
        for later, step in pairwise(kept):
            adjoint = pull_back(later, adjoint)  # (3)
            gradient += local_gradient(step, adjoint)  # (2)
        return gradient, kept, {}

    return Rule(init, update)


def settle_k(k: int | None, n: int, settings: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Report a problem if a k is given: this rule has no subset of k units."""
    return k, [] if k is None else [f"k = {k} has no effect on method 'bptt'; leave k out (see window)"]


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: a gradient and a product with W^T for each step of the window."""
    return float(settings["window"]) * n * (m + n)


BPTT = LearningRule(bptt, {"window": 1}, gradient="biased", settle_k=settle_k, cost=cost)
