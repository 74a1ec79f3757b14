r"""Online learning by the compiled loop: what `raysweep.workloads.rnn.training.train` does, for the masked-RTRL family.

The two agree up to rounding at `tol` = 0. The compiled loop reads gradients back over the kept trajectory until
that has become dearer than carrying J (`dear_depth`), while the trajectory is still whole: then J is built from
it and carried, by the compiled loop where reading its few sources pays, else by the readable one, as a dense
product is best left to BLAS. `dynamic` needs J for its mask, and carries it from the first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array, Mask
from raysweep.workloads.rnn.fused import elementwise, kernel, update
from raysweep.workloads.rnn.fused.form import Size, not_fused, propagation_of
from raysweep.workloads.rnn.fused.history import influence_of
from raysweep.workloads.rnn.fused.replay import Masks, Rings
from raysweep.workloads.rnn.linearization import Stage
from raysweep.workloads.rnn.masks import (
    SELECTIONS,
    Selection,
    by_fisher,
    by_weights,
    choose,
    draw_mask,
    readers_of,
    sources_of,
)
from raysweep.workloads.rnn.optimizers import AdamState
from raysweep.workloads.rnn.probes import Findings, Schedule
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.rules.sparse_rtrl import SparseState
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.rnn.training import DIVERGED_ABOVE, Learner, Learning, Trajectory, begin, train
from raysweep.workloads.seeds import Generators

CODES = {
    "tanh_rnn": elementwise.TANH_RNN,
    "lstm": elementwise.LSTM,
    "gru_reset_after": elementwise.GRU_RESET_AFTER,
    "mse": update.MSE,
    "half_sse": update.HALF_SSE,
    "cross_entropy": update.CROSS_ENTROPY,
    "adam": update.ADAM,
    "adam_reference": update.ADAM_REFERENCE,
    "sgd": update.SGD,
}
HISTORY_BYTES = 5 * 2**29
"""Bound of the kept trajectory. Replay that meets its end is cut there, and says by how much."""
NOTHING = Schedule()
AT_ONCE = 200
"""Steps between two signs of progress; divides `masks.WEIGHTS_EVERY`."""


def train_fused(
    learner: Learner,
    method: str,
    k: int | None,
    config: Any,
    theta: Array,
    stream: Stream,
    rngs: Generators,
    progress: Callable[[float], None] = lambda fraction: None,
    history_bytes: int = HISTORY_BYTES,
    schedule: Schedule = NOTHING,
    keep_at: int | None = None,
) -> Trajectory:
    """Learn along a stream, until its end or the divergence.

    Args:
        learner: what learns; its rule is not called unless the loop hands over to it.
        method: name of the rule.
        k: as settled.
        config: a settled `LearnerConfig`.
        theta: initial parameters (P,); their dtype is the run's.
        stream: the data.
        rngs: the cell's generators.
        progress: is told the fraction done.
        history_bytes: bound of the kept trajectory.
        schedule: what is probed, and when.
        keep_at: the step before which the parameters are kept.

    Returns:
        The run, with `info`: `credit_horizon`, steps that each learning signal was read back over, and, where
        it was so, metrics `carried_from`, the step from which J was carried, and `replay_cut`, steps whose replay
        met the bound of memory before `tol`.
    """
    findings = Findings(schedule)
    loop = _Loop(learner, method, k, config, theta, stream, rngs, history_bytes, findings)
    started = time.perf_counter()
    steps = len(stream.inputs)
    code, t, kept = kernel.FINISHED, 0, None
    while t < steps and code == kernel.FINISHED:
        if t == keep_at:
            kept = loop.flat_theta()
        if loop.chosen is not None and loop.chosen.due(t, loop.fisher_window):
            loop.choose_mask()
        stop = min(steps, (t // AT_ONCE + 1) * AT_ONCE)
        if t < loop.fisher_window:
            stop = min(stop, loop.fisher_window)
        if keep_at is not None and t < keep_at:
            stop = min(stop, keep_at)
        if schedule.any:
            stop = min(stop, schedule.next(t) + 1)
        code = loop.run(t, stop)
        t = int(loop.counters[3])
        if code == kernel.DEEP and loop.gather_pays and t < steps:
            loop.carry_on(t - 1)
            code = kernel.FINISHED
        if schedule.any and code != kernel.DIVERGED:
            loop.probe(t - 1)
        progress(t / steps)
    diverged_at = t if code == kernel.DIVERGED else None
    done = t
    result = loop.trajectory(done, diverged_at, time.perf_counter() - started)._replace(kept=kept)
    if code != kernel.DEEP or t == steps:
        return result
    so_far = [(stage,) for stage, _ in loop.steps_back(t - 1)][::-1] if schedule.alignment_every else []
    now, fresh = loop.handed_over(t - 1)
    rest = train(learner, now, stream, rngs, progress, t, findings, so_far, fresh, keep_at)
    return result.then(rest, t)


class _Loop:
    """The arrays of one run."""

    def __init__(
        self,
        learner: Learner,
        method: str,
        k: int | None,
        config: Any,
        theta: Array,
        stream: Stream,
        rngs: Generators,
        history_bytes: int,
        findings: Findings,
    ) -> None:
        architecture = learner.architecture
        n, dtype = config.hidden, theta.dtype
        self.learner, self.config, self.n, self.findings = learner, config, n, findings
        form = propagation_of(method, k, n, RULES[method].settings(config))
        problem = not_fused(form, config.architecture, config.loss, config.optimizer)
        if form is None or problem:
            raise ValueError(problem)
        self.form = form
        parameters = learner.layout.split(theta)
        self.theta = np.ascontiguousarray(architecture.pack(parameters))
        self.readout, self.bias = parameters["V"].copy(), parameters["c"].copy()
        gates, _, m = self.theta.shape
        components = architecture.components
        steps = len(stream.inputs)
        self.inputs = stream.inputs.astype(dtype)
        self.targets = stream.targets.astype(dtype)
        self.stream = stream
        self.state = np.zeros((components, n), dtype)
        self.moments = tuple(
            np.zeros(part.size, dtype) for part in (self.theta, self.readout, self.bias) for _ in range(2)
        )
        self.counters = np.zeros(5, np.int64)
        self.smooth = np.zeros(1)
        within = {True: components, False: int(self.form.decay is not None)}[self.form.local]
        self.trace = np.zeros((within, *self.theta.shape), dtype)
        self.chosen: Selection | None = None  # what chooses masks between two calls of the kernel
        self.fisher_window = 0
        self.mask_list: list[Mask] = [self._first_mask(rngs)]
        self.fisher = np.zeros(n)
        self.sources = sources_of(self.mask_list[0])
        size = Size(n, self.form.k, components, gates, m)
        self.gather_pays = size.gather_pays
        self.carried_from = 0 if self.form.carried else None
        self.influence = np.zeros((2 * self.form.carried, components, n, self.theta.size), dtype)
        # an alignment probe and Fisher's sum read the whole weights of every step back, so they are kept
        self.gathered = self.form.k < n and findings.schedule.alignment_every is None and not self.fisher_window
        recurrent = gates if architecture.shared_inputs else gates - 1
        rows = 1 if architecture.shared_inputs else gates
        width = n * (self.form.k if self.gathered else n)
        numbers = components * (components + gates) * n + rows * m + recurrent * width
        ring = max(1, min(steps, history_bytes // (numbers * dtype.itemsize)))
        if (within or self.form.carried) and not findings.schedule.any:
            ring = 1
        elif self.form.window is not None and findings.schedule.alignment_every is None:
            ring = min(ring, self.form.window)
        self.rings = Rings(
            np.empty((ring, components, components, n), dtype),
            np.empty((ring, components, gates, n), dtype),
            np.empty((ring, rows, m), dtype),
            np.empty((ring, recurrent, width), dtype),
            np.zeros(ring, np.intp),
        )
        self.losses = np.empty(steps)
        self.predictions = np.empty(self.targets.shape)
        self.depths = np.zeros(steps, np.int32)
        self.remainders = np.zeros(steps, np.float32)
        self.signal = np.zeros(n, dtype)
        self.gradient = np.zeros_like(self.theta)
        self.hyper = np.array(
            [config.learning_rate, config.beta1 or 0.0, config.beta2 or 0.0, config.epsilon or 0.0], np.float64
        )
        self.deep = dear_depth(size) if self.form.replays else np.inf

    def _first_mask(self, rngs: Generators) -> Mask:
        form, n = self.form, self.n
        if form.selection is None:
            return np.eye(n, dtype=np.bool_) if form.include_self else np.full((n, n), form.k == n)
        mask = draw_mask(form.selection, n, form.k, form.include_self, rngs.mask)
        selection = SELECTIONS[form.selection]
        if 0 < form.k < n and form.replays and selection.score is not None:
            self.chosen = selection
            self.fisher_window = self.config.fisher_window if selection.score == "fisher" else 0
        return mask

    def choose_mask(self) -> None:
        """A new mask, by the weights in force or by what was gathered of Fisher's information."""
        if self.chosen is None:
            raise ValueError("this rule's mask is drawn once")
        recurrent = self.rings.weights.shape[1]
        score = by_fisher(self.fisher) if self.fisher_window else by_weights(self.theta[:recurrent, :, : self.n])
        self.mask_list.append(choose(score, self.form.k, self.form.include_self, self.chosen.largest))
        self.counters[2] = len(self.mask_list) - 1
        self.sources = sources_of(self.mask_list[-1])

    def carry_on(self, t: int) -> None:
        """From the step after t on the kernel carries J."""
        components = self.state.shape[0]
        influence = influence_of(self.steps_back(t), len(self.theta))
        self.influence = np.zeros((2, components, self.n, self.theta.size), self.theta.dtype)
        self.influence[0] = influence.reshape(components, self.n, -1)
        self.counters[4] = 0
        self.carried_from = t + 1
        self.deep = np.inf

    def run(self, begin: int, stop: int) -> int:
        """Steps begin <= t < stop by the kernel; why it ended."""
        config, dtype = self.config, self.theta.dtype
        full = self.form.k == self.n
        listed = [np.zeros_like(self.mask_list[0])] if full else self.mask_list
        # unsigned, as an index that might be negative is looked at twice
        masks = Masks(*(np.stack(part).astype(np.uint32) for part in zip(*map(readers_of, listed), strict=True)))
        code: int = kernel.run(
            begin,
            stop,
            CODES[config.architecture],
            CODES[config.loss],
            CODES[config.optimizer],
            np.array([-1.0 if self.form.decay is None else self.form.decay], dtype),
            self.form.each_itself,
            np.array([config.leak or 1.0], dtype),
            self.form.window or len(self.inputs),
            config.tol or 0.0,
            config.clip,
            DIVERGED_ABOVE,
            self.deep,
            self.hyper,
            self.inputs,
            self.targets,
            self.stream.graded,
            self.stream.begins,
            self.learner.architecture.shared_inputs,
            self.theta,
            self.readout,
            self.bias,
            self.moments,
            self.state,
            self.counters,
            self.smooth,
            self.trace,
            self.influence,
            self.sources,
            self.form.carried,
            self.form.include_self,
            self.fisher,
            self.fisher_window,
            self.rings,
            masks,
            self.gathered,
            full,
            self.losses,
            self.predictions,
            self.depths,
            self.remainders,
            self.signal,
            self.gradient,
        )
        return code

    def flat(self, by_gates: Array, readout: Array, bias: Array) -> Array:
        """The learner's flat vector (P,) of packed arrays."""
        shape = self.theta.shape
        named = self.learner.architecture.unpack(by_gates.reshape(shape))
        return self.learner.layout.join(named | {"V": readout.reshape(self.readout.shape), "c": bias})

    def flat_theta(self) -> Array:
        """All parameters (P,), a copy."""
        return self.flat(self.theta, self.readout, self.bias)

    def probe(self, t: int) -> None:
        """Measure step t, the last that was made, if it is due."""
        due = self.findings.schedule
        if due.spectrum(t):
            newest, _ = next(iter(self.steps_back(t)))
            self.findings.spectrum(t, self._influence_at(t), (newest,), read=1)
        if due.alignment(t):
            whole = ((stage,) for stage, _ in self.steps_back(t))
            unpack = self.learner.architecture.unpack
            graded = self.stream.graded[t]  # else the arrays are those of an earlier step
            self.findings.alignment(t, self.gradient * graded, whole, self.signal[None] * graded, unpack)

    def _influence_at(self, t: int) -> Array:
        """J_t (C n, G n m), carried or built."""
        if len(self.influence):
            carried: Array = self.influence[self.counters[4]].reshape(self.state.size, -1)
            return carried
        return influence_of(self.steps_back(t), len(self.theta))

    def steps_back(self, t: int) -> Iterator[tuple[Stage, Array | None]]:
        """The kept steps and their masks, from t back to the sequence's first."""
        rings, n = self.rings, self.n
        ring, recurrent = rings.weights.shape[:2]
        gates = rings.gain.shape[2]
        for s in range(t, max(int(self.counters[1]), t - ring + 1) - 1, -1):
            slot = s % ring
            kept = self.mask_list[rings.mask[slot]]
            mask = None if self.form.k == n else kept.astype(self.theta.dtype)
            if self.gathered:
                weights = np.zeros((recurrent, n, n), self.theta.dtype)
                source, reader = np.nonzero(kept.T)
                weights[:, reader, source] = rings.weights[slot]
            else:
                weights = rings.weights[slot].reshape(recurrent, n, n)
            inputs = np.broadcast_to(rings.inputs[slot], (gates, rings.inputs.shape[2]))
            yield Stage(rings.own[slot], rings.gain[slot], weights, inputs), mask

    def handed_over(self, t: int) -> tuple[Learning, Any]:
        """Where the readable loop can go on after step t, and the rule's state before any step."""
        influence = influence_of(self.steps_back(t), len(self.theta))
        optimizer_state = None
        if self.config.optimizer != "sgd":
            m, v = (self.flat(*self.moments[order::2]) for order in (0, 1))
            optimizer_state = AdamState(int(self.counters[0]), m, v)
        theta = self.flat_theta()
        begun = begin(self.learner, theta, self.n, self.inputs.shape[1], np.random.default_rng(0))
        state: Any = influence
        if isinstance(begun.rule_state, SparseState):
            mask = self.mask_list[self.counters[2]]
            sources = None if begun.rule_state.sources is None else sources_of(mask)
            state = SparseState(influence, mask.astype(theta.dtype), sources, t + 1)
        return Learning(theta, self.state, state, optimizer_state), begun.rule_state

    def trajectory(self, done: int, diverged_at: int | None, seconds: float) -> Trajectory:
        """What was recorded, up to `done`."""
        info: dict[str, Array] = {}
        metrics: dict[str, float] = {}
        if self.form.replays:
            done_back = done if self.carried_from is None else self.carried_from
            info["credit_horizon"] = self.depths[:done_back].astype(np.float64)
            begun = np.maximum.accumulate(np.where(self.stream.begins, np.arange(len(self.losses)), 0))[:done]
            ring = len(self.rings.mask)
            cut = (self.depths[:done] == ring) & (np.arange(done) - begun + 1 > ring) & (self.remainders[:done] > 0)
            if cut.any():
                metrics["replay_cut"] = float(np.count_nonzero(cut))
        if self.carried_from is not None:
            metrics["carried_from"] = float(self.carried_from)
        theta = self.flat_theta()
        return Trajectory(
            self.losses[:done].copy(),
            self.predictions[:done].copy(),
            info,
            metrics,
            diverged_at,
            seconds,
            theta,
            self.findings.arrays(),
        )


def dear_depth(size: Size) -> float:
    """Depth of replay from which the carried form is cheaper: a rule, so that no result depends on a timing."""
    return min(size.gathered_us, size.dense_us) / size.back_us
