"""The kept steps of the compiled loop, in the form in which influence and exact gradients are computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from raysweep.workloads.arrays import Array, Indices, Mask
from raysweep.workloads.rnn.fused.history import Block
from raysweep.workloads.rnn.fused.replay import Rings
from raysweep.workloads.rnn.linearization import Stage


def recurrent_weights(rings: Rings, masks: Sequence[Mask], slots: Indices) -> Array:
    """Return the recurrent weights (S, R, n, n) at indices `slots` (S,) of the rings. Those that are not kept are 0.

    Args:
        rings: the kept steps.
        masks: all masks so far, (n, n) each, row i has the sources of unit i.
        slots: the indices.
    """
    kept = rings.weights[slots]
    steps, recurrent = kept.shape[:2]
    n = rings.own.shape[3]
    if not rings.gathered:
        return kept.reshape(steps, recurrent, n, n)
    weights = np.zeros((steps, recurrent, n, n), kept.dtype)
    for number in np.unique(rings.mask[slots]):
        at = np.flatnonzero(rings.mask[slots] == number)
        source, reader = np.nonzero(masks[number].T)
        weights[at[:, None, None], np.arange(recurrent)[:, None], reader, source] = kept[at]
    return weights


def block_back(rings: Rings, masks: Sequence[Mask], full: bool, t: int, first: int) -> Block:
    """Return the steps from t back to `first` as one block. `full`: all weights are read, whatever the mask."""
    slots = np.arange(t, first - 1, -1) % len(rings.mask)
    weights = recurrent_weights(rings, masks, slots)
    if not (full or rings.gathered):
        weights = weights * np.stack(masks)[rings.mask[slots], None]
    return Block(rings.own[slots], rings.gain[slots], weights, rings.inputs[slots])


def steps_back(
    rings: Rings, masks: Sequence[Mask], full: bool, t: int, first: int
) -> Iterator[tuple[Stage, Array | None]]:
    """Yield the steps from t back to `first`, and their masks (n, n); None: all weights are read."""
    ring, gates = len(rings.mask), rings.gain.shape[2]
    for s in range(t, first - 1, -1):
        slot = s % ring
        mask = None if full else masks[rings.mask[slot]].astype(rings.gain.dtype)
        weights = recurrent_weights(rings, masks, np.array([slot]))[0]
        inputs = np.broadcast_to(rings.inputs[slot], (gates, rings.inputs.shape[2]))
        yield Stage(rings.own[slot], rings.gain[slot], weights, inputs), mask
