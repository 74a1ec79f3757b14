r"""One step of a recurrent network, linearised: all that a learning rule needs to know of an architecture.

A network has C state components of n units each (tanh RNN: h; LSTM: c and h) and G gates, each with a
pre-activation per unit that is *linear* in its parameters, row by row:

    pre_g[i] = sum_l theta_g[i, l] inputs_g[l],   theta_g[i] = [W_g[i], U_g[i], b_g[i]],   inputs = [s[-1]; x; 1]

so a step is described exactly to first order by

    ds[c, i] = sum_c' own[c, c', i] ds_before[c', i]  +  sum_g gain[c, g, i] dpre_g[i]            (1)
    dpre_g[i]  = sum_j W_g[i, j] ds_before[-1, j]  +  sum_l inputs_g[l] dtheta_g[i, l]            (2)

The first sum of (1) is a unit's path to itself (leak, forget gate, update gate): never masked. The first sum
of (2) is the recurrent connections, which read the last component: what a mask M thins out, W_g -> M * W_g.
The first R of the G gates have them; the others (of an LRU: all) have none.

One such description is a *stage*. A step is a tuple of stages, one after the other, each with gates of its
own. One suffices for every architecture but the GRU that resets before its recurrent product, whose candidate
reads what its reset gate made: there a parameter's immediate influence reaches other units than its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array


class Stage(NamedTuple):
    """Equations (1) and (2); C components, G gates (R of them recurrent), n units, m inputs a gate."""

    own: Array  # (C, C, n)  d s[c] / d s_before[c'] within a unit
    gain: Array  # (C, G, n)  d s[c] / d pre_g within a unit
    weights: Array  # (R, n, n)  recurrent weights in force at this step
    inputs: Array  # (G, m)  ahat


Step = tuple[Stage, ...]
"""The stages of a time step, in their order."""


def transition(step: Step, mask: Array | None = None) -> Array:
    """State Jacobian D_t = d s_t / d s_{t-1}, its recurrent connections thinned out by the mask.

    Args:
        step: the linearised step.
        mask: M (n, n) of zeros and ones; None is all ones.

    Returns:
        D_t (C n, C n), components outermost; for the tanh RNN (1 - alpha) I + alpha diag(d) (M * W).
    """
    first, *later = (_stage_transition(stage, mask) for stage in step)
    for jacobian in later:
        first = jacobian @ first
    return first


def _stage_transition(stage: Stage, mask: Array | None) -> Array:
    components, _, n = stage.own.shape
    jacobian = np.zeros((components, n, components, n), stage.own.dtype)
    if len(stage.weights):
        jacobian[:, :, -1, :] = recurrent(stage)
        if mask is not None:
            jacobian[:, :, -1, :] *= mask
    np.einsum("ciki->cki", jacobian)[...] += stage.own  # einsum gives a writable view of the diagonals
    flat: Array = jacobian.reshape(components * n, components * n)
    return flat


def recurrent(stage: Stage) -> Array:
    """Jacobian d s / d s_before[-1] through the recurrent weights, without the own paths: (C, n, n)."""
    total: Array = stage.gain[:, 0, :, None] * stage.weights[0]
    for gate in range(1, len(stage.weights)):
        total = total + stage.gain[:, gate, :, None] * stage.weights[gate]
    return total


def push(step: Step, direction: Array, mask: Array | None = None) -> Array:
    """D_t applied: ds_t (C, n) from ds_{t-1} (C, n), at fixed parameters."""
    for stage in step:
        after: Array = (stage.own * direction[None]).sum(1)
        for gate, weights in enumerate(stage.weights):
            after = after + stage.gain[:, gate] * ((weights if mask is None else mask * weights) @ direction[-1])
        direction = after
    return direction


def read_back(step: Step, adjoint: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """I_t and D_t read backwards.

    Args:
        step: the linearised step.
        adjoint: dL/ds_t (C, n).
        mask: M (n, n); None is all ones.

    Returns:
        dL/dtheta at fixed s_{t-1}, (G, n, m), and dL/ds_{t-1}, (C, n).
    """
    gradients = []
    for stage in reversed(step):
        gradients.append(stage_gradient(stage, adjoint))
        adjoint = _stage_pull_back(stage, adjoint, mask)
    return (gradients[0] if len(gradients) == 1 else np.concatenate(gradients[::-1])), adjoint


def local_gradient(step: Step, adjoint: Array) -> Array:
    """I_t read backwards: dL/dtheta_g[i, l] at fixed s_{t-1} from adjoint = dL/ds_t (C, n); (G, n, m)."""
    if len(step) == 1:
        return stage_gradient(step[0], adjoint)
    return read_back(step, adjoint)[0]


def pull_back(step: Step, adjoint: Array, mask: Array | None = None) -> Array:
    """D_t^T applied: dL/ds_{t-1} (C, n) from adjoint = dL/ds_t (C, n)."""
    for stage in reversed(step):
        adjoint = _stage_pull_back(stage, adjoint, mask)
    return adjoint


def stage_immediate(stage: Stage) -> Array:
    """Influence d s[c, i] / d theta_g[i, l] of a stage's own parameters; zero for another unit's. (C, G, n, m)."""
    influence: Array = stage.gain[:, :, :, None] * stage.inputs[None, :, None, :]
    return influence


def stage_gradient(stage: Stage, adjoint: Array) -> Array:
    """dL/dtheta_g[i, l] of a stage's own parameters from the adjoint (C, n) after it; (G, n, m)."""
    # multiplied in this order so that window 1 and a trace without decay agree to the bit
    gradient: Array = (adjoint[:, None, :, None] * stage_immediate(stage)).sum(0)
    return gradient


def _stage_pull_back(stage: Stage, adjoint: Array, mask: Array | None) -> Array:
    before: Array = (stage.own * adjoint[:, None, :]).sum(0)
    per_gate = (stage.gain * adjoint[:, None, :]).sum(0)
    for gate, weights in enumerate(stage.weights):
        before[-1] += per_gate[gate] @ (weights if mask is None else mask * weights)
    return before


def at_state(step: Step, signal: Array) -> Array:
    """The adjoint (C, n) of a learning signal (Q, n): the readout sees the last Q components."""
    adjoint = np.zeros((step[-1].own.shape[0], signal.shape[1]), signal.dtype)
    adjoint[-len(signal) :] = signal
    return adjoint
