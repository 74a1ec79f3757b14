"""Which k recurrent sources each unit keeps in the propagation: the masks of sparse RTRL.

A mask M is (n, n) boolean, row i = S_i with |S_i| = k. Without self a unit is never its own source (a tanh
RNN's leak is not a connection and stays whole); with self it is one of the k. k = n is always the full mask,
k = 0 the empty one, whatever the selection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from workloads.arrays import Indices, Mask
from workloads.registry import Registry


class Selection(NamedTuple):
    """One way to choose sources, for 0 < k < n."""

    draw: Callable[[int, int, bool, np.random.Generator], Mask]
    """(n, k, include_self, generator) -> M (n, n)."""
    problem: Callable[[int, int, bool], str | None]
    """(n, k, include_self) -> why there is no such mask, or None."""


def draw_ring(n: int, k: int, include_self: bool, rng: np.random.Generator) -> Mask:
    """The nearest units on a ring, half on each side: S_i = {i +- 1, ..., i +- k // 2}, with i if asked."""
    units = np.arange(n)
    distance = (units[None, :] - units[:, None]) % n
    distance = np.minimum(distance, n - distance)
    nearest: Mask = (distance <= k // 2) & ((distance > 0) | include_self)
    return nearest


def ring_problem(n: int, k: int, include_self: bool) -> str | None:
    """A ring takes as many from the left as from the right."""
    if k % 2 == int(include_self):
        return None
    least = 1 if include_self else 2
    greatest = n - 1 if (n - 1) % 2 == int(include_self) else n - 2
    parity, without = ("odd", "with") if include_self else ("even", "without")
    choices = f"{parity} k from {least} to {greatest}, or " if greatest >= least else ""
    return f"a ring {without} self has as many sources on either side; valid: {choices}k = n = {n} (full)"


def draw_random(n: int, k: int, include_self: bool, rng: np.random.Generator) -> Mask:
    """Any k of the units, uniformly and independently for each row (self given, the other k - 1)."""
    mask = np.zeros((n, n), np.bool_)
    for unit in range(n):
        others = rng.choice(n - 1, k - include_self, replace=False)
        mask[unit, others + (others >= unit)] = True
        mask[unit, unit] = include_self
    return mask


def random_problem(n: int, k: int, include_self: bool) -> str | None:
    """Any 0 < k < n can be drawn."""
    return None


SELECTIONS: Registry[Selection] = Registry(
    "selection",
    {
        "ring": Selection(draw_ring, ring_problem),
        "random": Selection(draw_random, random_problem),
    },
)


def draw_mask(selection: str, n: int, k: int, include_self: bool, rng: np.random.Generator) -> Mask:
    """M (n, n) with k sources a row; raises ValueError where `mask_problem` has something to say."""
    problem = mask_problem(selection, n, k, include_self)
    if problem:
        raise ValueError(problem)
    if k in (0, n):
        return np.full((n, n), k == n)
    return SELECTIONS[selection].draw(n, k, include_self, rng)


def mask_problem(selection: str, n: int, k: int, include_self: bool) -> str | None:
    """Why no mask has k sources of n, in one line, or None if one has."""
    if not 0 <= k <= n:
        return f"k = {k} with {n} hidden units; valid: 0 to {n}"
    if k == 0 and include_self:
        return "k = 0 with include_self = true; valid: k >= 1 (self is one of the k), or include_self = false"
    if k in (0, n):
        return None
    problem = SELECTIONS[selection].problem(n, k, include_self)
    return problem and f"k = {k} on selection {selection!r}: {problem}"


def sources_of(mask: Mask) -> Indices:
    """S_i for each row of a mask with equally many sources in each: (n, k), ascending."""
    n = len(mask)
    return np.nonzero(mask)[1].reshape(n, -1)
