"""What a learning rule is: a pair of pure functions, and what it says of itself.

A rule keeps what it knows of J_t = d s_t / d theta (its *influence*) and contracts it with the learning
signal q_t = dL_t/dh_t, which it is given: how q_t comes about is not the rule's business. It sees an
architecture only through the linearised step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from workloads.arrays import Array, Parameters
from workloads.component import Component
from workloads.linearization import Linearization


class Shape(NamedTuple):
    """Sizes that a rule's state depends on."""

    components: int  # C
    gates: int  # G
    n: int
    m: int  # inputs a gate: n + n_in + 1
    dtype: np.dtype[np.floating[Any]]


class Observation(NamedTuple):
    """What happened at step t, all of it with the parameters from before this step's update."""

    step: Linearization
    signal: Array  # (n,)  q_t = dL_t/dh_t
    parameters: Parameters
    x: Array  # (n_in,)
    before: Array  # (C, n)  s_{t-1}
    after: Array  # (C, n)  s_t
    target: Array  # (n_out,)
    error: Array  # (n_out,)  e_t = dL_t/dz_t


Info = dict[str, float]
"""Finite numbers of one step by name, recorded as arrays of the cell."""


class Rule(NamedTuple):
    """Pure functions: what changes is in the state, what is random comes from the generator passed in."""

    init: Callable[[Shape, np.random.Generator], Any]
    """(shape, generator for what is drawn once) -> state before the first step, its influence zero."""
    update: Callable[[Observation, Any, np.random.Generator], tuple[Array, Any, Info]]
    """(observation, state, generator for this step's noise) -> (gradient (G, n, m), new state, info)."""


Gradient = Literal["exact", "biased", "unbiased"]
"""Of the step loss, at weights that do not change: `exact` is RTRL's, `unbiased` is so in expectation."""


@dataclass(frozen=True)
class LearningRule(Component[Rule]):
    """A registry entry: how to build the rule, and its traits.

    Args:
        build: the factory; takes `defaults`' names by keyword, and `k` if `takes_k`.
        defaults: its settings in `Config`.
        gradient: what its gradient is.
        takes_k: whether `build` wants the settled k.
        draws_noise: whether each step draws from the noise generator.
        settle_k: (k, n, settings) -> (the k that is stored, problems).
        cost: (n, m, k, settings) -> multiply-adds a step, to leading order, for one gate.
    """

    gradient: Gradient = "biased"
    takes_k: bool = False
    draws_noise: bool = False
    settle_k: Callable[[int | None, int, Mapping[str, Any]], tuple[int | None, list[str]]] | None = None
    cost: Callable[[int, int, int | None, Mapping[str, Any]], float] = lambda n, m, k, settings: float(n * m)
