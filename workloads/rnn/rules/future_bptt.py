r"""Future-facing BPTT, F-BPTT(T) (Marschall, Cho and Savin 2020): all that a step did to the next T losses.

    for s = t, t-1, ..., t-T+1, at each step t:
        c_s += a,   a <- D_s^T a             a = q_t (at h) at first; a, c_s (C, n)                (1)
    G_t = I_{t-T+1}^T c_{t-T+1}              G_t (G, n, m); zero for the first T-1 steps           (2)

c_s gathers what the losses of steps s to s+T-1 have to say of the state s, so G_t is the gradient with
respect to the parameters as applied at step t-T+1 of the sum of the losses from there to t: late by T-1
steps, with nothing older in it. (Sliding-window BPTT asks what the last T applications did to one loss, this
what one application did to T losses; summed over all t, with T to the end, they are the same.) The readout's
gradient is that of step t. T = 1 is the immediate gradient.

As in the source, D_s in (1) has the activations of step s but the recurrent weights in force at t, when the
loss is read back: an error of first order in the learning rate. Biased as a gradient of L_t at any T > 1.
Time T C G n^2 + G n m, memory T (C G n + m) a step.

At the end of a sequence, what is still pending is dropped: its last T-1 steps get no recurrent gradient.
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
    """Future-facing BPTT.

    Args:
        window: T >= 1, losses that a step is answerable for.
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
    """An earlier step under the recurrent weights in force now."""
    return tuple(old._replace(weights=new.weights) for old, new in zip(then, now, strict=True))


def no_gradient(seen: Observation) -> Array:
    """Zeros (G, n, m)."""
    m: int = seen.step[0].inputs.shape[1]
    return np.zeros((seen.gates, seen.signal.shape[1], m), seen.signal.dtype)


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """A product with W^T for each step of the window, and one gradient."""
    return float(n) * (float(settings["window"]) * n + m)


F_BPTT = LearningRule(f_bptt, {"window": 10}, gradient="biased", cost=cost, immediate=False)
