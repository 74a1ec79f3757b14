"""The readable training loop of online learning: one update per step, in the paper's order.

Step t begins with the parameters theta_{t-1}. It computes the network's state and prediction, then the loss, the error
e_t and the learning signal q_t. The rule then updates its influence and returns a gradient. The gradient is clipped,
and the optimiser computes theta_t. The influence is not recomputed after the update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.architectures.architecture import Architecture
from raysweep.workloads.rnn.linearization import Step
from raysweep.workloads.rnn.losses import Loss
from raysweep.workloads.rnn.optimizers import Optimizer, clip_by_global_norm
from raysweep.workloads.rnn.parameters import Layout
from raysweep.workloads.rnn.probes import Findings, Recorded
from raysweep.workloads.rnn.rules.rule import Info, Observation, Rule, Shape
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.seeds import Generators

DIVERGED_ABOVE = 1e6
"""Loss above which a run counts as diverged (data are of order 1).

A run with a loss or gradient that is not finite counts as diverged, too.
"""


class Learner(NamedTuple):
    """The fixed parts of an online learner. The numbers that change are in `Learning`."""

    architecture: Architecture
    layout: Layout
    rule: Rule
    optimizer: Optimizer
    loss: Loss
    clip: float  # greatest global norm of the gradient; 0 disables it


class Learning(NamedTuple):
    """The state of learning: everything that changes from step to step."""

    theta: Array  # (P,) all parameters, flat
    state: Array  # (C, n) of the network
    rule_state: Any
    optimizer_state: Any


class Outcome(NamedTuple):
    """The result of one step of learning."""

    loss: float
    prediction: Array  # (n_out,)
    gradient: Array  # (P,) before the clip
    norm: float  # of that gradient
    info: Info
    seen: Observation
    by_gates: Array  # (G, n, m) the rule's gradient


class Trajectory(NamedTuple):
    """The record of a run of T' steps. T' is smaller than the stream's T if the run diverged."""

    losses: Array  # (T',) float64; 0 where a step is not graded
    predictions: Array  # (T', n_out) float64
    info: dict[str, Array]  # (T',) each
    metrics: dict[str, float]  # of the run as a whole
    diverged_at: int | None
    seconds: float
    theta: Array  # (P,) at the end
    probed: list[Recorded]
    kept: Array | None = None  # (P,) before step `keep_at`, if the run reached it

    def outcome(self) -> dict[str, float]:
        """Return the run's metrics: `diverged`, `diverged_at` if it did, `self.metrics`, and `seconds_per_step`."""
        at = {} if self.diverged_at is None else {"diverged_at": float(self.diverged_at)}
        seconds = self.seconds / max(len(self.losses), 1)
        return {"diverged": float(bool(at)), **at, **self.metrics, "seconds_per_step": seconds}


def begin(learner: Learner, theta: Array, n: int, n_in: int, rng: np.random.Generator) -> Learning:
    """Create the state before the first step: s_0 = 0, no influence.

    Args:
        learner: the learner.
        theta: initial parameters (P,); their dtype is the run's.
        n: number of hidden units.
        n_in: number of inputs.
        rng: generator of the rule's one-time draws, such as masks.
    """
    architecture = learner.architecture
    state = np.zeros((architecture.components, n), theta.dtype)
    prediction = architecture.predict(learner.layout.split(theta), state, np.zeros(n_in, theta.dtype))
    shape = Shape(
        architecture.components,
        architecture.gates,
        architecture.read,
        n,
        architecture.inputs(n, n_in),
        architecture.recurrent,
        theta.dtype,
        len(prediction),
    )
    return Learning(
        theta=theta,
        state=state,
        rule_state=learner.rule.init(shape, rng),
        optimizer_state=learner.optimizer.init(theta),
    )


