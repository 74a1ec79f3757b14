"""A cell's independent streams of random numbers, each by its own name.

Stream `name` of seed `s` is `np.random.default_rng(np.random.SeedSequence([s, CODES[name]]))`. Streams never
share draws: another mask leaves the weights as they are, a longer noise stream the data. Codes are never
reused.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

CODES = MappingProxyType({"weights": 1, "mask": 2, "noise": 3, "stream": 4})
"""`weights`: initial parameters; `mask`: random subsets and fixed random feedback, drawn once; `noise`: what a
stochastic rule draws each step; `stream`: the data."""


class Generators(NamedTuple):
    """One generator a stream; each is drawn from in the order of the steps."""

    weights: np.random.Generator
    mask: np.random.Generator
    noise: np.random.Generator
    stream: np.random.Generator


def generators(seed: int) -> Generators:
    """The streams of a seed (a non-negative integer)."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; seeds are integers from 0 on")
    return Generators(
        **{name: np.random.default_rng(np.random.SeedSequence([seed, code])) for name, code in CODES.items()}
    )
