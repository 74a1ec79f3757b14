"""The linear readout z = V h + c: prediction, its exact gradients, and the signal q that it sends back."""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Parameters


def predict(parameters: Parameters, state: Array, x: Array) -> Array:
    """z_t = V h_t + c, shape (n_out,)."""
    prediction: Array = parameters["V"] @ state[-1] + parameters["c"]
    return prediction


def readout_gradients(parameters: Parameters, state: Array, x: Array, error: Array) -> dict[str, Array]:
    """dL/dV = e h^T, dL/dc = e: exact under every rule."""
    return {"V": np.multiply.outer(error, state[-1]), "c": error}


def transposed_readout(parameters: Parameters, error: Array) -> Array:
    """q_t = dL_t/dh_t = V^T e_t, shape (1, n)."""
    signal: Array = (error @ parameters["V"])[None]
    return signal
