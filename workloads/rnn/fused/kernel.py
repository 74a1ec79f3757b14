"""The online loop of the masked-RTRL family as one compiled function: forward pass, gradient, clip, optimiser.

The gradient is read back over the kept steps (`replay`), perhaps to an earlier J with which it is then contracted
(`history`), or it is contracted from an influence that is carried from step to step (`carry`). All numbers have one
dtype. Shapes: T steps, n hidden units of C components, G gates with m inputs each.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.workloads.arrays import Array, Indices, Mask
from raysweep.workloads.rnn.fused.carry import add_contracted, carry, carry_gathered, choose_by_influence, contract
from raysweep.workloads.rnn.fused.compile_cache import compiled
from raysweep.workloads.rnn.fused.elementwise import GRU_RESET_AFTER, LSTM, gru_reset_after, lstm, tanh_rnn
from raysweep.workloads.rnn.fused.replay import BLOCK, Masks, Rings, Scratch, replay
from raysweep.workloads.rnn.fused.update import Groups, Optimizer, loss_and_error, optimizer_numbers, update

FINISHED, DIVERGED, TOO_DEEP = 0, 1, 2
"""Return codes of `run`.

FINISHED: all steps are done. DIVERGED: a loss is too large, or a loss or gradient is not finite. TOO_DEEP:
replay costs more than two levels do.
"""
SMOOTHING = 0.05
UPDATES, START, MASK, DONE, NEWEST, BLOCK_START = 0, 1, 2, 3, 4, 5
"""Indices into `Carried.counters`.

UPDATES: updates so far. START: first step of the sequence. MASK: number of the current mask. DONE: steps done.
NEWEST: the half of `Carried.influence` that holds J. BLOCK_START: first step of the block, of two levels.
"""


class Network(NamedTuple):
    """The network of the compiled loop. Its parameters are changed in place."""

    architecture: int  # TANH_RNN, LSTM or GRU_RESET_AFTER
    leak: float  # alpha of the tanh RNN, else 1; in the run's dtype
    shared_inputs: bool  # all gates read [h; x; 1]; else gates r and z read that, s [h; 0; 1] and u [0; x; 1]
    theta: Array  # (G, n, m)
    readout: Array  # V (n_out, n)
    bias: Array  # c (n_out,)


class Data(NamedTuple):
    """The stream, with inputs and targets in the run's dtype."""

    inputs: Array  # (T, n_in)
    targets: Array  # (T, n_out)
    graded: Mask  # (T,) steps whose loss counts and that learn
    begins: Mask  # (T,) steps before which state and influence are set to zero


class Rule(NamedTuple):
    """The part of the compiled loop's settings that determines how the gradient is computed."""

    full: bool  # influence passes along all connections, whatever the mask
    reach: int  # steps that replay goes back at most: BPTT's window
    tol: float  # replay ends where the signal's norm has shrunk to this fraction
    max_depth: float  # mean depth of replay above which two levels are cheaper
    decay: float  # of a carried trace; below 0: the local influence is carried; in the run's dtype
    self_loop: bool  # the local influence also passes through each unit's connection to itself
    dynamic: bool  # the mask is chosen by J, at every step
    include_self: bool  # such a mask keeps each unit's connection to itself
    fisher_window: int  # number of first steps over which `Carried.fisher` is summed


class Descent(NamedTuple):
    """The settings by which a prediction's error becomes an update: loss, clip and optimiser."""

    loss: int  # MSE, HALF_SSE or CROSS_ENTROPY
    max_loss: float  # a loss above it ends the run
    clip: float  # greatest global norm of the gradient; 0: no clip
    optimizer: Optimizer
    groups: tuple[Groups, Groups, Groups]  # of theta, readout and bias


class Carried(NamedTuple):
    """The state that passes from one step to the next, changed in place.

    `trace` is empty if it is not used, and so are `influence` and `past`.
    """

    state: Array  # (C, n)
    moments: tuple[Array, ...]  # first and second of theta, readout and bias in turn, flat
    counters: npt.NDArray[np.int64]  # (6,)
    mean_depth: npt.NDArray[np.float64]  # (1,) running mean of the depth of replay
    trace: Array  # (1, G, n, m) decaying trace, or (C, G, n, m) local influence
    influence: Array  # (2, C, n, G n m) J and room for the next J
    past: Array  # (C n, G n m) J of the last step before the block; not read in a sequence's first block
    sources: Indices  # (n, k) S_i of the mask in force
    fisher: npt.NDArray[np.float64]  # (n,) sum over steps of each unit's squared exact gradient


