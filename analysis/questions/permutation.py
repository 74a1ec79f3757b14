"""Sign-flip permutation tests of paired differences.

If two settings are equal, exchanging their outcomes at one seed changes nothing, so each difference is positive or
negative with equal chance. The test compares the observed statistic with its values under all assignments of signs,
or under a random sample of them. A difference is infinite if one of the two cells failed. If any difference is
infinite, each difference is replaced by the rank of its absolute value, with its sign. The test remains valid,
because flipping signs does not change the ranks.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_EXACT = 13
"""Maximum number n of pairs for which all 2^n assignments of signs are used."""
SAMPLES = 9_999
SEED = 20261128
_TOLERANCE = 1e-9  # sums of the same numbers in another order are equal


def weights(differences: Array) -> Array:
    """Return the differences; if any is infinite, return the ranks of their absolute values, with their signs."""
    if np.isfinite(differences).all():
        return differences
    return np.sign(differences) * ranks(np.abs(differences))


def ranks(values: Array) -> Array:
    """Rank values from 1 in ascending order; equal values share their mean rank."""
    ordered = np.sort(values)
    return np.asarray((np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2)


@functools.lru_cache(maxsize=4)
def signs(n: int, samples: int = SAMPLES) -> Array:
    """Return assignments of signs to n pairs, one per row: the observed one, then all others or random ones."""
    if n <= MAX_EXACT:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return np.asarray(1.0 - 2.0 * bits)
    drawn = np.random.default_rng(SEED).integers(0, 2, size=(samples, n))
    return np.concatenate([np.ones((1, n)), 1.0 - 2.0 * drawn])


def two_sided_p(differences: Array) -> float:
    """Compute the p of the null hypothesis that both signs are equally likely; 1 without differences."""
    weight = weights(differences[differences != 0])
    sums = np.abs(signs(weight.size) @ weight)
    return float((sums >= sums[0] * (1 - _TOLERANCE)).mean())


def max_p(differences: Array, samples: int = SAMPLES) -> float:
    """Compute the one-sided p of the largest standardised column sum. All signs of a row are flipped together.

    Args:
        differences: one row per seed, one column per competitor, positive where the competitor is better; nan where
            the pair is missing.
        samples: the number of random assignments of signs.
    """
    matrix = differences
    if not np.isfinite(matrix).all():
        matrix = np.nan_to_num(matrix, nan=0.0, posinf=np.inf, neginf=-np.inf)
        for column in np.flatnonzero(~np.isfinite(matrix).all(axis=0)):
            matrix[:, column] = weights(matrix[:, column])
    size = np.sqrt((matrix**2).sum(axis=0))
    matrix = matrix[:, size > 0] / size[size > 0]
    if not matrix.size:
        return 1.0
    largest = (signs(matrix.shape[0], samples) @ matrix).max(axis=1)
    return float((largest >= largest[0] - _TOLERANCE * abs(largest[0])).mean())
