"""The influence J_t, computed from the kept steps. It equals the J_t carried from step to step, up to rounding.

    J_t = sum_{s <= t} B_s I_s,   B_t = 1,   B_{s-1} = B_s D_s (masked as step s was)                   (1)

It is used by probes of J. With two levels, J is kept only for the last step b before the present block of steps, and
moved on once per block, by matrix products:

    J_t = B_b J_b + sum_{b < s <= t} B_s I_s                                                            (2)
    G_t = sum_{b < s <= t} I_s^T a_s + J_b^T a_b,   a_s = dL_t/ds_s read back from step t (`replay`)    (3)

In exact arithmetic both equal RTRL's. Carrying J takes (C n)^2 G n m multiply-adds a step. Two levels with blocks of S
steps take C G n^2 m for the contraction, 1 / S of RTRL's to move J on, and S / 2 steps of a replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Stage, transition

FORGOTTEN = 1e-30
"""Once all entries of B_s are below this, earlier steps are left out: their terms are far below rounding of J_t."""
AT_ONCE = 64
"""Number of steps whose outer products are summed by one matrix product."""
PART = 2**19
"""Number of entries of J that are moved on at a time, so that little memory is needed beside J."""


class Block(NamedTuple):
    """S consecutive steps of one stage each, the newest first. R of the G gates read the hidden state."""

    own: Array  # (S, C, C, n)
    gain: Array  # (S, C, G, n)
    weights: Array  # (S, R, n, n), those outside of the step's mask 0
    inputs: Array  # (S, 1 or G, m)


def move_on(influence: Array, block: Block) -> None:
    """Overwrite J_b (C n, G n m), of the last step before the block, with J_t by equation (2)."""
    own, gain, weights, inputs = block
    steps, components, gates, n = gain.shape
    rows, m = components * n, inputs.shape[2]
    wide = np.zeros((steps, components, n, components, n), own.dtype)
    from_hidden = wide[:, :, :, -1, :]
    np.multiply(gain[:, :, 0, :, None], weights[:, 0, None], out=from_hidden)
    for gate in range(1, weights.shape[1]):
        from_hidden += gain[:, :, gate, :, None] * weights[:, gate, None]
    np.einsum("scidi->scdi", wide)[...] += own
    transitions = wide.reshape(steps, rows, rows)
    forgotten = np.finfo(own.dtype).eps ** 2
    backs = np.zeros((steps + 1, rows, rows), own.dtype)  # B_t ... B_b
    backs[0].flat[:: rows + 1] = 1
    for s in range(steps):
        np.matmul(backs[s], transitions[s], out=backs[s + 1])
        # far below rounding of J_t: without this its products become subnormal numbers, on which CPUs are slow
        if s % 4 == 3 and np.abs(backs[s + 1]).max() < forgotten:
            backs[s + 1] = 0
            break
    through = backs[:steps].reshape(steps, rows, components, n)
    by_units = influence.reshape(rows, gates * n, m)
    units = max(1, PART // (rows * m))
    for gate in range(gates):
        seen = inputs[:, 0 if inputs.shape[1] == 1 else gate]
        for first in range(0, n, units):
            some = slice(first, min(n, first + units))
            # (S, C n, units): what a change of the units' pre-activations at each step does to s_t
            reach = through[:, :, 0, some] * gain[:, None, 0, gate, some]
            for c in range(1, components):
                reach += through[:, :, c, some] * gain[:, None, c, gate, some]
            part = by_units[:, gate * n + some.start : gate * n + some.stop]
            moved = backs[steps] @ part.reshape(rows, -1)
            moved += (reach.reshape(steps, -1).T @ seen).reshape(rows, -1)
            part[...] = moved.reshape(part.shape)


def influence_of(steps: Iterable[tuple[Stage, Array | None]], gates: int) -> Array:
    """Compute J_t by equation (1).

    Args:
        steps: the steps, each of one stage, with their masks. The newest is first. A mask is (n, n); None: all
            connections.
        gates: G.

    Returns:
        J_t (C n, G n m).
    """
    newest, *_ = steps = list(steps)
    components, _, n = newest[0].gain.shape
    rows, dtype = components * n, newest[0].gain.dtype
    back = np.eye(rows, dtype=dtype)
    total = np.zeros((gates, rows * n, newest[0].inputs.shape[1]), dtype)
    block: list[tuple[Array, Array]] = []
    for stage, mask in steps:
        # (G, C n, n): what a change of each gate's pre-activation at this step does to s_t
        reach = np.einsum("acj,cgj->gaj", back.reshape(rows, components, n), stage.gain)
        block.append((reach, stage.inputs))
        if len(block) == AT_ONCE:
            _add(total, block)
            block = []
        back = back @ transition((stage,), mask)
        if np.abs(back).max() < FORGOTTEN:
            break
    if block:
        _add(total, block)
    return np.ascontiguousarray(total.reshape(gates, rows, n, -1).transpose(1, 0, 2, 3)).reshape(rows, -1)


def _add(total: Array, block: Sequence[tuple[Array, Array]]) -> None:
    """Add the outer products of a block of (reach, inputs) pairs to `total`, by one matrix product per gate.

    A reach (G, C n, n) is the effect of a step's pre-activations on s_t.
    """
    for gate in range(len(total)):
        reach = np.stack([r[gate].reshape(-1) for r, _ in block], axis=1)
        total[gate] += reach @ np.stack([inputs[gate] for _, inputs in block])
