"""Statuses of attempts, the retry budgets that they are charged to, and the limits of these budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Budget = Literal["own_errors", "losses", "memory"]
CHARGES: tuple[Budget, ...] = ("own_errors", "losses", "memory")
"""All retry budgets; each has its own limit."""


class Policy(NamedTuple):
    """What follows an attempt that ended with a given status.

    Args:
        budget: the retry budget that the attempt is charged to; None if the attempt is free.
        retried: whether the cell is tried again while its budgets last.
        backs_off: whether the retry waits for a while first.
    """

    budget: Budget | None
    retried: bool = True
    backs_off: bool = True


POLICIES: dict[str, Policy] = {
    "failed": Policy("own_errors"),
    "timed_out": Policy("own_errors"),
    "crashed": Policy("losses"),
    "lost": Policy("losses"),
    "out_of_memory": Policy("memory"),
    "preempted": Policy(None, backs_off=False),
    "cancelled": Policy(None, retried=False),
}
"""Status -> policy; the only other status is `done`."""


LOSS_BUDGET = 5
"""Number of retries of a cell after crashes and lost nodes."""
MEMORY_BUDGET = 1
"""Number of retries of a cell after it ran out of memory. Each retry gets more memory."""


def statuses_of(budget: Budget) -> list[str]:
    """Return the statuses whose attempts are charged to this budget."""
    return [status for status, policy in POLICIES.items() if policy.budget == budget]


def used_up(charged: Mapping[Budget, Any], retries: Any) -> Any:
    """Tell whether a cell has used up its attempts. Accepts numbers for one cell, or polars expressions for many.

    Args:
        charged: budget -> number of attempts charged to it.
        retries: the number of retries that the sweep allows after the cell's own errors.
    """
    return (charged["own_errors"] > retries) | (charged["losses"] > LOSS_BUDGET) | (charged["memory"] > MEMORY_BUDGET)
