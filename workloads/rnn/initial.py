"""Initial weights. They are drawn in float64 and then rounded, so both dtypes start from the same numbers.

An initialiser's argument `n` is the number of hidden units for every matrix, whatever its fan-in (as in torch's
RNNs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.workloads.arrays import Array
from raysweep.workloads.registry import Registry

Weights = npt.NDArray[np.float64]
Initializer = Callable[[np.random.Generator, tuple[int, int], float, int], Weights]
"""(generator, shape, scale, n) -> weights."""


def orthogonal(rng: np.random.Generator, shape: tuple[int, int], scale: float, n: int) -> Weights:
    """Draw `scale` times a uniformly (Haar) distributed orthogonal matrix.

    If the matrix is not square, its rows or its columns are orthonormal, whichever are fewer.
    """
    rows, columns = shape
    tall = rng.standard_normal((max(shape), min(shape)))
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # QR alone is not uniform: its signs are LAPACK's choice
    return scale * np.ascontiguousarray(q if rows >= columns else q.T)


def normal(rng: np.random.Generator, shape: tuple[int, int], scale: float, n: int) -> Weights:
    """Draw a matrix from N(0, scale^2)."""
    return scale * rng.standard_normal(shape)


def normal_by_size(rng: np.random.Generator, shape: tuple[int, int], scale: float, n: int) -> Weights:
    """Draw a matrix from N(0, scale^2 / n)."""
    return float(scale / np.sqrt(n)) * rng.standard_normal(shape)


def uniform_by_size(rng: np.random.Generator, shape: tuple[int, int], scale: float, n: int) -> Weights:
    """Draw a matrix from U(-scale / sqrt(n), scale / sqrt(n)). At scale 1 this is torch's default for an RNN."""
    bound = scale / np.sqrt(n)
    return rng.uniform(-bound, bound, shape)


INITIALIZERS: Registry[Initializer] = Registry(
    "initializer",
    {
        "orthogonal": orthogonal,
        "normal": normal,
        "normal_by_size": normal_by_size,
        "uniform_by_size": uniform_by_size,
    },
)


class Initial(NamedTuple):
    """How to draw an architecture's weights. Biases start at zero unless the architecture sets them otherwise."""

    recurrent: str = "orthogonal"
    recurrent_scale: float = 0.3
    input: str = "normal"
    input_scale: float = 0.1
    output: str = "normal"
    output_scale: float = 0.1

    def recurrent_weights(self, rng: np.random.Generator, n: int) -> Weights:
        """Draw the recurrent weights W (n, n)."""
        return INITIALIZERS[self.recurrent](rng, (n, n), self.recurrent_scale, n)

    def input_weights(self, rng: np.random.Generator, n: int, n_in: int) -> Weights:
        """Draw the input weights U (n, n_in)."""
        return INITIALIZERS[self.input](rng, (n, n_in), self.input_scale, n)

    def output_weights(self, rng: np.random.Generator, n: int, n_out: int) -> Weights:
        """Draw the readout's weights V (n_out, n)."""
        return INITIALIZERS[self.output](rng, (n_out, n), self.output_scale, n)


def one_rounding_away(theta: Array, rng: np.random.Generator) -> Array:
    """Move each number of theta (P,) to the next one of its dtype, up or down with equal chances. Zeros stay.

    What learning makes of a change of this size is what it makes of another order of sums: a part of the results'
    variance that seeds do not account for.
    """
    towards = np.where(rng.random(theta.size) < 0.5, -np.inf, np.inf).astype(theta.dtype)
    moved: Array = np.where(theta == 0, theta, np.nextafter(theta, towards))
    return moved
