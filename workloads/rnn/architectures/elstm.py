r"""The eLSTM, a gated network whose units read only themselves (Irie, Gopalakrishnan and Schmidhuber 2024).

    z   = tanh(U_z x_t + w_z c_{t-1} + b_z)         U_. (n, n_in), w_. and b_. (n,)                   (1)
    f   = sigmoid(U_f x_t + w_f c_{t-1} + b_f)      products with w_. by element                      (2)
    c_t = f c_{t-1} + (1 - f) z                     c (n,); the readout is V c_t + c                  (3)

No unit reads another, so the state Jacobian is diagonal, with diagonal lam. Let pz = (1-f) (1 - z^2), and let pf =
(c_{t-1} - z) f (1-f):

    lam = f + pz w_z + pf w_f                                                                         (4)
    gains, inputs:   U_z, b_z: pz, [x; 1]                U_f, b_f: pf, [x; 1]
                     w_z:      pz c_{t-1}, [0; 1]        w_f:      pf c_{t-1}, [0; 1]                 (5)

The w_. are separate gates in (5), since c_{t-1} differs from unit to unit and is no shared input. The path from
c_{t-1} through w_. is part of (4). The influence of a parameter stays within its unit. So RTRL is exact at O(n n_in)
a step in time and memory, and there are no connections for a mask to choose from. With w_. = 0 the eLSTM is a
quasi-recurrent network with forget gate f.

Differences from the source: the source has an output gate, which reads c_t through a full matrix. This gate is left
out here, since it is not part of the recurrence but of a deeper readout. Every unit's w_. is drawn as the recurrent
weight of a network of one unit, by the initialiser and scale of recurrent weights. The authors' code draws N(0,
0.1^2). Biases start at 0.
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture, separate_gates
from raysweep.workloads.rnn.architectures.lstm import sigmoid
from raysweep.workloads.rnn.initial import Initial, Weights
from raysweep.workloads.rnn.linearization import Stage, Step
from raysweep.workloads.rnn.parameters import Layout


def elstm() -> Architecture:
    """Build the eLSTM of equations (1) to (3)."""

    def layout(n: int, n_in: int, n_out: int) -> Layout:
        units = dict.fromkeys(("wz", "wf", "bz", "bf"), (n,))
        return Layout({"Uz": (n, n_in), "Uf": (n, n_in), **units, "V": (n_out, n), "c": (n_out,)})

    def init(n: int, n_in: int, n_out: int, initial: Initial, rng: np.random.Generator) -> dict[str, Array]:
        def to_themselves() -> Weights:
            return np.concatenate([initial.recurrent_weights(rng, 1)[0] for _ in range(n)])

        return {
            "Uz": initial.input_weights(rng, n, n_in),
            "Uf": initial.input_weights(rng, n, n_in),
            "wz": to_themselves(),
            "wf": to_themselves(),
            "bz": np.zeros(n),
            "bf": np.zeros(n),
            "V": initial.output_weights(rng, n, n_out),
            "c": np.zeros(n_out),
        }

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        before = state[0]
        n, n_in = len(before), len(x)
        z = np.tanh(parameters["Uz"] @ x + parameters["wz"] * before + parameters["bz"])  # (1)
        f = sigmoid(parameters["Uf"] @ x + parameters["wf"] * before + parameters["bf"])  # (2)
        pz = (1 - f) * (1 - z * z)
        pf = (before - z) * f * (1 - f)
        inputs = np.tile(np.concatenate([x, np.ones(1, before.dtype)]), (4, 1))
        inputs[2:, :n_in] = 0
        stage = Stage(
            own=(f + pz * parameters["wz"] + pf * parameters["wf"])[None, None],  # (4)
            gain=np.stack([pz, pf, pz * before, pf * before])[None],  # (5)
            weights=np.zeros((0, n, n), before.dtype),
            inputs=inputs,
        )
        return (f * before + (1 - f) * z)[None], (stage,)  # (3)

    pack, unpack = separate_gates((("Uz", "bz"), ("Uf", "bf"), ("", "wz"), ("", "wf")))
    return Architecture(
        components=1,
        gates=4,
        layout=layout,
        init=init,
        forward=forward,
        pack=pack,
        unpack=unpack,
        inputs=lambda n, n_in: n_in + 1,
        recurrent=False,
        shared_inputs=False,
    )
