"""Type names of NumPy arrays, for signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
"""Array of float32 or float64; a learner uses only one of the two."""
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Parameters = Mapping[str, Array]
"""Named parameters, or gradients with the same names and shapes."""
