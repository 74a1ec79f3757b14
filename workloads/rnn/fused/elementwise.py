"""Compiled steps of the fused architectures: from pre-activations to state, own paths and gains, in place.

A step takes (pre (G, n), before (C, n), leak, after (C, n), own (C, C, n), gain (C, G, n)), fills the last three, and
overwrites `pre`. The formulas are those of `raysweep.workloads.rnn.architectures`; tests compare the two. Functions of
the C library are called in loops of their own, so that the compiler vectorises the rest.
"""

from __future__ import annotations

import math

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.fused.compile_cache import compiled_part

TANH_RNN, LSTM, GRU_RESET_AFTER = 0, 1, 2


@compiled_part
def squash(x: Array) -> None:
    """Overwrite x (n,) with tanh(x), by expm1 in float64: in float32 twice as fast as the C library's."""
    for i in range(x.size):
        below = math.expm1(-2.0 * abs(x[i]))
        x[i] = math.copysign(-below / (2.0 + below), x[i])


@compiled_part
def sigmoid(x: Array) -> None:
    """Overwrite x (n,) with 1 / (1 + exp(-x))."""
    for i in range(x.size):
        x[i] = math.exp(-x[i])
    for i in range(x.size):
        x[i] = 1 / (1 + x[i])


@compiled_part
def tanh_rnn(pre: Array, before: Array, leak: float, after: Array, own: Array, gain: Array) -> None:
    """Do a step of the leaky tanh RNN: h' = (1 - leak) h + leak tanh(pre)."""
    one = leak / leak
    phi = pre[0]
    squash(phi)
    for i in range(phi.size):
        after[0, i] = (one - leak) * before[0, i] + leak * phi[i]
        own[0, 0, i] = one - leak
        gain[0, 0, i] = leak * (one - phi[i] * phi[i])


@compiled_part
def lstm(pre: Array, before: Array, leak: float, after: Array, own: Array, gain: Array) -> None:
    """Do a step of the LSTM: c' = f c + i g, h' = o tanh(c'), gates i, f, g, o."""
    one = leak / leak
    i, f, g, o = pre[0], pre[1], pre[2], pre[3]
    sigmoid(i)
    sigmoid(f)
    squash(g)
    sigmoid(o)
    squashed = after[1]
    for j in range(i.size):
        after[0, j] = f[j] * before[0, j] + i[j] * g[j]
        squashed[j] = after[0, j]
    squash(squashed)
    for j in range(i.size):
        through = o[j] * (one - squashed[j] * squashed[j])  # d h' / d c'
        own[0, 0, j] = f[j]
        own[0, 1, j] = 0
        own[1, 0, j] = through * f[j]
        own[1, 1, j] = 0
        gain[0, 0, j] = g[j] * i[j] * (one - i[j])
        gain[0, 1, j] = before[0, j] * f[j] * (one - f[j])
        gain[0, 2, j] = i[j] * (one - g[j] * g[j])
        gain[0, 3, j] = 0
        gain[1, 0, j] = through * gain[0, 0, j]
        gain[1, 1, j] = through * gain[0, 1, j]
        gain[1, 2, j] = through * gain[0, 2, j]
        gain[1, 3, j] = squashed[j] * o[j] * (one - o[j])
        after[1, j] = o[j] * squashed[j]


@compiled_part
def gru_reset_after(pre: Array, before: Array, leak: float, after: Array, own: Array, gain: Array) -> None:
    """Do a step of the GRU: h' = (1 - z) tanh(u + r s) + z h, gates r, z, s, u."""
    one = leak / leak
    r, z, s, new = pre[0], pre[1], pre[2], pre[3]
    sigmoid(r)
    sigmoid(z)
    for i in range(r.size):
        new[i] += r[i] * s[i]
    squash(new)
    for i in range(r.size):
        h = before[0, i]
        through = (one - z[i]) * (one - new[i] * new[i])
        after[0, i] = (one - z[i]) * new[i] + z[i] * h
        own[0, 0, i] = z[i]
        gain[0, 0, i] = through * s[i] * r[i] * (one - r[i])
        gain[0, 1, i] = (h - new[i]) * z[i] * (one - z[i])
        gain[0, 2, i] = through * r[i]
        gain[0, 3, i] = through
