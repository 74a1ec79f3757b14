"""Independent random streams of a cell, each by its name.

What one part draws never shifts another's numbers: two methods under one seed see the same weights and
the same data, whatever their masks drew.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, name: str) -> np.random.Generator:
    """The generator of the stream `name` ("weights", "mask", "noise", "stream") under `seed` (>= 0)."""
    # CRC-32 rather than hash(), which differs from process to process.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)))
