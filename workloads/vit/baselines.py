"""Baselines without a network: two classifiers of pixels, which keep only sums over the images seen.

The sums do not depend on the order of the images, and keep earlier ones at full weight. Accuracy on a task still
falls as other classes arrive, since these compete with the task's own. The metrics count that as forgetting
(`raysweep.workloads.vit.metrics`). Both classifiers are fitted again after every task, to the classes seen so far.

- nearest class mean: the class whose mean image is nearest.
- ridge: linear regression of the ten class indicators on 8 x 8 pixels (means of 4 x 4) and a constant. Its two sums,
  X^T X and X^T Y, grow task by task. Its strength is in units of the mean diagonal of X^T X, and is chosen from
  `RIDGES`. Of each class seen, every fifth image is held out. The strength with the highest accuracy on these images,
  after a fit to the others, is used. Test images play no part in the choice. So, besides the sums, a fifth of the
  images must be kept, as 193 numbers each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysweep.workloads.vit.data import CLASSES, SIDE

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT = 5
PATCH = 4
CHUNK = 1000
"""Number of images converted to float64 at a time. The whole set at once would take 1.2 GB."""
Array = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


def nearest_mean_scores(images: Bytes, labels: Bytes, queries: Bytes) -> Array:
    """Score M images by the nearest class mean: minus the squared distance, up to a constant per image.

    Returns:
        (M, 10); -inf for a class without images.
    """
    seen = np.unique(labels)
    sums = np.stack([images[labels == label].sum(0, dtype=np.float64).ravel() for label in seen])
    means = sums / np.array([np.sum(labels == label) for label in seen])[:, None] / 255.0 - 0.5
    scores = np.full((len(queries), CLASSES), -np.inf)
    for start in range(0, len(queries), CHUNK):
        z = queries[start : start + CHUNK].reshape(-1, means.shape[1]) / 255.0 - 0.5
        # the part of the distance that differs between classes
        scores[start : start + CHUNK, seen] = 2 * z @ means.T - np.square(means).sum(1)
    return scores


def ridge_scores(images: Bytes, labels: Bytes, queries: Bytes) -> Array:
    """Score M images by ridge regression: the predicted class indicators.

    Returns:
        (M, 10); 0 for a class without images.
    """
    x, targets = _coarse(images), np.eye(CLASSES)[labels]
    held_out = np.zeros(len(labels), np.bool_)
    for label in range(CLASSES):
        held_out[np.flatnonzero(labels == label)[HELD_OUT - 1 :: HELD_OUT]] = True
    ridge = RIDGES[0]
    if held_out.any():
        moments = _moments(x[~held_out], targets[~held_out])
        right = [np.mean((x[held_out] @ _solve(*moments, each)).argmax(1) == labels[held_out]) for each in RIDGES]
        ridge = RIDGES[int(np.argmax(right))]
    scores: Array = _coarse(queries) @ _solve(*_moments(x, targets), ridge)
    return scores


def _coarse(images: Bytes) -> Array:
    few = SIDE // PATCH
    features = np.ones((len(images), few * few * 3 + 1))
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        means = part.reshape(len(part), few, PATCH, few, PATCH, 3).mean((2, 4), dtype=np.float64)
        features[start : start + CHUNK, :-1] = means.reshape(len(part), -1) / 255.0 - 0.5
    return features


def _moments(x: Array, targets: Array) -> tuple[Array, Array]:
    return x.T @ x, x.T @ targets


def _solve(second: Array, cross: Array, ridge: float) -> Array:
    scale = ridge * float(np.trace(second)) / len(second)
    return np.asarray(np.linalg.solve(second + scale * np.eye(len(second)), cross), np.float64)
