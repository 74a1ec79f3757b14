r"""The LSTM with a forget gate (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000).

    i, f, o = sigmoid(W_. h_{t-1} + U_. x_t + b_.)      W_. (n, n), U_. (n, n_in), b_. (n,)          (1)
    g   = tanh(W_g h_{t-1} + U_g x_t + b_g)                                                          (2)
    c_t = f c_{t-1} + i g                               c (n,) cell, products by element             (3)
    h_t = o tanh(c_t)                                   h (n,); the readout is z = V h_t + c         (4)

The state is (c, h). W (4 n, n), U (4 n, n_in) and b (4 n,) are stacked by gate in torch's order i, f, g, o. Linearised,
with hc = o (1 - tanh(c_t)^2):

    own[c, c] = f          gain[c] = (g i (1-i), c_{t-1} f (1-f), i (1 - g^2), 0)                    (5)
    own[h, c] = hc f       gain[h] = hc gain[c] + (0, 0, 0, tanh(c_t) o (1-o))                       (6)

This is exact to first order. One stage suffices, since within a step a parameter acts on its own unit alone. The
cell's path to itself (5) is not a recurrent connection, so masks leave it whole. At k = 0 nothing is propagated along
connections, and sparse RTRL is the LSTM's e-prop (Bellec et al. 2020). A cell with f = 1 and i = 0 keeps its value.

Differences from torch: each gate has one bias, where torch has two that are only ever added. The forget bias starts at
1 by default (Jozefowicz, Zaremba and Sutskever 2015), where torch draws it around 0. There are no peepholes.

Time and memory are 4 n m a step with m = n + n_in + 1.
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture, stacked_gates
from raysweep.workloads.rnn.linearization import Stage, Step


def lstm(forget_bias: float = 1.0) -> Architecture:
    """Build the LSTM of equations (1) to (4).

    Args:
        forget_bias: initial bias of the forget gate; the other biases start at 0.
    """

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        cell, hidden = state
        n = len(hidden)
        pre = parameters["W"] @ hidden + parameters["U"] @ x + parameters["b"]
        i, f, g, o = pre.reshape(4, n)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)  # (1), (2)
        after = f * cell + i * g  # (3)
        squashed = np.tanh(after)
        through = o * (1 - squashed * squashed)  # hc
        own = np.zeros((2, 2, n), hidden.dtype)
        own[0, 0] = f  # (5)
        own[1, 0] = through * f  # (6)
        gain = np.zeros((2, 4, n), hidden.dtype)
        gain[0, 0] = g * i * (1 - i)  # (5)
        gain[0, 1] = cell * f * (1 - f)
        gain[0, 2] = i * (1 - g * g)
        gain[1] = through * gain[0]  # (6)
        gain[1, 3] = squashed * o * (1 - o)
        inputs = np.concatenate([hidden, x, np.ones(1, hidden.dtype)])
        stage = Stage(own, gain, parameters["W"].reshape(4, n, n), np.tile(inputs, (4, 1)))
        return np.stack([after, o * squashed]), (stage,)  # (4)

    return stacked_gates(4, forward, components=2, biases=(0.0, forget_bias, 0.0, 0.0))


def sigmoid(pre: Array) -> Array:
    """Compute the logistic function, by tanh: it does not overflow and keeps the dtype."""
    value: Array = 0.5 + 0.5 * np.tanh(0.5 * pre)
    return value
