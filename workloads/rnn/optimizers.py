r"""Optimisers on a flat parameter vector, and the clipping of gradients by their global norm.

`adam` and `adam_reference` differ in the position of epsilon, which matters once gradients are small:

    m_t = b1 m + (1 - b1) g,   v_t = b2 v + (1 - b2) g^2
    adam:            theta -= lr  m^ / (sqrt(v^) + eps),   m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)
    adam_reference:  theta -= lr sqrt(1 - b2^t) / (1 - b1^t)  m / (sqrt(v) + eps)

`adam` is Algorithm 1 of Kingma and Ba (2015); torch uses it. `adam_reference` is their "efficient" form; Keras and
Marschall, Cho and Savin (2020) use it. In effect, its epsilon is larger by the factor 1 / sqrt(1 - b2^t).

`rmsprop` (Tieleman and Hinton, 2012) has no first moment and no bias correction:

    v_t = b2 v + (1 - b2) s_t,   theta -= lr  g / (sqrt(v_t) + eps)
    s_t = g^2                          normalize = "parameter", torch's
    s_t = mean of g^2 over the group   normalize = "group"; a group is one named array, such as W, U, b, V or c

arXiv 2603.28750 calls for gradients on the same scale in all groups of parameters, and for RMSprop. Its text names
the normalisation per parameter. Its b2 and epsilon are not at hand, so the defaults are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.registry import Registry
from raysweep.workloads.rnn.component import Component


class Optimizer(NamedTuple):
    """An optimiser: a pair of pure functions, which create and advance its state."""

    init: Callable[[Array], Any]
    """theta (P,) -> state."""
    update: Callable[[Array, Any, Array], tuple[Array, Any]]
    """(gradient (P,), state, theta (P,)) -> (new theta, new state)."""


class AdamState(NamedTuple):
    """State of Adam: the number of updates, and the moments of the gradient."""

    t: int
    m: Array  # (P,) first moment
    v: Array  # (P,) second moment


def _moments(gradient: Array, state: AdamState, beta1: float, beta2: float) -> AdamState:
    m = state.m + (1 - beta1) * (gradient - state.m)  # torch's lerp, to its rounding
    v = beta2 * state.v + (1 - beta2) * (gradient * gradient)
    return AdamState(state.t + 1, m, v)


def _zero_moments(theta: Array) -> AdamState:
    return AdamState(0, np.zeros_like(theta), np.zeros_like(theta))


def adam(learning_rate: float, beta1: float, beta2: float, epsilon: float) -> Optimizer:
    """Create Adam with epsilon after the bias correction (torch)."""

    def update(gradient: Array, state: AdamState, theta: Array) -> tuple[Array, AdamState]:
        t, m, v = state = _moments(gradient, state, beta1, beta2)
        denominator = np.sqrt(v) / math.sqrt(1 - beta2**t) + epsilon
        return theta - (learning_rate / (1 - beta1**t)) * (m / denominator), state

    return Optimizer(_zero_moments, update)


def adam_reference(learning_rate: float, beta1: float, beta2: float, epsilon: float) -> Optimizer:
    """Create Adam with epsilon before the bias correction (Keras; Marschall et al.)."""

    def update(gradient: Array, state: AdamState, theta: Array) -> tuple[Array, AdamState]:
        t, m, v = state = _moments(gradient, state, beta1, beta2)
        rate = learning_rate * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        return theta - rate * (m / (np.sqrt(v) + epsilon)), state

    return Optimizer(_zero_moments, update)


def sgd(learning_rate: float) -> Optimizer:
    """Create plain gradient descent: theta -= lr g."""

    def init(theta: Array) -> None:
        return None

    def update(gradient: Array, state: None, theta: Array) -> tuple[Array, None]:
        return theta - learning_rate * gradient, None

    return Optimizer(init, update)


def rmsprop(learning_rate: float, beta2: float, epsilon: float, normalize: str, sizes: Sequence[int] = ()) -> Optimizer:
    """Create RMSprop; its state is the second moment (P,), equal within a group if groups are normalised.

    Args:
        learning_rate: lr.
        beta2: the share of the second moment that remains after an update; torch's `alpha`.
        epsilon: added to the root of the second moment.
        normalize: "parameter": each parameter has a second moment of its own; "group": each group has one.
        sizes: the number of parameters of each group, in the order of theta; empty: all are one group.
    """
    ends = list(accumulate(sizes))
    groups = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)] or [slice(None)]

    def squares(gradient: Array) -> Array:
        each: Array = gradient * gradient
        if normalize == "group":
            for group in groups:
                each[group] = each[group].mean()
        return each

    def update(gradient: Array, state: Array, theta: Array) -> tuple[Array, Array]:
        v = beta2 * state + (1 - beta2) * squares(gradient)
        return theta - learning_rate * (gradient / (np.sqrt(v) + epsilon)), v

    return Optimizer(np.zeros_like, update)


ADAM_DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
OPTIMIZERS: Registry[Component[Optimizer]] = Registry(
    "optimizer",
    {
        "adam": Component(adam, ADAM_DEFAULTS),
        "adam_reference": Component(adam_reference, ADAM_DEFAULTS),
        "rmsprop": Component(rmsprop, {"beta2": 0.99, "epsilon": 1e-8, "normalize": "parameter"}),
        "sgd": Component(sgd),
    },
)


def clip_by_global_norm(gradient: Array, limit: float) -> tuple[Array, float]:
    """Scale the gradient down to the norm `limit` if it is larger, as torch does. Also returns the original norm.

    Args:
        gradient: (P,)
        limit: maximum norm; 0 disables the clip.
    """
    # np.sum adds pairwise in one thread; a BLAS dot would depend on the thread count from 10,000 elements on.
    norm = float(np.sqrt(np.sum(np.square(gradient))))
    if limit == 0.0 or limit >= norm + 1e-6:
        return gradient, norm
    return gradient * (limit / (norm + 1e-6)), norm
