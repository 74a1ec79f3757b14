r"""The part of the influence that stays within a unit: S_t[c, g, i, l] ~ d s_t[c, i] / d theta_g[i, l].

    S_t[c] = sum_c' path_t[c, c'] S_{t-1}[c'] + gain_t[c] inputs_t          S (C, G, n, m)             (1)

with the own paths of a step, or those and the self-weights. Where units do not read one another it is all of
the influence, so (1) is exact RTRL at O(G n m) a step (Irie, Gopalakrishnan and Schmidhuber 2024; Zucchet et
al. 2023).
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Stage, recurrent, stage_immediate


def advance_local(influence: Array, stage: Stage, self_weights: bool = False) -> Array:
    """S_t from S_{t-1}; `self_weights` adds each unit's recurrent connection to itself to its own path."""
    path = stage.own
    if self_weights and len(stage.weights):
        path = path.copy()
        path[:, -1] += np.einsum("cii->ci", recurrent(stage))
    after: Array = np.einsum("cdi,dgil->cgil", path, influence) + stage_immediate(stage)
    return after


def contract_local(influence: Array, signal: Array) -> Array:
    """G_t[g, i, l] = sum_c signal[c, i] S_t[c, g, i, l] over the Q components that are read; (G, n, m)."""
    gradient: Array = (signal[:, None, :, None] * influence[-len(signal) :]).sum(0)
    return gradient
