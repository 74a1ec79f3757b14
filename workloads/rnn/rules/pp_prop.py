r"""pp-prop (Wang et al. 2026): the influence within units as one product of an input trace and a state trace.

    x_t = decay x_{t-1} + inputs_t                                       x (G, m)                           (1)
    f_t[c] = decay sum_c' own_t[c, c'] f_{t-1}[c'] + (1 - decay) gain_t[c]        f (C, G, n)               (2)
    w_t = decay w_{t-1} + (1 - decay)                                    the weight of f so far, to 1       (3)
    G_t[g, i, l] = (q_t . f_t[read] / w_t)[g, i] x_t[g, l]               q_t (Q, n), G_t (G, n, m)          (4)

`own` is a unit's path to itself, as in e-prop (see `eprop`); paths through recurrent connections, a unit's own among
them, are left out. So f_t x_t replaces the eligibility S_t of e-prop, which has a number for each parameter, by one
for each unit and one for each input: memory is C G n + G m, linear in the units. Time is G n m, that of the gradient.

The gradient is biased. At the first step, and at decay = 0, it is the immediate gradient (`traces` at decay 0). In a
network whose units have no path to themselves (a tanh RNN without leak) f_t is the immediate gain alone, and the past
reaches the gradient by the input trace only.

The source introduces the rule for spiking networks, whose silent units make the left-out paths rare, and states it for
any dynamics; it is also called ES-D-RTRL. One decay serves both traces, as in the source's experiments. Difference
from the source: its code ends the correction by w_t after 1,000 steps, which at decay .9 changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.rules.eprop import nothing_propagated
from raysweep.workloads.rnn.rules.rule import ONE_STAGE, Info, LearningRule, Observation, Rule, Shape


class Factors(NamedTuple):
    """The two traces of equations (1) and (2), and the weight of the second one."""

    x: Array  # (G, m)
    f: Array  # (C, G, n)
    w: float


def pp_prop(decay: float) -> Rule:
    """Build pp-prop, which keeps a trace for each input and one for each unit.

    Args:
        decay: the share of a trace that remains after a step, 0 <= decay < 1.
    """

    def init(shape: Shape, rng: np.random.Generator) -> Factors:
        return Factors(
            np.zeros((shape.gates, shape.m), shape.dtype),
            np.zeros((shape.components, shape.gates, shape.n), shape.dtype),
            0.0,
        )

    def update(seen: Observation, was: Factors, rng: np.random.Generator) -> tuple[Array, Factors, Info]:
        (stage,) = seen.step
        x = decay * was.x + stage.inputs  # (1)
        f = decay * np.einsum("cdi,dgi->cgi", stage.own, was.f) + (1 - decay) * stage.gain  # (2)
        w = decay * was.w + (1 - decay)  # (3)
        per_unit = (seen.signal[:, None] * f[-len(seen.signal) :]).sum(0) / w
        return per_unit[:, :, None] * x[:, None], Factors(x, f, w), {}  # (4)

    return Rule(init, update)


PP_PROP = LearningRule(
    pp_prop, {"decay": 0.9}, gradient="biased", settle_k=nothing_propagated("pp_prop"), needs=(ONE_STAGE,)
)
