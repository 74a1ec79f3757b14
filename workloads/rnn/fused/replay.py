r"""Replay: the gradient of masked RTRL, computed by reading back over the kept steps instead of carrying J.

It uses the weights *of each step*. a_s = dL_t/ds_s has C components; M_s is the mask in force at step s:

    a_t = q_t at the hidden component                                                                    (1)
    v_s[g] = sum_c gain_s[c, g] a_s[c];      G += v_s inputs_s^T                                         (2)
    a_{s-1}[c'] = sum_c own_s[c, c'] a_s[c];  a_{s-1}[h] += sum_g (M_s * W_s[g])^T v_s[g]                (3)
    until ||a_{s-1}|| < tol ||a_t||, or the trajectory's beginning

In exact arithmetic, G equals the gradient from a carried J, even while weights change, except for the part cut off at
`tol`. The gradient of a step takes G n (m + k) operations for each step that is read back. Carrying J would take
k C G n^2 m operations a step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.workloads.arrays import Array, Indices
from raysweep.workloads.rnn.fused.compile_cache import compiled_part


class Rings(NamedTuple):
    """Ring buffers of the last R steps; step t is at index t % R.

    Only the first Gr of the G gates read the hidden state. `weights` holds the recurrent weights of these gates.
    """

    own: Array  # (R, C, C, n)
    gain: Array  # (R, C, G, n)
    inputs: Array  # (R, 1 or G, m)
    weights: Array  # (R, Gr, n k) if gathered, in the order of the mask's readers; else (R, Gr, n^2), by rows
    mask: Indices  # (R,) number of the mask in force
    gathered: bool  # only the weights on the mask are kept


class Masks(NamedTuple):
    """N masks, each stored as the units that read each source, in the order of the sources (see `masks.readers_of`)."""

    starts: npt.NDArray[np.uint32]  # (N, n + 1)
    readers: npt.NDArray[np.uint32]  # (N, n k)


class Scratch(NamedTuple):
    """Buffers that a replay overwrites. Their content before and after has no meaning."""

    adjoint: Array  # (C, n)
    before: Array  # (C, n)
    block: Array  # (BLOCK, G, n)
    slots: Indices  # (BLOCK,)


BLOCK = 32
"""Number of steps whose v_s are collected and then added to G together, so that a row of G stays in cache."""


@compiled_part
def accumulate(block: Array, slots: Indices, count: int, kept_inputs: Array, gradient: Array) -> None:
    """Apply equation (2) to up to BLOCK steps at once: gradient (G, n, m) += sum_d block[d] (outer) inputs[slot_d].

    Four steps and four units at once, so that four inputs are loaded for sixteen products. Room in `block` and `slots`
    behind `count` is overwritten.
    """
    gates, n, m = gradient.shape
    shared = kept_inputs.shape[1] == 1
    whole = count
    while whole % 4:
        block[whole] = 0
        slots[whole] = slots[0]
        whole += 1
    for gate in range(gates):
        row = 0 if shared else gate
        for d in range(0, whole, 4):
            x0, x1 = kept_inputs[slots[d], row], kept_inputs[slots[d + 1], row]
            x2, x3 = kept_inputs[slots[d + 2], row], kept_inputs[slots[d + 3], row]
            v0, v1, v2, v3 = block[d, gate], block[d + 1, gate], block[d + 2, gate], block[d + 3, gate]
            i = 0
            while i + 4 <= n:
                g0, g1, g2, g3 = gradient[gate, i], gradient[gate, i + 1], gradient[gate, i + 2], gradient[gate, i + 3]
                a0, a1, a2, a3 = v0[i], v1[i], v2[i], v3[i]
                b0, b1, b2, b3 = v0[i + 1], v1[i + 1], v2[i + 1], v3[i + 1]
                c0, c1, c2, c3 = v0[i + 2], v1[i + 2], v2[i + 2], v3[i + 2]
                d0, d1, d2, d3 = v0[i + 3], v1[i + 3], v2[i + 3], v3[i + 3]
                for j in range(m):
                    g0[j] += (a0 * x0[j] + a1 * x1[j]) + (a2 * x2[j] + a3 * x3[j])
                    g1[j] += (b0 * x0[j] + b1 * x1[j]) + (b2 * x2[j] + b3 * x3[j])
                    g2[j] += (c0 * x0[j] + c1 * x1[j]) + (c2 * x2[j] + c3 * x3[j])
                    g3[j] += (d0 * x0[j] + d1 * x1[j]) + (d2 * x2[j] + d3 * x3[j])
                i += 4
            while i < n:
                g0, a0, a1, a2, a3 = gradient[gate, i], v0[i], v1[i], v2[i], v3[i]
                for j in range(m):
                    g0[j] += (a0 * x0[j] + a1 * x1[j]) + (a2 * x2[j] + a3 * x3[j])
                i += 1


@compiled_part
def pull(v: Array, weights: Array, target: Array) -> None:
    """Add the recurrent sum of equation (3) for a full mask: target (n,) += weights (n, n)^T v."""
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


@compiled_part
def replay(
    signal: Array,
    t: int,
    oldest: int,
    tol: float,
    rings: Rings,
    masks: Masks,
    full: bool,
    beyond: bool,
    scratch: Scratch,
    gradient: Array,
) -> tuple[int, float, bool]:
    """Compute the gradient by equations (1) to (3), from step t back to `oldest` or to the oldest kept step.

    Args:
        signal: q_t (n,).
        t: the newest step.
        oldest: the step to end at.
        tol: fraction of the signal's norm at which reading back ends.
        rings: the kept steps.
        masks: all masks so far.
        full: whether to read all weights, whatever the mask.
        beyond: whether the signal is also read through `oldest`, to the step before it (see `history`).
        scratch: buffers, overwritten.
        gradient: (G, n, m), overwritten with the result.

    Returns:
        The number of steps over which the signal was read back, the fraction of its norm that was left at the end,
            and whether it was read through `oldest` and is not below `tol` there. `scratch.adjoint` is then a_s of
            the step before.
    """
    adjoint, before, block, slots = scratch
    ring, components, gates, n = rings.gain.shape
    recurrent = rings.weights.shape[1]
    gradient[...] = 0
    adjoint[...] = 0
    first = 0.0
    for i in range(n):
        adjoint[components - 1, i] = signal[i]
        first += signal[i] * signal[i]
    limit = tol * tol * first
    left = first
    depth, count = 0, 0
    if first == 0.0:
        return 0, 0.0, False
    oldest = max(oldest, t - ring + 1)
    s = t
    while True:
        slot = s % ring
        own, gain = rings.own[slot], rings.gain[slot]
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
            accumulate(block, slots, count, rings.inputs, gradient)
            count = 0
        if s == oldest and not beyond:
            break
        for c in range(components):
            for i in range(n):
                before[c, i] = own[0, c, i] * adjoint[0, i]
            for other in range(1, components):
                for i in range(n):
                    before[c, i] += own[other, c, i] * adjoint[other, i]
        last = before[components - 1]
        if full:
            for gate in range(recurrent):
                pull(v[gate], rings.weights[slot, gate].reshape(n, n), last)
        else:
            mask = rings.mask[slot]
            opens, reader = masks.starts[mask], masks.readers[mask]
            for gate in range(recurrent):
                weights = rings.weights[slot, gate]
                for j in range(n):
                    total = last[j]
                    for e in range(np.intp(opens[j]), np.intp(opens[j + 1])):
                        unit = np.intp(reader[e])
                        total += v[gate, unit] * weights[e if rings.gathered else unit * n + j]
                    last[j] = total
        left = 0.0
        for c in range(components):
            for i in range(n):
                left += before[c, i] * before[c, i]
                adjoint[c, i] = before[c, i]
        if left == 0.0 or left < limit:
            beyond = False
            break
        if s == oldest:
            break
        s -= 1
    accumulate(block, slots, count, rings.inputs, gradient)
    return depth, math.sqrt(left / first), beyond
