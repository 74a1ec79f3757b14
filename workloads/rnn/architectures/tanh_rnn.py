r"""The leaky tanh RNN with explicit parameters (Eqs. 1-2 of the paper, which has alpha = 1).

    pre_t = W h_{t-1} + U x_t + b                      W (n, n), U (n, n_in), b (n,)            (1)
    h_t   = (1 - alpha) h_{t-1} + alpha tanh(pre_t)    h (n,); alpha the leak, 0 < alpha <= 1   (2)
    z_t   = V h_t + c                                  V (n_out, n), c (n_out,)                 (3)

Linearised: own = 1 - alpha, gain = alpha d_t with d_t = 1 - tanh(pre_t)^2, inputs = ahat_t = [h_{t-1}; x_t;
1].
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture, stacked_gates
from raysweep.workloads.rnn.linearization import Stage, Step


def tanh_rnn(leak: float = 1.0) -> Architecture:
    """Build the leaky tanh RNN of equations (1) to (3).

    Args:
        leak: alpha; at 1 there is no leak.
    """

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        before = state[0]
        phi = np.tanh(parameters["W"] @ before + parameters["U"] @ x + parameters["b"])  # (1)
        after = phi if leak == 1.0 else (1 - leak) * before + leak * phi  # (2)
        one = np.ones(1, before.dtype)
        stage = Stage(
            own=np.full((1, 1, len(before)), 1 - leak, before.dtype),
            gain=(leak * (1 - phi * phi))[None, None],
            weights=parameters["W"][None],
            inputs=np.concatenate([before, x, one])[None],
        )
        return after[None], (stage,)

    return stacked_gates(1, forward)
