"""Named parameters inside one flat vector, so that clip and optimiser are a few operations on one array."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raysweep.workloads.arrays import Array, Parameters


@dataclass(frozen=True)
class Layout:
    """The positions of named arrays in a flat vector. The arrays follow one another, each in C order.

    Args:
        shapes: name -> shape, in the vector's order.
    """

    shapes: dict[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of each named array, in the vector's order."""
        return tuple(math.prod(shape) for shape in self.shapes.values())

    def split(self, vector: Array) -> dict[str, Array]:
        """Split a flat vector into the named arrays, as views."""
        arrays: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            arrays[name] = vector[start:stop].reshape(shape)
            start = stop
        return arrays

    def join(self, arrays: Parameters) -> Array:
        """Join the named arrays into a flat vector, a copy."""
        return np.concatenate([arrays[name].reshape(-1) for name in self.shapes])
