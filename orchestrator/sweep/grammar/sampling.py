"""Draws of settings. A draw depends on the sample's seed, its number and the setting's name, and on nothing else.

So a larger sample contains a smaller one, a new setting leaves the draws of the others as they are, blocks of one seed
draw the same values, and all machines draw alike.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal, localcontext

from raysweep.orchestrator.sweep.grammar.axes import Axis

_SCHEME = "raysweep sample 1"
_DIGITS = 6
"""Digits of a drawn number; of a uniform one, digits after the first of the width of its bounds."""


def draw(axis: Axis, seed: int, number: int, name: str) -> object:
    """The value of a setting in draw `number` of a sample."""
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
    """An index below `count` in draw `number` of a sample."""
    return _bits(seed, number, name) * count >> 64


def _bits(seed: int, number: int, name: str) -> int:
    """64 bits of a hash."""
    return int.from_bytes(hashlib.sha256(f"{_SCHEME}\0{seed}\0{number}\0{name}".encode()).digest()[:8], "big")
