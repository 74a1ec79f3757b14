"""Statuses of attempts, the retry budgets that they are charged to, and the budgets' limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Budget = Literal["own_errors", "losses", "memory"]
CHARGES: tuple[Budget, ...] = ("own_errors", "losses", "memory")
"""All retry budgets; each has its own limit."""


class Policy(NamedTuple):
    """The retry policy after an attempt with a given status.

    Args:
        budget: the budget that is charged with the attempt; None if the retry is free.
        retried: whether the cell is tried again while its budgets last.
        backs_off: whether the retry waits for a back-off.
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
"""Number of crashes and lost nodes that a cell survives in one launch."""
MEMORY_BUDGET = 1
"""Number of retries after a cell runs out of memory; each retry gets more memory."""


def statuses_of(budget: Budget) -> list[str]:
    """Statuses that are charged to a budget."""
    return [status for status, policy in POLICIES.items() if policy.budget == budget]


def used_up(charged: Mapping[Budget, Any], retries: Any) -> Any:
    """Whether a cell has no attempts left; arguments are numbers or polars expressions."""
    return (charged["own_errors"] > retries) | (charged["losses"] > LOSS_BUDGET) | (charged["memory"] > MEMORY_BUDGET)
