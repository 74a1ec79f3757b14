"""Online learning: one update a step, in the order of the paper.

At step t, with theta_{t-1}: forward -> loss, error e_t, learning signal q_t -> the rule's influence and
gradient -> clip -> theta_t. The influence is not recomputed after the update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from workloads.architectures.architecture import Architecture
from workloads.arrays import Array
from workloads.layout import Layout
from workloads.losses import Loss
from workloads.optimizers import Optimizer, clip_by_global_norm
from workloads.rules.rule import Info, Observation, Rule, Shape
from workloads.seeds import Generators

DIVERGED_ABOVE = 1e6
"""A loss above this (data are of order 1) or not finite, or a gradient that is not finite, ends a run."""


class Learner(NamedTuple):
    """All that defines an online learner, but for its numbers."""

    architecture: Architecture
    layout: Layout
    rule: Rule
    optimizer: Optimizer
    loss: Loss
    clip: float  # greatest global norm of the gradient; 0: no clip


class Learning(NamedTuple):
    """The numbers: everything that changes from step to step."""

    theta: Array  # (P,) all parameters, flat
    state: Array  # (C, n) of the network
    rule_state: Any
    optimizer_state: Any


class Outcome(NamedTuple):
    """What one step gave."""

    loss: float
    prediction: Array  # (n_out,)
    gradient: Array  # (P,) before the clip
    norm: float  # of that gradient
    info: Info


class Trajectory(NamedTuple):
    """A run, up to its divergence if it diverged; T' steps."""

    losses: Array  # (T',) float64
    predictions: Array  # (T', n_out) float64
    info: dict[str, list[float]]
    diverged_at: int | None
    seconds: float
    theta: Array  # (P,) at the end


def begin(learner: Learner, theta: Array, n: int, n_in: int, rng: np.random.Generator) -> Learning:
    """Before the first step: s_0 = 0, no influence.

    Args:
        learner: what is to learn.
        theta: initial parameters (P,); their dtype is the run's.
        n: hidden units.
        n_in: inputs.
        rng: for what the rule draws once (masks).
    """
    architecture = learner.architecture
    shape = Shape(
        architecture.components,
        architecture.gates,
        architecture.read,
        n,
        architecture.inputs(n, n_in),
        architecture.recurrent,
        theta.dtype,
    )
    return Learning(
        theta=theta,
        state=np.zeros((architecture.components, n), theta.dtype),
        rule_state=learner.rule.init(shape, rng),
        optimizer_state=learner.optimizer.init(theta),
    )


def learn_step(
    learner: Learner, now: Learning, x: Array, target: Array, noise: np.random.Generator
) -> tuple[Learning, Outcome]:
    """One step of online learning; x (n_in,) and target (n_out,) of the run's dtype."""
    architecture = learner.architecture
    parameters = learner.layout.split(now.theta)
    state, step = architecture.forward(parameters, now.state, x)
    prediction = architecture.predict(parameters, state, x)
    loss, error = learner.loss(prediction, target)
    seen = Observation(
        step=step,
        signal=architecture.signal(parameters, error),
        parameters=parameters,
        x=x,
        before=now.state,
        after=state,
        target=target,
        error=error,
        move=lambda other: architecture.forward(parameters, other, x)[0],
    )
    by_gates, rule_state, info = learner.rule.update(seen, now.rule_state, noise)
    gradient = learner.layout.join(
        {
            **architecture.unpack(by_gates),
            **architecture.readout_gradients(parameters, state, x, error),
        }
    )
    clipped, norm = clip_by_global_norm(gradient, learner.clip)
    theta, optimizer_state = learner.optimizer.update(clipped, now.optimizer_state, now.theta)
    return Learning(theta, state, rule_state, optimizer_state), Outcome(loss, prediction, gradient, norm, info)


def train(
    learner: Learner,
    theta: Array,
    n: int,
    inputs: Array,
    targets: Array,
    rngs: Generators,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Trajectory:
    """Learn along a stream, until its end or the divergence.

    Args:
        learner: what learns.
        theta: initial parameters (P,).
        n: hidden units.
        inputs: (T, n_in), rounded to theta's dtype.
        targets: (T, n_out), likewise.
        rngs: the cell's generators; `mask` and `noise` are drawn from.
        progress: is told the fraction done, every hundred steps.
    """
    steps = len(inputs)
    inputs = inputs.astype(theta.dtype)
    targets = targets.astype(theta.dtype)
    losses = np.empty(steps)
    predictions = np.empty(targets.shape)
    info: dict[str, list[float]] = {}
    diverged_at = None
    done = 0
    now = begin(learner, theta, n, inputs.shape[1], rngs.mask)
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # a run that blows up is recorded as such, not warned of
        for t in range(steps):
            now, outcome = learn_step(learner, now, inputs[t], targets[t], rngs.noise)
            if not (outcome.loss <= DIVERGED_ABOVE and math.isfinite(outcome.norm)):  # a NaN loss ends here too
                diverged_at = t
                break
            losses[t] = outcome.loss
            predictions[t] = outcome.prediction
            for name, value in outcome.info.items():
                info.setdefault(name, []).append(value)
            done = t + 1
            if done % 100 == 0:
                progress(done / steps)
    seconds = time.perf_counter() - started
    return Trajectory(losses[:done], predictions[:done], info, diverged_at, seconds, now.theta)