def learn_step(
    learner: Learner, now: Learning, x: Array, target: Array, noise: np.random.Generator, graded: bool = True
) -> tuple[Learning, Outcome]:
    """Do one step of online learning, on x (n_in,) and target (n_out,) of the run's dtype."""
    architecture = learner.architecture
    parameters = learner.layout.split(now.theta)
    state, step = architecture.forward(parameters, now.state, x)
    prediction = architecture.predict(parameters, state, x)
    loss, error = learner.loss(prediction, target)
    if not graded:
        loss, error = 0.0, np.zeros_like(error)
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
    if not graded and not gradient.any():
        unchanged = Learning(now.theta, state, rule_state, now.optimizer_state)
        return unchanged, Outcome(loss, prediction, gradient, 0.0, info, seen, by_gates)
    clipped, norm = clip_by_global_norm(gradient, learner.clip)
    theta, optimizer_state = learner.optimizer.update(clipped, now.optimizer_state, now.theta)
    return Learning(theta, state, rule_state, optimizer_state), Outcome(
        loss, prediction, gradient, norm, info, seen, by_gates
    )


def train(
    learner: Learner,
    now: Learning,
    stream: Stream,
    rngs: Generators,
    progress: Callable[[float], None] = lambda fraction: None,
    findings: Findings | None = None,
    keep_at: int | None = None,
) -> Trajectory:
    """Learn along a stream, to its end or until the run diverges.

    A step that is not graded has no loss. It makes no update, unless the rule returns a gradient of earlier losses.
    Before the first step of a sequence, state and influence are reset to zero.

    Args:
        learner: the learner.
        now: the state from `begin`.
        stream: the data, which are rounded to theta's dtype here.
        rngs: the cell's generators; only `noise` is used.
        progress: called with the completed fraction every hundred steps.
        findings: collects the probes' measurements; None disables probes.
        keep_at: the step before which the parameters are copied to `Trajectory.kept`.
    """
    dtype = now.theta.dtype
    inputs = stream.inputs.astype(dtype)
    targets = stream.targets.astype(dtype)
    steps = len(inputs)
    losses = np.empty(steps)
    predictions = np.empty(targets.shape)
    info: dict[str, list[float]] = {}
    diverged_at = None
    done = 0
    begun = now.rule_state
    sequence: list[Step] = []  # its steps so far, for alignment probes
    kept = None
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is recorded, not warned about
        for t in range(steps):
            if stream.begins[t]:
                now = now._replace(state=np.zeros_like(now.state), rule_state=learner.rule.reset(now.rule_state, begun))
                sequence.clear()
            if t == keep_at:
                kept = now.theta
            now, outcome = learn_step(learner, now, inputs[t], targets[t], rngs.noise, stream.graded[t])
            if not (outcome.loss <= DIVERGED_ABOVE and math.isfinite(outcome.norm)):  # a NaN loss ends here too
                diverged_at = t
                break
            losses[t] = outcome.loss
            predictions[t] = outcome.prediction
            for name, value in outcome.info.items():
                info.setdefault(name, []).append(value)
            done = t + 1
            if findings is not None:
                _probe(t, learner, now, outcome, sequence, findings)
            if done % 100 == 0:
                progress(done / steps)
    seconds = time.perf_counter() - started
    arrays = {name: np.array(values) for name, values in info.items()}
    probed = [] if findings is None else findings.arrays()
    return Trajectory(losses[:done], predictions[:done], arrays, {}, diverged_at, seconds, now.theta, probed, kept)


def _probe(t: int, learner: Learner, now: Learning, outcome: Outcome, sequence: list[Step], findings: Findings) -> None:
    seen, schedule = outcome.seen, findings.schedule
    if schedule.alignment_every is not None:
        sequence.append(seen.step)
    if schedule.spectrum(t) and learner.rule.influence is not None:
        findings.spectrum(t, learner.rule.influence(now.rule_state), seen.step, learner.architecture.read)
    if schedule.alignment(t):
        findings.alignment(t, outcome.by_gates, reversed(sequence), seen.signal, learner.architecture.unpack)
