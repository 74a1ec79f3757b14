"""Means over named windows of a stream's segments: `mse_pre_all`, `mse_post_last_500`, ..."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.arrays import Array
from workloads.streams.stream import Segment

LAST = (500, 200)
"""Lengths of the windows at a segment's end, beside the whole segment."""


def window_means(name: str, values: Array, segments: Sequence[Segment]) -> dict[str, float]:
    """Means of per-step values over each window that fits into its segment and that the values reach to its end.

    Args:
        name: prefix of the metrics.
        values: (T',), fewer than the stream's steps if the run diverged.
        segments: where the windows lie.
    """
    means: dict[str, float] = {}
    for segment in segments:
        if segment.stop > len(values):
            continue
        means[f"{name}_{segment.name}_all"] = float(np.mean(values[segment.start : segment.stop]))
        for length in LAST:
            if length <= segment.stop - segment.start:
                window = values[segment.stop - length : segment.stop]
                means[f"{name}_{segment.name}_last_{length}"] = float(np.mean(window))
    return means


def squared_errors(predictions: Array, targets: Array) -> Array:
    """Mean over outputs of (z - y)^2 at each of the T' steps predicted, float64."""
    difference = predictions - targets[: len(predictions)]
    errors: Array = np.mean(difference * difference, axis=1)
    return errors
