"""The online loop of the masked-RTRL family as one compiled function: forward, gradient, clip, optimiser.

A gradient is read back over the kept trajectory (`replay`) or contracted out of an influence that is carried
(`carry`). Everything is in one dtype. Parameters lie by gates, theta (G, n, m), and the readout V (n_out, n), c.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from raysweep.workloads.arrays import Array, Indices
from raysweep.workloads.rnn.fused.carry import carry, carry_gathered, choose_by_influence, contract
from raysweep.workloads.rnn.fused.compile_cache import compiled
from raysweep.workloads.rnn.fused.elementwise import GRU_RESET_AFTER, LSTM, gru_reset_after, lstm, tanh_rnn
from raysweep.workloads.rnn.fused.replay import BLOCK, Masks, Rings, replay
from raysweep.workloads.rnn.fused.update import loss_and_error, optimizer_numbers, update

FINISHED, DIVERGED, DEEP = 0, 1, 2
"""Why the loop ended: all steps done; a loss or gradient that is no number; replay has become the dearer form."""
SMOOTHING = 0.05


@compiled
def run(
    begin: int,
    stop: int,
    architecture: int,
    loss_kind: int,
    optimizer: int,
    decay: Array,
    loops: bool,
    leak: Array,
    reach: int,
    tol: float,
    clip: float,
    bound: float,
    deep: float,
    hyper: npt.NDArray[np.float64],
    inputs: Array,
    targets: Array,
    graded: npt.NDArray[np.bool_],
    begins: npt.NDArray[np.bool_],
    shared: bool,
    theta: Array,
    readout: Array,
    bias: Array,
    moments: tuple[Array, ...],
    state: Array,
    counters: npt.NDArray[np.int64],
    smooth: npt.NDArray[np.float64],
    trace: Array,
    influence: Array,
    sources: Indices,
    dynamic: bool,
    include_self: bool,
    fisher: npt.NDArray[np.float64],
    fisher_window: int,
    rings: Rings,
    masks: Masks,
    gathered: bool,
    full: bool,
    losses: npt.NDArray[np.float64],
    predictions: npt.NDArray[np.float64],
    depths: npt.NDArray[np.int32],
    remainders: npt.NDArray[np.float32],
    signal: Array,
    gradient: Array,
) -> int:
    """Steps begin <= t < stop; everything that changes is changed in place.

    Args:
        begin: first step.
        stop: step after the last.
        architecture: TANH_RNN, LSTM or GRU_RESET_AFTER.
        loss_kind: MSE, HALF_SSE or CROSS_ENTROPY.
        optimizer: ADAM, ADAM_REFERENCE or SGD.
        decay: (1,) of a carried trace; below 0: the local influence is carried, over own paths.
        loops: and over each unit's connection to itself.
        leak: (1,) alpha of the tanh RNN, 1 otherwise.
        reach: steps that a replay goes back at most: BPTT's window.
        tol: where replay stops.
        clip: greatest global norm of the gradient; 0: no clip.
        bound: a loss above it ends the run.
        deep: mean depth above which the carried form is cheaper, while the trajectory is whole.
        hyper: of the optimiser.
        inputs: (T, n_in).
        targets: (T, n_out).
        graded: (T,) steps whose loss counts and that learn.
        begins: (T,) steps before which state and influence are set to zero.
        shared: whether all gates see [h; x; 1]; else the reset-after GRU's [h; x; 1], [h; 0; 1], [0; x; 1].
        theta: (G, n, m).
        readout: V (n_out, n).
        bias: c (n_out,).
        moments: first and second, flat, of each of the three.
        state: (C, n).
        counters: (5,) updates made, first step of the sequence, mask in force, steps done, which of `influence`.
        smooth: (1,) running mean of the depth.
        trace: (1 or C, G, n, m) of what is carried within units, or empty: then the gradient is replayed.
        influence: (2, C, n, G n m), J and room for the next, if it is carried along a mask; else empty.
        sources: S_i (n, k) of the mask in force, for that.
        dynamic: whether they are chosen again at every step.
        include_self: whether a unit is then one of its own.
        fisher: (n,) sum over steps of a unit's squared exact gradient.
        fisher_window: steps that add to it; 0: none does.
        rings: the trajectory, as far as it is kept.
        masks: all so far.
        gathered: how weights lie, see `Rings`.
        full: whether all connections are propagated along.
        losses: (T,) result.
        predictions: (T, n_out) result.
        depths: (T,) result, steps that the learning signal was read back over.
        remainders: (T,) result, the part of its norm that was left there.
        signal: (n,) of the last graded step.
        gradient: (G, n, m) of the last graded step, before the clip.
    """
    gates, n, m = theta.shape
    components = state.shape[0]
    n_in, n_out = inputs.shape[1], targets.shape[1]
    ring = rings.gain.shape[0]
    recurrent = rings.weights.shape[1]
    unit = leak[0]
    zero = unit - unit
    pre = np.empty((gates, n), theta.dtype)
    after = np.empty_like(state)
    adjoint, earlier = np.empty_like(state), np.empty_like(state)
    block = np.empty((BLOCK, gates, n), theta.dtype)
    slots = np.empty(BLOCK, np.intp)
    readout_gradient = np.empty_like(readout)
    exact = np.empty_like(theta if fisher_window else theta[:0])
    error, prediction = np.empty_like(bias), np.empty_like(bias)
    numbers = np.empty(7, theta.dtype)
    scale = np.ones(1, theta.dtype)
    for t in range(begin, stop):
        if begins[t]:
            state[...] = 0
            trace[...] = 0
            influence[...] = 0
            counters[1] = t
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
        if architecture == LSTM:
            lstm(pre, state, unit, after, own, gain)
        elif architecture == GRU_RESET_AFTER:
            gru_reset_after(pre, state, unit, after, own, gain)
        else:
            tanh_rnn(pre, state, unit, after, own, gain)
        state[...] = after
        rings.mask[slot] = counters[2]
        if gathered:
            opens, reader = masks.starts[counters[2]], masks.readers[counters[2]]
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
            carry(trace, decay[0], own, gain, seen, theta, recurrent, loops)
        if influence.size:
            now, following = influence[counters[4]], influence[1 - counters[4]]
            if dynamic:
                choose_by_influence(now, theta, recurrent, include_self, sources)
            carry_gathered(now, following, own, gain, seen, theta, sources, recurrent)
            counters[4] = 1 - counters[4]
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
            counters[3] = t + 1
            continue
        loss = loss_and_error(loss_kind, prediction, targets[t], error)
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
            carried = trace[trace.shape[0] - 1]
            for gate in range(gates):
                for i in range(n):
                    for j in range(m):
                        gradient[gate, i, j] = signal[i] * carried[gate, i, j]
        elif influence.size:
            depth, rest = t - counters[1] + 1, 0.0
            contract(influence[counters[4]], signal, gradient)
        else:
            depth, rest = replay(
                signal, t, counters[1], reach, tol, rings, masks, gathered, full, adjoint, earlier, block, slots,
                gradient,
            )  # fmt: skip
        if t < fisher_window:
            replay(
                signal, t, counters[1], t + 1, tol, rings, masks, gathered, True, adjoint, earlier, block, slots, exact
            )
            for gate in range(gates):
                for i in range(n):
                    for j in range(m):
                        fisher[i] += exact[gate, i, j] * exact[gate, i, j]
        depths[t] = depth
        remainders[t] = rest
        smooth[0] += SMOOTHING * (depth - smooth[0])
        # clip
        squares = 0.0
        flat, flat_readout = gradient.reshape(-1), readout_gradient.reshape(-1)
        for row in range(gates * n):  # a row's sum in the run's dtype, theirs in float64
            total = zero
            for j in range(row * m, row * m + m):
                total += flat[j] * flat[j]
            squares += total
        for i in range(flat_readout.size):
            squares += flat_readout[i] * flat_readout[i]
        for o in range(n_out):
            squares += error[o] * error[o]
        norm = math.sqrt(squares)
        if not (loss <= bound) or not math.isfinite(norm):
            return DIVERGED
        counters[3] = t + 1
        scale[0] = 1
        if clip > 0 and clip < norm + 1e-6:
            scale[0] = clip / (norm + 1e-6)
        # update
        counters[0] += 1
        optimizer_numbers(optimizer, counters[0], hyper, numbers)
        update(theta.reshape(-1), flat, moments[0], moments[1], scale, optimizer, numbers)
        update(readout.reshape(-1), flat_readout, moments[2], moments[3], scale, optimizer, numbers)
        update(bias, error, moments[4], moments[5], scale, optimizer, numbers)
        if smooth[0] > deep and t >= fisher_window and t - counters[1] + 1 <= ring:
            return DEEP
    return FINISHED
