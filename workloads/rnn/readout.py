"""The linear readout z = V h + c: its prediction, its exact gradients, and the learning signal q."""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Parameters


def predict(parameters: Parameters, state: Array, x: Array) -> Array:
    """Compute the prediction z_t = V h_t + c, shape (n_out,)."""
    prediction: Array = parameters["V"] @ state[-1] + parameters["c"]
    return prediction


def readout_gradients(parameters: Parameters, state: Array, x: Array, error: Array) -> dict[str, Array]:
    """Compute the readout's gradients, dL/dV = e h^T and dL/dc = e, which are exact under every rule."""
    return {"V": np.multiply.outer(error, state[-1]), "c": error}


def transposed_readout(parameters: Parameters, error: Array) -> Array:
    """Compute the learning signal q_t = dL_t/dh_t = V^T e_t, shape (1, n)."""
    signal: Array = (error @ parameters["V"])[None]
    return signal
