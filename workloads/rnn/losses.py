"""Losses of one step. Each maps prediction z and target y, both (n_out,), to (L, e = dL/dz)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.registry import Registry

Loss = Callable[[Array, Array], tuple[float, Array]]


def mse(prediction: Array, target: Array) -> tuple[float, Array]:
    """Mean squared error: L = mean((z - y)^2), e = 2 (z - y) / n_out."""
    difference = prediction - target
    scaled = difference * (2.0 / len(difference))
    return 0.5 * float(difference @ scaled), scaled


def half_sse(prediction: Array, target: Array) -> tuple[float, Array]:
    """Half the squared error: L = 0.5 sum((z - y)^2), e = z - y. Marschall et al. (2020) train with its gradient."""
    difference = prediction - target
    return 0.5 * float(difference @ difference), difference


def cross_entropy(prediction: Array, target: Array) -> tuple[float, Array]:
    """Cross-entropy: L = -sum(y log p) with p = softmax(z), e = p - y. y is a vector of probabilities with sum 1."""
    shifted = prediction - prediction.max()  # the largest exponential is 1: none overflows, and their sum is not 0
    log_p = shifted - np.log(np.exp(shifted).sum())
    return -float(target @ log_p), np.exp(log_p) - target


LOSSES: Registry[Loss] = Registry("loss", {"mse": mse, "half_sse": half_sse, "cross_entropy": cross_entropy})
