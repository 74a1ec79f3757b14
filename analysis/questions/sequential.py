"""Sequential tests that remain valid if they are looked at after every seed: e-values of paired differences.

Under the null hypothesis that a difference of any size is at most as likely to be positive as negative, the product

    E_t = prod over i <= t of (1 + tanh(rate * z_i) * sign(d_i))

is a supermartingale that starts at 1. The probability that it ever exceeds 1 / alpha is alpha at most (Ville),
however often it is looked at and for whatever reason the sweep ends.

- d_i is the difference at seed i. A difference of 0 is no evidence.
- z_i = PHI^-1((1 + u_i) / 2) is the score of d_i, where u_i is the rank of |d_i| among |d_1| .. |d_i|, scaled to
  0 .. 1. The score depends on sizes alone, so no moment of the differences needs to exist.
- A failed cell makes the difference infinite. The score is then `INFINITE_SCORE`.
- E_t is averaged over the rates in `RATES`. For normal differences the best rate is their mean over their standard
  deviation.

The assumption: seeds are independent, and where settings do not differ, a seed's two outcomes are exchangeable.

Source of the product: A. Ramdas, J. Ruf, M. Larsson, W. Koolen, "Admissible anytime-valid sequential inference must
rely on nonnegative martingales", 2020, section on symmetric distributions. The factor tanh(rate * z_i), which suits
normal shifts, and the ranks are ours, chosen by `benchmarks/questions.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATES = (0.5, 1.0, 2.0, 4.0)
INFINITE_SCORE = 0.4
"""Score of an infinite difference.

