r"""The carried influence J_t = d s_t / d theta of RTRL (Williams and Zipser 1989), full or masked.

    J_t = D_t J_{t-1} + I_t,   G_t = q_t^T J_t[h]                                            (1)

J has C n rows (states) and P = G n m columns (parameters): O(C n P) memory. I_t is zero but for the rows of a
parameter's own unit, so it is added in place and never laid out in full.

Two ways for the product, equal up to rounding. `advance` builds D_t, masked or not, and lets BLAS do the (C
n)^2 P multiply-adds. `advance_gathered` reads only the k sources of each row, k C n P multiply-adds; BLAS
makes up for a factor of about twenty, so it pays where 20 k <= n (`gather_pays`): measured on one core, equal
at n = 64, k = 4, and 3 times faster at n = 256, k = 4.

Subnormals. Influence that crossed many hops of a mask is tiny, and some CPUs are slow on numbers below the
smallest normal one. Measured on the sine with the ring at k = 4: none at n = 64 in either dtype (least
1e-32), 6 % of the entries at n = 256 in float32, without a slower step on an AMD EPYC. So nothing is
flushed: rounding small entries away would not be (1), and a CPU's flush mode is not NumPy's to set.
"""

from __future__ import annotations

import numpy as np

from workloads.arrays import Array, Indices
from workloads.linearization import Linearization, immediate, recurrent, transition


def gather_pays(n: int, k: int) -> bool:
    """Whether reading k of n sources a row beats the dense product."""
    return 20 * k <= n


def none_yet(components: int, gates: int, n: int, m: int, dtype: np.dtype[np.floating]) -> Array:
    """J_0 = 0, shape (C n, G n m)."""
    return np.zeros((components * n, gates * n * m), dtype)


def advance(influence: Array, step: Linearization, mask: Array | None = None) -> Array:
    """J_t from J_{t-1} by the dense product; mask (n, n) or None for the full Jacobian."""
    return _with_immediate(transition(step, mask) @ influence, step)


def advance_gathered(influence: Array, step: Linearization, sources: Indices) -> Array:
    """J_t from J_{t-1}, reading only `sources` (n, k): S_i, the units that unit i listens to, for each i."""
    components, _, n = step.own.shape
    before = influence.reshape(components, n, -1)
    hidden = before[-1]
    after = np.empty_like(before)
    weights = np.take_along_axis(recurrent(step), sources[None], axis=2)  # (C, n, k)
    for unit in range(n):
        # sum_{s in S_i} D[i, s] J[s]: one row at a time, so that the k gathered rows stay in the cache
        gathered = hidden[sources[unit]]
        for component in range(components):
            np.dot(weights[component, unit], gathered, out=after[component, unit])
    if step.own.any():
        after += np.einsum("cdi,dip->cip", step.own, before)
    return _with_immediate(after.reshape(influence.shape), step)


def contract(influence: Array, signal: Array, gates: int) -> Array:
    """G_t[g, j, l] = sum_i q_t[i] J_t[h_i, (g, j, l)], shape (G, n, m)."""
    n = len(signal)
    return (signal @ influence[-n:]).reshape(gates, n, -1)


def _with_immediate(influence: Array, step: Linearization) -> Array:
    """Adds I_t in place (`influence` is the caller's own new array)."""
    components, gates, n = step.gain.shape
    blocks = influence.reshape(components, n, gates, n, -1)
    np.einsum("cigim->cgim", blocks)[...] += immediate(step)
    return influence
