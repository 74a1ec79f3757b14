"""Compiled recursions that carry influence from step to step: within units, or between units along a mask."""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Indices
from raysweep.workloads.rnn.fused.compile_cache import compiled_part

COLUMNS = 1024
"""Number of columns of J that are computed at a time: so few that all of their rows stay in cache."""


@compiled_part
def carry(
    trace: Array, decay: float, own: Array, gain: Array, inputs: Array, theta: Array, recurrent: int, self_loop: bool
) -> None:
    """Advance `trace` by one step, in place.

    If `decay` >= 0, `trace` is a decaying trace (1, G, n, m), see `rules.traces`. If `decay` < 0, it is the local
    influence S (C, G, n, m), C <= 2, see `influence.advance_local`. S passes through each unit's own components and,
    with `self_loop`, through its recurrent connection to itself.
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
                if self_loop:
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


@compiled_part
def carry_gathered(
    before: Array, after: Array, own: Array, gain: Array, inputs: Array, theta: Array, sources: Indices, recurrent: int
) -> None:
    """Compute J_t = D_t J_{t-1} + I_t (the paper's Eq. 8) along the mask's connections, in k C G n^2 m operations.

    Args:
        before: J_{t-1} (C, n, G n m).
        after: overwritten with J_t.
        own: `Stage.own` of this step, (C, C, n).
        gain: `Stage.gain` of this step, (C, G, n).
        inputs: `Stage.inputs` of this step, (G, m); (1, m) if all gates share them.
        theta: (G, n, m), the weights of the forward pass.
        sources: (n, k), row i is S_i, the sources of unit i.
        recurrent: number of gates, counted from the first, that read the hidden state.
    """
    components, n, size = before.shape
    gates, _, m = theta.shape
    k = sources.shape[1]
    hidden = before[components - 1]
    shared = inputs.shape[0] == 1
    weights = np.empty(k, theta.dtype)
    for column in range(0, size, COLUMNS):
        stop = min(size, column + COLUMNS)
        for c in range(components):
            for i in range(n):
                for j in range(k):
                    total = gain[c, 0, i] * theta[0, i, sources[i, j]]
                    for gate in range(1, recurrent):
                        total += gain[c, gate, i] * theta[gate, i, sources[i, j]]
                    weights[j] = total
                row = after[c, i]
                first, straight = before[0, i], own[c, 0, i]
                for p in range(column, stop):
                    row[p] = straight * first[p]
                for other in range(1, components):
                    path, straight = before[other, i], own[c, other, i]
                    for p in range(column, stop):
                        row[p] += straight * path[p]
                j = 0
                while j + 4 <= k:  # four at once: the row is loaded and stored once for them
                    w0, w1, w2, w3 = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
                    s0, s1 = hidden[sources[i, j]], hidden[sources[i, j + 1]]
                    s2, s3 = hidden[sources[i, j + 2]], hidden[sources[i, j + 3]]
                    for p in range(column, stop):
                        row[p] += (w0 * s0[p] + w1 * s1[p]) + (w2 * s2[p] + w3 * s3[p])
                    j += 4
                while j < k:
                    w0, s0 = weights[j], hidden[sources[i, j]]
                    for p in range(column, stop):
                        row[p] += w0 * s0[p]
                    j += 1
    for c in range(components):
        for i in range(n):
            for gate in range(gates):
                seen, add = inputs[0 if shared else gate], gain[c, gate, i]
                at = (gate * n + i) * m
                for j in range(m):
                    after[c, i, at + j] += add * seen[j]


@compiled_part
def contract(influence: Array, signal: Array, gradient: Array) -> None:
    """Fill `gradient` (G, n, m) with q_t^T J_t[h], where J_t[h] are the rows of the hidden state.

    `influence` is J_t (C, n, G n m), whose last component is that of the hidden state. `signal` is q_t (n,).
    """
    components, n, _ = influence.shape
    flat = gradient.reshape(-1)
    flat[...] = 0
    for i in range(n):
        row, scale = influence[components - 1, i], signal[i]
        for p in range(flat.size):
            flat[p] += scale * row[p]


@compiled_part
def add_contracted(influence: Array, adjoint: Array, gradient: Array) -> None:
    """Add a_s^T J_s to `gradient` (G, n, m). `influence` is J_s (C n, G n m), `adjoint` is a_s (C, n)."""
    rows, size = influence.shape
    flat, scale = gradient.reshape(-1), adjoint.reshape(-1)
    for column in range(0, size, COLUMNS):
        stop = min(size, column + COLUMNS)
        target = flat[column:stop]  # indexed from 0: numba tests an index that might be negative, one by one
        i = 0
        while i + 8 <= rows:  # eight rows at once: the gradient is loaded and stored once for them
            a0, a1, a2, a3 = scale[i], scale[i + 1], scale[i + 2], scale[i + 3]
            a4, a5, a6, a7 = scale[i + 4], scale[i + 5], scale[i + 6], scale[i + 7]
            j0, j1 = influence[i, column:stop], influence[i + 1, column:stop]
            j2, j3 = influence[i + 2, column:stop], influence[i + 3, column:stop]
            j4, j5 = influence[i + 4, column:stop], influence[i + 5, column:stop]
            j6, j7 = influence[i + 6, column:stop], influence[i + 7, column:stop]
            for p in range(target.size):
                low = a0 * j0[p] + a1 * j1[p] + a2 * j2[p] + a3 * j3[p]
                target[p] += low + (a4 * j4[p] + a5 * j5[p] + a6 * j6[p] + a7 * j7[p])
            i += 8
        while i < rows:
            a0, j0 = scale[i], influence[i, column:stop]
            for p in range(target.size):
                target[p] += a0 * j0[p]
            i += 1


@compiled_part
def choose_by_influence(influence: Array, theta: Array, recurrent: int, include_self: bool, sources: Indices) -> None:
    """Choose for each unit the k sources with the highest score `masks.by_influence`. Ties go to the lower index.

    Args:
        influence: J_{t-1} (C, n, G n m).
        theta: (G, n, m), the weights of the forward pass.
        recurrent: number of gates, counted from the first, that read the hidden state.
        include_self: whether each unit is always one of its own sources; otherwise it never is.
        sources: (n, k), overwritten with the chosen sources of each unit, in ascending order.
    """
    n, k = sources.shape
    rows = influence[influence.shape[0] - 1]
    norms = np.empty(n, theta.dtype)
    zero = theta[0, 0, 0] - theta[0, 0, 0]
    for j in range(n):
        total = zero
        for p in range(rows.shape[1]):
            total += rows[j, p] * rows[j, p]
        norms[j] = np.sqrt(total)
    score = np.empty(n, theta.dtype)
    taken = np.empty(n, np.bool_)
    for i in range(n):
        for j in range(n):
            total = abs(theta[0, i, j])
            for gate in range(1, recurrent):
                total += abs(theta[gate, i, j])
            score[j] = total * norms[j]
            taken[j] = False
        taken[i] = True
        for _ in range(k - include_self):
            best = -1
            for j in range(n):  # the lower j where scores are equal
                if not taken[j] and (best < 0 or score[j] > score[best]):
                    best = j
            taken[best] = True
        taken[i] = include_self
        at = 0
        for j in range(n):
            if taken[j]:
                sources[i, at] = j
                at += 1
