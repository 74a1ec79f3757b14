"""Compiled steps of the fused architectures: from pre-activations to state, own paths and gains, in place.

Every function takes (pre (G, n), before (C, n), leak, after (C, n), own (C, C, n), gain (C, G, n)) and fills the last
three. The formulas are those of `raysweep.workloads.rnn.architectures`; tests compare the two.
"""

from __future__ import annotations

import math

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.fused.compile_cache import compiled

TANH_RNN, LSTM, GRU_RESET_AFTER = 0, 1, 2


@compiled
def tanh_rnn(pre: Array, before: Array, leak: float, after: Array, own: Array, gain: Array) -> None:
    """Do a step of the leaky tanh RNN: h' = (1 - leak) h + leak tanh(pre). Fills `after`, `own` and `gain`."""
    one = leak / leak
    for i in range(pre.shape[1]):
        phi = math.tanh(pre[0, i])
        after[0, i] = (one - leak) * before[0, i] + leak * phi
        own[0, 0, i] = one - leak
        gain[0, 0, i] = leak * (one - phi * phi)


@compiled
def lstm(pre: Array, before: Array, leak: float, after: Array, own: Array, gain: Array) -> None:
    """Do a step of the LSTM: c' = f c + i g, h' = o tanh(c'), gates i, f, g, o. Fills `after`, `own` and `gain`."""
    one = leak / leak
    zero = one - one
    for j in range(pre.shape[1]):
        i = one / (one + math.exp(-pre[0, j]))
        f = one / (one + math.exp(-pre[1, j]))
        g = math.tanh(pre[2, j])
        o = one / (one + math.exp(-pre[3, j]))
        c = f * before[0, j] + i * g
        squashed = math.tanh(c)
        through = o * (one - squashed * squashed)  # d h' / d c'
        after[0, j] = c
        after[1, j] = o * squashed
        own[0, 0, j] = f
        own[0, 1, j] = zero
        own[1, 0, j] = through * f
        own[1, 1, j] = zero
        gain[0, 0, j] = g * i * (one - i)
        gain[0, 1, j] = before[0, j] * f * (one - f)
        gain[0, 2, j] = i * (one - g * g)
        gain[0, 3, j] = zero
        for gate in range(3):
            gain[1, gate, j] = through * gain[0, gate, j]
        gain[1, 3, j] = squashed * o * (one - o)


@compiled
def gru_reset_after(pre: Array, before: Array, leak: float, after: Array, own: Array, gain: Array) -> None:
    """Do a step of the GRU: h' = (1 - z) tanh(u + r s) + z h, gates r, z, s, u. Fills `after`, `own` and `gain`."""
    one = leak / leak
    for i in range(pre.shape[1]):
        h = before[0, i]
        r = one / (one + math.exp(-pre[0, i]))
        z = one / (one + math.exp(-pre[1, i]))
        s = pre[2, i]
        new = math.tanh(pre[3, i] + r * s)
        through = (one - z) * (one - new * new)
        after[0, i] = (one - z) * new + z * h
        own[0, 0, i] = z
        gain[0, 0, i] = through * s * r * (one - r)
        gain[0, 1, i] = (h - new) * z * (one - z)
        gain[0, 2, i] = through * r
        gain[0, 3, i] = through
