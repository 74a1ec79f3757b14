"""The recursion of the influence matrix, shared by RTRL and its sparse form.

J_t[k, j, l] = d h_t[k] / d theta[j, l] follows from h_t = (1 - alpha) h_{t-1} + alpha phi(theta ahat_t):

    J_t = (1 - alpha) J_{t-1} + diag(gain) (M * W) J_{t-1} + I_t,   I_t[k, j, l] = delta_kj gain[k] ahat[l]

with M all ones for RTRL (Eq. 3-4 of arXiv 2603.15195) and the subset mask for Eq. 8-9. J is kept as
(n, n m), so that the contraction over its first axis is one matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.architectures.step import Array, Step
from workloads.rules.masks import Mask

FLUSH_MARGIN = 1e8
"""Entries below `finfo.tiny * FLUSH_MARGIN` (1e-30 in float32, 2e-300 in float64) become zero.

Under a mask J decays geometrically away from its diagonal and soon is full of subnormals, on which the
processor is ten times slower. The own-row terms it is summed with in G are of the order of ahat, so what
is dropped lies more than 20 decades below their last bit.
"""


def initial(n: int, m: int, dtype: npt.DTypeLike) -> Array:
    """J_0 = 0, shape (n, n m)."""
    return np.zeros((n, n * m), dtype)


def flushed(J: Array) -> Array:
    """J with what is about to become subnormal set to zero, in place."""
    J *= np.abs(J) >= np.finfo(J.dtype).tiny * FLUSH_MARGIN
    return J


def add_immediate(J: Array, step: Step) -> Array:
    """J + I_t in place: I_t has n m entries, on the block diagonal."""
    n, m = step.gain.size, step.ahat.size
    own = np.arange(n)
    J.reshape(n, n, m)[own, own] += step.gain[:, None] * step.ahat
    return J


def dense(J: Array, step: Step, mask: Mask | None) -> Array:
    """The next J by one (n, n) x (n, n m) product; `mask` None is all ones. n^3 m multiply-adds."""
    recurrent = step.W if mask is None else step.W * mask
    D = step.gain[:, None] * recurrent
    if step.alpha != 1:
        own = np.arange(step.gain.size)
        D[own, own] += 1 - step.alpha
    new: Array = D @ J
    return add_immediate(new if mask is None else flushed(new), step)


def sources(mask: Mask) -> npt.NDArray[np.intp]:
    """The subsets as indices (n, k), ascending; every row of the mask has the same k."""
    n = mask.shape[0]
    return np.nonzero(mask)[1].reshape(n, -1)


def gathered(J: Array, step: Step, subset: npt.NDArray[np.intp]) -> Array:
    """The next J by reading k rows for each: k n^2 m multiply-adds, equal to `dense` up to rounding."""
    n, k = subset.shape
    weights: npt.NDArray[Any] = step.gain[:, None] * np.take_along_axis(step.W, subset, axis=1)
    new = np.empty_like(J)
    for i in range(n):
        # One product a row: the gathered copy (k, n m) stays in cache, an (n, k, n m) one would not.
        np.dot(weights[i], J[subset[i]], out=new[i])
    if k == 0:
        new[:] = 0
    if step.alpha != 1:
        new += (1 - step.alpha) * J
    return add_immediate(flushed(new), step)


def gradient(q: Array, J: Array) -> Array:
    """G[j, l] = sum_k q[k] J[k, j, l], shape (n, m)."""
    G: Array = (q @ J).reshape(q.size, -1)
    return G
