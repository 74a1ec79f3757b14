r"""The linear recurrent unit (Orvieto et al. 2023), trained online as by Zucchet et al. (2023).

    lam = exp(-exp(nu) + i exp(theta)),  gamma = exp(gamma_log)      nu, theta, gamma_log (n,)        (1)
    h_t = lam h_{t-1} + gamma (B x_t)                h (n,) and B (n, n_in) complex                   (2)
    y_t = Re(C h_t) + D x_t                          C (n_out, n) complex, D (n_out, n_in) real       (3)

The state has two real components, the real and imaginary parts re and im of h. The readout sees both. lam rotates and
shrinks a unit's (re, im), with |lam| < 1 for any nu. No unit reads another:

    own = [[Re lam, -Im lam], [Im lam, Re lam]]                                                       (4)
    gains (re, im of a complex number each) and inputs:
        nu:         -exp(nu) lam h_{t-1}, [0; 1]       theta:  i exp(theta) lam h_{t-1}, [0; 1]
        gamma_log:  gamma (B x_t), [0; 1]              B_re:   gamma, [x; 0]      B_im: i gamma, [x; 0]   (5)
    dL/dre = C_re^T e,  dL/dim = -C_im^T e             e (n_out,) error; the signal (2, n)            (6)
    dL/dC_re = e re^T,  dL/dC_im = -e im^T,  dL/dD = e x^T                                            (7)

The influence of a unit's parameters stays within it. So RTRL is exact at O(n n_in) a step in time and memory, as in
Zucchet et al., and there are no connections for a mask to choose from.

Initial lam lies in the ring radius_min <= |lam| <= radius_max, uniform by area, with phases uniform up to phase_max.
gamma = sqrt(1 - |lam|^2) keeps the state's variance near that of its input (Orvieto et al., section 3.4). |lam|^2 is
never within 1e-12 of 0 or 1, to avoid the log of 0.

Differences from the source: D is a full matrix, so that n_in and n_out are free (theirs is diagonal). B, C and D are
drawn by the initialisers and scales of input and output weights (theirs: normal, variance 1/(2 n_in), 1/n and 1). There
is one layer, without a nonlinear block around it.
"""

from __future__ import annotations

import math

import numpy as np

from raysweep.workloads.arrays import Array, Parameters
from raysweep.workloads.rnn.architectures.architecture import Architecture, separate_gates
from raysweep.workloads.rnn.initial import Initial
from raysweep.workloads.rnn.linearization import Stage, Step
from raysweep.workloads.rnn.parameters import Layout

MARGIN = 1e-12
"""Least distance of an initial |lam|^2 from 0 and 1, where nu and gamma_log are infinite."""


def lru(radius_min: float = 0.0, radius_max: float = 1.0, phase_max: float = 2 * math.pi) -> Architecture:
    """Build the linear recurrent unit of equations (1) to (3).

    Args:
        radius_min: minimum initial |lam|, 0 <= radius_min <= radius_max.
        radius_max: maximum initial |lam|, at most 1.
        phase_max: maximum initial phase of lam in radians, > 0.
    """
    if not 0 <= radius_min <= radius_max <= 1:
        raise ValueError(
            f"radius_min = {radius_min} and radius_max = {radius_max}; valid: 0 <= radius_min <= radius_max <= 1"
        )
    if not 0 < phase_max < math.inf:
        raise ValueError(f"phase_max = {phase_max}; valid: greater than 0, in radians")

    def layout(n: int, n_in: int, n_out: int) -> Layout:
        units = dict.fromkeys(("nu", "theta", "gamma_log"), (n,))
        weights = {"B_re": (n, n_in), "B_im": (n, n_in), "C_re": (n_out, n), "C_im": (n_out, n), "D": (n_out, n_in)}
        return Layout({**units, **weights})

    def init(n: int, n_in: int, n_out: int, initial: Initial, rng: np.random.Generator) -> dict[str, Array]:
        area = radius_min**2 + (radius_max**2 - radius_min**2) * rng.random(n)
        area = np.clip(area, MARGIN, 1 - MARGIN)  # |lam|^2
        phase = phase_max * (1 - rng.random(n))  # in (0, phase_max]
        return {
            "nu": np.log(-0.5 * np.log(area)),
            "theta": np.log(phase),
            "gamma_log": 0.5 * np.log(1 - area),
            "B_re": initial.input_weights(rng, n, n_in),
            "B_im": initial.input_weights(rng, n, n_in),
            "C_re": initial.output_weights(rng, n, n_out),
            "C_im": initial.output_weights(rng, n, n_out),
            "D": initial.output_weights(rng, n_in, n_out),
        }

    def forward(parameters: Parameters, state: Array, x: Array) -> tuple[Array, Step]:
        re, im = state
        n, n_in = len(re), len(x)
        shrinking, turning = np.exp(parameters["nu"]), np.exp(parameters["theta"])
        modulus, gamma = np.exp(-shrinking), np.exp(parameters["gamma_log"])
        lam_re, lam_im = modulus * np.cos(turning), modulus * np.sin(turning)  # (1)
        kept = np.stack([lam_re * re - lam_im * im, lam_im * re + lam_re * im])
        seen = gamma * np.stack([parameters["B_re"] @ x, parameters["B_im"] @ x])
        gain = np.zeros((2, 5, n), re.dtype)  # (5)
        gain[:, 0] = -shrinking * kept
        gain[0, 1], gain[1, 1] = -turning * kept[1], turning * kept[0]  # times i
        gain[:, 2] = seen
        gain[0, 3] = gain[1, 4] = gamma
        inputs = np.zeros((5, n_in + 1), re.dtype)
        inputs[:3, -1] = 1
        inputs[3:, :-1] = x
        own = np.stack([np.stack([lam_re, -lam_im]), np.stack([lam_im, lam_re])])  # (4)
        return kept + seen, (Stage(own, gain, np.zeros((0, n, n), re.dtype), inputs),)  # (2)

    def predict(parameters: Parameters, state: Array, x: Array) -> Array:
        re, im = state
        prediction: Array = parameters["C_re"] @ re - parameters["C_im"] @ im + parameters["D"] @ x  # (3)
        return prediction

    def readout_gradients(parameters: Parameters, state: Array, x: Array, error: Array) -> dict[str, Array]:
        re, im = state
        outer = np.multiply.outer
        return {"C_re": outer(error, re), "C_im": -outer(error, im), "D": outer(error, x)}  # (7)

    def signal(parameters: Parameters, error: Array) -> Array:
        return np.stack([error @ parameters["C_re"], -(error @ parameters["C_im"])])  # (6)

    pack, unpack = separate_gates((("", "nu"), ("", "theta"), ("", "gamma_log"), ("B_re", ""), ("B_im", "")))
    return Architecture(
        components=2,
        gates=5,
        layout=layout,
        init=init,
        forward=forward,
        predict=predict,
        readout_gradients=readout_gradients,
        signal=signal,
        pack=pack,
        unpack=unpack,
        inputs=lambda n, n_in: n_in + 1,
        read=2,
        recurrent=False,
        shared_inputs=False,
    )
