"""Which neurons each neuron reads the influence of: the subsets S_i of Eq. 8-9.

Source: arXiv 2603.15195. Its ring takes k/2 neighbours on each side and *not* the neuron itself; whether
itself belongs to the subset is `include_self` here, since SnAp-1 is exactly "itself only". k = n always
means every neuron, itself too: the full recursion.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from workloads.registry import Registry

Mask = npt.NDArray[np.bool_]


def ring(n: int, k: int, include_self: bool, rng: np.random.Generator | None = None) -> Mask:
    """Mask (n, n), row i the nearest neurons on a ring, as many on either side; draws nothing."""
    if k == n:
        return np.ones((n, n), np.bool_)
    mask = np.zeros((n, n), np.bool_)
    rows = np.arange(n)
    for distance in range(1, (k - include_self) // 2 + 1):
        mask[rows, (rows + distance) % n] = True
        mask[rows, (rows - distance) % n] = True
    mask[rows, rows] = include_self
    return mask


def random(n: int, k: int, include_self: bool, rng: np.random.Generator | None = None) -> Mask:
    """Mask (n, n), row i drawn uniformly without replacement, anew for each neuron; fixed in time."""
    if k == n:
        return np.ones((n, n), np.bool_)
    if rng is None:
        raise ValueError("a random subset needs an rng")
    mask = np.zeros((n, n), np.bool_)
    for i in range(n):
        others = rng.choice(n - 1, k - include_self, replace=False)
        mask[i, others + (others >= i)] = True
        mask[i, i] = include_self
    return mask


SELECTIONS: Registry[Callable[[int, int, bool, np.random.Generator | None], Mask]] = Registry(
    "selection", {"ring": ring, "random": random}
)


def problems(n: int, k: int, selection: str, include_self: bool) -> list[str]:
    """What is wrong with a subset of k among n, one text each."""
    if k == n:
        return []
    if k < 0:
        return [f"k = {k}: a subset has at least k = 0 neurons"]
    if k > n:
        return [f"k = {k} is more than the n = {n} neurons there are (config field `hidden`)"]
    if include_self and k == 0:
        return ["k = 0 leaves no room for the neuron itself; give k >= 1 or include_self = false"]
    if selection == "ring" and (k - include_self) % 2:
        if include_self:
            return [
                f"k = {k}: a ring with the neuron itself needs an odd k (as many on either side), or k = n"
            ]
        return [f"k = {k}: a ring without the neuron itself needs an even k (k/2 on either side), or k = n"]
    return []
