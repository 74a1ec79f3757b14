"""Preprocessing of a session for a decoder: PCA and z-scores, fitted on one session and applied to any.

With counts c (T, d) and movement v (T, 2) of session A:

    p = PCA_A(c)                                      the first k principal components (T, k)            (1)
    x = (p - mean_A p) / std_A p                      inputs (T, k)                                      (2)
    y = (v - mean_A v) / std_A v                      targets (T, 2): finger velocity or position        (3)

scikit-learn's `PCA` (full SVD) and `StandardScaler` compute this. The sign of each component is chosen so that its
entry of largest magnitude is positive. So the same data give the same numbers. Session B is transformed with A's means,
components and deviations, so drift between the sessions remains in its data.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.recording import Recording

Target = Literal["velocity", "position"]
FLAT = 1e-9
"""A column counts as constant, and is not scaled, if its standard deviation is at most `FLAT` times the largest one."""


class Transform(NamedTuple):
    """A PCA and z-scores, fitted on one session."""

    components: Any  # a fitted PCA, d -> k
    input_scaler: Any  # a fitted StandardScaler of the components
    target_scaler: Any  # a fitted StandardScaler of the movement

    def inputs(self, counts: Array) -> Array:
        """Transform counts (T, d) to network inputs (T, k)."""
        scaled: Array = self.input_scaler.transform(self.components.transform(counts))  # (1), (2)
        return scaled

    def targets(self, movement: Array) -> Array:
        """Transform movement (T, 2) to targets (T, 2), z-scored."""
        scaled: Array = self.target_scaler.transform(movement)  # (3)
        return scaled


def behaviour(recording: Recording, target: Target) -> Array:
    """Return a recording's movement (T, 2): velocity within each bin, mm/s, or position at the end of each bin, mm."""
    return recording.velocity_mm_s if target == "velocity" else recording.position_mm[1:]


def fit(counts: Array, movement: Array, components: int) -> Transform:
    """Fit the transform of equations (1) to (3) on session A.

    Args:
        counts: session A's spike counts, (T, d).
        movement: session A's movement, (T, 2).
        components: k, the number of principal components.

    Raises:
        ValueError: fewer bins or channels than components.
    """
    from sklearn.decomposition import PCA  # takes a second to import: not while a sweep is planned

    limit = min(counts.shape)
    if components > limit:
        raise ValueError(
            f"components = {components} with {len(counts)} bins and {counts.shape[1]} channels; valid: at most {limit}"
        )
    with threadpool_limits(1):  # also of SciPy's BLAS, loaded just now: the last bits depend on the threads
        fitted = PCA(components, svd_solver="full").fit(counts)
    return Transform(fitted, scaler(fitted.transform(counts)), scaler(movement))


def scaler(columns: Array) -> Any:
    """Fit a StandardScaler to columns. A constant column, such as a component beyond the rank, keeps its scale."""
    from sklearn.preprocessing import StandardScaler

    fitted = StandardScaler().fit(columns)
    deviation = np.sqrt(fitted.var_)
    fitted.scale_ = np.where(deviation > FLAT * max(float(deviation.max()), FLAT), deviation, 1.0)
    return fitted
