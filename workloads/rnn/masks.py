"""Masks of sparse RTRL: the k recurrent sources of each unit along which influence is propagated.

A mask M is (n, n) boolean. Its row i is the set S_i of k sources. With `include_self`, unit i is one of its own k
sources; otherwise it never is. (A tanh RNN's leak is not a connection and stays whole.) For every selection, k = n
gives the full mask and k = 0 the empty one.

`ring` and `random` are drawn once. The others choose the k best or the k worst sources of each unit by a score:

    oracle, anti_oracle         |W_ij| (summed over gates), at the first step and every 200 steps
    dynamic                     |W_ij| ||J_{t-1}[h_j]||, at every step
    fisher_oracle, fisher_anti  F_j = sum_t ||dL_t/dtheta_j||^2 by exact RTRL over the first `fisher_window`
                                steps, the mask is random until then

The paper names these selections. It leaves open the score of `dynamic` ("uses gradient information") and the window of
the Fisher selections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Indices, Mask
from raysweep.workloads.registry import Registry

WEIGHTS_EVERY = 200
"""Interval, in steps, at which a mask chosen by weights is chosen again (Section 4.3 of the paper)."""
FISHER = {"fisher_window": 200}


class Selection(NamedTuple):
    """A way to choose the k sources of each unit, for 0 < k < n."""

    draw: Callable[[int, int, bool, np.random.Generator], Mask]
    """(n, k, include_self, generator) -> mask M (n, n); only the first mask if `score` chooses the later ones."""
    problem: Callable[[int, int, bool], str | None]
    """(n, k, include_self) -> the reason why no mask has k sources per row; None if one exists."""
    score: Literal["weights", "influence", "fisher"] | None = None
    """The score by which the mask is chosen; None: the mask is drawn once."""
    largest: bool = True
    """Whether the largest scores are chosen, or the smallest."""
    defaults: Mapping[str, int] = MappingProxyType({})
    """The selection's own settings in `Config` and their defaults, as in a `Component`."""

    def due(self, t: int, fisher_window: int | None) -> bool:
        """Tell whether a new mask is chosen before step t (from 0)."""
        if self.score == "weights":
            return t % WEIGHTS_EVERY == 0
        return self.score == "influence" or (self.score == "fisher" and t == fisher_window)


