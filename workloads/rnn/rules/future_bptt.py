r"""Future-facing BPTT, F-BPTT(T) (Marschall, Cho and Savin 2020): the effect of a step on its next T losses.

    for s = t, t-1, ..., t-T+1, at each step t:
        c_s += a,   a <- D_s^T a             a = q_t (at h) at first; a, c_s (C, n)                (1)
    G_t = I_{t-T+1}^T c_{t-T+1}              G_t (G, n, m); zero for the first T-1 steps           (2)

c_s is the gradient, with respect to state s, of the summed losses of steps s to s+T-1. So G_t is the gradient of
these T losses with respect to the parameters as applied at step t-T+1. It is T-1 steps late, and contains no effect
of older parameters. Sliding-window BPTT computes the effect of the parameters at the last T steps on one loss. This
rule computes the effect of the parameters at one step on T losses. Summed over all t, with windows that reach to the
sequence's end, both give the same. The readout's gradient is that of step t. T = 1 is the immediate gradient.

As in the source, D_s in (1) has the activations of step s, but the recurrent weights at t, when the loss is read
back. This is an error of first order in the learning rate. The gradient is biased as a gradient of L_t at any T > 1.
Time is T C G n^2 + G n m a step, memory T (C G n + m).

At the end of a sequence, incomplete sums c_s are dropped. So the last T-1 steps of a sequence get no recurrent
gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Step, at_state, local_gradient, pull_back
from raysweep.workloads.rnn.rules.rule import Info, LearningRule, Observation, Rule, Shape

Window = tuple[tuple[Step, Array], ...]
"""The last steps, each with the adjoint c (C, n) that it has gathered, newest first."""


def f_bptt(window: int) -> Rule:
    """Build future-facing backpropagation through time.

    Args:
        window: T >= 1, number of losses in each gradient.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Window:
        return ()

    def update(seen: Observation, kept: Window, rng: np.random.Generator) -> tuple[Array, Window, Info]:
        adjoint = at_state(seen.step, seen.signal)
        gathered = [(seen.step, adjoint)]
        later = seen.step
        for step, credit in kept[: window - 1]:
            adjoint = pull_back(with_weights_of(seen.step, later), adjoint)
            gathered.append((step, credit + adjoint))  # (1)
            later = step
        gradient = local_gradient(*gathered[-1]) if len(gathered) == window else no_gradient(seen)  # (2)
        return gradient, tuple(gathered), {}

    return Rule(init, update)


def with_weights_of(now: Step, then: Step) -> Step:
    """Return an earlier step with the recurrent weights of the present step."""
    return tuple(old._replace(weights=new.weights) for old, new in zip(then, now, strict=True))


def no_gradient(seen: Observation) -> Array:
    """Return a zero gradient (G, n, m)."""
    m: int = seen.step[0].inputs.shape[1]
    return np.zeros((seen.gates, seen.signal.shape[1], m), seen.signal.dtype)


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: a product with W^T for each step of the window, and one gradient."""
    return float(n) * (float(settings["window"]) * n + m)


F_BPTT = LearningRule(f_bptt, {"window": 10}, gradient="biased", cost=cost, immediate=False)
