r"""The GRU in its two forms, which differ in the position of the reset gate (Cho et al. 2014).

    r, z = sigmoid(W_. h_{t-1} + U_. x_t + b_.)         W_. (n, n), U_. (n, n_in), b_. (n,)           (1)
    after:   nn = tanh(U_n x_t + b_n + r (W_n h_{t-1} + b_hn))         b_hn (n,)                      (2a)
    before:  nn = tanh(W_n (r h_{t-1}) + U_n x_t + b_n)                                               (2b)
    h_t  = (1 - z) nn + z h_{t-1}                       products by element; readout V h_t + c        (3)

W (3 n, n), U (3 n, n_in) and b (3 n,) are stacked by gate in torch's order r, z, n. With pn = (1-z) (1 - nn^2) and pz
= (h_{t-1} - nn) z (1-z), the two forms are linearised exactly to first order as follows.

*Reset after the product* (torch, cuDNN). The candidate nn is not linear in its parameters, but it has two
pre-activations that are: s = W_n h_{t-1} + b_hn and u = U_n x_t + b_n. So there are G = 4 gates r, z, s, u. The last
one has no recurrent weights.

    own = z,   gain = (pn s r (1-r), pz, pn r, pn)                                                    (4)

Within a step, a parameter acts on its own unit alone, as in an LSTM, so one stage suffices.

*Reset before the product* (Cho et al.). A unit's reset gate affects every other unit in the same step, through W_n.
So there are two stages over the state (w, y). Recurrent weights read y.

    (0, h_{t-1}) -> (w, y):  y = r h_{t-1},  w = z h_{t-1} + (1-z) nn at constant nn
        own[w, y] = z,  own[y, y] = r,  gain[w] = (0, pz),  gain[y] = (h_{t-1} r (1-r), 0)            (5)
    (w, y) -> (0, h_t):      own[y, w] = 1,  gain[y] = pn,  recurrent weights W_n, inputs [y; x; 1]   (6)

w is zero in the state itself and only carried from (5) to (6). A mask thins out W_n, too, so the effect of a reset
gate on other units is masked like any recurrent product. Rules that keep the influence within a unit would lose that
effect, and are not defined on this form.

z = 1 keeps h_{t-1}. r = 1 makes (2b) a tanh RNN with leak 1 - z, and (2a) the same with bias b_n + b_hn. Difference
from torch: r and z have one bias each. Torch has two for each, and only adds them. Cho et al. write no biases. Biases
start at 0.

Time and memory are 3 n m a step with m = n + n_in + 1. For (4) they are 4 n m, since its four blocks include zeros.
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture, stacked_gates
from raysweep.workloads.rnn.architectures.lstm import sigmoid
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import Stage, Step
from raysweep.workloads.rnn.parameters import Layout


def gru_reset_after() -> Architecture:
    """Build the GRU whose reset gate acts after the recurrent product: equations (1), (2a), (3), linearised by (4)."""

    def layout(n: int, n_in: int, n_out: int) -> Layout:
        recurrent = {"W": (3 * n, n), "U": (3 * n, n_in), "b": (3 * n,), "bhn": (n,)}
        return Layout({**recurrent, "V": (n_out, n), "c": (n_out,)})

    def init(n: int, n_in: int, n_out: int, initial: Initial, rng: np.random.Generator) -> dict[str, Array]:
        return three.init(n, n_in, n_out, initial, rng) | {"bhn": np.zeros(n)}

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        before = state[0]
        n, n_in = len(before), len(x)
        weights = parameters["W"].reshape(3, n, n)
        seen = (parameters["U"] @ x + parameters["b"]).reshape(3, n)
        r, z = sigmoid(weights[0] @ before + seen[0]), sigmoid(weights[1] @ before + seen[1])  # (1)
        s = weights[2] @ before + parameters["bhn"]
        candidate = np.tanh(seen[2] + r * s)  # (2a)
        slope = (1 - z) * (1 - candidate * candidate)  # pn
        inputs = np.tile(np.concatenate([before, x, np.ones(1, before.dtype)]), (4, 1))
        inputs[2, n : n + n_in] = 0  # s sees no input
        inputs[3, :n] = 0  # u sees no state
        stage = Stage(
            own=z[None, None],
            gain=np.stack([slope * s * r * (1 - r), (before - candidate) * z * (1 - z), slope * r, slope])[None],  # (4)
            weights=weights,
            inputs=inputs,
        )
        return ((1 - z) * candidate + z * before)[None], (stage,)  # (3)

    def pack(parameters: Parameters) -> Array:
        n, n_in = len(parameters["bhn"]), parameters["U"].shape[1]
        rows = np.zeros((4, n, n + n_in + 1), parameters["W"].dtype)
        rows[:3, :, :n] = parameters["W"].reshape(3, n, n)
        rows[[0, 1, 3], :, n:-1] = parameters["U"].reshape(3, n, n_in)
        rows[[0, 1, 3], :, -1] = parameters["b"].reshape(3, n)
        rows[2, :, -1] = parameters["bhn"]
        return rows

    def unpack(gradient: Array) -> dict[str, Array]:
        _, n, m = gradient.shape
        seen = gradient[[0, 1, 3]].reshape(3 * n, m)
        return {
            "W": gradient[:3, :, :n].reshape(3 * n, n),
            "U": seen[:, n:-1],
            "b": seen[:, -1],
            "bhn": gradient[2, :, -1],
        }

    three = stacked_gates(3, forward)
    return three._replace(gates=4, layout=layout, init=init, pack=pack, unpack=unpack, shared_inputs=False)


def gru_reset_before() -> Architecture:
    """Build the GRU whose reset gate acts before the recurrent product: equations (1), (2b), (3).

    A step is linearised in two stages, (5) and (6).
    """

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        before = state[-1]
        n = len(before)
        weights = parameters["W"].reshape(3, n, n)
        seen = (parameters["U"] @ x + parameters["b"]).reshape(3, n)
        r, z = sigmoid(weights[0] @ before + seen[0]), sigmoid(weights[1] @ before + seen[1])  # (1)
        y = r * before
        candidate = np.tanh(weights[2] @ y + seen[2])  # (2b)
        one = np.ones(1, before.dtype)
        own = np.zeros((2, 2, 2, n), before.dtype)
        own[0, :, 1] = z, r  # (5)
        own[1, 1, 0] = 1  # (6)
        gain = np.zeros((2, 2, n), before.dtype)
        gain[0, 1] = (before - candidate) * z * (1 - z)  # pz of (5)
        gain[1, 0] = before * r * (1 - r)  # (5)
        through = np.zeros((2, 1, n), before.dtype)
        through[1, 0] = (1 - z) * (1 - candidate * candidate)  # pn of (6)
        first = Stage(own[0], gain, weights[:2], np.tile(np.concatenate([before, x, one]), (2, 1)))
        second = Stage(own[1], through, weights[2:], np.concatenate([y, x, one])[None])
        after = (1 - z) * candidate + z * before  # (3)
        return np.stack([np.zeros_like(after), after]), (first, second)

    return stacked_gates(3, forward, components=2)._replace(stages=2, shared_inputs=False)