def draw_ring(n: int, k: int, include_self: bool, rng: np.random.Generator) -> Mask:
    """Draw the ring mask: S_i = {i +- 1, ..., i +- k // 2}, plus i if `include_self`."""
    units = np.arange(n)
    distance = (units[None, :] - units[:, None]) % n
    distance = np.minimum(distance, n - distance)
    nearest: Mask = (distance <= k // 2) & ((distance > 0) | include_self)
    return nearest


def ring_problem(n: int, k: int, include_self: bool) -> str | None:
    """Return the reason why a ring cannot have k sources per unit, equally many on both sides; None if it can."""
    if k % 2 == int(include_self):
        return None
    least = 1 if include_self else 2
    greatest = n - 1 if (n - 1) % 2 == int(include_self) else n - 2
    parity, without = ("odd", "with") if include_self else ("even", "without")
    choices = f"{parity} k from {least} to {greatest}, or " if greatest >= least else ""
    return f"a ring {without} self has as many sources on either side; valid: {choices}k = n = {n} (full)"


def draw_random(n: int, k: int, include_self: bool, rng: np.random.Generator) -> Mask:
    """Draw k sources for each row, uniformly at random. With `include_self`, unit i is always one of the k of row i."""
    mask = np.zeros((n, n), np.bool_)
    for unit in range(n):
        others = rng.choice(n - 1, k - include_self, replace=False)
        mask[unit, others + (others >= unit)] = True
        mask[unit, unit] = include_self
    return mask


def random_problem(n: int, k: int, include_self: bool) -> str | None:
    """Return None: a random mask exists for any 0 < k < n."""
    return None


SELECTIONS: Registry[Selection] = Registry(
    "selection",
    {
        "ring": Selection(draw_ring, ring_problem),
        "random": Selection(draw_random, random_problem),
        "oracle": Selection(draw_random, random_problem, "weights"),
        "anti_oracle": Selection(draw_random, random_problem, "weights", largest=False),
        "dynamic": Selection(draw_random, random_problem, "influence"),
        "fisher_oracle": Selection(draw_random, random_problem, "fisher", defaults=FISHER),
        "fisher_anti": Selection(draw_random, random_problem, "fisher", largest=False, defaults=FISHER),
    },
)


def draw_mask(selection: str, n: int, k: int, include_self: bool, rng: np.random.Generator) -> Mask:
    """Draw the mask M (n, n) with k sources per row. Raises ValueError if `mask_problem` finds a problem."""
    problem = mask_problem(selection, n, k, include_self)
    if problem:
        raise ValueError(problem)
    if k in (0, n):
        return np.full((n, n), k == n)
    return SELECTIONS[selection].draw(n, k, include_self, rng)


def mask_problem(selection: str, n: int, k: int, include_self: bool) -> str | None:
    """Return the reason why no mask has k sources of n; None if such a mask exists."""
    if not 0 <= k <= n:
        return f"k = {k} with {n} hidden units; valid: 0 to {n}"
    if k == 0 and include_self:
        return "k = 0 with include_self = true; valid: k >= 1 (self is one of the k), or include_self = false"
    if k in (0, n):
        return None
    problem = SELECTIONS[selection].problem(n, k, include_self)
    return problem and f"k = {k} on selection {selection!r}: {problem}"


def sources_of(mask: Mask) -> Indices:
    """List the sources S_i of each row of a mask in ascending order: (n, k). All rows must have the same number k."""
    n = len(mask)
    return np.nonzero(mask)[1].reshape(n, -1)


def readers_of(mask: Mask) -> tuple[Indices, Indices]:
    """List the units that read each source, as offsets (n + 1,) and units (n k,) sorted by source.

    Source j is read by `units[offsets[j]:offsets[j + 1]]`.
    """
    begins = np.concatenate([[0], np.cumsum(mask.sum(0))])
    return begins.astype(np.intp), np.nonzero(mask.T)[1]


def choose(score: Array, k: int, include_self: bool, largest: bool) -> Mask:
    """Choose the k sources with the best score in each row: mask M (n, n).

    Args:
        score: (n, n), entry [i, j] for source j of unit i. Ties go to the lower j.
        k: number of sources per row, 0 < k < n.
        include_self: whether i is always one of the k of row i; otherwise it never is.
        largest: whether the largest scores are chosen, or the smallest.
    """
    n = len(score)
    rank = np.array(-score if largest else score, np.float64)
    np.fill_diagonal(rank, -np.inf if include_self else np.inf)
    best = np.argsort(rank, axis=1, kind="stable")[:, :k]
    mask = np.zeros((n, n), np.bool_)
    np.put_along_axis(mask, best, True, axis=1)
    return mask


def by_weights(weights: Array) -> Array:
    """Compute the score of the oracles: sum_g |W_g[i, j]|, (n, n) from the weights (R, n, n)."""
    score: Array = np.abs(weights).sum(0)
    return score


def by_influence(weights: Array, influence: Array) -> Array:
    """Compute the score (n, n) by which the selection `dynamic` chooses sources.

    Entry [i, j], for source j of unit i, is sum_g |W_g[i, j]| times the norm of the row of J_{t-1} that belongs to h_j.

    Args:
        weights: (R, n, n), the recurrent weights W_g of the R gates that have any.
        influence: J_{t-1} (C n, P) for C state components and P parameters. Its last n rows belong to h.
    """
    n = weights.shape[1]
    rows = influence[-n:]
    score: Array = by_weights(weights) * np.sqrt(np.einsum("jp,jp->j", rows, rows))[None, :]
    return score


def by_fisher(fisher: Array) -> Array:
    """Compute the score of the Fisher selections, equal for all readers of a source: (n, n) from F (n,)."""
    return np.broadcast_to(fisher, (len(fisher), len(fisher)))
