"""Means over named windows of a stream's segments, such as `mse_pre_all` and `mse_post_last_500`.

Windows count graded steps only: `last_200` are the last 200 graded steps of a segment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysweep.workloads.arrays import Array, Indices, Mask
from raysweep.workloads.rnn.streams.stream import Segment

LAST = (500, 200)
"""Lengths, in graded steps, of the windows at a segment's end. The whole segment is a further window."""


def windows(graded: Mask, segments: Sequence[Segment], reached: int) -> dict[str, Indices]:
    """Find the steps of each window that fits into its segment, for the segments that the run completed.

    Args:
        graded: (T,) whether a step counts.
        segments: the stream's segments.
        reached: number of completed steps, fewer than T if the run diverged.
    """
    steps_of: dict[str, Indices] = {}
    for segment in segments:
        steps = segment.start + np.flatnonzero(graded[segment.start : segment.stop])
        if segment.stop > reached or not len(steps):
            continue
        steps_of[f"{segment.name}_all"] = steps
        steps_of |= {f"{segment.name}_last_{length}": steps[-length:] for length in LAST if length <= len(steps)}
    return steps_of


def window_means(name: str, values: Array, segments: Sequence[Segment], graded: Mask | None = None) -> dict[str, float]:
    """Compute the mean of per-step values over each completed window.

    Args:
        name: prefix of the metrics.
        values: (T',) values; T' < T if the run diverged.
        segments: the stream's segments.
        graded: (T,) whether a step counts; None: all do.
    """
    if graded is None:
        graded = np.ones(len(values), np.bool_)
    return {
        f"{name}_{window}": float(np.mean(values[steps]))
        for window, steps in windows(graded, segments, len(values)).items()
    }


def constant_means(targets: Array, segments: Sequence[Segment], graded: Mask) -> dict[str, float]:
    """Compute `constant_WINDOW`: the mean squared error in each window of the best constant prediction.

    The best constant is the mean of the window's own targets. It is known only in hindsight. A predictor that sees
    only the past need not reach its error.
    """
    return {
        f"constant_{window}": float(np.mean(np.var(targets[steps], axis=0)))
        for window, steps in windows(graded, segments, len(targets)).items()
    }


def squared_errors(predictions: Array, targets: Array) -> Array:
    """Compute the mean over outputs of (z - y)^2 at each of the T' predicted steps, in float64."""
    difference = predictions - targets[: len(predictions)]
    errors: Array = np.mean(difference * difference, axis=1)
    return errors


def cross_entropies(predictions: Array, targets: Array) -> Array:
    """Compute the cross-entropy -sum(y log softmax(z)), natural logarithm, at each of the T' predicted steps."""
    shifted = predictions - predictions.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    entropies: Array = -np.sum(targets[: len(predictions)] * log_p, axis=1)
    return entropies


def accuracies(predictions: Array, targets: Array) -> Array:
    """Compute the accuracy at each of the T' predicted steps.

    It is 1 if the target class alone has the highest score, 1/c if c classes including the target tie, otherwise 0.
    """
    highest = predictions == predictions.max(axis=1, keepdims=True)
    shares: Array = np.sum(targets[: len(predictions)] * highest, axis=1) / np.sum(highest, axis=1)
    return shares


def scores(predictions: Array, targets: Array, classes: bool) -> dict[str, Array]:
    """Compute the scores of each of the T' predicted steps, by name.

    Args:
        predictions: (T', n_out)
        targets: (T, n_out)
        classes: whether targets are one-hot, and predictions unnormalised log probabilities.
    """
    if classes:
        return {
            "cross_entropy": cross_entropies(predictions, targets),
            "accuracy": accuracies(predictions, targets),
        }
    return {"mse": squared_errors(predictions, targets)}
