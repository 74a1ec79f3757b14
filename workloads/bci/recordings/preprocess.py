"""What makes a session a decoder's data: PCA and z-scores, fitted on one session and applied to any.

With counts c (T, d) of session A:

    p = PCA_A(c)                                      the first k principal components (T, k)            (1)
    x = (p - mean_A p) / std_A p                      inputs (T, k)                                      (2)
    y = (v - mean_A v) / std_A v                      targets (T, 2): finger velocity or position        (3)

by scikit-learn's `PCA` (full SVD; the sign of a component makes its entry of largest magnitude positive, so the same
data give the same numbers) and `StandardScaler`. Session B goes through A's means, components and deviations: what
drifted between the sessions stays in its data.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.recording import Recording

Target = Literal["velocity", "position"]
FLAT = 1e-9
"""Of the largest deviation among the columns: one below this share does not vary, and keeps the scale 1."""


class Transform(NamedTuple):
    """Fitted on one session."""

    components: Any  # a fitted PCA, d -> k
    input_scaler: Any  # a fitted StandardScaler of the components
    target_scaler: Any  # and of the movement

    def inputs(self, counts: Array) -> Array:
        """(T, k) of counts (T, d)."""
        scaled: Array = self.input_scaler.transform(self.components.transform(counts))  # (1), (2)
        return scaled

    def targets(self, movement: Array) -> Array:
        """(T, 2), z-scored."""
        scaled: Array = self.target_scaler.transform(movement)  # (3)
        return scaled


def behaviour(recording: Recording, target: Target) -> Array:
    """(T, 2): velocity within each bin, mm/s, or position at its end, mm."""
    return recording.velocity_mm_s if target == "velocity" else recording.position_mm[1:]


def fit(counts: Array, movement: Array, components: int) -> Transform:
    """The transform of equations (1) to (3).

    Args:
        counts: (T, d) of session A.
        movement: (T, 2) of session A.
        components: k.

    Raises:
        ValueError: fewer bins or channels than components.
    """
    from sklearn.decomposition import PCA  # a second to import: not while a sweep is planned

    most = min(counts.shape)
    if components > most:
        raise ValueError(
            f"components = {components} of {len(counts)} bins and {counts.shape[1]} channels; at most {most}"
        )
    with threadpool_limits(1):  # of SciPy's BLAS too, which has only now been loaded: threads would show in last bits
        fitted = PCA(components, svd_solver="full").fit(counts)
    return Transform(fitted, scaler(fitted.transform(counts)), scaler(movement))


def scaler(columns: Array) -> Any:
    """Mean 0 and deviation 1 of the columns; one that does not vary (a component beyond the rank) keeps its scale."""
    from sklearn.preprocessing import StandardScaler

    found = StandardScaler().fit(columns)
    deviation = np.sqrt(found.var_)
    found.scale_ = np.where(deviation > FLAT * max(float(deviation.max()), FLAT), deviation, 1.0)
    return found
