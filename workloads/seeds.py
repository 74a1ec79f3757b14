"""Independent random generators of a cell, one per purpose.

The generator `name` of seed `s` is `np.random.default_rng(np.random.SeedSequence([s, CODES[name]]))`. Generators never
share draws: another mask leaves the weights unchanged, and more noise leaves the data unchanged. Codes are never
reused.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

CODES = MappingProxyType({"weights": 1, "mask": 2, "noise": 3, "stream": 4})
"""Purpose -> code.

`weights`: initial parameters; `mask`: random subsets and fixed random feedback, drawn once; `noise`: draws of a
stochastic rule at each step; `stream`: the data.
"""


class Generators(NamedTuple):
    """The random generators of a cell, one per purpose. Numbers are drawn from each in the order of the steps."""

    weights: np.random.Generator
    mask: np.random.Generator
    noise: np.random.Generator
    stream: np.random.Generator


def generators(seed: int) -> Generators:
    """Create the generators of a seed, a non-negative integer."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; seeds are integers from 0 on")
    return Generators(
        **{name: np.random.default_rng(np.random.SeedSequence([seed, code])) for name, code in CODES.items()}
    )


ROUNDING_CODE = 5


def rounding_generator(seed: int, rounding: int) -> np.random.Generator:
    """Create the generator of a seed's rounding number `rounding`: that of `SeedSequence([seed, 5, rounding])`."""
    return np.random.default_rng(np.random.SeedSequence([seed, ROUNDING_CODE, rounding]))
