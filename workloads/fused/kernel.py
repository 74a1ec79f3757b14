r"""The online loop of the masked-RTRL family as one compiled function: forward, adjoint replay, clip, optimiser.

The gradient that masked RTRL contracts out of its influence, read backwards over the kept trajectory with the
weights *of each time* (a_s = dL_t/ds_s, C components; M_s the mask in force at step s):

    a_t = q_t at the hidden component                                                                    (1)
    v_s[g] = sum_c gain_s[c, g] a_s[c];      G += v_s inputs_s^T                                         (2)
    a_{s-1}[c'] = sum_c own_s[c, c'] a_s[c];  a_{s-1}[h] += sum_g (M_s * W_s[g])^T v_s[g]                (3)
    until ||a_{s-1}|| < tol ||a_t||, or the trajectory's beginning

In exact arithmetic this is the G of the carried form, also while weights change; only the cut at `tol` is
left out. Depth times G n (m + k) operations a step instead of k C G n^2 m.

Everything is in one dtype. Parameters lie by gates, theta (G, n, m), and the readout V (n_out, n), c.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from workloads.arrays import Array, Indices
from workloads.fused.compile_cache import compiled
from workloads.fused.elementwise import GRU_RESET_AFTER, LSTM, gru_reset_after, lstm, tanh_rnn

FINISHED, DIVERGED, DEEP = 0, 1, 2
"""Why the loop ended: all steps done; a loss or gradient that is no number; replay has become the dearer form."""
MSE, HALF_SSE, CROSS_ENTROPY = 0, 1, 2
ADAM, ADAM_REFERENCE, SGD = 0, 1, 2
BLOCK = 32
"""Steps whose v are gathered before they are multiplied with their inputs, so that a row of G stays in cache."""
SMOOTHING = 0.05


@compiled
def accumulate(block: Array, slots: Indices, count: int, kept_inputs: Array, gradient: Array) -> None:
    """Equation (2) for up to BLOCK steps at once: gradient (G, n, m) += sum_d block[d] (outer) inputs[slot_d]."""
    gates, n, m = gradient.shape
    shared = kept_inputs.shape[1] == 1
    for gate in range(gates):
        row = 0 if shared else gate
        for i in range(n):
            target = gradient[gate, i]
            d = 0
            while d + 8 <= count:  # eight at once: the row of G is loaded and stored once for them
                v0, v1, v2, v3 = block[d, gate, i], block[d + 1, gate, i], block[d + 2, gate, i], block[d + 3, gate, i]
                v4, v5 = block[d + 4, gate, i], block[d + 5, gate, i]
                v6, v7 = block[d + 6, gate, i], block[d + 7, gate, i]
                x0, x1 = kept_inputs[slots[d], row], kept_inputs[slots[d + 1], row]
                x2, x3 = kept_inputs[slots[d + 2], row], kept_inputs[slots[d + 3], row]
                x4, x5 = kept_inputs[slots[d + 4], row], kept_inputs[slots[d + 5], row]
                x6, x7 = kept_inputs[slots[d + 6], row], kept_inputs[slots[d + 7], row]
                for j in range(m):
                    low = v0 * x0[j] + v1 * x1[j] + v2 * x2[j] + v3 * x3[j]
                    target[j] += low + (v4 * x4[j] + v5 * x5[j] + v6 * x6[j] + v7 * x7[j])
                d += 8
            while d < count:
                v0 = block[d, gate, i]
                x0 = kept_inputs[slots[d], row]
                for j in range(m):
                    target[j] += v0 * x0[j]
                d += 1


@compiled
def pull(v: Array, weights: Array, target: Array) -> None:
    """The sum of equation (3) over all sources: target (n,) += weights (n, n)^T v."""
    n = v.size
    i = 0
    while i + 8 <= n:  # eight rows at once: the target is loaded and stored once for them
        v0, v1, v2, v3 = v[i], v[i + 1], v[i + 2], v[i + 3]
        v4, v5, v6, v7 = v[i + 4], v[i + 5], v[i + 6], v[i + 7]
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        w4, w5, w6, w7 = weights[i + 4], weights[i + 5], weights[i + 6], weights[i + 7]
        for j in range(n):
            low = v0 * w0[j] + v1 * w1[j] + v2 * w2[j] + v3 * w3[j]
            target[j] += low + (v4 * w4[j] + v5 * w5[j] + v6 * w6[j] + v7 * w7[j])
        i += 8
    while i < n:
        for j in range(n):
            target[j] += v[i] * weights[i, j]
        i += 1


@compiled
def replay(
    signal: Array,
    t: int,
    start: int,
    reach: int,
    tol: float,
    kept_own: Array,
    kept_gain: Array,
    kept_inputs: Array,
    kept_weights: Array,
    kept_mask: Indices,
    masks: Indices,
    gathered: bool,
    adjoint: Array,
    before: Array,
    block: Array,
    slots: Indices,
    gradient: Array,
) -> tuple[int, float]:
    """Equations (1) to (3) from step t back to `start`; the depth, and what of the signal was left at its end.

    Kept arrays are rings over steps: own (R, C, C, n), gain (R, C, G, n), inputs (R, 1 or G, m), weights (R,
    Gr, n, k or n), the number of the mask in force (R,). Masks (number, n, k) list sources; k = n reads all.
    """
    ring, components, gates, n = kept_gain.shape
    recurrent, k = kept_weights.shape[1], masks.shape[2]
    gradient[...] = 0
    adjoint[...] = 0
    adjoint[components - 1] = signal
    first = 0.0
    for i in range(n):
        first += signal[i] * signal[i]
    limit = tol * tol * first
    left = first
    depth, count = 0, 0
    if first == 0.0:
        return 0, 0.0
    oldest = max(start, t - min(ring, reach) + 1)
    s = t
    while True:
        slot = s % ring
        own, gain = kept_own[slot], kept_gain[slot]
        v = block[count]
        slots[count] = slot
        for gate in range(gates):
            for i in range(n):
                v[gate, i] = gain[components - 1, gate, i] * adjoint[components - 1, i]
            for c in range(components - 1):
                for i in range(n):
                    v[gate, i] += gain[c, gate, i] * adjoint[c, i]
        count += 1
        depth += 1
        if count == BLOCK:
            accumulate(block, slots, count, kept_inputs, gradient)
            count = 0
        if s == oldest:
            break
        for c in range(components):
            for i in range(n):
                before[c, i] = own[0, c, i] * adjoint[0, i]
            for other in range(1, components):
                for i in range(n):
                    before[c, i] += own[other, c, i] * adjoint[other, i]
        last = before[components - 1]
        if k == n:
            for gate in range(recurrent):
                pull(v[gate], kept_weights[slot, gate], last)
        elif k > 0:
            sources = masks[kept_mask[slot]]
            for gate in range(recurrent):
                for i in range(n):
                    scale = v[gate, i]
                    weights = kept_weights[slot, gate, i]
                    for j in range(k):
                        source = sources[i, j]
                        last[source] += scale * weights[j if gathered else source]
        left = 0.0
        for c in range(components):
            for i in range(n):
                left += before[c, i] * before[c, i]
                adjoint[c, i] = before[c, i]
        if left == 0.0 or left < limit:
            break
        s -= 1
    accumulate(block, slots, count, kept_inputs, gradient)
    return depth, math.sqrt(left / first)


@compiled
def carry(
    trace: Array, decay: float, own: Array, gain: Array, inputs: Array, theta: Array, recurrent: int, loops: bool
) -> None:
    """What is carried within units, one step on, in place.

    A decaying trace (1, G, n, m), see `rules.traces`; or the local influence S (C, G, n, m), C <= 2, see
    `local_influence`, over own paths and, with `loops`, over each unit's recurrent connection to itself.
    """
    components, gates, n, m = trace.shape
    last = gain.shape[0] - 1
    shared = inputs.shape[0] == 1
    path = np.empty((components, components), trace.dtype)
    for i in range(n):
        if components == gain.shape[0] and decay < 0:
            for c in range(components):
                for other in range(components):
                    path[c, other] = own[c, other, i]
                if loops:
                    for gate in range(recurrent):
                        path[c, last] += gain[c, gate, i] * theta[gate, i, i]
        else:
            path[0, 0] = decay
        for gate in range(gates):
            row = inputs[0 if shared else gate]
            if components == 2:
                first, second = trace[0, gate, i], trace[1, gate, i]
                add_first, add_second = gain[0, gate, i], gain[1, gate, i]
                for j in range(m):
                    before = first[j]
                    first[j] = path[0, 0] * before + path[0, 1] * second[j] + add_first * row[j]
                    second[j] = path[1, 0] * before + path[1, 1] * second[j] + add_second * row[j]
            else:
                only = trace[0, gate, i]
                add = gain[last, gate, i]
                for j in range(m):
                    only[j] = path[0, 0] * only[j] + add * row[j]


@compiled
def update(
    parameters: Array, gradient: Array, first: Array, second: Array, scale: Array, kind: int, numbers: Array
) -> None:
    """One optimiser's step in place on flat arrays; `numbers` as `optimizer_numbers` gives them."""
    rate, _, add1, keep2, add2, correction, epsilon = numbers
    factor = scale[0]
    if kind == SGD:
        for i in range(parameters.size):
            parameters[i] -= rate * (factor * gradient[i])
        return
    for i in range(parameters.size):
        g = factor * gradient[i]
        first[i] += add1 * (g - first[i])
        second[i] = keep2 * second[i] + add2 * (g * g)
        parameters[i] -= rate * (first[i] / (np.sqrt(second[i]) * correction + epsilon))


