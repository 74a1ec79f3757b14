r"""One step of a recurrent network, linearised: all that a learning rule needs to know of an architecture.

A network has C state components of n units each (tanh RNN: h; LSTM: c and h; the last one is always the
hidden state h that the readout and the recurrent weights see) and G gates, each with a pre-activation per
unit that is *linear* in its parameters, row by row:

    pre_g[i] = sum_l theta_g[i, l] inputs_g[l],  theta_g[i] = [W_g[i], U_g[i], b_g[i]],  inputs = [h_{t-1}; x_t; 1]

so one step is described exactly to first order by

    ds_t[c, i] = sum_c' own[c, c', i] ds_{t-1}[c', i]  +  sum_g gain[c, g, i] dpre_g[i]           (1)
    dpre_g[i]  = sum_j W_g[i, j] dh_{t-1}[j]  +  sum_l inputs_g[l] dtheta_g[i, l]                  (2)

The first sum of (1) is a unit's path to itself (leak, forget gate, update gate): never masked. The first sum
of (2) is the recurrent connections: what a mask M thins out, W_g -> M * W_g.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workloads.arrays import Array


class Linearization(NamedTuple):
    """Equations (1) and (2) of one step; C components, G gates, n units, m inputs a gate."""

    own: Array  # (C, C, n)  d s_t[c] / d s_{t-1}[c'] within a unit
    gain: Array  # (C, G, n)  d s_t[c] / d pre_g within a unit
    weights: Array  # (G, n, n)  recurrent weights in force at this step
    inputs: Array  # (G, m)  ahat = [h_{t-1}; x_t; 1]


def transition(step: Linearization, mask: Array | None = None) -> Array:
    """State Jacobian D_t = d s_t / d s_{t-1}, its recurrent connections thinned out by the mask.

    Args:
        step: the linearised step.
        mask: M (n, n) of zeros and ones; None is all ones.

    Returns:
        D_t (C n, C n), components outermost; for the tanh RNN (1 - alpha) I + alpha diag(d) (M * W).
    """
    components, _, n = step.own.shape
    jacobian = np.zeros((components, n, components, n), step.own.dtype)
    jacobian[:, :, -1, :] = recurrent(step)
    if mask is not None:
        jacobian[:, :, -1, :] *= mask
    np.einsum("ciki->cki", jacobian)[...] += step.own  # einsum gives a writable view of the diagonals
    flat: Array = jacobian.reshape(components * n, components * n)
    return flat


def recurrent(step: Linearization) -> Array:
    """Jacobian d s_t / d h_{t-1} through the recurrent weights, without the own paths: (C, n, n)."""
    total: Array = step.gain[:, 0, :, None] * step.weights[0]
    for gate in range(1, step.gain.shape[1]):
        total = total + step.gain[:, gate, :, None] * step.weights[gate]
    return total


def immediate(step: Linearization) -> Array:
    """I_t: d s_t[c, i] / d theta_g[i, l] at fixed s_{t-1}; zero for a row of another unit. (C, G, n, m)."""
    influence: Array = step.gain[:, :, :, None] * step.inputs[None, :, None, :]
    return influence


def local_gradient(step: Linearization, adjoint: Array) -> Array:
    """I_t read backwards: dL/dtheta_g[i, l] at fixed s_{t-1} from adjoint = dL/ds_t (C, n); (G, n, m)."""
    # multiplied in this order so that window 1 and a trace without decay agree to the bit
    gradient: Array = (adjoint[:, None, :, None] * immediate(step)).sum(0)
    return gradient


def pull_back(step: Linearization, adjoint: Array, mask: Array | None = None) -> Array:
    """D_t^T applied: dL/ds_{t-1} (C, n) from adjoint = dL/ds_t (C, n)."""
    before: Array = (step.own * adjoint[:, None, :]).sum(0)
    per_gate = (step.gain * adjoint[:, None, :]).sum(0)
    for gate, weights in enumerate(step.weights):
        before[-1] += per_gate[gate] @ (weights if mask is None else mask * weights)
    return before


def at_hidden(step: Linearization, signal: Array) -> Array:
    """The adjoint (C, n) of a learning signal q = dL/dh_t (n,): only h is read out."""
    adjoint = np.zeros((step.own.shape[0], len(signal)), signal.dtype)
    adjoint[-1] = signal
    return adjoint
