"""Metrics of continual learning, from the accuracies after each task; rank correlation of heads' scores.

There are T tasks. Row t of the matrix A holds the accuracies on tasks 0 to t after task t.

    average accuracy    mean over i of A[T-1, i]
    forgetting          mean over i < T-1 of  max over t in i..T-2 of A[t, i]  -  A[T-1, i]    (Chaudhry et al., 2018)
    backward transfer   mean over i < T-1 of  A[T-1, i] - A[i, i]       (Lopez-Paz and Ranzato, 2017)

The paper does not define its metrics; these are the usual definitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = Sequence[Sequence[float]]
Array = npt.NDArray[np.float64]


def average_accuracy(rows: Rows) -> float:
    """Compute the mean accuracy over all tasks after the last task."""
    return float(np.mean(rows[-1]))


def forgetting(rows: Rows) -> float | None:
    """Compute the mean fall of a task's accuracy from its best earlier value to the final one. None with one task."""
    last = len(rows) - 1
    lost = [max(rows[t][i] for t in range(i, last)) - rows[last][i] for i in range(last)]
    return float(np.mean(lost)) if lost else None


def backward_transfer(rows: Rows) -> float | None:
    """Compute the mean change of a task's accuracy from the end of its own training to the end of all training.

    The change is mostly negative. None with one task.
    """
    last = len(rows) - 1
    gained = [rows[last][i] - rows[i][i] for i in range(last)]
    return float(np.mean(gained)) if gained else None


def spearman(one: Array, other: Array) -> float | None:
    """Compute Spearman's rank correlation between two sets of scores within each block, and average it over blocks.

    None if, in any block, all heads have the same score in one of the sets.

    Args:
        one: scores of the heads, (depth, H).
        other: the same heads' scores at another time.
    """
    correlations = []
    for left, right in zip(one, other, strict=True):
        a, b = (ranks - ranks.mean() for ranks in (_ranks(left), _ranks(right)))
        norm = np.sqrt((a @ a) * (b @ b))
        if norm == 0:
            return None
        correlations.append(float(a @ b / norm))
    return float(np.mean(correlations))


def _ranks(values: Array) -> Array:
    """Rank values from 1. Equal values share their mean rank."""
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    ranks: Array = below + (equal + 1) / 2
    return ranks
