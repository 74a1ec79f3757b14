r"""The carried influence J_t = d s_t / d theta of RTRL (Williams and Zipser 1989), full or masked.

    J_t = D_t J_{t-1} + I_t,   G_t = q_t^T J_t[h]                                            (1)

Here q_t is the learning signal, and J_t[h] are the rows of the components that the readout sees. J has C n rows
(states) and P = G n m columns (parameters): O(C n P) memory. I_t is zero except in the rows of a parameter's own
unit, so only these rows are computed, and added in place.

There are two ways to compute the product, equal up to rounding. `advance` builds D_t, masked or not, and lets BLAS do
the (C n)^2 P multiply-adds. `advance_gathered` reads only the k sources of each row, in k C n P multiply-adds. BLAS
is faster per multiply-add by a factor of about twenty, so gathering pays if 20 k <= n (`gather_pays`). Measured on
one core: gathering is as fast at n = 64, k = 4, and 3 times faster at n = 256, k = 4.

Influence that passed many connections of a mask is tiny, and some CPUs are slow on subnormal numbers (those below the
smallest normal one). We measured this on the sine with the ring at k = 4. At n = 64 no entry was subnormal in either
dtype (smallest 1e-32). At n = 256 in float32, 6 % of the entries were, but steps on an AMD EPYC were not slower. So
nothing is flushed to zero. Rounding small entries to zero would deviate from (1), and NumPy cannot set a CPU's flush
mode.

The part of J_t within units, S_t[c, g, i, l] ~ d s_t[c, i] / d theta_g[i, l], costs less by a factor C n:

    S_t[c] = sum_c' path_t[c, c'] S_{t-1}[c'] + gain_t[c] inputs_t          S (C, G, n, m)             (2)

Here path_t are the paths of each unit to itself, with or without its recurrent self-weight. If units do not read one
another, S_t is all of the influence, so (2) is exact RTRL at O(G n m) a step (Irie, Gopalakrishnan and Schmidhuber
2024; Zucchet et al. 2023).
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array, Indices
from raysweep.workloads.rnn.linearization import Stage, Step, recurrent, stage_immediate, transition


def gather_pays(n: int, k: int) -> bool:
    """Tell whether reading k of n sources per row is faster than the dense product."""
    return 20 * k <= n


def none_yet(components: int, gates: int, n: int, m: int, dtype: np.dtype[np.floating]) -> Array:
    """Return the influence before the first step, J_0 = 0, shape (C n, G n m)."""
    return np.zeros((components * n, gates * n * m), dtype)


def advance(influence: Array, step: Step, mask: Array | None = None) -> Array:
    """Compute J_t from J_{t-1} by the dense product. `mask` is M (n, n), or None for the full Jacobian."""
    gate = 0
    for stage in step:
        influence = transition((stage,), mask) @ influence
        gate = _add_immediate(influence, stage, gate)
    return influence


def advance_gathered(influence: Array, step: Step, sources: Indices) -> Array:
    """Compute J_t from J_{t-1}, reading for each unit i only its sources S_i, row i of `sources` (n, k)."""
    gate = 0
    for stage in step:
        influence = _gathered(influence, stage, sources)
        gate = _add_immediate(influence, stage, gate)
    return influence


def contract(influence: Array, signal: Array, gates: int) -> Array:
    """Compute the gradient G_t[g, j, l] = sum_ci signal[c, i] J_t[(c, i), (g, j, l)], shape (G, n, m).

    The sum is over the Q components that the readout sees.
    """
    n = signal.shape[1]
    return (signal.reshape(-1) @ influence[-signal.size :]).reshape(gates, n, -1)


def _gathered(influence: Array, stage: Stage, sources: Indices) -> Array:
    components, _, n = stage.own.shape
    before = influence.reshape(components, n, -1)
    hidden = before[-1]
    after = np.empty_like(before)
    weights = np.take_along_axis(recurrent(stage), sources[None], axis=2)  # (C, n, k)
    for unit in range(n):
        # sum_{s in S_i} D[i, s] J[s]: one row at a time, so that the k gathered rows stay in the cache
        gathered = hidden[sources[unit]]
        for component in range(components):
            np.dot(weights[component, unit], gathered, out=after[component, unit])
    if stage.own.any():
        after += np.einsum("cdi,dip->cip", stage.own, before)
    return after.reshape(influence.shape)


def _add_immediate(influence: Array, stage: Stage, gate: int) -> int:
    """Add a stage's immediate influence to `influence` in place.

    `gate` is the number of the stage's first gate. Returns the number of the next stage's first gate.
    """
    components, gates, n = stage.gain.shape
    m: int = stage.inputs.shape[1]
    blocks = influence.reshape(components, n, -1, n, m)[:, :, gate : gate + gates]
    np.einsum("cigim->cgim", blocks)[...] += stage_immediate(stage)
    return gate + len(stage.inputs)


def advance_local(influence: Array, stage: Stage, self_weights: bool = False) -> Array:
    """Compute S_t from S_{t-1}. With `self_weights`, each unit's own path includes its recurrent self-connection."""
    path = stage.own
    if self_weights and len(stage.weights):
        path = path.copy()
        path[:, -1] += np.einsum("cii->ci", recurrent(stage))
    after: Array = np.einsum("cdi,dgil->cgil", path, influence) + stage_immediate(stage)
    return after


def contract_local(influence: Array, signal: Array) -> Array:
    """Compute the gradient G_t[g, i, l] = sum_c signal[c, i] S_t[c, g, i, l], shape (G, n, m).

    The sum is over the Q components that the readout sees.
    """
    gradient: Array = (signal[:, None, :, None] * influence[-len(signal) :]).sum(0)
    return gradient
