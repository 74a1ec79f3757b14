"""Random draws of settings. A draw depends only on the sample's seed, the number of the draw and the setting's name.

A larger sample therefore contains a smaller one. A new setting does not change the draws of other settings. Blocks with
the same seed draw the same values, and all machines draw the same.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal, localcontext

from raysweep.orchestrator.sweep.grammar.axes import Axis

_SCHEME = "raysweep sample 1"
_DIGITS = 6
"""Significant digits of a number drawn with `loguniform`.

For `uniform`, this many digits are kept after the leading digit of the distance between the bounds.
"""


def draw(axis: Axis, seed: int, number: int, name: str) -> object:
    """Return the value of the setting `name` in draw `number` of a sample."""
    bits = _bits(seed, number, name)
    if axis.distribution is None:
        return axis.values[bits * len(axis.values) >> 64]
    low, high = axis.bounds
    if axis.distribution == "integers":
        return int(low) + (bits * (int(high) - int(low) + 1) >> 64)
    with localcontext(prec=40):  # decimals: the logarithms of machines differ in their last bits
        first, last, part = Decimal(str(low)), Decimal(str(high)), Decimal(bits) / 2**64
        if axis.distribution == "uniform":
            value = round(first + (last - first) * part, _DIGITS - (last - first).adjusted())
        else:
            value = first * (part * (last / first).ln()).exp()
            value = round(value, _DIGITS - 1 - value.adjusted())
        return float(min(max(value, first), last))


def draw_index(count: int, seed: int, number: int, name: str) -> int:
    """Return a uniformly drawn index from 0 to `count` - 1, for draw `number` of a sample."""
    return _bits(seed, number, name) * count >> 64


def _bits(seed: int, number: int, name: str) -> int:
    """Return 64 pseudo-random bits: a hash of the seed, the number of the draw, and the name."""
    return int.from_bytes(hashlib.sha256(f"{_SCHEME}\0{seed}\0{number}\0{name}".encode()).digest()[:8], "big")
