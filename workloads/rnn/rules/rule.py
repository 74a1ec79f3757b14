"""The interface of a learning rule: pure functions, and traits that the rule declares.

A rule keeps an estimate of the *influence* J_t = d s_t / d theta. It receives the learning signal q_t = dL_t/dh_t, and
contracts the influence with it. It sees an architecture only through the linearised step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture
from raysweep.workloads.rnn.component import Component
from raysweep.workloads.rnn.linearization import Step


class Shape(NamedTuple):
    """The sizes on which a rule's state depends."""

    components: int  # C
    gates: int  # G
    read: int  # Q: components that the readout sees
    n: int
    m: int  # inputs a gate
    recurrent: bool  # whether units read one another
    dtype: np.dtype[np.floating[Any]]
    n_out: int  # outputs, errors


class Observation(NamedTuple):
    """All that a rule sees of step t. Everything is computed with the parameters before this step's update."""

    step: Step
    signal: Array  # (Q, n)  q_t = dL_t/ds_t of the components that the readout sees
    parameters: Parameters
    x: Array  # (n_in,)
    before: Array  # (C, n)  s_{t-1}
    after: Array  # (C, n)  s_t
    target: Array  # (n_out,)
    error: Array  # (n_out,)  e_t = dL_t/dz_t
    move: Callable[[Array], Array]  # any state (C, n) -> the next, with this step's parameters and input

    @property
    def gates(self) -> int:
        """G, the number of gates over all stages."""
        return sum(len(stage.inputs) for stage in self.step)


Info = dict[str, float]
"""Finite numbers that a rule reports at a step, by name. They are recorded as arrays of the cell."""


class Rule(NamedTuple):
    """A learning rule as pure functions. Their state is passed in and returned, and their generator is passed in."""

    init: Callable[[Shape, np.random.Generator], Any]
    """(shape, generator for draws made once per run) -> state before the first step; its influence is zero."""
    update: Callable[[Observation, Any, np.random.Generator], tuple[Array, Any, Info]]
    """(observation, state, generator for this step's noise) -> (gradient (G, n, m), new state, info)."""
    reset: Callable[[Any, Any], Any] = lambda state, begun: begun
    """(state, state before the first step) -> state in which a new sequence begins, with zero influence."""
    influence: Callable[[Any], Array] | None = None
    """State -> J_t (C n, G n m); None if the rule does not carry J_t."""


Gradient = Literal["exact", "biased", "unbiased"]
"""How a rule's gradient of the step loss compares with RTRL's at constant weights.

`exact`: equal. `unbiased`: equal in expectation. `biased`: neither.
"""


class Need(NamedTuple):
    """A property that a rule needs of an architecture, and the reason to give if it is missing."""

    holds: Callable[[Architecture], bool]
    otherwise: str  # the reason of the refusal


ONE_STAGE = Need(lambda a: a.stages == 1, "its parameters act on other units than their own within a step")
RECURRENT = Need(lambda a: a.recurrent, "its units have no recurrent connections to choose from")
ONE_COMPONENT = Need(lambda a: a.components == 1, "its state has more than one number a unit")
ONE_GATE = Need(lambda a: a.gates == 1, "it has more than one gate a unit")
SHARED_INPUTS = Need(lambda a: a.shared_inputs, "its gates do not share one input vector")


@dataclass(frozen=True)
class LearningRule(Component[Rule]):
    """A kind of learning rule, an entry of the registry: how to build the rule, and its traits.

    Args:
        build: factory; takes the names in `defaults` by keyword, and `k` if `takes_k`.
        defaults: the settings in `Config` that belong to the rule.
        gradient: whether its gradient is exact, biased or unbiased.
        takes_k: whether `build` takes the recorded k.
        draws_noise: whether each step draws from the noise generator.
        settle_k: (k, n, settings) -> (the recorded k, problems).
        cost: (n, m, k, settings) -> multiply-adds per step, to leading order, for one gate.
        needs: properties that an architecture must have for the rule to be defined on it.
        immediate: whether its gradient is exact at a first step, when there is no past to approximate.
        exact_on: architectures on which the rule is exact although it is biased in general.
    """

    gradient: Gradient = "biased"
    takes_k: bool = False
    draws_noise: bool = False
    settle_k: Callable[[int | None, int, Mapping[str, Any]], tuple[int | None, list[str]]] | None = None
    cost: Callable[[int, int, int | None, Mapping[str, Any]], float] = lambda n, m, k, settings: float(n * m)
    needs: tuple[Need, ...] = ()
    immediate: bool = True
    exact_on: Callable[[Architecture], bool] = lambda architecture: False

    def undefined_on(self, architecture: Architecture) -> str | None:
        """Return the reason why the rule is not defined on an architecture; None if it is defined."""
        reasons = [need.otherwise for need in self.needs if not need.holds(architecture)]
        return "; ".join(reasons) or None