class Record(NamedTuple):
    """The recorded values of a run. Losses, depths and remainders are 0 at steps that are not graded."""

    losses: npt.NDArray[np.float64]  # (T,)
    predictions: npt.NDArray[np.float64]  # (T, n_out)
    depths: npt.NDArray[np.int32]  # (T,) steps over which the learning signal was read back
    remainders: npt.NDArray[np.float32]  # (T,) fraction of the signal's norm that was left there
    signal: Array  # (n,) learning signal of the last graded step
    gradient: Array  # (G, n, m) of the last graded step, before the clip


@compiled
def run(
    begin: int,
    stop: int,
    network: Network,
    data: Data,
    rule: Rule,
    descent: Descent,
    carried: Carried,
    rings: Rings,
    masks: Masks,
    record: Record,
) -> int:
    """Do the steps begin <= t < stop, and return FINISHED, DIVERGED or TOO_DEEP. `masks` holds all masks so far."""
    theta, readout, bias = network.theta, network.readout, network.bias
    inputs, targets, graded, begins = data
    state, moments, counters, mean_depth, trace, influence, past, sources, fisher = carried
    losses, predictions, depths, remainders, signal, gradient = record
    shared, fisher_window = network.shared_inputs, rule.fisher_window
    gates, n, m = theta.shape
    components = state.shape[0]
    n_in, n_out = inputs.shape[1], targets.shape[1]
    ring = rings.gain.shape[0]
    recurrent = rings.weights.shape[1]
    leak = network.leak
    zero = leak - leak
    pre = np.empty((gates, n), theta.dtype)
    after = np.empty_like(state)
    block = np.empty((BLOCK, gates, n), theta.dtype)
    scratch = Scratch(np.empty_like(state), np.empty_like(state), block, np.empty(BLOCK, np.intp))
    readout_gradient = np.empty_like(readout)
    exact = np.empty((gates if fisher_window else 0, n, m), theta.dtype)
    error, prediction = np.empty_like(bias), np.empty_like(bias)
    numbers = np.empty(7, theta.dtype)
    scale = np.ones(1, theta.dtype)
    for t in range(begin, stop):
        if begins[t]:
            state[...] = 0
            trace[...] = 0
            influence[...] = 0
            counters[START] = counters[BLOCK_START] = t
        slot = t % ring
        # forward
        own, gain, seen = rings.own[slot], rings.gain[slot], rings.inputs[slot]
        for row in range(seen.shape[0]):
            for j in range(n):
                seen[row, j] = state[components - 1, j]
            for j in range(n_in):
                seen[row, n + j] = inputs[t, j]
            seen[row, m - 1] = 1
        if not shared:
            seen[2, n : n + n_in] = 0
            seen[3, :n] = 0
        for gate in range(gates):
            row = seen[0 if shared else gate]
            for i in range(n):
                total = zero
                weights = theta[gate, i]
                for j in range(m):
                    total += weights[j] * row[j]
                pre[gate, i] = total
        if network.architecture == LSTM:
            lstm(pre, state, leak, after, own, gain)
        elif network.architecture == GRU_RESET_AFTER:
            gru_reset_after(pre, state, leak, after, own, gain)
        else:
            tanh_rnn(pre, state, leak, after, own, gain)
        for c in range(components):  # assigning arrays would compile numba's messages on shapes, for seconds
            for i in range(n):
                state[c, i] = after[c, i]
        rings.mask[slot] = counters[MASK]
        if rings.gathered:
            opens, reader = masks.starts[counters[MASK]], masks.readers[counters[MASK]]
            for gate in range(recurrent):
                kept = rings.weights[slot, gate]
                for j in range(n):
                    for e in range(np.intp(opens[j]), np.intp(opens[j + 1])):
                        kept[e] = theta[gate, reader[e], j]
        else:
            for gate in range(recurrent):
                for i in range(n):
                    kept = rings.weights[slot, gate, i * n : i * n + n]
                    for j in range(n):
                        kept[j] = theta[gate, i, j]
        if trace.size:
            carry(trace, rule.decay, own, gain, seen, theta, recurrent, rule.self_loop)
        if influence.size:
            now, following = influence[counters[NEWEST]], influence[1 - counters[NEWEST]]
            if rule.dynamic:
                choose_by_influence(now, theta, recurrent, rule.include_self, sources)
            carry_gathered(now, following, own, gain, seen, theta, sources, recurrent)
            counters[NEWEST] = 1 - counters[NEWEST]
        hidden = state[components - 1]
        for o in range(n_out):
            total = bias[o]
            for i in range(n):
                total += readout[o, i] * hidden[i]
            prediction[o] = total
            predictions[t, o] = total
        if not graded[t]:
            losses[t] = 0.0
            depths[t] = 0
            remainders[t] = 0
            counters[DONE] = t + 1
            continue
        loss = loss_and_error(descent.loss, prediction, targets[t], error)
        losses[t] = loss
        # learning signal and gradients
        for i in range(n):
            signal[i] = 0
        for o in range(n_out):
            for i in range(n):
                signal[i] += error[o] * readout[o, i]
                readout_gradient[o, i] = error[o] * hidden[i]
        if trace.size:
            depth, rest = 1, 0.0
            hidden_trace = trace[trace.shape[0] - 1]
            for gate in range(gates):
                for i in range(n):
                    for j in range(m):
                        gradient[gate, i, j] = signal[i] * hidden_trace[gate, i, j]
        elif influence.size:
            depth, rest = t - counters[START] + 1, 0.0
            contract(influence[counters[NEWEST]], signal, gradient)
        else:
            oldest = max(counters[BLOCK_START], t - rule.reach + 1)
            beyond = counters[BLOCK_START] > counters[START]
            depth, rest, beyond = replay(
                signal, t, oldest, rule.tol, rings, masks, rule.full, beyond, scratch, gradient
            )
            if beyond:
                depth, rest = t - counters[START] + 1, 0.0
                add_contracted(past, scratch.adjoint, gradient)
        early = t < fisher_window
        if early:  # `early` in place of constants, for which numba would compile a second replay
            replay(signal, t, counters[START], rule.tol, rings, masks, early, not early, scratch, exact)
            for gate in range(gates):
                for i in range(n):
                    for j in range(m):
                        fisher[i] += exact[gate, i, j] * exact[gate, i, j]
        depths[t] = depth
        remainders[t] = rest
        mean_depth[0] += SMOOTHING * (depth - mean_depth[0])
        # clip
        squares = 0.0
        flat, flat_readout = gradient.reshape(-1), readout_gradient.reshape(-1)
        for gate in range(gates):
            for i in range(n):  # a row is summed in the run's dtype, the rows in float64
                total, of_unit = zero, gradient[gate, i]
                for j in range(m):
                    total += of_unit[j] * of_unit[j]
                squares += total
        for i in range(flat_readout.size):
            squares += flat_readout[i] * flat_readout[i]
        for o in range(n_out):
            squares += error[o] * error[o]
        norm = math.sqrt(squares)
        if not (loss <= descent.max_loss) or not math.isfinite(norm):
            return DIVERGED
        counters[DONE] = t + 1
        scale[0] = 1
        if descent.clip > 0 and descent.clip < norm + 1e-6:
            scale[0] = descent.clip / (norm + 1e-6)
        # update
        counters[UPDATES] += 1
        optimizer_numbers(descent.optimizer, counters[UPDATES], numbers)
        kind, groups = descent.optimizer.kind, descent.groups
        update(theta.reshape(-1), flat, moments[0], moments[1], scale, kind, numbers, groups[0])
        update(readout.reshape(-1), flat_readout, moments[2], moments[3], scale, kind, numbers, groups[1])
        update(bias, error, moments[4], moments[5], scale, kind, numbers, groups[2])
        if mean_depth[0] > rule.max_depth and t >= fisher_window and t - counters[START] + 1 <= ring:
            return TOO_DEEP
    return FINISHED