The score of its rank would be higher. A rare failure of the better setting would then cost most of the
evidence.
"""
LEVEL = 0.05
A_BETTER, B_BETTER, EQUAL, OPEN = "a is better", "b is better", "equal within the margin", "open"


@dataclass(frozen=True)
class Decision:
    """The verdict on paired differences, tested after every pair.

    Args:
        verdict: `A_BETTER`, `B_BETTER`, `EQUAL` or `OPEN`.
        pairs: the number of pairs at which the verdict was reached, or all pairs if it is open.
        e_value: the verdict's e-value at that pair; if open, the largest e-value of any verdict so far.
        needed: the e-value at which a verdict is reached.
        further: the number of further pairs needed if the evidence grows at its pace so far; None if decided or
            unknown.
    """

    verdict: str
    pairs: int
    e_value: float
    needed: float
    further: int | None


def scores(differences: Array) -> Array:
    """Compute the score z_t of each difference, by the rank of its size among the sizes up to t, along the last axis.

    A difference of 0 has the score 0.
    """
    sizes = np.abs(differences)
    quantiles = np.zeros_like(sizes)
    for t in range(sizes.shape[-1]):
        past, now = sizes[..., : t + 1], sizes[..., t : t + 1]
        smaller = ((past < now) & (past > 0)).sum(axis=-1)
        equal = (past == now).sum(axis=-1)
        quantiles[..., t] = (smaller + (equal + 1) / 2) / ((past > 0).sum(axis=-1) + 1)
    distinct, positions = np.unique(quantiles, return_inverse=True)
    normal = [NormalDist().inv_cdf((1 + min(quantile, 1 - 1e-9)) / 2) for quantile in distinct.tolist()]
    ranked = np.array(normal, dtype=np.float64)[positions].reshape(sizes.shape)
    return np.where(sizes > 0, np.where(np.isinf(sizes), INFINITE_SCORE, ranked), 0.0)


def log_evidence(differences: Array) -> Array:
    """Compute ln E_t after each difference, along the last axis: the evidence that positive differences prevail."""
    bets = np.multiply.outer(np.array(RATES), scores(differences) * np.sign(differences))
    steps = np.where(differences == 0, 0.0, math.log(2) - np.logaddexp(0, -2 * bets))
    return np.asarray(np.logaddexp.reduce(steps.cumsum(axis=-1), axis=0) - math.log(len(RATES)))


def decide(differences: Array, margin: float | None = None, questions: int = 1, level: float = LEVEL) -> Decision:
    """Return the verdict that is reached first, as the differences are added one by one; `OPEN` if none is reached.

    Each of the three verdicts needs an e-value of 2 * questions / level. Whatever the true difference is, at most
    two of the three are wrong. So the probability of any wrong verdict over all questions is at most `level`.

    Args:
        differences: a - b for each seed, in order; lower is better, infinite if one of the two failed.
        margin: differences below it in size count as equal; None: the verdict `EQUAL` is not given.
        questions: the number of questions asked together.
        level: the probability of a wrong verdict.
    """
    needed = 2 * questions / level
    evidence = {A_BETTER: log_evidence(-differences), B_BETTER: log_evidence(differences)}
    if margin is not None:  # both one-sided tests have to reject: below the margin, and above its negative
        evidence[EQUAL] = np.minimum(
            np.maximum.accumulate(log_evidence(margin - differences)),
            np.maximum.accumulate(log_evidence(differences + margin)),
        )
    reached = {}
    for verdict, log_e in evidence.items():
        if (log_e >= math.log(needed)).any():
            reached[verdict] = int((log_e >= math.log(needed)).argmax()) + 1
    if reached:
        verdict = min(reached, key=lambda name: reached[name])
        pairs = reached[verdict]
        return Decision(verdict, pairs, math.exp(min(evidence[verdict][pairs - 1], 700.0)), needed, None)
    n = differences.size
    last = max((float(log_e[-1]) for log_e in evidence.values()), default=0.0) if n else 0.0
    largest = max((float(log_e.max()) for log_e in evidence.values()), default=0.0) if n else 0.0
    further = math.ceil((math.log(needed) - last) * n / last) if last > LITTLE else None
    return Decision(OPEN, n, math.exp(max(largest, 0.0)), needed, further)


LITTLE = 0.1
"""Smallest ln E from which the number of further seeds is extrapolated."""


class Race(NamedTuple):
    """The evidence against each of several settings being the best. All arrays have the shape (settings,).

    Args:
        dropped: the number of seeds after which the setting was shown not to be the best; 0 if this has not been
            shown.
        seeds: the number of the setting's seeds that were used.
        log_e: ln of the largest e-value so far against the hypothesis that the setting is the best.
        needed: the `log_e` at which a setting is dropped; a single number.
    """

    dropped: NDArray[np.int64]
    seeds: NDArray[np.int64]
    log_e: Array
    needed: float


def race(outcomes: Array, request_places: NDArray[np.int64], questions: int = 1, level: float = LEVEL) -> Race:
    """Determine which of several settings are shown not to be the best.

    The evidence against a setting is the mean of its e-values against all other settings. This mean is an e-value under
    the hypothesis that the setting is the best. A setting is dropped when its evidence reaches `questions` / `level`.
    Therefore the probability that the best setting of any question is ever dropped is at most `level`. Seeds of a
    setting after its drop are not used.

    Args:
        outcomes: shape (settings, seeds); lower is better, infinite if the cell failed, nan without an outcome.
        request_places: shape (settings, seeds): the order in which the cells were requested (see `in_order`).
        questions: the number of questions that are asked together.
        level: maximum probability that the best setting of any question is dropped.
    """
    count = outcomes.shape[0]
    needed = math.log(questions / level)
    gone, used, largest = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count)
    places = np.unique(request_places[request_places >= 0])
    if count < 2 or not places.size:
        return Race(gone, used, largest, needed)
    log_e = np.empty((places.size, count, count), np.float32)  # place, setting, other
    pending = np.empty((places.size, count, count), np.bool_)
    for i in range(count):
        differences, pending[:, i] = _by_place(i, outcomes, request_places, places)
        log_e[:, i] = log_evidence(differences).T
    own = np.array([np.isin(places, row[row >= 0]) for row in request_places]).T  # place, setting
    is_left, is_cut = np.ones(count, np.bool_), np.zeros(count, np.bool_)
    now = np.zeros((count, count))
    for at, place in enumerate(log_e):
        is_cut |= (pending[at] & is_left[:, None] & is_left).any(axis=1)
        is_used = is_left & ~is_cut
        now[:, is_left] = place[:, is_left]  # the evidence from a setting that was dropped stays as it was
        np.fill_diagonal(now, -np.inf)
        against = np.logaddexp.reduce(now, axis=1) - math.log(count - 1)
        used += is_used & own[at]
        largest[is_used] = np.maximum(largest, against)[is_used]
        lost = is_used & (against >= needed)
        gone[lost] = used[lost]
        is_left &= ~lost
    return Race(gone, used, largest, needed)


def in_order(outcomes: Array, request_places: NDArray[np.int64]) -> Array:
    """Return the differences a - b of two settings, shape (pairs,), in the order in which their cells were requested.

    The place of a pair is that of its later cell. The first pair without both outcomes, and all pairs after it, are
    left out, because cells with a short running time would otherwise count more. So the evidence does not depend on
    how long cells take, on interruptions, or on when it is computed.

    Args:
        outcomes: shape (2, seeds): a and b; nan without an outcome.
        request_places: shape (2, seeds): the place of each cell among all requested cells, -1 if it was not
            requested.
    """
    places = np.unique(request_places.max(axis=0)[(request_places >= 0).all(axis=0)])
    differences, pending = _by_place(0, outcomes, request_places, places)
    is_pending = pending[:, 1]
    return np.asarray(differences[1, : int(is_pending.argmax()) if is_pending.any() else None])


def _by_place(
    i: int, outcomes: Array, request_places: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the outcome of setting i minus that of every setting, by place in the order of requests.

    The differences have the shape (settings, places); they are 0 without a pair. Also return which pairs were
    requested and have not ended, shape (places, settings).
    """
    requested = (request_places >= 0) & (request_places[i] >= 0)
    requested[i] = False
    rows, seeds = np.nonzero(requested)
    columns = np.searchsorted(places, np.maximum(request_places, request_places[i])[rows, seeds])
    differences = np.zeros((len(outcomes), places.size))
    differences[rows, columns] = difference(outcomes[i], outcomes)[rows, seeds]
    pending = np.zeros((places.size, len(outcomes)), np.bool_)
    pending[columns, rows] = (np.isnan(outcomes) | np.isnan(outcomes[i]))[rows, seeds]
    return differences, pending


def fewest(questions: int = 1, level: float = LEVEL, settings: int = 2) -> int:
    """Return the smallest number of seeds that allows a verdict, if all differences have one sign and grow in size.

    Args:
        questions: the number of questions that are asked together.
        level: the probability of a wrong verdict.
        settings: the number of settings of a question for the best one; 2 for a comparison.
    """
    needed = math.log(max(2, settings - 1) * questions / level)
    n = 1
    while log_evidence(np.arange(1.0, n + 1))[-1] < needed:
        n += 1
    return n


def difference(a: Array, b: Array) -> Array:
    """Return a - b, or 0 where one of the two is nan or both are infinite (two failures are equal)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(a - b, nan=0.0, posinf=np.inf, neginf=-np.inf))
