r"""Online learning by the compiled loop, for the masked-RTRL family (for all rules: `workloads.rnn.training.train`).

The compiled loop carries traces, and influence that stays within units. For the other rules it reads gradients back
over the kept steps. At `tol` = 0 it agrees with the readable loop up to rounding.

Reading back may become more expensive than J (`dear_depth`). If all steps of the sequence are kept, J is then computed
from them. With few units it is carried from step to step from there on. With more, gradients are read back to the start
of a block of steps and contracted from J there, and J is moved on at the block's end (see `history`), until signals
shrink to `tol` within blocks. The selection `dynamic` needs J for its mask, so J is carried from the first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array, Mask
from raysweep.workloads.rnn.fused import elementwise, kernel, update
from raysweep.workloads.rnn.fused.form import Size, not_fused, propagation_of
from raysweep.workloads.rnn.fused.history import Block, influence_of, move_on
from raysweep.workloads.rnn.fused.kept import block_back, steps_back
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
from raysweep.workloads.rnn.probes import Findings, Schedule
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.rnn.training import DIVERGED_ABOVE, Learner, Trajectory
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
    "rmsprop": update.RMSPROP,
}
HISTORY_BYTES = 5 * 2**29
"""Maximum size of the kept steps, in bytes, and of J. `replay_cut` counts the replays that end early at this limit."""
NOTHING = Schedule()
AT_ONCE = 200
"""Maximum number of steps per kernel call, after which progress is reported. It divides `masks.WEIGHTS_EVERY`."""
FEW_UNITS, FEW_UNITS_AT_ONCE = 128, 1000
"""The same up to `FEW_UNITS` units, unless masks are chosen: a call costs as much as 50 steps without learning."""


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
    """Learn along a stream to its end, or until the run diverges.

    Args:
        learner: the learner; its rule is not called.
        method: name of the rule.
        k: the cell's recorded k.
        config: a complete `LearnerConfig`.
        theta: initial parameters (P,); their dtype is the run's.
        stream: the data.
        rngs: the cell's generators.
        progress: called with the completed fraction.
        history_bytes: maximum size of the kept steps.
        schedule: the measurements to make, and their steps.
        keep_at: the step before which the parameters are copied to `Trajectory.kept`.

    Returns:
        The run. If the rule replays, `info` has `credit_horizon`: for each step, the number of steps over which the
            learning signal was read back. If J was carried, by steps or blocks, `metrics` has `carried_from`, the
            first step at which it was. If replays ended early at the oldest kept step, `metrics` has `replay_cut`,
            their number.
    """
    findings = Findings(schedule)
    loop = _Loop(learner, method, k, config, theta, stream, rngs, history_bytes, findings)
    started = time.perf_counter()
    steps = len(stream.inputs)
    at_once = FEW_UNITS_AT_ONCE if loop.n <= FEW_UNITS and loop.chosen is None else AT_ONCE
    code, t, kept = kernel.FINISHED, 0, None
    while t < steps and code == kernel.FINISHED:
        if t == keep_at:
            kept = loop.flat_theta()
        if loop.chosen is not None and loop.chosen.due(t, loop.rule.fisher_window):
            loop.choose_mask()
        stop = min(steps, (t // at_once + 1) * at_once)
        if t < loop.rule.fisher_window:
            stop = min(stop, loop.rule.fisher_window)
        if keep_at is not None and t < keep_at:
            stop = min(stop, keep_at)
        if schedule.any:
            stop = min(stop, schedule.next(t) + 1)
        code = loop.run(t, min(stop, loop.block_end()))
        t = int(loop.carried.counters[kernel.DONE])
        if schedule.any and code != kernel.DIVERGED:
            loop.probe(t - 1)
        if code == kernel.TOO_DEEP:
            code = kernel.FINISHED
            if t < steps:
                (loop.carry_on if loop.few_units else loop.begin_blocks)(t)
        elif t == loop.block_end() and t < steps:
            loop.next_block(t)
        progress(t / steps)
    diverged_at = t if code == kernel.DIVERGED else None
    return loop.trajectory(t, diverged_at, time.perf_counter() - started)._replace(kept=kept)


class _Loop:
    """The arguments of the compiled function during one run."""

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
        scalar: Any = dtype.type
        self.learner, self.n, self.findings = learner, n, findings
        form = propagation_of(method, k, n, RULES[method].settings(config))
        problem = not_fused(form, config.architecture, config.loss, config.optimizer)
        if form is None or problem:
            raise ValueError(problem)
        self.form = form
        parameters = learner.layout.split(theta)
        self.network = kernel.Network(
            CODES[config.architecture],
            scalar(config.leak or 1.0),
            architecture.shared_inputs,
            np.ascontiguousarray(architecture.pack(parameters)),
            parameters["V"].copy(),
            parameters["c"].copy(),
        )
        steps = len(stream.inputs)
        inputs, targets = stream.inputs.astype(dtype), stream.targets.astype(dtype)
        self.data = kernel.Data(inputs, targets, stream.graded, stream.begins)
        mask, self.chosen = self._first_mask(rngs)
        self.mask_list: list[Mask] = []
        gates, _, m = self.network.theta.shape
        components = architecture.components
        size = Size(n, self.form.k, components, gates, m)
        self.few_units = size.gathered_us < size.two_levels_us
        fits = size.influence * dtype.itemsize <= history_bytes
        self.dear_depth = dear_depth(size) if self.form.replays and fits else np.inf
        self.carried_from = 0 if self.form.carried else None
        self.rule = kernel.Rule(
            full=self.form.k == n,
            reach=self.form.window or steps,
            tol=config.tol or 0.0,
            max_depth=self.dear_depth,
            decay=scalar(-1.0 if self.form.decay is None else self.form.decay),
            self_loop=self.form.each_itself,
            dynamic=self.form.carried,
            include_self=self.form.include_self,
            fisher_window=config.fisher_window if self.chosen is not None and self.chosen.score == "fisher" else 0,
        )
        self.descent = kernel.Descent(
            CODES[config.loss],
            DIVERGED_ABOVE,
            config.clip,
            update.Optimizer(
                CODES[config.optimizer],
                config.learning_rate,
                config.beta1 or 0.0,
                config.beta2 or 0.0,
                config.epsilon or 0.0,
            ),
            update.groups_of(learner, config.normalize == "group"),
        )
        within = components if self.form.local else int(self.form.decay is not None)
        parts = self.network.theta, self.network.readout, self.network.bias
        self.carried = kernel.Carried(
            state=np.zeros((components, n), dtype),
            moments=tuple(np.zeros(part.size, dtype) for part in parts for _ in range(2)),
            counters=np.zeros(6, np.int64),
            mean_depth=np.zeros(1),
            trace=np.zeros((within, gates, n, m), dtype),
            influence=np.zeros((2 * self.form.carried, components, n, gates * n * m), dtype),
            past=np.zeros((0, gates * n * m), dtype),
            sources=np.ascontiguousarray(sources_of(mask)),
            fisher=np.zeros(n),
        )
        # an alignment probe and Fisher's sum read all weights of every step back, so all are kept
        probed = findings.schedule.alignment_every is not None
        gathered = not self.rule.full and not probed and not self.rule.fisher_window
        recurrent = gates if architecture.shared_inputs else gates - 1
        rows = 1 if architecture.shared_inputs else gates
        width = n * (self.form.k if gathered else n)
        numbers = components * (components + gates) * n + rows * m + recurrent * width
        starts = np.flatnonzero(stream.begins)
        longest = int(np.diff(starts, prepend=0, append=steps).max())  # a gradient is read back within its sequence
        ring = max(1, min(longest, history_bytes // (numbers * dtype.itemsize)))
        if (within or self.form.carried) and not findings.schedule.any:
            ring = 1
        elif self.form.window is not None and not probed:
            ring = min(ring, self.form.window)
        self.block_steps: int = min(ring, size.block)
        self.looks = self.blocks_left = 0
        self.two_levels, self.moved_to = False, 0  # `carried.past` is J of the step before `moved_to`
        self.rings = Rings(
            np.empty((ring, components, components, n), dtype),
            np.empty((ring, components, gates, n), dtype),
            np.empty((ring, rows, m), dtype),
            np.empty((ring, recurrent, width), dtype),
            np.zeros(ring, np.intp),
            gathered,
        )
        self._add_mask(mask)
        self.record = kernel.Record(
            np.empty(steps),
            np.empty(targets.shape),
            np.zeros(steps, np.int32),
            np.zeros(steps, np.float32),
            np.zeros(n, dtype),
            np.zeros_like(self.network.theta),
        )

    def _first_mask(self, rngs: Generators) -> tuple[Mask, Selection | None]:
        """Draw the first mask. Also returns the selection that chooses masks between calls of the kernel, or None."""
        form, n = self.form, self.n
        if form.selection is None:
            return np.eye(n, dtype=np.bool_) if form.include_self else np.full((n, n), form.k == n), None
        mask = draw_mask(form.selection, n, form.k, form.include_self, rngs.mask)
        selection = SELECTIONS[form.selection]
        return mask, selection if 0 < form.k < n and form.replays and selection.score is not None else None

    def choose_mask(self) -> None:
        """Choose a new mask by the present weights, or by the Fisher information summed so far."""
        if self.chosen is None:
            raise ValueError("this rule's mask is drawn once")
        weights = self.network.theta[: self.rings.weights.shape[1], :, : self.n]
        score = by_fisher(self.carried.fisher) if self.rule.fisher_window else by_weights(weights)
        self._add_mask(choose(score, self.form.k, self.form.include_self, self.chosen.largest))
        self.carried.counters[kernel.MASK] = len(self.mask_list) - 1
        self.carried = self.carried._replace(sources=np.ascontiguousarray(sources_of(self.mask_list[-1])))

    def _add_mask(self, mask: Mask) -> None:
        """Append a mask, and list all masks in the kernel's form."""
        self.mask_list.append(mask)
        listed = [np.zeros_like(mask)] if self.rule.full else self.mask_list
        # unsigned, as numba adds a test to each use of an index that might be negative
        self.masks = Masks(*(np.stack(part).astype(np.uint32) for part in zip(*map(readers_of, listed), strict=True)))

    def block_end(self) -> int:
        """Return the step before which the present block of two levels ends at the latest."""
        if not self.two_levels:
            return len(self.data.inputs)
        return int(self.carried.counters[kernel.BLOCK_START]) + self.block_steps

    def carry_on(self, t: int) -> None:
        """Carry J at every step from step t on, instead of reading gradients back."""
        influence = np.zeros((2, *self.carried.influence.shape[1:]), self.network.theta.dtype)
        influence[0] = self._influence_at(t - 1).reshape(influence.shape[1:])
        self.carried.counters[kernel.NEWEST] = 0
        self.carried = self.carried._replace(influence=influence)
        self.carried_from, self.rule = t, self.rule._replace(max_depth=np.inf)

    def begin_blocks(self, t: int) -> None:
        """From step t on, read gradients back to the start of a block only, and contract J there."""
        self.rule = self.rule._replace(max_depth=np.inf)
        if self.carried_from is None:
            self.carried_from = t
            past = np.zeros((self.carried.state.size, self.network.theta.size), self.network.theta.dtype)
            self.carried = self.carried._replace(past=past)
        self._move_to(t)
        self.two_levels = True
        self.looks += 1
        self.blocks_left = 2 * 2**self.looks  # ever rarer looks, as one may read back to the start

    def next_block(self, t: int) -> None:
        """Begin a block at step t, or read back alone again: if credit has become short, or to look how long it is."""
        counters = self.carried.counters
        first, start = int(counters[kernel.BLOCK_START]), int(counters[kernel.START])
        steps = np.arange(first + self.block_steps // 2, t)
        depths = self.record.depths[steps]
        steps, depths = steps[depths > 0], depths[depths > 0]
        self.blocks_left -= 1
        short = len(steps) > 0 and bool((depths <= steps - first).all())
        if (short or self.blocks_left <= 0) and t - start <= len(self.rings.mask):
            self.two_levels, self.rule = False, self.rule._replace(max_depth=self.dear_depth)
            # one long signal is then enough to begin blocks again
            self.carried.mean_depth[0] = depths.mean() if short else self.dear_depth
            counters[kernel.BLOCK_START] = start
        else:
            self._move_to(t)

    def _move_to(self, t: int) -> None:
        """Move J of two levels on to step t - 1, and begin a block at step t."""
        past, counters = self.carried.past, self.carried.counters
        start = int(counters[kernel.START])
        if self.moved_to <= start:
            past[...] = 0
            self.moved_to = start
        while self.moved_to < t:
            stop = min(t, self.moved_to + self.block_steps)
            move_on(past, self._block_back(stop - 1, self.moved_to))
            self.moved_to = stop
        counters[kernel.BLOCK_START] = t

    def run(self, begin: int, stop: int) -> int:
        """Do the steps begin <= t < stop by the kernel, and return its code: FINISHED, DIVERGED or TOO_DEEP."""
        tuples = self.network, self.data, self.rule, self.descent, self.carried, self.rings, self.masks, self.record
        code: int = kernel.run(begin, stop, *tuples)
        return code

    def flat(self, by_gates: Array, readout: Array, bias: Array) -> Array:
        """Join arrays in the kernel's form into the learner's flat vector (P,)."""
        named = self.learner.architecture.unpack(by_gates.reshape(self.network.theta.shape))
        return self.learner.layout.join(named | {"V": readout.reshape(self.network.readout.shape), "c": bias})

    def flat_theta(self) -> Array:
        """Copy all parameters into a flat vector (P,)."""
        return self.flat(self.network.theta, self.network.readout, self.network.bias)

    def probe(self, t: int) -> None:
        """Measure step t, the last completed one, if a measurement of it is due."""
        due = self.findings.schedule
        if due.spectrum(t):
            newest, _ = next(iter(self._steps_back(t)))
            self.findings.spectrum(t, self._influence_at(t), (newest,), read=1)
        if due.alignment(t):
            whole = ((stage,) for stage, _ in self._steps_back(t))
            unpack = self.learner.architecture.unpack
            graded = self.data.graded[t]  # else gradient and signal are those of an earlier step
            self.findings.alignment(t, self.record.gradient * graded, whole, self.record.signal[None] * graded, unpack)

    def _influence_at(self, t: int) -> Array:
        """Return J_t (C n, G n m): the carried one, or computed from the kept steps, with two levels from J_b."""
        if len(self.carried.influence):
            newest: Array = self.carried.influence[self.carried.counters[kernel.NEWEST]]
            return newest.reshape(self.carried.state.size, -1)
        first, start = (int(self.carried.counters[i]) for i in (kernel.BLOCK_START, kernel.START))
        if first == start:
            return influence_of(self._steps_back(t), len(self.network.theta))
        influence = self.carried.past.copy()
        move_on(influence, self._block_back(t, first))
        return influence

    def _block_back(self, t: int, first: int) -> Block:
        """Return the steps from t back to `first`."""
        return block_back(self.rings, self.mask_list, self.rule.full, t, first)

    def _steps_back(self, t: int) -> Iterator[tuple[Stage, Array | None]]:
        """Yield the kept steps and their masks (None: all connections), from t back to the first of its sequence."""
        first = max(int(self.carried.counters[kernel.START]), t - len(self.rings.mask) + 1)
        return steps_back(self.rings, self.mask_list, self.rule.full, t, first)

    def trajectory(self, done: int, diverged_at: int | None, seconds: float) -> Trajectory:
        """Return the record of the run up to step `done`."""
        info: dict[str, Array] = {}
        metrics: dict[str, float] = {}
        if self.form.replays:
            alone = done if self.carried_from is None else self.carried_from  # the first steps, of replay alone
            depths, remainders, t = self.record.depths[:done], self.record.remainders[:done], np.arange(done)
            info["credit_horizon"] = depths[:alone].astype(np.float64)
            begun = np.maximum.accumulate(np.where(self.data.begins[:done], t, 0))
            ring = len(self.rings.mask)
            cut = (depths == ring) & (t - begun + 1 > ring) & (remainders > 0)
            if cut.any():
                metrics["replay_cut"] = float(np.count_nonzero(cut))
        if self.carried_from is not None:
            metrics["carried_from"] = float(self.carried_from)
        return Trajectory(
            self.record.losses[:done].copy(),
            self.record.predictions[:done].copy(),
            info,
            metrics,
            diverged_at,
            seconds,
            self.flat_theta(),
            self.findings.arrays(),
        )


def dear_depth(size: Size) -> float:
    """Return the depth of replay above which two levels are cheaper, or carrying J from step to step.

    The costs are estimated by a formula, so that no result depends on timings.
    """
    return min(size.gathered_us, size.two_levels_us) / size.back_us
