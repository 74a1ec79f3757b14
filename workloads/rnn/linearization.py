r"""Linearisation of one step of a recurrent network: all that a learning rule needs to know of an architecture.

A network has C state components of n units each (tanh RNN: h; LSTM: c and h). It has G gates. Each gate has one
pre-activation per unit, which is *linear* in the gate's parameters, row by row:

    pre_g[i] = sum_l theta_g[i, l] inputs_g[l],   theta_g[i] = [W_g[i], U_g[i], b_g[i]],   inputs = [s[-1]; x; 1]

So these equations describe a step exactly to first order:

    ds[c, i] = sum_c' own[c, c', i] ds_before[c', i]  +  sum_g gain[c, g, i] dpre_g[i]            (1)
    dpre_g[i]  = sum_j W_g[i, j] ds_before[-1, j]  +  sum_l inputs_g[l] dtheta_g[i, l]            (2)

The first sum of (1) is a unit's path to itself (leak, forget gate, update gate), which is never masked. The first sum
of (2) is the recurrent connections, which read the last component. A mask M thins them out: W_g -> M * W_g. Only the
first R of the G gates have recurrent connections (R = 0 in an LRU).

One such description is a *stage*. A step is a tuple of consecutive stages, each with gates of its own. One stage
suffices for every architecture but the GRU that resets before its recurrent product. There the candidate reads the
reset gate's output, so a parameter's immediate influence also reaches other units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array


class Stage(NamedTuple):
    """One linearised stage of a step, equations (1) and (2): C components, G gates (R recurrent), n units, m inputs."""

    own: Array  # (C, C, n)  d s[c] / d s_before[c'] within a unit
    gain: Array  # (C, G, n)  d s[c] / d pre_g within a unit
    weights: Array  # (R, n, n)  recurrent weights in force at this step
    inputs: Array  # (G, m)  ahat


Step = tuple[Stage, ...]
"""The stages of a time step, in their order."""


def transition(step: Step, mask: Array | None = None) -> Array:
    """Compute the state Jacobian D_t = d s_t / d s_{t-1}, its recurrent connections thinned out by the mask.

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
    """Compute the Jacobian d s / d s_before[-1] through the recurrent weights, without the own paths: (C, n, n)."""
    total: Array = stage.gain[:, 0, :, None] * stage.weights[0]
    for gate in range(1, len(stage.weights)):
        total = total + stage.gain[:, gate, :, None] * stage.weights[gate]
    return total


def push(step: Step, direction: Array, mask: Array | None = None) -> Array:
    """Apply D_t to a direction: ds_t (C, n) from ds_{t-1} (C, n), at fixed parameters."""
    for stage in step:
        after: Array = (stage.own * direction[None]).sum(1)
        for gate, weights in enumerate(stage.weights):
            after = after + stage.gain[:, gate] * ((weights if mask is None else mask * weights) @ direction[-1])
        direction = after
    return direction


def read_back(step: Step, adjoint: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Read a step back: apply the transposes of I_t and D_t to an adjoint.

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
    """Compute dL/dtheta_g[i, l] at fixed s_{t-1}, (G, n, m), from the adjoint dL/ds_t (C, n)."""
    if len(step) == 1:
        return stage_gradient(step[0], adjoint)
    return read_back(step, adjoint)[0]


def pull_back(step: Step, adjoint: Array, mask: Array | None = None) -> Array:
    """Apply D_t^T to an adjoint: dL/ds_{t-1} (C, n) from dL/ds_t (C, n)."""
    for stage in reversed(step):
        adjoint = _stage_pull_back(stage, adjoint, mask)
    return adjoint


def stage_immediate(stage: Stage) -> Array:
    """Compute the immediate influence d s[c, i] / d theta_g[i, l] of a stage's own parameters, (C, G, n, m).

    The influence on other units is zero within a stage, and left out.
    """
    influence: Array = stage.gain[:, :, :, None] * stage.inputs[None, :, None, :]
    return influence


def stage_gradient(stage: Stage, adjoint: Array) -> Array:
    """Compute dL/dtheta_g[i, l] of a stage's own parameters, (G, n, m), from the adjoint (C, n) after the stage."""
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
    """Extend a learning signal dL/ds_t (Q, n) of the last Q components to all components, (C, n), by zeros."""
    adjoint = np.zeros((step[-1].own.shape[0], signal.shape[1]), signal.dtype)
    adjoint[-len(signal) :] = signal
    return adjoint