@compiled
def optimizer_numbers(kind: int, t: int, hyper: npt.NDArray[np.float64], numbers: Array) -> None:
    """What step t (from 1) of the optimiser multiplies with, rounded to the run's dtype.

    Args:
        kind: ADAM, ADAM_REFERENCE or SGD.
        t: updates made, this one included.
        hyper: learning rate, beta1, beta2, epsilon.
        numbers: is filled.
    """
    rate, beta1, beta2, epsilon = hyper
    correction = 1.0
    if kind == ADAM:
        correction = 1.0 / math.sqrt(1.0 - beta2**t)
        rate = rate / (1.0 - beta1**t)
    elif kind == ADAM_REFERENCE:
        rate = rate * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    numbers[0] = rate
    numbers[1] = beta1
    numbers[2] = 1.0 - beta1
    numbers[3] = beta2
    numbers[4] = 1.0 - beta2
    numbers[5] = correction
    numbers[6] = epsilon


@compiled
def loss_and_error(kind: int, prediction: Array, target: Array, error: Array) -> float:
    """The loss; `error` = dL/dz is filled."""
    size = prediction.size
    total = 0.0
    if kind == CROSS_ENTROPY:
        top = prediction[0]
        for o in range(size):
            top = max(top, prediction[o])
        norm = 0.0
        weight = 0.0
        for o in range(size):
            error[o] = math.exp(prediction[o] - top)
            norm += error[o]
            weight += target[o]
        for o in range(size):
            total -= target[o] * (prediction[o] - top - math.log(norm))
            error[o] = weight * error[o] / norm - target[o]
        return total
    for o in range(size):
        difference = prediction[o] - target[o]
        total += difference * difference
        error[o] = difference * 2 / size if kind == MSE else difference
    return total / size if kind == MSE else 0.5 * total


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
    kept_own: Array,
    kept_gain: Array,
    kept_inputs: Array,
    kept_weights: Array,
    kept_mask: Indices,
    masks: Indices,
    gathered: bool,
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
        counters: (4,) updates made, first step of the sequence, mask in force, steps done.
        smooth: (1,) running mean of the depth.
        trace: (1 or C, G, n, m) of what is carried within units, or empty: then the gradient is replayed.
        kept_own: (R, C, C, n), a ring over steps as the others of its kind, see `replay`.
        kept_gain: (R, C, G, n).
        kept_inputs: (R, 1 or G, m).
        kept_weights: (R, Gr, n, k) if gathered, else (R, Gr, n, n).
        kept_mask: (R,).
        masks: (number, n, k).
        gathered: see kept_weights.
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
    ring = kept_gain.shape[0]
    recurrent, k = kept_weights.shape[1], masks.shape[2]
    unit = leak[0]
    zero = unit - unit
    pre = np.empty((gates, n), theta.dtype)
    after = np.empty_like(state)
    adjoint, earlier = np.empty_like(state), np.empty_like(state)
    block = np.empty((BLOCK, gates, n), theta.dtype)
    slots = np.empty(BLOCK, np.intp)
    readout_gradient = np.empty_like(readout)
    error, prediction = np.empty_like(bias), np.empty_like(bias)
    numbers = np.empty(7, theta.dtype)
    scale = np.ones(1, theta.dtype)
    for t in range(begin, stop):
        if begins[t]:
            state[...] = 0
            trace[...] = 0
            counters[1] = t
        slot = t % ring
        # forward
        seen = kept_inputs[slot]
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
            lstm(pre, state, unit, after, kept_own[slot], kept_gain[slot])
        elif architecture == GRU_RESET_AFTER:
            gru_reset_after(pre, state, unit, after, kept_own[slot], kept_gain[slot])
        else:
            tanh_rnn(pre, state, unit, after, kept_own[slot], kept_gain[slot])
        state[...] = after
        kept_mask[slot] = counters[2]
        if gathered:
            sources = masks[counters[2]]
            for gate in range(recurrent):
                for i in range(n):
                    for j in range(k):
                        kept_weights[slot, gate, i, j] = theta[gate, i, sources[i, j]]
        else:
            for gate in range(recurrent):
                for i in range(n):
                    for j in range(n):
                        kept_weights[slot, gate, i, j] = theta[gate, i, j]
        if trace.size:
            carry(trace, decay[0], kept_own[slot], kept_gain[slot], seen, theta, recurrent, loops)
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
        else:
            depth, rest = replay(
                signal, t, counters[1], reach, tol, kept_own, kept_gain, kept_inputs, kept_weights, kept_mask, masks,
                gathered, adjoint, earlier, block, slots, gradient,
            )  # fmt: skip
        depths[t] = depth
        remainders[t] = rest
        smooth[0] += SMOOTHING * (depth - smooth[0])
        # clip
        squares = 0.0
        flat = gradient.reshape(-1)
        for i in range(flat.size):
            squares += flat[i] * flat[i]
        flat_readout = readout_gradient.reshape(-1)
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
        if smooth[0] > deep and t - counters[1] + 1 <= ring:
            return DEEP
    return FINISHED
