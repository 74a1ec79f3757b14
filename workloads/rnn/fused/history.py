"""The influence J_t, computed from the kept steps. It equals the J_t carried from step to step, up to rounding.

    J_t = sum_{s <= t} B_s I_s,   B_t = 1,   B_{s-1} = B_s D_s (masked as step s was)                   (1)

It is used by probes of J, and when a run changes from reading gradients back to carrying J.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Stage, transition

FORGOTTEN = 1e-30
"""Once all entries of B_s are below this, earlier steps are left out: their terms are far below rounding of J_t."""
AT_ONCE = 64
"""Number of steps whose outer products are summed by one matrix product."""


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
